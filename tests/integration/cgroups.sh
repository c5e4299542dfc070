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
	local pid p n
	for pid in $(container_pids); do
		while IFS=: read -r n p controllers; do
			case $controllers in */b | "") ;; *) [ "$p" = cpuset ] || fail "pid $pid: $n:$p:$controllers" ;; esac
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

run_test "$@"
