/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How to make a process tree again. Parents come from forking, but a session can only be inherited at the fork or begun
 * by its leader, and a group needs a leader that exists; some leaders and some intermediate parents are dead by the time
 * of a checkpoint. The plan says who forks whom, when, and which helpers live for a moment. Pure data.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"

struct tree_process {
	int pid, ppid, pgid, sid;
};

enum tree_kind {
	TREE_PROCESS,
	TREE_SESSION_LEADER, /* helper: begins session "pid", forks its children, ends; they fall to init */
	TREE_PARENT,	     /* helper without a set pid: forks its child inside a session, ends */
	TREE_GROUP_LEADER,   /* helper: leads group "pid" until all members have joined */
};

struct tree_node {
	enum tree_kind kind;
	int pid;	    /* 0: one that nothing else has */
	size_t process;	    /* TREE_PROCESS: index into the input */
	size_t parent;	    /* index of the node that forks it; init's own: itself */
	bool before_setsid; /* forked before its parent begins a session of its own */
	bool setsid;	    /* begins a session */
};

struct tree_plan {
	struct tree_node *nodes; /* node i < n_processes is process i */
	size_t n_nodes, n_processes;
	size_t n_group_leaders;
};

/* procs: parents before children, procs[0] is init (already the leader of session procs[0].sid == its pid). The plan lies in
 * the arena. REFUSED if no sequence of forks can lead there. */
int tree_plan_make(struct arena *a, const struct tree_process *procs, size_t n, struct tree_plan **ret,
	struct error *e) _must_check_;
