/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that relatives share after fork, until one of them writes: a family of three generations, some of which have
 * written to parts, dropped, protected or unmapped parts, whose parent has written since (so that only siblings share),
 * or is dead. All have their own contents, and all together need as much memory as before.
 */
/* cr: modes=once,cycles,running,again,userns,old,packed,chain,precopy */
#include "cr.h"

#define PAGE 4096UL
enum { PAGES = 1024, CHILDREN = 8 };

static uint64_t *heap, *early;						  /* anonymous */
static uint64_t data[64 * PAGE / 8] __attribute__((aligned(4096))) = {1}; /* file-private, once written */
static char expected[PAGES]; /* who has written a page last: 0 the first process */
static pid_t family[64];
static int n_family;

static void write_pages(int who, int from, int to)
{
	for (int i = from; i < to; i++) {
		cr_fill(heap + i * PAGE / 8, PAGE, who * 10000 + i);
		expected[i] = who;
	}
}

static void check_pages(int from, int to)
{
	for (int i = from; i < to; i++) {
		const uint64_t *page = heap + i * PAGE / 8;

		if (expected[i] == -1)
			check(page[0] == 0 && page[511] == 0, "page %d is not empty", i);
		else
			check(cr_differs(page, PAGE, expected[i] * 10000 + i) < 0, "page %d", i);
	}
}

static void check_data(int who)
{
	check(cr_differs(data, 32 * PAGE, 77) < 0, "data of all");
	check(data[40 * 512] == (uint64_t)who, "data of %d: %d", who, (int)data[40 * 512]);
}

/* Its own share of all memory, in KiB. */
static int pss(pid_t pid)
{
	char path[64], text[4096], *at;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	must(cr_read(path, text, sizeof(text)));
	at = strstr(text, "\nPss:");
	check(at != NULL, "%s: %s", path, text);
	return strtol(at + 5, NULL, 10);
}

static int total(void)
{
	int sum = pss(getpid());

	for (int i = 0; i < n_family; i++)
		sum += pss(family[i]);
	return sum;
}

static void grandchild(int who)
{
	data[40 * 512] = who;
	while (cr_wait()) {
		check_pages(0, PAGES);
		check_data(who);
	}
	_exit(0);
}

/* Each has done something else to what it has inherited. */
static void child(int who)
{
	int from = 0, to = PAGES;

	write_pages(who, who * 40, who * 40 + 20);
	data[40 * 512] = who;
	if (who == 2) {
		must(madvise(heap + 500 * 512, 30 * PAGE, MADV_DONTNEED));
		memset(expected + 500, -1, 30);
	} else if (who == 3) {
		must(mprotect(heap + 600 * 512, 10 * PAGE, PROT_READ));
	} else if (who == 4) {
		must(munmap(heap, 50 * PAGE));
		from = 50;
	} else if (who == 5) {
		must(munmap(heap + 900 * 512, 124 * PAGE));
		to = 900;
	} else if (who == 6) {
		write_pages(who, 700, 800); /* shared with its own children, and nobody else */
		for (int i = 0; i < 2; i++)
			if (cr_fork(i ? "second" : "first") == 0)
				grandchild(60 + i);
	}
	while (cr_wait()) {
		check_pages(from, to);
		check_data(who);
		if (cr_n == 2) {
			write_pages(who, 300, 310); /* nobody else sees it */
			check_pages(from, to);
		}
	}
	_exit(0);
}

int main(void)
{
	char tag[16];
	int before;

	heap = must(mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	early = must(mmap(NULL, 300 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	write_pages(0, 0, PAGES);
	cr_fill(data, 32 * PAGE, 77);
	data[40 * 512] = 0;
	cr_fill(early, 300 * PAGE, 5);
	for (int i = 1; i <= CHILDREN; i++) {
		snprintf(tag, sizeof(tag), "child%d", i);
		family[n_family++] = cr_fork(tag);
		if (family[n_family - 1] == 0)
			child(i);
	}
	/* what only the children have now */
	write_pages(99, 850, 890);
	must(munmap(early, 300 * PAGE));
	for (int i = 0; i < cr_n_tags; i++)
		cr_await("ready", 1, cr_tags[i]);
	before = total();
	cr_announce();
	for (;;) {
		cr_await("go", cr_n, "");
		if (cr_is_end(cr_n))
			return 0;
		check(total() < before * 11 / 10, "%d KiB in all, and %d before", total(), before);
		check_pages(0, PAGES);
		check_data(0);
		for (int i = 0; i < cr_n_tags; i++)
			cr_await("done", cr_n, cr_tags[i]);
		before = total();
		cr_announce();
	}
}
