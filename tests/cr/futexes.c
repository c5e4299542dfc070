/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=thread,Threads also=filtered */
/*
 * Locks that are held, and waited for, at the checkpoint: robust ones whose owner dies afterwards, priority-inheritance ones
 * (in one process and between two), a condition with a time limit, a futex requeued from one word to another.
 */
#include "cr.h"

#include <linux/futex.h>
#include <pthread.h>

struct lock {
	pthread_mutex_t mutex;
	volatile int held, got, release;
	int result;
};

static struct lock *robust, *pi, *across; /* "across": the holder is in another process */
static pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static volatile int woken, waits;
static uint32_t from, to;

static struct lock *make(int robustness, int protocol)
{
	struct lock *l = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, robustness);
	pthread_mutexattr_setprotocol(&a, protocol);
	check(pthread_mutex_init(&l->mutex, &a) == 0, "pthread_mutex_init");
	return l;
}

static void *hold(void *arg)
{
	struct lock *l = arg;

	check(pthread_mutex_lock(&l->mutex) == 0, "lock");
	l->held = 1;
	while (!l->release)
		cr_msleep(1);
	/* A robust one is left locked. */
	if (l != robust)
		check(pthread_mutex_unlock(&l->mutex) == 0, "unlock");
	l->held = 0;
	return NULL;
}

static void *take(void *arg)
{
	struct lock *l = arg;

	l->result = pthread_mutex_lock(&l->mutex);
	if (l->result == EOWNERDEAD)
		pthread_mutex_consistent(&l->mutex);
	pthread_mutex_unlock(&l->mutex);
	l->got = 1;
	return NULL;
}

static void *wait_for_condition(void *arg CR_UNUSED)
{
	struct timespec end;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 1000;
	pthread_mutex_lock(&plain);
	waits++;
	while (r == 0 && !woken)
		r = pthread_cond_timedwait(&condition, &plain, &end);
	waits = r == 0 ? 0 : -r;
	pthread_mutex_unlock(&plain);
	return NULL;
}

static void *wait_on_word(void *arg)
{
	return (void *)syscall(SYS_futex, arg, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static pthread_t start(void *(*f)(void *), void *arg)
{
	pthread_t t;

	check(pthread_create(&t, NULL, f, arg) == 0, "pthread_create");
	return t;
}

static void await(volatile int *value, int wanted, const char *what)
{
	for (int ms = 0; *value != wanted; ms++) {
		check(ms < 5000, "%s: %d, not %d", what, *value, wanted);
		cr_msleep(1);
	}
}

int main(void)
{
	pthread_t takers[3], waiter, requeued;

	for (;;) {
		robust = make(PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
		pi = make(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
		across = make(PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
		woken = waits = 0;
		from = to = 0;
		pthread_detach(start(hold, robust));
		pthread_detach(start(hold, pi));
		if (must(fork()) == 0) {
			hold(across);
			_exit(0);
		}
		await(&robust->held, 1, "robust");
		await(&pi->held, 1, "pi");
		await(&across->held, 1, "across");
		takers[0] = start(take, robust);
		takers[1] = start(take, pi);
		takers[2] = start(take, across);
		waiter = start(wait_for_condition, NULL);
		requeued = start(wait_on_word, &from);
		cr_msleep(30);
		/* It now waits at the other word, without having woken. */
		check(syscall(SYS_futex, &from, FUTEX_CMP_REQUEUE, 0, 1, &to, 0) == 1, "requeue: %m");
		if (!cr_wait())
			break;
		check(!robust->got && !pi->got && !across->got, "a lock that is held was given: %d %d %d",
			robust->got, pi->got, across->got);
		robust->release = pi->release = across->release = 1;
		for (int i = 0; i < 3; i++)
			pthread_join(takers[i], NULL);
		check(robust->result == EOWNERDEAD, "the dead owner's lock: %d", robust->result);
		check(pi->result == 0 && across->result == 0, "priority inheritance: %d, %d", pi->result,
			across->result);
		pthread_mutex_lock(&plain);
		check(waits == 1, "the waiter at the condition has left: %d", waits);
		woken = 1;
		pthread_cond_signal(&condition);
		pthread_mutex_unlock(&plain);
		pthread_join(waiter, NULL);
		check(waits == 0, "the condition: %d", waits);
		/* Where it waits now is lost by a stop, here as elsewhere: it waits at the first word again. */
		check(syscall(SYS_futex, &from, FUTEX_WAKE, 1, NULL, NULL, 0) +
					syscall(SYS_futex, &to, FUTEX_WAKE, 1, NULL, NULL, 0) ==
				1,
			"nobody waits at either word");
		pthread_join(requeued, NULL);
		check(waitpid(-1, NULL, 0) > 0, "waitpid: %m");
	}
	_exit(0);
}
