# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Time namespaces: their clocks, joining them, exec.
. "$TESTS/lib.sh"

# offset OUTPUT: the whole seconds by which an uptime differs from the host's (within 5: rounded to tens).
offset() {
	awk -v host="$(cut -d' ' -f1 /proc/uptime)" '{ d = $1 - host; printf "%d\n", (d + (d < 0 ? -5 : 5)) / 10 }' "$1"
}

test_offsets() {
	bundle b
	edit '.linux.namespaces += [{"type": "time"}] | .linux.timeOffsets = {"monotonic": {"secs": 5000}, "boottime": {"secs": 70000, "nanosecs": 5}}'
	start c
	local pid
	pid=$(init_pid c)
	[ "$(tr -s ' ' < "/proc/$pid/timens_offsets" | tr '\n' ' ')" = "monotonic 5000 0 boottime 70000 5 " ] || fail "$(cat "/proc/$pid/timens_offsets")"
	[ "$(readlink "/proc/$pid/ns/time")" != "$(readlink /proc/self/ns/time)" ] || fail "the time namespace is the host's"
	ok exec c cat /proc/uptime
	[ "$(offset "$T/out")" = 7000 ] || fail "exec: $(cat "$T/out")"
	bundle b2
	edit '.linux.namespaces += [{"type": "time", "path": "/proc/\($p)/ns/time"}] | .process.args = ["cat", "/proc/uptime"]' --arg p "$pid"
	ok run --bundle "$B" c2
	[ "$(offset "$T/out")" = 7000 ] || fail "by path: $(cat "$T/out")"
	# the runtime itself has stayed where it was
	edit '.linux.namespaces |= map(select(.type != "time"))'
	ok run --bundle "$B" c2
	[ "$(offset "$T/out")" = 0 ] || fail "without: $(cat "$T/out")"
}

test_without_offsets() {
	bundle b
	edit '.linux.namespaces += [{"type": "time"}] | .process.args = ["readlink", "/proc/self/ns/time"]'
	ok run --bundle "$B" c
	[ "$(cat "$T/out")" != "$(readlink /proc/self/ns/time)" ] || fail "the time namespace is the host's"
}

# With a user namespace: its root owns the clocks, and they must not be before the boot.
test_in_a_user_namespace() {
	bundle b
	edit '.linux.namespaces += [{"type": "time"}, {"type": "user"}] | .linux.timeOffsets = {"boottime": {"secs": 70000}}
		| .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}] | .linux.gidMappings = .linux.uidMappings'
	chmod 755 "$T"
	chown -R 100000:100000 "$B/rootfs"
	start c
	ok exec c cat /proc/uptime
	[ "$(offset "$T/out")" = 7000 ] || fail "$(cat "$T/out")"
	local pid
	pid=$(init_pid c)
	bundle b2
	chown -R 100000:100000 "$B/rootfs"
	edit '.linux.namespaces = [{"type": "user", "path": "/proc/\($p)/ns/user"}, {"type": "time"}, {"type": "mount"}, {"type": "pid"},
		{"type": "uts"}, {"type": "ipc"}, {"type": "network"}] | .linux.timeOffsets = {"boottime": {"secs": 30000}} | .process.args = ["cat", "/proc/uptime"]' --arg p "$pid"
	ok run --bundle "$B" c2
	[ "$(offset "$T/out")" = 3000 ] || fail "joined: $(cat "$T/out")"
}

test_bad_offsets() {
	bundle b
	edit '.linux.namespaces += [{"type": "time"}] | .linux.timeOffsets = {"boottime": {"secs": -99999999}}'
	fails 'set the clocks of the time namespace' run --bundle "$B" c
	expect_nothing_left c
}

run_test "$@"
