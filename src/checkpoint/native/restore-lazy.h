/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that comes when it is wanted (restore --lazy): anonymous private memory which a process shares with no relative. It is
 * mapped and registered with userfaultfd(2), and filled by processes that outlive the restore (lazy.h), also while the program
 * runs. Everything else is read before, as ever.
 */
#pragma once

#include "checkpoint/native/restore.h"

/* Without a closer look. */
bool restore_lazy_comes_in_question(const struct restore *r);
/* In the parent, once the tree is planned: what comes so. */
int restore_lazy_plan(struct restore *r, struct error *e) _must_check_;
bool restore_is_lazy(const struct restore *r, size_t proc, size_t vma);
/* Of a lazy mapping: pages that the kernel writes to before all is registered. From *at on: true: [*at, *ret_end). */
bool restore_lazy_island(const St__Process *p, const St__Vma *v, uint64_t *at, uint64_t *ret_end);
/* In a stub: gives the parent a userfaultfd of this process. */
int restore_lazy_offer(struct restore *r, size_t index, struct error *e) _must_check_;
/* In the parent, when all threads wait for their registers: registers the memory, and has it filled from here on. */
int restore_lazy_begin(struct restore *r, struct container *c, struct error *e) _must_check_;
/* Whether the program is to run only when all of it is there. */
bool restore_lazy_is_waited_for(const struct restore *r);
/* Once the program runs. */
int restore_lazy_end(struct restore *r, struct error *e) _must_check_;
/* After a failure: if that was only what became of one of the handler's, *e is that one. Returns e->code. */
int restore_lazy_failed(struct restore *r, struct container *c, struct error *e);
void restore_lazy_done(struct restore *r);
