/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN ignore=thread,memory,SigPnd,ShdPnd */
/*
 * Pid namespaces that processes have made for themselves, one in another: every process has its pids at each level, adopted
 * and dead ones too; threads, timers and signals go by them. Who made one stays outside of it, and its next child does not.
 */
#include "cr.h"

#include <pthread.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static volatile int handled, sender;

static void handler(int sig CR_UNUSED, siginfo_t *info, void *context CR_UNUSED)
{
	handled++;
	sender = info->si_pid;
}

static void pids(char *to, size_t size)
{
	char text[8192], *at;

	must(cr_read("/proc/self/status", text, sizeof(text)));
	at = strstr(text, "NSpid:");
	snprintf(to, size, "%.*s", (int)strcspn(at, "\n"), at);
}

static volatile pid_t worker_tid;

static void *worker(void *arg CR_UNUSED)
{
	worker_tid = gettid();
	for (;;)
		cr_msleep(5);
	return NULL;
}

/* Checks itself round by round; "zombie" is a dead child of its own. */
static void rounds(pid_t expected, pid_t zombie)
{
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2};
	struct itimerspec often = {{0, 5000000}, {0, 5000000}};
	char at_first[256], now[256];
	pthread_t thread;
	pid_t tid;
	int id, n;

	must(sigaction(SIGUSR1, &sa, NULL));
	must(sigaction(SIGUSR2, &sa, NULL));
	check(pthread_create(&thread, NULL, worker, NULL) == 0, "pthread_create");
	while (!worker_tid)
		cr_msleep(1);
	tid = worker_tid;
	event.sigev_notify_thread_id = tid;
	must(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id));
	must(syscall(SYS_timer_settime, id, 0, &often, NULL));
	pids(at_first, sizeof(at_first));
	while (cr_wait()) {
		pids(now, sizeof(now));
		check(!strcmp(now, at_first), "%s, was %s", now, at_first);
		check(getpid() == expected, "pid %d, not %d", getpid(), expected);
		must(syscall(SYS_tgkill, expected, tid, 0));
		must(kill(expected, SIGUSR1));
		check(sender == expected, "a signal of itself comes from %d", sender);
		n = handled;
		for (int ms = 0; handled == n; ms++) {
			check(ms < 2000, "the timer of thread %d stands still", tid);
			cr_msleep(1);
		}
		if (zombie) {
			siginfo_t info = {};

			check(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT) == 0 && info.si_status == 42,
				"the dead child %d: %m", zombie);
		}
	}
	exit(0);
}

static void deep(void)
{
	must(unshare(CLONE_NEWPID));
	if (cr_fork("deep") == 0)
		rounds(1, 0);
	cr_idle();
}

static void first(void)
{
	pid_t pid, dead;

	check(getpid() == 1, "the first process has pid %d", getpid());
	pid = cr_fork("second");
	if (pid == 0) {
		setsid();
		rounds(getpid(), 0);
	}
	dead = must(fork());
	if (dead == 0)
		_exit(42);
	pid = cr_fork("maker");
	if (pid == 0)
		deep();
	rounds(1, dead);
}

int main(void)
{
	pid_t outer = cr_fork("outer"), pid;

	if (outer) {
		cr_idle();
		return 0;
	}
	must(setpgid(0, 0));
	must(unshare(CLONE_NEWPID));
	pid = cr_fork("first");
	if (pid == 0)
		first();
	pid = cr_fork("beside");
	if (pid == 0)
		rounds(getpid(), 0);
	while (cr_wait()) {
		int status;

		check(kill(pid, 0) == 0, "the process beside it: %m");
		/* Another child is in there as well. */
		pid_t one = must(fork());

		if (one == 0)
			_exit(getpid());
		check(waitpid(one, &status, 0) == one, "waitpid: %m");
		check(WEXITSTATUS(status) != (one & 0xff), "a new child is outside of the pid namespace");
	}
	_exit(0);
}
