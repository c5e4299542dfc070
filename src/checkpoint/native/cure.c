/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For the guard, when the surgeon is dead: tasks that were in the middle of something that is ours go on where they were. Who was in a single call
 * waits for this (park.h); who was in a batch comes out of it by himself, or waits as well (task_batch_waits()). A stop of ours is not to be noticed here either.
 */
#include "checkpoint/native/dump.h"

#include <sys/syscall.h>

/* Rounds of waiting, about two seconds. */
enum { TRIES = 100, SLEEP_US = 500, MOST_US = 20000 };

static void pause_before(int try)
{
	usleep(MIN(try * SLEEP_US, (int)MOST_US));
}

int dump_stop_leftover(struct task *t, pid_t tid, struct arena *a)
{
	struct proc_status status = {};
	struct error ignored;
	int r = proc_read_status(tid, tid, a, &status);

	/* An ordinary user cannot suspend a filter: then it is one that lets ours through. */
	if (r == 0)
		r = task_seize(t, tid, PTRACE_O_SUSPEND_SECCOMP, &ignored);
	if (r < 0 && r != -ESRCH)
		r = task_seize(t, tid, 0, &ignored);
	if (r == 0)
		r = task_interrupt(t, &ignored);
	if (r == 0)
		r = task_wait_stop(t, &ignored) == 0 ? 0 : -ESRCH;
	if (r == 0 && proc_read_status(tid, tid, a, &status) == 0 && task_has_fault(&status))
		r = task_take_fault(t, &ignored) == 0 ? 0 : -ESRCH;
	if (r == 0)
		r = task_read_registers(t, a, &ignored);
	if (r == 0)
		r = dump_back_into_call(t, &ignored);
	if (r == 0 && dump_hide_interruption(t, &status))
		r = task_set_gpr(tid, &t->regs, &ignored);
	return r;
}

static bool is_back(const struct task_note *n, const struct user_regs_struct *now)
{
	return now->rip == n->regs.rip && now->rsp == n->regs.rsp && now->rbx == n->regs.rbx;
}

/* The order is that of task.c: no signal finds a state that it could not come back to. */
static int put_back(struct task_note *n, struct task *t, struct error *e)
{
	struct user_regs_struct regs;
	int r = 0;

	n->done |= park_result(&n->park, &t->regs, &n->result);
	if (n->park.loop) {
		park_in_loop(&n->park, &n->regs, &regs);
		r = task_set_gpr(t->tid, &regs, e);
	}
	if (r == 0)
		r = task_set_sigmask(t->tid, n->sigmask, e);
	return r == 0 ? task_set_gpr(t->tid, &n->regs, e) : r;
}

/* 1: it is not there (yet). */
static int cure_once(struct task_note *n)
{
	struct arena a = {};
	struct error ignored;
	struct task t = {};
	int r = dump_stop_leftover(&t, n->tid, &a);

	if (r == 0 && park_has(&n->park, n->insn, &t.regs))
		r = put_back(n, &t, &ignored);
	else if (r == 0)
		r = !is_back(n, &t.regs);
	(void)!task_detach(&t, &ignored);
	arena_done(&a);
	return r;
}

/* A signal handler may run on top of it, when the mask is its own; a batch may not have come to its end. */
static void cure(struct task_note *n)
{
	for (int i = 1; i <= TRIES && cure_once(n) == 1; i++)
		pause_before(i);
	n->active = false;
}

/* What the calls came to that its surgeon did not hear of. */
static void note_areas(struct dump_journal *j)
{
	for (unsigned i = 0; i < j->calls.n; i++) {
		const struct task_note *call = &j->calls.of[i];
		bool mapped = call->nr == SYS_mmap && call->done && (uint64_t)call->result < -4096ull;
		uint64_t area = mapped ? (uint64_t)call->result : call->args[0];

		for (unsigned k = 0; k < j->n; k++) {
			if (j->mapped[k].pid != call->tid || j->mapped[k].area != area)
				continue;
			mapped = false;
			/* What is there now would be its own. */
			if (call->nr == SYS_munmap && call->done && call->result == 0)
				j->mapped[k].len = 0;
		}
		if (mapped && j->n < ARRAY_SIZE(j->mapped)) {
			j->mapped[j->n].pid = call->tid;
			j->mapped[j->n].area = area;
			j->mapped[j->n].len = call->args[1];
			j->mapped[j->n++].syscall_insn = call->insn;
		}
	}
}

void dump_cure(struct dump_journal *j)
{
	for (unsigned i = 0; i < j->calls.n; i++)
		if (j->calls.of[i].active)
			cure(&j->calls.of[i]);
	note_areas(j);
}
