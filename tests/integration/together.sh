# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# restore of a sandbox: its containers come one by one, and go on together.
. "$TESTS/lib.sh"

# member NAME [ID]: the bundle $T/b-NAME of a container that counts.
member() {
	bundle "b-$1" sh -c "$COUNTER"
}

# counts NAME N: it has counted beyond N.
counts() {
	[ "$(cat "$T/b-$1/rootfs/cr/count" 2> /dev/null || echo 0)" -gt "$2" ]
}

# pod NAME...: they run as the sandbox "one" with ids one-NAME, and are in the image $T/i.
pod() {
	local name
	for name in "$@"; do
		member "$name"
		ok run -d --bundle "$B" --sandbox one --container-name "$name" "one-$name"
	done
	for name in "$@"; do
		eventually 5 counts "$name" 3
	done
	ok checkpoint --sandbox one --image-path "$T/i"
	for name in "$@"; do
		eventually 5 test ! -e "$ROOT/one-$name"
	done
}

# restored NAME [OPTION...]: as the container two-NAME of the sandbox "two".
restored() {
	local name=$1
	shift
	ok restore -d --image-path "$T/i" --bundle "$T/b-$name" --sandbox two --container-name "$name" --pid-file "$T/pid-$name" "$@" "two-$name"
}

expect_running() {
	local name
	for name in "$@"; do
		[ "$(status "two-$name")" = running ] || fail "$name is $(status "two-$name")"
		eventually 5 counts "$name" "$(cat "$T/b-$name/rootfs/cr/count")"
	done
}

nothing_is_left() {
	local name
	for name in "$@"; do
		[ ! -e "$ROOT/two-$name" ] || fail "two-$name is left"
		[ -z "$(find /sys/fs/cgroup -type d -path "*$(cgroup_name "b-$name")" 2> /dev/null)" ] || fail "a cgroup of $name is left"
	done
}

test_in_any_order() {
	pod a b c
	restored c
	[ "$(status two-c)" = created ] || fail "c is $(status two-c)"
	[ "$(init_pid two-c)" = "$(cat "$T/pid-c")" ] || fail "pid file"
	restored a
	[ "$(status two-a)" = created ] || fail "a is $(status two-a)"
	restored b
	expect_running a b c
	for name in a b c; do
		[ "$(cat "$ROOT/@sandboxes/two/members/two-$name")" = "$name" ] || fail "$name is no member"
		ok exec "two-$name" true
	done
}

test_names() {
	pod a b
	fails 'has no container "c": there are a, b' restore -d --image-path "$T/i" --bundle "$T/b-a" --sandbox two --container-name c two-c
	fails 'say with --sandbox' restore -d --image-path "$T/i" --bundle "$T/b-a" two-a
	restored a
	fails 'name "a" is used twice: container two-a' restore -d --image-path "$T/i" --bundle "$T/b-a" --sandbox two --container-name a other
	fails 'two-a' restore -d --image-path "$T/i" --bundle "$T/b-b" --sandbox two --container-name b two-a
	fails 'all with --prepare, or none' restore --prepare --image-path "$T/i" --bundle "$T/b-b" --sandbox two --container-name b two-b
	fails 'not complete: restore the others first .missing: b' start two-a
	restored b
	expect_running a b
	fails 'already: two-a' restore -d --image-path "$T/i" --bundle "$T/b-a" --sandbox two --container-name a other
	ok delete --force two-a
	ok delete --force two-b
	nothing_is_left a b
}

# What a config.json error says before it registers does no harm.
test_bad_bundle_harms_nobody() {
	pod a b
	restored a
	fails 'config.json' restore -d --image-path "$T/i" --bundle "$T" --sandbox two --container-name b two-b
	[ "$(status two-a)" = created ] || fail "a is $(status two-a)"
	restored b
	expect_running a b
}

# one_fails FAULT: the last one of three does, at that point.
one_fails() {
	pod a b c
	restored a
	restored b
	FAULT=$1 fails "$2" restore -d --image-path "$T/i" --bundle "$T/b-c" --sandbox two --container-name c two-c
	eventually 5 test ! -e "$ROOT/two-a"
	nothing_is_left a b c
	restored a
	restored b
	restored c
	expect_running a b c
}

test_one_cannot_be_created() {
	one_fails create-mounts:EIO 'fault point create-mounts'
}

test_one_fails_with_its_files() {
	one_fails restore-files:EIO 'fault point restore-files'
}

test_one_fails_with_its_memory() {
	one_fails restore-memory:EIO 'fault point restore-memory'
}

test_one_fails_at_its_registers() {
	one_fails restore-registers:EIO 'fault point restore-registers'
}

test_one_fails_at_the_end() {
	one_fails restore-end:EIO 'fault point restore-end'
}

