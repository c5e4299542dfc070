/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What blocked threads wait in, and until when. A call that a stop interrupts and that the kernel continues by restart_syscall(2) (a
 * sleep, a poll, a futex with a time limit) no longer shows its own number at the next stop; its arguments are still in the
 * registers. Where the thread sleeps (its kernel stack) tells which call it was, as long as it does: so this is read just
 * before the freeze, of those threads that /proc/TID/syscall shows in restart_syscall.
 *
 * When a sleep ends is in the task's restart block, which nobody can read. So the stopped task is let into restart_syscall
 * once more, for a moment: of all sleeps of the machine (/proc/timer_list) the new one is its own.
 */
#include "checkpoint/native/waits.h"

#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "checkpoint/native/dump.h"

#include "base/fd.h"

enum { ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516 };
#define NS 1000000000ll

/* Below /proc/PID/task, where the entries of all threads are needed anyway: one of /proc/TID would be made for this alone. */
static int remember_wait(struct dump *d, pid_t pid, pid_t tid)
{
	char path[64], text[2048];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	if (read_small_file_at(AT_FDCWD, path, text, sizeof(text)) <= 0 ||
		strtol(text, NULL, 10) != SYS_restart_syscall)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stack", pid, tid);
	n = read_small_file_at(AT_FDCWD, path, text, sizeof(text));
	d->waits[d->n_waits].tid = tid;
	d->waits[d->n_waits].stack = arena_strndup(&d->arena, text, MAX(n, (ssize_t)0));
	return d->waits[d->n_waits++].stack ? 0 : -ENOMEM;
}

int dump_remember_waits(struct dump *d, struct error *e)
{
	_cleanup_free_ pid_t *pids = NULL, *tids = NULL;
	size_t n_pids, n_tids;
	int r;

	r = cgroup_pids(&d->c->cgroup, false, &pids, &n_pids, e);
	if (r == 0)
		r = cgroup_pids(&d->c->cgroup, true, &tids, &n_tids, e);
	if (r == 0)
		r = dump_hire(d, n_pids, 0, e);
	if (r < 0)
		return r;
	d->waits = arena_array(&d->arena, n_tids, sizeof(*d->waits));
	if (!d->waits)
		return error_errno(e, -ENOMEM, "waiting threads");
	for (size_t i = 0; i < n_pids; i++) {
		pid_t *of = &pids[i];
		size_t n = 1;

		if (n_tids != n_pids && proc_read_tids(pids[i], &d->arena, &of, &n) < 0)
			continue;
		for (size_t k = 0; k < n && d->n_waits < n_tids; k++)
			if (remember_wait(d, pids[i], of[k]) < 0)
				return error_errno(e, -ENOMEM, "waiting threads");
	}
	return 0;
}

static const char *wait_of(const struct dump *d, pid_t tid)
{
	for (size_t i = 0; i < d->n_waits; i++)
		if (d->waits[i].tid == tid)
			return d->waits[i].stack;
	return "";
}

/* The functions of a sleep are scheduler functions, which the stack leaves out; the arguments must fit. */
static bool looks_like_sleep(const struct user_regs_struct *regs)
{
	return regs->rdi < 4096 ? regs->rsi <= 1 && regs->rdx >= 4096 : regs->rsi == 0 || regs->rsi >= 4096;
}

int dump_interrupted_call(
	struct dump *d, const struct dump_thread *t, struct user_regs_struct *regs, struct error *e)
{
	const char *stack = wait_of(d, t->tid);

	if ((long)regs->orig_rax != SYS_restart_syscall || (long)regs->rax != -ERESTART_RESTARTBLOCK)
		return 0;
	if (strstr(stack, "poll"))
		regs->orig_rax = SYS_poll;
	else if (strstr(stack, "futex"))
		regs->orig_rax = SYS_futex;
	else if (*stack && looks_like_sleep(regs))
		/* One takes a small number first, the other a pointer. */
		regs->orig_rax = regs->rdi < 4096 ? SYS_clock_nanosleep : SYS_nanosleep;
	else
		return error_set(e, -EAGAIN, ERROR_REFUSED,
			"cannot checkpoint: thread %d: it waits in a call that an earlier stop had "
			"interrupted, and which of them cannot be "
			"told from its kernel stack; try again",
			t->ns_tid);
	return 0;
}

