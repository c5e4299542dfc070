# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The same life on machines with v1 only, v2 only, both, and no cgroups at all: each made in a private mount namespace.
. "$TESTS/lib.sh"

# in_mode SCRIPT FUNCTION: runs a function of this script with other mounts on /sys/fs/cgroup.
in_mode() {
	# shellcheck disable=SC2163
	export -f "$2" cgroups_path cgroup_name pure_v2 whole_life mode_bundle status expect_status init_pid stasis ok fails fail skip edit count counted_beyond expect_progress eventually
	export B T ROOT STASIS CGROUP TESTS COUNTER
	unshare --mount --propagation private bash -c "set -u -o pipefail; $1; $2" 2> "$T/mode.err" || {
		local status=$?
		[ "$status" != 77 ] || skip "$(tail -n 1 "$T/mode.err")"
		fail "$(cat "$T/mode.err")"
	}
}

mode_bundle() {
	B=$T/b
	python3 -B "$TESTS/make-bundle" "$B" "$(cgroups_path b)" sh -c "$COUNTER" || fail "make-bundle"
}

# run, pause, resume, checkpoint, restore, kill, delete.
whole_life() {
	mode_bundle
	ok run -d --bundle "$B" c
	expect_progress
	ok pause c
	expect_status c paused
	local before
	before=$(count)
	sleep 0.1
	[ "$(count)" = "$before" ] || fail "a paused container goes on"
	ok resume c
	expect_progress
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	ok kill --all c KILL
	expect_status c stopped
	ok delete c
}

v2_life() {
	whole_life
	ok run -d --bundle "$B" c
	grep -q "^0::.*$CGROUP/b\$" "/proc/$(init_pid c)/cgroup" || fail "not in its v2 cgroup: $(cat "/proc/$(init_pid c)/cgroup")"
	ok delete -f c
}

test_v2() {
	in_mode 'umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 77' v2_life
	! ls -d /sys/fs/cgroup/*"$CGROUP" 2> /dev/null || fail "cgroups are left"
}

test_v1() {
	[ -e /sys/fs/cgroup/freezer ] || skip "not on this machine: v1 hierarchies"
	in_mode 'umount -l /sys/fs/cgroup/unified 2> /dev/null || true' whole_life
}

# v1 hierarchies of which some are not mounted.
test_few_hierarchies() {
	[ -e /sys/fs/cgroup/freezer ] || skip "not on this machine: v1 hierarchies"
	in_mode 'for h in cpu cpuacct blkio systemd unified pids; do umount -l /sys/fs/cgroup/$h; done' whole_life
}

# Controllers that this machine has and uses nowhere. The hierarchies end with their mounts and cgroups.
rare_controllers() {
	mode_bundle
	edit '.linux.resources += {"network": {"classID": 1048577, "priorities": [{"name": "lo", "priority": 5}]}}'
	ok run -d --bundle "$B" c
	local d
	d=$(sed -n 's/^[0-9]*:net_cls,net_prio://p' "/proc/$(init_pid c)/cgroup")
	[ "$(cat "$T/net$d/net_cls.classid")" = 1048577 ] || fail "classid"
	grep -qx 'lo 5' "$T/net$d/net_prio.ifpriomap" || fail "ifpriomap: $(cat "$T/net$d/net_prio.ifpriomap")"
	# Half of an update does not stay.
	echo '{"network": {"classID": 7}, "rdma": {"mlx5_0": {"hcaHandles": 1}}}' > "$T/resources"
	fails 'linux.resources.rdma: this machine has no rdma cgroup hierarchy' update -r "$T/resources" c
	[ "$(cat "$T/net$d/net_cls.classid")" = 1048577 ] || fail "not put back"
	ok kill c KILL
	expect_status c stopped
	ok delete c
	[ -z "$(find "$T/net" -mindepth 1 -type d)" ] || fail "left: $(find "$T/net" -mindepth 1 -type d)"
}

test_rare_controllers() {
	[ -e /sys/fs/cgroup/freezer ] || skip "not on this machine: v1 hierarchies"
	mkdir "$T/net"
	in_mode 'mount -t cgroup -o net_cls,net_prio x $T/net || { echo "not on this machine: unused controllers" >&2; exit 77; }' \
		rare_controllers
	eventually 10 rare_hierarchy_is_gone
}

# With groups in it that are just dying it outlives its last mount, and changes what other tests see: one more mount and its
# end take it away.
rare_hierarchy_is_gone() {
	unshare --mount --propagation private sh -c "mount -t cgroup -o net_cls,net_prio x '$T/net' && umount '$T/net'"
	sleep 0.1
	! grep -q net_cls /proc/self/cgroup
}

# Without cgroups there is no pause and no checkpoint; all else works, and the message says what is missing.
no_cgroups() {
	mode_bundle
	fails 'no cgroup filesystem is mounted' run -d --bundle "$B" c
	[ -z "$(ls -A "$ROOT")" ] || fail "left: $(ls -A "$ROOT")"
	ok --cgroup-manager disabled run -d --bundle "$B" c
	expect_progress
	fails 'cgroup' pause c
	ok checkpoint --leave-running --image-path "$T/i" c
	expect_progress
	ok checkpoint --image-path "$T/i" c
	ok --cgroup-manager disabled restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	ok kill c KILL
	expect_status c stopped
	ok delete c
}

test_none() {
	in_mode 'umount -l /sys/fs/cgroup' no_cgroups
}

run_test "$@"
