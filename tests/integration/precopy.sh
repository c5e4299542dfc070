# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Memory that is copied before the last freeze: --pre-dump, --parent-path, --pre-copy, and what stands in their way.
# time limit: 120
. "$TESTS/lib.sh"

# A program that checks its own memory, which it changes all the time.
wild() {
	bundle b /bin/mem_churn
	cp "$BUILD/tests/cr/mem_churn" "$B/rootfs/bin/"
	start c
	eventually 20 test -e "$B/rootfs/cr/ready.1"
}

counting() {
	bundle b sh -c "$COUNTER"
	start c
	expect_progress
}

checked() {
	expect_status c running
	let_check 1
}

# Who watches the memory of c: the processes named so, of this state root.
watchers() {
	local p
	for p in /proc/[0-9]*; do
		[ "$(cat "$p/comm" 2> /dev/null)" = stasis-watch ] || continue
		tr '\0' ' ' < "$p/cmdline" 2> /dev/null | grep -qF -- "$ROOT" && echo "${p#/proc/}"
	done
	return 0
}

no_watchers() {
	[ -z "$(watchers)" ]
}

is_watched() {
	grep -q '^VmFlags:.* uw' "/proc/$(init_pid c)/smaps"
}

test_chain_and_squash() {
	wild
	ok checkpoint --pre-dump --image-path "$T/a" c
	is_watched || fail "nothing is watched"
	ok checkpoint --pre-dump --image-path "$T/second" --parent-path ../a c
	[ "$(watchers | wc -l)" = 1 ] || fail "$(watchers | wc -l) processes watch"
	ok checkpoint --image-path "$T/i" --parent-path ../second c
	[ ! -s "$T/err" ] || fail "$(cat "$T/err")"
	eventually 5 no_watchers
	jq -e '.parent.path == "../second" and .required_features == ["parent"]' "$T/i/manifest.json" > "$T/jq" || fail "$(cat "$T/i/manifest.json")"
	jq -e '.required_features == ["parent", "pre-dump"]' "$T/second/manifest.json" > "$T/jq" || fail "$(cat "$T/second/manifest.json")"
	ok inspect --verify "$T/i"
	ok inspect --format json "$T/i"
	cp "$T/out" "$T/whole"
	fails 'pre-dump.*memory only' restore -d --image-path "$T/second" --bundle "$B" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	checked
	ok delete -f c
	expect_nothing_left c
	squashed
}

# All of it moves into one image, and then the others are not needed.
squashed() {
	mkdir "$T/whole.d"
	ok image squash -o "$T/whole.d/i" "$T/i"
	ok image squash "$T/i"
	rm -r "$T/a" "$T/second"
	for i in "$T/i" "$T/whole.d/i"; do
		jq -e '.parent == null and .required_features == []' "$i/manifest.json" > "$T/jq" || fail "$(cat "$i/manifest.json")"
		ok inspect --verify --format json "$i"
		diff <(jq -S '.processes' "$T/whole") <(jq -S '.processes' "$T/out") > "$T/diff" || fail "$(head "$T/diff")"
		rm -f "$B/rootfs/cr/go.1" "$B/rootfs/cr/result.1"
		ok restore -d --image-path "$i" --bundle "$B" c
		checked
		ok delete -f c
	done
	[ "$(cat "$T/i/descriptors.json")" = "$(cat "$T/whole.d/i/descriptors.json")" ] || fail "descriptors.json"
}

# Memory that is not watched any more, but whose page tables look as if it were (tests/cr/mem_merged.c).
test_moved_next_to_what_is_watched() {
	bundle b /bin/mem_merged
	cp "$BUILD/tests/cr/mem_merged" "$B/rootfs/bin/"
	start c
	eventually 20 test -e "$B/rootfs/cr/ready.1"
	ok checkpoint --pre-dump --image-path "$T/a" c
	touch "$B/rootfs/cr/step.1"
	eventually 20 test -e "$B/rootfs/cr/did.1"
	ok checkpoint --pre-dump --image-path "$T/second" --parent-path ../a c
	touch "$B/rootfs/cr/step.2"
	eventually 20 test -e "$B/rootfs/cr/did.2"
	ok checkpoint --image-path "$T/i" --parent-path ../second c
	[ ! -s "$T/err" ] || fail "$(cat "$T/err")"
	ok restore -d --image-path "$T/i" --bundle "$B" c
	checked
}

