/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/tree.h"

static const struct tree_process *find(const struct tree_process *procs, size_t n, int pid, size_t *ret_index)
{
	for (size_t i = 0; i < n; i++) {
		if (procs[i].pid == pid) {
			*ret_index = i;
			return &procs[i];
		}
	}
	return NULL;
}

static bool is_leader(const struct tree_process *p)
{
	return p->sid == p->pid;
}

struct planner {
	const struct tree_process *procs;
	size_t n;
	int *birth; /* the session each process must be born in; 0: any */
	struct tree_plan *plan;
	size_t max_nodes;
};

/* From the leaves up: a session leader with a child of another session must itself have been born in that one. */
static void find_birth_sessions(struct planner *pl)
{
	for (size_t i = pl->n; i-- > 0;) {
		const struct tree_process *p = &pl->procs[i];
		size_t parent;

		if (!is_leader(p))
			pl->birth[i] = p->sid;
		if (i == 0 || !find(pl->procs, pl->n, p->ppid, &parent))
			continue;
		/* Children that init has adopted say nothing about init. */
		if (parent != 0 && is_leader(&pl->procs[parent]) && pl->birth[i] &&
			pl->birth[i] != pl->procs[parent].pid)
			pl->birth[parent] = pl->birth[i];
	}
}

static struct tree_node *add_node(struct planner *pl, enum tree_kind kind, int pid, size_t parent)
{
	struct tree_node *node = &pl->plan->nodes[pl->plan->n_nodes++];

	*node = (struct tree_node){.kind = kind, .pid = pid, .parent = parent};
	return node;
}

/* The helper that begins a session whose leader is dead: one for all who were born in it. */
static size_t session_helper(struct planner *pl, int sid)
{
	for (size_t i = pl->n; i < pl->plan->n_nodes; i++)
		if (pl->plan->nodes[i].kind == TREE_SESSION_LEADER && pl->plan->nodes[i].pid == sid)
			return i;
	add_node(pl, TREE_SESSION_LEADER, sid, 0)->setsid = true;
	return pl->plan->n_nodes - 1;
}

/* A process whose parent cannot give it its session: it was adopted by init after its real parent died. */
static int plan_adopted(struct planner *pl, size_t i, struct error *e)
{
	const struct tree_process *p = &pl->procs[i];
	struct tree_node *node = &pl->plan->nodes[i];
	int sid = pl->birth[i];
	size_t leader, helper;

	if (p->ppid != pl->procs[0].pid)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"process %d: its parent %d was never in session %d", p->pid, p->ppid, sid);
	if (find(pl->procs, pl->n, sid, &leader)) {
		/* The leader lives: it forks a parent that dies at once. */
		helper = pl->plan->n_nodes;
		add_node(pl, TREE_PARENT, 0, leader);
	} else {
		helper = session_helper(pl, sid);
	}
	node->parent = helper;
	return 0;
}

static int plan_process(struct planner *pl, size_t i, struct error *e)
{
	const struct tree_process *p = &pl->procs[i], *q;
	struct tree_node *node = &pl->plan->nodes[i];
	size_t parent;

	*node = (struct tree_node){
		.kind = TREE_PROCESS, .pid = p->pid, .process = i, .setsid = is_leader(p) && i > 0};
	if (i == 0)
		return 0;
	q = find(pl->procs, pl->n, p->ppid, &parent);
	if (!q || parent >= i)
		return error_set(
			e, -EBADMSG, ERROR_CORRUPT, "process %d comes before its parent %d", p->pid, p->ppid);
	node->parent = parent;
	if (!pl->birth[i] || pl->birth[i] == q->sid)
		return 0;
	if (parent > 0 && is_leader(q) && pl->birth[i] == pl->birth[parent]) {
		node->before_setsid = true;
		return 0;
	}
	return plan_adopted(pl, i, e);
}

/* Groups whose leader is dead get one, forked by the first member found, whose session it shares. */
static void plan_groups(struct planner *pl)
{
	for (size_t i = 0; i < pl->n; i++) {
		int pgid = pl->procs[i].pgid;
		bool have = false;
		size_t at;

		if (pgid <= 0 || find(pl->procs, pl->n, pgid, &at))
			continue;
		for (size_t k = pl->n; k < pl->plan->n_nodes; k++)
			have |= pl->plan->nodes[k].kind == TREE_GROUP_LEADER &&
				pl->plan->nodes[k].pid == pgid;
		/* A dead session leader's own group comes with the session: its members are born in it. */
		for (size_t k = pl->n; k < pl->plan->n_nodes; k++)
			have |= pl->plan->nodes[k].kind == TREE_SESSION_LEADER &&
				pl->plan->nodes[k].pid == pgid;
		if (have)
			continue;
		add_node(pl, TREE_GROUP_LEADER, pgid, i);
		pl->plan->n_group_leaders++;
	}
}

int tree_plan_make(
	struct arena *a, const struct tree_process *procs, size_t n, struct tree_plan **ret, struct error *e)
{
	struct planner pl = {.procs = procs, .n = n};
	struct tree_plan *plan = arena_new(a, struct tree_plan);
	int r;

	if (n == 0 || !is_leader(&procs[0]))
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"the container's init is not the leader of its session");
	pl.birth = arena_array(a, n, sizeof(*pl.birth));
	pl.plan = plan;
	/* At most a session or parent helper and a group leader for each. */
	if (!plan || !pl.birth || !(plan->nodes = arena_array(a, 3 * n, sizeof(*plan->nodes))))
		return error_errno(e, -ENOMEM, "plan the process tree");
	plan->n_nodes = plan->n_processes = n;
	find_birth_sessions(&pl);
	for (size_t i = 0; i < n; i++) {
		r = plan_process(&pl, i, e);
		if (r < 0)
			return r;
	}
	plan_groups(&pl);
	*ret = plan;
	return 0;
}
