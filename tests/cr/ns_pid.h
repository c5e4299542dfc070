/* SPDX-License-Identifier: Apache-2.0 */
/* Of programs about pid namespaces: a process that has a thread, a timer and perhaps a dead child, and checks that all its pids are
 * as they were. */
#pragma once

#include "cr.h"

#include <pthread.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static volatile int handled, sender;

static void handler(int sig, siginfo_t *info, void *context CR_UNUSED)
{
	handled++;
	if (sig == SIGUSR1) /* that of a timer has an id there */
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
