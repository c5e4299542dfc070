/* SPDX-License-Identifier: Apache-2.0 */
/* Private mappings of a file: clean pages come from the file, written ones are its own, protections and offsets. */
#include "cr.h"

#define PAGE 4096UL
enum { PAGES = 32 };

int main(void)
{
	int fd = must(open("/tmp/file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
	char *b = malloc(PAGES * PAGE), *map, *ro, *offset, *beyond;
	bool child;

	cr_fill(b, PAGES * PAGE, 11);
	must(write(fd, b, PAGES * PAGE - 100));
	map = must(mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	ro = must(mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
	offset = must(mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 8 * PAGE));
	beyond = must(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, (PAGES - 1) * PAGE));
	close(fd);
	cr_fill(map + 3 * PAGE, PAGE, 12);
	cr_fill(map + 10 * PAGE, 2 * PAGE, 13);
	must(mprotect(map + 10 * PAGE, PAGE, PROT_READ)); /* written, then made read-only */
	cr_fill(offset + PAGE, PAGE, 14);
	beyond[PAGE - 50] = 7;		  /* in the last page, behind the end of the file */
	memset(map + 20 * PAGE, 0, PAGE); /* written with zeros: not the file's */
	child = cr_fork("child") == 0;
	if (child)
		cr_fill(map + 3 * PAGE, PAGE, 15);
	while (cr_wait()) {
		struct stat st;

		check(cr_differs(map, 3 * PAGE, 11) < 0, "clean pages differ at %zd",
			cr_differs(map, 3 * PAGE, 11));
		check(cr_differs(map + 3 * PAGE, PAGE, child ? 15 : 12) < 0, "the written page");
		check(cr_differs(map + 4 * PAGE, 6 * PAGE, 11 + 4 * PAGE / 8) < 0, "clean pages");
		check(cr_differs(map + 10 * PAGE, 2 * PAGE, 13) < 0, "written, then read-only");
		check(cr_differs(map + 12 * PAGE, 8 * PAGE, 11 + 12 * PAGE / 8) < 0, "clean pages");
		for (size_t i = 0; i < PAGE; i++)
			check(map[20 * PAGE + i] == 0, "the page of zeros");
		check(cr_differs(ro, 4 * PAGE, 11) < 0, "the read-only mapping");
		check(cr_differs(offset, PAGE, 11 + 8 * PAGE / 8) < 0, "at an offset, clean");
		check(cr_differs(offset + PAGE, PAGE, 14) < 0, "at an offset, written");
		check(beyond[PAGE - 50] == 7 && beyond[PAGE - 51] == 0, "behind the end of the file");
		must(stat("/tmp/file", &st));
		check(st.st_size == (off_t)(PAGES * PAGE - 100), "the file's size changed");
		check(ro[3 * PAGE] == b[3 * PAGE], "the file itself was written");
		/* Still a mapping of the file: dropped pages come back from it. */
		must(madvise(map + 5 * PAGE, PAGE, MADV_DONTNEED));
		check(cr_differs(map + 5 * PAGE, PAGE, 11 + 5 * PAGE / 8) < 0, "after MADV_DONTNEED");
	}
	return 0;
}
