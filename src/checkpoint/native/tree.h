/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How to make a process tree again. Parents come from forking, but a session can only be inherited at the fork or begun
 * by its leader, and a group needs a leader that exists; some leaders and some intermediate parents are dead by the time
 * of a checkpoint. The plan says who forks whom, when, and which helpers live for a moment. Pure data.
 */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

struct tree_process {
	int pid, ppid, pgid, sid;
	/* Of a process in a pid namespace of the container's own: its id, that of the one above (0: the container's), and whether
	 * the process is its first one. */
	uint64_t pid_ns, outer_pid_ns;
	bool begins_pid_ns;
	int files_with,
		fs_with; /* pid of the first one with which it shares its descriptor table, or fs; 0: of none */
	int memory_with, handlers_with; /* likewise of memory, and of signal handlers */
	int exit_signal;
	bool zombie;
	uint64_t listener; /* of a seccomp filter that it has (listeners.h); 0: none */
	bool orphan;	   /* adopted by the first process of the pid namespace, which is not among these */
};

enum tree_kind {
	TREE_PROCESS,
	/* Helpers whose children fall, when they end, to who had adopted them before: */
	TREE_SESSION_LEADER, /* begins session "pid", forks its children, ends */
	TREE_PARENT,	     /* without a set pid: forks its child inside a session, ends */
	TREE_GROUP_LEADER,   /* helper: leads group "pid" until all members have joined */
	TREE_MEMBER, /* a process that shares the memory of another one, and is made by the batch of "parent" */
};

/* When it is forked by a process that loads a filter with a listener. */
enum tree_time { TREE_ANY_TIME, TREE_BEFORE_LOAD, TREE_AFTER_LOAD };

struct tree_node {
	enum tree_kind kind;
	int pid;	    /* 0: one that nothing else has */
	size_t process;	    /* TREE_PROCESS, TREE_MEMBER: index into the input */
	size_t parent;	    /* index of the node that forks it; init's own: itself */
	bool before_setsid; /* forked before its parent begins a session of its own */
	bool setsid;	    /* begins a session */
	bool adopts;	    /* to be a child subreaper while the tree is made; init needs not */
	bool loads;	    /* the seccomp filter that it has, with a listener */
	enum tree_time time;
	uint64_t
		shares; /* CLONE_FILES, CLONE_FS: with who forks it, CLONE_PARENT: whose sibling it is; of a member: all flags of its clone */
	uint64_t
		unshares; /* what it has shared only so that those below it could: after it has forked them */
};

struct tree_plan {
	struct tree_node *nodes; /* node i < n_processes is process i */
	size_t n_nodes, n_processes;
	size_t n_group_leaders, n_members;
	bool joins; /* somebody has to join a group that it was not born in and does not lead */
};

/* The node nearest to both among those above them, or one of them. */
size_t tree_common_ancestor(const struct tree_plan *t, size_t a, size_t b);
size_t tree_depth(const struct tree_plan *t, size_t node);

/* Of tree_plan_make(): the nodes of members (tree-members.c). */
int tree_plan_members(const struct tree_process *procs, size_t n, struct tree_plan *plan, size_t *ret_wrong,
	struct error *e) _must_check_;

/* Likewise: who loads filters with a listener, and when the others are forked (tree-listeners.c). */
int tree_plan_listeners(const struct tree_process *procs, size_t n, struct tree_plan *plan, size_t *ret_wrong,
	struct error *e) _must_check_;

/* procs: parents before children, procs[0] is init (already the leader of session procs[0].sid == its pid). The plan lies in
 * the arena. REFUSED if no sequence of forks can lead there; *ret_wrong is then the index of the process that stands in the
 * way. */
int tree_plan_make(struct arena *a, const struct tree_process *procs, size_t n, struct tree_plan **ret,
	size_t *ret_wrong, struct error *e) _must_check_;
