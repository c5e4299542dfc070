/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping a container that has no freezer (an ordinary user's, without a cgroup): each thread is stopped by ptrace as it is
 * found, until a whole look at the machine finds none that runs. What is stopped makes no new tasks, so that comes to an
 * end. Who ends during such a look may have forked one that it did not see (a process that forks, ends, and so on, is never there when
 * its turn comes): it has to be a look in which nobody ends. The tasks stop one after the other, not at one moment; nothing of them is read before all stand still.
 */
#include "checkpoint/native/dump.h"

#include "base/fd.h"
#include "checkpoint/native/filters.h"

struct stopped_task {
	struct task task;
	bool gone; /* or a zombie, which is known as such */
	struct stopped_task *next;
};

static struct stopped_task *find(const struct dump *d, pid_t tid)
{
	struct stopped_task *s = d->unfrozen;

	while (s && s->task.tid != tid)
		s = s->next;
	return s;
}

/* A child that has not begun yet, and is stopped, has its parent's call as well; but it does not sleep in it. */
static bool is_held_up(pid_t tid)
{
	struct proc_stat st;

	return dump_waits_in_vfork(tid, tid, false) && proc_read_stat(tid, &st) == 0 && st.state == 'D';
}

enum { NOTHING = 1, ENDED }; /* what seize() has found to stop */

static int seize(struct dump *d, pid_t tid, struct error *e)
{
	struct stopped_task *s = find(d, tid);
	struct proc_status st;
	int r;

	if (s && !s->gone)
		return NOTHING;
	r = proc_read_status(tid, tid, &d->arena, &st);
	if (r == -ENOENT || r == -ESRCH)
		return ENDED;
	if (r < 0)
		return error_errno(e, r, "status of pid %d", tid);
	/* It would stop only when its child lets it, and that may be stopped by then: who calls us tries again later. */
	if (is_held_up(tid) || (s && (st.state == 'Z' || st.state == 'X')))
		return NOTHING;
	if (s && st.tracer_pid == getpid())
		return ENDED; /* nearly */
	s = arena_new(&d->arena, struct stopped_task);
	if (!s)
		return error_errno(e, -ENOMEM, "stop the container");
	s->task.tid = tid;
	s->gone = st.state == 'Z' || st.state == 'X';
	r = s->gone ? 0 : filters_seize(d, &s->task, tid, &st, e);
	if (r == -ESRCH)
		return ENDED;
	if (r < 0)
		return r;
	s->next = d->unfrozen;
	d->unfrozen = s;
	return s->gone ? 0 : task_interrupt(&s->task, e);
}

/* Those that were found in this round. */
static int wait_for_new(struct dump *d, const struct stopped_task *old, struct error *e)
{
	for (struct stopped_task *s = d->unfrozen; s != old; s = s->next) {
		int r = s->gone || is_held_up(s->task.tid) ? 0 : task_wait_stop(&s->task, e);

		if (r < 0)
			return r;
		s->gone |= r == 1;
	}
	return 0;
}

enum { ALL_STAND, SOME_ENDED, SOME_RAN }; /* what a look at all has found */

static int stop_new(struct dump *d, bool quickly, struct error *e)
{
	const struct stopped_task *old = d->unfrozen;
	_cleanup_free_ pid_t *tids = NULL;
	bool ended = false;
	size_t n;
	int r = quickly ? container_pids_quickly(d->c, &tids, &n, e)
			: container_pids_found(d->c, true, &tids, &n, &ended, e);

	for (size_t i = 0; i < n && r >= 0; i++) {
		r = seize(d, tids[i], e);
		ended |= r == ENDED;
	}
	if (r >= 0)
		r = wait_for_new(d, old, e);
	if (r < 0)
		return r;
	if (d->unfrozen != old)
		return SOME_RAN;
	return ended ? SOME_ENDED : ALL_STAND;
}

/* Who lives for a moment only is caught by looks that are as short. */
static int stop_round(struct dump *d, struct error *e)
{
	int r = stop_new(d, true, e);

	return r == ALL_STAND ? stop_new(d, false, e) : r;
}

int dump_stop_unfrozen(struct dump *d, struct error *e)
{
	enum {
		ROUNDS = 1000,
		QUIET = 10
	}; /* all that ends on the machine counts, and on a busy one something always does */
	int r = SOME_RAN, quiet = 0;

	for (int i = 0; i < ROUNDS && r > ALL_STAND && quiet < QUIET; i++) {
		r = stop_round(d, e);
		quiet = r == SOME_ENDED ? quiet + 1 : 0;
	}
	if (r == SOME_RAN)
		return error_set(e, -EAGAIN, ERROR_STATE,
			"the container's processes multiply faster than they can be stopped: try again, or "
			"give "
			"the container a cgroup");
	return MIN(r, ALL_STAND);
}

bool dump_all_stopped(const struct dump *d)
{
	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = 0; k < d->procs[i].n_threads; k++) {
			const struct stopped_task *s = find(d, d->procs[i].threads[k].tid);

			if (!s || s->gone || !s->task.stopped)
				return false;
		}
	return true;
}

int dump_adopt_unfrozen(struct dump *d, struct error *e)
{
	for (size_t i = 0; i < d->n_procs; i++) {
		for (size_t k = 0; k < d->procs[i].n_threads; k++) {
			struct dump_thread *t = &d->procs[i].threads[k];
			struct stopped_task *s = find(d, t->tid);

			if (!s || s->gone || !s->task.stopped)
				return error_set(e, -EAGAIN, ERROR_STATE,
					"process %d changed at the moment of the checkpoint: try again",
					d->procs[i].ns_pid);
			t->task = s->task;
			s->task.seized = false; /* from here on it is the other one that is let go */
		}
	}
	return 0;
}

static void release(struct dump *d, struct stopped_task *s)
{
	struct task *t = &s->task;
	struct proc_status st;
	struct error ignored;

	if (!t->seized || s->gone)
		return;
	if (proc_read_status(t->tid, t->tid, &d->arena, &st) == 0 &&
		task_read_registers(t, &d->arena, &ignored) == 0 && dump_hide_interruption(t, &st))
		(void)!task_set_gpr(t->tid, &t->regs, &ignored);
	(void)!task_detach(t, &ignored);
}

void dump_release_unfrozen(struct dump *d)
{
	struct error ignored;

	for (struct stopped_task *s = d->unfrozen; s; s = s->next)
		if (s->task.stopped)
			release(d, s);
	/* What waited in vfork: its child goes on by now. */
	for (struct stopped_task *s = d->unfrozen; s; s = s->next)
		if (!s->task.stopped && s->task.seized && task_wait_stop(&s->task, &ignored) == 0)
			release(d, s);
	d->unfrozen = NULL;
}
