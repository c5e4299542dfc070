# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Limits by cgroups, where they are made, and that nothing is left of them.
. "$TESTS/lib.sh"

test_limits() {
	bundle b
	edit '.linux.resources += {"memory": {"limit": 67108864}, "pids": {"limit": 17}, "cpu": {"shares": 512, "quota": 50000, "period": 100000}}'
	start c
	expect_limit memory memory.limit_in_bytes 67108864 memory.max 67108864
	expect_limit pids pids.max 17 pids.max 17
	expect_limit cpu cpu.shares 512 cpu.weight 59
	expect_limit cpu cpu.cfs_quota_us 50000 cpu.max "50000 100000"
	ok delete -f c
	expect_nothing_left c
}

test_pids_limit_is_in_force() {
	bundle b sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; echo done > /cr/done; wait'
	edit '.linux.resources.pids.limit = 5'
	start c
	sleep 0.3
	[ "$(container_pids | wc -l)" -le 5 ] || fail "$(container_pids | wc -l) processes"
}

# The processes that make a container are not counted against it.
test_limit_of_one_process() {
	local users own=(. '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 0, "size": 65536}] | .linux.gidMappings = .linux.uidMappings')
	bundle b sleep 1000
	edit '.linux.resources.pids.limit = 1'
	for users in "${own[@]}"; do
		edit "$users"
		start c
		expect_limit pids pids.max 1 pids.max 1
		[ "$(container_pids)" = "$(init_pid c)" ] || fail "$users: in the cgroup: $(container_pids)"
		ok checkpoint --image-path "$T/i" c
		ok restore -d --image-path "$T/i" --bundle "$B" c
		[ "$(container_pids)" = "$(init_pid c)" ] || fail "$users: after the restore: $(container_pids)"
		rm -r "$T/i"
		ok delete -f c
		expect_nothing_left c
	done
}

test_memory_limit_is_in_force() {
	bundle b sh -c 'dd if=/dev/zero of=/dev/null bs=200M count=1; echo survived'
	edit '.linux.resources.memory.limit = 33554432 | .linux.resources.memory.swap = 33554432'
	if stasis run --bundle "$B" c < /dev/null > "$T/out" 2>&1 && grep -q survived "$T/out"; then
		! grep -q 'records out' "$T/out" || fail "200 MB fit into 32 MB"
	fi
}

test_devices_are_denied() {
	bundle b sh -c 'mknod /tmp/mem c 1 1 2>&1; cat /tmp/mem > /dev/null 2>&1 && echo open; mknod /tmp/kmsg c 1 11; head -c1 /tmp/kmsg > /dev/null 2>&1 && echo open; true'
	edit '.process.capabilities |= map_values(. + ["CAP_SYS_RAWIO"])'
	ok run --bundle "$B" c
	! grep -q open "$T/out" || fail "a device that was not allowed can be opened"
}

test_limits_after_a_restore() {
	bundle b
	edit '.linux.resources += {"memory": {"limit": 67108864}, "pids": {"limit": 17}}'
	start c
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_limit memory memory.limit_in_bytes 67108864 memory.max 67108864
	expect_limit pids pids.max 17 pids.max 17
	grep -qx "$(init_pid c)" <(container_pids) || fail "the restored process is not in the cgroup"
	ok delete -f c
	expect_nothing_left c
}

test_every_process_is_in_every_hierarchy() {
	bundle b sh -c 'sleep 1001 & sleep 1002 & wait'
	start c
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	local pid p n name
	name=$(cgroup_name b)
	name=${name##*/}
	for pid in $(container_pids); do
		while IFS=: read -r n p controllers; do
			case $controllers in */b | */"$name" | "") ;; *) [ "$p" = cpuset ] || ! grep -qE " - cgroup .*[ ,]$p(,|\$)" /proc/self/mountinfo || fail "pid $pid: $n:$p:$controllers" ;; esac
		done < "/proc/$pid/cgroup"
	done
	[ "$(container_pids | wc -l)" = 3 ] || fail "$(container_pids | wc -l) processes"
}

test_foreign_processes_in_the_cgroup() {
	bundle b
	start c
	sleep 1000 &
	local pid=$!
	echo "$pid" > "$(cgroup_dir freezer)/cgroup.procs"
	# A process that is not of the container's pid namespace: refused, not killed, not lost.
	fails '.' checkpoint --image-path "$T/i" c
	kill -0 "$pid" || fail "the foreign process was killed"
	[ ! -e "$T/i/manifest.json" ] || fail "an image was made"
	expect_status c running
	kill "$pid"
}

