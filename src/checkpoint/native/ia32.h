/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 32-bit (i386) programs. Whatever a task is asked or told goes through 64-bit system calls, also where it runs 32-bit code: that is
 * a matter of the code segment only, which every batch and every call sets for itself. What differs is what 64-bit calls cannot say: signal
 * handlers that take 32-bit frames, robust lists, thread-local segments of the descriptor table, calls to be restarted; and
 * that everything lies below 4 GiB.
 */
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include "base/arena.h"
#include "base/error.h"
#include "image.pb-c.h"

enum { IA32_CS = 0x23, IA32_CODE_64 = 0x33, IA32_TLS_BYTES = 48 };

/* The thread runs 32-bit code. */
static inline bool ia32_runs(const struct user_regs_struct *regs)
{
	return regs->cs == IA32_CS;
}

/* System calls of i386, by number. */
enum {
	IA32_restart_syscall = 0,
	IA32_nanosleep = 162,
	IA32_poll = 168,
	IA32_rt_sigaction = 174,
	IA32_futex = 240,
	IA32_clock_nanosleep = 267,
	IA32_set_robust_list = 311,
	IA32_get_robust_list = 312,
	IA32_clock_nanosleep_time64 = 407,
	IA32_futex_time64 = 422,
};

/* Whether a vdso begins at that address which is that of 32-bit programs. */
bool ia32_is_vdso(pid_t tid, uint64_t address);
/* Where in a stopped task's vdso (and what belongs to it) these two bytes are; 0: nowhere. */
uint64_t ia32_find_insn(pid_t tid, uint64_t start, uint64_t end, uint8_t first, uint8_t second);
/* Of a stopped thread that runs 32-bit code: robust list, thread-local segments. */
int ia32_collect_thread(struct arena *a, pid_t tid, St__Thread *m, struct error *e) _must_check_;
/* Before its registers are set. */
int ia32_restore_thread(pid_t tid, const St__Thread *m, struct error *e) _must_check_;
