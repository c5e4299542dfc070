/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small states that only a task itself can tell and set: what prctl(2) and arch_prctl(2) switch (time stamp counter, cpuid,
 * speculation, memory failures, merging, execution of what could be written), NUMA policies, and protection keys.
 */
#pragma once

#include "checkpoint/native/batch.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"

enum {
	STATE_NODES = 1024,
	STATE_KEYS = 15,
	STATE_THREAD_OPS = 8,
	STATE_PROCESS_OPS = 4 + 4 + STATE_KEYS,
	STATE_THREAD_DATA = 256
};

struct thread_state_answers {
	int32_t tsc, mode;
	uint64_t nodes[STATE_NODES / 64];
};

struct state_question {
	bool has_policies; /* the task may have been given NUMA policies, and can be asked for them */
	struct op *cpuid, *speculation[3], *mce, *policy;
	struct thread_state_answers *thread;
	uint64_t *permitted;	 /* of the process */
	struct op *mdwe, *merge; /* likewise */
	struct op *barriers;	 /* NULL: not asked */
	struct op *keys;	 /* NULL: not asked */
	struct op *ldt;		 /* likewise */
	/* To be set before: whether the CPU has such, and the filters let us ask. */
	bool has_keys, has_ldt, has_barriers;
	int32_t *modes; /* of its mappings (state_may_have_policy()), in their order */
};

/* Mappings that are asked for their policy. */
size_t state_count_mappings(const St__Memory *m);
void state_ask_thread(struct batch *b, struct state_question *q);
void state_ask_process(struct batch *b, const St__Memory *m, struct state_question *q);
int state_answer_thread(struct arena *a, const struct state_question *q, St__Thread *m) _must_check_;
/* Asks p once more, for the nodes of those mappings that have a policy. */
int state_answer_process(
	struct dump *d, struct dump_proc *p, const struct state_question *q, struct error *e) _must_check_;
/* Whether an image may have them. */
bool state_barriers_are_valid(const St__Memory *m);
/* What cannot be kept: an obstacle. What is seen from outside goes into t->msg. */
void state_check(struct dump *d, struct dump_proc *p, const struct dump_thread *t);
int state_collect_thread(struct dump *d, const struct dump_proc *p, const struct dump_thread *t) _must_check_;
/* Syscall user dispatch (prctl(2)): a thread's calls, also those that we have it make, become signals. Off while the
 * tasks are stopped; the guard does the second, too. Both, and the setting of one, by their tracer. */
int state_suspend_dispatches(struct dump *d, struct error *e) _must_check_;
void state_resume_dispatches(struct dump_journal *j);
int state_set_dispatch(pid_t tid, const struct state_dispatch *dispatch) _must_check_;

/* Restore: by a thread for itself; a process for a mapping; and at its end. */
void op_thread_states(struct batch *b, const St__Thread *t);
void op_policy(struct batch *b, const St__Vma *v);
/* Protection keys: before anything is mapped; of a mapping, once it has its contents; at the end. */
void op_keys(struct batch *b, const St__Memory *m);
void op_key(struct batch *b, const St__Vma *v);
void op_keys_end(struct batch *b, const St__Memory *m);
void op_process_states(struct batch *b, const St__Memory *m);
/* Registers that have to be asked for. */
void op_permissions(struct batch *b, const St__Process *p);
