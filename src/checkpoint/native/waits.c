/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What blocked threads wait in. A call that a stop interrupts and that the kernel continues by restart_syscall(2) (a
 * sleep, a poll, a futex with a time limit) no longer shows its own number at the next stop; its arguments are still in the
 * registers. Where the thread sleeps (its kernel stack) tells which call it was, as long as it does: so this is read just
 * before the freeze, of those threads that /proc/TID/syscall shows in restart_syscall.
 */
#include "checkpoint/native/dump.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/fd.h"

enum { ERESTART_RESTARTBLOCK = 516 };

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
		r = dump_hire(d, n_pids, e);
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
