/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is written, freed, mapped anew, moved, protected, inherited and thrown away by an exec, all the time, also while a
 * checkpoint is made. A model says for each page what must be in it; it lies in the same memory, so whatever moment the image shows
 * is right by itself. Two processes do so, and children that come and go.
 */
/* cr: ignore=all seed=1 modes=once,cycles,running,again,userns,packed,chain,generations,precopy,streamed_ahead seconds=120 */
#include <pthread.h>

#include "cr.h"

#define PAGE 4096UL
enum { PAGES = 2048, PIECE = 64, BREAK_PAGES = 256 };

static char *area;
static uint32_t version[PAGES]; /* 0: the page is empty */
static uint32_t break_version[BREAK_PAGES];
static int break_pages; /* of the heap's end that are in use */
static char *break_start;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t operations;

static unsigned chance(unsigned n)
{
	return cr_random() % n;
}

static uint64_t word_of(unsigned page, uint32_t v, unsigned i)
{
	return v ? ((uint64_t)v << 32 | page) * 0x9e3779b97f4a7c15ull + i : 0;
}

static void write_page(char *at, unsigned page, uint32_t v)
{
	uint64_t *words = (uint64_t *)at;

	/* mostly little of a page changes */
	for (unsigned i = 0; i < PAGE / 8; i++)
		words[i] = word_of(page, v, i);
}

static void check_page(const char *at, unsigned page, uint32_t v, const char *what)
{
	const uint64_t *words = (const uint64_t *)at;

	for (unsigned i = 0; i < PAGE / 8; i++)
		check(words[i] == word_of(page, v, i), "%s: page %u (version %u) at %u: %llx instead of %llx",
			what, page, v, i, (unsigned long long)words[i],
			(unsigned long long)word_of(page, v, i));
}

static void check_all(const char *what)
{
	for (unsigned i = 0; i < PAGES; i++)
		check_page(area + i * PAGE, i, version[i], what);
	for (int i = 0; i < break_pages; i++)
		check_page(break_start + i * PAGE, i, break_version[i], "heap");
}

static void write_some(void)
{
	unsigned from = chance(PAGES - 8), n = 1 + chance(8);

	for (unsigned i = from; i < from + n; i++)
		write_page(area + i * PAGE, i, ++version[i]);
}

static void drop_some(void)
{
	unsigned from = chance(PAGES - PIECE), n = 1 + chance(PIECE);

	must(madvise(area + from * PAGE, n * PAGE, MADV_DONTNEED));
	memset(&version[from], 0, n * sizeof(version[0]));
}

/* As large as what a page table is for: that goes, too, when all of a block is dropped. */
enum { BLOCKS = 8, BLOCK_PAGES = 512, USED = 61 /* every so many page */ };
static char *blocks;
static uint32_t block_version[BLOCKS], last_version;

static void turn_block(void)
{
	unsigned b = chance(BLOCKS);
	char *block = blocks + b * BLOCK_PAGES * PAGE;

	if (block_version[b]) {
		must(madvise(block, BLOCK_PAGES * PAGE, MADV_DONTNEED));
		block_version[b] = 0;
		return;
	}
	block_version[b] = ++last_version;
	for (unsigned i = 0; i < BLOCK_PAGES; i += USED)
		write_page(block + i * PAGE, i, last_version);
}

static void check_blocks(void)
{
	for (unsigned b = 0; b < BLOCKS; b++)
		for (unsigned i = 0; i < BLOCK_PAGES; i += USED)
			check_page(blocks + (b * BLOCK_PAGES + i) * PAGE, i, block_version[b], "block");
}

