# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# exec: another process in a running container.
. "$TESTS/lib.sh"

test_exec_sees_the_container() {
	bundle b
	edit '.process.env += ["FROM=config"] | .hostname = "inside"'
	start c
	ok exec c sh -c 'hostname; echo $FROM; ls /proc | grep -c "^[0-9]"; id -u; pwd'
	[ "$(head -2 "$T/out" | tr '\n' ' ')" = "inside config " ] || fail "$(cat "$T/out")"
	[ "$(sed -n 3p "$T/out")" -le 5 ] || fail "it sees $(sed -n 3p "$T/out") processes"
	[ "$(tail -1 "$T/out")" = / ] || fail "$(cat "$T/out")"
	diff <(cut -d: -f2- "/proc/$(init_pid c)/cgroup") <(stasis exec c cat /proc/self/cgroup < /dev/null | cut -d: -f2-) > "$T/diff" ||
		grep -q . "$T/diff" || fail "cgroups"
}

test_exec_status() {
	bundle b
	start c
	local status=0
	stasis exec c sh -c 'exit 23' < /dev/null || status=$?
	[ "$status" = 23 ] || fail "status $status"
	status=0
	# shellcheck disable=SC2016
	stasis exec c sh -c 'kill -9 $$' < /dev/null || status=$?
	[ "$status" = 137 ] || fail "status $status"
	fails 'no such file|not found' exec c /no/such/program
	expect_status c running
}

test_exec_options() {
	bundle b
	start c
	ok exec --env A=b --cwd /tmp --user 12:34 c sh -c 'echo $A; pwd; id -u; id -g'
	[ "$(tr '\n' ' ' < "$T/out")" = "b /tmp 12 34 " ] || fail "$(cat "$T/out")"
	jq '.process | .args = ["sh", "-c", "echo from a file; cat /proc/self/status | grep NoNewPrivs"]
		| .noNewPrivileges = true' "$B/config.json" > "$T/process.json"
	ok exec --process "$T/process.json" c
	grep -q 'from a file' "$T/out" && grep -q 'NoNewPrivs:.1' "$T/out" || fail "$(cat "$T/out")"
	echo '{' > "$T/process.json"
	fails 'json|process' exec --process "$T/process.json" c
}

test_exec_detached() {
	bundle b
	start c
	ok exec --detach --pid-file "$T/pid" c sleep 1234
	local pid
	pid=$(cat "$T/pid")
	eventually 5 grep -q sleep "/proc/$pid/comm"
	grep -qx "$pid" <(container_pids) || fail "the process is not in the container's cgroup"
	[ "$(readlink "/proc/$pid/ns/pid")" = "$(readlink "/proc/$(init_pid c)/ns/pid")" ] || fail "another pid namespace"
	ok delete -f c
	expect_nothing_left c
}

test_exec_in_what_does_not_run() {
	bundle b
	ok create --bundle "$B" c
	ok kill c KILL
	expect_status c stopped
	fails 'not running|stopped|state' exec c true
	ok delete c
	start c
	ok pause c
	fails 'paused' exec c true
	ok resume c
	ok exec c true
}

# A process of exec is in the checkpoint like any other.
test_exec_and_checkpoint() {
	bundle b
	start c
	ok exec --detach --pid-file "$T/pid" c sleep 4321
	if stasis check c < /dev/null > "$T/check" 2>&1; then
		ok checkpoint --image-path "$T/i" c
		ok restore -d --image-path "$T/i" --bundle "$B" c
		expect_status c running
		ok exec c true
	else
		grep -qi 'exec' "$T/check" || fail "check: $(cat "$T/check")"
	fi
}

# create makes the working directory (with the mode of what root makes, also for another user), exec does not.
test_working_directory() {
	bundle b sh -c 'pwd; stat -c "%a %u" .; exec sleep 1000'
	edit '.process.cwd = "/made/here" | .process.user = {"uid": 1000, "gid": 1000}'
	start c
	eventually 5 grep -q '755 0' "$T/out"
	fails 'chdir.*no such file' exec --cwd /not/made c true
	[ ! -e "$B/rootfs/not" ] || fail "exec made its working directory"
	# As with runc, where root may go is enough.
	mkdir -m 700 "$B/rootfs/closed"
	ok exec --cwd /closed c pwd
	[ "$(cat "$T/out")" = /closed ] || fail "$(cat "$T/out")"
}

run_test "$@"
