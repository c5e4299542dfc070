/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes with the same seccomp filter, by its listener, have it from birth: one of them loads it, and all others are forked by one that
 * has it. So a process forks some of its children before it loads the filter, and some after that. Where who had loaded it is
 * dead, and those whom it had forked were adopted by the same process, the first of these forks the others as its siblings.
 */
#include <sched.h>

#include "checkpoint/native/tree.h"

struct listening {
	const struct tree_process *procs;
	size_t n;
	struct tree_plan *plan;
};

static int refuse(struct error *e, const char *what)
{
	return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
		"it has a seccomp filter with a listener from a process that has ended, and %s: not "
		"supported, let it end, then "
		"checkpoint",
		what);
}

/* The process that forks the node, by itself or by helpers; *ret_top: what of these it forks. */
static size_t creator_of(const struct listening *l, size_t i, size_t *ret_top)
{
	const struct tree_node *nodes = l->plan->nodes;

	for (*ret_top = i; nodes[*ret_top].parent >= l->n; *ret_top = nodes[*ret_top].parent)
		;
	return nodes[*ret_top].parent;
}

static bool set_time(struct listening *l, size_t node, enum tree_time time)
{
	struct tree_node *to = &l->plan->nodes[node];

	if (to->time != TREE_ANY_TIME && to->time != time)
		return false;
	to->time = time;
	return true;
}

/* The one that loads the same filter; n: none does yet. */
static size_t loader_of(const struct listening *l, uint64_t listener)
{
	size_t i = 0;

	while (i < l->n && !(l->plan->nodes[i].loads && l->procs[i].listener == listener))
		i++;
	return i;
}

/* By a sibling (CLONE_PARENT), in whose session it is or whence it begins one. */
static int make_sibling(struct listening *l, size_t i, size_t of, struct error *e)
{
	const struct tree_process *p = &l->procs[i], *q = &l->procs[of];
	struct tree_node *node = &l->plan->nodes[i];

	if (of == 0 || p->ppid != q->ppid || p->orphan || q->orphan || p->exit_signal != q->exit_signal ||
		p->pid_ns != q->pid_ns || node->parent >= l->n || l->plan->nodes[of].parent >= l->n)
		return refuse(e, "was not adopted by the parent of another one that has it");
	if (p->sid != q->sid && p->sid != p->pid)
		return refuse(e, "is in another session than the one that could fork it");
	node->parent = of;
	node->before_setsid = false;
	node->shares |= CLONE_PARENT;
	return set_time(l, i, TREE_AFTER_LOAD) ? 0 : refuse(e, "has to be forked by two");
}

static int plan_one(struct listening *l, size_t i, struct error *e)
{
	size_t top, creator = creator_of(l, i, &top), loader;
	uint64_t mine = l->procs[i].listener, its = l->procs[creator].listener;
	struct tree_node *node = &l->plan->nodes[i];

	if (i > 0 && its && mine != its) {
		/* As it was before that one had it. */
		if (!l->plan->nodes[creator].loads)
			return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				"who would have to fork it has a seccomp filter with a listener that it has "
				"not: let it end, "
				"then checkpoint");
		if (!set_time(l, top, TREE_BEFORE_LOAD))
			return refuse(e, "comes with others that do not have it");
	}
	if (!mine)
		return 0;
	if (i > 0 && mine == its)
		return set_time(l, top, TREE_AFTER_LOAD) ? 0
							 : refuse(e, "comes with others that do not have it");
	loader = loader_of(l, mine);
	if (loader < l->n)
		return make_sibling(l, i, loader, e);
	node->loads = true;
	return 0;
}

/* It is cloned by the other one's batch, when that has all its filters with listeners. */
static int check_member(const struct listening *l, size_t i, struct error *e)
{
	return l->procs[i].listener == l->procs[l->plan->nodes[i].parent].listener
		       ? 0
		       : error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				 "it shares the memory of another process, and only one of them has a "
				 "seccomp filter with a "
				 "listener: not supported");
}

/* Who forks one after the load that is to be in the session it had before cannot fork another one, in its own session, before. */
static int check_order(const struct listening *l, size_t i, struct error *e)
{
	bool early = false, late = false;

	for (size_t k = 1; k < l->plan->n_nodes; k++) {
		const struct tree_node *node = &l->plan->nodes[k];

		if (node->parent != i || k == i || node->kind == TREE_MEMBER)
			continue;
		early |= node->before_setsid && node->time == TREE_AFTER_LOAD;
		late |= !node->before_setsid && node->time == TREE_BEFORE_LOAD;
	}
	return early && late ? error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				       "children of it with and without its seccomp filter with a listener "
				       "are in sessions in "
				       "which they cannot "
				       "be forked in this order: let them end, then checkpoint")
			     : 0;
}

int tree_plan_listeners(const struct tree_process *procs, size_t n, struct tree_plan *plan, size_t *ret_wrong,
	struct error *e)
{
	struct listening l = {procs, n, plan};
	bool any = false;
	int r = 0;

	for (size_t i = 0; i < n; i++)
		any |= procs[i].listener != 0;
	for (size_t i = 0; i < n && any && r == 0; i++) {
		*ret_wrong = i;
		if (plan->nodes[i].kind == TREE_MEMBER)
			r = check_member(&l, i, e);
		else if (!procs[i].zombie)
			r = plan_one(&l, i, e);
	}
	for (size_t i = 0; i < n && any && r == 0; i++) {
		*ret_wrong = i;
		r = check_order(&l, i, e);
	}
	return r;
}
