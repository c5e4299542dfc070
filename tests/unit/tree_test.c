/* SPDX-License-Identifier: Apache-2.0 */
/* Plans for process trees: who forks whom, and which helpers it takes. */
#include <sched.h>
#include <stdio.h>

#include "checkpoint/native/tree.h"

static int n_tests, n_failed;

static void ok(bool good, const char *what)
{
	printf("%s %d - %s\n", good ? "ok" : "not ok", ++n_tests, what);
	n_failed += !good;
}

static struct tree_plan *plan(struct arena *a, const struct tree_process *p, size_t n, struct error *e)
{
	struct tree_plan *t = NULL;
	size_t wrong;

	return tree_plan_make(a, p, n, &t, &wrong, e) == 0 ? t : NULL;
}

static void plain(struct arena *a)
{
	const struct tree_process p[] = {{1, 0, 1, 1}, {5, 1, 1, 1}, {6, 5, 1, 1}};
	struct tree_plan *t = plan(a, p, 3, NULL);

	ok(t && t->n_nodes == 3, "a plain tree needs no helpers");
	ok(t && t->nodes[2].parent == 1 && !t->nodes[2].setsid, "each is forked by its parent");
}

static void joins(struct arena *a)
{
	const struct tree_process born[] = {{1, 0, 1, 1}, {5, 1, 5, 1}, {6, 5, 5, 1}, {7, 6, 7, 7},
		{8, 7, 7, 7}},
				  joined[] = {{1, 0, 1, 1}, {5, 1, 5, 1}, {6, 1, 5, 1}},
				  early[] = {{1, 0, 1, 1}, {5, 1, 5, 5}, {6, 5, 1, 1}},
				  of_dead[] = {{1, 0, 1, 1}, {5, 1, 4, 1}};
	struct tree_plan *t = plan(a, born, 5, NULL);

	ok(t && !t->joins, "groups that all are born into, or lead, are joined by nobody");
	t = plan(a, joined, 3, NULL);
	ok(t && t->joins, "the group of a sibling has to be joined");
	t = plan(a, early, 3, NULL);
	ok(t && t->joins, "a child of the old session is not taken to be born in its group");
	t = plan(a, of_dead, 2, NULL);
	ok(t && t->joins, "nor the member of a group whose leader is dead");
}

static void leader_with_old_child(struct arena *a)
{
	const struct tree_process p[] = {{1, 0, 1, 1}, {5, 1, 5, 5}, {6, 5, 1, 1}, {7, 5, 5, 5}};
	struct tree_plan *t = plan(a, p, 4, NULL);

	ok(t && t->nodes[1].setsid && t->nodes[2].before_setsid && !t->nodes[3].before_setsid,
		"a child of the old session is forked before setsid");
}

static void daemon_with_dead_leader(struct arena *a)
{
	const struct tree_process p[] = {{1, 0, 1, 1}, {9, 1, 8, 8}, {10, 9, 8, 8}};
	struct tree_plan *t = plan(a, p, 3, NULL);

	ok(t && t->n_nodes == 4 && t->nodes[3].kind == TREE_SESSION_LEADER && t->nodes[3].pid == 8,
		"a session whose leader is dead gets a helper");
	ok(t && t->nodes[1].parent == 3 && t->nodes[2].parent == 1,
		"only the adopted one is the helper's child");
	ok(t && t->n_group_leaders == 0, "the session's own group comes with it");
}

static void adopted_with_living_leader(struct arena *a)
{
	const struct tree_process p[] = {{1, 0, 1, 1}, {5, 1, 5, 5}, {7, 1, 5, 5}};
	struct tree_plan *t = plan(a, p, 3, NULL);

	ok(t && t->n_nodes == 4 && t->nodes[3].kind == TREE_PARENT && t->nodes[3].parent == 1 &&
			t->nodes[2].parent == 3,
		"an adopted process is forked inside its living leader's session");
}

static void dead_group_leader(struct arena *a)
{
	const struct tree_process p[] = {{1, 0, 1, 1}, {5, 1, 4, 1}, {6, 1, 4, 1}};
	struct tree_plan *t = plan(a, p, 3, NULL);

	ok(t && t->n_group_leaders == 1 && t->nodes[3].kind == TREE_GROUP_LEADER && t->nodes[3].pid == 4,
		"a group whose leader is dead gets one helper");
}

