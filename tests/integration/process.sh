# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What a process gets besides identity and mounts: processors, memory policy, scheduler, labels, keys, network devices.
. "$TESTS/lib.sh"

# in_container SCRIPT: runs it in a fresh container from $B; its output is in $T/out.
in_container() {
	edit '.process.args = ["sh", "-c", $s]' --arg s "$1"
	ok run --bundle "$B" c
}

expect() {
	[ "$(cat "$T/out")" = "$1" ] || fail "output '$(cat "$T/out")', expected '$1'"
}

CPUS='grep Cpus_allowed_list /proc/self/status | tr -d "\t"'

# The caller's affinity is not the container's; execCPUAffinity is exec's alone.
test_affinity() {
	local all
	all=$(grep Cpus_allowed_list /proc/self/status | tr -d '\t')
	bundle b
	edit '.process.args = ["sh", "-c", $s + "; exec sleep 1000"] | .process.execCPUAffinity = {"initial": "0", "final": "1"}' --arg s "$CPUS"
	taskset -c 0 "$STASIS" --root "$ROOT" run -d --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || fail "$(cat "$T/err")"
	eventually 30 [ -s "$T/out" ]
	expect "$all"
	ok exec c sh -c "$CPUS"
	expect "Cpus_allowed_list:1"
	jq '{args: ["sh", "-c", $s], cwd: "/", execCPUAffinity: {"initial": "1"}}' -n --arg s "PATH=/bin; $CPUS" > "$T/process.json"
	ok exec --process "$T/process.json" c
	expect "$all"
	jq '{args: ["sh", "-c", $s], cwd: "/", execCPUAffinity: {"final": "0-0"}}' -n --arg s "PATH=/bin; $CPUS" > "$T/process.json"
	ok exec --process "$T/process.json" c
	expect "Cpus_allowed_list:0"
	for bad in '"3-1"' '"a"' '"1,"' '"-1"' '"1024"' '"0 1"' '1'; do
		edit '.process.execCPUAffinity = {"initial": ($b | fromjson)}' --arg b "$bad"
		fails 'process.execCPUAffinity.initial' run --bundle "$B" d
	done
	jq '{args: ["true"], cwd: "/", execCPUAffinity: {"final": "1000"}}' -n > "$T/process.json"
	fails 'execCPUAffinity.*invalid argument' exec --process "$T/process.json" c
	ok delete -f c
}

test_memory_policy() {
	local bad
	bundle b
	cp "$B/config.json" "$T/config.json"
	in_container 'head -1 /proc/self/numa_maps'
	grep -q ' default' "$T/out" || fail "$(cat "$T/out")"
	edit '.linux.memoryPolicy = {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}'
	in_container 'head -1 /proc/self/numa_maps'
	grep -q ' bind=static:0' "$T/out" || fail "$(cat "$T/out")"
	edit '.process.args = ["sleep", "1000"]'
	start c
	ok exec c head -1 /proc/self/numa_maps
	grep -q ' bind=static:0' "$T/out" || fail "exec: $(cat "$T/out")"
	ok checkpoint --image-path "$T/image" c
	ok restore -d --image-path "$T/image" --bundle "$B" c
	head -1 "/proc/$(init_pid c)/numa_maps" > "$T/out"
	grep -q ' bind=static:0' "$T/out" || fail "restored: $(cat "$T/out")"
	ok delete -f c
	edit '.linux.memoryPolicy = {"mode": "MPOL_LOCAL"}'
	in_container 'head -1 /proc/self/numa_maps'
	grep -q ' local' "$T/out" || fail "$(cat "$T/out")"
	edit '.linux.memoryPolicy = {"mode": "MPOL_BIND", "nodes": "1000"}'
	fails 'linux.memoryPolicy.*invalid argument' run --bundle "$B" c
	expect_nothing_left c
	for bad in '{"nodes": "0"}' '{"mode": "MPOL_NONE"}' '{"mode": "MPOL_BIND", "nodes": "x"}' '{"mode": "MPOL_BIND", "flags": ["X"]}'; do
		edit '.linux.memoryPolicy = ($b | fromjson)' --arg b "$bad"
		fails 'linux.memoryPolicy' run --bundle "$B" c
	done
}

