/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,running ignore=memory,all */
/*
 * For tests/faults: processes whose first threads notice if they go on anywhere else than where they were, or with other registers or
 * another signal mask. A thread of each takes part in the rounds, and looks whether the first one goes on.
 */
#include "cr.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/time.h>

static volatile uint64_t turns;
static bool sleeps;	   /* the first thread makes no turns */
static bool eintr_is_fine; /* as after any stop (signal(7)), before it can be hidden */

static void *rounds(void *arg CR_UNUSED)
{
	while (cr_wait()) {
		uint64_t n = turns;

		for (int ms = 0; turns == n && !sleeps; ms++) {
			check(ms < 20000, "the first thread of %s does not go on", cr_tag);
			cr_msleep(1);
		}
	}
	_exit(0);
}

static void take_part(void)
{
	sigset_t all, old;
	pthread_t thread;

	sigfillset(&all);
	must(sigprocmask(SIG_SETMASK, &all, &old)); /* for the thread */
	check(pthread_create(&thread, NULL, rounds, NULL) == 0, "pthread_create");
	must(sigprocmask(SIG_SETMASK, &old, NULL));
}

/* Some thousand times round with a value in each register, vectors and flags (carry) among them; whether one has another one. */
static uint64_t hold_registers(uint64_t value)
{
	uint64_t wrong;

	__asm__ volatile("sub	$128, %%rsp\n\t"
			 "push	%%rbp\n\t"
			 "mov	%[value], %%rax\n\t"
			 "lea	1(%%rax), %%rbx\n\t"
			 "lea	2(%%rax), %%rdx\n\t"
			 "lea	3(%%rax), %%rsi\n\t"
			 "lea	4(%%rax), %%rdi\n\t"
			 "lea	5(%%rax), %%r8\n\t"
			 "lea	6(%%rax), %%r9\n\t"
			 "lea	7(%%rax), %%r10\n\t"
			 "lea	8(%%rax), %%r11\n\t"
			 "lea	9(%%rax), %%r12\n\t"
			 "lea	10(%%rax), %%r13\n\t"
			 "lea	11(%%rax), %%r14\n\t"
			 "lea	12(%%rax), %%r15\n\t"
			 "lea	13(%%rax), %%rbp\n\t"
			 "movq	%%rbp, %%xmm7\n\t"
			 "mov	$5000, %%ecx\n\t"
			 "stc\n"
			 "1:\n\t"
			 "jnc	2f\n\t"
			 "dec	%%ecx\n\t" /* leaves the carry */
			 "jnz	1b\n"
			 "2:\n\t"
			 "mov	$0, %%ecx\n\t"
			 "adc	$-1, %%rcx\n\t" /* 0: carry was there */
			 "sub	%%rax, %%rbx\n\tlea -1(%%rbx), %%rbx\n\tor %%rbx, %%rcx\n\t"
			 "sub	%%rax, %%rdx\n\tlea -2(%%rdx), %%rdx\n\tor %%rdx, %%rcx\n\t"
			 "sub	%%rax, %%rsi\n\tlea -3(%%rsi), %%rsi\n\tor %%rsi, %%rcx\n\t"
			 "sub	%%rax, %%rdi\n\tlea -4(%%rdi), %%rdi\n\tor %%rdi, %%rcx\n\t"
			 "sub	%%rax, %%r8\n\tlea -5(%%r8), %%r8\n\tor %%r8, %%rcx\n\t"
			 "sub	%%rax, %%r9\n\tlea -6(%%r9), %%r9\n\tor %%r9, %%rcx\n\t"
			 "sub	%%rax, %%r10\n\tlea -7(%%r10), %%r10\n\tor %%r10, %%rcx\n\t"
			 "sub	%%rax, %%r11\n\tlea -8(%%r11), %%r11\n\tor %%r11, %%rcx\n\t"
			 "sub	%%rax, %%r12\n\tlea -9(%%r12), %%r12\n\tor %%r12, %%rcx\n\t"
			 "sub	%%rax, %%r13\n\tlea -10(%%r13), %%r13\n\tor %%r13, %%rcx\n\t"
			 "sub	%%rax, %%r14\n\tlea -11(%%r14), %%r14\n\tor %%r14, %%rcx\n\t"
			 "sub	%%rax, %%r15\n\tlea -12(%%r15), %%r15\n\tor %%r15, %%rcx\n\t"
			 "movq	%%xmm7, %%rbx\n\tsub %%rbp, %%rbx\n\tor %%rbx, %%rcx\n\t"
			 "sub	%%rax, %%rbp\n\tlea -13(%%rbp), %%rbp\n\tor %%rbp, %%rcx\n\t"
			 "pop	%%rbp\n\t"
			 "add	$128, %%rsp"
			 : "=&c"(wrong)
			 : [value] "m"(value)
			 : "rax", "rbx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
			 "r15", "xmm7", "cc", "memory");
	return wrong;
}

