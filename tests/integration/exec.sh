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

# What a process.json does not say is the container's: above all its capabilities, not all of ours.
test_process_file_inherits() {
	bundle b
	edit '.process.oomScoreAdj = 77 | .process.scheduler = {policy: "SCHED_BATCH"} | .process.user.umask = 63
		| .process.ioPriority = {class: "IOPRIO_CLASS_BE", priority: 6} | .process.noNewPrivileges = true
		| .process.capabilities = (.process.capabilities | map_values(["CAP_KILL"]))
		| .linux.seccomp = {defaultAction: "SCMP_ACT_ALLOW", syscalls: [{names: ["mkdir"], action: "SCMP_ACT_ERRNO"}]}'
	start c
	cat > "$T/process.json" <<- 'END'
		{"cwd": "/tmp", "args": ["/bin/sh", "-c",
		 "grep -E 'Cap|NoNew|Seccomp:' /proc/self/status; cat /proc/self/oom_score_adj; umask; pwd; grep policy /proc/self/sched"]}
	END
	ok exec --process "$T/process.json" c
	local want
	for want in CapPrm:.0000000000000020 CapEff:.0000000000000020 CapBnd:.0000000000000020 NoNewPrivs:.0 Seccomp:.2 77 0077 \
		/tmp 'policy.* 3'; do
		grep -Eqx "$want" "$T/out" || fail "no $want: $(cat "$T/out")"
	done
	jq '.capabilities = {bounding: [], effective: [], permitted: []} | .oomScoreAdj = 99 | .user = {uid: 0, gid: 0, umask: 18}
		| .noNewPrivileges = true' "$T/process.json" > "$T/other.json"
	ok exec --process "$T/other.json" c
	for want in CapEff:.0000000000000000 NoNewPrivs:.1 99 0022; do
		grep -Eqx "$want" "$T/out" || fail "no $want: $(cat "$T/out")"
	done
	ok exec c sh -c 'grep -E "CapEff|NoNew" /proc/self/status; cat /proc/self/oom_score_adj; umask'
	for want in CapEff:.0000000000000020 NoNewPrivs:.1 77 0077; do
		grep -Eqx "$want" "$T/out" || fail "no $want: $(cat "$T/out")"
	done
}

test_environment_of_exec() {
	bundle b
	edit '.process.env += ["A=config", "B=1", "B=2"]'
	start c
	# not by the shell, which would hide what is there twice
	ok exec -e A=first --env A=second -e C= c cat /proc/self/environ
	tr '\0' '\n' < "$T/out" > "$T/env"
	[ "$(grep '^A=' "$T/env")" = A=second ] || fail "$(cat "$T/env")"
	[ "$(grep '^B=' "$T/env")" = B=2 ] || fail "$(cat "$T/env")"
	grep -qx 'C=' "$T/env" && grep -qx 'HOME=/.*' "$T/env" || fail "$(cat "$T/env")"
	fails 'environment' exec -e NOVALUE c true
	local many=() i
	for ((i = 0; i < 200; i++)); do
		many+=(--env "V$i=$i")
	done
	ok exec "${many[@]}" c env
	[ "$(grep -c '^V' "$T/out")" = 200 ] || fail "$(cat "$T/out")"
}

test_capabilities_of_exec() {
	bundle b
	edit '.process.capabilities = (.process.capabilities | map_values(["CAP_KILL"]))'
	start c
	ok exec --cap CAP_CHOWN -c CAP_NET_RAW c grep Cap /proc/self/status
	grep -q 'CapEff:.0000000000002021' "$T/out" && grep -q 'CapBnd:.0000000000002021' "$T/out" || fail "$(cat "$T/out")"
	ok exec --cap CAP_TO_FLY c true
	grep -q 'ignoring unknown.*CAP_TO_FLY' "$T/err" || fail "no warning: $(cat "$T/err")"
	ok exec -u 12:34 -g 5 --additional-gids 6 c sh -c 'id -u; id -g; id -G; cat /proc/self/status'
	[ "$(head -3 "$T/out" | tr '\n' ' ')" = "12 34 34 5 6 " ] || fail "$(cat "$T/out")"
	grep -q 'CapEff:.0000000000000000' "$T/out" || fail "an ordinary user has capabilities: $(cat "$T/out")"
	fails 'user' exec -u root c true
	fails 'group' exec -g wheel c true
	fails 'Cwd must be an absolute path' exec --cwd tmp c true
}