static void adopted_by_subreaper(struct arena *a)
{
	const struct tree_process dead[] = {{1, 0, 1, 1}, {5, 1, 1, 1}, {6, 5, 9, 9}},
				  below[] = {{1, 0, 1, 1}, {5, 1, 5, 5}, {7, 5, 7, 7}, {8, 5, 7, 7}};
	struct tree_plan *t = plan(a, dead, 3, NULL);

	ok(t && t->nodes[1].adopts && t->nodes[3].kind == TREE_SESSION_LEADER && t->nodes[3].parent == 1 &&
			t->nodes[2].parent == 3,
		"who is not init adopts from a session whose leader is dead");
	t = plan(a, below, 4, NULL);
	ok(t && t->nodes[1].parent == 0 && t->nodes[1].adopts && t->nodes[4].kind == TREE_PARENT &&
			t->nodes[4].parent == 2 && t->nodes[3].parent == 4,
		"a leader adopts from the session of its child, in which it was not born");
}

static void listeners(struct arena *a)
{
	/* 5 has loaded a filter when it had 6, and not yet 7; 8 and 9 have another one from a process that is gone */
	const struct tree_process p
		[] = {{1, 0, 1, 1}, {5, 1, 1, 1, .listener = 3}, {6, 5, 1, 1, .listener = 3}, {7, 5, 1, 1},
			{8, 1, 1, 1, .listener = 4}, {9, 1, 9, 9, .listener = 4}},
	       /* who has it was adopted by another one than who else has */
		far[] = {{1, 0, 1, 1}, {5, 1, 1, 1}, {6, 5, 1, 1, .listener = 3},
			{7, 1, 1, 1, .listener = 3}},
	       /* 6 was born before its parent began its session, and has it; 7 in that session, and has not */
		order[] = {{1, 0, 1, 1}, {5, 1, 5, 5, .listener = 3}, {6, 5, 1, 1, .listener = 3},
			{7, 5, 5, 5}},
	       late[] = {{1, 0, 1, 1}, {5, 1, 5, 5, .listener = 3}, {6, 5, 1, 1}, {7, 5, 5, 5, .listener = 3},
		       {8, 7, 5, 5}};
	struct tree_plan *t = plan(a, p, 6, NULL);

	ok(t && t->nodes[1].loads && !t->nodes[2].loads && t->nodes[2].time == TREE_AFTER_LOAD &&
			t->nodes[3].time == TREE_BEFORE_LOAD && !t->nodes[3].loads,
		"a filter with a listener is loaded between two children");
	ok(t && t->nodes[4].loads && t->nodes[5].parent == 4 && t->nodes[5].shares == CLONE_PARENT &&
			!t->nodes[5].loads && t->nodes[5].setsid && t->nodes[5].time == TREE_AFTER_LOAD,
		"an orphan has it from another one, whose sibling it is");
	ok(!plan(a, far, 4, NULL) && !plan(a, order, 4, NULL), "what no order of forks gives is refused");
	ok(!plan(a, late, 5, NULL), "who has no filter cannot come from who was born with one");
}

static void sharing(struct arena *a)
{
	/* 6 and 7 share with each other, and their parent with none; 8 shares with init, which is not its parent */
	const struct tree_process p[] = {{1, 0, 1, 1}, {5, 1, 1, 1}, {6, 5, 1, 1},
		{7, 5, 1, 1, .files_with = 6}, {9, 1, 1, 1}, {8, 9, 1, 1, .fs_with = 1, .files_with = 1}};
	const struct tree_process crossed[] = {{1, 0, 1, 1}, {5, 1, 1, 1}, {6, 5, 1, 1, .files_with = 1},
		{7, 1, 1, 1}, {8, 5, 1, 1, .files_with = 7}};
	const struct tree_process later[] = {{1, 0, 1, 1, .fs_with = 5}, {5, 1, 1, 1}};
	struct tree_plan *t = plan(a, p, 6, NULL);
	struct error e = {0};

	ok(t && t->nodes[2].shares == CLONE_FILES && t->nodes[3].shares == CLONE_FILES &&
			t->nodes[1].unshares == CLONE_FILES && t->nodes[1].shares == 0,
		"a parent connects two who share, and then no longer shares");
	ok(t && t->nodes[5].shares == (CLONE_FILES | CLONE_FS) && t->nodes[4].shares == t->nodes[5].shares &&
			t->nodes[4].unshares == t->nodes[5].shares && t->nodes[0].unshares == 0,
		"who is between two who share connects them");
	ok(!plan(a, crossed, 5, &e) && e.kind == ERROR_REFUSED, "two that cross are refused");
	ok(!plan(a, later, 2, &e) && e.kind == ERROR_CORRUPT, "sharing with a later one is an error");
}

