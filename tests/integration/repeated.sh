# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# --dedup with --parent-path: what a parent has is not stored again, wherever it has it.
# time limit: 120
. "$TESTS/lib.sh"

# 24 MiB that are much the same after rewritten() (tests/tools/repeats.c).
repeating() {
	bundle b /bin/repeats
	cp "$BUILD/tests/cr/repeats" "$B/rootfs/bin/"
	chmod 777 "$B/rootfs/cr"
	start c
	eventually 20 test -e "$B/rootfs/cr/ready"
}

rewritten() {
	touch "$B/rootfs/cr/write"
	eventually 20 test -e "$B/rootfs/cr/written"
}

right() {
	touch "$B/rootfs/cr/check"
	eventually 20 test -s "$B/rootfs/cr/verdict"
	[ "$(cat "$B/rootfs/cr/verdict")" = right ] || fail "the memory is $(cat "$B/rootfs/cr/verdict")"
	rm "$B/rootfs/cr/check" "$B/rootfs/cr/verdict"
}

# is_right IMAGE OPTION...: what is restored of it has the right memory.
is_right() {
	local image=$1
	shift
	ok restore -d "$@" --image-path "$image" --bundle "$B" c
	right
	ok delete -f c
	expect_nothing_left c
}

# stats IMAGE CONDITION: image stats says so, in MiB.
stats() {
	ok image stats --json "$1"
	jq -e 'map_values(if type == "number" then . / 1048576 else . end) |
		(.memory - .zero - .shared - .duplicate - .parent - .repeated - .data | fabs < 0.001) and .saved.repeated == (if .repeated > 0 then .repeated * 1048576 else null end) and ('"$2"')' \
		"$T/out" > "$T/jq" || fail "$1: $(cat "$T/out")"
}

# Nobody has watched: all of it is copied, and 23 MiB of it are in the parent, the rest is new. As it is restored, and packed.
test_nothing_was_watched() {
	local how
	repeating
	ok checkpoint --leave-running --compress lz4 --image-path "$T/lz4" c
	ok checkpoint --leave-running --image-path "$T/a" c
	rewritten
	ok checkpoint --leave-running --image-path "$T/whole" --parent-path ../a c
	stats "$T/whole" '.repeated == 0 and .data > 24'
	for how in "--parent-path ../lz4" "--parent-path ../a --compress zstd" "--parent-path ../a"; do
		# shellcheck disable=SC2086
		ok checkpoint --leave-running --dedup --image-path "$T/i" $how c
		grep -q 'all of it is copied, and compared' "$T/err" || fail "$(cat "$T/err")"
		stats "$T/i" '.repeated > 23.5 and .data < 1.5 and .parent == 0'
		jq -e '.required_features[:2] == ["parent", "ancestor-data"] and .statistics.pages_repeated > 6000 and .statistics.pages_data < 400' "$T/i/manifest.json" > "$T/jq" ||
			fail "$(cat "$T/i/manifest.json")"
		[ "$(stat -c %s "$T/i/pages.img")" -lt 1500000 ] || fail "$how: $(stat -c %s "$T/i/pages.img") bytes"
		ok inspect --verify "$T/i"
		cp -r "$T/i" "$T/of.${how##*[ /]}"
	done
	ok image stats "$T/i"
	grep -Eq '^repeated +2[34]\.[0-9]+ +2[34]\.' "$T/out" || fail "$(cat "$T/out")"
	ok delete -f c
	is_right "$T/i"
	[ ! -w /dev/userfaultfd ] || is_right "$T/i" --lazy=yes
	is_right "$T/of.zstd"
	is_right "$T/of.lz4"
	rm -r "$T/a"
	fails 'parent .*\.\./a.*No such file' restore -d --image-path "$T/i" --bundle "$B" c
}