test_pre_copy() {
	local how
	for how in --pre-copy --pre-copy=3 --pre-copy=50ms; do
		wild
		ok checkpoint "$how" --leave-running --image-path "$T/running" c
		! is_watched || fail "still watched"
		no_watchers || fail "a watcher is left"
		ok checkpoint "$how" --image-path "$T/i" c
		jq -e '.parent == null and .required_features == []' "$T/i/manifest.json" > "$T/jq" || fail "$(cat "$T/i/manifest.json")"
		ok inspect --verify "$T/i"
		ok restore -d --image-path "$T/i" --bundle "$B" c
		checked
		ok delete -f c
		rm -r "$T/i" "$T/running" "$B"
	done
	for how in --pre-copy=0 --pre-copy=x --pre-copy=5s --pre-copy=ms; do
		fails 'rounds' checkpoint "$how" --image-path "$T/i" c
	done
}

# frames FILE: type and number of each frame's file, and the version.
frames() {
	python3 -B - "$1" <<- 'END'
		import struct, sys
		data, at = open(sys.argv[1], "rb").read(), 16
		print("version", struct.unpack_from("<I", data, 8)[0])
		while at < len(data):
		    kind, file, place, n = struct.unpack_from("<IIQQ", data, at)
		    print(kind, file)
		    at += 32 + n
	END
}

# from_stream: what is in $T/stream is restored at once, and by way of a directory.
from_stream() {
	stasis image unpack "$T/i" < "$T/stream" || fail "unpack"
	ok inspect --verify "$T/i"
	stasis restore -d --image-path - --bundle "$B" c < "$T/stream" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	checked
	ok delete -f c
	rm -f "$B/rootfs/cr/go.1" "$B/rootfs/cr/result.1"
	ok restore -d --image-path "$T/i" --bundle "$B" c
	checked
	ok delete -f c
}

test_pre_copy_into_a_stream() {
	local how
	for how in --pre-copy=1 --pre-copy=4 "--pre-copy=3 --compress lz4" "--pre-copy --leave-running"; do
		wild
		# shellcheck disable=SC2086
		stasis --log-level debug checkpoint $how --print-stats --image-path - c < /dev/null 2> "$T/said" > "$T/stream" || fail "$(cat "$T/said")"
		grep -q 'pre-copy round 1:' "$T/said" || fail "no round: $(cat "$T/said")"
		frames "$T/stream" > "$T/frames"
		[ "$(head -n 1 "$T/frames")" = "version 2" ] || fail "$(head -n 1 "$T/frames")"
		# Rounds come before the records, and what was copied again is given back.
		sed '/^1 1$/q' "$T/frames" | grep -Eq '^[12] 3$' || fail "no memory before the records"
		grep -q '^3 3$' "$T/frames" || fail "nothing to forget"
		[ "${how#* }" != --leave-running ] || { checked && ok delete -f c && rm -f "$B/rootfs/cr/go.1" "$B/rootfs/cr/result.1"; }
		from_stream
		rm -r "$T/i" "$B"
	done
}

# The last freeze comes to nothing at first: the stream goes on, and what the rounds have sent is still of use.
test_pre_copy_into_a_stream_with_second_tries() {
	wild
	FAULT=checkpoint-collected:EAGAIN:2 stasis --log-level debug checkpoint --pre-copy=2 --image-path - c < /dev/null 2> "$T/said" > "$T/stream" || fail "$(cat "$T/said")"
	[ "$(grep -c 'pre-copy round 1:' "$T/said")" = 3 ] || fail "$(cat "$T/said")"
	from_stream
	rm -r "$T/i" "$B"
	wild
	# What a round has protected and not copied is copied by the next one.
	FAULT=predump-tracked:EAGAIN:=2 stasis --log-level debug checkpoint --pre-copy=2 --image-path - c < /dev/null 2> "$T/said" > "$T/stream" || fail "$(cat "$T/said")"
	from_stream
	rm -r "$T/i" "$B"
	wild
	! FAULT=checkpoint-collected:EAGAIN stasis checkpoint --pre-copy=1 --image-path - c < /dev/null 2> "$T/said" > "$T/stream" || fail "it succeeds"
	! is_watched || fail "still watched"
	! stasis image unpack "$T/i" < "$T/stream" > "$T/out" 2>&1 || fail "it has an end"
	checked
}

