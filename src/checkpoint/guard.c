/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard of one container's checkpoint, or of several. Each is done by a process of its own, the surgeon; guard and surgeon
 * watch each other. If a surgeon dies, what is left to undo is done here, from the journal in shared memory.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fd.h"
#include "base/trace.h"
#include "base/log.h"
#include "checkpoint/engine-priv.h"
#include "checkpoint/leftover.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/pre-copy.h"
#include "checkpoint/native/snapshot.h"
#include "checkpoint/native/track.h"
#include "checkpoint/native/ttys.h"

/* What the surgeon tells. */
struct outcome {
	struct dump_journal journal;
	struct image_statistics stats;
	struct error error;
	int result;
	enum guard_retry retry;
	bool done;
};

static volatile sig_atomic_t cancelled;

static void on_cancel(int sig)
{
	cancelled = sig;
}

/* By a child, which can go where the surgeon was. */
static void undo_queue(struct container *c, struct dump_journal *j)
{
	struct error ignored;
	pid_t pid = j->queue->taken ? fork() : -1;

	if (pid == 0) {
		if (!checkpoint_is_unprivileged(c) || checkpoint_enter_userns(c, &ignored) == 0)
			dump_undo_queue(j->queue);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* The surgeon is dead: its tracees run on by themselves, or wait for us (task.h). The rest is done here. */
static void undo(struct container *c, struct dump_journal *j)
{
	struct error ignored;

	if (j->frozen)
		(void)!cgroup_thaw(&c->cgroup, &ignored);
	dump_cure(j);
	dump_lower_limits(&j->raised);
	track_undo(j);
	dump_undo_ttys(&j->tty);
	undo_queue(c, j);
	for (unsigned i = 0; i < j->n_forking; i++)
		dump_reap_leftover(&j->forking[i]);
	for (unsigned i = 0; i < j->n; i++)
		if (j->mapped[i].len)
			leftover_unmap(j->mapped[i].pid, j->mapped[i].area, j->mapped[i].len,
				j->mapped[i].syscall_insn);
	for (unsigned i = 0; i < j->n_asleep; i++)
		leftover_wake(&j->asleep[i]);
	for (unsigned i = 0; i < j->n_dispatched; i++)
		leftover_dispatch(&j->dispatched[i]);
	dump_release_network(j, c->init_pid);
	if (j->paused)
		(void)!cgroup_freeze(&c->cgroup, 2000, &ignored);
}

static const char *name_of(const struct container *c)
{
	return c->name ? c->name : c->id;
}

/* Tests say in which one of several containers something is to fail. */
static void choose_fault(const struct container *c)
{
	const char *only = getenv("FAULT_CONTAINER");

	if (only && strcmp(only, c->id) != 0 && (!c->name || strcmp(only, c->name) != 0))
		unsetenv("FAULT");
}

static int do_it(const struct operation *op, struct outcome *out)
{
	int r = checkpoint_is_unprivileged(op->c) ? checkpoint_enter_userns(op->c, &out->error) : 0;
	struct checkpoint_options o = *op->o;

	o.beat = op->beat;
	if (r < 0)
		return r;
	if (o.pre_dump)
		return native_pre_dump(
			op->c, &o, op->target->fd, &out->journal, op->surgeon_end, &out->stats, &out->error);
	return native_dump(op->c, &o, op->target->fd, &out->journal, op->surgeon_end, op->report, &out->stats,
		&out->error);
}

static _Noreturn void surgeon(const struct operation *op)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT};
	const struct together *t = op->o->together;
	struct outcome *out = op->out;
	struct error gone;
	struct rlimit limit;

	/* The files of the container are duplicated here. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	setsid();
	trace_process(name_of(op->c));
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	if (t)
		choose_fault(op->c);
	out->result = do_it(op, out);
	if (out->journal.paused)
		out->retry = GUARD_FINAL;
	else if (out->result == -EOPNOTSUPP && op->report->n > 0)
		out->retry = preflight_is_passing(op->report) ? GUARD_PASSING : GUARD_AGAIN;
	else
		out->retry = out->result == -EAGAIN ? GUARD_AGAIN : GUARD_FINAL;
	if (out->result < 0 && t)
		gate_break(t->gate, t->self, &out->error);
	/* With others the guard knows better whether it counts, if it is there. */
	if (out->result < 0 && (!t || (!gate_is_open(t->gate, GATE_COMMITTED) &&
					      dump_guard_is_alive(op->surgeon_end, &gone) < 0)))
		target_remove(op->target);
	out->done = true;
	_exit(0);
}

