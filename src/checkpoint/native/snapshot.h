/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy-on-write snapshot of memory (--leave-running): its pages are written to the image while the program runs on. What
 * cannot be held by one, for whatever reason, is copied while the tasks are stopped: dump_proc.late without a snapshot.
 */
#pragma once

#include "checkpoint/native/dump.h"

struct snapshot {
	unsigned number;
	int mem_fd, pagemap_fd; /* of /proc, and of a process that is gone */
};

/* Before the freeze: whether this machine can. */
int dump_snapshots_prepare(struct dump *d, struct error *e) _must_check_;
/* When the mappings are known: of which processes, and which of their mappings. */
int dump_snapshots_choose(struct dump *d, struct error *e) _must_check_;
/* When the tasks have their areas (ask.c), and nobody else injects anything. */
int dump_snapshots_take(struct dump *d, struct error *e) _must_check_;
void dump_snapshots_done(struct dump *d);
/* For the guard: what the surgeon has left behind in a process. */
void dump_reap_leftover(const struct dump_forking *f);
