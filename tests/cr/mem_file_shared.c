/* SPDX-License-Identifier: Apache-2.0 */
/* Shared mappings of files: on disk and in /dev/shm; writes reach the file and the other process. */
#include "cr.h"

#define PAGE 4096UL

static char *map_file(const char *path, int *fd)
{
	char *p;

	*fd = must(open(path, O_RDWR | O_CREAT | O_TRUNC, 0644));
	must(ftruncate(*fd, 8 * PAGE));
	p = must(mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0));
	cr_fill(p, 4 * PAGE, 21);
	return p;
}

int main(void)
{
	int fds[2], ro_fd;
	char *maps[2] = {map_file("/tmp/shared", &fds[0]), map_file("/dev/shm/shared", &fds[1])}, *ro;
	bool child;

	ro_fd = must(open("/tmp/shared", O_RDONLY));
	ro = must(mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, ro_fd, PAGE));
	close(ro_fd);
	child = cr_fork("child") == 0;
	for (int round = 1; cr_wait(); round++) {
		for (int i = 0; i < 2; i++) {
			volatile int *word = (int *)(maps[i] + 5 * PAGE);
			int by_read = 0;

			check(cr_differs(maps[i], 4 * PAGE, 21) < 0, "mapping %d differs", i);
			if (child)
				*word = round;
			for (int ms = 0; *word != round; ms++) {
				check(ms < 3000, "mapping %d is not shared", i);
				cr_msleep(1);
			}
			must(pread(fds[i], &by_read, 4, 5 * PAGE));
			check(by_read == round, "what is written to mapping %d does not reach the file", i);
		}
		check(cr_differs(ro, 3 * PAGE, 21 + PAGE / 8) < 0, "the read-only mapping");
		check(mprotect(ro, PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES,
			"a shared mapping of a read-only file can be made writable");
		must(ftruncate(fds[0], 8 * PAGE + round));
	}
	return 0;
}
