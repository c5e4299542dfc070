/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A restore that does not go on at once: for the other containers of its sandbox, and for being started (meeting.h). Init waits at
 * one of two points, or at both: before anything is put back, when those of a sandbox are not all there; and with its files open,
 * when it is to be started. From there on all is bound to the container's clocks, and these go on where they stood: they are set
 * at the last moment.
 */
#include "checkpoint/native/restore.h"

#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

#include "base/fault.h"
#include "checkpoint/meeting.h"
#include "checkpoint/native/res/res.h"
#include "checkpoint/native/timens.h"

static long futex(uint32_t *word, int op, uint32_t value)
{
	return syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

static void set(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
	futex(word, FUTEX_WAKE, INT32_MAX);
}

/* Those that the container's processes have made begin with its own clocks. */
static bool has_time_namespaces(const struct restore *r)
{
	for (size_t i = 0; i < r->n_nested; i++)
		if (r->nested[i].msg->type == CLONE_NEWTIME)
			return true;
	return false;
}

/* Where it waits last, and then gets its clocks. */
static enum restore_point last_point(const struct restore *r)
{
	return r->options->meeting->prepare && !has_time_namespaces(r) ? RESTORE_FILES : RESTORE_EMPTY;
}

int restore_wait_at(struct restore *r, enum restore_point point, struct error *e)
{
	uint32_t may;
	int result;

	if (!r->options->meeting || point > last_point(r))
		return 0;
	set(&r->control->at, point);
	while ((may = __atomic_load_n(&r->control->may, __ATOMIC_SEQ_CST)) < (uint32_t)point)
		futex(&r->control->may, FUTEX_WAIT, may);
	if (!__atomic_load_n(&r->control->clocks_set, __ATOMIC_SEQ_CST))
		return 0;
	result = restore_timens_begin(r, e);
	if (result == 0 && point == RESTORE_FILES)
		result = timerfd_arm_later(r, e);
	return result;
}

/* Init has ended: it may have said why. */
static int why(const struct restore *r, int result, struct error *e)
{
	if (result == -ESRCH && __atomic_load_n(&r->control->failed, __ATOMIC_SEQ_CST)) {
		*e = r->control->error;
		return e->code;
	}
	return result;
}

static uint64_t realtime_of(const struct restore *r)
{
	const St__TimeSpec *t = r->container->realtime;

	return (uint64_t)t->sec * 1000000000 + (uint64_t)t->nsec;
}

static int go_on(struct restore *r, enum restore_point point, struct error *e)
{
	struct clocks now;
	int64_t ahead;
	int result = 0;

	if (point == last_point(r)) {
		result = meeting_moment(r->options->meeting, realtime_of(r), &now, &ahead, e);
		if (result < 0)
			return result;
		restore_set_clocks(r, &now, ahead, &r->control->clocks);
		set(&r->control->clocks_set, 1);
	}
	set(&r->control->may, point);
	return 0;
}

/* As long as they take: they have limits of their own. */
static int wait_for_others(struct restore *r, struct container *c,
	int (*wait)(struct meeting *m, struct container *c, struct error *e), struct error *e)
{
	int result;

	watchdog_pause(&r->watchdog, true);
	result = wait(r->options->meeting, c, e);
	watchdog_pause(&r->watchdog, false);
	return result;
}

int restore_wait(struct restore *r, struct container *c, struct error *e)
{
	struct meeting *m = r->options->meeting;
	enum restore_point last = last_point(r);
	int result = restore_wait_for_stubs(r, c, &r->control->at, RESTORE_EMPTY, e);

	meeting_tell_time(m, realtime_of(r));
	if (result == 0)
		result = why(r, wait_for_others(r, c, meeting_all_here, e), e);
	if (result == 0 && last == RESTORE_FILES) {
		result = go_on(r, RESTORE_EMPTY, e);
		if (result == 0)
			result = restore_wait_for_stubs(r, c, &r->control->at, RESTORE_FILES, e);
	}
	if (result == 0 && m->prepare)
		result = fault_point("restore-prepared", e);
	if (result == 0 && m->prepare)
		result = why(r, wait_for_others(r, c, meeting_started, e), e);
	if (result == 0)
		result = fault_point("restore-started", e);
	if (result == 0)
		result = go_on(r, last, e);
	return result;
}
