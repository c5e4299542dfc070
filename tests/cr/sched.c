/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_NICE modes=once,cycles,running,again */
/* Scheduling: nice values, CPU affinity, policies with priorities and deadlines, slices, reset-on-fork, I/O priority; by process and
 * thread. */
#include "cr.h"

#include <pthread.h>
#include <sys/resource.h>

struct attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

struct sched {
	int nice, policy, priority, ioprio;
	cpu_set_t cpus;
	struct attributes all;
};

static void collect(struct sched *s)
{
	struct sched_param p;

	memset(s, 0, sizeof(*s));
	errno = 0;
	s->nice = getpriority(PRIO_PROCESS, 0);
	s->policy = must(sched_getscheduler(0));
	must(sched_getparam(0, &p));
	s->priority = p.sched_priority;
	s->ioprio = must(syscall(SYS_ioprio_get, 1, 0));
	must(sched_getaffinity(0, sizeof(s->cpus), &s->cpus));
	must(syscall(SYS_sched_getattr, 0, &s->all, sizeof(s->all), 0));
}

static void compare(const struct sched *was, const char *who)
{
	struct sched is;

	collect(&is);
	check(was->nice == is.nice, "%s: nice was %d, is %d", who, was->nice, is.nice);
	check(was->policy == is.policy, "%s: policy was %x, is %x", who, was->policy, is.policy);
	check(was->priority == is.priority, "%s: priority was %d, is %d", who, was->priority, is.priority);
	check(was->ioprio == is.ioprio, "%s: I/O priority was %x, is %x", who, was->ioprio, is.ioprio);
	check(!memcmp(&was->all, &is.all, sizeof(is.all)),
		"%s: runtime, deadline, period, flags were %lld %lld %lld %llx, are %lld %lld %lld %llx", who,
		(long long)was->all.runtime, (long long)was->all.deadline, (long long)was->all.period,
		(long long)was->all.flags, (long long)is.all.runtime, (long long)is.all.deadline,
		(long long)is.all.period, (long long)is.all.flags);
	check(CPU_EQUAL(&was->cpus, &is.cpus), "%s: affinity of %d CPUs, now %d", who, CPU_COUNT(&was->cpus),
		CPU_COUNT(&is.cpus));
}

static void rounds(const char *who)
{
	struct sched s;

	collect(&s);
	while (cr_wait())
		compare(&s, who);
	_exit(0);
}

/* Half a millisecond of each twenty, to be had in the first ten; its children are not like it. Where there is no such time left,
 * or only some of the CPUs are ours, there is nothing to keep. */
static void deadline(void)
{
	struct attributes a = {.size = sizeof(a),
		.policy = 6,
		.flags = 1 | 4,
		.runtime = 500000,
		.deadline = 10000000,
		.period = 20000000};

	signal(SIGXCPU, SIG_IGN); /* "overrun" */
	if (syscall(SYS_sched_setattr, 0, &a, 0) < 0)
		check(errno == EPERM || errno == EBUSY, "SCHED_DEADLINE: %m");
	rounds("deadline");
}

/* A slice of its own choice, since Linux 6.12. */
static void slice(void)
{
	struct attributes a = {.size = sizeof(a), .policy = SCHED_BATCH, .nice = 2, .runtime = 7000000};

	must(syscall(SYS_sched_setattr, 0, &a, 0));
	rounds("slice");
}

static volatile int round_, done;

static void *nice_thread(void *arg CR_UNUSED)
{
	struct sched s;

	must(setpriority(PRIO_PROCESS, 0, 11)); /* of this thread only */
	must(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0}));
	collect(&s);
	for (int seen = 0;;) {
		done = seen + 1;
		while (round_ == seen)
			cr_msleep(1);
		seen = round_;
		compare(&s, "thread");
	}
}

int main(void)
{
	cpu_set_t one;
	pthread_t thread;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	if (cr_fork("nice") == 0) {
		must(setpriority(PRIO_PROCESS, 0, 7));
		must(sched_setaffinity(0, sizeof(one), &one));
		must(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6));
		rounds("nice");
	}
	if (cr_fork("negative") == 0) {
		must(setpriority(PRIO_PROCESS, 0, -3));
		must(sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &(struct sched_param){0}));
		rounds("negative");
	}
	if (cr_fork("idle") == 0) {
		must(sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}));
		rounds("idle");
	}
	if (cr_fork("rr") == 0) {
		/* A cgroup without a real-time budget forbids it: then there is nothing to keep. */
		if (sched_setscheduler(0, SCHED_RR, &(struct sched_param){3}) < 0)
			check(errno == EPERM, "SCHED_RR: %m");
		rounds("rr");
	}
	if (cr_fork("deadline") == 0)
		deadline();
	if (cr_fork("slice") == 0)
		slice();
	check(pthread_create(&thread, NULL, nice_thread, NULL) == 0, "pthread_create");
	while (!done)
		cr_msleep(1);
	for (int round = 1; cr_wait(); round++) {
		check(getpriority(PRIO_PROCESS, 0) == 0, "nice of the main thread");
		round_ = round;
		while (done != round + 1)
			cr_msleep(1);
	}
	return 0;
}
