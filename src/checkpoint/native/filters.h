/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seccomp filters of the container's tasks. Root reads them from the kernel, and suspends them while a task makes calls of
 * ours. An ordinary user can do neither: of his container only the one program is known that the runtime itself has
 * loaded (container_kept_filter()), and it stays in force, so that it is asked before each call.
 */
#pragma once

#include "checkpoint/native/batch.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"

/* Preflight: obstacles of a process. */
void filters_check(struct dump *d, struct dump_proc *p);
/* Seizes a task, with its filters suspended or known. */
int filters_seize(
	struct dump *d, struct task *t, pid_t tid, const struct proc_status *s, struct error *e) _must_check_;
/* Of a stopped thread, to its record. */
int filters_collect(struct dump *d, struct dump_proc *p, struct dump_thread *t, struct error *e) _must_check_;
/* Whether its program can have made the call, with whatever arguments; and whether ours in a batch will be let through. */
bool filters_may_let_through(const struct task *t, long nr);
/* A system call without arguments that lasts until a signal comes, and that its filters let it make when they are in force again. */
long filters_waiting_call(const struct dump *d, const struct dump_proc *p, const struct dump_thread *t);
int filters_check_batch(const struct task *t, const struct batch *b, struct error *e) _must_check_;

/* Whether a profile lets a process make a user namespace: 0, 1. */
int filters_may_make_userns(const struct spec_seccomp *s, struct error *e) _must_check_;

/* In a stub: the calls by which the thread loads its own. programs: one for each filter of the process, 0 at first. */
void filters_load(struct batch *b, const St__Process *p, const St__Thread *t, uint64_t *programs);
/* And whether they let through what follows from op "first" on, if nobody can suspend them. */
int filters_check_restored(const struct restore *r, const St__Process *p, const St__Thread *t,
	const struct batch *b, size_t first, struct error *e) _must_check_;
/* In the parent: seizes a thread that has, or is about to load, its filters. */
int filters_seize_restored(struct restore *r, const St__Process *p, const St__Thread *t, struct task *task,
	struct error *e) _must_check_;
/* In the parent, at the end: what the next checkpoint is to know of them. */
int filters_keep(struct restore *r, const struct container *c, struct error *e) _must_check_;
