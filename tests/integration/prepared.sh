# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# restore --prepare: the container is created, with its image behind it, and goes on when it is started.
. "$TESTS/lib.sh"

# checkpointed: a container "c" that counts, in the image $T/i.
checkpointed() {
	bundle b sh -c "$COUNTER"
	start c
	eventually 5 counted_beyond 3
	ok checkpoint --image-path "$T/i" c
}

prepared() {
	ok restore --prepare --bundle "$B" --image-path "$T/i" --pid-file "$T/pid" "$@" c
	[ "$(status c)" = created ] || fail "it is $(status c)"
}

# parent PID
parent() {
	awk '/^PPid:/ { print $2 }' "/proc/$1/status"
}

is_gone() {
	[ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"
}

nothing_is_left() {
	[ ! -e "$ROOT/c" ] || fail "the state directory is left"
	[ -z "$(find /sys/fs/cgroup -type d -path "*$(cgroup_name b)" 2> /dev/null)" ] || fail "a cgroup is left"
}

test_goes_on_when_started() {
	local n pid
	checkpointed
	prepared
	pid=$(cat "$T/pid")
	[ "$(init_pid c)" = "$pid" ] || fail "pid file: $pid, state: $(init_pid c)"
	fails 'it is created, not running' checkpoint --image-path "$T/i2" c
	fails 'being restored' exec c true
	n=$(count)
	sleep 0.3
	[ "$(count)" = "$n" ] || fail "it runs already"
	ok start c
	[ "$(status c)" = running ] || fail "started, it is $(status c)"
	[ "$(init_pid c)" = "$pid" ] || fail "another init"
	expect_progress
	[ "$(count)" -gt "$n" ] || fail "it has begun anew"
	fails 'already running' start c
	ok exec c true
	ok checkpoint --image-path "$T/i2" c
	prepared
	ok start c
	expect_progress
}

# The clocks go on where they stood, however long it waited.
test_clocks_stand_still() {
	local then now
	bundle b sh -c 'while :; do cut -d" " -f1 /proc/uptime > /cr/.up; mv /cr/.up /cr/up; usleep 10000; done'
	start c
	eventually 5 test -s "$B/rootfs/cr/up"
	ok checkpoint --image-path "$T/i" c
	then=$(cat "$B/rootfs/cr/up")
	prepared
	sleep 2
	rm "$B/rootfs/cr/up"
	ok start c
	eventually 5 test -s "$B/rootfs/cr/up"
	now=$(cat "$B/rootfs/cr/up")
	awk -v a="$then" -v b="$now" 'BEGIN { exit !(b >= a && b - a < 1.5) }' || fail "uptime $then, and then $now"
}

test_deleted() {
	checkpointed
	prepared
	fails 'not stopped: created' delete c
	ok delete --force c
	nothing_is_left
	eventually 5 is_gone "$(cat "$T/pid")"
	prepared
	ok start c
	expect_progress
}

# As any created container.
test_killed() {
	local restorer
	checkpointed
	prepared
	restorer=$(parent "$(cat "$T/pid")")
	ok kill c KILL
	expect_status c stopped
	eventually 5 is_gone "$restorer"
	fails 'has stopped' start c
	ok delete c
	nothing_is_left
}

test_paused_first() {
	checkpointed
	prepared
	ok pause c
	fails 'resume it first' start c
	ok resume c
	ok start c
	expect_progress
}

# Its restorer is told to end: all that was made goes. It is killed: init dies with it.
test_restorer_ends() {
	local pid
	checkpointed
	prepared
	pid=$(cat "$T/pid")
	kill -TERM "$(parent "$pid")"
	eventually 5 is_gone "$pid"
	eventually 5 test ! -e "$ROOT/c"
	nothing_is_left
	prepared
	pid=$(cat "$T/pid")
	kill -KILL "$(parent "$pid")"
	expect_status c stopped
	fails 'has stopped' start c
	ok delete c
	nothing_is_left
}

# What fails at the start: nothing is left, start says why. A page of the image is damaged while it waits.
test_start_fails() {
	checkpointed
	prepared
	mkdir "$T/hidden"
	python3 -B - "$T/i/pages.img" <<-'END' || fail "python3"
		import sys
		with open(sys.argv[1], "r+b") as f:
		    f.truncate(0)
	END
	fails '.' start c
	nothing_is_left
	eventually 5 is_gone "$(cat "$T/pid")"
}

# Nothing of the caller's is held open by what waits.
test_lets_its_caller_go() {
	checkpointed
	timeout 10 "$STASIS" --root "$ROOT" "${DRIVER[@]}" restore --prepare --bundle "$B" --image-path "$T/i" c < /dev/null 2>&1 3>&1 | cat > "$T/said" 3>&- &
	eventually 5 test -e "$ROOT/c/start.sock"
	[ "$(ls -l "/proc/$(parent "$(init_pid c)")/fd" | grep -c 'pipe:')" = 0 ] || fail "the restorer holds a pipe"
	ok delete --force c
	wait
}

# Whoever would adopt the init of a created container gets this one, too, and its exit status.
test_init_is_adopted() {
	checkpointed
	python3 -B - "$STASIS" "$ROOT" "$B" "$T" "${DRIVER[@]}" <<-'END' || fail "python3"
		import ctypes, os, pathlib, subprocess, sys, time
		stasis, root, bundle, t, *driver = sys.argv[1:]
		ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
		def run(*args):
		    subprocess.run([stasis, "--root", root, *driver, *args], check=True, stdin=subprocess.DEVNULL)
		def reap(pid):
		    while True:
		        got, status = os.wait()
		        if got == pid:
		            return os.waitstatus_to_exitcode(status)
		def prepare():
		    run("restore", "--prepare", "--bundle", bundle, "--image-path", t + "/i", "--pid-file", t + "/pid", "c")
		    return int(pathlib.Path(t + "/pid").read_text())
		pid = prepare()
		run("kill", "c", "9")
		assert reap(pid) == -9
		run("delete", "c")
		pid = prepare()
		run("start", "c")
		for _ in range(500):
		    if f"PPid:\t{os.getpid()}\n" in pathlib.Path(f"/proc/{pid}/status").read_text():
		        break
		    time.sleep(0.01)
		else:
		    sys.exit("init has another parent")
		run("kill", "c", "9")
		assert reap(pid) == -9
		run("delete", "c")
		pid = prepare()
		os.truncate(t + "/i/pages.img", 0)
		assert subprocess.run([stasis, "--root", root, *driver, "start", "c"], stdin=subprocess.DEVNULL,
		    stderr=subprocess.DEVNULL).returncode != 0
		assert reap(pid) != 0
	END
}

# The image comes by a pipe, and what is not read yet waits in it.
test_stream() {
	bundle b sh -c "$COUNTER"
	start c
	eventually 5 counted_beyond 3
	stasis checkpoint --image-path - c < /dev/null > "$T/stream" 2> "$T/err" || fail "$(cat "$T/err")"
	stasis restore --prepare --bundle "$B" --image-path - c < "$T/stream" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	[ "$(status c)" = created ] || fail "it is $(status c)"
	ok start c
	expect_progress
}

# With memory that comes later.
test_lazy() {
	checkpointed
	prepared --lazy=yes
	ok start c
	ok wait --restore c
	expect_progress
}

test_refusals() {
	checkpointed
	fails 'print-stats' restore --prepare --print-stats --bundle "$B" --image-path "$T/i" c
	fails 'image' restore --prepare --bundle "$B" --image-path "$T/none" c
	nothing_is_left
}

run_test "$@"
