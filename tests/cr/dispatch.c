/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Syscall user dispatch: with the selector at "block" calls become SIGSYS, but those from a range of addresses. One thread
 * has it at "allow" while it waits, another sleeps in the range that is excepted, with "block".
 */
#include "cr.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/ptrace.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
enum { ALLOW, BLOCK };

static volatile char selector = ALLOW, other = ALLOW;
static volatile int caught, number, wanted, passed;

/* The calls that may pass: from here to its end. */
long raw(long nr, long a, long b, long c, long d);
extern const char raw_end[];
__asm__(".globl raw, raw_end\n"
	"raw:	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	mov %r8, %r10\n"
	"	syscall\n"
	"	ret\n"
	"raw_end:\n");

static void on_sigsys(int sig CR_UNUSED, siginfo_t *info, void *context CR_UNUSED)
{
	selector = other = ALLOW; /* before sigreturn */
	caught++;
	number = info->si_syscall;
}

/* All that it does after it has begun is in raw(). */
static void *sleeper(void *arg CR_UNUSED)
{
	must(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, raw, raw_end - (char *)raw, &other));
	other = BLOCK;
	passed = -1;
	for (int seen = 0;;) {
		while (wanted == seen)
			raw(SYS_futex, (long)&wanted, FUTEX_WAIT, seen, 0);
		seen = wanted;
		if (other == BLOCK)
			passed = seen;
	}
	return NULL;
}

/* Before Linux 6.4 nobody can see it. */
static bool kernel_shows_it(void)
{
	char config[32];
	pid_t pid = must(fork());
	bool shows;

	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(0);
	}
	must(waitpid(pid, NULL, WUNTRACED));
	shows = ptrace(0x4211 /* PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG */, pid, sizeof(config), config) ==
		0;
	kill(pid, SIGKILL);
	must(waitpid(pid, NULL, 0));
	return shows;
}

int main(void)
{
	struct sigaction sa = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
	pthread_t thread;

	if (!kernel_shows_it()) {
		cr_say("unavailable", 1, "", "syscall user dispatch that a tracer sees");
		pause();
	}
	sigaction(SIGSYS, &sa, NULL);
	check(pthread_create(&thread, NULL, sleeper, NULL) == 0, "pthread_create");
	while (!passed)
		cr_msleep(1);
	must(prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector));
	while (cr_wait()) {
		caught = 0;
		selector = BLOCK;
		raw(SYS_getppid, 0, 0, 0, 0);
		check(caught == 1 && number == SYS_getppid, "%d calls became signals, the last one %d",
			caught, number);
		check(selector == ALLOW, "the selector is elsewhere");
		other = BLOCK;
		wanted = cr_n;
		must(syscall(SYS_futex, &wanted, FUTEX_WAKE, 1));
		for (int i = 0; passed != cr_n && i < 10000; i++)
			cr_msleep(1);
		check(passed == cr_n && caught == 1, "the thread that sleeps in the excepted range");
	}
	return 0;
}
