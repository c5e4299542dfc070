/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes by time. The container's clocks go on from the checkpoint once its namespaces are made, and the restore itself
 * takes some milliseconds of that. Timers with an absolute time do not mind (restore-build.c); what can only be set
 * relative to now is set here, as the last thing before the tasks go on.
 *
 * A thread that had been interrupted in a relative sleep is let into the same call again, with what is left, and is
 * interrupted at once: its kernel then has the end of the sleep in the restart block, as before, and its registers are
 * those that the program knows.
 */
#include "checkpoint/native/restore-time.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "checkpoint/native/waits.h"

#define NS 1000000000ll

/* Since the moment of the checkpoint, as the container's clocks tell it. */
static int64_t elapsed_ns(const struct restore *r)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS + now.tv_nsec - r->clock_start;
}

/* "then" is what was left at the checkpoint; at least the shortest time that there is, as 0 would be none. */
static int64_t left_now(const struct restore *r, const St__TimeSpec *then)
{
	return MAX(then->sec * NS + then->nsec - elapsed_ns(r), (int64_t)1);
}

struct timespec restore_left(const struct restore *r, const St__TimeSpec *then)
{
	int64_t left = left_now(r, then);

	return (struct timespec){left / NS, left % NS};
}

static const St__TimeSpec *clock_then(const struct restore *r, int clockid)
{
	switch (clockid) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_ALARM:
		return r->container->realtime;
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		return r->container->boottime;
	default:
		return r->container->monotonic;
	}
}

struct timespec restore_clock_at(const struct restore *r, int clockid, const St__TimeSpec *left)
{
	const St__TimeSpec *then = clock_then(r, clockid);

	return (struct timespec){
		left->sec + then->sec + (left->nsec + then->nsec) / NS, (left->nsec + then->nsec) % NS};
}

static bool is_set(const St__TimeSpec *t)
{
	return t && (t->sec || t->nsec);
}

static int64_t to_ns(const St__TimeSpec *t)
{
	return t ? t->sec * NS + t->nsec : 0;
}

/* Makes the task call with "left" of the time then, in the control block, which it sees at the same address. Again, if
 * something came between the look at the clock and the call. */
static int call_with_time(struct restore *r, struct task_call *call, const St__TimeSpec *left,
	const St__TimeSpec *interval, int64_t unit, struct error *e)
{
	enum { TRIES = 5, QUICK_NS = 200000 };
	struct timespec *time = r->control->time;
	int64_t begin;
	int result;

	for (int i = 0; i < TRIES; i++) {
		int64_t value = is_set(left) ? left_now(r, left) : 1;

		begin = elapsed_ns(r);
		value = MAX(value, unit);
		time[0] = (struct timespec){to_ns(interval) / NS, to_ns(interval) % NS / unit};
		time[1] = (struct timespec){value / NS, value % NS / unit};
		result = task_calls(call, 1, e);
		if (result < 0)
			return result;
		if (call->result < 0)
			return error_errno(e, call->result, "set a timer");
		if (elapsed_ns(r) - begin < QUICK_NS || value == unit)
			break;
	}
	return 0;
}

static int set_itimer(struct restore *r, const St__Process *p, struct task_call *call, struct error *e)
{
	const St__ITimer *t = p->n_itimers ? p->itimers[0] : NULL;

	if (!t || (!is_set(t->value) && !is_set(t->interval)))
		return 0;
	/* An interval without a value: it has expired, and its signal waits. Another expiry then merges with that. */
	call->nr = SYS_setitimer;
	call->args[0] = ITIMER_REAL;
	call->args[1] = (uint64_t)r->control->time;
	return call_with_time(r, call, t->value, t->interval, 1000, e);
}

bool restore_timer_is_absolute(const St__PosixTimer *t)
{
	return t->clockid == CLOCK_MONOTONIC || t->clockid == CLOCK_BOOTTIME;
}

static bool counts_cpu_time(const St__PosixTimer *t)
{
	return t->clockid < 0 || t->clockid == CLOCK_PROCESS_CPUTIME_ID ||
	       t->clockid == CLOCK_THREAD_CPUTIME_ID;
}

bool restore_timer_is_late(const St__PosixTimer *t)
{
	return !restore_timer_is_absolute(t) && !counts_cpu_time(t);
}

int restore_late_timers(
	struct restore *r, const St__Process *p, struct task *task, uint64_t insn, struct error *e)
{
	struct task_call call = {.task = task, .insn = insn};
	int result = set_itimer(r, p, &call, e);

