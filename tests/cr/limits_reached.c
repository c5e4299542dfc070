/* SPDX-License-Identifier: Apache-2.0 */
/* Processes at the limit of their address space, of their data, and of what they may lock with all that comes later locked. */
/* cr: also=chain,precopy */
#include "cr.h"

#include <sys/mman.h>
#include <sys/resource.h>

/* In bytes, by the line of /proc/self/status. */
static rlim_t used(const char *what)
{
	char text[4096];
	int fd = must(open("/proc/self/status", O_RDONLY));
	ssize_t n = must(read(fd, text, sizeof(text) - 1));

	close(fd);
	text[n] = '\0';
	return strtoul(strstr(text, what) + strlen(what), NULL, 10) * 1024;
}

static bool may_map(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return false;
	munmap(p, 4096);
	return true;
}

static void rounds(int resource, const char *what)
{
	/* The hard limit is above it: here even root may not raise that. */
	struct rlimit full = {.rlim_cur = used(what), .rlim_max = 2 * used(what)}, now;

	must(setrlimit(resource, &full));
	check(!may_map(), "%s%lu is no limit", what, full.rlim_cur);
	while (cr_wait()) {
		must(getrlimit(resource, &now));
		check(now.rlim_cur == full.rlim_cur && now.rlim_max == full.rlim_max,
			"limit %d was %lu, is %lu %lu", resource, full.rlim_cur, now.rlim_cur, now.rlim_max);
		check(!may_map(), "limit %d is not in force", resource);
		check(used(what) == full.rlim_cur, "%s%lu, was %lu", what, used(what), full.rlim_cur);
	}
	_exit(0);
}

int main(void)
{
	if (cr_fork("space") == 0)
		rounds(RLIMIT_AS, "VmSize:\t");
	if (cr_fork("data") == 0)
		rounds(RLIMIT_DATA, "VmData:\t");
	if (cr_fork("locked") == 0) {
		must(mlockall(MCL_CURRENT | MCL_FUTURE));
		rounds(RLIMIT_MEMLOCK, "VmLck:\t");
	}
	while (cr_wait())
		;
	return 0;
}
