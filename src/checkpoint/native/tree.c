/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/tree.h"

#include <sched.h>

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
};

/* Of an orphan: init, for want of another one. */
static size_t parent_of(const struct planner *pl, size_t i)
{
	size_t parent = i;

	if (pl->procs[i].orphan)
		return 0;
	(void)find(pl->procs, pl->n, pl->procs[i].ppid, &parent);
	return parent;
}

/* Can process i fork a child in that session? It is in it, or was born in it, before it began its own. */
static void claim_birth(struct planner *pl, size_t i, int sid)
{
	size_t top = i;

	while (pl->procs[top].sid != sid) {
		if (top == 0 || !is_leader(&pl->procs[top]) || (pl->birth[top] && pl->birth[top] != sid))
			return;
		top = parent_of(pl, top);
	}
	for (; i != top; i = parent_of(pl, i))
		pl->birth[i] = sid;
}

/* Those of leaders follow from their children: who has one of another session was born in that, unless it has adopted it. */
static void find_birth_sessions(struct planner *pl)
{
	for (size_t i = 1; i < pl->n; i++) {
		if (is_leader(&pl->procs[i]) || pl->procs[i].memory_with)
			continue;
		pl->birth[i] = pl->procs[i].sid;
		if (!pl->procs[i].orphan)
			claim_birth(pl, parent_of(pl, i), pl->birth[i]);
	}
}

static struct tree_node *add_node(struct planner *pl, enum tree_kind kind, int pid, size_t parent)
{
	struct tree_node *node = &pl->plan->nodes[pl->plan->n_nodes++];

	*node = (struct tree_node){.kind = kind, .pid = pid, .parent = parent};
	return node;
}

/* The helper that begins a session whose leader is dead: one for all who were born in it. */
static size_t session_helper(struct planner *pl, int sid, size_t adopter)
{
	for (size_t i = pl->n; i < pl->plan->n_nodes; i++)
		if (pl->plan->nodes[i].kind == TREE_SESSION_LEADER && pl->plan->nodes[i].pid == sid)
			return i;
	add_node(pl, TREE_SESSION_LEADER, sid, adopter)->setsid = true;
	return pl->plan->n_nodes - 1;
}

/* A process whose parent cannot give it its session: it was adopted after its real parent died. */
static void plan_adopted(struct planner *pl, size_t i)
{
	size_t leader = 0, parent = parent_of(pl, i);
	int sid = pl->birth[i];

	if (!pl->procs[i].orphan)
		pl->plan->nodes[parent].adopts = true;
	if (!sid || find(pl->procs, pl->n, sid, &leader)) {
		/* The leader lives: it forks a parent that dies at once. (Who begins a session may come from any.) */
		pl->plan->nodes[i].parent = pl->plan->n_nodes;
		add_node(pl, TREE_PARENT, 0, leader);
	} else {
		pl->plan->nodes[i].parent = session_helper(pl, sid, parent);
	}
}

static int check_order(struct planner *pl, size_t i, struct error *e)
{
	const struct tree_process *p = &pl->procs[i];

	return i == 0 || parent_of(pl, i) < i
		       ? 0
		       : error_set(e, -EBADMSG, ERROR_CORRUPT, "its parent %d comes after it", p->ppid);
}

static int plan_process(struct planner *pl, size_t i, struct error *e)
{
	const struct tree_process *p = &pl->procs[i], *q;
	struct tree_node *node = &pl->plan->nodes[i];
	size_t parent = parent_of(pl, i);

	if (p->memory_with)
		return 0;
	node->kind = TREE_PROCESS;
	node->pid = p->pid;
	node->process = i;
	if (i == 0)
		return 0;
	q = &pl->procs[parent];
	node->setsid = is_leader(p);
	node->parent = parent;
	if (p->orphan) {
		plan_adopted(pl, i);
		return 0;
	}
	if (!pl->birth[i] || pl->birth[i] == q->sid)
		return 0;
	if (parent > 0 && is_leader(q) && pl->birth[i] == pl->birth[parent])
		node->before_setsid = true;
	else
		plan_adopted(pl, i);
	return 0;
}

