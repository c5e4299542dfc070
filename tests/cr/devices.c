/* SPDX-License-Identifier: Apache-2.0 */
/* Open device nodes: null, zero, full, random, urandom, and mappings of /dev/zero. */
#include "cr.h"

int main(void)
{
	int null = must(open("/dev/null", O_RDWR)), zero = must(open("/dev/zero", O_RDWR));
	int full = must(open("/dev/full", O_RDWR)),
	    urandom = must(open("/dev/urandom", O_RDONLY | O_NONBLOCK));
	int random = must(open("/dev/random", O_RDONLY));
	char *private = must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0));
	char *shared = must(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, zero, 0)), b[16], c[16];

	private[5] = 5;
	shared[6] = 6;
	while (cr_wait()) {
		check(read(null, b, 1) == 0 && write(null, b, 1) == 1, "/dev/null");
		memset(b, 1, sizeof(b));
		check(read(zero, b, 16) == 16 && b[0] == 0 && b[15] == 0, "/dev/zero");
		check(write(full, b, 1) == -1 && errno == ENOSPC, "/dev/full");
		check(read(urandom, b, 16) == 16 && read(urandom, c, 16) == 16 && memcmp(b, c, 16),
			"/dev/urandom");
		check(fcntl(urandom, F_GETFL) & O_NONBLOCK, "flags");
		check(read(random, b, 1) == 1, "/dev/random");
		check(private[5] == 5 && private[4096] == 0, "private mapping of /dev/zero");
		check(shared[6] == 6 && shared[4096] == 0, "shared mapping of /dev/zero");
	}
	return 0;
}