static void impossible(struct arena *a)
{
	const struct tree_process beside[] = {{1, 0, 1, 1}, {5, 1, 1, 1}, {9, 1, 9, 9}, {6, 5, 9, 9}},
				  between[] = {{1, 0, 1, 1}, {5, 1, 1, 1}, {9, 5, 9, 9}, {11, 9, 11, 11},
					  {12, 9, 11, 11}, {6, 5, 11, 11}},
				  nested[] = {{1, 0, 1, 1}, {5, 1, 5, 5, 3, 0, true},
					  {6, 5, 9, 9, 3, 0, false}},
				  entered[] = {{1, 0, 1, 1}, {5, 1, 1, 1}, {6, 5, 1, 1, 3, 0, true},
					  {7, 1, 1, 1, 3, 0, false}};
	struct error e = {0};

	ok(!plan(a, beside, 4, &e) && e.kind == ERROR_REFUSED, "nobody adopts from beside");
	ok(!plan(a, between, 6, &e) && e.kind == ERROR_REFUSED, "nor past another who adopts");
	ok(!plan(a, nested, 3, &e) && e.kind == ERROR_REFUSED, "nor, yet, in a pid namespace of its own");
	ok(!plan(a, entered, 4, &e) && e.kind == ERROR_REFUSED, "who entered a pid namespace is refused");
}

/* In a pid namespace of several containers, whose first process is in another one. */
static void adopted_outside(struct arena *a)
{
	const struct tree_process all[] = {{.pid = 7, .pgid = 7, .sid = 7},
		{.pid = 8, .ppid = 7, .pgid = 8, .sid = 8},
		{.pid = 9, .ppid = 1, .pgid = 8, .sid = 8, .orphan = true},
		{.pid = 10, .ppid = 1, .pgid = 6, .sid = 6, .orphan = true},
		{.pid = 11, .ppid = 1, .pgid = 11, .sid = 11, .orphan = true},
		{.pid = 12, .ppid = 1, .pgid = 7, .sid = 7, .orphan = true},
		{.pid = 13, .ppid = 11, .pgid = 11, .sid = 11}};
	struct tree_process kept[] = {{.pid = 7, .pgid = 7, .sid = 7},
		{.pid = 8, .ppid = 7, .pgid = 8, .sid = 8}, {.pid = 9, .ppid = 8, .pgid = 7, .sid = 7},
		{.pid = 10, .ppid = 7, .pgid = 8, .sid = 8},
		{.pid = 11, .ppid = 1, .pgid = 7, .sid = 7, .orphan = true}};
	struct tree_plan *t = plan(a, all, 7, NULL);
	struct error e = {0};

	ok(t && t->nodes[t->nodes[2].parent].kind == TREE_PARENT && t->nodes[t->nodes[2].parent].parent == 1,
		"an orphan of a session that is led comes from a parent in it");
	ok(t && t->nodes[t->nodes[3].parent].kind == TREE_SESSION_LEADER &&
			t->nodes[t->nodes[3].parent].pid == 6,
		"one of another session from who stands in for its leader");
	ok(t && t->nodes[t->nodes[4].parent].kind == TREE_PARENT && t->nodes[4].setsid,
		"one that leads its session from any parent");
	ok(t && t->nodes[t->nodes[5].parent].kind == TREE_PARENT && t->nodes[t->nodes[5].parent].parent == 0,
		"one of init's session from a parent that init forks");
	ok(t && t->nodes[6].parent == 4, "and its children come from it");
	for (size_t i = 0; t && i < 7; i++)
		if (t->nodes[i].adopts)
			t = NULL;
	ok(t, "nobody else adopts them");
	ok(!plan(a, kept, 5, &e) && e.kind == ERROR_REFUSED,
		"where init adopts others it would adopt them, too");
}

