/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=memory */
/*
 * Droppable memory (MAP_DROPPABLE, 6.11): glibc 2.41 and later keep the state of getrandom() in it. It stays droppable, and
 * its contents may be gone, but never wrong.
 */
#include "cr.h"

#include <sys/random.h>

#define PAGE 4096UL

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

static bool has_flag(const void *at, const char *flag)
{
	static char smaps[1 << 20];
	char head[64], flags[256], *p;

	must(cr_read("/proc/self/smaps", smaps, sizeof(smaps)));
	snprintf(head, sizeof(head), "%lx-", (unsigned long)at);
	p = strstr(smaps, head);
	check(p, "no mapping starts at %p", at);
	p = strstr(p, "VmFlags: ");
	snprintf(flags, sizeof(flags), "%.*s", (int)strcspn(p, "\n"), p);
	return strstr(flags, flag);
}

int main(void)
{
	char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);
	static const char zeros[PAGE];
	char random[32];

	if (p == MAP_FAILED)
		return 77; /* before 6.11 */
	cr_fill(p, 4 * PAGE, 1);
	while (cr_wait()) {
		check(has_flag(p, " dp"), "the mapping is not droppable any more");
		check(has_flag(p, " wf"), "the mapping is not wiped on fork any more");
		for (size_t i = 0; i < 4; i++)
			check(cr_differs(p + i * PAGE, PAGE, 1 + i * (PAGE / 8)) < 0 ||
					!memcmp(p + i * PAGE, zeros, PAGE),
				"page %zu is neither what it was nor zero", i);
		cr_fill(p, 4 * PAGE, 1);
		check(getrandom(random, sizeof(random), 0) == sizeof(random), "getrandom: %m");
	}
	return 0;
}
