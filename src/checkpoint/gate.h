/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the surgeons of several containers wait for each other, so that one checkpoint has one moment: shared memory that
 * is made before they are forked. A gate opens when all members have come to it, and each at most once. Whoever fails breaks
 * the gates for all: nobody waits for somebody who will not come.
 *
 * Invariant: whether a gate has been passed is the same for all members, whatever breaks meanwhile. So the last one
 * (GATE_COMMITTED) divides: before it all undo what they have done, after it all go through with it.
 */
#pragma once

#include "base/error.h"

enum gate_point {
	GATE_READY,	/* all that can be done with the tasks running is done */
	GATE_STOPPED,	/* no task of any container runs: nothing has been captured yet */
	GATE_PUBLISHED, /* each has written down what it has open (native/peers.h) */
	GATE_CAPTURED,	/* all that is to be read of stopped tasks has been read: nobody has been let go */
	GATE_RELEASED,	/* what was held back of the network is let in again: nobody runs yet */
	GATE_RUNNING, /* all run on: who writes his image before that takes the CPU from who still has to let his go */
	GATE_COMMITTED, /* all images are complete: nobody who is to end has been killed */
	GATE_POINTS
};

struct gate;

/* Of "members" processes, which call themselves 0, 1 ... The guard is number "members": it only breaks. */
int gate_new(unsigned members, struct gate **ret, struct error *e) _must_check_;
void gate_free(struct gate *g);
/* For another try, when no member is left. */
void gate_reset(struct gate *g);

/* While waiting it is asked now and then whether to go on: a negative result is returned. */
typedef int gate_go_on_fn(void *arg, struct error *e);
/* Done once, by the member that comes last, before the gate opens; if it fails the gate does not. */
typedef int gate_last_fn(void *arg, struct error *e);

/* Waits for the others; without gates (NULL) does "last" at once. Negative: it will never open, for anybody: because go_on or
 * last of this member failed, or (-ECANCELED) because of the breaker's error. */
int gate_meet(struct gate *g, enum gate_point point, unsigned who, gate_go_on_fn *go_on, gate_last_fn *last,
	void *arg, struct error *e) _must_check_;
/* Breaks all gates that are not open yet; the first one to do so is remembered. Does nothing without gates. */
void gate_break(struct gate *g, unsigned who, const struct error *why);
/* The number of who broke them, and why ("why" may be NULL); -1: nobody. */
int gate_breaker(const struct gate *g, struct error *why);
bool gate_is_open(const struct gate *g, enum gate_point point);
/* A container runs on: when the last one has (CLOCK_MONOTONIC in nanoseconds; 0: none). */
void gate_note_running(struct gate *g);
int64_t gate_last_running(const struct gate *g);
/* CLOCK_MONOTONIC in nanoseconds, when it opened; 0: it has not. */
int64_t gate_opened_at(const struct gate *g, enum gate_point point);

static inline void gate_free_p(struct gate **g)
{
	gate_free(*g);
}
