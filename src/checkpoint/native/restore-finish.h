/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a restore, in the parent: every thread is there, stopped, and ours. */
#pragma once

#include "checkpoint/native/restore.h"
#include "checkpoint/native/task.h"

struct live_thread {
	struct task task;
	const St__Thread *msg;
	const St__Process *proc;
	pid_t pid; /* of its process, on the host */
	bool leader;
};

struct finish {
	struct restore *r;
	struct container *c;
	struct live_thread *threads;
	size_t n;
	uint64_t syscall_offset; /* of a syscall instruction, from the start of the vdso group */
};

/* By its pid in the container; NULL: it is a zombie, or gone. */
struct live_thread *restore_leader_of(struct finish *f, int pid);
/* Where that thread can make a call. */
uint64_t restore_syscall_insn_of(const struct finish *f, const struct live_thread *t);
/* Does a child's end (or stop) send it SIGCHLD, and would that be one more than it had waiting? */
bool restore_gets_sigchld(const St__Process *parent, bool stop);
/* Waits for that, and takes it away. */
int restore_drop_sigchld(struct finish *f, struct live_thread *parent, struct error *e) _must_check_;
/* restore-exec.c: ends what exec had brought in, if that is wanted. */
int restore_end_exec(struct finish *f, struct error *e) _must_check_;
