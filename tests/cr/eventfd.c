/* SPDX-License-Identifier: Apache-2.0 */
/* eventfd: a count above 32 bits with EFD_SEMAPHORE, zero, the maximum, flags, one shared by two processes. */
#include "cr.h"

#include <poll.h>
#include <sys/eventfd.h>

static uint64_t take(int fd)
{
	uint64_t v = 0;

	check(read(fd, &v, 8) == 8, "read: %m");
	return v;
}

static void add(int fd, uint64_t v)
{
	check(write(fd, &v, 8) == 8, "write: %m");
}

int main(void)
{
	int big = must(eventfd(0, EFD_SEMAPHORE)), zero = must(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	int most = must(eventfd(0, EFD_NONBLOCK)), shared = must(eventfd(0, EFD_NONBLOCK)),
	    five = must(eventfd(5, 0));
	uint64_t v;

	add(big, 0x100000005ULL);
	add(most, 0xfffffffffffffffeULL);
	if (cr_fork("child") == 0) {
		while (cr_wait())
			add(shared, 7);
		return 0;
	}
	while (cr_wait()) {
		check(take(big) == 1, "not a semaphore any more");
		add(big, 1);
		check(read(zero, &v, 8) == -1 && errno == EAGAIN, "the empty one is not empty, or blocks");
		check(fcntl(zero, F_GETFD) == FD_CLOEXEC, "close-on-exec");
		v = 1;
		check(write(most, &v, 8) == -1 && errno == EAGAIN, "the full one is not full");
		check(take(most) == 0xfffffffffffffffeULL, "count of the full one");
		add(most, 0xfffffffffffffffeULL);
		check(take(five) == 5, "count of five");
		add(five, 5);
		cr_await("done", cr_n, ".child");
		check(take(shared) == 7, "the shared one");
		/* All of the big count, without 2^32 reads: it takes no more than the maximum less its count. */
		must(fcntl(big, F_SETFL, O_NONBLOCK));
		v = 0xfffffffffffffffeULL - 0x100000005ULL + 1;
		check(write(big, &v, 8) == -1 && errno == EAGAIN, "the big count shrank");
		v--;
		check(write(big, &v, 8) == 8, "the big count grew: %m");
		close(big);
		check(must(eventfd(0, EFD_SEMAPHORE)) == big, "fd number");
		add(big, 0x100000005ULL);
	}
	return 0;
}