static void map_anew(void)
{
	unsigned from = chance(PAGES - PIECE), n = 1 + chance(PIECE);

	if (chance(2))
		must(munmap(area + from * PAGE, n * PAGE));
	must(mmap(area + from * PAGE, n * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	memset(&version[from], 0, n * sizeof(version[0]));
}

/* Away and back: one page at a time, as pages may belong to several mappings. */
static void move_some(void)
{
	unsigned from = chance(PAGES - 8), n = 1 + chance(8);

	for (unsigned i = from; i < from + n; i++) {
		char *away = must(mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

		must(mremap(area + i * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, away));
		if (chance(2))
			write_page(away, i, ++version[i]);
		must(mremap(away, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + i * PAGE));
	}
}

/* Two pages change places. */
static void swap_some(void)
{
	unsigned a = chance(PAGES), b = chance(PAGES);
	char *away;

	if (a == b)
		return;
	away = must(mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	must(mremap(area + a * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, away));
	must(mremap(area + b * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + a * PAGE));
	must(mremap(away, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + b * PAGE));
	write_page(area + a * PAGE, a, ++version[a]);
	write_page(area + b * PAGE, b, ++version[b]);
}

static void protect_some(void)
{
	unsigned from = chance(PAGES - PIECE), n = 1 + chance(PIECE);

	must(mprotect(area + from * PAGE, n * PAGE, PROT_NONE));
	must(mprotect(area + from * PAGE, n * PAGE, PROT_READ));
	check_page(area + from * PAGE, from, version[from], "protected");
	must(mprotect(area + from * PAGE, n * PAGE, PROT_READ | PROT_WRITE));
}

static void move_break(void)
{
	int want = chance(BREAK_PAGES);

	must(brk(break_start + want * PAGE));
	for (int i = break_pages; i < want; i++)
		if (chance(2))
			write_page(break_start + i * PAGE, i, ++break_version[i]);
	for (int i = want; i < BREAK_PAGES; i++)
		break_version[i] = 0;
	break_pages = want;
}

/* What smaps says of one mapping: does it come with what else changes? */
static char *advised;
static bool left_out;

static bool is_left_out(void)
{
	static char smaps[1 << 20];
	char head[64], *p, *end;

	must(cr_read("/proc/self/smaps", smaps, sizeof(smaps)));
	snprintf(head, sizeof(head), "%lx-", (unsigned long)advised);
	p = strstr(smaps, head);
	check(p && (p == smaps || p[-1] == '\n'), "no mapping starts at %p", advised);
	p = strstr(p, "VmFlags:");
	end = strchr(p, '\n');
	*end = '\0';
	return strstr(p, " dd") != NULL;
}

static void advise(void)
{
	bool now = chance(2);

	must(madvise(advised, PAGE, now ? MADV_DONTDUMP : MADV_DODUMP));
	left_out = now;
}

static void have_child(void)
{
	int status;
	pid_t pid = must(fork());

	if (pid == 0) {
		check_all("inherited");
		for (int i = 0; i < 20; i++)
			write_some();
		check_all("in a child");
		if (chance(2))
			execl("/proc/self/exe", "mem_churn", "short", NULL);
		_exit(0);
	}
	write_some();
	must(waitpid(pid, &status, 0));
	check(status == 0, "a child ended with %x", status);
}

static void *be_wild(void *arg)
{
	static void (*const moves[])(void) = {write_some, write_some, write_some, write_some, drop_some,
		turn_block, map_anew, move_some, swap_some, protect_some, move_break, advise};

	(void)arg;
	for (;;) {
		pthread_mutex_lock(&lock);
		if (chance(400) == 0)
			have_child();
		else
			moves[chance(sizeof(moves) / sizeof(moves[0]))]();
		operations++;
		pthread_mutex_unlock(&lock);
		if (operations % 50 == 0)
			cr_msleep(1);
	}
	return NULL;
}

/* What execs: memory of its own, which is soon gone. */
static int be_short(void)
{
	char *own = must(mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	for (unsigned i = 0; i < 64; i++)
		write_page(own + i * PAGE, i, 7);
	cr_msleep(2);
	for (unsigned i = 0; i < 64; i++)
		check_page(own + i * PAGE, i, 7, "after an exec");
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc > 1 && !strcmp(argv[1], "short"))
		return be_short();
	cr_read_seed();
	area = must(mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	blocks = must(mmap(NULL, (BLOCKS + 1) * BLOCK_PAGES * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	blocks = (char *)(((uintptr_t)blocks + BLOCK_PAGES * PAGE - 1) & ~(BLOCK_PAGES * PAGE - 1));
	/* between others, so that it stays one of its own */
	advised = must(mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) + PAGE;
	must(mprotect(advised, PAGE, PROT_READ));
	for (unsigned i = 0; i < PAGES; i += 2)
		write_page(area + i * PAGE, i, ++version[i]);
	if (cr_fork("other") == 0)
		cr_turn_random();
	/* the heap proper belongs to malloc */
	break_start = (char *)(((uintptr_t)must(sbrk(0)) + PAGE - 1) & ~(PAGE - 1));
	must(brk(break_start));
	check(pthread_create(&thread, NULL, be_wild, NULL) == 0, "thread");
	while (cr_wait()) {
		uint64_t before;

		pthread_mutex_lock(&lock);
		check_all("after");
		check_blocks();
		check(is_left_out() == left_out, "advice: %d", left_out);
		before = operations;
		pthread_mutex_unlock(&lock);
		for (int i = 0; i < 2000; i++) {
			pthread_mutex_lock(&lock);
			if (operations > before + 20)
				i = 2000;
			pthread_mutex_unlock(&lock);
			cr_msleep(1);
		}
		check(operations > before, "the other thread does not run");
	}
	exit(0);
}
