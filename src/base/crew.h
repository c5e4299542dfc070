/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Helper threads that work through n independent items ahead of their owner. Each item is done exactly once: by a
 * helper, or by the owner when it needs one that nobody has begun. So without helpers (one CPU, or no threads to be had)
 * all still gets done, just later.
 *
 *	crew_start(c, f, arg, n, e);
 *	while (...)
 *		crew_need(c, i, e);	// as the owner goes along
 *	crew_finish(c, e);		// the rest; crew_drop() leaves it
 *
 * Only the owner calls these functions, one job at a time. What an item touches is its own, but for what "worker" tells
 * apart (an arena each): 0 is the owner, helpers are 1 to CREW_HELPERS.
 */
#pragma once

#include "base/error.h"

enum { CREW_HELPERS = 3 };

/* Negative: also fills e. Anything else is kept for crew_need(). */
typedef int crew_item_fn(void *arg, size_t item, unsigned worker, struct error *e);

struct crew;
/* "helpers" at most, and not more than the other CPUs. */
int crew_new(unsigned helpers, struct crew **ret, struct error *e) _must_check_;
/* Between two jobs: more of them, if there is more to do than was known. */
void crew_hire(struct crew *c, unsigned helpers);
void crew_free(struct crew *c);

int crew_start(struct crew *c, crew_item_fn *f, void *arg, size_t n, struct error *e) _must_check_;
/* Does the item, or others until who does it is ready; returns its result. */
int crew_need(struct crew *c, size_t item, struct error *e) _must_check_;
/* Until all are done, or one has failed: its error. */
int crew_finish(struct crew *c, struct error *e) _must_check_;
/* Ends the job: waits for what is being done, leaves the rest. Harmless if there is none. */
void crew_drop(struct crew *c);
