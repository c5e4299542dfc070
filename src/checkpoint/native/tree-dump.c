/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the process tree could be made again: the question that a restore asks, before there is an image. */
#include "checkpoint/native/dump.h"

#include <sched.h>
#include <string.h>

#include "checkpoint/native/homes.h"
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

/* In preflight what of a process counts here is not in its message yet. */
static const St__Process *as_stopped(struct dump *d, const struct dump_proc *p)
{
	size_t n = dump_has_many_threads(p) ? 0 : p->n_threads;
	St__Process *m = arena_memdup(&d->arena, p->msg, sizeof(*m));

	if (d->stopped || p->zombie || !m)
		return d->stopped || p->zombie ? p->msg : NULL;
	m->n_threads = p->n_threads;
	m->threads = arena_array(&d->arena, p->n_threads, sizeof(*m->threads));
	for (size_t i = 0; i < n && m->threads; i++) {
		St__Thread *t = m->threads[i] = pb_new(&d->arena, Thread, thread);

		if (!t || !(t->credentials = dump_credentials(d, &p->threads[i].status)))
			return NULL;
	}
	return m->threads ? m : NULL;
}

/* Only the machine's root may give a process more than its share, and who is in a user namespace of the container's is not. */
static void check_priority(struct dump *d, struct dump_proc *p)
{
	if (p->zombie ||
		(p->stat.nice >= 0 && p->stat.priority >= 0 && p->oom_score_adj >= d->procs[0].oom_score_adj))
		return;
	dump_refuse(d, p, -1, "process",
		"it is in a user namespace of its own, where none can be restored with such a priority "
		"(nice, "
		"real-time, oom_score_adj)",
		"give it the usual one", "priority of process %d (%s)", p->ns_pid, p->stat.comm);
}

/* Others who fork at the same moment move the cursor that the clerk sets (restore-home.h). */
static void check_pids(struct dump *d, struct dump_proc *p)
{
	if (d->pids_role != PIDS_OWN)
		dump_refuse(d, p, -1, "namespace",
			"it is in a user namespace of its own, and its pids cannot be chosen where several "
			"containers "
			"share a pid namespace",
			"give the containers pid namespaces of their own", "pids of process %d (%s)",
			p->ns_pid, p->stat.comm);
}

static int check_homes(struct dump *d, struct error *e)
{
	struct homes h = {};
	const St__Process **procs = arena_array(&d->arena, d->n_procs, sizeof(*procs));
	const St__Namespace **spaces = arena_array(&d->arena, d->n_nested, sizeof(*spaces));
	struct dump_proc **of = arena_array(&d->arena, d->n_procs, sizeof(*of));
	const char *reason = NULL;
	size_t wrong = 0;
	int r;

	if (!procs || !spaces || !of)
		return error_errno(e, -ENOMEM, "process tree");
	for (size_t i = 0; i < d->n_nested; i++)
		spaces[h.n_spaces++] = d->nested[i].msg;
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		if (!p->msg)
			continue; /* it ended while preflight looked at it */
		of[h.n_procs] = p;
		procs[h.n_procs] = as_stopped(d, p);
		if (!procs[h.n_procs++])
			return error_errno(e, -ENOMEM, "process tree");
	}
	h.procs = procs;
	h.spaces = spaces;
	r = homes_find(&h, &d->arena, &wrong, &reason);
	if (r < 0)
		return error_errno(e, r, "process tree");
	if (r > 0)
		dump_refuse(d, of[wrong], -1, "namespace", reason, "run it in the container's own namespaces",
			"namespaces of process %d (%s)", of[wrong]->ns_pid, of[wrong]->stat.comm);
	for (size_t i = 0; i < h.n_procs && r == 0; i++)
		if (h.home[i] || homes_of_threads(&h, i)) {
			check_priority(d, of[i]);
			check_pids(d, of[i]);
		}
	return 0;
}

int dump_check_tree(struct dump *d, struct error *e)
{
	struct tree_process *procs = arena_array(&d->arena, d->n_procs, sizeof(*procs));
	struct tree_plan *plan;
	size_t wrong = 0, n = 0;
	int r;

	if (!procs)
		return error_errno(e, -ENOMEM, "process tree");
	r = d->n_nested > 0 ? check_homes(d, e) : 0;
	if (r < 0)
		return r;
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
			.zombie = p->zombie,
			.listener = p->listener,
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
