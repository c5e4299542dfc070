/* SPDX-License-Identifier: Apache-2.0 */
/* cr: hugetlbfs=/huge modes=once,cycles,running,again,old,packed */
/*
 * An unlinked file on a hugetlbfs of config.json: its pages and its hole, a shared mapping, and a private one of which a page is the
 * mapping's own.
 */
#include "cr.h"

#define HUGE (2UL << 20)

int main(void)
{
	int fd = must(open("/huge/file", O_RDWR | O_CREAT | O_EXCL, 0640));
	char *shared, *private;
	struct stat st;

	must(ftruncate(fd, 3 * HUGE));
	must(unlink("/huge/file"));
	shared = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED) {
		cr_say("unavailable", 1, "", "huge pages (vm.nr_hugepages)");
		pause();
	}
	cr_fill(shared, HUGE, 1);
	cr_fill(shared + 2 * HUGE, HUGE, 2);
	private = must(mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, HUGE));
	cr_fill(private + HUGE, HUGE, 3);
	while (cr_wait()) {
		must(fstat(fd, &st));
		check(st.st_nlink == 0 && st.st_size == 3 * HUGE && (st.st_mode & 0777) == 0640,
			"%d links, %zu bytes, mode %o", (int)st.st_nlink, st.st_size, st.st_mode);
		check(st.st_blocks * 512 == 2 * HUGE, "it has %zu bytes of pages", st.st_blocks * 512);
		check(cr_differs(shared, HUGE, 1) < 0, "the first page");
		check(cr_differs(shared + 2 * HUGE, HUGE, 2) < 0, "the last page");
		check(cr_differs(private + HUGE, HUGE, 3) < 0, "the private page");
		shared[HUGE - 1] ^= 1;
		check(pread(fd, &st, 1, HUGE - 1) == 1 && *(char *)&st == shared[HUGE - 1],
			"the mapping and the descriptor are of two files");
		shared[HUGE - 1] ^= 1;
	}
	return 0;
}
