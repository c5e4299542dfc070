# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# containerd's shim (io.containerd.runc.v2) with stasis for runc, driven by ctr. Debian 12 has no crictl, so the CRI plugin is
# not driven here; it calls the same shim.
# time limit: 90
. "$TESTS/callers/lib.sh"

need containerd ctr

containerd_up() {
	cat > "$T/containerd.toml" <<- 'END'
		version = 2
		disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
		 "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
	END
	containerd -c "$T/containerd.toml" > "$T/containerd.log" 2>&1 < /dev/null &
	echo $! > "$T/containerd.pid"
	eventually 20 says Server ctr version
	image
	python3 -B "$TESTS/callers/oci-archive" "$T/image.tar" local/bb:1 "$T/oci.tar" || fail "oci-archive"
	succeeds ctr image import "$T/oci.tar"
}

containerd_down() {
	local pid
	pid=$(cat "$T/containerd.pid" 2> /dev/null) || return 0
	rm "$T/containerd.pid"
	kill "$pid"
	wait "$pid" 2> /dev/null
}

run() {
	timeout 30 ctr run --runc-binary "$STASIS" --runc-root "$ROOT" "$@"
}

in_task() {
	timeout 30 ctr task exec --exec-id "exec-$BASHPID-$RANDOM" "$@"
}

task_is() {
	[ "$(ctr task ls | awk -v id="$1" '$1 == id { print $3 }')" = "$2" ]
}

# shellcheck disable=SC2016
COUNTING='i=0; while :; do i=$((i+1)); echo $i > /tmp/.count; mv /tmp/.count /tmp/count; usleep 20000; done'

count_of() {
	in_task "$1" cat /tmp/count
}

counted_beyond() {
	[ "$(count_of "$1" 2> /dev/null | grep -x '[0-9]*' || echo 0)" -gt "$2" ]
}

removed() {
	ctr task kill -s KILL "$1" > "$T/out" 2>&1
	eventually 10 task_is "$1" STOPPED
	succeeds_or_status ctr task delete "$1"
	succeeds ctr container delete "$1"
}

# ctr task delete ends with the status of the task.
succeeds_or_status() {
	timeout 30 "$@" > "$T/out" 2>&1 < /dev/null
	task_is "${*: -1}" "" || fail "$*: $(cat "$T/out")"
}

test_run() {
	containerd_up
	[ "$(run --rm local/bb:1 a echo hello)" = hello ] || fail "run"
	run --rm local/bb:1 a sh -c 'exit 7' > "$T/out" 2>&1
	[ $? = 7 ] || fail "exit status: $(cat "$T/out")"
	# (ctr loses an end of input that comes before the task is there.)
	[ "$( (echo typed; sleep 1.5) | run --rm local/bb:1 a cat)" = typed ] || fail "stdin"
	[ "$(run --rm --env A=b --cwd /tmp --read-only local/bb:1 a sh -c \
		'echo "$A $PWD"; touch /x 2> /dev/null || echo refused' | paste -sd' ')" = "b /tmp refused" ] || fail "options"
	[ "$(run --rm --seccomp local/bb:1 a grep -c 'Seccomp:.2' /proc/self/status)" = 1 ] || fail "seccomp"
	[ "$(run --rm --mount "type=bind,src=$TESTS,dst=/tests,options=rbind:ro" local/bb:1 a ls /tests/callers/oci-archive)" = /tests/callers/oci-archive ] || fail "mount"
	! run --rm local/bb:1 a /no/such > "$T/out" 2>&1 || fail "succeeds"
	grep -q 'OCI runtime create failed.*/no/such.*no such file or directory' "$T/out" || fail "$(cat "$T/out")"
	[ -z "$(ls "$ROOT/default")" ] || fail "left: $(ls "$ROOT/default")"
}

test_terminal() {
	containerd_up
	cat > "$T/typed" <<- END
		stty rows 33 cols 77
		ctr run --rm -t --runc-binary "$STASIS" --runc-root "$ROOT" local/bb:1 a sh -c \
			'tty; until stty size 2> /dev/null | grep "33 77"; do usleep 10000; done; read x; echo got \$x'
	END
	(sleep 1.5; echo hello) | timeout 30 script -qec "bash $T/typed" /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	tr -d '\r' < "$T/out" | paste -sd' ' | grep -q '/dev/pts/0 33 77 .*got hello' || fail "$(cat "$T/out")"
}

