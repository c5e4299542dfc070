/* SPDX-License-Identifier: Apache-2.0 */
/* A process at the limit of its memory has no room for an area of ours: for that one call its limits are raised. It stands still. */
#include <sys/resource.h>

#include "checkpoint/native/dump.h"

static const int OF_MEMORY[] = {RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK};

_Static_assert(ARRAY_SIZE(OF_MEMORY) == ARRAY_SIZE(((struct dump_raised *)0)->limits), "limits of memory");

/* Without root's privileges as far as the user may. */
static void raise_limit(pid_t pid, int resource, const struct rlimit *old)
{
	const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY}, allowed = {old->rlim_max, old->rlim_max};

	if (prlimit(pid, resource, &none, NULL) < 0)
		(void)!prlimit(pid, resource, &allowed, NULL);
}

int dump_raise_limits(struct dump_raised *j, pid_t pid)
{
	for (size_t i = 0; i < ARRAY_SIZE(OF_MEMORY); i++)
		if (prlimit(pid, OF_MEMORY[i], NULL, &j->limits[i]) < 0)
			return -errno;
	/* From here on the guard puts them back. */
	__atomic_store_n(&j->pid, pid, __ATOMIC_RELEASE);
	for (size_t i = 0; i < ARRAY_SIZE(OF_MEMORY); i++)
		raise_limit(pid, OF_MEMORY[i], &j->limits[i]);
	return 0;
}

void dump_lower_limits(struct dump_raised *j)
{
	for (size_t i = 0; j->pid && i < ARRAY_SIZE(OF_MEMORY); i++)
		(void)!prlimit(j->pid, OF_MEMORY[i], &j->limits[i], NULL);
	j->pid = 0;
}