# A chain: what is watched is named, and what was written or is not watched is compared, with the parent's parent as well.
test_chain() {
	repeating
	ok checkpoint --leave-running --dedup --image-path "$T/a" c
	ok checkpoint --pre-dump --dedup --image-path "$T/second" --parent-path ../a c
	stats "$T/second" '.repeated > 15 and .parent == 0 and .data < 1'
	rewritten
	ok checkpoint --dedup --image-path "$T/i" --parent-path ../second c
	[ ! -s "$T/err" ] || fail "$(cat "$T/err")"
	stats "$T/i" '.data < 1.5 and .repeated + .parent > 23.5 and .repeated > 7'
	ok inspect --verify "$T/i"
	ok image squash -o "$T/one" "$T/i"
	is_right "$T/i"
	ok image squash --compress lz4 "$T/i"
	rm -r "$T/a" "$T/second"
	for i in i one; do
		stats "$T/$i" '.repeated == 0 and .parent == 0 and .data > 24'
		ok inspect --verify "$T/$i"
		is_right "$T/$i"
	done
}

# The image that a container comes from is the parent of its next one.
test_of_a_restored_one() {
	repeating
	ok checkpoint --image-path "$T/a" c
	ok restore -d --image-path "$T/a" --bundle "$B" c
	rewritten
	ok checkpoint --dedup --image-path "$T/i" --parent-path ../a c
	stats "$T/i" '.data < 1.5'
	is_right "$T/i"
}

# Without --dedup, or with --compress alone, the parent is not read.
test_not_asked_for() {
	repeating
	ok checkpoint --leave-running --image-path "$T/a" c
	ok checkpoint --leave-running --compress lz4 --image-path "$T/i" --parent-path ../a c
	stats "$T/i" '.repeated == 0'
	jq -e '.parent == null and (.required_features | index("ancestor-data") == null)' "$T/i/manifest.json" > "$T/jq" || fail "$(cat "$T/i/manifest.json")"
}

# The parent is damaged, or is made anew while it is compared with: the container runs on, and nothing is left; of another page nobody would have known.
test_damaged_parent() {
	repeating
	ok checkpoint --leave-running --image-path "$T/a" c
	cp -r "$T/a" "$T/good"
	printf X | dd of="$T/a/pages.img" bs=1 seek=5000000 conv=notrunc 2> "$T/dd"
	fails 'parent 1.*pages.img.*checksum' checkpoint --dedup --image-path "$T/i" --parent-path ../a c
	[ ! -e "$T/i" ] || fail "left: $(ls -A "$T/i")"
	truncate -s 1000000 "$T/a/pages.img"
	fails 'parent|pages.img' checkpoint --dedup --image-path "$T/i" --parent-path ../a c
	expect_status c running
	rewritten
	rm -r "$T/a"
	mv "$T/good" "$T/a"
	ok checkpoint --dedup --leave-running --image-path "$T/i" --parent-path ../a c
	expect_status c running
	ok checkpoint --leave-running --image-path "$T/a" c
	ok delete -f c
	fails "not the image's parent any more" restore -d --image-path "$T/i" --bundle "$B" c
	expect_nothing_left c
}

# An image cannot be its own parent, nor that of which it takes the place.
test_in_the_place_of_its_parent() {
	local path
	repeating
	ok checkpoint --leave-running --image-path "$T/a" c
	cp -r "$T/a" "$T/before"
	for path in ../a . .replaced; do
		fails 'would replace' checkpoint --dedup --image-path "$T/a" --parent-path $path c
		diff -r "$T/before" "$T/a" -x dump.log > "$T/diff" || fail "$path: $(cat "$T/diff")"
	done
	expect_status c running
}

# Killed, or failing, while it compares: nothing is left, and the next one is right.
test_interrupted() {
	local fault
	repeating
	ok checkpoint --leave-running --image-path "$T/a" c
	rewritten
	for fault in checkpoint-comparing checkpoint-comparing:EIO checkpoint-pack checkpoint-packed checkpoint-packed:EIO; do
		! FAULT=$fault stasis checkpoint --dedup --image-path "$T/i" --parent-path ../a c > "$T/out" 2>&1 || fail "$fault: it succeeds"
		eventually 5 test ! -e "$T/i/checkpoint.img"
		eventually 5 expect_running
	done
	ok checkpoint --dedup --image-path "$T/i" --parent-path ../a c
	stats "$T/i" '.data < 1.5'
	is_right "$T/i"
}

expect_running() {
	[ "$(stasis state c | jq -r .status)" = running ]
}

run_test "$@"
