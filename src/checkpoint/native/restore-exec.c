/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that exec had brought in, after the restore of a sandbox: who began them is gone, and so they are ended, before anything runs.
 * They were all there until now, as they are part of what the others have in common: whoever shares a pipe with one
 * sees it end. Init, which would have to be the parent that learns of it, does not: it has never known them.
 */
#include "checkpoint/native/restore-finish.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static bool has_some(const struct restore *r)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (r->procs[i]->by_exec)
			return true;
	return false;
}

/* Of all who trace it we are the one; then its parent learns of it. */
static void await_end(struct live_thread *t)
{
	int status;

	if (!t->task.seized)
		return;
	while (waitpid(t->task.tid, &status, __WALL) == t->task.tid || errno == EINTR)
		if (WIFEXITED(status) || WIFSIGNALED(status))
			break;
	t->task.seized = t->task.stopped = false;
}

static void end_all(struct finish *f)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->threads[i].leader && f->threads[i].proc->by_exec)
			(void)!kill(f->threads[i].pid, SIGKILL);
	/* A leader ends when its threads have. */
	for (int leaders = 0; leaders < 2; leaders++)
		for (size_t i = 0; i < f->n; i++)
			if (f->threads[i].leader == leaders && f->threads[i].proc->by_exec)
				await_end(&f->threads[i]);
}

/* Init waits for one. One that we did not trace any more, as it was stopped, may take a moment to end. */
static int collect(struct finish *f, struct live_thread *init, const St__Process *p, struct error *e)
{
	struct task_call call = {.task = &init->task,
		.insn = restore_syscall_insn_of(f, init),
		.nr = SYS_wait4,
		.args = {p->pid, 0, WNOHANG | __WALL, 0}};
	int r = 0;

	for (int i = 0; i < 1000 && r == 0; i++) {
		r = task_calls(&call, 1, e);
		if (r == 0)
			r = task_settle(&call, 1, e);
		if (r < 0 || call.result != 0)
			break;
		usleep(1000);
	}
	return r;
}

static void forget(struct finish *f)
{
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++)
		if (!f->threads[i].proc->by_exec)
			f->threads[n++] = f->threads[i];
	f->n = n;
}

int restore_end_exec(struct finish *f, struct error *e)
{
	const struct restore *r = f->r;
	struct live_thread *init;
	int result = 0;

	if (!r->options->ends_exec || !has_some(r))
		return 0;
	end_all(f);
	forget(f);
	init = restore_leader_of(f, r->procs[0]->pid);
	if (!init || !init->task.seized)
		return 0; /* it was stopped, and so it is again */
	for (size_t i = 0; i < r->n_procs && result == 0; i++)
		if (r->procs[i]->by_exec)
			result = collect(f, init, r->procs[i], e);
	return result == 0 && restore_gets_sigchld(init->proc, false) ? restore_drop_sigchld(f, init, e)
								      : result;
}
