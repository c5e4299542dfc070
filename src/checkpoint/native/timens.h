/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time namespaces that the container's processes have made. A process has two: the one it is in, and the one that its
 * children will be in, of which unshare(2) makes a new one. Only who has made it can be in one and have another for its children,
 * as setns(2) sets both: so at a restore the stub of that process makes it, and those that are in it take it from there.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/error.h"
#include "base/util.h"
#include "image.pb-c.h"

struct dump;
struct dump_nested;
struct dump_proc;
struct restore;

/* By how much clocks are ahead of the machine's, in nanoseconds. */
struct timens_offsets {
	int64_t monotonic, boottime;
};

/* Of the namespace that the process is in. A negative errno. */
int timens_read(pid_t pid, struct timens_offsets *ret) _must_check_;

/* What of such a namespace is recorded. */
int dump_timens(struct dump *d, struct dump_proc *p, struct dump_nested *n, struct error *e) _must_check_;
/* By how much the process's CLOCK_MONOTONIC is ahead of the container's. */
int64_t dump_timens_ahead(const struct dump *d, const struct dump_proc *p);

/* In init, of a restore that has waited: the container's own, with the clocks that the parent has set. */
int restore_timens_begin(struct restore *r, struct error *e) _must_check_;
/* In a process that has just unshared it: sets its clocks. Negative errno. */
int restore_timens_fill(const struct restore *r, uint64_t id) _must_check_;
/* Whether init makes it, beside the others: no process has it for its children only. */
bool restore_timens_is_inits(const struct restore *r, uint64_t id);
/* In each stub, when all exist and before any goes on: makes what it has for its children, and enters what it is in. */
int restore_timens(struct restore *r, size_t index, struct error *e) _must_check_;
/* What a clock of the process shows when the container's shows that: CLOCK_MONOTONIC or CLOCK_BOOTTIME. */
struct timespec restore_timens_clock(
	const struct restore *r, const St__Process *p, int clockid, struct timespec containers);
/* A descriptor of it, when all that have to make one have done so; negative errno. */
int restore_timens_open(const struct restore *r, uint64_t id, int flags) _must_check_;
/* Who waits for whom to make one leads to an end. */
bool restore_timens_is_valid(const struct restore *r, size_t index);
