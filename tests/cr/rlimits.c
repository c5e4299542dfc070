/* SPDX-License-Identifier: Apache-2.0 */
/* All resource limits, soft and hard, of two processes; one that runs as another user; and they are in force. */
/* cr: ids=1 hidden=1 */
#include "cr.h"

#include <sys/resource.h>

static void lower(int what, rlim_t soft, rlim_t hard)
{
	struct rlimit now;

	must(getrlimit(what, &now));
	if (hard > now.rlim_max)
		hard = now.rlim_max;
	if (soft > hard)
		soft = hard;
	must(setrlimit(what, &(struct rlimit){soft, hard}));
}

static void rounds(bool files)
{
	struct rlimit limits[RLIM_NLIMITS], now;

	for (int i = 0; i < RLIM_NLIMITS; i++)
		must(getrlimit(i, &limits[i]));
	while (cr_wait()) {
		for (int i = 0; i < RLIM_NLIMITS; i++) {
			must(getrlimit(i, &now));
			check(now.rlim_cur == limits[i].rlim_cur && now.rlim_max == limits[i].rlim_max,
				"limit %d was %lu %lu, is %lu %lu", i, limits[i].rlim_cur, limits[i].rlim_max,
				now.rlim_cur, now.rlim_max);
		}
		if (files) {
			int fd = must(open("/dev/null", O_RDONLY));

			check(dup2(fd, 64) == -1 && errno == EBADF, "RLIMIT_NOFILE is not in force");
			close(fd);
		}
	}
	_exit(0);
}

int main(void)
{
	must(dup2(1, 100)); /* above the limit that follows */
	if (cr_fork("low") == 0) {
		lower(RLIMIT_NOFILE, 64, 128);
		lower(RLIMIT_CORE, 0, 0);
		lower(RLIMIT_FSIZE, 1 << 20, 1 << 30);
		lower(RLIMIT_STACK, 4 << 20, 64 << 20);
		lower(RLIMIT_DATA, 1UL << 30, 1UL << 33);
		lower(RLIMIT_NPROC, 1000, 2000);
		lower(RLIMIT_CPU, 1000, RLIM_INFINITY);
		lower(RLIMIT_MEMLOCK, 4096, 65536);
		lower(RLIMIT_SIGPENDING, 17, 18);
		lower(RLIMIT_NICE, 0, 0);
		lower(RLIMIT_RTTIME, 1000000, 2000000);
		rounds(true);
	}
	if (cr_fork("user") == 0) {
		lower(RLIMIT_NOFILE, 65, 66);
		lower(RLIMIT_NPROC, 500, 500);
		must(setresgid(1000, 1000, 1000));
		must(setresuid(1000, 1000, 1000));
		rounds(false);
	}
	rounds(false);
}
