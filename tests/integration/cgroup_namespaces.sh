# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# A cgroup namespace whose root is a sub-cgroup of the container's, as container engines make them: its processes see the same
# afterwards.
. "$TESTS/lib.sh"

# A process that goes to the sub-cgroup "a" (of one hierarchy, if there are several), makes a namespace there, and goes on to one below.
setup() {
	cat > "$B/rootfs/setup" << 'END_OF_SETUP'
d=/sys/fs/cgroup
[ -e $d/cgroup.procs ] || d=$d/pids
mkdir -p $d/a/$1
echo $$ > $d/a/cgroup.procs
exec /usr/bin/unshare -C /bin/busybox sh -c "echo \$\$ > $d/a/$1/cgroup.procs; exec /bin/busybox sleep $1"
END_OF_SETUP
	mkdir "$B/rootfs/usr"
	ln -s usr/lib "$B/rootfs/lib"
	ln -s usr/lib64 "$B/rootfs/lib64"
	edit '.mounts |= map(select(.type != "cgroup")) + [{destination: "/sys/fs/cgroup", type: "cgroup", source: "cgroup", options: ["rw"]},
			{destination: "/usr", type: "bind", source: "/usr", options: ["rbind", "ro"]}]
		| .process.capabilities |= map_values(. + ["CAP_SYS_ADMIN"])'
}

# What such a one sees of its own cgroup, and of init's.
view() {
	local init p
	init=$(init_pid c)
	for p in $(< "/proc/$init/task/$init/children"); do
		case $(tr '\0' ' ' < "/proc/$p/cmdline") in
		*"sleep 100"*) nsenter -t "$p" -C cat "/proc/$p/cgroup" "/proc/$init/cgroup" ;;
		esac
	done 2> "$T/gone" | sort
}

in_place() {
	view > "$T/before"
	[ "$(grep -c ':/100[12]$' "$T/before")" = 2 ] && [ "$(grep -c ':/\.\.$' "$T/before")" = 2 ]
}

test_sub_cgroup() {
	local way
	bundle b sh -c "sh /setup 1001 & sh /setup 1002 & $COUNTER"
	setup
	start c
	expect_progress
	(eventually 10 in_place) || fail "$(cat "$T/before" "$T/err")"
	for way in i k; do
		ok checkpoint --image-path "$T/$way" c
		ok restore -d --image-path "$T/$way" --bundle "$B" c
		expect_progress
		view > "$T/after"
		diff "$T/before" "$T/after" || fail "others are seen"
	done
	ok checkpoint --image-path "$T/n" c
	fails 'sub-cgroup /a for its root' restore -d --manage-cgroups-mode ignore --image-path "$T/n" --bundle "$B" c
	expect_nothing_left c
}

run_test "$@"
