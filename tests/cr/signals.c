/* SPDX-License-Identifier: Apache-2.0 */
/* cr: also=filtered */
/*
 * Signals: handlers with their flags and masks, ignored ones, blocked ones, and pending signals of the process and of a
 * thread with all of their siginfo, real-time ones queued in order.
 */
#include "cr.h"

static volatile int got, got_value, got_code, got_pid, got_uid, nested;
static volatile int order[16], n_order;
static volatile int on_alt;
static char alt[32768];

static void on_info(int sig, siginfo_t *info, void *context CR_UNUSED)
{
	sigset_t mask;

	got = sig;
	got_value = info->si_value.sival_int;
	got_code = info->si_code;
	got_pid = info->si_pid;
	got_uid = info->si_uid;
	if (n_order < 16)
		order[n_order++] = got_value;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	nested = sigismember(&mask, sig) | sigismember(&mask, SIGTERM) << 1;
}

static void on_stack(int sig CR_UNUSED)
{
	char here;

	on_alt = &here >= alt && &here < alt + sizeof(alt);
}

static void plain(int sig)
{
	got = sig;
}

static void action(int sig, void (*f)(int, siginfo_t *, void *), int flags, int masked)
{
	struct sigaction sa = {.sa_sigaction = f, .sa_flags = flags};

	sigemptyset(&sa.sa_mask);
	if (masked)
		sigaddset(&sa.sa_mask, masked);
	must(sigaction(sig, &sa, NULL));
}

static void block(int how, int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	must(sigprocmask(how, &set, NULL));
}

static void set_up_pending(void)
{
	union sigval v = {.sival_int = 4711};
	siginfo_t info = {0};

	n_order = 0;
	block(SIG_BLOCK, SIGRTMIN + 3);
	block(SIG_BLOCK, SIGRTMIN + 4);
	block(SIG_BLOCK, SIGUSR2);
	block(SIG_BLOCK, SIGTRAP); /* the engine must not need it */
	for (v.sival_int = 1; v.sival_int <= 5; v.sival_int++)
		must(sigqueue(getpid(), SIGRTMIN + 3, v));
	v.sival_int = 4711;
	must(sigqueue(getpid(), SIGUSR2, v));
	info.si_signo = SIGRTMIN + 4;
	info.si_code = -60; /* of nobody's making */
	info.si_pid = 4242;
	info.si_uid = 77;
	info.si_value.sival_int = 99;
	must(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGRTMIN + 4, &info));
	must(kill(getpid(), SIGTRAP));
}

static void check_dispositions(void)
{
	struct sigaction sa;

	must(sigaction(SIGUSR1, NULL, &sa));
	check(sa.sa_sigaction == on_info && (sa.sa_flags & ~0x4000000) == (SA_SIGINFO | SA_RESTART),
		"flags of SIGUSR1: %x", sa.sa_flags);
	check(sigismember(&sa.sa_mask, SIGTERM) && !sigismember(&sa.sa_mask, SIGHUP), "mask of SIGUSR1");
	must(sigaction(SIGHUP, NULL, &sa));
	check(sa.sa_handler == SIG_IGN, "SIGHUP is not ignored any more");
	must(sigaction(SIGINT, NULL, &sa));
	check(sa.sa_handler == SIG_DFL, "SIGINT is not default any more");
	must(sigaction(SIGWINCH, NULL, &sa));
	check(sa.sa_handler == plain && (sa.sa_flags & SA_NODEFER) && (sa.sa_flags & SA_RESETHAND),
		"flags of SIGWINCH: %x", sa.sa_flags);
	must(sigaction(SIGTRAP, NULL, &sa));
	check(sa.sa_sigaction == on_info, "the handler of SIGTRAP is gone");
	must(sigaction(SIGCHLD, NULL, &sa));
	check(sa.sa_handler == SIG_DFL && (sa.sa_flags & SA_NOCLDWAIT), "SA_NOCLDWAIT is gone: %x",
		sa.sa_flags);
}

static void check_pending(void)
{
	sigset_t set;

	must(sigpending(&set));
	for (int s = 1; s < 64; s++)
		check(sigismember(&set, s) ==
				(s == SIGUSR2 || s == SIGTRAP || s == SIGRTMIN + 3 || s == SIGRTMIN + 4),
			"pending: signal %d", s);
	block(SIG_UNBLOCK, SIGRTMIN + 3);
	check(n_order == 5, "%d of 5 queued signals", n_order);
	for (int i = 0; i < 5; i++)
		check(order[i] == i + 1, "queued signal %d is %d", i, order[i]);
	check(got_code == SI_QUEUE && got_pid == getpid() && got_uid == (int)getuid(),
		"siginfo: code %d pid %d", got_code, got_pid);
	block(SIG_UNBLOCK, SIGUSR2);
	check(got == SIGUSR2 && got_value == 4711, "SIGUSR2 with %d", got_value);
	block(SIG_UNBLOCK, SIGRTMIN + 4);
	check(got == SIGRTMIN + 4 && got_code == -60 && got_pid == 4242 && got_uid == 77 && got_value == 99,
		"siginfo of the thread's signal: code %d pid %d uid %d value %d", got_code, got_pid, got_uid,
		got_value);
	block(SIG_UNBLOCK, SIGTRAP);
	check(got == SIGTRAP && got_code == SI_USER, "SIGTRAP");
}

int main(void)
{
	stack_t stack = {.ss_sp = alt, .ss_size = sizeof(alt)};
	struct sigaction sa = {.sa_handler = plain, .sa_flags = SA_NODEFER | (int)SA_RESETHAND};
	struct sigaction on = {.sa_handler = on_stack, .sa_flags = SA_ONSTACK};
	struct sigaction nocld = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};

	action(SIGUSR1, on_info, SA_SIGINFO | SA_RESTART, SIGTERM);
	action(SIGUSR2, on_info, SA_SIGINFO, 0);
	action(SIGTRAP, on_info, SA_SIGINFO, 0);
	action(SIGRTMIN + 3, on_info, SA_SIGINFO, 0);
	action(SIGRTMIN + 4, on_info, SA_SIGINFO, 0);
	signal(SIGHUP, SIG_IGN);
	must(sigaction(SIGURG, &on, NULL));
	must(sigaction(SIGCHLD, &nocld, NULL));
	must(sigaltstack(&stack, NULL));
	for (;;) {
		must(sigaction(SIGWINCH, &sa, NULL));
		set_up_pending();
		if (!cr_wait())
			break;
		check_dispositions();
		check_pending();
		must(kill(getpid(), SIGUSR1));
		check(got == SIGUSR1 && nested == 3, "in the handler of SIGUSR1 the mask is %d", nested);
		must(kill(getpid(), SIGURG));
		check(on_alt, "SA_ONSTACK or the alternate stack is lost");
		must(kill(getpid(), SIGHUP));
		must(kill(getpid(), SIGWINCH));
		check(got == SIGWINCH, "SIGWINCH");
	}
	return 0;
}