struct wait wait_of_registers(const struct user_regs_struct *regs)
{
	struct wait w = {.nr = (long)regs->orig_rax,
		.args = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9}};
	bool block = (long)regs->rax == -ERESTART_RESTARTBLOCK, again = (long)regs->rax == -ERESTARTNOHAND;

	if (w.nr == SYS_nanosleep && block) {
		w.kind = WAIT_TIMESPEC;
		w.remnant = w.args[1];
	} else if (w.nr == SYS_clock_nanosleep && block && w.args[1] == 0) {
		w.kind = WAIT_TIMESPEC;
		w.argument = 2;
		w.remnant = w.args[3];
	} else if (w.nr == SYS_futex && block && (w.args[1] & FUTEX_CMD_MASK) == FUTEX_WAIT) {
		w.kind = WAIT_TIMESPEC;
		w.argument = 3;
	} else if (w.nr == SYS_poll && block) {
		w.kind = WAIT_MILLISECONDS;
		w.argument = 2;
	} else if (w.nr == SYS_ppoll && again) {
		w.kind = WAIT_LEFT;
		w.argument = 2;
	} else if (w.nr == SYS_pselect6 && again) {
		w.kind = WAIT_LEFT;
		w.argument = 4;
	} else if (w.nr == SYS_select && again) {
		w.kind = WAIT_LEFT_TIMEVAL;
		w.argument = 4;
	}
	w.address = w.args[w.argument];
	if (w.kind == WAIT_MILLISECONDS && (int)w.address < 0)
		w.kind = WAIT_NONE;
	/* Without a time, or on the clock of a CPU: there is nothing to go on with. */
	if ((w.kind != WAIT_MILLISECONDS && w.address == 0) ||
		(w.nr == SYS_clock_nanosleep && (int)w.args[0] != CLOCK_REALTIME &&
			(int)w.args[0] != CLOCK_MONOTONIC && (int)w.args[0] != CLOCK_BOOTTIME &&
			(int)w.args[0] != CLOCK_TAI))
		w.kind = WAIT_NONE;
	return w;
}

static int64_t now_ns(int clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * NS + t.tv_nsec;
}

/* From the caller's memory: what the kernel has written there at the freeze, or else all that was asked for. */
static int64_t read_time(const struct dump_thread *t, const struct wait *w)
{
	int64_t value[2] = {0, 0};

	if (w->kind == WAIT_MILLISECONDS)
		return (int64_t)(int)w->address * 1000000;
	if (task_read_memory(t->tid, w->remnant ? w->remnant : w->address, value, sizeof(value)) < 0 ||
		value[0] < 0 || value[0] > INT64_MAX / NS / 2 || value[1] < 0 || value[1] >= NS)
		return 0;
	return value[0] * NS + value[1] * (w->kind == WAIT_LEFT_TIMEVAL ? 1000 : 1);
}

struct sleeps {
	struct proc_sleep *of;
	size_t n;
};

static int read_sleeps(struct dump *d, struct sleeps *ret, struct error *e)
{
	int r = proc_read_timer_list(&d->arena, &ret->of, &ret->n);

	return r < 0 ? error_errno(e, r, "/proc/timer_list") : 0;
}

static bool has_sleep(const struct sleeps *s, const struct proc_sleep *one)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->of[i].clock == one->clock && s->of[i].ends_ns == one->ends_ns)
			return true;
	return false;
}

/* Of "s", those that are (not) in "others". */
static void keep(struct sleeps *s, const struct sleeps *others, bool in_them)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		if (has_sleep(others, &s->of[i]) == in_them)
			s->of[n++] = s->of[i];
	s->n = n;
}