	for (size_t i = 0; i < p->n_posix_timers && result == 0; i++) {
		const St__PosixTimer *t = p->posix_timers[i];

		if (!restore_timer_is_late(t) || !is_set(t->value))
			continue;
		call = (struct task_call){.task = task,
			.insn = insn,
			.nr = SYS_timer_settime,
			.args = {t->id, 0, (uint64_t)r->control->time, 0}};
		result = call_with_time(r, &call, t->value, t->interval, 1, e);
	}
	return result;
}

/* The kernel had written what is left into the program's own memory, to read it there again. */
static void write_left(struct restore *r, const St__Thread *t, const struct wait *w, pid_t tid)
{
	int64_t left = left_now(r, t->wait_left), unit = w->kind == WAIT_LEFT_TIMEVAL ? 1000 : 1;
	int64_t value[2] = {left / NS, left % NS / unit};

	/* Memory that cannot be written any more: then the call is made again with what stands there, as ever. */
	(void)!task_write_memory(tid, w->address, value, sizeof(value));
}

/* The slack of a sleep is added to its end, and is in that already. */
static int64_t without_slack(const St__Thread *t, const struct wait *w, int64_t left)
{
	bool exact = t->sched_policy == 1 || t->sched_policy == 2 || w->nr == SYS_futex;

	return !exact && left > (int64_t)t->timer_slack_ns ? left - (int64_t)t->timer_slack_ns : left;
}

/* The call before it is made, with its time in "time", which the task sees at the same address. False: it needs none. */
static bool sleep_of(
	struct restore *r, const struct restore_sleeper *s, struct timespec *time, struct task_call *ret)
{
	struct wait w = wait_of_registers((const struct user_regs_struct *)s->msg->gpr.data);

	if (!s->msg->wait_left || w.kind == WAIT_NONE)
		return false;
	if (w.kind == WAIT_LEFT || w.kind == WAIT_LEFT_TIMEVAL) {
		write_left(r, s->msg, &w, s->task->tid);
		return false;
	}
	*ret = (struct task_call){.task = s->task, .insn = s->insn, .nr = w.nr, .ia32 = w.ia32};
	memcpy(ret->args, w.args, sizeof(ret->args));
	ret->args[w.argument] = (uint64_t)time;
	if (w.kind == WAIT_MILLISECONDS)
		ret->args[w.argument] =
			MIN((left_now(r, s->msg->wait_left) + 999999) / 1000000, (int64_t)INT32_MAX);
	return true;
}

/* As late as can be: when the task is about to read it. */
static void set_time(struct restore *r, const St__Thread *t, struct timespec *time)
{
	struct wait w = wait_of_registers((const struct user_regs_struct *)t->gpr.data);
	int64_t left = without_slack(t, &w, left_now(r, t->wait_left));

	*time = (struct timespec){left / NS, left % NS};
	if (w.time32)
		memcpy(time, (int32_t[2]){(int32_t)MIN(left / NS, (int64_t)INT32_MAX), (int32_t)(left % NS)},
			2 * sizeof(int32_t));
}

/* It has come to its end: what it waits for is there, or the time is over. */
static int note_result(const struct task_call *call, struct error *e)
{
	enum { ERESTART_RESTARTBLOCK = 516 };
	struct task *task = call->task;

	if (call->result == -ERESTART_RESTARTBLOCK)
		return 0;
	task->regs.rax = call->result;
	task->regs.orig_rax = -1;
	return task_set_gpr(task->tid, &task->regs, e);
}

int restore_waits(struct restore *r, const struct restore_sleeper *sleepers, size_t n, struct error *e)
{
	struct task_call *calls = arena_array(&r->arena, n + 1, sizeof(*calls));
	const St__Thread **who = arena_array(&r->arena, n + 1, sizeof(*who));
	size_t n_calls = 0;
	int result, ended;

	if (!calls || !who)
		return error_errno(e, -ENOMEM, "restore");
	for (size_t i = 0; i < n; i++)
		if (sleep_of(r, &sleepers[i], &r->times[n_calls], &calls[n_calls]))
			who[n_calls++] = sleepers[i].msg;
	result = task_sleep_prepare(calls, n_calls, e);
	for (size_t i = 0; i < n_calls && result == 0; i++) {
		set_time(r, who[i], &r->times[i]);
		result = task_sleep_enter(&calls[i], e);
	}
	ended = task_sleep_end(calls, n_calls, result < 0 ? NULL : e);
	if (result == 0)
		result = ended;
	for (size_t i = 0; i < n_calls && result == 0; i++)
		result = note_result(&calls[i], e);
	return result < 0 ? result : task_settle(calls, n_calls, e);
}
