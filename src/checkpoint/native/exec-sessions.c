/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that came into the container by exec. Their parent is outside, and its caller is gone after a restore: then
 * they are what the kernel makes of a process whose parent has ended, a child of init (docs/adr/0021). What they hold of
 * their caller's has hung up: ends of pipes (res/pipe.c), files (res/outside.c), terminals (res/tty.c).
 */
#include "checkpoint/native/dump.h"
#include "checkpoint/native/shared-pids.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static bool is_inside(const struct dump *d, const struct dump_proc *p)
{
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].pid == p->stat.ppid)
			return true;
	return false;
}

/* Neither a child of one in here, nor an orphan whom the first process of a shared pid namespace has adopted. */
static bool came_from_outside(const struct dump *d, const struct dump_proc *p)
{
	return !is_inside(d, p) && !shared_pids_is_adopted(d, p);
}

/* By their session also those whose parent has ended, so that init has adopted them. */
void dump_find_exec_sessions(struct dump *d)
{
	for (size_t i = 1; i < d->n_procs; i++)
		d->procs[i].by_exec = came_from_outside(d, &d->procs[i]) &&
				      d->procs[i].status.n_ns == d->procs[0].status.n_ns;
	for (size_t i = 1; i < d->n_procs; i++)
		for (size_t k = 0; k < i && !d->procs[i].by_exec; k++)
			d->procs[i].by_exec = d->procs[k].by_exec &&
					      (d->procs[k].pid == d->procs[i].stat.ppid ||
						      d->procs[k].stat.session == d->procs[i].stat.session);
	for (size_t i = 1; i < d->n_procs; i++)
		for (size_t k = i + 1; k < d->n_procs && !d->procs[i].by_exec; k++)
			d->procs[i].by_exec = d->procs[k].by_exec && !is_inside(d, &d->procs[k]) &&
					      d->procs[k].stat.session == d->procs[i].stat.session;
}

/* Of an orphan of a shared pid namespace it is one of its session, with which it is ended after a restore. */
const struct dump_proc *dump_parent_of_exec(const struct dump *d, const struct dump_proc *p)
{
	for (size_t i = 1; i < d->n_procs && shared_pids_is_adopted(d, p); i++)
		if (d->procs[i].by_exec && d->procs[i].stat.session == p->stat.session &&
			!shared_pids_is_adopted(d, &d->procs[i]))
			return &d->procs[i];
	return &d->procs[0];
}

/* What a restore would refuse, as config.json is the ceiling: exec may have been given more. */
static void check_ceiling(struct dump *d, const struct dump_proc *p)
{
	const struct spec_process *of = d->c->spec ? d->c->spec->process : NULL;
	const struct proc_status *s = &p->status;
	const struct spec_capabilities *c = of ? &of->capabilities : NULL;
	uint64_t caps = s->cap_bnd | s->cap_prm | s->cap_eff | s->cap_inh | s->cap_amb;

	if (!of)
		return;
	if (of->has_capabilities &&
		(caps & ~(c->bounding | c->permitted | c->effective | c->inheritable | c->ambient)))
		dump_refuse(d, p, -1, "exec session", "it has capabilities that config.json does not allow",
			"end it first, or run exec without --privileged and --cap", "process %d (%s)",
			p->ns_pid, p->stat.comm);
	else if (of->no_new_privileges && !s->no_new_privs)
		dump_refuse(d, p, -1, "exec session", "it lacks the noNewPrivileges of config.json",
			"end it first, or run exec with --no-new-privs", "process %d (%s)", p->ns_pid,
			p->stat.comm);
	else if (d->c->spec->seccomp && s->seccomp == 0)
		dump_refuse(d, p, -1, "exec session", "it runs without the seccomp filter of config.json",
			"end it first", "process %d (%s)", p->ns_pid, p->stat.comm);
}

void dump_check_exec_session(struct dump *d, const struct dump_proc *p)
{
	bool root = p != &d->procs[0] && came_from_outside(d, p);

	if (root && (!p->by_exec || p->other_namespaces || p->stat.session != p->pid))
		dump_refuse(d, p, -1, "process",
			"its parent is outside of the container, and it did not come by exec",
			"take it out of the container's cgroup", "process %d (%s)", p->ns_pid, p->stat.comm);
	else if (p->by_exec && !p->zombie)
		check_ceiling(d, p);
}

/* The terminal of an exec session hangs up: the kernel tells its leader and its foreground group. */
int dump_hang_up(struct dump *d, struct dump_proc *p, struct error *e)
{
	enum { FROM_KERNEL = 0x80 };
	siginfo_t info = {.si_signo = SIGHUP, .si_code = FROM_KERNEL};
	St__QueuedSignal **queue = arena_array(&d->arena, p->msg->n_pending + 1, sizeof(*queue));

	if (!queue)
		return error_errno(e, -ENOMEM, "signals");
	if (p->msg->n_pending)
		memcpy(queue, p->msg->pending, p->msg->n_pending * sizeof(*queue));
	queue[p->msg->n_pending] = pb_new(&d->arena, QueuedSignal, queued_signal);
	if (!queue[p->msg->n_pending])
		return error_errno(e, -ENOMEM, "signals");
	queue[p->msg->n_pending]->siginfo.data = arena_memdup(&d->arena, &info, sizeof(info));
	queue[p->msg->n_pending]->siginfo.len = sizeof(info);
	if (!queue[p->msg->n_pending]->siginfo.data)
		return error_errno(e, -ENOMEM, "signals");
	p->msg->pending = queue;
	p->msg->n_pending++;
	return 0;
}
