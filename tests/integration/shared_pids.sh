# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# A pid namespace of several containers of a sandbox (Kubernetes: shareProcessNamespace): checkpointed together, restored one by one.
# time limit: 120
. "$TESTS/lib.sh"

# joined ID: $B has the pid namespace of that container, and its network.
joined() {
	edit '.linux.namespaces |= map(select(.type != "pid" and .type != "network")) +
		[{"type": "pid", "path": ("/proc/" + $pid + "/ns/pid")}, {"type": "network", "path": ("/proc/" + $pid + "/ns/net")}]' \
		--arg pid "$(init_pid "$1")"
}

volume() {
	mkdir -p "$T/vol"
	edit '.mounts += [{"destination": "/vol", "type": "bind", "source": $vol, "options": ["bind", "rw"]}]' --arg vol "$T/vol"
}

# first SANDBOX: its first container, which waits for what it adopts, and counts.
first() {
	[ -e "$T/POD" ] || bundle POD sh -c "$COUNTER"
	B=$T/POD
	ok run -d --bundle "$B" --sandbox "$1" --container-name POD "$1-POD"
}

neighbour() {
	bundle "$1" /bin/neighbour "$1" "$2"
	cp "$BUILD/tests/cr/neighbour" "$B/rootfs/bin/"
	volume
	joined one-POD
	ok run -d --bundle "$B" --sandbox one --container-name "$1" "one-$1"
}

pod() {
	first one
	neighbour a b
	neighbour b a
	ready 1
}

ready() {
	eventually 10 test -e "$T/vol/ready.a.$1"
	eventually 10 test -e "$T/vol/ready.b.$1"
}

# verdicts N: of both, in their round N; then they are ready for the next one.
verdicts() {
	touch "$T/vol/go.$1"
	local name
	for name in a b; do
		eventually 25 test -e "$T/vol/result.$name.$1"
		[ "$(cat "$T/vol/result.$name.$1")" = PASS ] || fail "$name: $(cat "$T/vol/result.$name.$1")"
	done
	ready $(($1 + 1))
}

# restored NAME [OPTION...]: as a container of the sandbox two.
restored() {
	B=$T/$1
	[ "$1" = POD ] || joined two-POD
	ok restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name "$1" "${@:2}" "two-$1"
}

all_running() {
	local name
	for name in POD a b; do
		expect_status "$1-$name" running
	done
	B=$T/POD
	expect_progress
}

nothing_is_left() {
	local name
	for name in POD a b; do
		B=$T/$name
		expect_nothing_left "$1-$name"
	done
}

test_in_any_order() {
	pod
	ok checkpoint --sandbox --image-path "$T/i" one
	nothing_is_left one
	restored POD
	restored b
	[ "$(status two-b)" = created ] || fail "b is $(status two-b)"
	restored a
	all_running two
	verdicts 1
	# Once more, the other way round.
	ok checkpoint --sandbox --image-path "$T/i" two
	nothing_is_left two
	restored POD
	restored a
	restored b
	all_running two
	verdicts 2
	ok exec two-a sh -c 'echo $PPID; ls /proc'
	grep -qx 1 "$T/out" || fail "$(cat "$T/out")"
	ok delete --force two-a
	ok delete --force two-b
	ok delete --force two-POD
	nothing_is_left two
}

test_leave_running() {
	pod
	ok checkpoint --sandbox --leave-running --image-path "$T/i" one
	verdicts 1
	ok checkpoint --sandbox --leave-running --pre-copy --image-path "$T/i" one
	all_running one
	verdicts 2
	ok checkpoint --sandbox --image-path "$T/i" one
	restored POD
	restored a
	restored b
	verdicts 3
}

# As Kubernetes does it: the first container is made anew, and the others come into its namespace.
test_first_made_anew() {
	pod
	ok checkpoint --sandbox --image-path "$T/i" one
	first two
	restored b
	restored a
	all_running two
	verdicts 1
	ok checkpoint --sandbox --leave-running --image-path "$T/i" two
	verdicts 2
}

test_prepared() {
	pod
	ok checkpoint --sandbox --image-path "$T/i" one
	local name
	for name in POD b a; do
		B=$T/$name
		[ "$name" = POD ] || joined two-POD
		ok restore --prepare --image-path "$T/i" --bundle "$B" --sandbox two --container-name "$name" "two-$name"
	done
	for name in POD b a; do
		expect_status "two-$name" created
		ok start "two-$name"
	done
	all_running two
	verdicts 1
}

test_lazy() {
	pod
	ok checkpoint --sandbox --image-path "$T/i" one
	restored POD --lazy
	restored b --lazy
	restored a --lazy
	all_running two
	verdicts 1
}