test_life() {
	containerd_up
	run -d --memory-limit 33554432 local/bb:1 m sleep 1000 > "$T/out" 2>&1 < /dev/null || fail "$(cat "$T/out")"
	expect 33554432 cat /sys/fs/cgroup/memory/default/m/memory.limit_in_bytes
	removed m
	ctr events > "$T/events" 2>&1 < /dev/null &
	run -d local/bb:1 a sh -c "$COUNTING" > "$T/out" 2>&1 < /dev/null || fail "$(cat "$T/out")"
	task_is a RUNNING || fail "$(ctr task ls)"
	eventually 10 counted_beyond a 3
	[ "$(in_task --user 1000 --cwd /tmp a sh -c 'id -u; pwd; exit 0' | paste -sd' ')" = "1000 /tmp" ] || fail "exec"
	in_task a sh -c 'exit 5' > "$T/out" 2>&1
	[ $? = 5 ] || fail "status of exec: $(cat "$T/out")"
	ctr task ps a | grep -Eq "^$(ctr task ls | awk '$1 == "a" { print $2 }') " || fail "$(ctr task ps a)"
	says 'pids.current +[12] ' ctr task metrics a || ! all_hierarchies_are_mounted || fail "$(ctr task metrics a)"
	local n
	n=$(count_of a)
	succeeds ctr task pause a
	task_is a PAUSED || fail "$(ctr task ls)"
	! in_task a true > "$T/out" 2>&1 || fail "exec into what is paused"
	succeeds ctr task resume a
	task_is a RUNNING || fail "$(ctr task ls)"
	eventually 10 counted_beyond a "$n"
	succeeds ctr task kill -s KILL a
	eventually 10 task_is a STOPPED
	# A process that is gone already is no error.
	timeout 10 ctr task kill -s KILL a > "$T/out" 2>&1 || grep -qi 'already finished\|not found\|not running' "$T/out" || fail "$(cat "$T/out")"
	succeeds_or_status ctr task delete a
	succeeds ctr container delete a
	local e
	for e in tasks/create tasks/start tasks/exec-added tasks/paused tasks/resumed tasks/exit tasks/delete; do
		grep -q "/$e" "$T/events" || fail "no event $e: $(cat "$T/events")"
	done
	grep '/tasks/exit' "$T/events" | tail -1 | grep -q '"exit_status":137' || fail "$(cat "$T/events")"
}

test_checkpoint() {
	containerd_up
	run -d --rm=false local/bb:1 a sh -c "$COUNTING" > "$T/out" 2>&1 < /dev/null || fail "$(cat "$T/out")"
	eventually 10 counted_beyond a 5
	local n
	in_task a touch /tmp/mark
	# containerd's own image of a checkpoint: the container runs on.
	succeeds ctr task checkpoint --image-path "$T/i" a
	jq -e '.engine == "native"' "$T/i/manifest.json" > "$T/jq" || fail "$(ls "$T/i")"
	n=$(count_of a)
	eventually 10 counted_beyond a "$n"
	succeeds ctr container checkpoint --rw --image --task a local/saved:1
	n=$(count_of a)
	eventually 10 counted_beyond a $((n + 20))
	removed a
	# Another container from it.
	succeeds ctr container restore --rw --live b local/saved:1
	task_is b RUNNING || fail "$(ctr task ls)"
	local m
	m=$(count_of b)
	[ "$m" -ge $((n - 10)) ] && [ "$m" -lt $((n + 20)) ] || fail "it was at $n or a little before, and is at $m"
	eventually 10 counted_beyond b "$m"
	[ "$(in_task b ls /tmp/mark)" = /tmp/mark ] || fail "the rw layer"
	removed b
	# --exit ends the task.
	run -d local/bb:1 c sh -c "$COUNTING" > "$T/out" 2>&1 < /dev/null || fail "$(cat "$T/out")"
	eventually 10 counted_beyond c 3
	succeeds ctr task checkpoint --exit --image-path "$T/j" c
	eventually 10 task_is c STOPPED
	[ -s "$T/j/manifest.json" ] || fail "no image"
	succeeds_or_status ctr task delete c
	succeeds ctr container delete c
	# What is refused is shown, and harmless.
	run -d local/bb:1 d sh -c "nc -l -p 99 -e sleep 1000 & sleep 0.2; nc 127.0.0.1 99 & $COUNTING" > "$T/out" 2>&1 < /dev/null || fail "$(cat "$T/out")"
	eventually 10 counted_beyond d 10
	ends 1 'tcp' ctr task checkpoint --image-path "$T/k" d
	eventually 10 counted_beyond d "$(count_of d)"
	removed d
	# containerd pauses what it checkpoints: then there are no hooks.
	run -d --annotation io.stasis.hooks.save=/bin/true local/bb:1 e sh -c "$COUNTING" > "$T/out" 2>&1 < /dev/null || fail "$(cat "$T/out")"
	eventually 10 counted_beyond e 3
	ends 1 'is paused, and its save hook could not run' ctr task checkpoint --image-path "$T/l" e
	eventually 10 counted_beyond e "$(count_of e)"
	removed e
}

clean_up() {
	containerd_down
	[ -n "$(ls "$ROOT/default" 2> /dev/null)" ] || rm -rf "$ROOT/default"
	rmdir /sys/fs/cgroup/*/default 2> /dev/null
	true
}

run_caller_test "$@"
