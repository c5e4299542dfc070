# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What checkpoint and restore say of themselves: --print-stats and --progress.
# time limit: 120
. "$TESTS/lib.sh"

# A container with 24 MiB in a file of its /dev/shm, beside its counter.
large() {
	bundle b sh -c "head -c 25165824 /dev/urandom > /dev/shm/data; $COUNTER"
	start c
	expect_progress
}

# has FILE EXPRESSION: is it one JSON object for which that holds?
has() {
	jq -s -e "length == 1 and (.[0] | $2)" "$1" > "$T/jq" || fail "$2: $(cat "$1")"
}

CHECKPOINTED='.total_us > 0 and .frozen_us > 0 and .frozen_us <= .total_us and
	([.preflight_us, .freeze_us, .collect_us, .files_us, .memory_us, .image_us, .commit_us, .end_us] | all(. >= 0) and add <= $total) and
	.processes >= 1 and .threads >= .processes and .files > 0 and .pages_data >= 6144 and .pages_zero >= 0 and
	.pages_shared >= 0 and .pages_parent == 0 and .bytes >= .pages_data * 4096'
RESTORED='([.open_us, .create_us, .memory_us, .resume_us] | all(. > 0) and add <= $total) and .processes >= 1 and
	.pages_data >= 6144 and (has("frozen_us") | not)'

test_print_stats() {
	large
	ok checkpoint --print-stats --leave-running --image-path "$T/i" c
	has "$T/out" ".total_us as \$total | $CHECKPOINTED and .end_us == 0"
	ok checkpoint --print-stats --image-path "$T/i" c
	has "$T/out" ".total_us as \$total | $CHECKPOINTED and .end_us > 0"
	cp "$T/out" "$T/checkpoint"
	has "$T/i/manifest.json" ".statistics.pages_data == $(jq .pages_data "$T/out") and .statistics.pages_shared == $(jq .pages_shared "$T/out") and
		.statistics.files_us == $(jq .files_us "$T/out") and .statistics.frozen_us == $(jq .frozen_us "$T/out")"
	ok restore -d --print-stats --image-path "$T/i" --bundle "$B" c
	has "$T/out" ".total_us as \$total | $RESTORED"
	[ "$(jq .pages_data "$T/out")" = "$(jq .pages_data "$T/checkpoint")" ] || fail "$(cat "$T/out" "$T/checkpoint")"
	expect_progress
}

# Standard output is the container's.
test_print_stats_in_the_foreground() {
	bundle b sh -c 'while [ ! -e /cr/go ]; do usleep 10000; done; echo says; exit 7'
	start c
	ok checkpoint --image-path "$T/i" c
	touch "$B/rootfs/cr/go"
	stasis restore --print-stats --image-path "$T/i" --bundle "$B" c > "$T/out" 2> "$T/err" < /dev/null
	[ $? = 7 ] || fail "$(cat "$T/err")"
	[ "$(cat "$T/out")" = says ] || fail "$(cat "$T/out")"
	has "$T/err" '.open_us > 0 and .resume_us > 0'
}

# phases NAME...: $T/err has just these, each begun and then done, and nothing else.
phases() {
	local want
	want=$(printf '%s false\n%s true\n' $(for p in "$@"; do echo "$p $p"; done))
	jq -r '"\(.phase) \(.done)"' "$T/err" | uniq > "$T/phases"
	[ "$(cat "$T/phases")" = "$want" ] || fail "phases: $(cat "$T/err")"
	jq -s -e 'all(.[]; .bytes >= 0 and .us >= 0 and (.done or .bytes == 0 or .rate > 0))' "$T/err" > "$T/jq" || fail "$(cat "$T/err")"
}

test_progress_as_json() {
	large
	ok checkpoint --progress json --image-path "$T/i" c
	phases preflight freeze collect memory image end
	jq -s -e 'map(select(.phase == "memory" and .done))[0] | .total >= 25165824 and .bytes >= 25165824 and .left_us == 0' "$T/err" > "$T/jq" ||
		fail "$(cat "$T/err")"
	ok restore -d --progress=json --image-path "$T/i" --bundle "$B" c
	phases open create memory resume
	expect_progress
	ok checkpoint --progress=none --leave-running --image-path "$T/i" c
	[ ! -s "$T/err" ] || fail "$(cat "$T/err")"
	ok checkpoint --leave-running --image-path "$T/i" c
	[ ! -s "$T/err" ] || fail "$(cat "$T/err")"
	fails 'json, tty, none or auto' checkpoint --progress=xml --image-path "$T/j" c
	fails 'json, tty, none or auto' restore --progress=xml --image-path "$T/i" d
}

# Its reader has gone, or reads nothing: the container is none the worse.
test_progress_that_nobody_reads() {
	large
	(stasis checkpoint --leave-running --progress=json --image-path "$T/i" c < /dev/null 2>&1 > /dev/null; echo $? > "$T/status") | true
	until [ -s "$T/status" ]; do sleep 0.05; done
	[ "$(cat "$T/status")" = 0 ] || fail "status $(cat "$T/status")"
	expect_progress
	mkfifo "$T/pipe"
	exec 8<> "$T/pipe"
	head -c 65536 /dev/zero >&8 # it is full
	stasis checkpoint --leave-running --progress=json --image-path "$T/i" c < /dev/null > /dev/null 2>&8 || fail "checkpoint"
	exec 8>&-
	expect_progress
}

# The disk is full at one moment after the other: while memory is written, and then when the records and the index are.
test_full_disk() {
	local size
	large
	mkdir "$T/small"
	for size in 4k 256k 4m 16m 24m; do
		mount -t tmpfs -o "size=$size" tmpfs "$T/small"
		fails 'No space left' checkpoint --image-path "$T/small/i" c
		[ -z "$(ls -A "$T/small")" ] || fail "left: $(ls -AR "$T/small")"
		umount "$T/small"
		expect_status c running
		expect_progress
	done
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
}

run_test "$@"
