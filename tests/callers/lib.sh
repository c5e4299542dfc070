# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What the tests of real callers share: podman, containerd, docker and conmon on a machine of their own. Each test runs in
# its own mount, network and cgroup namespace, where /run, /dev/shm, the callers' storage and the cgroup hierarchies are
# private; the processes stay below tests/run's supervisor, which ends whatever a failed test leaves. Images are made
# here, of busybox; nothing comes from outside.
. "$TESTS/lib.sh"

# The callers' names for it all. Their programs, not what else may be in PATH.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=$T LC_ALL=C
unset XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS CONTAINER_HOST DOCKER_HOST NOTIFY_SOCKET

need() {
	local p
	for p; do
		command -v "$p" > /dev/null || fail "$p is not installed: scripts/setup test"
	done
}

# Moves this shell into the test's cgroup in each hierarchy.
enter_cgroups() {
	local h
	for h in /sys/fs/cgroup/*/; do
		mountpoint -q "$h" || continue
		mkdir -p "$h$CGROUP"
		if [ -e "$h/cpuset.cpus" ]; then
			local d=${h%/} part
			for part in ${CGROUP//\// }; do
				cat "$d/cpuset.cpus" > "$d/$part/cpuset.cpus"
				cat "$d/cpuset.mems" > "$d/$part/cpuset.mems"
				d+=/$part
			done
		fi
		echo $$ > "$h$CGROUP/cgroup.procs" || return 1
	done
}

# In the new namespaces: what must be private is replaced.
private_mounts() {
	local dir type options hierarchies
	hierarchies=$(awk '$2 ~ "^/sys/fs/cgroup/" { print $2, $3, $4 }' /proc/mounts)
	mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
	mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
	while read -r dir type options; do
		mkdir "$dir"
		options=$(tr , '\n' <<< "$options" | grep -Evx 'rw|relatime|nosuid|nodev|noexec' | paste -sd,)
		mount -t "$type" ${options:+-o "$options"} cgroup "$dir" || return 1
	done <<< "$hierarchies"
	for dir in /run /dev/shm /var/lib /etc/cni; do
		mkdir -p "$dir"
		mount -t tmpfs -o mode=755 tmpfs "$dir"
	done
	mkdir -p /run/lock /var/lib/containers /etc/cni/net.d
	chmod 1777 /dev/shm
	ip link set lo up
}

# image: $T/image.tar, the root file system of busybox.
image() {
	[ ! -e "$T/image.tar" ] || return 0
	python3 -B "$TESTS/make-bundle" "$T/image" /none true || fail "make-bundle"
	printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n' > "$T/image/rootfs/etc/passwd"
	printf 'root:x:0:\nuser:x:1000:\nextra:x:2000:user\n' > "$T/image/rootfs/etc/group"
	tar -C "$T/image/rootfs" -cf "$T/image.tar" . || fail "tar"
}

# expect TEXT COMMAND...: succeeds and prints exactly this (without the last newline; carriage returns of a terminal dropped).
expect() {
	local text=$1 said status=0
	shift
	said=$(timeout 60 "$@" 2> "$T/err" < /dev/null) || status=$?
	[ "$status" = 0 ] || fail "exit $status: $*: $said $(cat "$T/err")"
	[ "${said//$'\r'/}" = "$text" ] || fail "'$*' says '$said', expected '$text' $(cat "$T/err")"
}

# succeeds COMMAND...: output in $T/out and $T/err, which are files as a container that stays keeps them.
succeeds() {
	local status=0
	timeout 60 "$@" > "$T/out" 2> "$T/err" < /dev/null || status=$?
	[ "$status" = 0 ] || fail "exit $status: $*: $(cat "$T/out" "$T/err")"
}

# ends STATUS PATTERN COMMAND...: ends with this status, and says something that matches the pattern ("": whatever it says).
ends() {
	local wanted=$1 pattern=$2 status=0
	shift 2
	timeout 60 "$@" > "$T/out" 2> "$T/err" < /dev/null || status=$?
	[ "$status" = "$wanted" ] || fail "exit $status, expected $wanted: $*: $(cat "$T/out" "$T/err")"
	[ -z "$pattern" ] || grep -Eiq -- "$pattern" "$T/out" "$T/err" || fail "what '$*' says does not match '$pattern': $(cat "$T/out" "$T/err")"
}

# says PATTERN COMMAND...: whether it prints that (not through a pipe, which may close too early for it).
says() {
	local pattern=$1 said
	shift
	said=$("$@" 2>&1 < /dev/null)
	grep -Eq -- "$pattern" <<< "$said"
}

# containerd has no metrics when the kernel has a cgroup hierarchy that is not mounted here (another mount namespace's).
all_hierarchies_are_mounted() {
	local names
	while IFS=: read -r _ names _; do
		[ -z "$names" ] || grep -q "^cgroup .*[ ,]${names#name=}\b" /proc/mounts || grep -q "^cgroup .*[,=]${names#name=} " /proc/mounts || return 1
	done < /proc/self/cgroup
}

callers_cgroups() {
	find /sys/fs/cgroup -mindepth 2 -depth -type d \( -name conmon -o -name libpod_parent -o -name docker \) "$@"
}

# What the callers keep of cgroups for themselves is removed, as soon as their last process has left it.
callers_cgroups_gone() {
	callers_cgroups -exec rmdir {} + 2> /dev/null
	[ -z "$(callers_cgroups)" ]
}

# Nothing of stasis is left (its caches are called .NAME): its state here, its cgroups and processes by tests/run.
nothing_left() {
	local d
	for d in /run/stasis "$ROOT"; do
		[ -z "$(ls "$d" 2> /dev/null)" ] || fail "left in $d: $(ls "$d")"
	done
	eventually 5 callers_cgroups_gone
}

run_caller_test() {
	if [ -z "${IN_PRIVATE:-${ON_THIS_MACHINE:-}}" ]; then
		declare -F "${1:-}" > /dev/null || { echo "no such test: ${1:-}" >&2; exit 2; }
		[ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ] || skip "not on this machine: cgroup v1 for the callers"
		enter_cgroups || fail "cgroups"
		IN_PRIVATE=1 exec unshare --mount --net --cgroup --propagation private bash "$0" "$@"
	fi
	[ -n "${ON_THIS_MACHINE:-}" ] || private_mounts || fail "mounts"
	local status=0
	("$1" && clean_up && nothing_left) || status=$?
	[ "$status" = 0 ] || clean_up > "$T/cleaned" 2>&1
	exit "$status"
}

# Tests whose caller keeps something running define their own.
clean_up() {
	:
}
