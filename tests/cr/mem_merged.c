/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fresh memory that is moved to where it merges with a neighbour, which is written before and after. Linux 6.18 ends the watching of the
 * neighbour's pages then (--pre-dump), but lets them look as if it went on. Its steps are let go by tests/integration/precopy.sh.
 */
/* cr: ignore=all modes=once,chain,precopy */
#include <pthread.h>

#include "cr.h"

#define PAGE 4096UL

static char *area, *fresh;
static volatile char written = 1;

static void write_all(char value)
{
	for (int i = 0; i < 3; i++)
		area[(unsigned long)i * PAGE] = (char)(value + i);
	written = value;
}

/* Does one mapping begin here and end there? */
static bool is_mapping(char *start, unsigned long pages)
{
	static char maps[1 << 16];
	char head[64];

	must(cr_read("/proc/self/maps", maps, sizeof(maps)));
	snprintf(head, sizeof(head), "%lx-%lx ", (unsigned long)start, (unsigned long)start + pages * PAGE);
	return strstr(maps, head) != NULL;
}

static void *steps(void *arg)
{
	(void)arg;
	cr_await("step", 1, "");
	must(mremap(fresh, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + 3 * PAGE));
	check(is_mapping(area, 4), "what was moved is a mapping of its own");
	write_all(10);
	cr_say("did", 1, "", "");
	cr_await("step", 2, "");
	write_all(20);
	cr_say("did", 2, "", "");
	return NULL;
}

int main(void)
{
	pthread_t thread;

	/* between others, so that none of them merges with anything yet */
	area = must(mmap(NULL, 6 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) + PAGE;
	fresh = must(mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) + PAGE;
	must(mprotect(area, 3 * PAGE, PROT_READ | PROT_WRITE));
	must(mprotect(fresh, PAGE, PROT_READ | PROT_WRITE));
	write_all(1);
	check(pthread_create(&thread, NULL, steps, NULL) == 0, "thread");
	while (cr_wait())
		for (int i = 0; i < 3; i++)
			check(area[(unsigned long)i * PAGE] == written + i, "page %d: %d, written: %d", i,
				area[(unsigned long)i * PAGE], written + i);
	exit(0);
}
