/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs of tests/cr share. A program sets its kernel object up and then goes round by round:
 *
 *	while (cr_wait())
 *		check(value == 5, "the value is %d", value);
 *
 * cr_wait() says that the last round passed and that the program is ready for the next one, and returns when the harness
 * (tests/cr/harness.py) lets it check, after it has checkpointed and restored the container; 0 means the end. What is
 * said goes through files in /cr, opened for a moment only: waiting holds no descriptor, no lock, no shared
 * memory, and is itself a nanosleep that is cut off by the checkpoint.
 *
 * Processes made by cr_fork("tag") have rounds of their own; the parent's round is ready (passed) once theirs are.
 */
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CR_UNUSED __attribute__((unused))

static const char *cr_base = "/cr"; /* a program that changes its root sets this to where /cr is then */
static char cr_tag[64];		    /* "" in the first process, ".tag" in others */
static char cr_tags[64][64];	    /* of the processes that this one forked */
static int cr_n_tags;
static int cr_n;		   /* the round */
static uint64_t cr_seed, cr_state; /* of cr_random(); 0: it is not used */

/* A CPU that qemu emulates: twenty times slower, and what takes 10 ms elsewhere is seen in a clock. */
static CR_UNUSED int cr_emulated(void)
{
	char text[4096] = "";
	int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	return strstr(text, "TCG") != NULL;
}

static CR_UNUSED void cr_msleep(int ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};

	nanosleep(&t, NULL);
}

static CR_UNUSED int64_t cr_now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Writes a file at once (by rename, so that nobody reads half of it); the first of two writers of a result wins. */
static CR_UNUSED void cr_say(const char *name, int n, const char *tag, const char *text)
{
	char path[256], tmp[300];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.%d%s", cr_base, name, n, tag);
	snprintf(tmp, sizeof(tmp), "%s/.%s.%d%s.%d", cr_base, name, n, tag, (int)syscall(SYS_gettid));
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		_exit(98);
	if (write(fd, text, strlen(text)) < 0)
		_exit(98);
	close(fd);
	if (link(tmp, path) < 0 && errno != EEXIST)
		_exit(98);
	unlink(tmp);
}

static CR_UNUSED __attribute__((format(printf, 3, 4), noreturn)) void cr_fail(
	const char *file, int line, const char *format, ...)
{
	char text[1000];
	va_list ap;
	int n;

	n = snprintf(text, sizeof(text), "FAIL: %s:%d: ", file, line);
	va_start(ap, format);
	vsnprintf(text + n, sizeof(text) - n, format, ap);
	va_end(ap);
	n = strlen(text);
	if (cr_seed)
		snprintf(text + n, sizeof(text) - n, " (CR_SEED=%llu)", (unsigned long long)cr_seed);
	dprintf(2, "%s\n", text);
	cr_say("result", cr_n, "", text);
	_exit(1);
}

#define fail(...) cr_fail(__FILE__, __LINE__, __VA_ARGS__)
/* The statement under test. The first argument of the message may use errno by %m. */
#define check(condition, ...)                                                                                \
	do {                                                                                                 \
		if (!(condition))                                                                            \
			fail("" __VA_ARGS__);                                                                \
	} while (0)
/* A call that must not return -1 (NULL, MAP_FAILED); gives its value. */
#define must(call)                                                                                           \
	({                                                                                                   \
		__typeof__(call) _must = (call);                                                             \
		if ((long)_must == -1)                                                                       \
			fail("%s: %m", #call);                                                               \
		_must;                                                                                       \
	})

static CR_UNUSED bool cr_exists(const char *name, int n, const char *tag)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s.%d%s", cr_base, name, n, tag);
	return access(path, F_OK) == 0;
}

static CR_UNUSED void cr_await(const char *name, int n, const char *tag)
{
	while (!cr_exists(name, n, tag))
		cr_msleep(2);
}

/* Whether the round that cr_await("go") saw is the end. */
static CR_UNUSED bool cr_is_end(int n)
{
	char path[256], c = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/go.%d", cr_base, n);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, &c, 1) != 1)
		_exit(98);
	close(fd);
	return c == 'e';
}

