/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that exec had brought in, after the restore of a sandbox: who began them is gone, and so they are ended, before anything runs.
 * They were all there until now, as they are part of what the others have in common: whoever shares a pipe with one
 * sees it end. Init, which would have to be the parent that learns of it, does not: it has never known them. Each is collected by its own parent.
 */
#include "checkpoint/native/restore-finish.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/native/restore-nested.h"

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

/* A leader ends when its threads have. */
static void end(struct finish *f, const St__Process *p)
{
	struct live_thread *leader = restore_leader_of(f, p->pid);

	if (leader)
		(void)!kill(leader->pid, SIGKILL);
	for (int leaders = 0; leaders < 2; leaders++)
		for (size_t i = 0; i < f->n; i++)
			if (f->threads[i].proc == p && f->threads[i].leader == leaders)
				await_end(&f->threads[i]);
}

/* Its parent waits for one. One that we did not trace any more, as it was stopped, may take a moment to end. */
static int collect(struct finish *f, struct live_thread *parent, const St__Process *p, struct error *e)
{
	struct task_call call = {.task = &parent->task,
		.insn = restore_syscall_insn_of(f, parent),
		.nr = SYS_wait4,
		.args = {restore_pid_seen(f->r, parent->proc, p->pid), 0, WNOHANG | __WALL, 0}};
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
	/* Children before their parents: so nobody else adopts one. */
	for (size_t i = r->n_procs; i-- > 0 && result == 0;) {
		struct live_thread *parent;

		if (!r->procs[i]->by_exec)
			continue;
		end(f, r->procs[i]);
		parent = restore_leader_of(f, r->procs[i]->ppid);
		if (parent && parent->task.seized) /* else it was stopped, and so it is again */
			result = collect(f, parent, r->procs[i], e);
	}
	forget(f);
	init = restore_leader_of(f, r->procs[0]->pid);
	return result == 0 && init && init->task.seized && restore_gets_sigchld(init->proc, false)
		       ? restore_drop_sigchld(f, init, e)
		       : result;
}
