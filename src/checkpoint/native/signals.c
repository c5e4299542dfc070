/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals that wait, and the time of the checkpoint. Timers go on while the tasks are stopped: one that expires now has its
 * signal in the queue. So first the timers are read (ask.c), then the queues; a timer whose time came before the queues
 * were looked at has expired, any other is still to come, and neither is lost or doubled. All times are recorded relative
 * to one moment, where the container's clocks will go on.
 */
#include "checkpoint/native/dump.h"

#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>

#include "checkpoint/native/waits.h"

#define NS 1000000000ll

static int no_memory(struct error *e)
{
	return error_errno(e, -ENOMEM, "pending signals");
}

static int queued_signals(
	struct dump *d, pid_t tid, bool shared, St__QueuedSignal ***ret, size_t *ret_n, struct error *e)
{
	enum { AT_ONCE = 32, MAX_SIGNALS = 65536 };
	siginfo_t info[AT_ONCE];
	size_t n = 0, size = 0;
	long got;

	*ret = NULL;
	do {
		struct __ptrace_peeksiginfo_args args = {.off = n, .flags = shared ? 1 : 0, .nr = AT_ONCE};

		got = ptrace(PTRACE_PEEKSIGINFO, tid, &args, info);
		if (got < 0)
			return error_errno(e, -errno, "pending signals of pid %d", tid);
		for (long i = 0; i < got; i++) {
			St__QueuedSignal *q = pb_new(&d->arena, QueuedSignal, queued_signal);

			if (n == size) {
				void *more = arena_array(&d->arena, size ? size * 2 : AT_ONCE, sizeof(**ret));

				if (!more)
					return no_memory(e);
				if (size)
					memcpy(more, *ret, size * sizeof(**ret));
				*ret = more;
				size = size ? size * 2 : AT_ONCE;
			}
			if (!q)
				return no_memory(e);
			q->siginfo.len = sizeof(*info);
			q->siginfo.data = arena_memdup(&d->arena, &info[i], sizeof(*info));
			(*ret)[n++] = q;
		}
	} while (got == AT_ONCE && n < MAX_SIGNALS);
	*ret_n = n;
	return 0;
}

static int read_queues(struct dump *d, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < d->n_procs && r == 0; i++) {
		struct dump_proc *p = &d->procs[i];

		if (p->zombie)
			continue;
		r = queued_signals(d, p->shown, true, &p->msg->pending, &p->msg->n_pending, e);
		for (size_t k = 0; k < p->n_threads && r == 0; k++)
			r = queued_signals(d, p->threads[k].tid, false, &p->threads[k].msg->pending,
				&p->threads[k].msg->n_pending, e);
	}
	return r;
}

/* Of a timer that never ends: the kernel counts up to INT64_MAX nanoseconds. */
#define FOREVER ((INT64_MAX / NS - 1) * NS)

static int64_t to_ns(const St__TimeSpec *t)
{
	return t->sec >= INT64_MAX / NS - 1 ? FOREVER : t->sec * NS + t->nsec;
}

static void from_ns(St__TimeSpec *t, int64_t ns)
{
	t->sec = ns / NS;
	t->nsec = ns % NS;
}

/* The container's CLOCK_MONOTONIC. */
static int64_t now(const struct dump *d)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS + t.tv_nsec + d->clock_offset;
}

struct moment {
	int64_t before, after; /* the queues were read */
	int64_t at;	       /* what times are relative to; 0: only look */
	bool between;	       /* a timer expired while they were */
};

/* "read_at": when "value" was left. */
static void settle_timer(struct moment *m, int64_t read_at, St__TimeSpec *value, const St__TimeSpec *interval)
{
	int64_t end, period = to_ns(interval);

	if (to_ns(value) == 0)
		return;
	if (__builtin_add_overflow(read_at, to_ns(value), &end))
		end = FOREVER;
	if (end > m->before && end <= m->after)
		m->between = true;
	if (m->at == 0)
		return;
	/* Its signal waits in the queue: only a next time is to come. */
	if (end <= m->before && period == 0) {
		from_ns(value, 0);
		return;
	}
	if (end <= m->before)
		end += ((m->before - end) / period + 1) * period;
	from_ns(value, MIN(MAX(end - m->at, (int64_t)1), FOREVER));
}

static bool counts_cpu_time(const St__PosixTimer *t)
{
	return t->clockid < 0 || t->clockid == CLOCK_PROCESS_CPUTIME_ID ||
	       t->clockid == CLOCK_THREAD_CPUTIME_ID;
}

static void settle_timers(struct dump *d, struct moment *m)
{
	for (size_t i = 0; i < d->n_procs; i++) {
		const struct dump_proc *p = &d->procs[i];
		int64_t at = p->timers_read_at.tv_sec * NS + p->timers_read_at.tv_nsec;

		for (size_t k = 0; !p->zombie && k < p->msg->n_posix_timers; k++)
			if (!counts_cpu_time(p->msg->posix_timers[k]))
				settle_timer(m, at, p->msg->posix_timers[k]->value,
					p->msg->posix_timers[k]->interval);
		if (!p->zombie)
			settle_timer(m, at, p->msg->itimers[0]->value, p->msg->itimers[0]->interval);
	}
}

static int settle_waits(struct dump *d, int64_t at, struct error *e)
{
	for (size_t i = 0; i < d->n_procs; i++) {
		for (size_t k = 0; k < d->procs[i].n_threads; k++) {
			const struct dump_thread *t = &d->procs[i].threads[k];
			int64_t left = t->wait_end + d->clock_offset - at;

			if (!t->wait_end || wait_of_registers((void *)t->msg->gpr.data).kind == WAIT_NONE)
				continue;
			t->msg->wait_left = pb_timespec(&d->arena, 0, 0);
			if (!t->msg->wait_left)
				return no_memory(e);
			from_ns(t->msg->wait_left, MAX(left, (int64_t)0));
		}
	}
	return 0;
}

int dump_signals(struct dump *d, struct error *e)
{
	enum { TRIES = 5 }; /* a timer of some microseconds is always in between */
	struct moment m;
	int r = 0;

	for (int i = 0; i < TRIES && r == 0; i++) {
		m = (struct moment){.before = now(d)};
		r = read_queues(d, e);
		m.after = now(d);
		settle_timers(d, &m);
		if (!m.between)
			break;
	}
	if (r < 0)
		return r;
	m.at = to_ns(d->container->monotonic);
	settle_timers(d, &m);
	return settle_waits(d, m.at, e);
}
