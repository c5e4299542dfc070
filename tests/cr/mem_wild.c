/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=all seed=1 seconds=120 modes=once,cycles,running,again,lazy,packed,userns,rootless */
/*
 * Threads that read, write, free, move, unmap, protect, lock and fork memory all the time, and know what each page must hold: so a
 * checkpoint takes it at any moment, and a lazy restore fills it while it changes.
 */
#include "cr.h"

#ifndef GUARDS
#define GUARDS 0 /* mem_wild_guards.c: also guard regions, without which a restore may be lazy */
#endif

#include <pthread.h>
#include <sys/uio.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#define MADV_DONTNEED_LOCKED_OP 24
#define MADV_GUARD_INSTALL_OP 102
#define MADV_GUARD_REMOVE_OP 103

enum {
	PAGE = 4096,
	BLOCK_PAGES = 64,
	BLOCK = BLOCK_PAGES * PAGE,
	BLOCKS = 72,
	THREADS = 3,
	WORDS = PAGE / 8
};

struct block {
	char *at;
	uint32_t version[BLOCK_PAGES]; /* 0: zeros */
};

struct worker {
	pthread_t thread;
	int number, pipe[2];
	uint64_t random;
	struct block *blocks;
	unsigned long done;
};

static struct worker workers[THREADS];
static volatile bool end;

static uint64_t next(struct worker *w)
{
	return cr_next(&w->random);
}

static uint64_t word(struct worker *w, int block, int page, uint32_t version, int n)
{
	uint64_t x = ((uint64_t)w->number << 60) + ((uint64_t)block << 48) + ((uint64_t)page << 40) + version;

	return version ? (x + (uint64_t)n) * 0x9e3779b97f4a7c15ull | 1 : 0;
}

static void fill(struct worker *w, int block, int page)
{
	uint64_t *p = (uint64_t *)(w->blocks[block].at + (size_t)page * PAGE);
	uint32_t version = ++w->blocks[block].version[page];

	for (int n = 0; n < WORDS; n++)
		p[n] = word(w, block, page, version, n);
}

static bool is_right(struct worker *w, int block, int page, const uint64_t *p, bool zeros_too)
{
	uint32_t version = w->blocks[block].version[page];
	bool zero = zeros_too && p[0] == 0;

	for (int n = 0; n < WORDS; n++)
		if (p[n] != (zero ? 0 : word(w, block, page, version, n)))
			return false;
	return true;
}

static void verify(struct worker *w, int block, int page, const char *what)
{
	const uint64_t *p = (const uint64_t *)(w->blocks[block].at + (size_t)page * PAGE);

	check(is_right(w, block, page, p, false),
		"%s: page %d of block %d of thread %d, version %u, begins with %#llx", what, page, block,
		w->number, w->blocks[block].version[page], (unsigned long long)p[0]);
}

static void forget(struct block *b, int from, int n)
{
	memset(b->version + from, 0, n * sizeof(*b->version));
}

