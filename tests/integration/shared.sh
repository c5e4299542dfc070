# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What containers of a sandbox share comes back shared. (What goes through pipes, sockets, memory and queues between them, byte by byte:
# tests/soak/between.c.)
# time limit: 120
. "$TESTS/lib.sh"

# member NAME VOLUME: options of a container NAME with /vol; the namespaces of the first one.
member() {
	edit '.mounts += [{"destination": "/vol", "type": "bind", "source": $vol, "options": ["bind", "rw"]}]' --arg vol "$2"
}

# joined ID: $B has the network and ipc namespaces of that container. PIDS: the pid namespace, too.
PIDS=
joined() {
	edit '.linux.namespaces |= map(select(.type != "network" and .type != "ipc" and ($pids == "" or .type != "pid"))) +
		[{"type": "network", "path": ("/proc/" + $pid + "/ns/net")}, {"type": "ipc", "path": ("/proc/" + $pid + "/ns/ipc")}] +
		if $pids == "" then [] else [{"type": "pid", "path": ("/proc/" + $pid + "/ns/pid")}] end' \
		--arg pid "$(init_pid "$1")" --arg pids "$PIDS"
}

started() {
	ok run -d --bundle "$B" --sandbox one --container-name "$1" "one-$1"
}

restored() {
	ok restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name "$1" "two-$1"
}

# passing KIND: containers "give" and "take" of the sandbox one, which have the same descriptor. APART: each with its own namespaces.
APART=
passing() {
	mkdir -p "$T/vol"
	bundle give passed give "$1"
	cp "$BUILD/tests/cr/passed" "$B/rootfs/bin/"
	member give "$T/vol"
	started give
	bundle take passed take "$1"
	cp "$BUILD/tests/cr/passed" "$B/rootfs/bin/"
	member take "$T/vol"
	[ -n "$APART" ] || joined one-give
	started take
	eventually 10 test -e "$T/vol/ready.give"
	eventually 10 test -e "$T/vol/ready.take"
}

# come_back: both, from $T/i, as the sandbox two.
come_back() {
	B=$T/give
	restored give
	B=$T/take
	joined two-give
	restored take
}

verdicts() {
	touch "$T/vol/go"
	eventually 10 test -e "$T/vol/result.give"
	eventually 10 test -e "$T/vol/result.take"
	[ "$(cat "$T/vol/result.give")" = PASS ] || fail "$(cat "$T/vol/result.give")"
	[ "$(cat "$T/vol/result.take")" = PASS ] || fail "$(cat "$T/vol/result.take")"
}

passed_over() {
	passing "$1"
	ok checkpoint --sandbox --leave-running --image-path "$T/i" "${@:2}" one
	ok checkpoint --sandbox --image-path "$T/i" "${@:2}" one
	come_back
	verdicts
}

test_eventfd() { passed_over eventfd; }
test_offset() { passed_over offset; }
test_deleted_file() { passed_over deleted; }
test_end_of_a_pipe() { passed_over pipe; }
test_credentials() { passed_over credentials; }
test_credentials_in_one_pid_namespace() { PIDS=1 passed_over credentials; }

# Clients that have not been accepted, in the backlogs of both.
test_queues_of_clients() { passed_over queue; }
test_queues_of_abstract_names() { passed_over queue-abstract; }
test_queues_of_packets() { passed_over queue-seqpacket; }
test_queues_with_data() { passed_over queue-data; }

test_lock() { passed_over lock --file-locks; }
test_sem_undo() { passed_over undo; }
test_sem_undo_in_one_pid_namespace() { PIDS=1 passed_over undo; }

# refused KIND PATTERN: not before the freeze, and both run on.
refused() {
	passing "$1"
	fails "$2" checkpoint --sandbox --image-path "$T/i" one
	[ ! -e "$T/i" ] || [ -z "$(ls -A "$T/i")" ] || fail "left: $(find "$T/i")"
	verdicts
	expect_status one-give running
	expect_status one-take running
}

test_refused_epoll() { refused epoll 'the container "(give|take)" has it open as well'; }
test_refused_socket() { refused tcp 'the container "(give|take)" has it open as well'; }