test_scheduler_and_priorities() {
	bundle b
	edit '.process.scheduler = {"policy": "SCHED_BATCH", "nice": 5} | .process.ioPriority = {"class": "IOPRIO_CLASS_BE", "priority": 6}'
	in_container 'cut -d " " -f 19,41 /proc/self/stat; ionice -p $$'
	expect "$(printf '5 3\nbest-effort: prio 6')"
	edit '.process.scheduler = {"policy": "SCHED_IDLE", "flags": ["SCHED_FLAG_RESET_ON_FORK"]} | del(.process.ioPriority) | .process.args = ["cat", "/proc/self/stat"]'
	ok run --bundle "$B" c
	[ "$(cut -d ' ' -f 41 "$T/out")" = 5 ] || fail "$(cat "$T/out")"
	edit '.process.scheduler = {"policy": "SCHED_OTHER", "priority": 7}'
	fails 'set the scheduler' run --bundle "$B" c
	edit '.process.scheduler = {"policy": "SCHED_NONE"}'
	fails 'process.scheduler.policy' run --bundle "$B" c
	edit 'del(.process.scheduler) | .process.ioPriority = {"class": "IOPRIO_CLASS_BE", "priority": 8}'
	fails 'process.ioPriority.priority' run --bundle "$B" c
}

test_deadline_scheduler() {
	bundle b
	edit '.process.scheduler = {"policy": "SCHED_DEADLINE", "runtime": 1000000, "deadline": 20000000, "period": 50000000} | .process.args = ["cat", "/proc/self/stat"]'
	ok run --bundle "$B" c
	[ "$(cut -d ' ' -f 41 "$T/out")" = 6 ] || fail "$(cat "$T/out")"
}

# Limits above those of the runtime, and a lower oom score, take rights that root does not have everywhere.
test_what_takes_cap_sys_resource() {
	bundle b
	edit '.process.rlimits = [{"type": "RLIMIT_CORE", "soft": 5000, "hard": 6000}] | .process.args = ["true"]'
	(
		ulimit -Hc 4
		setpriv --bounding-set -sys_resource --inh-caps -sys_resource "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err"
	) && fail "a limit was raised without the right"
	grep -Eq 'RLIMIT_CORE.*5000.*6000.*operation not permitted' "$T/err" || fail "$(cat "$T/err")"
	expect_nothing_left c
	edit '.process.rlimits = [] | .process.oomScoreAdj = -500'
	setpriv --bounding-set -sys_resource --inh-caps -sys_resource "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" && fail "the oom score was lowered"
	grep -q 'oom_score_adj.*-500.*permission denied' "$T/err" || fail "$(cat "$T/err")"
	edit '.process.oomScoreAdj = 500'
	in_container 'cat /proc/self/oom_score_adj'
	expect 500
}

test_personality() {
	bundle b
	edit '.linux.personality = {"domain": "LINUX32"}'
	in_container 'uname -m; cat /proc/self/personality'
	expect "$(printf 'i686\n00000008')"
	edit '.linux.personality = {"domain": "BSD"}'
	fails 'linux.personality.domain' run --bundle "$B" c
}

# A session keyring of the container's own, named as runc names it; or the caller's.
test_keyring() {
	bundle b
	edit '.linux.maskedPaths = []'
	in_container 'cat /proc/keys'
	grep -q 'keyring *_ses.c: ' "$T/out" || fail "$(cat "$T/out")"
	# exec has the same one: 250 is keyctl, 0 KEYCTL_GET_KEYRING_ID, -3 KEY_SPEC_SESSION_KEYRING
	cp "$BUILD/tests/cr/call" "$B/rootfs/bin/call"
	edit '.process.args = ["sh", "-c", "call 250 0 -3 0; exec sleep 1000"]'
	timeout 30 "$STASIS" --root "$ROOT" run -d --bundle "$B" e < /dev/null > "$T/init" 2>&1 || fail "$(cat "$T/init")"
	eventually 30 [ -s "$T/init" ]
	ok exec e call 250 0 -3 0
	expect "$(cat "$T/init")"
	ok delete -f e
	edit '.process.args = ["cat", "/proc/keys"]'
	ok run --no-new-keyring --bundle "$B" d
	! grep -q '_ses.d: ' "$T/out" || fail "$(cat "$T/out")"
}

