/* SPDX-License-Identifier: Apache-2.0 */
/*
 * So much memory that a checkpoint copies it in parts, by several threads: private memory with rows of untouched and of zeroed
 * pages between others, cut into many mappings or in one; shared memory with holes and without; and a child that has most of both, and has
 * written to some. Every page is what it was.
 */
/* cr: modes=once,running,again,userns,old */
#include "cr.h"

#define PAGE 4096UL
enum { PAGES = 10000, SHARED_PAGES = 3000, DENSE_PAGES = 9001 };

static char *one, *cut, *shared, *dense;
static int writer; /* who has written to every 1000th page: 0 or the child */

/* Of each page: untouched, zeroed, or full of something of its own. Rows of all lengths. */
static int kind_of(unsigned i)
{
	return cr_mix(i / 13) % 7 == 0 ? 0 : cr_mix(i / 5) % 6 == 0 ? 1 : 2;
}

static void fill_all(char *p, unsigned pages, uint64_t seed)
{
	for (unsigned i = 0; i < pages; i++) {
		if (kind_of(i) >= 1)
			cr_fill(p + i * PAGE, PAGE, seed + i);
		if (kind_of(i) == 1)
			memset(p + i * PAGE, 0, PAGE);
	}
}

static void check_all(const char *what, const char *p, unsigned pages, uint64_t seed)
{
	static const char zeros[PAGE];

	for (unsigned i = 0; i < pages; i++) {
		uint64_t now = p != shared && i % 1000 == 0 && writer ? seed + 7777777 : seed;

		if (kind_of(i) == 2 || now != seed)
			check(cr_differs(p + i * PAGE, PAGE, now + i) < 0, "%s: page %u", what, i);
		else
			check(memcmp(p + i * PAGE, zeros, PAGE) == 0, "%s: page %u is not empty", what, i);
	}
}

static void check_memory(void)
{
	check_all("one mapping", one, PAGES, 1000000);
	check_all("many mappings", cut, PAGES, 2000000);
	check_all("shared", shared, SHARED_PAGES, 3000000);
	for (unsigned i = 0; i < DENSE_PAGES; i++)
		check(cr_differs(dense + i * PAGE, PAGE, 4000000 + i) < 0, "shared without holes: page %u",
			i);
}

static void child(void)
{
	writer = 1;
	for (unsigned i = 0; i < PAGES; i += 1000) {
		cr_fill(one + i * PAGE, PAGE, 1000000 + 7777777 + i);
		cr_fill(cut + i * PAGE, PAGE, 2000000 + 7777777 + i);
	}
	while (cr_wait())
		check_memory();
	_exit(0);
}

static char *map(unsigned pages, int flags)
{
	return must(mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0));
}

int main(void)
{
	one = map(PAGES, MAP_PRIVATE);
	cut = map(PAGES, MAP_PRIVATE);
	shared = map(SHARED_PAGES, MAP_SHARED);
	dense = map(DENSE_PAGES, MAP_SHARED);
	for (unsigned i = 0; i < DENSE_PAGES; i++)
		cr_fill(dense + i * PAGE, PAGE, 4000000 + i);
	fill_all(one, PAGES, 1000000);
	fill_all(cut, PAGES, 2000000);
	fill_all(shared, SHARED_PAGES, 3000000);
	for (unsigned i = 0; i < PAGES; i += 500)
		must(mprotect(cut + (i + i / 100 + 1) * PAGE, 3 * PAGE, PROT_READ));
	if (cr_fork("child") == 0)
		child();
	while (cr_wait())
		check_memory();
	return 0;
}