static void malformed(struct arena *a)
{
	const struct tree_process orphan[] = {{1, 0, 1, 1}, {6, 5, 1, 1}};
	const struct tree_process circle[] = {{1, 0, 1, 1}, {5, 6, 5, 5}, {6, 5, 1, 1}};
	const struct tree_process no_leader[] = {{1, 0, 1, 0}};
	struct error e = {0};

	ok(!plan(a, orphan, 2, &e) && e.kind == ERROR_CORRUPT, "an unknown parent is an error");
	ok(!plan(a, circle, 3, &e) && e.kind == ERROR_CORRUPT, "and so is a circle of parents");
	ok(!plan(a, no_leader, 1, &e) && e.kind == ERROR_REFUSED, "init that leads no session is refused");
}

/* Who shares the memory of another one is made by that, when all others are there. */
static void members(struct arena *a)
{
	const struct tree_process all[] = {{1, 0, 1, 1},
		{.pid = 5, .ppid = 1, .pgid = 5, .sid = 5, .exit_signal = 17},
		{.pid = 6,
			.ppid = 5,
			.pgid = 5,
			.sid = 5,
			.memory_with = 5,
			.files_with = 5,
			.handlers_with = 5},
		{.pid = 7, .ppid = 1, .pgid = 5, .sid = 5, .memory_with = 5, .fs_with = 5, .exit_signal = 17},
		{.pid = 8, .ppid = 6, .pgid = 8, .sid = 8, .memory_with = 5, .files_with = 5}};
	struct tree_process child[] = {{1, 0, 1, 1}, {5, 1, 1, 1},
		{.pid = 6, .ppid = 5, .pgid = 1, .sid = 1, .memory_with = 5}, {7, 6, 1, 1}},
			    adopted[] = {{1, 0, 1, 1}, {5, 1, 1, 1}, {6, 5, 1, 1},
				    {.pid = 7, .ppid = 1, .pgid = 1, .sid = 1, .memory_with = 6}};
	struct tree_plan *t = plan(a, all, 5, NULL);
	struct error e = {0};

	ok(t && t->n_members == 3 && t->n_nodes == 5 && !t->joins, "they need no helpers, and join nothing");
	ok(t && t->nodes[2].parent == 1 && t->nodes[2].shares == (CLONE_VM | CLONE_FILES | CLONE_SIGHAND),
		"a child that shares memory, descriptors and handlers");
	ok(t && t->nodes[3].parent == 1 && t->nodes[3].shares == (CLONE_VM | CLONE_FS | CLONE_PARENT),
		"a sibling");
	ok(t && t->nodes[4].parent == 2 && t->nodes[4].shares == (CLONE_VM | CLONE_FILES) &&
			t->nodes[4].setsid,
		"a child of a child, with a session of its own");
	ok(!plan(a, child, 4, &e) && e.kind == ERROR_REFUSED,
		"a child of one that does not share it is refused");
	child[3].ppid = 5;
	child[3].pgid = 6;
	ok(!plan(a, child, 4, &e) && e.kind == ERROR_REFUSED, "and who has joined its group");
	child[3].pgid = 1;
	ok(plan(a, child, 4, NULL), "else not");
	child[2].memory_with = 7;
	ok(!plan(a, child, 4, &e) && e.kind == ERROR_CORRUPT, "the first one of a memory comes first");
	ok(!plan(a, adopted, 4, &e) && e.kind == ERROR_REFUSED,
		"one whose parent cannot have made it is refused");
}

int main(void)
{
	struct arena a = {};

	plain(&a);
	joins(&a);
	leader_with_old_child(&a);
	daemon_with_dead_leader(&a);
	adopted_with_living_leader(&a);
	dead_group_leader(&a);
	adopted_by_subreaper(&a);
	listeners(&a);
	sharing(&a);
	members(&a);
	impossible(&a);
	adopted_outside(&a);
	malformed(&a);
	arena_done(&a);
	printf("1..%d\n", n_tests);
	return n_failed != 0;
}