# sent_ahead ROUNDS [FAULT]: a stream with rounds of pre-copy, in the first of which the program writes some of what has been sent already.
sent_ahead() {
	local cr
	bundle b /bin/rewrites
	cr=$B/rootfs/cr
	cp "$BUILD/tests/cr/rewrites" "$B/rootfs/bin/"
	chmod 777 "$cr"
	mkfifo "$T/pipe"
	start c
	eventually 20 test -e "$cr/ready"
	FAULT=${2:-} stasis --log-level debug checkpoint "--pre-copy=$1" --image-path - c < /dev/null 2> "$T/said" > "$T/pipe" &
	{
		# The first round has sent the beginning of the memory, and waits for us.
		dd bs=1M count=8 iflag=fullblock 2> /dev/null
		touch "$cr/write"
		while [ ! -e "$cr/written" ]; do sleep 0.01; done
		cat
	} < "$T/pipe" > "$T/stream"
	wait $! || fail "$(cat "$T/said")"
	stasis restore -d --image-path - --bundle "$B" c < "$T/stream" > "$T/out" 2>&1 || fail "$(cat "$T/out")"
	touch "$cr/check"
	eventually 20 test -e "$cr/verdict"
	[ "$(cat "$cr/verdict")" = right ] || fail "the memory is $(cat "$cr/verdict")"
	ok delete -f c
	expect_nothing_left c
}

# Of 32 MiB: these, the 2 MiB that were written anew, and little more.
test_what_was_sent_ahead_is_not_sent_again() {
	local how
	for how in 1 3; do
		sent_ahead $how
		[ "$(stat -c %s "$T/stream")" -lt 38000000 ] || fail "--pre-copy=$how: $(stat -c %s "$T/stream") bytes: $(cat "$T/said")"
		rm -r "$B" "$T/pipe" "$T/stream"
	done
}

# A round that has protected memory and then comes to nothing: what was written since the one before it is copied, though it looks as if
# it had not been written.
test_a_round_that_comes_to_nothing() {
	sent_ahead 2 predump-tracked:EAGAIN:=2
	[ "$(grep -c 'pre-copy round 1:' "$T/said")" = 2 ] || fail "no second try: $(cat "$T/said")"
}

unharmed() {
	! is_watched || fail "$1: still watched"
	no_watchers || fail "$1: a watcher is left"
	! stasis image unpack "$T/i" < "$T/stream" > "$T/out" 2>&1 || fail "$1: it has an end"
	expect_status c running
	let_check $((++CHECKS))
}

# In a round: who makes it dies, the one who waits for it goes, the reader goes or takes nothing.
test_pre_copy_into_a_stream_comes_to_nothing() {
	local guard
	CHECKS=0
	wild
	! FAULT=predump-tracked stasis checkpoint --pre-copy=2 --image-path - c < /dev/null 2> "$T/said" > "$T/stream" || fail "it succeeds"
	unharmed "killed in a round"
	! FAULT=checkpoint-memory stasis checkpoint --pre-copy=2 --image-path - c < /dev/null 2> "$T/said" > "$T/stream" || fail "it succeeds"
	unharmed "killed behind a round"
	! stasis checkpoint --pre-copy=2 --image-path - c < /dev/null 2> "$T/said" | head -c 300000 > "$T/stream" || fail "it succeeds"
	grep -q "reads the image stream has gone" "$T/said" || fail "$(cat "$T/said")"
	unharmed "the reader goes"
	mkfifo "$T/pipe"
	exec 8<> "$T/pipe"
	! stasis checkpoint --pre-copy=2 --stream-timeout 1 --image-path - c < /dev/null 2> "$T/said" > "$T/pipe" || fail "it succeeds"
	grep -q "taken nothing for 1 s" "$T/said" || fail "$(cat "$T/said")"
	: > "$T/stream"
	unharmed "the reader stalls"
	"$STASIS" --root "$ROOT" "${DRIVER[@]}" checkpoint --pre-copy=2 --stream-timeout 0 --image-path - c > "$T/pipe" 2> "$T/said" < /dev/null &
	guard=$!
	sleep 0.5
	kill -TERM $guard
	! wait $guard || fail "it succeeds"
	unharmed "cancelled"
	exec 8>&-
}