# The namespace in which they were, and no other one.
test_another_namespace() {
	pod
	ok checkpoint --sandbox --image-path "$T/i" one
	B=$T/a
	fails 'was in the pid namespace of "POD": restore or create that one first' \
		restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name a two-a
	restored POD
	edit '.linux.namespaces |= map(if .type == "pid" then {"type": "pid"} else . end)'
	B=$T/a
	edit '.linux.namespaces |= map(if .type == "pid" then {"type": "pid"} else . end)'
	fails 'give it that one.s in linux.namespaces' restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name a two-a
	eventually 5 test ! -e "$ROOT/two-POD"
	restored POD
	B=$T/a
	edit '.linux.namespaces |= map(if .type == "pid" then {"type": "pid", "path": "/proc/self/ns/pid"} else . end)'
	fails 'config.json gives it another one' restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name a two-a
	eventually 5 test ! -e "$ROOT/two-POD"
	nothing_is_left two
	fails 'of one container of a sandbox' restore -d --image-path "$T/i/containers/a" --bundle "$T/a" two-a
}

# A pid that is not free in the namespace of a new first container.
test_pid_is_taken() {
	pod
	ok checkpoint --sandbox --image-path "$T/i" one
	first two
	local taken
	taken=$(cat "$T/vol/orphan.a.0")
	nsenter --pid="/proc/$(init_pid two-POD)/ns/pid" -- sh -c 'echo $(('"$taken"' - 1)) > /proc/sys/kernel/ns_last_pid; sleep 1000 & echo $! > "$0"; wait' "$T/taken" &
	eventually 5 test -s "$T/taken"
	[ "$(cat "$T/taken")" = "$taken" ] || fail "$(cat "$T/taken") is not $taken"
	restored b
	B=$T/a
	joined two-POD
	fails "pid $taken is already taken in the container's pid namespace" \
		restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name a two-a
	eventually 5 test ! -e "$ROOT/two-b"
	expect_status two-POD running
	ok kill two-POD KILL
	wait
}

refused() {
	fails "$1" checkpoint --sandbox --image-path "$T/i" one
	[ ! -e "$T/i" ] || [ -z "$(ls -A "$T/i")" ] || fail "left: $(find "$T/i")"
	all_running one
}

test_refused() {
	pod
	fails 'pid namespace of another container, which is not checkpointed with it.*--sandbox' checkpoint --image-path "$T/i" one-a
	# The others would die with the first one.
	fails 'the container "[ab]" is in it as well, and would be killed.*--sandbox' checkpoint --image-path "$T/i" one-POD
	all_running one
	# Of somebody outside of the sandbox.
	bundle c
	joined one-POD
	ok run -d --bundle "$B" --sandbox three c
	fails 'pid namespace of another container' checkpoint --sandbox --image-path "$T/i" three
	ok delete --force c
	# An orphan that is stopped: its parent would hear of that again.
	kill -STOP "$(container_pids_of a | while read -r p; do grep -q "^PPid:.$(init_pid one-POD)$" "/proc/$p/status" && echo "$p" && break; done)"
	refused 'it is stopped, and its parent is in the container "POD"'
}

container_pids_of() {
	B=$T/$1 container_pids
}

# What exec has brought in ends, also what the first process had adopted of it.
test_exec() {
	pod
	ok exec -d one-a sh -c 'sleep 1234 & (sleep 2345 &) ; wait'
	ok exec -d one-POD sleep 3456
	eventually 5 sh -c 'pgrep -f "sleep 2345" && pgrep -f "sleep 3456"' > "$T/found"
	ok checkpoint --sandbox --leave-running --image-path "$T/i" one
	verdicts 1
	ok ps one-a
	[ "$(grep -Ec '1234|2345' "$T/out")" -ge 2 ] || fail "$(cat "$T/out")"
	ok checkpoint --sandbox --image-path "$T/i" one
	restored POD
	restored b
	restored a
	all_running two
	ok exec two-POD ps
	! grep -E '1234|2345|3456' "$T/out" || fail "a process of exec goes on"
	eventually 5 no_zombies
	verdicts 2
}

no_zombies() {
	ok exec two-POD sh -c 'grep -l "^State:.Z" /proc/[0-9]*/status; true'
	[ ! -s "$T/out" ]
}

# The first process does not wait for its children. A zombie that was of its own container is no obstacle.
test_zombies() {
	bundle POD sh -c '(exit 3) & exec sleep 1000'
	first one
	neighbour a b
	neighbour b a
	ready 1
	B=$T/POD
	ok checkpoint --sandbox --leave-running --image-path "$T/i" one
	ok kill one-a 0
	kill -KILL "$(descendant a)"
	fails 'is also one of the container "a".*nobody has waited for it' checkpoint --sandbox --image-path "$T/i" one
	expect_status one-a running
}

# descendant NAME: one of its processes in its init's session, which the first process has adopted.
descendant() {
	local p init
	init=$(init_pid "one-$1")
	for p in $(container_pids_of "$1"); do
		[ "$p" = "$init" ] || [ "$(cut -d' ' -f6 "/proc/$p/stat")" != "$init" ] || { echo "$p"; return; }
	done
}