/* It sleeps, or has come to its end already. */
static void await_sleep(const struct dump_proc *p, const struct dump_thread *t)
{
	struct proc_stat stat = {.state = 'R'};

	for (int tries = 0; tries < 100 && stat.state == 'R'; tries++)
		if (proc_read_task_stat(p->pid, t->tid, &stat) < 0)
			break;
}

/* The stopped task goes on with its sleep, and is stopped again. *ret: all sleeps between. 1: it needs no more. */
static int let_sleep(
	struct dump *d, struct dump_proc *p, struct dump_thread *t, struct sleeps *ret, struct error *e)
{
	struct task_call call = {.task = &t->task, .insn = p->syscall_insn, .nr = SYS_restart_syscall};
	struct user_regs_struct *regs = (struct user_regs_struct *)t->msg->gpr.data;
	int r, ended;

	memcpy(call.args, wait_of_registers(regs).args, sizeof(call.args));
	r = task_sleep_begin(&call, e);
	if (r < 0)
		return r;
	await_sleep(p, t);
	r = read_sleeps(d, ret, e);
	ended = task_sleep_end(&call, r < 0 ? NULL : e);
	if (r == 0)
		r = ended;
	if (r == 0)
		r = task_settle(&call, 1, e);
	if (r == 0 && call.result != -ERESTART_RESTARTBLOCK) {
		/* The call has come to its end by itself. */
		t->task.regs.rax = regs->rax = call.result;
		t->task.regs.orig_rax = regs->orig_rax = -1;
		r = task_set_gpr(t->tid, &t->task.regs, e);
		return r < 0 ? r : 1;
	}
	return r;
}

/* When the sleep ends, by CLOCK_MONOTONIC: the one that is there only while the task goes on with it, each time. 0: it cannot
 * be told. */
static int find_end(
	struct dump *d, struct dump_proc *p, struct dump_thread *t, int64_t *ret_end, struct error *e)
{
	enum { MANY = 4096, TRIES = 12, SURE = 2 };
	struct sleeps mine = {}, with, without;
	int r = read_sleeps(d, &without, e), met = 0;

	*ret_end = 0;
	if (r < 0 || without.n > MANY)
		return 0;
	/* Once may be somebody else's that came and went just then. Entries that move while the list is read may be
	 * missing in it: then all begins anew. */
	for (int i = 0; i < TRIES && (mine.n != 1 || met < SURE) && r == 0; i++) {
		r = let_sleep(d, p, t, &with, e);
		if (r != 0)
			return MIN(r, 0);
		keep(&with, &without, false);
		met = mine.n > 0 ? met + 1 : 1;
		if (mine.n > 0)
			keep(&with, &mine, true);
		mine = with;
		r = read_sleeps(d, &without, e);
		keep(&mine, &without, false);
	}
	if (met < SURE)
		mine.n = 0;
	if (mine.n == 1)
		*ret_end = (int64_t)mine.of->ends_ns - now_ns(mine.of->clock) + now_ns(CLOCK_MONOTONIC);
	return r;
}

static int measure_wait(struct dump *d, struct dump_proc *p, struct dump_thread *t, struct error *e)
{
	struct wait w = wait_of_registers((const struct user_regs_struct *)t->msg->gpr.data);
	int64_t end;
	int r;

	if (w.kind == WAIT_NONE)
		return 0;
	t->wait_end = d->frozen_at + read_time(t, &w);
	if (w.remnant || w.kind == WAIT_LEFT || w.kind == WAIT_LEFT_TIMEVAL)
		return 0;
	if (!p->syscall_insn)
		p->syscall_insn = dump_syscall_insn(p);
	if (!p->syscall_insn)
		return 0;
	r = find_end(d, p, t, &end, e);
	/* Not somebody else's, which ends later than what had been asked for. */
	if (r == 0 && end && end < t->wait_end)
		t->wait_end = end;
	return r;
}

int dump_measure_waits(struct dump *d, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = 0; k < d->procs[i].n_threads && r == 0; k++)
			if (!d->procs[i].zombie)
				r = measure_wait(d, &d->procs[i], &d->procs[i].threads[k], e);
	return r;
}
