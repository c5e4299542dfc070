/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every way in which memory comes, goes, moves, changes its mapping or is written, in any order, while checkpoints are made: a model
 * in the same memory knows what each page must hold. Mappings merge and split with their neighbours all the time in the first part of
 * the pages; the second one stays large; in the last one pages are only written, or away for a while, which is what shows best that
 * watching has ended unseen (mem_merged.c). Children run the same on what they have inherited.
 */
/* cr: ignore=all seed=1 modes=once,cycles,running,again,lazy,userns,rootless,packed,chain,generations,precopy,streamed,streamed_ahead seconds=120 */
#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "cr.h"

#define PAGE 4096UL
#define HUGE_PAGE (2UL << 20)
#define HOLE UINT64_MAX
enum {
	LOOSE = 1536,
	CALM = 3840,
	PAGES = 4096,
	FILE_PAGES = 64,
	WORDS = PAGE / 8,
	STACK = 64 << 10,
	AWAY = 24
};
/* Newer than the headers. */
enum {
	COLD = 20,
	PAGEOUT = 21,
	POPULATE_READ = 22,
	POPULATE_WRITE = 23,
	DONTNEED_LOCKED = 24,
	COLLAPSE = 25,
	GUARD_INSTALL = 102,
	GUARD_REMOVE = 103,
	DONTUNMAP = 4
};

static char *area;
/* Of each page: what is in it (0: zeros), what it has of a file when that is dropped, whether it may turn to zeros (MADV_FREE). */
static uint64_t value[PAGES], backing[PAGES];
static bool freed[PAGES];
/* Pages that have been moved away, each between others that cannot be written, to come back to where they were some time later. */
static struct {
	char *at;
	unsigned page;
	uint64_t value, backing;
	bool freed, used;
} away[AWAY];
static uint64_t next_value, operations;
static bool guards, is_child;
static int file, pipes[2], sockets[2];
static char *stack;
static pid_t child;
static const char *doing = "nothing";
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static unsigned chance(unsigned n)
{
	return cr_random() % n;
}

static char *at(unsigned page)
{
	return area + page * PAGE;
}

static void fill(uint64_t *words, uint64_t v)
{
	for (unsigned i = 0; i < WORDS; i++)
		words[i] = (v + i) * 0x9e3779b97f4a7c15ull | 1;
}

static bool holds(const uint64_t *words, uint64_t v)
{
	for (unsigned i = 0; i < WORDS; i++)
		if (words[i] != (v ? (v + i) * 0x9e3779b97f4a7c15ull | 1 : 0))
			return false;
	return true;
}

static void check_page(unsigned page)
{
	const uint64_t *words = (const uint64_t *)at(page);

	if (value[page] == HOLE)
		return;
	if (freed[page] && value[page] && words[0] == 0) {
		value[page] = 0;
		freed[page] = false;
	}
	check(holds(words, value[page]),
		"%s after %s (%llu): page %u of value %llx begins with %llx, not %llx",
		is_child ? "a child" : "it", doing, (unsigned long long)operations, page,
		(unsigned long long)value[page], (unsigned long long)words[0],
		(unsigned long long)(value[page] ? value[page] * 0x9e3779b97f4a7c15ull | 1 : 0));
}

static void check_away(unsigned i)
{
	const uint64_t *words = (const uint64_t *)away[i].at;

	if (away[i].freed && words[0] == 0) {
		away[i].value = 0;
		away[i].freed = false;
	}
	check(holds(words, away[i].value), "after %s: page %u, which is away, begins with %llx", doing,
		away[i].page, (unsigned long long)words[0]);
}

static void check_all(void)
{
	for (unsigned i = 0; i < PAGES; i++)
		check_page(i);
	for (unsigned i = 0; i < AWAY; i++)
		if (away[i].used)
			check_away(i);
}

