# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The life of a container by the command line: create, start, run, state, list, ps, kill, pause, resume, delete.
. "$TESTS/lib.sh"

test_create_blocks_until_start() {
	bundle b sh -c 'echo started > /cr/started; exec sleep 1000'
	ok create --bundle "$B" --pid-file "$T/pid" c
	expect_status c created
	[ "$(cat "$T/pid")" = "$(init_pid c)" ] || fail "the pid file says $(cat "$T/pid"), state $(init_pid c)"
	sleep 0.2
	[ ! -e "$B/rootfs/cr/started" ] || fail "the program ran before start"
	ok start c
	expect_status c running
	eventually 5 test -e "$B/rootfs/cr/started"
	fails 'start|running|created' start c
	ok delete -f c
	expect_nothing_left c
}

test_start_of_a_dead_one() {
	bundle b sleep 1000
	ok create --bundle "$B" c
	ok kill c KILL
	expect_status c stopped
	fails 'start|stopped' start c
	ok delete c
	expect_nothing_left c
}

test_state_is_complete() {
	bundle b
	edit '.annotations = {"a.b": "c"}'
	start c
	ok state c
	jq -e --arg b "$B" '.ociVersion and .id == "c" and .status == "running" and .pid > 1 and .bundle == $b
		and .annotations["a.b"] == "c"' "$T/out" > "$T/jq" || fail "state: $(cat "$T/out")"
	ok list --format json
	jq -e '.[0].id == "c" and .[0].status == "running" and .[0].pid > 1' "$T/out" > "$T/jq" || fail "list: $(cat "$T/out")"
	ok list
	grep -q '^c .*running' "$T/out" || fail "list: $(cat "$T/out")"
	ok ps c
	grep -q sleep "$T/out" || fail "ps: $(cat "$T/out")"
	ok ps --format json c
	jq -e 'length == 1' "$T/out" > "$T/jq" || fail "ps: $(cat "$T/out")"
}

test_run_gives_the_exit_status() {
	bundle b sh -c 'echo out; echo err >&2; exit 37'
	local status=0
	stasis run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || status=$?
	[ "$status" = 37 ] || fail "status $status: $(cat "$T/err")"
	[ "$(cat "$T/out")" = out ] || fail "stdout: $(cat "$T/out")"
	grep -qx err "$T/err" || fail "stderr: $(cat "$T/err")"
	expect_nothing_left c
}

test_run_of_a_killed_one() {
	bundle b sh -c 'sh -c "kill -9 \$\$"; exit $?'
	local status=0
	stasis run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || status=$?
	[ "$status" = 137 ] || fail "status $status: $(cat "$T/err")"
}

test_signals_to_run_are_passed_on() {
	bundle b sh -c 'trap "echo caught > /cr/caught; exit 3" TERM; echo x > /cr/ready; while :; do sleep 0.05; done'
	"$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" &
	local pid=$! status=0
	eventually 5 test -e "$B/rootfs/cr/ready"
	kill -TERM "$pid"
	wait "$pid" || status=$?
	[ "$status" = 3 ] || fail "status $status: $(cat "$T/err")"
	[ -e "$B/rootfs/cr/caught" ] || fail "SIGTERM did not arrive"
}

test_kill_names_and_numbers() {
	local s
	for s in TERM SIGTERM 15 term; do
		bundle "b-$s" sh -c 'trap "exit 0" TERM; echo > /cr/ready; while :; do sleep 0.02; done'
		start "c-$s"
		eventually 5 test -e "$B/rootfs/cr/ready"
		ok kill "c-$s" "$s"
		expect_status "c-$s" stopped
		ok delete "c-$s"
	done
	bundle b
	start c
	fails 'signal' kill c NOSUCH
	fails 'signal' kill c 99
	ok kill c KILL
	expect_status c stopped
	fails 'not running|process already finished' kill c TERM
}

test_kill_all() {
	bundle b sh -c 'sleep 1001 & sleep 1002 & trap "" TERM; wait; wait'
	start c
	eventually 5 sh -c "[ \$('$STASIS' --root '$ROOT' ps --format json c | jq length) = 3 ]"
	ok kill --all c KILL
	expect_status c stopped
	no_processes || fail "processes are left"
}

test_delete() {
	bundle b
	start c
	fails 'running|not stopped' delete c
	expect_status c running
	ok delete --force c
	expect_nothing_left c
	fails 'does not exist' delete c
	ok delete --force c
	fails 'does not exist' state c
	fails 'does not exist' kill c KILL
}

test_pause_and_resume() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
	ok pause c
	[ "$(status c)" = paused ] || fail "status $(status c)"
	local before
	before=$(count)
	sleep 0.2
	[ "$(count)" = "$before" ] || fail "it runs while it is paused"
	fails 'pause' pause c
	ok resume c
	expect_status c running
	expect_progress
	fails 'pause' resume c
	ok pause c
	ok delete -f c
	expect_nothing_left c
}

test_orphans_die_with_init() {
	bundle b sh -c 'sleep 1001 & sleep 1002 & echo > /cr/ready; sleep 0.1'
	start c
	expect_status c stopped
	eventually 5 no_processes
	ok delete c
}

test_spec() {
	bundle b
	rm "$B/config.json"
	(cd "$B" && stasis spec) || fail "spec"
	jq -e '.process.args == ["sh"] and .root.path == "rootfs"' "$B/config.json" > "$T/jq" || fail "spec: $(cat "$B/config.json")"
	fails 'exist' spec --bundle "$B"
	edit '.process.args = ["sh", "-c", "echo it works; id -u"] | .process.terminal = false
		| .linux.cgroupsPath = $c' --arg c "$(cgroups_path b)"
	ok run --bundle "$B" c
	[ "$(tr '\n' ' ' < "$T/out")" = "it works 0 " ] || fail "output: $(cat "$T/out")"
}

test_version_and_features() {
	ok --version
	grep -q '^stasis version [0-9]' "$T/out" && grep -q '^spec: 1' "$T/out" || fail "version: $(cat "$T/out")"
	ok features
	jq -e '.ociVersionMin and .ociVersionMax and (.hooks | length == 6) and .linux.namespaces' "$T/out" > "$T/jq" ||
		fail "features: $(cat "$T/out")"
	ok checkpoint --help
	ok restore --help
}

test_two_commands_at_once() {
	bundle b sh -c "$COUNTER"
	start c
	local i
	for i in 1 2 3 4 5 6; do
		stasis state c < /dev/null > "$T/state.$i" 2>&1 &
		stasis exec c true < /dev/null > "$T/exec.$i" 2>&1 &
	done
	wait
	for i in 1 2 3 4 5 6; do
		jq -e '.status == "running"' "$T/state.$i" > "$T/jq" || fail "state: $(cat "$T/state.$i")"
	done
	expect_progress
}

run_test "$@"