static bool comes_from_helper(const struct planner *pl, size_t i)
{
	return pl->plan->nodes[i].parent >= pl->n && !pl->procs[i].memory_with;
}

/* Who is the child of a helper falls to the nearest above it that adopts, an orphan to nobody here. */
static int check_adopted(struct planner *pl, size_t i, struct error *e)
{
	const struct tree_node *nodes = pl->plan->nodes;
	const struct tree_process *p = &pl->procs[i];
	size_t at = nodes[i].parent, steps = 0;

	if (!comes_from_helper(pl, i))
		return 0;
	if (p->pid_ns)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"it was adopted in a pid namespace of the container's own, into whose session it "
			"does not come by birth, not supported yet: let it end, then checkpoint");
	while (at != 0 && !nodes[at].adopts && steps++ <= pl->plan->n_nodes)
		at = nodes[at].parent;
	if (p->orphan && !nodes[at].adopts)
		return 0;
	if (p->orphan)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"the first process of the pid namespace has adopted it, and process %d, which adopts "
			"orphans "
			"in "
			"its place, would do so at a restore: let it end, then checkpoint",
			pl->procs[at].pid);
	if (at == parent_of(pl, i))
		return 0;
	return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
		"its parent %d was never in session %d, nor could adopt it from there: let it end, then "
		"checkpoint",
		p->ppid, p->sid);
}

static const struct tree_process *first_in(const struct planner *pl, uint64_t pid_ns)
{
	for (size_t i = 0; i < pl->n; i++)
		if (pl->procs[i].pid_ns == pid_ns && pl->procs[i].begins_pid_ns)
			return &pl->procs[i];
	return NULL;
}

/* Where it is forked there must be a way into its pid namespace: by its first process or beside it, from above. */
static int check_pid_namespace(struct planner *pl, size_t i, struct error *e)
{
	const struct tree_process *p = &pl->procs[i], *parent = &pl->procs[parent_of(pl, i)], *first;

	if (p->pid_ns == parent->pid_ns)
		return 0;
	first = first_in(pl, p->pid_ns);
	if (p->pid_ns && first && p->outer_pid_ns == parent->pid_ns && (first == p || first->ppid == p->ppid))
		return 0;
	return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
		"it came into its pid namespace by another way (setns) than the first process there: let it "
		"end, then checkpoint");
}

size_t tree_depth(const struct tree_plan *t, size_t node)
{
	size_t n = 0;

	for (; t->nodes[node].parent != node; node = t->nodes[node].parent)
		n++;
	return n;
}

size_t tree_common_ancestor(const struct tree_plan *t, size_t a, size_t b)
{
	size_t da = tree_depth(t, a), db = tree_depth(t, b);

	for (; da > db; da--)
		a = t->nodes[a].parent;
	for (; db > da; db--)
		b = t->nodes[b].parent;
	while (a != b)
		a = t->nodes[a].parent, b = t->nodes[b].parent;
	return a;
}

/* One kind of what processes may share. Who shares with another is forked so, and all between the two. */
struct sharing {
	uint64_t flag;
	const char *what;
	size_t *group; /* of each node: 1 + the index of the first process; 0: none */
	size_t *top;   /* of each group, by that index: its highest node */
};

static bool mark(struct planner *pl, const struct sharing *s, size_t group, size_t node, size_t top)
{
	for (;; node = pl->plan->nodes[node].parent) {
		if (s->group[node] && s->group[node] != group + 1)
			return false;
		s->group[node] = group + 1;
		if (node == top)
			return true;
		pl->plan->nodes[node].shares |= s->flag;
	}
}

static int share(struct planner *pl, const struct sharing *s, size_t i, int with, struct error *e)
{
	size_t first, top;

	if (with == 0)
		return 0;
	if (!find(pl->procs, pl->n, with, &first) || first >= i)
		return error_set(e, -EBADMSG, ERROR_CORRUPT,
			"it shares with process %d, which is not before it", with);
	if (!s->group[first])
		s->top[first] = first;
	top = tree_common_ancestor(pl->plan, s->top[first], i);
	if (mark(pl, s, first, i, top) && mark(pl, s, first, s->top[first], top)) {
		s->top[first] = top;
		return 0;
	}
	return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
		"it shares its %s with process %d, and between the two is one that others share: not "
		"supported",
		s->what, with);
}

