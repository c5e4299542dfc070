/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that share the memory of another one (CLONE_VM). A stub cannot be forked for them: its memory goes away when its process's
 * own comes. So the process that has cloned such a one does so again in its batch, as threads are made; it is no node that
 * others are forked from.
 */
#include <sched.h>

#include "checkpoint/native/tree.h"

struct members {
	const struct tree_process *procs;
	size_t n;
	struct tree_plan *plan;
};

static bool find(const struct members *m, int pid, size_t *ret)
{
	for (size_t i = 0; i < m->n; i++) {
		if (m->procs[i].pid != pid)
			continue;
		*ret = i;
		return true;
	}
	return false;
}

static int refuse(struct error *e, const char *what)
{
	return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
		"it shares the memory of another process, and %s: not supported", what);
}

static bool is_member(const struct members *m, size_t i)
{
	return m->procs[i].memory_with != 0;
}

/* Its parent shares the memory, too; or it is the sibling (CLONE_PARENT) of the first one, as also orphans of init may be. */
static int find_creator(struct members *m, size_t i, struct error *e)
{
	const struct tree_process *p = &m->procs[i];
	struct tree_node *node = &m->plan->nodes[i];
	size_t first, parent;

	if (!find(m, p->memory_with, &first) || first >= i || is_member(m, first))
		return error_set(e, -EBADMSG, ERROR_CORRUPT,
			"it shares the memory of process %d, which is not before it", p->memory_with);
	*node = (struct tree_node){.kind = TREE_MEMBER, .pid = p->pid, .process = i, .parent = first};
	node->shares = CLONE_VM;
	if (find(m, p->ppid, &parent) && parent < i &&
		(parent == first || m->procs[parent].memory_with == p->memory_with)) {
		node->parent = parent;
		return 0;
	}
	node->shares |= CLONE_PARENT;
	return first > 0 && m->procs[first].ppid == p->ppid && m->procs[first].exit_signal == p->exit_signal
		       ? 0
		       : refuse(e, "its parent does not");
}

static int plan_session(struct members *m, size_t i, struct error *e)
{
	struct tree_node *node = &m->plan->nodes[i];
	const struct tree_process *p = &m->procs[i], *q = &m->procs[node->parent];

	node->setsid = p->sid == p->pid;
	if ((p->sid == q->sid && (p->pgid == q->pgid || p->pgid == p->pid)) ||
		(node->setsid && p->pgid == p->pid))
		return 0;
	return refuse(e, "it has joined another process group");
}

static int leader_of(int with, int pid)
{
	return with ? with : pid;
}

static int plan_sharing(struct members *m, size_t i, struct error *e)
{
	struct tree_node *node = &m->plan->nodes[i];
	const struct tree_process *p = &m->procs[i], *q = &m->procs[node->parent];
	const struct {
		uint64_t flag;
		int its, creators, with;
	} kinds[] = {{CLONE_FILES, leader_of(p->files_with, p->pid), leader_of(q->files_with, q->pid),
			     p->files_with},
		{CLONE_FS, leader_of(p->fs_with, p->pid), leader_of(q->fs_with, q->pid), p->fs_with},
		{CLONE_SIGHAND, leader_of(p->handlers_with, p->pid), leader_of(q->handlers_with, q->pid),
			p->handlers_with}};

	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		if (kinds[k].its == kinds[k].creators)
			node->shares |= kinds[k].flag;
		else if (kinds[k].with)
			return refuse(e, "other things with a process that has not made it");
	}
	return 0;
}

/* What others would have of it, who are forked before it is there. */
static int check_others(struct members *m, size_t i, size_t *ret_wrong, struct error *e)
{
	int pid = m->procs[i].pid;

	for (size_t k = 0; k < m->n; k++) {
		const struct tree_process *q = &m->procs[k];

		if (k == i || is_member(m, k))
			continue;
		*ret_wrong = k;
		if (q->ppid == pid)
			return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				"its parent %d shares the memory of another process: not supported", pid);
		if (q->pgid == pid || q->sid == pid || q->files_with == pid || q->fs_with == pid)
			return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				"it relies on process %d, which shares the memory of another one: not "
				"supported",
				pid);
	}
	return 0;
}

int tree_plan_members(const struct tree_process *procs, size_t n, struct tree_plan *plan, size_t *ret_wrong,
	struct error *e)
{
	struct members m = {procs, n, plan};
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		if (!is_member(&m, i))
			continue;
		plan->n_members++;
		*ret_wrong = i;
		r = find_creator(&m, i, e);
		if (r == 0)
			r = plan_session(&m, i, e);
		if (r == 0)
			r = plan_sharing(&m, i, e);
		if (r == 0)
			r = check_others(&m, i, ret_wrong, e);
	}
	return r;
}