# As a migration: from one container into the other.
test_pre_copy_into_another_container() {
	local lazy
	for lazy in no yes; do
		[ "$lazy" = no ] || [ -w /dev/userfaultfd ] || skip "not on this machine: /dev/userfaultfd"
		wild
		mkdir "$T/b2"
		cp "$B/config.json" "$T/b2"
		ln -s "$B/rootfs" "$T/b2/rootfs"
		B=$T/b2
		# shellcheck disable=SC2016
		edit '.linux.cgroupsPath = $path | .root.path = $root' --arg path "$(cgroups_path b2)" --arg root "$T/b/rootfs"
		stasis checkpoint --pre-copy --compress lz4 --image-path - c < /dev/null 2> "$T/said" |
			stasis restore -d --lazy=$lazy --image-path - --bundle "$B" d > "$T/out" 2>&1 || fail "$(cat "$T/said" "$T/out")"
		[ ! -e "$ROOT/c" ] || fail "the first one is still there"
		expect_status d running
		let_check 1
		ok delete -f d
		rm -r "$T/b2" "$T/b"
	done
}

# Whoever watches is killed: nothing is named that may have changed since.
test_killed_watcher() {
	wild
	ok checkpoint --pre-dump --image-path "$T/a" c
	kill -9 "$(watchers)"
	eventually 5 no_watchers
	! is_watched || fail "still watched"
	sleep 0.2
	ok checkpoint --image-path "$T/i" --parent-path ../a c
	grep -q 'all of it is copied' "$T/err" || fail "no word: $(cat "$T/err")"
	jq -e '.parent == null' "$T/i/manifest.json" > "$T/jq" || fail "it has a parent"
	ok restore -d --image-path "$T/i" --bundle "$B" c
	checked
}

# Memory is watched since b was made, not since a.
test_another_parent() {
	wild
	ok checkpoint --pre-dump --image-path "$T/a" c
	ok checkpoint --pre-dump --image-path "$T/second" c
	ok checkpoint --leave-running --image-path "$T/i" --parent-path ../a c
	grep -q 'all of it is copied' "$T/err" || fail "no word: $(cat "$T/err")"
	ok checkpoint --image-path "$T/k" --parent-path ../second c
	[ ! -s "$T/err" ] || fail "$(cat "$T/err")"
	ok restore -d --image-path "$T/k" --bundle "$B" c
	checked
}