test_one_is_killed_while_it_is_created() {
	one_fails create-ready 'died of signal 9'
}

test_one_is_killed_with_its_memory() {
	one_fails restore-threads 'died of signal 9'
}

test_one_is_killed_at_the_end() {
	one_fails restore-end 'died of signal 9'
}

# The first one fails: the last one says which, and why.
test_another_one_fails() {
	pod a b
	FAULT=restore-memory:EIO restored a
	fails 'container "a": process [0-9]+: fault point restore-memory' \
		restore -d --image-path "$T/i" --bundle "$T/b-b" --sandbox two --container-name b two-b
	nothing_is_left a b
}

# parent PID
parent() {
	awk '/^PPid:/ { print $2 }' "/proc/$1/status"
}

test_one_is_killed_while_it_waits() {
	pod a b c
	restored a
	restored b
	kill -KILL "$(parent "$(cat "$T/pid-b")")"
	eventually 5 test ! -e "$ROOT/two-a"
	eventually 5 test ! -e "$ROOT/two-b"
	nothing_is_left a b
	restored a
	restored b
	ok kill two-a KILL
	eventually 5 test ! -e "$ROOT/two-a"
	eventually 5 test ! -e "$ROOT/two-b"
	nothing_is_left a b
	restored a
	restored b
	ok delete --force two-b
	eventually 5 test ! -e "$ROOT/two-a"
	nothing_is_left a b
	restored b
	restored c
	restored a
	expect_running a b c
}

supervisor_of() {
	grep -lazE "^$1\$" /proc/[0-9]*/cmdline 2> /dev/null | while read -r f; do
		tr '\0' ' ' < "$f" | grep -q -- "--root $ROOT sandbox --detached $1" && basename "$(dirname "$f")"
	done
}

# While it is being put back, its tasks traced: who deletes it need not wait for who restores it.
test_one_is_deleted_while_it_is_built() {
	local restorer pid
	pod a b
	FAULT=restore-registers:stop restored a
	restorer=$(parent "$(cat "$T/pid-a")")
	"$STASIS" --root "$ROOT" "${DRIVER[@]}" restore -d --image-path "$T/i" --bundle "$T/b-b" --sandbox two --container-name b two-b < /dev/null > "$T/b" 2>&1 &
	pid=$!
	eventually 10 grep -q '^State:.T' "/proc/$restorer/status"
	"$STASIS" --root "$ROOT" delete --force two-a < /dev/null > "$T/deleted" 2>&1 &
	sleep 0.3
	kill -CONT "$restorer"
	wait $! || fail "$(cat "$T/deleted")"
	wait "$pid" && fail "the other one goes on"
	grep -q 'container "a"' "$T/b" || fail "$(cat "$T/b")"
	nothing_is_left a b
}

test_supervisor_is_killed() {
	pod a b
	restored a
	kill -KILL "$(supervisor_of two)"
	eventually 5 test ! -e "$ROOT/two-a"
	nothing_is_left a
	restored a
	restored b
	expect_running a b
	kill -KILL "$(supervisor_of two)"
	expect_running a b
	ok ctl --sandbox two List # another one, which tidies up
}

test_too_late() {
	pod a b c
	restored a --deadline 1
	restored b
	eventually 5 test ! -e "$ROOT/two-a"
	eventually 5 test ! -e "$ROOT/two-b"
	nothing_is_left a b
	restored a
	restored b
	restored c
	expect_running a b c
}

test_interrupted() {
	pod a b
	timeout -s TERM 1 "$STASIS" --root "$ROOT" "${DRIVER[@]}" restore --image-path "$T/i" --bundle "$T/b-a" --sandbox two --container-name a two-a \
		< /dev/null > "$T/out" 2> "$T/err" && fail "it did not wait"
	grep -q 'interrupted' "$T/err" || fail "$(cat "$T/err")"
	eventually 5 test ! -e "$ROOT/two-a"
	nothing_is_left a
}

prepared() {
	local name
	for name in "$@"; do
		ok restore --prepare --image-path "$T/i" --bundle "$T/b-$name" --sandbox two --container-name "$name" --pid-file "$T/pid-$name" "two-$name"
	done
}

test_prepared() {
	pod a b c
	prepared a b
	fails 'missing: ' start two-a
	prepared c
	for name in a b c; do
		[ "$(status "two-$name")" = created ] || fail "$name is $(status "two-$name")"
	done
	ok start two-b
	expect_running b
	[ "$(status two-a)" = created ] || fail "a is $(status two-a)"
	kill -KILL "$(supervisor_of two)"
	ok start two-a
	ok start two-c
	expect_running a b c
	ok ctl --sandbox two List
}