# A pair that another container's process had made: its pid can be imitated when it is gone, and free.
test_pair_of_another_container() { PIDS=1 refused pair 'it was made by process 1, and that pid has a process of the container "give"'; }
test_pair_of_one_that_is_gone() { PIDS=1 passed_over pair-of-gone; }

test_pid_of_maker_is_taken() {
	PIDS=1
	passing pair-of-gone
	ok checkpoint --sandbox --image-path "$T/i" one
	B=$T/give
	restored give
	local taken
	taken=$(cat "$T/vol/maker.take")
	nsenter --pid="/proc/$(init_pid two-give)/ns/pid" -- sh -c 'echo $(('"$taken"' - 1)) > /proc/sys/kernel/ns_last_pid; sleep 1000 & echo $! > "$0"' "$T/taken"
	[ "$(cat "$T/taken")" = "$taken" ] || fail "$(cat "$T/taken") is not $taken"
	B=$T/take
	joined two-give
	fails "made by process $taken, and that pid is already taken" \
		restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name take two-take
	eventually 5 test ! -e "$ROOT/two-give"
	come_back
	verdicts
}

# Between networks sockets connect as well, by a path; but what is accepted belongs to the network of the client.
test_refused_networks_of_their_own() { APART=1 refused credentials 'network namespace'; }

# A container of it alone would have only one end of each.
test_alone() {
	passing eventfd
	fails 'outside of the container; checkpoint all containers of its sandbox together' checkpoint --leave-running --image-path "$T/alone" one-give
	ok checkpoint --sandbox --image-path "$T/i" one
	B=$T/give
	fails 'one container of a sandbox' restore -d --image-path "$T/i/containers/give" --bundle "$B" alone
}

test_another_volume() {
	mkdir "$T/vol" "$T/other"
	mkfifo "$T/vol/fifo" "$T/other/fifo"
	bundle give sh -c 'exec 3<>/vol/fifo; echo a line >&3; touch /vol/ready.give; while :; do sleep 1; done'
	member give "$T/vol"
	started give
	bundle take sh -c 'exec 3<>/vol/fifo; touch /vol/ready.take; while [ ! -e /vol/go ]; do sleep 0.01; done; read -r line <&3; echo "$line" > /vol/.l; mv /vol/.l /vol/line; sleep 1000'
	member take "$T/vol"
	started take
	eventually 10 test -e "$T/vol/ready.give"
	eventually 10 test -e "$T/vol/ready.take"
	ok checkpoint --sandbox --image-path "$T/i" one
	B=$T/give
	restored give
	B=$T/take
	cp "$B/config.json" "$T/right.json"
	edit '(.mounts[] | select(.destination == "/vol")).source = $vol' --arg vol "$T/other"
	fails 'not the same file now: mount the same volume' restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name take two-take
	[ ! -e "$ROOT/two-give" ] && [ ! -e "$ROOT/two-take" ] || fail "something is left"
	# The line is in the image, and once.
	cp "$T/right.json" "$B/config.json"
	B=$T/give
	restored give
	B=$T/take
	restored take
	touch "$T/vol/go"
	eventually 10 test -e "$T/vol/line"
	[ "$(cat "$T/vol/line")" = "a line" ] || fail "the line is $(cat "$T/vol/line")"
	ok exec two-give sh -c 'echo another >/vol/fifo; read -r line </vol/fifo; echo "$line"'
	[ "$(cat "$T/out")" = another ] || fail "there was $(cat "$T/out") in it"
}