test_bad_parents() {
	counting
	ok checkpoint --pre-dump --image-path "$T/a" c
	fails 'relative' checkpoint --image-path "$T/i" --parent-path "$T/a" c
	fails 'no such file' checkpoint --image-path "$T/i" --parent-path ../nothing c
	mkdir "$T/empty"
	fails 'incomplete' checkpoint --image-path "$T/i" --parent-path ../empty c
	[ ! -e "$T/i" ] || fail "an image directory is left"
	fails 'choose one' checkpoint --pre-copy --pre-dump --image-path "$T/i" c
	expect_progress
	ok checkpoint --image-path "$T/i" --parent-path ../a c
	mv "$T/a" "$T/gone"
	fails 'parent .*\.\./a.*No such file' restore -d --image-path "$T/i" --bundle "$B" c
	cp -r "$T/gone" "$T/a"
	printf X | dd of="$T/a/pages.img" bs=1 seek=5000 conv=notrunc 2> "$T/dd"
	fails 'parent.*pages.img.*checksum' restore -d --image-path "$T/i" --bundle "$B" c
	rm -r "$T/a"
	mv "$T/gone" "$T/a"
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	ok checkpoint --pre-dump --image-path "$T/a" c
	ok delete -f c
	fails "not the image's parent any more" restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

# Nothing of it stands in the way of what comes after, nor is seen by the program.
test_unseen() {
	local fds
	wild
	fds=$(cd "/proc/$(init_pid c)/fd" && echo *)
	ok checkpoint --pre-dump --image-path "$T/a" c
	[ "$(cd "/proc/$(init_pid c)/fd" && echo *)" = "$fds" ] || fail "descriptors: $(ls -l "/proc/$(init_pid c)/fd")"
	ok check c
	ok checkpoint --leave-running --image-path "$T/full" c
	jq -e '.parent == null' "$T/full/manifest.json" > "$T/jq" || fail "it has a parent"
	ok pause c
	ok checkpoint --pre-dump --image-path "$T/second" --parent-path ../a c
	expect_status c paused
	ok resume c
	ok checkpoint --image-path "$T/i" --parent-path ../second c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	checked
	ok checkpoint --pre-dump --image-path "$T/a" c
	ok kill c KILL
	eventually 5 no_watchers
	ok delete c
	expect_nothing_left c
}

# As podman calls it: twice into its own directories, with a link that it makes itself.
test_as_podman() {
	wild
	ok checkpoint --image-path "$T/pre-checkpoint" --work-path "$T" --leave-running --pre-dump c
	[ -s "$T/stats-dump" ] || fail "no statistics"
	mkdir -m 700 "$T/checkpoint"
	ln -s ../pre-checkpoint "$T/checkpoint/parent"
	ok checkpoint --image-path "$T/checkpoint" --work-path "$T" --parent-path ../pre-checkpoint c
	[ -f "$T/checkpoint/inventory.img" ] || fail "no inventory.img"
	ok restore -d --image-path "$T/checkpoint" --work-path "$T" --bundle "$B" c
	checked
}

test_full_disk() {
	local kib
	wild
	mkdir "$T/small"
	for kib in 16 256 2048; do
		mount -t tmpfs -o "size=${kib}k" tmpfs "$T/small"
		fails 'no space' checkpoint --pre-dump --image-path "$T/small/a" --work-path "$T" c
		[ ! -e "$T/small/a" ] || fail "left: $(ls -A "$T/small/a")"
		fails 'no space' checkpoint --pre-copy --image-path "$T/small/a" --work-path "$T" c
		[ ! -e "$T/small/a" ] || fail "left: $(ls -A "$T/small/a")"
		umount "$T/small"
		no_watchers || fail "a watcher is left"
	done
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	checked
}

# A kernel without PAGEMAP_SCAN.
test_old_kernel() {
	counting
	"$BUILD/tests/cr/old_kernel" "$STASIS" --root "$ROOT" checkpoint --pre-dump --image-path "$T/a" c > "$T/out" 2>&1 < /dev/null && fail "a pre-dump without the means"
	grep -q 'pre-dump is not possible.*Linux 6.7.*full checkpoint' "$T/out" || fail "$(cat "$T/out")"
	[ ! -e "$T/a" ] || fail "a directory is left"
	"$BUILD/tests/cr/old_kernel" "$STASIS" --root "$ROOT" checkpoint --pre-copy --image-path "$T/a" c > "$T/out" 2>&1 < /dev/null || fail "$(cat "$T/out")"
	grep -q 'pre-copy is not possible' "$T/out" || fail "no word: $(cat "$T/out")"
	ok restore -d --image-path "$T/a" --bundle "$B" c
	expect_progress
}

# Reads in flight when it is stopped, on a disk that reads so many bytes in a second: four MiB are asked for.
slow_reads() {
	local disk device
	device=$(stat -c %Hd:%Ld "$T")
	[ -e "/sys/dev/block/$device" ] || skip "not on this machine: a disk below $T"
	disk=$(cat "/sys/dev/block/$device/../dev" 2> /dev/null || echo "$device") # of a partition: the whole
	bundle b /bin/aio_slow
	cp "$BUILD/tests/cr/aio_slow" "$B/rootfs/bin/"
	edit '.linux.resources.blockIO = {"throttleReadBpsDevice": [{"major": $major, "minor": $minor, "rate": $rate}]}' \
		--argjson major "${disk%:*}" --argjson minor "${disk#*:}" --argjson rate "$1"
	start c
	eventually 20 test -e "$B/rootfs/cr/ready.1"
}

# Of Linux AIO: for half a second, which is waited for.
test_aio_is_waited_for() {
	slow_reads 8000000
	ok checkpoint --image-path "$T/i" c
	jq -e '.statistics.frozen_us > 100000' "$T/i/manifest.json" > "$T/jq" || fail "nothing was in flight: $(cat "$T/i/manifest.json")"
	ok restore -d --image-path "$T/i" --bundle "$B" c
	checked
}

# For four seconds: too long, and the container runs on; what it reads meanwhile past the page tables is not overlooked.
test_aio_takes_too_long() {
	slow_reads 1000000
	ok checkpoint --pre-dump --image-path "$T/a" c
	sleep 4
	ok checkpoint --image-path "$T/i" --parent-path ../a c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	checked
	ok delete -f c
	rm -rf "$T/i" "$B"
	slow_reads 350000
	fails 'requests are in flight which have not ended in a second.*let them end' checkpoint --image-path "$T/i" c
	expect_status c running
	checked
}

run_test "$@"
