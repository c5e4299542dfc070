/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,running,again,userns pause=0.3 ignore=Threads,thread,memory */
/*
 * Calls with a time limit that was half over at the checkpoint: each ends when the rest of it is over, not after the whole
 * time again, and with its registers as the program left them. Each is in a thread of its own.
 */
#include "cr.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/select.h>

enum { MS = 2500, BEFORE_MS = 1300, SOON = MS + 1100 };

static struct timespec span = {MS / 1000, MS % 1000 * 1000000L};
static uint32_t word;
static int quiet[2];
static volatile int running;

/* The raw call: the kernel changes rax, rcx and r11, and so may nobody else. */
static long raw(long nr, long a, long b, long c, long d, long e, long f)
{
	register long rdi __asm__("rdi") = a, rsi __asm__("rsi") = b, rdx __asm__("rdx") = c;
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result = nr;

	__asm__ volatile("syscall"
			 : "+a"(result), "+r"(rdi), "+r"(rsi), "+r"(rdx), "+r"(r10), "+r"(r8), "+r"(r9)
			 :
			 : "rcx", "r11", "memory");
	check(rdi == a && rsi == b && rdx == c && r10 == d && r8 == e && r9 == f,
		"call %ld came back with other registers: %lx %lx %lx %lx %lx %lx", nr, rdi, rsi, rdx, r10,
		r8, r9);
	return result;
}

static long f_nanosleep(void)
{
	return raw(SYS_nanosleep, (long)&span, 0, 3, 4, 5, 6);
}

static long f_nanosleep_rest(void)
{
	static struct timespec rest;

	return raw(SYS_nanosleep, (long)&span, (long)&rest, 3, 4, 5, 6);
}

static long f_clock_nanosleep(void)
{
	return raw(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, (long)&span, 0, 5, 6);
}

static long f_clock_nanosleep_boot(void)
{
	return raw(SYS_clock_nanosleep, CLOCK_BOOTTIME, 0, (long)&span, 0, 5, 6);
}

static long f_poll(void)
{
	struct pollfd p = {quiet[0], POLLIN, 0};

	return raw(SYS_poll, (long)&p, 1, MS, 4, 5, 6);
}

static long f_futex(void)
{
	return raw(SYS_futex, (long)&word, FUTEX_WAIT_PRIVATE, 0, (long)&span, 5, 6) == -ETIMEDOUT ? 0 : -1;
}

static long f_ppoll(void)
{
	struct pollfd p = {quiet[0], POLLIN, 0};
	struct timespec t = span;

	return raw(SYS_ppoll, (long)&p, 1, (long)&t, 0, 8, 6);
}

static long f_select(void)
{
	struct timeval t = {MS / 1000, MS % 1000 * 1000};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(quiet[0], &set);
	return raw(SYS_select, quiet[0] + 1, (long)&set, 0, 0, (long)&t, 6);
}

static long f_pselect(void)
{
	struct timespec t = span;

	return raw(SYS_pselect6, 0, 0, 0, 0, (long)&t, 0);
}

static struct call {
	const char *name;
	long (*f)(void);
	pthread_t thread;
	long result, took_ms;
} calls[] = {
	{.name = "nanosleep", .f = f_nanosleep},
	{.name = "another nanosleep", .f = f_nanosleep},
	{.name = "nanosleep with a remnant", .f = f_nanosleep_rest},
	{.name = "clock_nanosleep", .f = f_clock_nanosleep},
	{.name = "clock_nanosleep of the boot time", .f = f_clock_nanosleep_boot},
	{.name = "poll", .f = f_poll},
	{.name = "futex", .f = f_futex},
	{.name = "ppoll", .f = f_ppoll},
	{.name = "select", .f = f_select},
	{.name = "pselect", .f = f_pselect},
};

enum { N = sizeof(calls) / sizeof(calls[0]) };

static void *run(void *arg)
{
	struct call *c = arg;
	int64_t start = cr_now_ns(CLOCK_MONOTONIC);

	__atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST);
	c->result = c->f();
	c->took_ms = (cr_now_ns(CLOCK_MONOTONIC) - start) / 1000000;
	return NULL;
}

int main(void)
{
	must(pipe(quiet));
	for (;;) {
		running = 0;
		for (int i = 0; i < N; i++)
			check(pthread_create(&calls[i].thread, NULL, run, &calls[i]) == 0, "pthread_create");
		while (running < N)
			cr_msleep(1);
		cr_msleep(BEFORE_MS);
		if (!cr_wait())
			break;
		for (int i = 0; i < N; i++) {
			struct call *c = &calls[i];

			pthread_join(c->thread, NULL);
			check(c->result == 0, "%s: %ld", c->name, c->result);
			check(c->took_ms >= MS && (c->took_ms < SOON || cr_emulated()),
				"%s took %ld ms, not %d", c->name, c->took_ms, MS);
		}
	}
	_exit(0);
}