# What of config.json only has a file on v2, or another one.
test_v2_resources() {
	pure_v2 || skip "not on this machine: cgroups of version 2 only"
	local disk
	disk=$(cat "/sys/class/block/$(basename "$(findmnt -no SOURCE /)")/dev")
	bundle b
	edit '.linux.resources += {"memory": {"limit": 67108864, "reservation": 33554432, "swap": -1},
		"cpu": {"shares": 2048, "quota": 40000, "period": 200000, "burst": 10000, "cpus": "0", "mems": "0"},
		"pids": {"limit": -1}, "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
		"blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": $major, "minor": $minor, "rate": 1048576}],
			"throttleWriteIOPSDevice": [{"major": $major, "minor": $minor, "rate": 100}]},
		"unified": {"memory.high": "60000000", "memory.oom.group": "1"}}' --argjson major "${disk%:*}" --argjson minor "${disk#*:}"
	start c
	expect_limit - - - memory.low 33554432
	expect_limit - - - memory.swap.max max
	expect_limit - - - cpu.weight 174
	expect_limit - - - cpu.max "40000 200000"
	expect_limit - - - cpu.max.burst 10000
	expect_limit - - - cpuset.mems 0
	expect_limit - - - pids.max max
	expect_limit - - - hugetlb.2MB.max 4194304
	expect_limit - - - io.max "$disk rbps=1048576 wbps=max riops=max wiops=100"
	expect_limit - - - memory.high 59998208
	expect_limit - - - memory.oom.group 1
	grep -qE '^default (4950|500)$' "$(cgroup_dir io)"/io*weight || fail "io weight: $(cat "$(cgroup_dir io)"/io*weight)"
	# Each part that is written before one that fails is put back.
	echo '{"cpu": {"shares": 100, "cpus": "1", "quota": 30000}, "memory": {"limit": 33554432}, "pids": {"limit": 5},
		"hugepageLimits": [{"pageSize": "2MB", "limit": 2097152}],
		"blockIO": {"throttleReadBpsDevice": [{"major": '"${disk%:*}"', "minor": '"${disk#*:}"', "rate": 5}]},
		"unified": {"memory.high": "1000000", "memory.oom.group": "x"}}' > "$T/resources"
	fails 'memory.oom.group' update -r "$T/resources" c
	expect_limit - - - cpu.weight 174
	expect_limit - - - cpuset.cpus 0
	expect_limit - - - cpu.max "40000 200000"
	expect_limit - - - memory.max 67108864
	expect_limit - - - pids.max max
	expect_limit - - - hugetlb.2MB.max 4194304
	expect_limit - - - io.max "$disk rbps=1048576 wbps=max riops=max wiops=100"
	expect_limit - - - memory.high 59998208
	echo '{"memory": {"limit": 4096, "checkBeforeUpdate": true}}' | stasis update -r - c 2> "$T/err" && fail "less than is in use"
	grep -q checkBeforeUpdate "$T/err" || fail "$(cat "$T/err")"
	expect_status c running
	fails 'network: classID and priorities need the net_cls' update -r <(echo '{"network": {"classID": 7}}') c
	fails 'rdma.max' update -r <(echo '{"rdma": {"nosuch_0": {"hcaHandles": 7}}}') c
	fails 'nosuch.max.*the nosuch controller is not enabled here' update -r <(echo '{"unified": {"nosuch.max": "7"}}') c
	fails "nosuch.*this kernel's memory controller lacks it" update -r <(echo '{"unified": {"memory.nosuch": "7"}}') c
	ok delete -f c
	expect_nothing_left c
}

# The device rules of a running container are the ones it was made with, whatever systemd or update write.
test_devices_after_an_update() {
	bundle b
	edit '.linux.resources.devices += [{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}]'
	start c
	ok exec c mknod /tmp/fuse c 10 229
	ok exec c mknod /tmp/mem c 1 1
	for _ in 1 2; do
		ok exec c dd if=/tmp/fuse of=/dev/null count=0
		fails 'not permitted' exec c dd if=/tmp/mem of=/dev/null count=0
		ok update --pids-limit 50 c
	done
	[ ! -e /run/systemd/system ] || systemctl daemon-reload
	fails 'not permitted' exec c dd if=/tmp/mem of=/dev/null count=0
}

# Processes that are born while the others are killed, in sub-cgroups, some of them frozen: with a pid namespace, which
# ends when they have, and without.
test_delete_of_a_busy_one() {
	delete_busy '.'
}

test_delete_of_a_busy_one_without_pid_namespace() {
	delete_busy '.linux.namespaces |= map(select(.type != "pid"))'
}

delete_busy() {
	bundle b sh -c 'i=0; while [ $i -lt 2 ]; do (while :; do sh -c "sleep 0.05; exit" & sleep 0.01; done) & i=$((i+1)); done; wait'
	edit '.linux.resources.pids.limit = 60'
	edit "$1"
	start c
	local dir pid sub n=0
	dir=$(cgroup_dir freezer)
	for sub in a a/b a/b/c d; do
		mkdir "$dir/$sub"
	done
	sleep 0.2
	while read -r pid; do
		n=$((n + 1))
		[ "$pid" = "$(init_pid c)" ] || echo "$pid" > "$dir/$([ $((n % 2)) = 0 ] && echo a/b/c || echo d)/cgroup.procs" 2> "$T/gone"
	done < <(cat "$dir/cgroup.procs")
	sleep 0.1
	if pure_v2; then echo 1 > "$dir/d/cgroup.freeze"; else echo FROZEN > "$dir/d/freezer.state"; fi
	ok delete -f c
	expect_nothing_left c
	[ ! -e "$dir" ] || fail "the cgroup is left"
}

test_pause_of_a_created_one() {
	bundle b
	ok create --bundle "$B" c
	ok pause c
	expect_status c paused
	ok resume c
	expect_status c created
	ok start c
	expect_status c running
	ok delete -f c
}

run_test "$@"