# A volume in memory is gone with the pod: its files are in the image once, and what is mapped is shared again.
test_volume_in_memory() {
	mkdir "$T/vol" "$T/shm"
	mount -t tmpfs -o size=1m shm "$T/shm"
	bundle give sh -c 'exec 3>/shm/kept; echo text >&3; ln /shm/kept /shm/second; mkdir /shm/dir; touch /vol/ready.give; while [ ! -e /vol/go ]; do sleep 0.01; done; echo more >&3; touch /vol/said; sleep 1000'
	member give "$T/vol"
	edit '.mounts = (.mounts | map(select(.destination != "/shm"))) + [{"destination": "/shm", "type": "bind", "source": $shm, "options": ["bind", "rw"]}]' --arg shm "$T/shm"
	started give
	eventually 10 test -e "$T/vol/ready.give"
	bundle take sh -c 'exec 3</shm/second; touch /vol/ready.take; while [ ! -e /vol/said ]; do sleep 0.01; done; cat <&3 > /vol/.l; mv /vol/.l /vol/text; sleep 1000'
	member take "$T/vol"
	edit '.mounts += [{"destination": "/shm", "type": "bind", "source": $shm, "options": ["bind", "rw"]}]' --arg shm "$T/shm"
	started take
	eventually 10 test -e "$T/vol/ready.take"
	ok checkpoint --sandbox --image-path "$T/i" one
	umount "$T/shm"
	mount -t tmpfs -o size=1m shm "$T/shm"
	B=$T/take
	restored take
	B=$T/give
	restored give
	touch "$T/vol/go"
	eventually 10 test -e "$T/vol/text"
	[ "$(cat "$T/vol/text")" = $'text\nmore' ] || fail "read: $(cat "$T/vol/text")"
	[ -d "$T/shm/dir" ] && [ "$(stat -c %h "$T/shm/kept")" = 2 ] || fail "in the volume: $(ls -l "$T/shm")"
	ok delete --force two-give
	ok delete --force two-take
	umount "$T/shm"
}

# between N: container N of two that have every kind of link between them, in the namespaces of the container $1.
between() {
	bundle "n$1" /bin/between 7 "$1" 2 14 fifo unix abstract seqpacket dgram tcp pipe pair shm-file memfd sysv-shm sysv-msg sysv-sem posix-mq
	cp "$BUILD/tests/cr/between" "$B/rootfs/bin/"
	edit '.mounts = (.mounts | map(select(.destination != "/dev/shm"))) +
		[{"destination": "/dev/shm", "type": "bind", "source": $shm, "options": ["bind", "rw"]},
		{"destination": "/shared", "type": "bind", "source": $vol, "options": ["bind", "rw"]}]' --arg shm "$T/shm" --arg vol "$T/vol"
}

turns() {
	cat "$T/n$1/rootfs/cr/count" 2> /dev/null || echo 0
}

has_turned() {
	! grep -qs FAIL "$T/n$1/rootfs/cr/result.0" || fail "$(cat "$T/n$1/rootfs/cr/result.0")"
	[ "$(turns "$1")" -gt "$2" ]
}

both_turn() {
	eventually 20 has_turned 0 $(($(turns 0) + 5))
	eventually 20 has_turned 1 $(($(turns 1) + 5))
}

# pause SANDBOX: the container that it begins with, which has the namespaces.
pause() {
	bundle "pause-$1" sleep 1000
	ok run -d --bundle "$B" --sandbox "$1" --container-name POD "$1-POD"
}

# As Kubernetes does it: the pod's first container is not restored but made anew, and the others come into its namespaces.
test_pod_made_anew() {
	local i
	mkdir "$T/vol" "$T/shm"
	mount -t tmpfs -o size=8m shm "$T/shm"
	pause one
	for i in 0 1; do
		between $i
		joined one-POD
		started "n$i"
	done
	both_turn
	ok checkpoint --sandbox --tcp-established --leave-running --image-path "$T/i" one
	both_turn
	ok checkpoint --sandbox --tcp-established --image-path "$T/i" one
	umount "$T/shm"
	mount -t tmpfs -o size=8m shm "$T/shm"
	pause two
	for i in 1 0; do
		B=$T/n$i
		joined two-POD
		ok restore -d --tcp-established --image-path "$T/i" --bundle "$B" --sandbox two --container-name "n$i" "two-n$i"
	done
	both_turn
	ok checkpoint --sandbox --tcp-established --leave-running --image-path "$T/i" two
	both_turn
	for i in n0 n1 POD; do
		ok delete --force "two-$i"
	done
	umount "$T/shm"
}

test_pod_with_one_pid_namespace() { PIDS=1 test_pod_made_anew; }

run_test "$@"