# All cgroups of the container's, and a file of one of them: "CONTROLLER DIR" lines.
cgroup_dirs() {
	local d
	for d in /sys/fs/cgroup/*/"$(cgroup_name b)" /sys/fs/cgroup/"$(cgroup_name b)"; do
		[ ! -e "$d/cgroup.procs" ] || echo "$d"
	done
}

test_sub_cgroups() {
	bundle b
	edit '.linux.namespaces -= [{type: "cgroup"}]' # it would hide the upper part of the paths
	start c
	local d
	for d in $(cgroup_dirs); do
		mkdir "$d/sub" || fail "mkdir"
		[ ! -e "$d/cpuset.cpus" ] || { cat "$d/cpuset.cpus" > "$d/sub/cpuset.cpus" && cat "$d/cpuset.mems" > "$d/sub/cpuset.mems"; }
	done
	ok exec --cgroup sub c cat /proc/self/cgroup
	[ "$(grep -c "/b/sub$" "$T/out")" -ge "$(cgroup_dirs | wc -l)" ] || fail "$(cat "$T/out")"
	ok exec --cgroup / c cat /proc/self/cgroup
	! grep -q /sub "$T/out" || fail "$(cat "$T/out")"
	fails 'no such file' exec --cgroup none c true
	# never above the container's own
	ok exec --cgroup ../../.. c cat /proc/self/cgroup
	[ "$(grep -c "/b$" "$T/out")" -ge "$(cgroup_dirs | wc -l)" ] || fail "out of its cgroup: $(cat "$T/out")"
	fails 'prefix' exec --cgroup sub --cgroup sub c true
	fails 'empty' exec --cgroup :sub c true
	fails 'controller' exec --cgroup nosuch:sub c true
	[ -d "/sys/fs/cgroup/pids/$CGROUP/b" ] || return 0
	ok exec --cgroup pids:sub --cgroup memory,freezer:/sub c cat /proc/self/cgroup
	[ "$(grep -c "/b/sub$" "$T/out")" = 3 ] || fail "$(cat "$T/out")"
	fails 'multiple times' exec --cgroup pids:sub --cgroup pids:/ c true
}

# As systemd in a container does: its own directory then takes no processes any more (EBUSY).
test_exec_where_controllers_are_handed_down() {
	[ -e /sys/fs/cgroup/cgroup.controllers ] || skip "not on this machine: cgroups of version 2 only"
	bundle b
	edit '.linux.namespaces -= [{type: "cgroup"}]'
	start c
	local d
	d=$(cgroup_dirs)
	mkdir "$d/init.scope" || fail "mkdir"
	init_pid c > "$d/init.scope/cgroup.procs" || fail "move init"
	echo +pids > "$d/cgroup.subtree_control" || fail "hand down"
	ok exec c cat /proc/self/cgroup
	grep -q '/b/init.scope$' "$T/out" || fail "$(cat "$T/out")"
	fails 'busy' exec --cgroup / c true
}

# The descriptors that are asked for and no others; a number that the caller did not open is none of ours.
test_preserved_descriptors() {
	bundle b
	start c
	echo three > "$T/three"
	echo four > "$T/four"
	ok exec --preserve-fds 2 c sh -c 'cat <&3; cat <&4; ls -l /proc/self/fd' 3< "$T/three" 4< "$T/four" 5< "$T/four"
	[ "$(head -2 "$T/out" | tr '\n' ' ')" = "three four " ] || fail "$(cat "$T/out")"
	! grep -q ' [5-9] -> ' "$T/out" || fail "$(cat "$T/out")"
	ok exec c ls -l /proc/self/fd 3< "$T/three" 4< "$T/four"
	! grep -q 'three\|four' "$T/out" || fail "$(cat "$T/out")"
	fails 'preserved-fd 1 \(of 2\)' exec --preserve-fds 2 c true 3< "$T/three"
	fails 'preserved-fd 1 \(of 2\)' --log "$T/log" exec --preserve-fds 2 c true 3< "$T/three"
	bundle p sh -c 'cat <&3; ls -l /proc/self/fd'
	ok run --bundle "$B" --preserve-fds 1 p 3< "$T/three"
	grep -qx three "$T/out" || fail "$(cat "$T/out")"
	fails 'preserved-fd 0' run --bundle "$B" --preserve-fds 1 p
	[ ! -e "$ROOT/p" ] || fail "left"
}

# systemd's socket activation: LISTEN_PID is ours, and becomes the container's.
test_listen_fds() {
	bundle b sh -c 'env | grep LISTEN; cat <&3; cat <&4; ls /proc/self/fd'
	echo three > "$T/three"
	echo four > "$T/four"
	# exec keeps the pid; timeout(1) would not
	# shellcheck disable=SC2016
	LISTEN_FDS=1 LISTEN_FDNAMES=first sh -c 'export LISTEN_PID=$$; exec "$@"' sh "$STASIS" --root "$ROOT" run --bundle "$B" \
		--preserve-fds 1 c 3< "$T/three" 4< "$T/four" > "$T/out" 2> "$T/err" < /dev/null || fail "$(cat "$T/err")"
	local want
	for want in LISTEN_FDS=1 LISTEN_PID=1 LISTEN_FDNAMES=first three four; do
		grep -qx "$want" "$T/out" || fail "no $want: $(cat "$T/out")"
	done
	bundle n sh -c 'env; ls -l /proc/self/fd'
	LISTEN_FDS=1 LISTEN_PID=1 stasis run --bundle "$B" c 3< "$T/three" > "$T/out" 2> "$T/err" < /dev/null || fail "$(cat "$T/err")"
	! grep -q 'LISTEN\|three' "$T/out" || fail "somebody else's: $(cat "$T/out")"
}

test_exec_in_a_time_namespace() {
	bundle b
	edit '.linux.namespaces += [{type: "time"}] | .linux.timeOffsets = {boottime: {secs: 1000000}}'
	start c
	ok exec c sh -c 'cut -d. -f1 /proc/uptime; readlink /proc/self/ns/time'
	[ "$(head -1 "$T/out")" -gt 1000000 ] || fail "another clock: $(cat "$T/out")"
	[ "$(tail -1 "$T/out")" = "$(readlink "/proc/$(init_pid c)/ns/time")" ] || fail "$(cat "$T/out")"
}

test_exec_ignores_the_pause() {
	bundle b
	start c
	ok pause c
	stasis exec --ignore-paused c sh -c 'echo > /cr/ran; exit 5' < /dev/null > "$T/exec" 2>&1 &
	local pid=$! status=0
	sleep 0.3
	[ ! -e "$B/rootfs/cr/ran" ] || fail "it ran in a paused container"
	ok resume c
	wait "$pid" || status=$?
	[ "$status" = 5 ] || fail "status $status: $(cat "$T/exec")"
	[ -e "$B/rootfs/cr/ran" ] || fail "it never ran"
}

run_test "$@"