test_prepared_one_fails() {
	pod a b
	prepared a
	FAULT=restore-files:EIO fails 'fault point restore-files' restore --prepare --image-path "$T/i" --bundle "$T/b-b" --sandbox two --container-name b two-b
	eventually 5 test ! -e "$ROOT/two-a"
	nothing_is_left a b
	prepared a b
	ok start two-a
	ok delete --force two-b
	expect_running a
}

# offsets ID: those of its time namespace, in ns.
offset() {
	awk '$1 == "monotonic" { printf "%d\n", $2 * 1000000000 + $3 }' "/proc/$(init_pid "$1")/timens_offsets"
}

# All had the machine's clock: they go on with one.
test_clocks() {
	local a b
	pod a b c
	prepared a b c
	ok start two-a
	sleep 0.5
	ok start two-b
	a=$(offset two-a)
	b=$(offset two-b)
	[ "$a" = "$b" ] || fail "offsets $a and $b"
}

test_foreground() {
	local pid
	pod a b
	restored a
	"$STASIS" --root "$ROOT" "${DRIVER[@]}" restore --image-path "$T/i" --bundle "$T/b-b" --sandbox two --container-name b two-b < /dev/null > "$T/out" 2>&1 &
	pid=$!
	expect_status two-b running
	expect_running a b
	ok kill two-b KILL
	wait "$pid"
	[ $? = 137 ] || fail "another status"
	nothing_is_left b
	expect_running a
}

test_spec_check() {
	pod a b
	B=$T/b-a
	cp "$B/config.json" "$T/config"
	edit '.process.args[0] = "ash" | .process.env += ["NEW=1"] | .hostname = "other" | .process.cwd = "/cr" |
		.process.rlimits = [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}] | .mounts += [{"destination": "/new", "type": "tmpfs", "source": "x"}]'
	fails 'process.args\[0\] is ash, was sh; process.cwd is /cr, was /; process.rlimits: RLIMIT_NOFILE has another value; mounts: /new is new' \
		restore -d --image-path "$T/i" --bundle "$B" --sandbox two --container-name a two-a
	fails 'invalid --spec-check' restore -d --spec-check no --image-path "$T/i" --bundle "$B" --sandbox two --container-name a two-a
	restored a --spec-check warning
	grep -q 'mounts: /new is new' "$T/err" || fail "no warning: $(cat "$T/err")"
	ok delete --force two-a
	restored a --spec-check ignore
	[ ! -s "$T/err" ] || fail "$(cat "$T/err")"
	ok delete --force two-a
	cp "$T/config" "$B/config.json"
	edit '.process.env += ["NEW=1"] | .hostname = "other" | .annotations = {"x": "y"}'
	restored a
	restored b
	expect_running a b
}

# Whoever began them is gone: they are ended, and init is not told.
test_exec_is_ended() {
	local pid
	member a
	ok run -d --bundle "$B" --sandbox one --container-name a one-a
	ok exec -d one-a sleep 1234
	ok exec -d one-a sh -c 'sleep 2345; true'
	eventually 5 sh -c "$STASIS --root $ROOT ps one-a | grep -q 'sleep 2345'"
	ok checkpoint --sandbox one --image-path "$T/i"
	restored a
	expect_running a
	pid=$(init_pid two-a)
	! grep -l '^State:.Z' $(pgrep -P "$pid" | sed 's|.*|/proc/&/status|') 2> /dev/null || fail "a zombie"
	ok ps two-a
	! grep -E '1234|2345' "$T/out" || fail "a process of exec goes on"
	ok checkpoint --sandbox two --image-path "$T/i2"
	ok restore -d --image-path "$T/i2/containers/a" --bundle "$T/b-a" again
	eventually 5 counts a "$(cat "$T/b-a/rootfs/cr/count")"
	ok delete --force again
}