static int with_whom(const struct planner *pl, size_t i, uint64_t flag)
{
	if (pl->procs[i].memory_with)
		return 0;
	return flag == CLONE_FILES ? pl->procs[i].files_with : pl->procs[i].fs_with;
}

static int plan_sharing(struct planner *pl, struct arena *a, uint64_t flag, const char *what,
	size_t *ret_wrong, struct error *e)
{
	struct sharing s = {.flag = flag,
		.what = what,
		.group = arena_array(a, pl->plan->n_nodes, sizeof(*s.group)),
		.top = arena_array(a, pl->n, sizeof(*s.top))};
	int r = s.group && s.top ? 0 : error_errno(e, -ENOMEM, "plan the process tree");

	for (size_t i = 0; i < pl->n && r == 0; i++) {
		*ret_wrong = i;
		r = share(pl, &s, i, with_whom(pl, i, flag), e);
	}
	for (size_t i = 0; i < pl->n && r == 0; i++)
		if (s.group[i] && s.group[i] != i + 1 && !with_whom(pl, i, flag))
			pl->plan->nodes[i].unshares |= flag;
	return r;
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

typedef int step_t(struct planner *pl, size_t i, struct error *e);

static int for_all(struct planner *pl, step_t *step, size_t *ret_wrong, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < pl->n && r == 0; i++) {
		*ret_wrong = i;
		r = step(pl, i, e);
	}
	return r;
}

static int make(struct planner *pl, size_t *ret_wrong, struct error *e)
{
	int r = for_all(pl, check_order, ret_wrong, e);

	if (r == 0)
		r = tree_plan_members(pl->procs, pl->n, pl->plan, ret_wrong, e);
	if (r == 0)
		r = for_all(pl, check_pid_namespace, ret_wrong, e);
	if (r < 0)
		return r;
	find_birth_sessions(pl);
	r = for_all(pl, plan_process, ret_wrong, e);
	return r == 0 ? for_all(pl, check_adopted, ret_wrong, e) : r;
}

/* A child has its parent's group if that had got it, by then, in the same way: leaders lead before they fork. */
static bool any_joins(const struct tree_plan *plan, const struct tree_process *procs)
{
	for (size_t i = 1; i < plan->n_processes; i++) {
		const struct tree_node *node = &plan->nodes[i];
		bool born = node->parent < plan->n_processes && !node->before_setsid &&
			    procs[node->parent].pgid == procs[i].pgid;

		if (node->kind == TREE_MEMBER)
			continue;
		if (procs[i].pgid != procs[i].pid && !born)
			return true;
	}
	return plan->n_group_leaders > 0;
}

int tree_plan_make(struct arena *a, const struct tree_process *procs, size_t n, struct tree_plan **ret,
	size_t *ret_wrong, struct error *e)
{
	struct planner pl = {.procs = procs, .n = n};
	struct tree_plan *plan = arena_new(a, struct tree_plan);
	int r;

	*ret_wrong = 0;
	if (n == 0 || !is_leader(&procs[0]))
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"the container's init is not the leader of its session");
	pl.birth = arena_array(a, n, sizeof(*pl.birth));
	pl.plan = plan;
	/* At most a session or parent helper and a group leader for each. */
	if (!plan || !pl.birth || !(plan->nodes = arena_array(a, 3 * n, sizeof(*plan->nodes))))
		return error_errno(e, -ENOMEM, "plan the process tree");
	plan->n_nodes = plan->n_processes = n;
	r = make(&pl, ret_wrong, e);
	if (r == 0)
		r = tree_plan_listeners(procs, n, plan, ret_wrong, e);
	if (r < 0)
		return r;
	plan_groups(&pl);
	plan->joins = any_joins(plan, procs);
	r = plan_sharing(&pl, a, CLONE_FILES, "descriptor table", ret_wrong, e);
	if (r == 0)
		r = plan_sharing(&pl, a, CLONE_FS, "fs (cwd, umask)", ret_wrong, e);
	if (r == 0)
		*ret = plan;
	return r;
}