# Who restores one of them is killed while it waits for the others.
test_one_is_killed_while_it_waits() {
	pod
	ok checkpoint --sandbox --image-path "$T/i" one
	restored POD
	restored b
	kill -KILL "$(awk '/^PPid:/ { print $2 }' "/proc/$(init_pid two-b)/status")"
	eventually 5 test ! -e "$ROOT/two-POD"
	nothing_is_left two
	restored POD
	restored b
	ok kill two-b KILL
	eventually 5 test ! -e "$ROOT/two-POD"
	nothing_is_left two
	restored POD
	restored a
	ok delete --force two-POD
	eventually 5 test ! -e "$ROOT/two-a"
	nothing_is_left two
	restored POD
	restored a
	restored b
	verdicts 1
}

# The parent of an init does not wait for it: what can end has ended, and the namespace's first process is as dead as it can be.
test_nobody_waits_for_an_init() {
	first one
	neighbour a b
	bundle b /bin/neighbour b a
	cp "$BUILD/tests/cr/neighbour" "$B/rootfs/bin/"
	volume
	joined one-POD
	"$STASIS" --root "$ROOT" run --bundle "$B" --sandbox one --container-name b one-b > "$T/run" 2>&1 < /dev/null &
	local parent=$! before after
	ready 1
	kill -STOP "$parent"
	before=$(date +%s)
	ok checkpoint --sandbox --image-path "$T/i" one
	after=$(date +%s)
	[ $((after - before)) -lt 8 ] || fail "it took $((after - before)) s"
	nothing_is_left one
	kill -CONT "$parent"
	wait "$parent"
	restored POD
	restored b
	restored a
	all_running two
	verdicts 1
}

# Moved from one container to another one it is still in the session of the first.
test_refused_session_of_another() {
	pod
	local pid dir
	pid=$(container_pids_of a | tail -1)
	for dir in /sys/fs/cgroup/*/"$(cgroup_name b)" /sys/fs/cgroup/"$(cgroup_name b)"; do
		[ ! -e "$dir/cgroup.procs" ] || echo "$pid" > "$dir/cgroup.procs"
	done
	refused 'its (session|process group) is also one of the container "[ab]"'
}

# One fails, or is killed: nothing is left of any, and the next restore succeeds.
fails_at() {
	pod
	ok checkpoint --sandbox --image-path "$T/i" one
	local fault
	for fault; do
		restored POD
		restored b
		B=$T/a
		joined two-POD
		FAULT=$fault fails "${fault%%:*}|signal 9|init died" restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name a two-a
		eventually 5 test ! -e "$ROOT/two-POD"
		eventually 5 test ! -e "$ROOT/two-b"
		nothing_is_left two
	done
	restored POD
	restored b
	restored a
	all_running two
	verdicts 1
}

test_fails_while_it_is_created() { fails_at create-joined:EIO create-ready:EIO create-ready; }
test_fails_with_its_files() { fails_at restore-files:EIO restore-files; }
test_fails_with_its_tree() { fails_at restore-tree:EIO restore-tree; }
test_fails_with_its_memory() { fails_at restore-memory:EIO restore-threads; }
test_fails_at_its_end() { fails_at restore-registers:EIO restore-registers restore-end:EIO restore-end; }

# The one in whose namespace they are fails.
test_first_fails() {
	pod
	ok checkpoint --sandbox --image-path "$T/i" one
	FAULT=restore-memory:EIO restored POD
	restored b
	B=$T/a
	joined two-POD
	fails 'container "POD"' restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name a two-a
	eventually 5 test ! -e "$ROOT/two-POD"
	nothing_is_left two
	restored POD
	restored b
	restored a
	verdicts 1
}

# A checkpoint that fails, in any of them, is none: all go on.
test_checkpoint_fails() {
	pod
	local name fault
	for name in POD a; do
		for fault in ready frozen seized thawed collected files memory removed image manifest; do
			fault=checkpoint-$fault
			FAULT=$fault:EIO FAULT_CONTAINER=$name fails "fault point $fault" checkpoint --sandbox --leave-running --image-path "$T/i" one
			FAULT=$fault FAULT_CONTAINER=$name fails 'signal 9' checkpoint --sandbox --leave-running --image-path "$T/i" one
			[ "$fault" = checkpoint-removed ] ||
				FAULT=$fault:EIO FAULT_CONTAINER=$name fails "fault point $fault" checkpoint --sandbox --image-path "$T/i" one
			all_running one
		done
	done
	[ ! -e "$T/i/manifest.json" ] || fail "there is an image"
	verdicts 1
	# Past the point where it is decided it is done, whoever dies.
	FAULT=together-passed FAULT_CONTAINER=a ok checkpoint --sandbox --image-path "$T/i" one
	nothing_is_left one
	restored POD
	restored a
	restored b
	verdicts 2
}

run_test "$@"
