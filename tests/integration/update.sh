# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# update changes the limits of a running container, all of them or none; events tells what it uses.
. "$TESTS/lib.sh"

test_options() {
	bundle b
	start c
	ok update --memory 64m --memory-swap 128M --pids-limit 17 --cpu-share 512 --cpu-period 100000 --cpu-quota 50000 c
	expect_limit memory memory.limit_in_bytes 67108864 memory.max 67108864
	expect_limit memory memory.memsw.limit_in_bytes 134217728 memory.swap.max 67108864
	expect_limit pids pids.max 17 pids.max 17
	expect_limit cpu cpu.shares 512 cpu.weight 59
	expect_limit cpu cpu.cfs_quota_us 50000 cpu.max "50000 100000"
	ok update -m 1.5g --memory-swap=-1 --pids-limit -1 c
	expect_limit memory memory.limit_in_bytes 1610612736 memory.max 1610612736
	expect_limit pids pids.max max pids.max max
	expect_limit cpu cpu.shares 512 cpu.weight 59
	expect_status c running
	ok delete -f c
	expect_nothing_left c
}

test_document() {
	bundle b
	start c
	echo '{"pids": {"limit": 21}, "memory": {"limit": 33554432}}' > "$T/resources"
	ok update --resources="$T/resources" c
	expect_limit pids pids.max 21 pids.max 21
	expect_limit memory memory.limit_in_bytes 33554432 memory.max 33554432
	echo '{"pids": {"limit": 22}}' | stasis update -r - c || fail "from stdin"
	expect_limit pids pids.max 22 pids.max 22
	expect_limit memory memory.limit_in_bytes 33554432 memory.max 33554432
}

test_all_or_nothing() {
	bundle b
	edit '.linux.resources += {"memory": {"limit": 67108864}, "pids": {"limit": 17}, "cpu": {"shares": 512, "quota": 50000, "period": 100000}}'
	start c
	# The kernel takes no quota below 1 ms; by then memory and shares have been written.
	fails '(cfs_quota|cpu.max).*invalid' update --memory 128m --cpu-share 100 --cpu-quota 5 --pids-limit 3 c
	expect_limit memory memory.limit_in_bytes 67108864 memory.max 67108864
	expect_limit cpu cpu.shares 512 cpu.weight 59
	expect_limit cpu cpu.cfs_quota_us 50000 cpu.max "50000 100000"
	expect_limit pids pids.max 17 pids.max 17
	expect_status c running
}

test_bad_values() {
	bundle b
	start c
	fails 'RDT' update --l3-cache-schema 'L3:0=f' c
	fails 'RDT' update --mem-bw-schema 'MB:0=50' c
	ok update --kernel-memory 1g --kernel-memory-tcp 1g c
	ok update c # as runc: nothing to do
	fails 'invalid value .1x.' update --memory 1x c
	fails 'invalid value .-5.' update --memory -5 c
	fails 'invalid value .0x10.' update --memory 0x10 c
	fails 'invalid value' update --pids-limit 99999999999999999999 c
	fails 'no such file' update --resources "$T/nowhere" c
	echo '{"pids": {"limit": "x"}}' > "$T/resources"
	fails 'pids.limit: must be an integer' update --resources "$T/resources" c
	printf '{"pids":\n {' > "$T/resources"
	fails 'line 2' update --resources "$T/resources" c
	fails 'does not exist' update --memory 1g nobody
	stasis kill c KILL
	expect_status c stopped
	fails 'container not running' update --memory 1g c
	fails 'container not running' events --stats c
}

test_stats() {
	bundle b sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo > /cr/done; sleep 1000'
	edit '.linux.resources += {"memory": {"limit": 67108864}, "pids": {"limit": 17}}'
	start c
	eventually 5 test -e "$B/rootfs/cr/done"
	ok events --stats c
	jq -e '.type == "stats" and .id == "c" and .data.cpu.usage.total > 1000000 and .data.memory.usage.limit == 67108864
		and .data.memory.usage.usage > 0 and (.data.memory.raw | length) > 5 and .data.pids.limit == 17
		and .data.pids.current >= 1' "$T/out" > "$T/jq" || fail "$(cat "$T/out")"
	if jq -e '.linux.namespaces[] | select(.type == "network")' "$B/config.json" > "$T/jq"; then
		jq -e '.data.network_interfaces[] | select(.Name == "lo") | .RxBytes == 0' "$T/out" > "$T/jq" || fail "$(cat "$T/out")"
	fi
}

test_events_until_the_end() {
	bundle b
	edit '.linux.resources += {"memory": {"limit": 33554432, "swap": 33554432}}'
	start c
	fails 'invalid interval' events --interval 5 c
	fails 'invalid interval' events --interval 0s c
	timeout 20 "$STASIS" --root "$ROOT" events --interval 50ms c > "$T/events" 2> "$T/err" < /dev/null &
	local pid=$!
	eventually 5 grep -q '"type":"stats"' "$T/events"
	ok kill c KILL
	wait "$pid" || fail "events ends with status $?: $(cat "$T/err")"
	! grep -qv '^{"type":"[a-z]*","id":"c"' "$T/events" || fail "$(cat "$T/events")"
}

asked_until_oom() {
	stasis kill c USR1
	sleep 0.05
	grep -q '^{"type":"oom","id":"c"}$' "$T/events"
}

test_oom_event() {
	bundle b sh -c 'trap : USR1; echo > /cr/ready; while :; do sleep 1000 & wait $!; dd if=/dev/zero of=/dev/null bs=200M count=1; done'
	edit '.linux.resources += {"memory": {"limit": 33554432, "swap": 33554432}}'
	start c
	timeout 20 "$STASIS" --root "$ROOT" events --interval 10ms c > "$T/events" 2> "$T/err" < /dev/null &
	local pid=$!
	eventually 5 grep -q '"type":"stats"' "$T/events"
	eventually 5 test -e "$B/rootfs/cr/ready"
	# Again and again: a signal that comes just before the shell waits would be lost.
	eventually 10 asked_until_oom
	# It may have been the shell that was killed.
	stasis kill c KILL 2> "$T/killed" || expect_status c stopped
	wait "$pid" || fail "events ends with status $?: $(cat "$T/err")"
}

# The page cache of a large file, read again and again below a small limit; on v2 memory above memory.high, which is waited for.
test_memory_pressure() {
	bundle b sh -c 'dd if=/dev/zero of=/tmp/large bs=1M count=96; while :; do cat /tmp/large > /dev/null; done'
	edit '.linux.resources += {"memory": {"limit": 33554432, "swap": 33554432}}'
	if pure_v2; then
		edit '.process.args = ["sh", "-c", "while :; do dd if=/dev/zero of=/dev/null bs=24M count=1; done"] | .linux.resources.unified = {"memory.high": "8388608"}'
	fi
	start c
	fails 'invalid memory pressure' events --memory-pressure huge c
	timeout 60 "$STASIS" --root "$ROOT" events --interval 1h --memory-pressure low c > "$T/events" 2> "$T/err" < /dev/null &
	local pid=$!
	eventually 40 grep -q '^{"type":"memory-pressure","id":"c","data":{"level":"low"}}$' "$T/events"
	ok kill c KILL
	wait "$pid" || fail "events ends with status $?: $(cat "$T/err")"
}

run_test "$@"
