/* SPDX-License-Identifier: Apache-2.0 */
/* Directories: a descriptor with its position in the listing, one for *at() calls, one by O_PATH. */
#include "cr.h"

#include <dirent.h>

enum { FILES = 300 };

struct linux_dirent64 {
	uint64_t ino;
	int64_t off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

static char seen[FILES];
static int n_seen;

static bool some(int fd)
{
	char b[2048];
	long n = must(syscall(SYS_getdents64, fd, b, sizeof(b)));

	for (long at = 0; at < n;) {
		struct linux_dirent64 *d = (void *)(b + at);

		if (d->name[0] == 'f') {
			int i = strtol(d->name + 1, NULL, 10);

			check(!seen[i], "%s is listed twice", d->name);
			seen[i] = 1;
			n_seen++;
		}
		at += d->reclen;
	}
	return n > 0;
}

int main(void)
{
	char name[64];
	int list, at, path, fd;

	must(mkdir("/tmp/list", 0755));
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "/tmp/list/f%d", i);
		close(must(open(name, O_CREAT | O_WRONLY, 0600)));
	}
	list = must(open("/tmp/list", O_RDONLY | O_DIRECTORY));
	at = must(open("/tmp/list", O_RDONLY | O_DIRECTORY));
	path = must(open("/tmp", O_PATH | O_DIRECTORY));
	some(list);
	for (int round = 1; cr_wait(); round++) {
		if (round == 1)
			some(list); /* the next part; the rest in the rounds that follow */
		else
			while (some(list))
				;
		check(round == 1 || n_seen == FILES, "%d of %d files are listed", n_seen, FILES);
		fd = must(openat(at, "f7", O_RDONLY));
		close(fd);
		fd = must(openat(path, "list/f8", O_RDONLY));
		close(fd);
		must(fchdir(path));
		must(access("list", F_OK));
	}
	return 0;
}
