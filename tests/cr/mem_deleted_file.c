/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings of files that have no name any more, private and shared, with and without a descriptor, on disk and tmpfs. */
/* cr: modes=once,cycles,running,again,userns,old,packed */
#include "cr.h"

#define PAGE 4096UL

struct thing {
	char *shared, *private;
	int fd;
};

static struct thing make(const char *path, bool keep_fd)
{
	struct thing t;

	t.fd = must(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	must(ftruncate(t.fd, 16 * PAGE));
	t.shared = must(mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, t.fd, 0));
	cr_fill(t.shared, 8 * PAGE, 31);
	t.private = must(mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, t.fd, 0));
	cr_fill(t.private + PAGE, PAGE, 32);
	must(unlink(path));
	if (!keep_fd) {
		close(t.fd);
		t.fd = -1;
	}
	return t;
}

int main(void)
{
	struct thing things[] = {make("/tmp/a", true), make("/tmp/b", false), make("/dev/shm/c", true),
		make("/dev/shm/d", false)};
	bool child = cr_fork("child") == 0;

	for (int round = 1; cr_wait(); round++) {
		for (int i = 0; i < 4; i++) {
			struct thing *t = &things[i];
			volatile int *word = (int *)(t->shared + 9 * PAGE);
			int by_read;

			check(cr_differs(t->shared, 8 * PAGE, 31) < 0, "shared %d differs at %zd", i,
				cr_differs(t->shared, 8 * PAGE, 31));
			check(cr_differs(t->private, PAGE, 31) < 0, "private %d, clean", i);
			check(cr_differs(t->private + PAGE, PAGE, 32) < 0, "private %d, written", i);
			if (child)
				*word = round;
			for (int ms = 0; *word != round; ms++) {
				check(ms < 3000, "the shared mapping %d is not shared", i);
				cr_msleep(1);
			}
			if (t->fd >= 0) {
				struct stat st;

				must(pread(t->fd, &by_read, 4, 9 * PAGE));
				check(by_read == round, "mapping and descriptor of %d are two files", i);
				must(fstat(t->fd, &st));
				check(st.st_nlink == 0 && st.st_size == 16 * PAGE, "links %ld size %ld",
					(long)st.st_nlink, (long)st.st_size);
			}
			/* Private and shared mappings are of one file. */
			check(*(int *)(t->private + 9 * PAGE) == round, "private %d is of another file", i);
		}
	}
	return 0;
}
