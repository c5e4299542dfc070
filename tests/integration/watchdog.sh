# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What makes no progress is reported, with every task's kernel stack, and undone.
. "$TESTS/lib.sh"

container() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
	mkdir -p "$T/work"
}

# reported FILE PHASE: of which phase, and that there are stacks of somebody (as root of the machine they are shown).
reported() {
	grep -q "has made no progress for 1 s in its phase \"$2\"" "$1" || fail "$3: no report: $(cat "$1")"
	grep -q 'process [0-9]* task [0-9]* (.*): state .*, waits in .*, system call' "$1" || fail "$3: no tasks: $(cat "$1")"
}

test_checkpoint_is_undone() {
	local point
	container
	export FAULT
	for point in checkpoint-frozen checkpoint-collected checkpoint-memory checkpoint-manifest; do
		FAULT=$point:hang
		fails 'made no progress for 1 s in its phase .*it was undone, and the container runs on' \
			checkpoint --watchdog 1 --work-path "$T/work" --image-path "$T/i" c
		reported "$T/err" '.*' "$point"
		# The container's own tasks are in it, and the file says the same.
		grep -q '(sh)' "$T/work/watchdog.log" || fail "$point: nothing of the container: $(cat "$T/work/watchdog.log")"
		reported "$T/work/watchdog.log" '.*' "$point"
		[ ! -e "$T/i" ] || fail "$point: an image is left"
		expect_progress
	done
	unset FAULT
	ok checkpoint --watchdog 1 --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" d
	expect_progress
}

test_restore_is_undone() {
	local point
	container
	ok checkpoint --image-path "$T/i" c
	export FAULT
	# Before the container is made the longer allowance counts.
	FAULT=create-mounts:hang
	fails 'made no progress for 1 s in its phase "create": all that it had made is removed' \
		restore -d --watchdog 100 --watchdog-start 1 --work-path "$T/work" --image-path "$T/i" --bundle "$B" d
	reported "$T/work/watchdog.log" create create
	for point in restore-files restore-tree restore-memory; do
		FAULT=$point:hang
		fails 'made no progress for 1 s in its phase "memory": all that it had made is removed' \
			restore -d --watchdog 1 --watchdog-start 100 --work-path "$T/work" --image-path "$T/i" --bundle "$B" d
		reported "$T/err" memory "$point"
		[ ! -e "$ROOT/d" ] || fail "$point: left in the state root"
		no_processes || fail "$point: left processes"
	done
	# What reads the image.
	FAULT=restore-confined:hang
	fails 'has not come to an end for 1 seconds: it was killed' \
		restore -d --watchdog-start 1 --image-path "$T/i" --bundle "$B" d
	[ ! -e "$ROOT/d" ] || fail "left in the state root"
	unset FAULT
	ok restore -d --watchdog 1 --watchdog-start 1 --image-path "$T/i" --bundle "$B" d
	expect_progress
}

# The command itself: nobody is left who could undo it, but nothing runs.
test_restore_that_hangs_itself() {
	container
	ok checkpoint --image-path "$T/i" c
	local status=0
	FAULT=restore-threads:hang timeout 60 "$STASIS" --root "$ROOT" restore -d --watchdog 1 --image-path "$T/i" --bundle "$B" d \
		< /dev/null > "$T/out" 2> "$T/err" || status=$?
	[ "$status" = 137 ] || fail "exit $status: $(cat "$T/err")"
	grep -q 'it was killed' "$T/err" || fail "no message: $(cat "$T/err")"
	no_processes || fail "left processes"
	ok delete -f d
	expect_nothing_left d
	ok restore -d --image-path "$T/i" --bundle "$B" d
}

test_values() {
	container
	fails 'invalid --watchdog "x": seconds' checkpoint --watchdog x --image-path "$T/i" c
	fails 'invalid --watchdog-start "-1"' restore --watchdog-start -1 --image-path "$T/i" --bundle "$B" d
	ok checkpoint --watchdog 0 --image-path "$T/i" c
	ok restore -d --watchdog 0 --watchdog-start 0 --image-path "$T/i" --bundle "$B" d
	expect_progress
}

run_test "$@"
