/* SPDX-License-Identifier: Apache-2.0 */
/* Who shares an open file description: dup, fork, SCM-free inheritance; and who must not: two independent opens. */
#include "cr.h"

static off_t at(int fd)
{
	return lseek(fd, 0, SEEK_CUR);
}

int main(void)
{
	int a = must(open("/tmp/file", O_RDWR | O_CREAT, 0600)), b = must(dup(a)),
	    other = must(open("/tmp/file", O_RDWR));
	int equal = must(
		open("/tmp/file", O_RDWR)); /* same offset and flags as other, and yet another description */
	bool child;

	must(write(a, "0123456789", 10));
	must(lseek(a, 3, SEEK_SET));
	child = cr_fork("child") == 0;
	if (child) {
		close(b);
		must(fcntl(other, F_SETFD, FD_CLOEXEC)); /* of this descriptor only */
	}
	for (int round = 1; cr_wait(); round++) {
		if (child) {
			must(lseek(a, 4 + round, SEEK_SET));
			check(fcntl(other, F_GETFD) == FD_CLOEXEC, "close-on-exec of the child's");
			continue;
		}
		cr_await("done", cr_n, ".child");
		check(at(a) == 4 + round, "the child's seek is not seen: %ld", (long)at(a));
		check(at(b) == 4 + round, "the duplicate has an offset of its own: %ld", (long)at(b));
		check(fcntl(other, F_GETFD) == 0, "close-on-exec of the parent's");
		check(at(other) == 0 && at(equal) == 0, "independent descriptions moved");
		must(lseek(other, 1, SEEK_SET));
		check(at(equal) == 0, "two independent descriptions became one");
		must(lseek(other, 0, SEEK_SET));
		must(fcntl(b, F_SETFL, O_APPEND | O_NONBLOCK));
		check((fcntl(a, F_GETFL) & (O_APPEND | O_NONBLOCK)) == (O_APPEND | O_NONBLOCK),
			"flags are not shared");
		check(!(fcntl(other, F_GETFL) & O_APPEND), "flags are shared with another description");
		must(fcntl(b, F_SETFL, 0));
	}
	return 0;
}
