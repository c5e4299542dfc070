# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What the shell tests share. tests/run calls "bash SCRIPT test_name" with STASIS, T (a folder of the test's own), ROOT,
# CGROUP, TESTS and BUILD set; a script sources this first and ends with: run_test "$@"
set -u -o pipefail

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

skip() {
	echo "$*"
	exit 77
}

# With CGROUP_DRIVER=systemd (tests/run --systemd) every container is made by the systemd driver.
DRIVER=()
[ "${CGROUP_DRIVER:-}" != systemd ] || DRIVER=(--systemd-cgroup)

# cgroup_name NAME: the cgroup of the bundle NAME, from the root of the hierarchies; cgroups_path NAME: how config.json says that.
cgroup_name() {
	local name
	if [ "${CGROUP_DRIVER:-}" = systemd ]; then
		name=${CGROUP##*/}	# of the slice; units are known by name alone
		echo "$CGROUP/${name%.slice}-$1.scope"
	else
		echo "$CGROUP/$1"
	fi
}

cgroups_path() {
	local name
	if [ "${CGROUP_DRIVER:-}" = systemd ]; then
		name=${CGROUP##*/}
		echo "$name:${name%.slice}:$1"
	else
		echo "$CGROUP/$1"
	fi
}

# The command under test. Its output goes to a file, as a detached container keeps what it was given.
stasis() {
	"$STASIS" --root "$ROOT" "${DRIVER[@]}" "$@"
}

# ok COMMAND...: must succeed; its output is in $T/out.
ok() {
	local status=0
	timeout 30 "$STASIS" --root "$ROOT" "${DRIVER[@]}" "$@" > "$T/out" 2> "$T/err" < /dev/null || status=$?
	[ "$status" = 0 ] || fail "exit $status: stasis $*: $(cat "$T/err")"
}

# fails PATTERN COMMAND...: must fail by itself (no signal, no hang) with a message that matches the pattern (ERE, any case).
fails() {
	local pattern=$1 status=0
	shift
	timeout 30 "$STASIS" --root "$ROOT" "${DRIVER[@]}" "$@" > "$T/out" 2> "$T/err" < /dev/null || status=$?
	[ "$status" != 0 ] || fail "succeeds, should fail: stasis $*"
	[ "$status" -lt 124 ] || [ "$status" = 255 ] || fail "exit $status: stasis $*: $(cat "$T/err")"
	[ -s "$T/err" ] || fail "no message: stasis $*"
	grep -Eiq -- "$pattern" "$T/err" || fail "the message of 'stasis $*' does not match '$pattern': $(cat "$T/err")"
}

# bundle NAME [ARG...]: $T/NAME with busybox and config.json for the command (default: sleep 1000); sets B.
bundle() {
	B=$T/$1
	shift
	[ $# -gt 0 ] || set -- sleep 1000
	python3 -B "$TESTS/make-bundle" "$B" "$(cgroups_path "${B##*/}")" "$@" || fail "make-bundle"
}

# edit FILTER [jq options]: changes $B/config.json.
edit() {
	local filter=$1
	shift
	jq "$@" "$filter" "$B/config.json" > "$B/config.new" || fail "jq $filter"
	mv "$B/config.new" "$B/config.json"
}

# start ID: a detached container from $B.
start() {
	ok run -d --bundle "$B" "$1"
}

status() {
	stasis state "$1" < /dev/null 2> "$T/err" | jq -r .status
}

init_pid() {
	stasis state "$1" < /dev/null | jq -r .pid
}

expect_status() {
	local i s=""
	for ((i = 0; i < 500; i++)); do
		s=$(status "$1")
		[ "$s" != "$2" ] || return 0
		sleep 0.01
	done
	fail "$1 is '$s', expected '$2' $(cat "$T/err" "${B:-$T}"/rootfs/cr/result.* 2> /dev/null)"
}

# eventually SECONDS COMMAND...
eventually() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "timed out: $*"
		sleep 0.01
	done
}

# A counter in the container that shows that it lives: /cr/count is rewritten every 10 ms. It keeps its name and
# what it has, so that an image in which it is open can be restored as often as one likes.
# shellcheck disable=SC2016,SC2034
COUNTER='i=0; while :; do i=$((i+1)); printf "%8d\n" $i 1<> /cr/count; usleep 10000; done'

count() {
	local n
	n=$(cat "$B/rootfs/cr/count" 2> /dev/null) # it has none yet when it is made
	echo "${n:-0}"
}

counted_beyond() {
	[ "$(count)" -gt "$1" ]
}

expect_progress() {
	eventually 5 counted_beyond "$(count)"
}

# let_check N: a program of tests/cr in $B does its checks of round N. It polls, and must not see a file that is still empty.
let_check() {
	echo go > "$B/rootfs/cr/.go" && mv "$B/rootfs/cr/.go" "$B/rootfs/cr/go.$1"
	eventually 20 test -s "$B/rootfs/cr/result.$1"
	[ "$(cat "$B/rootfs/cr/result.$1")" = PASS ] || fail "$(cat "$B/rootfs/cr/result.$1")"
}

pure_v2() {
	[ -e /sys/fs/cgroup/cgroup.controllers ]
}

# cgroup_dir CONTROLLER [ID]: the directory of the container's cgroup in that hierarchy; on a machine without it, in v2's.
cgroup_dir() {
	local path mount
	if pure_v2; then
		echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(init_pid "${2:-c}")/cgroup")"
		return
	fi
	path=$(awk -F: -v c="$1" '{ n = split($2, a, ","); for (i = 1; i <= n; i++) if (a[i] == c) print $3 }' "/proc/$(init_pid "${2:-c}")/cgroup")
	mount=$(awk -v c="$1" '$0 ~ " - cgroup " && $0 ~ ("[ ,]" c "(,|$)") { print $5; exit }' /proc/self/mountinfo)
	[ -n "$mount" ] && [ -n "$path" ] || skip "not on this machine: a $1 hierarchy"
	echo "$mount$path"
}

# expect_limit CONTROLLER V1-FILE VALUE V2-FILE VALUE: what the container's cgroup says.
expect_limit() {
	local dir file=$2 expected=$3 value
	dir=$(cgroup_dir "$1") || skip "$dir"
	if pure_v2; then
		file=$4 expected=$5
	fi
	value=$(cat "$dir/$file") || fail "no $file"
	[ "$value" = "$expected" ] || fail "$file is $value, not $expected"
}

# The processes of the container in $B, by its cgroups; without a bundle there are none.
container_pids() {
	local d path
	[ -n "${B:-}" ] || return 0
	path=$(cgroup_name "${B##*/}")
	for d in /sys/fs/cgroup/*/"$path" /sys/fs/cgroup/"$path" \
		/sys/fs/cgroup/memory"$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)/$path"; do
		[ -e "$d/cgroup.procs" ] && cat "$d/cgroup.procs"
	done 2> /dev/null | sort -un
}

no_processes() {
	[ -z "$(container_pids)" ]
}

# No process of the container in $B, no state of the id, no cgroup is left.
expect_nothing_left() {
	eventually 5 no_processes
	[ ! -e "$ROOT/$1" ] || fail "left in the state root: $(ls -R "$ROOT/$1")"
	! grep -q " $T/" /proc/self/mountinfo || fail "left mounted: $(grep " $T/" /proc/self/mountinfo)"
	[ -z "${B:-}" ] || ! ls -d /sys/fs/cgroup/*/"$(cgroup_name "${B##*/}")" /sys/fs/cgroup/"$(cgroup_name "${B##*/}")" 2> /dev/null || fail "cgroups are left"
}

remove_all() {
	local d
	for d in "$ROOT"/*/; do
		[ -d "$d" ] && [ "$(basename "$d")" != "@sandboxes" ] || continue
		timeout 20 "$STASIS" --root "$ROOT" delete -f "$(basename "$d")" < /dev/null || echo "delete -f failed"
	done
}

run_test() {
	local status=0
	declare -F "${1:-}" > /dev/null || {
		echo "no such test: ${1:-}" >&2
		exit 2
	}
	("$1") || status=$?
	remove_all
	exit "$status"
}
