/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor table: close-on-exec one by one, high numbers, holes, which number comes next; two processes differ. */
#include "cr.h"

static void expect(int fd, bool open_, int cloexec)
{
	int flags = fcntl(fd, F_GETFD);

	check((flags >= 0) == open_, "fd %d is %s", fd, flags >= 0 ? "open" : "closed");
	check(!open_ || flags == cloexec, "fd %d: close-on-exec is %d", fd, flags);
}

int main(void)
{
	int first = must(open("/dev/null", O_RDWR)), next;
	bool child;

	must(dup2(first, 10));
	must(dup3(first, 11, O_CLOEXEC));
	must(dup2(first, 63));
	must(dup2(first, 64));
	must(dup2(first, 255));
	must(dup3(first, 256, O_CLOEXEC));
	must(dup2(first, 1000));
	must(dup3(first, 4095, O_CLOEXEC));
	child = cr_fork("child") == 0;
	if (child) {
		close(10);
		must(fcntl(11, F_SETFD, 0));
	}
	while (cr_wait()) {
		expect(10, !child, 0);
		expect(11, true, child ? 0 : FD_CLOEXEC);
		expect(63, true, 0);
		expect(64, true, 0);
		expect(255, true, 0);
		expect(256, true, FD_CLOEXEC);
		expect(1000, true, 0);
		expect(4095, true, FD_CLOEXEC);
		for (int fd = first + 1; fd < 4096; fd++)
			if (fd != 10 && fd != 11 && fd != 63 && fd != 64 && fd != 255 && fd != 256 &&
				fd != 1000 && fd != 4095)
				expect(fd, false, 0);
		next = must(dup(first));
		check(next == first + 1, "the next descriptor is %d", next);
		close(next);
	}
	return 0;
}
