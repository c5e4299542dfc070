/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flags of mappings, of a process with so much memory that smaps would take long: of the kinds that all programs have, in
 * the first round; later also of rarer ones.
 */
/* cr: modes=once,cycles,running,again,userns */
#include "cr.h"

#define MIB (1UL << 20)
enum { USUAL = 10, ALL = 15 };

static const struct kind {
	int prot, flags, advice;
} kinds[ALL] = {
	{PROT_READ | PROT_WRITE, 0, 0},
	{PROT_READ | PROT_WRITE, 0, MADV_HUGEPAGE},
	{PROT_READ | PROT_WRITE, 0, MADV_NOHUGEPAGE},
	{PROT_READ | PROT_WRITE, 0, MADV_DONTDUMP},
	{PROT_READ | PROT_WRITE, MAP_NORESERVE, 0},
	{PROT_READ, 0, 0},
	{PROT_NONE, 0, 0},
	{PROT_READ, MAP_NORESERVE, 0},
	{PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0},
	{PROT_READ | PROT_EXEC, 0, 0},
	{PROT_READ | PROT_WRITE, 0, MADV_DONTFORK},
	{PROT_READ | PROT_WRITE, 0, MADV_WIPEONFORK},
	{PROT_READ | PROT_WRITE, 0, MADV_RANDOM},
	{PROT_READ | PROT_WRITE | PROT_EXEC, 0, MADV_SEQUENTIAL},
	{PROT_READ | PROT_WRITE, MAP_LOCKED, 0},
};

static char *much, *maps[ALL], was[ALL][200];
static char text[1 << 20];

static void flags_of(const char *p, char *ret, size_t size)
{
	char head[32], *at;

	snprintf(head, sizeof(head), "%lx-", (unsigned long)p);
	at = strstr(text, head);
	at = at ? strstr(at, "VmFlags:") : NULL;
	check(at != NULL, "no mapping at %s", head);
	snprintf(ret, size, "%.*s", (int)strcspn(at, "\n"), at);
	/* That it is accounted for says how it was made, not what it is. */
	at = strstr(ret, " ac");
	if (at)
		memmove(at, at + 3, strlen(at + 3) + 1);
}

static void make(int from, int to)
{
	for (int i = from; i < to; i++) {
		maps[i] = must(mmap(much + (96 + i * 4) * MIB, MIB, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | kinds[i].flags, -1, 0));
		if (kinds[i].advice)
			must(madvise(maps[i], MIB, kinds[i].advice));
		cr_fill(maps[i], MIB, i);
		must(mprotect(maps[i], MIB, kinds[i].prot));
	}
	must(cr_read("/proc/self/smaps", text, sizeof(text)));
	for (int i = from; i < to; i++)
		flags_of(maps[i], was[i], sizeof(was[i]));
}

static void check_all(int n)
{
	char now[200];

	check(cr_differs(much, 80 * MIB, 99) < 0, "much memory");
	must(cr_read("/proc/self/smaps", text, sizeof(text)));
	for (int i = 0; i < n; i++) {
		flags_of(maps[i], now, sizeof(now));
		check(!strcmp(now, was[i]), "kind %d: %s, now %s", i, was[i], now);
		if (kinds[i].prot & PROT_READ)
			check(cr_differs(maps[i], MIB, i) < 0, "kind %d", i);
	}
}

int main(void)
{
	int n = USUAL;

	much = must(mmap(NULL, 256 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
	must(mprotect(much, 80 * MIB, PROT_READ | PROT_WRITE));
	cr_fill(much, 80 * MIB, 99);
	make(0, USUAL);
	while (cr_wait()) {
		check_all(n);
		if (n == USUAL)
			make(USUAL, ALL);
		n = ALL;
		check_all(n);
	}
	return 0;
}
