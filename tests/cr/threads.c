/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=memory also=filtered,packed */
/* Threads: ids, names, thread-local memory, signal masks, alternate stacks, robust lists; each goes on counting. */
#include "cr.h"

#include <linux/futex.h>
#include <pthread.h>

enum { N = 12 };

static __thread uint64_t local;
static __thread char local_text[100];

struct worker {
	pthread_t thread;
	pid_t tid;
	volatile uint64_t count;
	volatile int command; /* a round to check in, or -1 */
	volatile int checked;
	void *robust;
	size_t robust_len;
	char altstack[16384];
} workers[N];

static pthread_mutex_t mutex;
static volatile int on_altstack;

static void handler(int sig CR_UNUSED)
{
	char here;

	for (int i = 0; i < N; i++)
		if (workers[i].tid == gettid())
			on_altstack = &here >= workers[i].altstack &&
				      &here < workers[i].altstack + sizeof(workers[i].altstack);
}

static void check_worker(struct worker *w, int i)
{
	char name[16], expected[16], text[100];
	sigset_t mask;
	stack_t stack;
	void *robust;
	size_t len;

	check(gettid() == w->tid, "thread %d was %d, is %d", i, w->tid, gettid());
	check(local == cr_mix(i), "thread-local memory of %d", i);
	snprintf(text, sizeof(text), "thread number %d", i);
	check(!strcmp(local_text, text), "thread-local text of %d", i);
	snprintf(expected, sizeof(expected), "worker-%d", i);
	must(prctl(PR_GET_NAME, name));
	check(!strcmp(name, expected), "name of %d: %s", i, name);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	for (int s = 34; s < 34 + N; s++)
		check(sigismember(&mask, s) == (s == 34 + i), "mask of %d: signal %d", i, s);
	must(sigaltstack(NULL, &stack));
	check(stack.ss_sp == w->altstack && stack.ss_size == sizeof(w->altstack), "alternate stack of %d", i);
	must(syscall(SYS_get_robust_list, 0, &robust, &len));
	check(robust == w->robust && len == w->robust_len, "robust list of %d", i);
	if (i == 0) {
		on_altstack = 0;
		must(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
		check(on_altstack, "the handler does not run on the alternate stack");
	}
	if (i == 1) { /* locked since before the checkpoint */
		check(pthread_mutex_unlock(&mutex) == 0, "the mutex was not mine");
		check(pthread_mutex_lock(&mutex) == 0, "lock");
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;
	int i = w - workers, done = 0;
	char name[16];
	stack_t stack = {.ss_sp = w->altstack, .ss_size = sizeof(w->altstack)};
	sigset_t mask;

	w->tid = gettid();
	local = cr_mix(i);
	snprintf(local_text, sizeof(local_text), "thread number %d", i);
	snprintf(name, sizeof(name), "worker-%d", i);
	must(prctl(PR_SET_NAME, name));
	sigemptyset(&mask);
	sigaddset(&mask, 34 + i);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8);
	must(sigaltstack(&stack, NULL));
	must(syscall(SYS_get_robust_list, 0, &w->robust, &w->robust_len));
	if (i == 1)
		check(pthread_mutex_lock(&mutex) == 0, "lock");
	w->checked = 0;
	while (w->command >= 0) {
		w->count++;
		if (w->command > done) {
			done = w->command;
			check_worker(w, i);
			w->checked = done;
		}
		if (i % 3 == 0)
			cr_msleep(1);
		else if (i % 3 == 1)
			sched_yield(), usleep(300);
		else
			syscall(SYS_futex, &w->checked, FUTEX_WAIT, w->checked,
				&(struct timespec){0, 2000000}, NULL, 0);
	}
	return w; /* with the mutex: a robust one, so its next owner is told */
}

int main(void)
{
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	pthread_mutexattr_t attr;
	void *result;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&mutex, &attr);
	must(sigaction(SIGUSR1, &sa, NULL));
	for (int i = 0; i < N; i++) {
		workers[i].checked = -1;
		check(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "pthread_create");
	}
	for (int i = 0; i < N; i++)
		while (workers[i].checked < 0)
			cr_msleep(1);
	for (int round = 1; cr_wait(); round++) {
		for (int i = 0; i < N; i++) {
			uint64_t before = workers[i].count;

			workers[i].command = round;
			while (workers[i].checked != round || workers[i].count == before)
				cr_msleep(1);
		}
	}
	for (int i = 0; i < N; i++)
		workers[i].command = -1;
	for (int i = 0; i < N; i++) {
		check(pthread_join(workers[i].thread, &result) == 0, "join"); /* by the cleared tid's futex */
		check(result == &workers[i], "result of thread %d", i);
	}
	check(pthread_mutex_lock(&mutex) == EOWNERDEAD, "the robust mutex does not tell that its owner died");
	return 0;
}
