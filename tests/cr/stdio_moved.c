/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three descriptors that the container was given, where a shell puts them for a moment: duplicated to another number, with
 * something else in their place; only in a child; closed everywhere but there; swapped.
 */
#include "cr.h"

static ino_t inode(int fd)
{
	struct stat st;

	must(fstat(fd, &st));
	return st.st_ino;
}

int main(void)
{
	int file;

	must(dup2(1, 50));
	must(dup2(2, 51));
	must(dup2(0, 52));
	file = must(open("/tmp/file", O_RDWR | O_CREAT, 0600));
	must(dup2(file, 1)); /* echo > file, as a shell does it */
	if (cr_fork("child") == 0) {
		must(dup2(50, 1));
		close(0);
		while (cr_wait()) {
			check(write(1, "child\n", 6) == 6, "stdout of the child: %m");
			check(inode(1) == inode(50), "the child's stdout is another file");
			check(fcntl(0, F_GETFD) == -1, "stdin of the child is open again");
		}
		_exit(0);
	}
	close(2);
	for (int round = 1; cr_wait(); round++) {
		char c;
		struct stat st;

		must(fstat(1, &st));
		check(inode(1) == inode(file), "fd 1 is another file");
		check(fcntl(2, F_GETFD) == -1, "fd 2 is open again");
		check(write(50, "moved\n", 6) == 6 && write(51, "moved\n", 6) == 6, "the moved ones: %m");
		check(read(52, &c, 1) == 0, "the moved stdin");
		check(inode(50) != inode(file), "the moved stdout is the file");
	}
	return 0;
}
