/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a task waits if its tracer dies in the middle of a single call (task.h): it has registers of ours then, and must
 * not go on behind the system call instruction with them. Two places need no memory of its own:
 *
 *	before our call		a call that waits for a signal, with all signals blocked
 *	after our call		a jump to itself, of which there are some in any code (two bytes, wherever they begin)
 *
 * From the instruction to jump to on, all states in between are safe, also with the task's own signal mask: a handler that runs on top of it
 * comes back to the jump. Who has been told of it (struct task_note) finds the task there, and puts its own state back.
 */
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include "base/util.h"

struct park {
	uint64_t loop;	/* address of the jump; 0: none is known */
	uint64_t flags; /* with which it is taken */
	long nr;	/* of the waiting call */
	uint64_t mark;	/* what is in rbx meanwhile */
};

/* Looks for a jump to itself in code that lies at that address in the task. */
#define PARK_MARK 0x7374617369732d70ull /* nobody else has that at these instructions */
bool park_find(const void *code, size_t len, uint64_t address, struct park *ret);

/* The registers of a task that jumps there; that waits by a call at "insn"; that makes a call, and jumps there afterwards (to be
 * set where the kernel stops it before the waiting call). "own": its own, whose stack pointer and segments stay. */
void park_in_loop(const struct park *p, const struct user_regs_struct *own, struct user_regs_struct *ret);
void park_in_call(const struct park *p, const struct user_regs_struct *own, uint64_t insn,
	struct user_regs_struct *ret);
void park_after_call(const struct park *p, const struct user_regs_struct *own, long nr,
	const uint64_t args[6], struct user_regs_struct *ret);

/* Whether a task with these registers is at one of the two. */
bool park_has(const struct park *p, uint64_t insn, const struct user_regs_struct *regs);
/* Then: whether our call has been made, and what it came to. */
bool park_result(const struct park *p, const struct user_regs_struct *regs, int64_t *ret);