/* The first half of cr_wait(), for programs that do not wait by themselves: announces the next round. */
static CR_UNUSED void cr_announce(void)
{
	if (cr_n > 0) {
		for (int i = 0; i < cr_n_tags; i++)
			cr_await("done", cr_n, cr_tags[i]);
		if (cr_tag[0])
			cr_say("done", cr_n, cr_tag, "PASS");
		else
			cr_say("result", cr_n, "", "PASS");
	}
	cr_n++;
	for (int i = 0; i < cr_n_tags; i++)
		cr_await("ready", cr_n, cr_tags[i]);
	cr_say("ready", cr_n, cr_tag, "ready");
}

static CR_UNUSED bool cr_wait(void)
{
	cr_announce();
	cr_await("go", cr_n, "");
	return !cr_is_end(cr_n);
}

/* fork() whose child takes part in the rounds under a name of its own. */
static CR_UNUSED pid_t cr_fork(const char *tag)
{
	pid_t pid;

	snprintf(cr_tags[cr_n_tags], sizeof(cr_tags[0]), "%.20s.%.40s", cr_tag, tag);
	pid = fork();
	if (pid < 0)
		fail("fork: %m");
	if (pid == 0) {
		memcpy(cr_tag, cr_tags[cr_n_tags], sizeof(cr_tag));
		cr_n_tags = 0;
	} else {
		cr_n_tags++;
	}
	return pid;
}

/* The parent of a process that is not its child (a daemon, a grandchild whose parent died) waits for it all the same. */
static CR_UNUSED void cr_expect(const char *tag)
{
	snprintf(cr_tags[cr_n_tags++], sizeof(cr_tags[0]), "%s", tag);
}

/* No longer waits for the child that was forked last. */
static CR_UNUSED void cr_forget(void)
{
	cr_n_tags--;
}

/* The rounds of a child that has nothing to check by itself. */
static CR_UNUSED __attribute__((noreturn)) void cr_idle(void)
{
	while (cr_wait())
		;
	_exit(0);
}

/* The test goes on in a child, as pid 1 is treated specially by the kernel (signals without handler do nothing). */
static CR_UNUSED void cr_not_init(void)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		fail("fork: %m");
	if (pid == 0)
		return;
	while (waitpid(pid, &status, 0) != pid)
		;
	if (status != 0)
		cr_say("result", 1, "", "FAIL: the program died");
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

/* A small file as text, for /proc. */
static CR_UNUSED ssize_t cr_read(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t r = 0;

	if (fd < 0)
		return -1;
	while (n < size - 1 && (r = read(fd, buf + n, size - 1 - n)) > 0)
		n += r;
	buf[n] = 0;
	close(fd);
	return r < 0 ? -1 : (ssize_t)n;
}

/* Another order in each run, unless CR_SEED is set for the harness. Programs that call this say "seed=1" to it. */
static CR_UNUSED void cr_read_seed(void)
{
	char path[256], text[32];

	snprintf(path, sizeof(path), "%s/seed", cr_base);
	cr_seed = cr_read(path, text, sizeof(text)) > 0 ? strtoull(text, NULL, 10) : 1;
	cr_state = (cr_seed + 1) * 0x9e3779b97f4a7c15ull | 1;
}

static CR_UNUSED uint64_t cr_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 20;
}

static CR_UNUSED uint64_t cr_random(void)
{
	return cr_next(&cr_state);
}

/* Another sequence than that of a relative. */
static CR_UNUSED void cr_turn_random(void)
{
	cr_state ^= 0x5851f42d4c957f2dull;
}

/* Pseudo-random bytes that depend on a seed only: to fill and to compare. */
static CR_UNUSED uint64_t cr_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static CR_UNUSED void cr_fill(void *p, size_t bytes, uint64_t seed)
{
	uint64_t *q = p;

	for (size_t i = 0; i < bytes / 8; i++)
		q[i] = cr_mix(seed + i);
}

/* The offset of the first difference, or -1. */
static CR_UNUSED ssize_t cr_differs(const void *p, size_t bytes, uint64_t seed)
{
	const uint64_t *q = p;

	for (size_t i = 0; i < bytes / 8; i++)
		if (q[i] != cr_mix(seed + i))
			return (ssize_t)(i * 8);
	return -1;
}