static void check_mask(int sig)
{
	sigset_t set;

	must(sigprocmask(SIG_SETMASK, NULL, &set));
	for (int s = 1; s < 64; s++)
		check(sigismember(&set, s) == (s == sig), "mask: signal %d", s);
}

/* Linux 6.18 may let a thread that never sleeps keep all others from its CPU for a minute (tests/cr/faulty.c). */
static void pause_now_and_then(void)
{
	if (turns % 512 == 511)
		cr_msleep(1);
}

static _Noreturn void compute(int blocked)
{
	for (;; turns++, pause_now_and_then()) {
		check(hold_registers(cr_mix(turns)) == 0, "registers");
		if (turns % 64 == 0)
			check_mask(blocked);
	}
}

/* A file, its own memory, calls that answer what they should: nothing of ours in between. */
static _Noreturn void call(void)
{
	pid_t pid = getpid();

	for (;; turns++, pause_now_and_then()) {
		char *p =
			must(mmap(NULL, 8 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

		memset(p, 1, 8 << 12);
		check(getppid() && syscall(SYS_getpid) == pid, "a call of another kind");
		for (int i = 0; i < 8; i++)
			check(p[i << 12] == 1, "memory");
		must(munmap(p, 8 << 12));
	}
}

static sigjmp_buf back;
static volatile uint64_t ticks;

static void on_fault(int sig CR_UNUSED)
{
	siglongjmp(back, 1);
}

static void on_tick(int sig CR_UNUSED)
{
	ticks++;
}

/* A program that lives by signals: of a timer, and of what it does itself. */
static _Noreturn void handle(void)
{
	struct itimerval every = {{0, 300}, {0, 300}};
	volatile uint64_t faults = 0;

	signal(SIGSEGV, on_fault);
	signal(SIGALRM, on_tick);
	must(setitimer(ITIMER_REAL, &every, NULL));
	for (;; turns++, pause_now_and_then()) {
		check(hold_registers(cr_mix(turns)) == 0, "registers");
		if (sigsetjmp(back, 1) == 0)
			*(volatile int *)8 = 1;
		faults++;
		check(faults == turns + 1, "a fault");
	}
}

static _Noreturn void wait_for_events(void)
{
	int fd = must(epoll_create1(0));
	struct epoll_event event;

	sleeps = true;
	do
		check(epoll_wait(fd, &event, 1, -1) < 0 && errno == EINTR && eintr_is_fine,
			"a wait is over: %m");
	while (true);
}

static _Noreturn void sleep_long(void)
{
	struct timespec t = {1000, 0};

	sleeps = true;
	check(nanosleep(&t, NULL) == 0 && false, "a sleep of 1000 s is over: %m");
	_exit(1);
}

static void forbid(int nr)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

/* What may not call what we might. */
static _Noreturn void compute_filtered(void)
{
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	forbid(SYS_pause);
	forbid(SYS_mmap);
	forbid(SYS_personality);
	compute(0);
}

static void be(const char *tag)
{
	if (cr_fork(tag) != 0)
		return;
	if (!strcmp(tag, "blocked")) {
		sigset_t set;

		sigemptyset(&set);
		sigaddset(&set, SIGUSR2);
		must(sigprocmask(SIG_SETMASK, &set, NULL));
		must(kill(getpid(), SIGUSR2));
	}
	take_part();
	if (!strcmp(tag, "computing"))
		compute(0);
	if (!strcmp(tag, "blocked"))
		compute(SIGUSR2);
	if (!strcmp(tag, "calling"))
		call();
	if (!strcmp(tag, "handling"))
		handle();
	if (!strcmp(tag, "filtered"))
		compute_filtered();
	if (!strcmp(tag, "waiting"))
		wait_for_events();
	sleep_long();
}

int main(int argc, char **argv)
{
	static const char *const all[] = {
		"computing", "blocked", "calling", "handling", "filtered", "waiting", "sleeping"};

	eintr_is_fine = argc > 1 && !strcmp(argv[1], "lenient");
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		be(all[i]);
	cr_idle();
}