# By the control socket. What waits for it learns how far it is, and how it ends.
test_methods() {
	local pid
	pod POD a
	called() {
		ok ctl --sandbox two --new "$1" "{\"id\": \"two-$2\", \"bundle\": \"$T/b-$2\", \"imagePath\": \"$T/i\", \"deadline\": 20 $3}"
	}
	called RestoreSubcontainer a ', "name": "a"'
	jq -e '.status == "created" and .place == 1 and .count == 2' "$T/out" > /dev/null || fail "$(cat "$T/out")"
	"$STASIS" --root "$ROOT" ctl --sandbox two --more WaitRestore > "$T/progress" 2>&1 < /dev/null &
	pid=$!
	"$STASIS" --root "$ROOT" wait --restore two-a > "$T/waited" 2>&1 < /dev/null &
	sleep 0.2
	called Restore POD ''
	jq -e '.status == "running" and .place == 2' "$T/out" > /dev/null || fail "$(cat "$T/out")"
	wait "$pid" || fail "$(cat "$T/progress")"
	grep -q '"place": *2' "$T/progress" || fail "no progress: $(cat "$T/progress")"
	wait || fail "$(cat "$T/waited")"
	expect_running a POD
	fails 'imagePath: "i" is no absolute path' ctl --sandbox two RestoreSubcontainer '{"id": "x", "bundle": "/b", "imagePath": "i"}'
	fails 'specCheck' ctl --sandbox two RestoreSubcontainer '{"id": "x", "bundle": "/b", "imagePath": "/i", "specCheck": "no"}'
	ok checkpoint --sandbox two --image-path "$T/i"
	called RestoreSubcontainer a ', "name": "a", "prepare": true'
	called Restore POD ', "prepare": true'
	jq -e '.status == "created"' "$T/out" > /dev/null || fail "$(cat "$T/out")"
	ok ctl --sandbox two Start '{"id": "two-a"}'
	expect_running a
	ok start two-POD
	expect_running a POD
	# The status of one that a worker restored is the supervisor's to know.
	ok ctl --sandbox two Signal '{"id": "two-a", "signal": 9}'
	ok ctl --sandbox two Wait '{"id": "two-a"}'
	jq -e '.exit.signal == 9' "$T/out" > /dev/null || fail "$(cat "$T/out")"
}

# What a supervisor is told by others than stasis restore.
test_bad_registrations() {
	local join='"id": "x", "name": "a", "image": "i"'
	pod a b
	restored a
	fails 'InvalidDescriptors.*two sockets are needed' ctl --sandbox two JoinRestore "{$join, \"names\": [\"a\"], \"deadline\": 1}"
	fails 'another image' ctl --sandbox two --fds 0,1 JoinRestore "{$join, \"names\": [\"a\"], \"deadline\": 1}"
	fails 'already exists: two-a' ctl --sandbox two --fds 0,1 JoinRestore '{"id": "two-a", "name": "a", "image": "i", "names": ["a"], "deadline": 1}'
	fails 'names' ctl --sandbox three --new --fds 0,1 JoinRestore "{$join, \"names\": [\"a\", \"a\"], \"deadline\": 1}"
	fails 'names' ctl --sandbox three --new --fds 0,1 JoinRestore "{$join, \"names\": [], \"deadline\": 1}"
	fails 'no container "a": there are b' ctl --sandbox three --new --fds 0,1 JoinRestore "{$join, \"names\": [\"b\"], \"deadline\": 1}"
	fails 'deadline: is missing' ctl --sandbox three --new --fds 0,1 JoinRestore "{$join, \"names\": [\"b\"]}"
	fails 'created|restored' checkpoint --sandbox two --image-path "$T/i2"
	fails 'being restored' exec two-a true
	restored b
	expect_running a b
	eventually 20 test ! -e "$ROOT/@sandboxes/three"
}

test_wait_restore_fails() {
	pod a b
	restored a
	"$STASIS" --root "$ROOT" wait --restore two-a > "$T/waited" 2>&1 < /dev/null &
	sleep 0.2
	FAULT=restore-memory:EIO fails 'fault point restore-memory' restore -d --image-path "$T/i" --bundle "$T/b-b" --sandbox two --container-name b two-b
	wait $! && fail "it says nothing"
	grep -q 'container "b".*fault point restore-memory' "$T/waited" || fail "$(cat "$T/waited")"
}

test_wait_checkpoint() {
	local guard surgeon waiter
	pod a
	restored a
	ok wait --checkpoint two-a
	fails 'either' wait two-a
	FAULT=checkpoint-thawed:stop "$STASIS" --root "$ROOT" checkpoint --leave-running --image-path "$T/i2" two-a > "$T/ckpt" 2>&1 < /dev/null &
	guard=$!
	eventually 5 sh -c "grep -q '^State:.T' /proc/\$(pgrep -o -P $guard)/status"
	surgeon=$(pgrep -o -P "$guard")
	"$STASIS" --root "$ROOT" wait --checkpoint two-a > "$T/waited" 2>&1 < /dev/null &
	sleep 0.3
	waiter=$!
	kill -0 "$waiter" || fail "it did not wait: $(cat "$T/waited")"
	kill -KILL "$surgeon"
	wait "$waiter" && fail "it has failed, and wait says nothing"
	grep -q 'has failed' "$T/waited" || fail "$(cat "$T/waited")"
	wait
	expect_running a
}

# The new environment has begun the sandbox with a container of its own: the image's first one is not wanted.
test_new_first_container() {
	pod POD a
	bundle b-pause sleep 1000
	ok run -d --bundle "$B" --sandbox two --container-name POD two-pause
	restored a
	expect_running a
	[ "$(status two-pause)" = running ] || fail "the first one is $(status two-pause)"
}

run_test "$@"
