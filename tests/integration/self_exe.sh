# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# The runtime's program is out of the containers' reach (docs/adr/0013, CVE-2019-5736).
. "$TESTS/lib.sh"

# Opened with O_TRUNC through a process that still runs it: without the read-only mount this is ETXTBSY, which a container
# only has to wait out.
expect_read_only() {
	local message
	message=$( (: > "/proc/$1/exe") 2>&1) && fail "the runtime's program can be opened for writing"
	[[ $message == *"Read-only file system"* ]] || fail "$message"
}

test_waiting_init() {
	bundle b
	ok create --bundle "$B" c
	expect_read_only "$(init_pid c)"
	ok start c
}

# The program of the container is the runtime itself, by its link in /proc.
test_program_is_the_runtime() {
	# The sanitizers' build is dynamic: the bundle has no interpreter for it. The static one is tested.
	if readelf -l "$STASIS" | grep -q INTERP; then return 0; fi
	bundle b /proc/self/exe --root /nowhere list -q
	ok run --bundle "$B" c
	# It goes on being read-only when it is executed inside.
	bundle b /proc/self/exe run c
	fails . run --bundle "$B" c
	bundle b sh -c 'sleep 0.5; exec /proc/self/exe true'
	start c
}

test_restored_init() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	# afterwards it is the container's own program again
	[ "$(stat -Lc %i "/proc/$(init_pid c)/exe")" != "$(stat -Lc %i "$STASIS")" ] || fail "init is still the runtime"
}

run_test "$@"
