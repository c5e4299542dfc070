# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Huge pages of the pool, which a machine has or has not (tests/cr/mem_hugetlb.c is about their contents).
. "$TESTS/lib.sh"

with_huge_pages() {
	bundle b /bin/mem_hugetlb
	cp "$BUILD/tests/cr/mem_hugetlb" "$B/rootfs/bin/"
	start c
	eventually 20 eval '[ -e "$B/rootfs/cr/ready.1" ] || [ -e "$B/rootfs/cr/unavailable.1" ]'
	[ -e "$B/rootfs/cr/ready.1" ] || skip "not on this machine: huge pages"
}

# KiB of private huge pages that the two processes share, as each of them counts it.
shared_private() {
	local init
	init=$(init_pid c)
	cat "/proc/$init/smaps" "/proc/$(tr -d ' ' < "/proc/$init/task/$init/children")/smaps" |
		awk '/^[0-9a-f]+-/ { private = /anon_hugepage/ && $2 ~ /p$/ } /^Shared_Hugetlb:/ && private { n += $2 } END { print n + 0 }'
}

# Since the fork; neither a checkpoint nor a restore makes copies.
test_pages_that_a_child_shares() {
	with_huge_pages
	[ "$(shared_private)" = 4096 ] || fail "$(shared_private) KiB before"
	ok checkpoint --image-path "$T/i" --leave-running c
	[ "$(shared_private)" = 4096 ] || fail "$(shared_private) KiB after a checkpoint"
	ok checkpoint --image-path "$T/j" c
	ok restore -d --image-path "$T/j" --bundle "$B" c
	[ "$(shared_private)" = 4096 ] || fail "$(shared_private) KiB after the restore"
	let_check 1
}

test_a_pool_that_is_too_small() {
	local hog
	with_huge_pages
	ok checkpoint --image-path "$T/i" c
	# Reserves all that are left.
	python3 -c '
import mmap, re, time
def left():
    text = open("/proc/meminfo").read()
    return int(re.search(r"HugePages_Free: *(\d+)", text)[1]) - int(re.search(r"HugePages_Rsvd: *(\d+)", text)[1])
all = mmap.mmap(-1, left() << 21, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
print("taken", flush=True)
time.sleep(60)' > "$T/hog" &
	hog=$!
	eventually 10 grep -q taken "$T/hog"
	fails 'huge pages of 2048 KiB.*vm.nr_hugepages' restore -d --image-path "$T/i" --bundle "$B" c
	kill $hog
	wait $hog
	expect_nothing_left c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	let_check 1
}

# Its files would be gone after a restore.
test_files_of_its_own_hugetlbfs() {
	bundle b sh -c "touch /huge/file; $COUNTER"
	edit '.mounts += [{"destination": "/huge", "type": "hugetlbfs", "source": "hugetlbfs"}]'
	start c
	expect_progress
	fails 'hugetlb.*made anew' checkpoint --image-path "$T/i" c
	expect_progress
	ok exec c rm /huge/file
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
}

# Without pages, which a machine may not have: tests/cr/mem_hugetlbfs.c is about these.
test_an_unlinked_file_of_its_own_hugetlbfs() {
	bundle b sh -c "exec 3<> /huge/file; truncate -s 4M /huge/file; rm /huge/file; $COUNTER"
	edit '.mounts += [{"destination": "/huge", "type": "hugetlbfs", "source": "hugetlbfs"}]'
	start c
	expect_progress
	ok checkpoint --image-path "$T/i" c
	ok restore -d --image-path "$T/i" --bundle "$B" c
	expect_progress
	[ "$(stat -L -c '%s %h' "/proc/$(init_pid c)/fd/3")" = '4194304 0' ] || fail "$(stat -L "/proc/$(init_pid c)/fd/3")"
	[ "$(stat -L -f -c %T "/proc/$(init_pid c)/fd/3")" = hugetlbfs ] || fail "on another file system"
}

run_test "$@"
