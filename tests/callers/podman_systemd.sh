# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# podman as Debian installs it: cgroups of version 2 by systemd (--systemd-cgroup), overlay storage. Only in the virtual machine
# (make test-guest), which is ours alone: nothing is private here, so names and clean_up are of one container.
# time limit: 300
. "$TESTS/lib.sh"
[ -d /run/systemd/system ] && grep -q ' /stasis ' /proc/mounts || skip "not on this machine: podman with systemd, in the guest"
# shellcheck disable=SC2034
ON_THIS_MACHINE=1
. "$TESTS/callers/podman-lib.sh"

name=${1:-}

# started OPTION... COMMAND...
started() {
	sed -i 's/cgroupfs/systemd/' "$CONTAINERS_CONF"
	exec 8> /run/podman-image
	flock 8
	podman image exists bb || podman_image
	exec 8>&-
	succeeds podman run -d --name "$name" "$@"
	scope=libpod-$(podman inspect --format '{{.Id}}' "$name").scope
	cgroup=/sys/fs/cgroup$(systemctl show -P ControlGroup "$scope")
}

has() {
	[ "$(cat "$cgroup/$1")" = "$2" ] || fail "$1 is $(cat "$cgroup/$1"), expected $2"
}

test_scope() {
	started --systemd=always --memory 64m --pids-limit 33 --cpus 0.5 bb sleep 1000
	expect 'active machine.slice' echo "$(systemctl show -P ActiveState "$scope") $(systemctl show -P Slice "$scope")"
	has memory.max 67108864
	has pids.max 33
	has cpu.max '50000 100000'
	has cgroup.procs "$(podman inspect --format '{{.State.Pid}}' "$name")"
	expect '0::/ below' podman exec "$name" sh -c 'mkdir /sys/fs/cgroup/below && rmdir /sys/fs/cgroup/below && echo $(cat /proc/self/cgroup) below'
	succeeds podman update --memory 96m --cpus 0.25 "$name"
	# They are systemd's settings, too: a reload keeps them.
	succeeds systemctl daemon-reload
	has memory.max 100663296
	has cpu.max '25000 100000'
	succeeds podman pause "$name"
	grep -qx 'frozen 1' "$cgroup/cgroup.events" || fail "not frozen"
	succeeds podman unpause "$name"
	expect "$name 1" podman stats --no-stream --format '{{.Name}} {{.PIDs}}' "$name"
	ends 1 'not permitted' podman run --rm --device /dev/loop-control:/dev/named:r bb sh -c ': < /dev/named && : > /dev/named'
	succeeds podman rm -f -t 0 "$name"
	expect inactive systemctl show -P ActiveState "$scope"
}

counted_beyond() {
	[ "$(podman logs "$name" | tail -1 | grep -x '[0-9]*' || echo 0)" -gt "$1" ]
}

test_checkpoint() {
	started --memory 64m bb sh -c 'i=0; while :; do i=$((i+1)); echo $i; usleep 20000; done'
	eventually 60 counted_beyond 3
	local n
	succeeds podman container checkpoint "$name"
	n=$(podman logs "$name" | tail -1)
	succeeds podman container restore "$name"
	eventually 60 counted_beyond "$n"
	[ "$(podman logs "$name" | grep -cx 1)" = 1 ] || fail "it began anew"
	has memory.max 67108864
	expect here podman exec "$name" echo here
}

clean_up() {
	podman rm -f -t 0 "$name" > "$T/rm" 2>&1
	true
}

run_caller_test "$@"
