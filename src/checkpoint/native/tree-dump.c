/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the process tree could be made again: the question that a restore asks, before there is an image. */
#include "checkpoint/native/dump.h"

#include <sched.h>

#include "checkpoint/native/shared-pids.h"
#include "checkpoint/native/tree.h"

static const St__Namespace *pid_namespace(const struct dump *d, const St__Process *m)
{
	for (size_t i = 0; i < d->n_nested; i++)
		for (size_t k = 0; k < m->n_namespaces; k++)
			if (d->nested[i].msg->id == m->namespaces[k] &&
				d->nested[i].msg->type == CLONE_NEWPID)
				return d->nested[i].msg;
	return NULL;
}

int dump_check_tree(struct dump *d, struct error *e)
{
	struct tree_process *procs = arena_array(&d->arena, d->n_procs, sizeof(*procs));
	struct tree_plan *plan;
	size_t wrong = 0, n = 0;
	int r;

	if (!procs)
		return error_errno(e, -ENOMEM, "process tree");
	for (size_t i = 0; i < d->n_procs; i++) {
		const struct dump_proc *p = &d->procs[i];
		const St__Namespace *ns = p->msg ? pid_namespace(d, p->msg) : NULL;

		if (!p->msg)
			continue; /* it ended while preflight looked at it */
		procs[n++] = (struct tree_process){.pid = p->msg->pid,
			.ppid = p->msg->ppid,
			.pgid = p->msg->pgid,
			.sid = p->msg->sid,
			.files_with = p->msg->files_with,
			.fs_with = p->msg->fs_with,
			.memory_with = p->msg->memory_with,
			.handlers_with = p->msg->handlers_with,
			.exit_signal = p->msg->exit_signal,
			.orphan = shared_pids_is_adopted(d, p) && !p->by_exec,
			.pid_ns = ns ? ns->id : 0,
			.outer_pid_ns = ns ? ns->parent : 0,
			.begins_pid_ns = ns && p->own_pid == 1};
	}
	r = tree_plan_make(&d->arena, procs, n, &plan, &wrong, e);
	if (r == -EOPNOTSUPP) {
		preflight_add(d->report, procs[wrong].pid, -1, "process", e->message,
			"let it end, then checkpoint", "process tree");
		return 0;
	}
	return r == -EBADMSG && !d->stopped ? 0 : r; /* parents change while preflight looks */
}