/* Fresh memory somewhere. */
static char *place(size_t size)
{
	return must(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static void drop(struct worker *w, struct block *b, int from, int n)
{
	int advice = next(w) % 3 ? MADV_DONTNEED : MADV_DONTNEED_LOCKED_OP;

	if (madvise(b->at + (size_t)from * PAGE, (size_t)n * PAGE, advice) < 0) {
		check(errno == EINVAL, "madvise: %m");
		must(madvise(b->at + (size_t)from * PAGE, (size_t)n * PAGE, MADV_DONTNEED));
	}
	forget(b, from, n);
}

static void free_lazily(struct worker *w, int block, int page)
{
	char *at = w->blocks[block].at + (size_t)page * PAGE;

	must(madvise(at, PAGE, MADV_FREE));
	check(is_right(w, block, page, (uint64_t *)at, true), "after MADV_FREE");
	drop(w, &w->blocks[block], page, 1);
}

static void renew(struct worker *w, struct block *b)
{
	must(munmap(b->at, BLOCK));
	b->at = place(BLOCK);
	forget(b, 0, BLOCK_PAGES);
}

static void move(struct worker *w, struct block *b)
{
	char *to = place(BLOCK), *old = b->at;
	bool leave = next(w) % 4 == 0;

	if (mremap(b->at, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED | (leave ? MREMAP_DONTUNMAP : 0), to) !=
		to) {
		check(errno == EFAULT, "mremap: %m"); /* more than one mapping, by now */
		renew(w, b);
		must(munmap(to, BLOCK));
		return;
	}
	b->at = to;
	if (!leave)
		return;
	for (size_t i = 0; i < BLOCK; i += PAGE)
		check(old[i] == 0, "what MREMAP_DONTUNMAP leaves is not zero");
	must(munmap(old, BLOCK));
}

static void grow(struct worker *w, struct block *b)
{
	char *to = mremap(b->at, BLOCK, 2 * BLOCK, MREMAP_MAYMOVE);

	if (to == MAP_FAILED) {
		check(errno == EFAULT, "mremap: %m");
		renew(w, b);
		return;
	}
	for (size_t i = BLOCK; i < 2 * BLOCK; i += PAGE)
		check(to[i] == 0, "what mremap() adds is not zero");
	b->at = must(mremap(to, 2 * BLOCK, BLOCK, 0));
}

/* Other memory in the middle. */
static void punch(struct worker *w, struct block *b)
{
	int from = next(w) % BLOCK_PAGES, n = 1 + next(w) % (BLOCK_PAGES - from);
	char *at = b->at + (size_t)from * PAGE;

	must(mmap(at, (size_t)n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		0));
	forget(b, from, n);
}

static void protect(struct worker *w, int block, int page)
{
	char *at = w->blocks[block].at + (size_t)page * PAGE;

	must(mprotect(at, PAGE, PROT_READ));
	verify(w, block, page, "read only");
	must(mprotect(at, PAGE, PROT_NONE));
	must(mprotect(at, PAGE, PROT_READ | PROT_WRITE));
	verify(w, block, page, "after mprotect()");
}

/* The kernel reads and writes it. */
static void by_calls(struct worker *w, int block, int page)
{
	char *at = w->blocks[block].at + (size_t)page * PAGE;
	static __thread uint64_t copy[WORDS];
	struct iovec local = {copy, PAGE}, remote = {at, PAGE};

	check(write(w->pipe[1], at, PAGE) == PAGE, "write: %m");
	check(read(w->pipe[0], copy, PAGE) == PAGE, "read: %m");
	check(is_right(w, block, page, copy, false), "what write() has seen of page %d of block %d", page,
		block);
	check(process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == PAGE, "process_vm_readv: %m");
	check(is_right(w, block, page, copy, false), "what process_vm_readv() has seen");
	page = (page + 1) % BLOCK_PAGES;
	for (int n = 0; n < WORDS; n++)
		copy[n] = word(w, block, page, w->blocks[block].version[page] + 1, n);
	check(write(w->pipe[1], copy, PAGE) == PAGE, "write: %m");
	check(read(w->pipe[0], w->blocks[block].at + (size_t)page * PAGE, PAGE) == PAGE, "read: %m");
	w->blocks[block].version[page]++;
	verify(w, block, page, "read()");
}

static void lock(struct worker *w, int block)
{
	struct block *b = &w->blocks[block];

	(void)!madvise(b->at, BLOCK, MADV_POPULATE_READ);
	if (mlock(b->at, BLOCK / 4) == 0)
		must(munlock(b->at, BLOCK / 4));
	verify(w, block, 0, "mlock()");
}

/* Until it is dropped again nobody may touch it. */
static void guard(struct worker *w, struct block *b)
{
	int page = next(w) % BLOCK_PAGES;
	char *at = b->at + (size_t)page * PAGE;

	if (madvise(at, PAGE, MADV_GUARD_INSTALL_OP) < 0)
		return; /* Linux 6.13 */
	forget(b, page, 1);
	cr_msleep(1);
	check(write(w->pipe[1], at, 1) < 0 && errno == EFAULT, "a guard region can be read");
	must(madvise(at, PAGE, MADV_GUARD_REMOVE_OP));
	verify(w, (int)(b - w->blocks), page, "a guard region");
}

static void fork_once(struct worker *w, bool all)
{
	int status;
	pid_t pid = must(fork());

	if (pid == 0) {
		for (int i = 0; i < BLOCKS; i++)
			for (int k = 0; k < BLOCK_PAGES; k += all ? 1 : 1 + next(w) % 40)
				if (!is_right(
					    w, i, k, (uint64_t *)(w->blocks[i].at + (size_t)k * PAGE), false))
					_exit(1);
		drop(w, &w->blocks[0], 0, BLOCK_PAGES);
		move(w, &w->blocks[0]);
		if (!is_right(w, 0, 0, (uint64_t *)w->blocks[0].at, false))
			_exit(2);
		if (next(w) % 2)
			execl("/proc/self/exe", "mem_wild", "exit", NULL);
		_exit(7);
	}
	while (waitpid(pid, &status, 0) < 0)
		check(errno == EINTR, "waitpid: %m");
	check(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the child ended with %#x", status);
}

static void operate(struct worker *w)
{
	int block = next(w) % BLOCKS, page = next(w) % BLOCK_PAGES;
	struct block *b = &w->blocks[block];
	unsigned what = next(w) % 400;

	if (what < 150)
		verify(w, block, page, "read");
	else if (what < 300)
		fill(w, block, page);
	else if (what < 320)
		drop(w, b, page, 1 + next(w) % (BLOCK_PAGES - page));
	else if (what < 330)
		free_lazily(w, block, page);
	else if (what < 334)
		renew(w, b);
	else if (what < 344)
		move(w, b);
	else if (what < 350)
		grow(w, b);
	else if (what < 356)
		punch(w, b);
	else if (what < 370)
		protect(w, block, page);
	else if (what < 390)
		by_calls(w, block, page);
	else if (what < 395)
		lock(w, block);
	else if (what < 396 && GUARDS)
		guard(w, b);
	else if (what < 398)
		fork_once(w, next(w) % 8 == 0);
	w->done++;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!end)
		operate(w);
	return NULL;
}

static void start(struct worker *w, int number)
{
	char *all = place((size_t)BLOCKS * BLOCK);

	w->number = number + 1;
	w->random = cr_mix(cr_seed + number) | 1;
	w->blocks = (struct block *)place(BLOCKS * sizeof(*w->blocks));
	must(pipe(w->pipe));
	for (int i = 0; i < BLOCKS; i++) {
		w->blocks[i].at = all + (size_t)i * BLOCK;
		for (int k = 0; k < BLOCK_PAGES; k++)
			if (i % 8)
				fill(w, i, k);
	}
	check(pthread_create(&w->thread, NULL, work, w) == 0, "pthread_create");
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "exit"))
		return 7;
	cr_read_seed();
	for (int i = 0; i < THREADS; i++)
		start(&workers[i], i);
	while (cr_wait()) {
		for (int i = 0; i < THREADS; i++) {
			unsigned long before = workers[i].done;

			while (workers[i].done < before + 300)
				cr_msleep(1);
		}
	}
	end = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	for (int i = 0; i < THREADS; i++)
		for (int b = 0; b < BLOCKS; b++)
			for (int k = 0; k < BLOCK_PAGES; k++)
				verify(&workers[i], b, k, "at the end");
	return 0;
}
