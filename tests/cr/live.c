/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that changes in all ways while it is written to the image: generations that are written over all of it, by two
 * processes that are never more than one step apart, and to a file on a tmpfs; mappings that are made, moved, dropped and
 * unmapped; programs that are executed over and over; children that come and go. Everything is checked before it is changed:
 * of memory as it was at any other moment than that of the registers, or of another process, something would be wrong.
 *
 * Nobody notices a checkpoint that leaves it running: pids follow one another, each child sends one SIGCHLD, and who waits for
 * children of whatever kind finds none but his own.
 */
/* cr: modes=running,again,once,ended tmpfs=/mnt ignore=all */
#include <signal.h>

#include "cr.h"

#define PAGE 4096UL
#define MIB (1UL << 20)
enum { BIG = 10, WORKERS = 4 };

static uint64_t *map(size_t bytes)
{
	return must(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

/* From one generation to the next. */
static void step(uint64_t *m, size_t bytes, uint64_t g)
{
	for (size_t i = 0; i < bytes / 8; i += PAGE / 8) {
		check(m[i] == g - 1 && m[i + 511] == g - 1, "page %zu is of generation %lu and %lu, not %lu",
			i / 512, m[i], m[i + 511], g - 1);
		m[i] = m[i + 511] = g;
	}
}

/* All of memory, and a file, whose contents belong together. */
static void sweeper(void)
{
	uint64_t *m = map(2 * BIG * MIB), g = 0, in_file = 0;
	int fd = must(open("/mnt/generation", O_RDWR | O_CREAT | O_CLOEXEC, 0600));

	must(pwrite(fd, &g, 8, 0));
	for (g = 1;; g++) {
		step(m, 2 * BIG * MIB, g);
		check(pread(fd, &in_file, 8, 0) == 8 && in_file == g - 1,
			"the file is of generation %lu, not %lu", in_file, g - 1);
		must(pwrite(fd, &g, 8, 0));
		cr_msleep(1);
	}
}

/* Two that take turns. */
static void partner(int from, int to, bool first)
{
	uint64_t *m = map(BIG * MIB), token = 0;

	for (uint64_t g = 1;; g++) {
		if (!first || g > 1)
			check(read(from, &token, 8) == 8 && token == (first ? g - 1 : g),
				"token %lu, not %lu", token, first ? g - 1 : g);
		step(m, BIG * MIB, g);
		must(write(to, &g, 8));
		if (first)
			cr_msleep(1);
	}
}

static void partners(void)
{
	int there[2], back[2];
	pid_t pid;

	must(pipe(there));
	must(pipe(back));
	pid = must(fork());
	if (pid == 0)
		partner(there[0], back[1], false);
	partner(back[0], there[1], true);
}

/* Maps, moves, drops and unmaps. */
static void mapper(void)
{
	uint64_t *base = map(BIG * MIB), *kept = base + BIG * MIB / 16, *m;

	cr_fill(kept, BIG * MIB / 2, 7);
	for (uint64_t g = 1;; g++) {
		m = map(2 * MIB);
		cr_fill(m, 2 * MIB, g);
		m = must(mremap(m, 2 * MIB, 3 * MIB, MREMAP_MAYMOVE));
		check(cr_differs(m, 2 * MIB, g) < 0 && m[2 * MIB / 8] == 0, "moved memory");
		must(madvise(m, MIB, MADV_DONTNEED));
		for (size_t i = 0; i < MIB / 8; i += 64)
			check(m[i] == 0, "dropped memory");
		must(munmap(m, 3 * MIB));
		must(munmap(base, BIG * MIB / 2));
		check(mmap(base, BIG * MIB / 2, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == base,
			"mmap: %m");
		check(base[0] == 0 && base[MIB / 8] == 0, "new memory");
		cr_fill(base, BIG * MIB / 2, g);
		check(cr_differs(kept, BIG * MIB / 2, 7) < 0, "the other half");
		cr_msleep(1);
	}
}

/* Executes itself, with the number of its generation. */
static void execer(const char *number)
{
	uint64_t g = strtoull(number, NULL, 10), *m = map(BIG * MIB);
	char next[32], *argv[] = {(char *)"live", (char *)"execer", next, NULL};

	cr_fill(m, BIG * MIB, g);
	cr_msleep(5);
	check(cr_differs(m, BIG * MIB, g) < 0, "generation %lu", g);
	snprintf(next, sizeof(next), "%lu", g + 1);
	must(execv("/proc/self/exe", argv));
}

static volatile sig_atomic_t heard;

static void on_child(int sig)
{
	(void)sig;
	heard++;
}

/* When this process was made: another time after a restore. */
static unsigned long long start_time(void)
{
	unsigned long long t = 0;
	char text[1024], *at;

	must(cr_read("/proc/self/stat", text, sizeof(text)));
	at = strrchr(text, ')') + 2;
	for (int i = 3; i < 22; i++)
		at = strchr(at, ' ') + 1;
	t = strtoull(at, NULL, 10);
	return t;
}

/* The only one that has children, and so the one who gets all pids. */
static void forker(void)
{
	uint64_t *m = map(BIG * MIB);
	unsigned long long before = 0;
	sigset_t block, old;
	pid_t last = 0;

	cr_fill(m, BIG * MIB, 3);
	signal(SIGCHLD, on_child);
	sigemptyset(&block);
	sigaddset(&block, SIGCHLD);
	for (int n = 1;; n++) {
		unsigned long long now = start_time();
		pid_t pid, other;
		int status;

		must(sigprocmask(SIG_BLOCK, &block, &old));
		pid = must(fork());
		if (pid == 0) {
			m[n % 512 * 512]++; /* its own copy */
			cr_msleep(2);
			m[n % 512 * 512]--;
			_exit(cr_differs(m, BIG * MIB, 3) < 0 ? 7 : 8);
		}
		/* A restore since before the last fork begins with other pids. */
		check(last == 0 || pid == last + 1 || pid < last || start_time() != before, "pid %d after %d",
			pid, last);
		before = now;
		last = pid;
		while (heard < n)
			sigsuspend(&old);
		must(sigprocmask(SIG_SETMASK, &old, NULL));
		other = waitpid(-1, &status, __WALL);
		check(other == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7,
			"waited for %d, got %d: %x", pid, other, status);
		check(waitpid(-1, &status, __WALL | WNOHANG) == -1 && errno == ECHILD,
			"there is another child");
		check(waitpid(-1, &status, __WCLONE | WNOHANG) == -1 && errno == ECHILD,
			"there is a clone child");
		cr_msleep(3);
		check(heard == n, "%d children, and SIGCHLD %d times", n, heard);
	}
}

int main(int argc, char **argv)
{
	void (*const workers[WORKERS])(void) = {sweeper, partners, mapper, forker};
	pid_t pids[WORKERS + 1];
	size_t n = 0;
	int status;

	if (argc == 3)
		execer(argv[2]);
	for (; n < WORKERS; n++) {
		pids[n] = must(fork());
		if (pids[n] == 0)
			workers[n]();
	}
	pids[n] = must(fork());
	if (pids[n++] == 0)
		execer("1");
	cr_msleep(100);
	while (cr_wait()) {
		cr_msleep(300);
		for (size_t i = 0; i < n; i++)
			check(waitpid(pids[i], &status, WNOHANG) == 0, "worker %zu ended: %x", i, status);
	}
	return 0;
}
