/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stopped thread, by ptrace: seize, interrupt, registers, single remote system calls and batches.
 *
 * Invariant: outside of task_calls() and task_batch_*(), a stopped task has its own registers and its own signal
 * mask, so that if the tracer dies the kernel lets the task run on as if nothing had been (also a system call that was
 * interrupted is restarted by the kernel itself). In a batch it finds back by itself, by the frame behind the loop. In a
 * single call it waits (park.h) for who has the notes (below). At no moment it runs on with a mask of ours.
 */
#pragma once

#include <linux/filter.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/arena.h"
#include "base/error.h"
#include "checkpoint/native/park.h"

/* A single call in a task: what somebody else needs to put the task back, if who makes it dies. */
struct task_note {
	pid_t tid;
	bool active; /* registers or mask may not be its own */
	bool done;   /* it has been made */
	long nr;
	uint64_t args[6];
	int64_t result;
	uint64_t insn;
	struct park park;
	struct user_regs_struct regs; /* its own */
	uint64_t sigmask;
};

enum { TASK_NOTES_MAX = 16384, TASK_NOTES_CALLS = 4096 /* of these for single calls in any case */ };
/* In memory that outlives who makes the calls. */
struct task_notes {
	unsigned n;
	struct task_note of[TASK_NOTES_MAX];
};

struct task {
	pid_t tid;
	bool seized, stopped;
	unsigned long options;
	bool in_group_stop; /* job control: it was stopped by a signal */
	int stop_signal;
	int end_signal; /* see task_batch_start(); 0: none is free */
	struct user_regs_struct regs;
	void *xstate; /* NT_X86_XSTATE, in the arena */
	size_t xstate_len;
	uint64_t sigmask;
	const struct sock_fprog *filters; /* not suspended: calls that they do not let through are not made */
	size_t n_filters;
	struct park park;	  /* where it waits if we die in a single call */
	struct task_notes *notes; /* NULL: nobody would be left to put it back, or it would end with us */
	struct task_note *note;	  /* in them; NULL: it has not made a call yet */
};

/* PTRACE_SEIZE with options; PTRACE_O_SUSPEND_SECCOMP lets injected calls through the task's filters. */
int task_seize(struct task *t, pid_t tid, unsigned long options, struct error *e) _must_check_;
int task_interrupt(struct task *t, struct error *e) _must_check_;
/* Waits until the task has stopped for task_interrupt(); signals that were on their way are delivered. 1: the task is
 * gone. */
int task_wait_stop(struct task *t, struct error *e) _must_check_;
/* A signal by which the kernel tells a thread of what it has done itself, and that came too late for a stop: it belongs to the instruction at which
 * the thread is, so it is delivered before anything else is done with the thread. 1: that was its end. */
struct proc_status;
bool task_has_fault(const struct proc_status *status);
int task_take_fault(struct task *t, struct error *e) _must_check_;
/* Reads registers, extended state and signal mask. */
int task_read_registers(struct task *t, struct arena *a, struct error *e) _must_check_;
int task_set_gpr(pid_t tid, const struct user_regs_struct *regs, struct error *e) _must_check_;
int task_set_xstate(pid_t tid, const void *xstate, size_t len, struct error *e) _must_check_;
int task_set_sigmask(pid_t tid, uint64_t mask, struct error *e) _must_check_;

/* A system call at "insn", the address of a syscall instruction in the task. */
struct task_call {
	struct task *task;
	uint64_t insn;
	long nr;
	uint64_t args[6];
	bool ia32; /* by its i386 number and arguments; "insn" is an int $0x80 */
	bool again; /* none of ours: the one that the stop has interrupted, as the kernel makes it again by itself */
	int64_t result; /* may be -errno */
	bool failed;	/* it could not be made to call */
	bool faulty;	/* tests want us to die in it */
};
/* One call in each of several tasks, at the same time: to wait for one after the other would cost two changes of context
 * for each. The tasks' own registers and masks are back afterwards, also of the others if one fails. Needs
 * task_read_registers() before. */
