# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# When memory is held by a snapshot (tests/cr/live.c is about what is in it), and when it is copied while the tasks stand still.
# time limit: 120
. "$TESTS/lib.sh"

# 40 MB in the memory of one process, which waits for more.
much() {
	bundle b sh -c '(head -c 40000000 /dev/urandom; sleep 1000) | tail -c 40000000 | { md5sum; sleep 1000; }'
	[ $# = 0 ] || edit "$1"
	start c
	eventually 20 has_all
}

holder() {
	local p
	for p in $(stasis ps --format json c | jq -r '.[]'); do
		[ "$(tr '\0' ' ' < "/proc/$p/cmdline")" != "tail -c 40000000 " ] || echo "$p"
	done
}

has_all() {
	local p
	p=$(holder)
	[ -n "$p" ] && [ "$(awk '/^RssAnon/ { print $2 }' "/proc/$p/status")" -gt 39000 ]
}

late() {
	jq .statistics.pages_late "$1/manifest.json"
}

test_memory_is_copied_while_it_runs() {
	much
	local p before
	p=$(holder)
	before=$(ps -o pid= --ppid "$p"; wc -l < "/proc/$p/maps"; ls "/proc/$p/fd")
	ok checkpoint --leave-running --print-stats --image-path "$T/i" c
	[ "$(jq .pages_late "$T/out")" = "$(late "$T/i")" ] || fail "$(cat "$T/out")"
	[ "$(late "$T/i")" -gt 9500 ] || fail "$(late "$T/i") pages"
	[ "$(ps -o pid= --ppid "$p"; wc -l < "/proc/$p/maps"; ls "/proc/$p/fd")" = "$before" ] || fail "it has something that it did not have"
	# A checkpoint that ends it has nothing to hold, and has the same memory.
	ok checkpoint --image-path "$T/j" c
	[ "$(late "$T/j")" = 0 ] || fail "$(late "$T/j") pages"
	ok restore -d --image-path "$T/i" --bundle "$B" c
	ok checkpoint --leave-running --image-path "$T/k" c
	[ "$(late "$T/k")" -gt 9500 ] || fail "after a restore $(late "$T/k") pages"
}

# Below the cgroup that we are in ourselves, which may be another one than the hierarchy's root.
test_relative_cgroup() {
	much '.linux.cgroupsPath |= ltrimstr("/")'
	ok checkpoint --leave-running --image-path "$T/i" c
	[ "$(late "$T/i")" -gt 9500 ] || fail "$(late "$T/i") pages"
}

# A limit that leaves no room for what the program could write meanwhile.
test_no_room_in_the_cgroup() {
	much '.linux.resources.memory = {limit: 70000000}'
	ok checkpoint --leave-running --image-path "$T/i" c
	[ "$(late "$T/i")" = 0 ] || fail "$(late "$T/i") pages"
	ok update --memory 200000000 c
	ok checkpoint --leave-running --image-path "$T/j" c
	[ "$(late "$T/j")" -gt 9500 ] || fail "$(late "$T/j") pages"
}

# What it takes: userfaultfd, and a pid by clone3.
test_an_old_kernel() {
	local number
	much
	for number in 323 435; do
		rm -rf "$T/i"
		"$BUILD/tests/cr/without" $number "$STASIS" --root "$ROOT" "${DRIVER[@]}" checkpoint --leave-running --image-path "$T/i" c \
			< /dev/null > "$T/out" 2>&1 || fail "without call $number: $(cat "$T/out")"
		[ "$(late "$T/i")" = 0 ] || fail "without call $number: $(late "$T/i") pages"
	done
}

# A paused one stays so.
test_paused() {
	much
	ok pause c
	ok checkpoint --leave-running --image-path "$T/i" c
	expect_status c paused
	[ "$(late "$T/i")" -gt 9500 ] || fail "$(late "$T/i") pages"
	ok resume c
}

run_test "$@"
