/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <time.h>

#include "checkpoint/native/restore.h"
#include "checkpoint/native/task.h"

/* What is left of what was left then; never 0. */
struct timespec restore_left(const struct restore *r, const St__TimeSpec *then);

/* What a clock of the container shows when "left" is over. */
struct timespec restore_clock_at(const struct restore *r, int clockid, const St__TimeSpec *left);

/* A POSIX timer that a process can set itself, for an absolute time of its clock. */
bool restore_timer_is_absolute(const St__PosixTimer *t);
/* One that restore_late_timers() sets. */
bool restore_timer_is_late(const St__PosixTimer *t);
/* By the parent, of stopped tasks that still have the shared area; insn: a syscall instruction in them. */
int restore_late_timers(struct restore *r, const St__Process *p, struct task *task, uint64_t insn,
	struct error *e) _must_check_;
/* Threads that were interrupted in sleeps are let into them again, all at once: one after the other would cost each what all wait for. */
struct restore_sleeper {
	const St__Thread *msg;
	struct task *task;
	uint64_t insn; /* of a syscall instruction; of one that runs 32-bit code: of an int $0x80 */
};
int restore_waits(
	struct restore *r, const struct restore_sleeper *sleepers, size_t n, struct error *e) _must_check_;