/* Memory that the surgeon shares with us. */
static void *share(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int prepare(struct operation *op, struct error *e)
{
	int ends[2];

	op->guard_end = op->surgeon_end = op->pidfd = -EBADF;
	op->pid = 0;
	op->out = share(sizeof(*op->out));
	if (!op->out || !(op->out->journal.queue = share(sizeof(*op->out->journal.queue))) ||
		pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(e, -errno, "prepare the checkpoint");
	op->surgeon_end = ends[0];
	op->guard_end = ends[1];
	op->out->stats.preflight_us = op->stats->preflight_us;
	return 0;
}

static void release(struct operation *op)
{
	close_p(&op->guard_end);
	close_p(&op->surgeon_end);
	close_p(&op->pidfd);
	if (!op->out)
		return;
	*op->stats = op->out->stats;
	if (op->out->journal.queue)
		munmap(op->out->journal.queue, sizeof(*op->out->journal.queue));
	munmap(op->out, sizeof(*op->out));
	op->out = NULL;
}

static int start(struct operation *all, unsigned n, unsigned self, const sigset_t *mask, struct error *e)
{
	struct operation *op = &all[self];

	op->pid = fork();
	if (op->pid == 0) {
		for (unsigned i = 0; i < n; i++)
			close_p(&all[i].guard_end);
		sigprocmask(SIG_SETMASK, mask, NULL);
		surgeon(op);
	}
	if (op->pid > 0)
		op->pidfd = pidfd_open(op->pid, 0);
	if (op->pid > 0 && op->pidfd >= 0)
		return 0;
	error_errno(e, -errno, "start the checkpoint process");
	if (op->pid > 0) {
		kill(op->pid, SIGKILL);
		waitpid(op->pid, NULL, 0);
		op->pid = 0;
	}
	return e->code;
}

/* The surgeon has ended. The container's fate is the same as that of all others: after GATE_COMMITTED a container that was
 * to end is killed by who called us, as if its surgeon had come to that. */
static void reap(struct operation *op, const struct guarding *g, unsigned n)
{
	struct outcome *out = op->out;
	int status = 0;

	while (waitpid(op->pid, &status, 0) < 0 && errno == EINTR)
		;
	close_p(&op->pidfd);
	if (out->done) {
		dump_cure(&out->journal); /* what did not stop for it in time */
		return;
	}
	error_set(&out->error, -ECANCELED, ERROR_SYSTEM,
		"the checkpoint process died of signal %d: the container runs on",
		WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	if (g->gate)
		error_prefix(&out->error, "container \"%.100s\"", name_of(op->c));
	out->result = out->error.code;
	gate_break(g->gate, n, &out->error);
	if (!g->gate || op->o->leave_running || !gate_is_open(g->gate, GATE_COMMITTED))
		undo(op->c, &out->journal);
}

static void give_up(struct operation *all, unsigned n, const struct guarding *g, const struct error *why)
{
	gate_break(g->gate, n, why);
	for (unsigned i = 0; i < n; i++)
		close_p(&all[i].guard_end);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* How a failure of all begins and ends. */
struct limit {
	int64_t at;
	enum { LIMIT_DEADLINE, LIMIT_GRACE, LIMIT_NONE } what;
};

/* First they are told, then they are killed: what they have done is undone here then. */
static void reach_limit(struct operation *all, unsigned n, const struct guarding *g, struct limit *l)
{
	enum { GRACE_S = 5 };
	struct error why;

	if (l->what == LIMIT_DEADLINE) {
		error_set(&why, -ETIME, ERROR_STATE,
			"the checkpoint was not complete at its deadline: it was given up, and all "
			"containers run on");
		give_up(all, n, g, &why);
		*l = (struct limit){now_ns() + GRACE_S * 1000000000ll, LIMIT_GRACE};
		return;
	}
	for (unsigned i = 0; i < n; i++)
		if (all[i].pidfd >= 0)
			(void)!syscall(SYS_pidfd_send_signal, all[i].pidfd, SIGKILL, NULL, 0);
	l->what = LIMIT_NONE;
}

static void watch(struct operation *all, unsigned n, const struct guarding *g, const sigset_t *mask)
{
	struct limit limit = {g->deadline, g->deadline ? LIMIT_DEADLINE : LIMIT_NONE};
	struct pollfd fds[CHECKPOINT_MEMBERS_MAX];
	struct error why;

	for (;;) {
		int64_t left = limit.what == LIMIT_NONE ? 0 : MAX(limit.at - now_ns(), (int64_t)0);
		struct timespec timeout = {left / 1000000000, left % 1000000000};
		unsigned living = 0;
		int r;

		for (unsigned i = 0; i < n; i++) {
			fds[i] = (struct pollfd){.fd = all[i].pidfd, .events = POLLIN};
			living += all[i].pidfd >= 0;
		}
		if (living == 0)
			return;
		r = ppoll(fds, n, limit.what == LIMIT_NONE ? NULL : &timeout, mask);
		if (cancelled) {
			error_set(&why, -ECANCELED, ERROR_SYSTEM,
				"the checkpoint was cancelled: the containers run on");
			give_up(all, n, g, &why);
		}
		if (r == 0)
			reach_limit(all, n, g, &limit);
		for (unsigned i = 0; i < n && r > 0; i++)
			if (fds[i].revents)
				reap(&all[i], g, n);
	}
}

static int result_of(const struct operation *all, unsigned n, const struct guarding *g,
	enum guard_retry *ret_retry, struct error *e)
{
	int who = 0;

	if (g->gate && gate_is_open(g->gate, GATE_COMMITTED))
		return 0;
	if (g->gate) {
		who = gate_breaker(g->gate, e);
		*ret_retry = who >= 0 && who < (int)n ? all[who].out->retry : GUARD_FINAL;
		if (who >= 0 && who < (int)n)
			return error_prefix(e, "container \"%.100s\"", name_of(all[who].c));
		return who < 0 ? error_set(e, -EIO, ERROR_INTERNAL, "the checkpoint ended early") : e->code;
	}
	if (all[0].out->result < 0)
		*e = all[0].out->error;
	return all[0].out->result;
}

/* One for all: who waits for the others at a gate makes no progress either. */
static void watch_over(struct watchdog *w, const struct operation *all, unsigned n)
{
	const struct checkpoint_options *o = all[0].o;
	struct watchdog_allowance a = o->watchdog;

	/* Who reads a stream has a limit of his own. */
	if ((o->to_stream || (o->together && o->together->to_stream)) && a.running == 0)
		a.running = o->stream_timeout ? o->stream_timeout + WATCHDOG_RUNNING : WATCHDOG_NEVER;
	watchdog_begin(w, WATCHDOG_CHECKPOINT, &a, all[0].beat, o->work_path);
	for (unsigned i = 0; i < n; i++)
		watchdog_started(w, all[i].c->init_pid);
}

static int run(struct operation *all, unsigned n, const struct guarding *g, enum guard_retry *ret_retry,
	struct error *e)
{
	struct sigaction cancel = {.sa_handler = on_cancel}, old_int, old_term;
	sigset_t ours, mask, waiting;
	struct watchdog watchdog;
	int r = 0;

	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigprocmask(SIG_BLOCK, &ours, &mask);
	waiting = mask;
	sigdelset(&waiting, SIGINT);
	sigdelset(&waiting, SIGTERM);
	cancelled = 0;
	sigaction(SIGINT, &cancel, &old_int);
	sigaction(SIGTERM, &cancel, &old_term);
	for (unsigned i = 0; i < n && r == 0; i++)
		r = start(all, n, i, &mask, e);
	if (r < 0)
		give_up(all, n, g, e);
	watch_over(&watchdog, all, n);
	watch(all, n, g, &waiting);
	if (r == 0)
		r = result_of(all, n, g, ret_retry, e);
	r = watchdog_end(&watchdog, r, e);
	sigaction(SIGINT, &old_int, NULL);
	sigaction(SIGTERM, &old_term, NULL);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	return r;
}

int guard_run(struct operation *all, unsigned n, const struct guarding *g, enum guard_retry *ret_retry,
	struct error *e)
{
	int r = 0;

	struct beat *beat = share(sizeof(*beat));

	if (!beat)
		return error_errno(e, -ENOMEM, "prepare the checkpoint");
	for (unsigned i = 0; i < n; i++) {
		all[i].out = NULL;
		all[i].beat = beat;
	}
	for (unsigned i = 0; i < n && r == 0; i++)
		r = prepare(&all[i], e);
	if (r == 0)
		r = run(all, n, g, ret_retry, e);
	for (unsigned i = 0; i < n; i++)
		if (all[i].out)
			release(&all[i]);
	munmap(beat, sizeof(*beat));
	return r;
}