static void set(unsigned from, unsigned n, uint64_t v, uint64_t b)
{
	for (unsigned i = from; i < from + n; i++) {
		value[i] = v;
		backing[i] = b;
		freed[i] = false;
	}
}

static void map(unsigned from, unsigned n)
{
	must(mmap(
		at(from), n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	set(from, n, 0, 0);
}

/* Pages that may be mapped anew: from 1 to "most" of them, none of which is a hole any more. */
static unsigned some(unsigned most, unsigned *ret_n)
{
	unsigned n = 1 + chance(most), from = chance(LOOSE - n);

	for (unsigned i = from; i < from + n; i++)
		if (value[i] == HOLE)
			map(i, 1);
	*ret_n = n;
	return from;
}

/* Pages of which nothing but the contents is changed; of both halves. */
static unsigned any(unsigned most, unsigned *ret_n)
{
	if (chance(2))
		return some(most, ret_n);
	*ret_n = 1 + chance(most);
	return LOOSE + chance(CALM - LOOSE - *ret_n);
}

static void note_written(unsigned page, uint64_t v)
{
	value[page] = v;
	freed[page] = false;
}

static void op_write(void)
{
	unsigned n, from = any(12, &n);

	if (chance(3) == 0)
		from = CALM + chance(PAGES - CALM - n);
	for (unsigned i = from; i < from + n; i++) {
		if (value[i] == HOLE)
			continue;
		fill((uint64_t *)at(i), ++next_value);
		note_written(i, next_value);
	}
}

static void op_check(void)
{
	unsigned n, from = any(64, &n);

	for (unsigned i = from; i < from + n; i++)
		check_page(i);
}

static void op_drop(void)
{
	unsigned n, from = any(64, &n);

	if (chance(4) || madvise(at(from), n * PAGE, DONTNEED_LOCKED) < 0)
		must(madvise(at(from), n * PAGE, MADV_DONTNEED));
	for (unsigned i = from; i < from + n; i++)
		set(i, 1, backing[i], backing[i]);
}

static void op_unmap(void)
{
	unsigned n, from = some(32, &n);

	must(munmap(at(from), n * PAGE));
	set(from, n, HOLE, 0);
}

static void op_map(void)
{
	unsigned n, from = some(64, &n);

	if (chance(2))
		must(munmap(at(from), n * PAGE));
	map(from, n);
}

static void op_map_file(void)
{
	unsigned n, from = some(16, &n), of = chance(FILE_PAGES - n);

	must(mmap(at(from), n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, of * PAGE));
	for (unsigned i = 0; i < n; i++)
		set(from + i, 1, HOLE - 1 - of - i, HOLE - 1 - of - i);
}

/* Several mappings may refuse to be moved together, and some of them have been moved by then. */
static void op_move(void)
{
	unsigned n, from = some(chance(3) ? 2 : 48, &n), to = chance(LOOSE - n);
	bool leave = chance(4) == 0;

	if (to < from + n && from < to + n)
		return;
	if (mremap(at(from), n * PAGE, n * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | (leave ? DONTUNMAP : 0),
		    at(to)) != at(to)) {
		check(errno == EFAULT || errno == EINVAL, "mremap: %m");
		map(from, n);
		map(to, n);
		return;
	}
	memcpy(&value[to], &value[from], n * sizeof(value[0]));
	memcpy(&backing[to], &backing[from], n * sizeof(backing[0]));
	memcpy(&freed[to], &freed[from], n * sizeof(freed[0]));
	for (unsigned i = from; i < from + n; i++)
		if (leave)
			set(i, 1, backing[i], backing[i]);
		else
			set(i, 1, HOLE, 0);
}

/* Page by page away and back, or with another one. */
static void op_swap(void)
{
	unsigned n, a = some(1, &n), b = some(1, &n);
	char *away = must(mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	uint64_t v = value[a], file_value = backing[a];
	bool may = freed[a];

	must(mremap(at(a), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, away));
	if (a != b) {
		must(mremap(at(b), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(a)));
		value[a] = value[b];
		backing[a] = backing[b];
		freed[a] = freed[b];
	}
	must(mremap(away, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(b)));
	value[b] = v;
	backing[b] = file_value;
	freed[b] = may;
}

/* Linux merges it with its neighbours when it comes back. */
static void op_away(void)
{
	unsigned n, i = chance(AWAY), page = away[i].page;

	if (away[i].used) {
		check_away(i);
		must(mremap(away[i].at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at(page)));
		value[page] = away[i].value;
		backing[page] = away[i].backing;
		freed[page] = away[i].freed;
		away[i].used = false;
		return;
	}
	page = chance(2) ? some(1, &n) : CALM + chance(PAGES - CALM);
	if (value[page] == HOLE)
		return;
	must(mremap(at(page), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, away[i].at));
	away[i].page = page;
	away[i].value = value[page];
	away[i].backing = backing[page];
	away[i].freed = freed[page];
	away[i].used = true;
	set(page, 1, HOLE, 0);
}

/* Into a hole behind it, or so that there is one. */
static void op_resize(void)
{
	unsigned n, from = some(24, &n), more = 1 + chance(24), i;

	if (chance(2) && n > 1) {
		if (mremap(at(from), n * PAGE, PAGE, 0) == MAP_FAILED)
			check(errno == EFAULT, "mremap: %m");
		else
			set(from + 1, n - 1, HOLE, 0);
		return;
	}
	if (from + n + more > LOOSE || backing[from + n - 1])
		return;
	if (chance(4)) {
		must(munmap(at(from + n), more * PAGE));
		set(from + n, more, HOLE, 0);
	}
	for (i = 0; i < more && value[from + n + i] == HOLE; i++)
		;
	if (mremap(at(from), n * PAGE, (n + more) * PAGE, 0) == MAP_FAILED)
		check(errno == EFAULT || errno == ENOMEM, "mremap: %m");
	else {
		check(i == more, "mremap() grew over what is mapped");
		set(from + n, more, 0, 0);
	}
}

static void op_protect(void)
{
	unsigned n, from = some(64, &n);

	must(mprotect(at(from), n * PAGE, chance(2) ? PROT_READ : PROT_NONE));
	must(mprotect(at(from), n * PAGE, PROT_READ));
	check_page(from);
	must(mprotect(at(from), n * PAGE, PROT_READ | PROT_WRITE));
}

static void op_free(void)
{
	unsigned n, from = any(16, &n);

	(void)madvise(at(from), n * PAGE, MADV_FREE);
	for (unsigned i = from; i < from + n; i++)
		freed[i] = freed[i] || !backing[i];
}

/* Nothing of this changes what is in there, whether it succeeds or not. */
static void op_advise(void)
{
	static const int advice[] = {COLD, PAGEOUT, POPULATE_READ, POPULATE_WRITE, MADV_HUGEPAGE,
		MADV_NOHUGEPAGE, MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_WILLNEED, MADV_SEQUENTIAL,
		MADV_NORMAL};
	static const int pairs[][2] = {{MADV_DONTFORK, MADV_DOFORK}, {MADV_WIPEONFORK, MADV_KEEPONFORK},
		{MADV_DONTDUMP, MADV_DODUMP}};
	unsigned n, from = any(64, &n), which = chance(sizeof(advice) / sizeof(advice[0]) + 3);

	if (which >= 3)
		(void)madvise(at(from), n * PAGE, advice[which - 3]);
	else if (from < LOOSE) {
		(void)madvise(at(from), n * PAGE, pairs[which][0]);
		(void)madvise(at(from), n * PAGE, pairs[which][1]);
	}
}

static void op_collapse(void)
{
	unsigned page = chance(PAGES / 512) * 512;

	(void)madvise(at(page), HUGE_PAGE, MADV_HUGEPAGE);
	(void)madvise(at(page), HUGE_PAGE, COLLAPSE);
}

static void op_lock(void)
{
	unsigned n, from = some(8, &n);

	if (mlock(at(from), n * PAGE) == 0)
		must(munlock(at(from), n * PAGE));
}

static void op_guard(void)
{
	unsigned n, from = some(4, &n);

	if (!guards || madvise(at(from), n * PAGE, GUARD_INSTALL) < 0)
		return;
	check(write(pipes[1], at(from), 1) < 0 && errno == EFAULT, "a guard region can be read");
	must(madvise(at(from), n * PAGE, GUARD_REMOVE));
	for (unsigned i = from; i < from + n; i++)
		set(i, 1, backing[i], backing[i]);
}

/* The kernel, or another process, writes them. */
static void write_foreign(unsigned page, pid_t pid, uint64_t v, bool by_file)
{
	static uint64_t words[WORDS];
	struct iovec local = {words, PAGE}, remote = {at(page), PAGE};
	char path[32], was;
	int fd, tries = 0;

	fill(words, v);
	if (!by_file) {
		check(process_vm_writev(pid, &local, 1, &remote, 1, 0) == PAGE, "process_vm_writev: %m");
		return;
	}
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = must(open(path, O_RDWR | O_CLOEXEC));
	/* The kernel does not wait there for what a lazy restore has not brought yet. */
	while (pread(fd, &was, 1, (off_t)(uintptr_t)at(page)) < 0 && errno == EIO && ++tries < 2000)
		cr_msleep(1);
	check(pwrite(fd, words, PAGE, (off_t)(uintptr_t)at(page)) == PAGE, "write %s: %m", path);
	close(fd);
}

static void await(pid_t pid)
{
	int status;

	must(waitpid(pid, &status, __WALL));
	check(status == 0, "a child ended with %x", status);
}

static void op_written_by_others(void)
{
	unsigned n, page = any(1, &n);
	uint64_t v = ++next_value;
	bool by_file = chance(2);
	pid_t parent = getpid(), pid;

	if (chance(4)) {
		write_foreign(page, parent, v, by_file);
	} else {
		pid = must(fork());
		if (pid == 0) {
			write_foreign(page, parent, v, by_file);
			_exit(0);
		}
		await(pid);
	}
	note_written(page, v);
}

static int write_as_clone(void *arg)
{
	unsigned page = (unsigned)(uintptr_t)arg;

	for (unsigned i = page; i < page + 4; i++)
		fill((uint64_t *)at(i), next_value + 1 + i - page);
	return 0;
}

/* A process that shares the memory. */
static void op_clone(void)
{
	unsigned page = LOOSE + chance(CALM - LOOSE - 4);
	pid_t pid = must(clone(write_as_clone, stack + STACK,
		CLONE_VM | SIGCHLD | (chance(2) ? CLONE_VFORK : 0), (void *)(uintptr_t)page));

	await(pid);
	for (unsigned i = page; i < page + 4; i++)
		note_written(i, ++next_value);
}

/* By way of a pipe that refers to the page, or a socket. */
static void op_pipe(void)
{
	unsigned n, a = any(1, &n), b = any(1, &n);
	struct iovec v = {at(a), PAGE};
	uint64_t was;

	check_page(a);
	was = value[a];
	if (was == HOLE || freed[a])
		return;
	switch (chance(3)) {
	case 0:
		check(vmsplice(pipes[1], &v, 1, 0) == PAGE, "vmsplice: %m");
		check(read(pipes[0], at(b), PAGE) == PAGE, "read: %m");
		break;
	case 1:
		check(write(pipes[1], at(a), PAGE) == PAGE, "write: %m");
		check(read(pipes[0], at(b), PAGE) == PAGE, "read: %m");
		break;
	default:
		check(send(sockets[0], at(a), PAGE, 0) == PAGE, "send: %m");
		check(recv(sockets[1], at(b), PAGE, MSG_WAITALL) == PAGE, "recv: %m");
	}
	note_written(b, was);
}

static void connect_self(void)
{
	must(pipe2(pipes, O_CLOEXEC));
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
}

static void operate(void);

/* A child that goes on for a while beside its parent, with the pages of both. */
static void op_fork(void)
{
	pid_t pid;

	if (is_child || chance(6))
		return;
	if (child > 0)
		await(child);
	pid = must(fork());
	if (pid) {
		child = pid;
		return;
	}
	is_child = true;
	cr_turn_random();
	connect_self();
	check_all();
	for (int i = 0; i < 150; i++)
		operate();
	check_all();
	if (chance(3) == 0)
		execl("/proc/self/exe", "mem_storm", "exit", NULL);
	_exit(0);
}

static const struct {
	const char *name;
	void (*run)(void);
	unsigned weight;
} ops[] = {{"write", op_write, 30}, {"check", op_check, 10}, {"drop", op_drop, 6}, {"unmap", op_unmap, 4},
	{"map", op_map, 6}, {"file", op_map_file, 2}, {"move", op_move, 12}, {"swap", op_swap, 6},
	{"away", op_away, 14}, {"resize", op_resize, 6}, {"protect", op_protect, 5}, {"free", op_free, 3},
	{"advise", op_advise, 8}, {"collapse", op_collapse, 1}, {"lock", op_lock, 2}, {"guard", op_guard, 2},
	{"others", op_written_by_others, 2}, {"clone", op_clone, 2}, {"pipe", op_pipe, 6},
	{"fork", op_fork, 1}};

static void operate(void)
{
	unsigned i, which, all = 0;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		all += ops[i].weight;
	which = chance(all);
	for (i = 0; which >= ops[i].weight; i++)
		which -= ops[i].weight;
	doing = ops[i].name;
	ops[i].run();
	operations++;
	if (operations % 40 == 0)
		cr_msleep(1);
}

static void *storm(void *arg)
{
	(void)arg;
	for (;;) {
		pthread_mutex_lock(&lock);
		operate();
		pthread_mutex_unlock(&lock);
		if (operations % 16 == 0)
			sched_yield();
	}
	return NULL;
}

static void set_up(void)
{
	static uint64_t words[WORDS];

	area = must(mmap(NULL, PAGES * PAGE + 2 * HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	area = (char *)(((uintptr_t)area + HUGE_PAGE) & ~(HUGE_PAGE - 1));
	map(0, LOOSE);
	map(LOOSE, PAGES - LOOSE);
	away[0].at = must(mmap(NULL, 2 * AWAY * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (unsigned i = 1; i < AWAY; i++)
		away[i].at = away[0].at + 2 * i * PAGE;
	stack = must(mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	file = must((int)syscall(SYS_memfd_create, "storm", 1U));
	for (unsigned i = 0; i < FILE_PAGES; i++) {
		fill(words, HOLE - 1 - i);
		check(write(file, words, PAGE) == PAGE, "write: %m");
	}
	connect_self();
	for (unsigned i = 0; i < PAGES; i++)
		if (i % 8) {
			fill((uint64_t *)at(i), ++next_value);
			value[i] = next_value;
		}
	/* a restore of who has them is not lazy */
	guards = chance(2);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc > 1 && !strcmp(argv[1], "exit"))
		return 0;
	cr_read_seed();
	set_up();
	check(pthread_create(&thread, NULL, storm, NULL) == 0, "thread");
	while (cr_wait()) {
		uint64_t before;

		pthread_mutex_lock(&lock);
		check_all();
		before = operations;
		pthread_mutex_unlock(&lock);
		for (int i = 0; i < 5000 && operations < before + 200; i++)
			cr_msleep(1);
		check(operations >= before + 200, "the other thread does not run");
		pthread_mutex_lock(&lock);
		check_all();
		pthread_mutex_unlock(&lock);
	}
	exit(0);
}