int task_calls(struct task_call *calls, size_t n, struct error *e) _must_check_;
/* When the tasks are let go. */
void task_notes_drop(struct task_notes *notes);
/* Calls in which the tasks may sleep: begins them, and later interrupts them. In between, tasks with "again" have the
 * signals of task_sleep_mask() blocked, and are else as without a tracer. "result" is then what one came to,
 * -ERESTART_RESTARTBLOCK and the like if it slept. task_settle() is to follow. */
uint64_t task_sleep_mask(uint64_t own);
int task_sleep_begin(struct task_call *calls, size_t n, struct error *e) _must_check_;
/* The first in two steps: up to the calls, and into one of them. What that reads from memory can be written in between. */
int task_sleep_prepare(struct task_call *calls, size_t n, struct error *e) _must_check_;
int task_sleep_enter(struct task_call *call, struct error *e) _must_check_;
int task_sleep_end(struct task_call *calls, size_t n, struct error *e) _must_check_;
/* The same for one task. */
int task_syscall(struct task *t, uint64_t syscall_insn, long nr, const uint64_t args[6], int64_t *ret,
	struct error *e) _must_check_;
/* After calls: makes the stops ones from which the kernel would restart an interrupted call again. */
int task_settle(struct task_call *calls, size_t n, struct error *e) _must_check_;

/* Takes a signal that waits for the task away from it; it must not be blocked by anything but the mask. */
int task_drop_signal(struct task *t, int sig, struct error *e) _must_check_;

/* Whether its call would be interrupted by the frame at the end of a batch: rt_sigreturn(2) lets no call go on by restart_syscall(2). Then the
 * last op of a batch is one that waits for who puts the task back; after it there is the frame, if nobody is left. */
bool task_batch_waits(const struct task *t);
/* Runs a batch that has been placed in the task: start, then wait. The last op (or the one before that which waits) must be
 * the tgkill of the end signal. Between the two several tasks may run at once. Own registers and mask are back after task_batch_wait(). */
int task_batch_start(struct task *t, uint64_t loop, uint64_t ops, size_t n_ops, uint64_t control,
	uint64_t frame, struct error *e) _must_check_;
int task_batch_wait(struct task *t, struct error *e) _must_check_;

/* Of a batch in which the task forks (OP_CHILD), after task_trace_children(): until the child is there, or, 1, the batch has come
 * to its end without one. The child is seized and stops before its first instruction; its "options" are to be set then. */
int task_trace_children(struct task *t, bool on, struct error *e) _must_check_;
int task_batch_child(struct task *t, struct task *ret_child, struct error *e) _must_check_;
/* Lets such a child go on to where it calls exit, *ret_status: with what (as wait tells). 1: it was killed. */
int task_child_to_exit(struct task *t, int *ret_status, struct error *e) _must_check_;
/* And to its end, of which the tracer is told first. */
int task_child_end(struct task *t, struct error *e) _must_check_;

/* A thread that is about to call exit does so, to where it takes no signals any more: then it has still to be let go. */
int task_exit(struct task *t, struct error *e) _must_check_;
/* Lets it go on. sig: delivered (0: none). */
int task_detach(struct task *t, struct error *e) _must_check_;

/* A signal that ends batches: ignored by its disposition and not pending, so that sending it is without effect if the
 * tracer is gone. A program of Go catches all that there are: then one that comes for no reason that a program knows, and
 * does so once more if the tracer dies. It may be blocked (jemalloc's threads block all): while a batch runs it is the only one that is not.
 * Masks as in /proc/PID/status. 0: there is none. */
int task_choose_end_signal(uint64_t caught, uint64_t pending);

/* The rt_sigframe that brings the task's own state back, without a tracer. *ret_sp is the offset of the stack pointer
 * for rt_sigreturn. Returns the size needed (also with buf NULL), address: where it will be. */
size_t task_sigframe(const struct task *t, void *buf, size_t size, uint64_t address, uint64_t *ret_sp);

int task_read_memory(pid_t pid, uint64_t address, void *buf, size_t len) _must_check_;
int task_write_memory(pid_t pid, uint64_t address, const void *buf, size_t len) _must_check_;