# Labels are written where the kernel takes them; where it has no such module the error names the file, as callers look for it.
test_labels() {
	[ ! -e /sys/kernel/security/apparmor ] && [ ! -e /sys/fs/selinux ] || skip "not on this machine: a kernel without AppArmor and SELinux"
	bundle b
	edit '.process.apparmorProfile = "some-profile"'
	fails '/proc/.*/attr/' run --bundle "$B" c
	expect_nothing_left c
	edit 'del(.process.apparmorProfile) | .process.selinuxLabel = "system_u:system_r:container_t:s0"'
	fails '/proc/.*/attr/' run --bundle "$B" c
	expect_nothing_left c
	edit '.process.selinuxLabel = "" | .process.apparmorProfile = "" | .process.args = ["true"]'
	ok run --bundle "$B" c
}

test_apparmor() {
	local profile=stasis-test-$$
	[ -e /sys/kernel/security/apparmor/.load ] && command -v apparmor_parser > "$T/parser" || skip "not on this machine: AppArmor"
	printf 'profile %s flags=(attach_disconnected,mediate_deleted) {\n\tfile,\n\tcapability,\n\tsignal,\n\tnetwork,\n\tdeny /etc/group r,\n}\n' "$profile" > "$T/profile"
	apparmor_parser -Kr "$T/profile" || fail "apparmor_parser"
	bundle b
	edit '.process.apparmorProfile = $p | .process.args = ["sh", "-c", "cat /proc/self/attr/current; cat /etc/passwd > /dev/null; cat /etc/group; exec sleep 1000"]' --arg p "$profile"
	timeout 30 "$STASIS" --root "$ROOT" run -d --bundle "$B" c < /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	eventually 30 grep -q group "$T/out"
	grep -qx "$profile (enforce)" "$T/out" && grep -q "can't open '/etc/group': Permission denied" "$T/out" || fail "$(cat "$T/out")"
	ok exec c cat /proc/self/attr/current
	expect "$profile (enforce)"
	ok exec --apparmor unconfined c cat /proc/self/attr/current
	expect unconfined
	# its label comes back with it, and with every process
	eventually 30 grep -q sleep "/proc/$(init_pid c)/comm"
	ok checkpoint --image-path "$T/image" c
	ok restore -d --image-path "$T/image" --bundle "$B" c
	grep -qx "$profile (enforce)" "/proc/$(init_pid c)/attr/current" || fail "$(cat "/proc/$(init_pid c)/attr/current")"
	ok exec c cat /proc/self/attr/current
	expect "$profile (enforce)"
	ok delete -f c
	sed "s/$profile/$profile-2/" "$T/profile" > "$T/profile-2"
	apparmor_parser -Kr "$T/profile-2" || fail "apparmor_parser"
	ok restore -d --image-path "$T/image" --lsm-profile "apparmor:$profile-2" --bundle "$B" c
	grep -qx "$profile-2 (enforce)" "/proc/$(init_pid c)/attr/current" || fail "$(cat "/proc/$(init_pid c)/attr/current")"
	ok delete -f c
	apparmor_parser -KR "$T/profile-2" || fail "apparmor_parser -R"
	# of threads, all
	cp "$BUILD/tests/cr/threads" "$B/rootfs/bin/threads"
	edit '.process.args = ["threads"]'
	timeout 30 "$STASIS" --root "$ROOT" run -d --bundle "$B" c < /dev/null > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	eventually 60 test -e "$B/rootfs/cr/ready.1"
	ok checkpoint --image-path "$T/threads" c
	ok restore -d --image-path "$T/threads" --bundle "$B" c
	for t in /proc/"$(init_pid c)"/task/*; do
		grep -qx "$profile (enforce)" "$t/attr/current" || fail "$t: $(cat "$t/attr/current")"
	done
	ok delete -f c
	# no image does without the profile that config.json asks for
	edit '.process.apparmorProfile = "another"'
	fails 'has not the AppArmor profile another' restore -d --image-path "$T/image" --bundle "$B" c
	edit '.process.apparmorProfile = "no-such-profile"'
	fails '/proc/self/attr/' run --bundle "$B" c
	expect_nothing_left c
	apparmor_parser -KR "$T/profile" || fail "apparmor_parser -R"
}

test_capabilities_unknown_and_ambient() {
	bundle b
	edit '.process.capabilities = {"bounding": ["CAP_KILL", "CAP_OF_TOMORROW"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"]}'
	in_container 'grep -E "Cap(Inh|Prm|Bnd|Amb)" /proc/self/status'
	[ "$(tr -d '\t' < "$T/out" | tr '\n' ' ')" = "CapInh:0000000000000020 CapPrm:0000000000000020 CapBnd:0000000000000020 CapAmb:0000000000000000 " ] || fail "$(cat "$T/out")"
	grep -q 'warning.*CAP_OF_TOMORROW' "$T/err" || fail "no warning: $(cat "$T/err")"
	# ambient ones have to be permitted and inheritable: the runtime-spec wants a warning, not an error
	edit '.process.capabilities = {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"]}'
	in_container 'grep CapAmb /proc/self/status'
	grep -q '0000000000000000$' "$T/out" && grep -q 'warning.*ambient.*CAP_KILL' "$T/err" || fail "$(cat "$T/out" "$T/err")"
}

# What the runtime itself does not have it cannot give: a warning too.
test_capabilities_that_cannot_be_granted() {
	bundle b
	edit '.process.capabilities |= map_values(["CAP_KILL", "CAP_SYS_PTRACE"]) | .process.args = ["grep", "-E", "Cap(Prm|Eff|Bnd)", "/proc/self/status"]'
	setpriv --bounding-set -sys_ptrace --inh-caps -sys_ptrace "$STASIS" --root "$ROOT" run --bundle "$B" c < /dev/null > "$T/out" 2> "$T/err" || fail "$(cat "$T/err")"
	[ "$(grep -c '0000000000000020$' "$T/out")" = 3 ] || fail "$(cat "$T/out")"
	grep -q 'warning.*CAP_SYS_PTRACE' "$T/err" || fail "no warning: $(cat "$T/err")"
}

test_working_directory() {
	bundle b
	edit '.process.cwd = "/made/by/the/runtime"'
	in_container 'pwd'
	expect /made/by/the/runtime
	echo > "$B/rootfs/file"
	edit '.process.cwd = "/file"'
	fails 'cwd.*not a directory' run --bundle "$B" c
	edit '.process.cwd = "relative"'
	fails 'process.cwd' run --bundle "$B" c
	expect_nothing_left c
}

test_programs_that_are_not_there() {
	bundle b
	edit '.process.args = []'
	fails 'process.args' run --bundle "$B" c
	edit '.process.args = [""]'
	fails 'process.args' run --bundle "$B" c
	edit '.process.args = ["nosuch"]'
	fails 'executable file not found in \$PATH' run --bundle "$B" c
	edit '.process.args = ["/no/such"]'
	fails 'no such file or directory' run --bundle "$B" c
	edit '.process.args = ["/etc/passwd"]'
	fails 'permission denied' run --bundle "$B" c
	printf '#!/no/interpreter\n' > "$B/rootfs/script"
	chmod 755 "$B/rootfs/script"
	edit '.process.args = ["/script"]'
	fails 'no such file or directory' run --bundle "$B" c
	expect_nothing_left c
	# the last PATH counts as the program's own, not the runtime's
	mkdir "$B/rootfs/mine"
	printf '#!/bin/sh\necho mine\n' > "$B/rootfs/mine/tool"
	chmod 755 "$B/rootfs/mine/tool"
	edit '.process.args = ["tool"] | .process.env = ["PATH=/bin:/mine"]'
	ok run --bundle "$B" c
	expect mine
}

test_names() {
	bundle b
	edit '.hostname = "host" | .domainname = "domain"'
	in_container 'cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname'
	expect "$(printf 'host\ndomain')"
	edit 'del(.linux.namespaces[] | select(.type == "uts"))'
	fails 'hostname.*uts' run --bundle "$B" c
	edit 'del(.hostname)'
	fails 'domainname.*uts' run --bundle "$B" c
}

test_sysctls() {
	local bad
	bundle b
	edit '.linux.sysctl = {"net/ipv4/conf/lo/forwarding": "1", "kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "7", "kernel.domainname": "d"}'
	in_container 'cat /proc/sys/net/ipv4/conf/lo/forwarding /proc/sys/kernel/shm_rmid_forced /proc/sys/fs/mqueue/msg_max /proc/sys/kernel/domainname'
	expect "$(printf '1\n1\n7\nd')"
	for bad in kernel.panic vm.overcommit_memory fs.file-max kernel.pid_max net kernel.shmmax.x; do
		edit '.linux.sysctl = {($b): "1"}' --arg b "$bad"
		fails "linux.sysctl.*$bad.*namespace" run --bundle "$B" c
	done
	for bad in ../kernel/panic net.ipv4..conf "net.ipv4/../../kernel/panic" ""; do
		edit '.linux.sysctl = {($b): "1"}' --arg b "$bad"
		fails "linux.sysctl" run --bundle "$B" c
	done
	edit '.linux.sysctl = {"net.ipv4.no_such": "1"}'
	fails 'net.ipv4.no_such' run --bundle "$B" c
	edit '.linux.sysctl = {"net.ipv4.ip_forward": "1"} | del(.linux.namespaces[] | select(.type == "network"))'
	fails 'linux.sysctl.*network namespace' run --bundle "$B" c
	expect_nothing_left c
}

# Everything of netns is in a network namespace of the test's own, in which the runtime is started.
netns() {
	nsenter --net="$T/netns" "$@"
}

has_netns() {
	[ "$(readlink /proc/self/ns/net)" != "$(readlink "/proc/$NETNS/ns/net")" ]
}

with_netns() {
	unshare --net sleep 1000 < /dev/null > "$T/netns.log" 2>&1 &
	NETNS=$!
	eventually 30 has_netns
	ln -s "/proc/$NETNS/ns/net" "$T/netns"
}

in_netns() { # like ok, in the network namespace
	timeout 30 nsenter --net="$T/netns" "$STASIS" --root "$ROOT" "$@" > "$T/out" 2> "$T/err" < /dev/null || fail "$*: $(cat "$T/err")"
}

test_network_devices() {
	with_netns
	netns ip link add v0 type veth peer name p0
	netns ip link add v1 type veth peer name p1
	netns ip link add v2 type veth peer name p2
	netns ip address add 10.9.8.7/24 broadcast 10.9.8.255 dev v0
	netns ip address add 10.9.8.8/32 dev v0
	netns ip address add fd00::7/64 dev v0
	netns ip address add 169.254.3.3/16 scope link dev v0
	netns ip link set v0 up
	bundle b sleep 1000
	edit '.linux.netDevices = {"v0": {"name": "inside"}, "v1": {}, "v2": {"name": "eth%d"}} | .linux.sysctl = {"net.ipv4.conf.inside.forwarding": "1"}'
	in_netns run -d --bundle "$B" c
	! netns ip link show v0 > "$T/show" 2>&1 || fail "v0 is still outside"
	ok exec c ip address show
	grep -q 'inside@.*UP' "$T/out" && grep -q ' v1@.*UP' "$T/out" && grep -q ' eth0@.*UP' "$T/out" || fail "devices: $(cat "$T/out")"
	grep -q 'inet 10.9.8.7/24 brd 10.9.8.255' "$T/out" && grep -q 'inet 10.9.8.8/32' "$T/out" && grep -q 'inet6 fd00::7/64' "$T/out" || fail "addresses: $(cat "$T/out")"
	! grep -q 169.254 "$T/out" || fail "an address of another scope came along"
	ok exec c cat /proc/sys/net/ipv4/conf/inside/forwarding
	expect 1
	ok delete -f c
	kill "$NETNS"
}

# What fails after they have moved does not cost the devices: a veth would be gone with the container's namespace.
test_network_devices_come_back() {
	local fault
	with_netns
	netns ip link add v0 type veth peer name p0
	netns ip link add v1 type veth peer name p1
	netns ip address add 10.9.8.7/24 broadcast 10.9.8.255 dev v0
	netns ip address add fd00::7/64 dev v0 nodad
	netns ip link set v0 up
	netns ip address show > "$T/before"
	bundle b sleep 1000
	edit '.linux.netDevices = {"v0": {"name": "inside"}, "v1": {"name": "eth%d"}}'
	come_back() {
		netns ip address show > "$T/after"
		diff <(sed 's/state [A-Z]* //; s/ nodad\| tentative//; s/^[0-9]*: //' "$T/before" | grep -v 'inet6 fe80\|_lft\|^lo') <(sed 's/state [A-Z]* //; s/ nodad\| tentative//; s/^[0-9]*: //' "$T/after" | grep -v 'inet6 fe80\|_lft\|^lo') > "$T/diff" || fail "$1: $(cat "$T/diff")"
		expect_nothing_left c
	}
	for fault in create-hooks create-pivot create-ready create-state; do
		FAULT=$fault:EIO timeout 30 nsenter --net="$T/netns" "$STASIS" --root "$ROOT" run -d --bundle "$B" c > "$T/out" 2> "$T/err" < /dev/null && fail "no failure: $fault"
		come_back "$fault"
	done
	edit '.linux.netDevices = {"v0": {"name": "inside"}, "v1": {"name": "eth%d"}, "nosuch": {}}'
	timeout 30 nsenter --net="$T/netns" "$STASIS" --root "$ROOT" run -d --bundle "$B" c > "$T/out" 2> "$T/err" < /dev/null && fail "no failure"
	come_back nosuch
	edit '.linux.netDevices = {"v0": {"name": "inside"}, "v1": {"name": "eth%d"}}'
	in_netns run -d --bundle "$B" c
	netns ip link show v1 > "$T/show" 2>&1 && fail "v1 is still outside"
	ok delete -f c
	kill "$NETNS"
}

test_network_devices_that_cannot_move() {
	with_netns
	netns ip link add v0 type veth peer name p0
	bundle b
	edit '.linux.netDevices = {"v0": {}, "nosuch": {}}'
	timeout 30 nsenter --net="$T/netns" "$STASIS" --root "$ROOT" run -d --bundle "$B" c > "$T/out" 2> "$T/err" < /dev/null && fail "a device that is not there"
	grep -q 'linux.netDevices."nosuch".: no such device' "$T/err" || fail "$(cat "$T/err")"
	netns ip link show v0 > "$T/show" 2>&1 || fail "v0 is gone"
	expect_nothing_left c
	edit '.linux.netDevices = {"v0": {"name": "lo"}}'
	timeout 30 nsenter --net="$T/netns" "$STASIS" --root "$ROOT" run -d --bundle "$B" c > "$T/out" 2> "$T/err" < /dev/null && fail "a name that is taken"
	grep -q 'linux.netDevices."v0".: .* has a device lo already' "$T/err" || fail "$(cat "$T/err")"
	netns ip link show v0 > "$T/show" 2>&1 || fail "v0 is gone"
	expect_nothing_left c
	for bad in '{"v0": {"name": "a/b"}}' '{"v0": {"name": "sixteen-letters-"}}' '{"v0": {"name": "a%s"}}' '{"v0": {"name": "x"}, "p0": {"name": "x"}}' '{"a b": {}}'; do
		edit '.linux.netDevices = ($b | fromjson)' --arg b "$bad"
		fails 'linux.netDevices' run --bundle "$B" c
	done
	edit '.linux.netDevices = {"v0": {}} | del(.linux.namespaces[] | select(.type == "network"))'
	fails 'linux.netDevices: needs a network namespace' run --bundle "$B" c
	kill "$NETNS"
}

run_test "$@"
