/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Seccomp filters with a listener (SECCOMP_FILTER_FLAG_NEW_LISTENER): a file that answers for who has the filter. Which file is whose the
 * kernel keeps to itself (linux/scfilters.h). Processes that have the very same filter have it from birth, so it has to be there before
 * they are forked: the stub of the topmost one loads it, with its filters suspended by the parent, who traces it and all below it
 * from then on. The others fetch the listener when all exist (restore-late.c). A task has one of them at most, and what is below
 * that in its filters is shared as well.
 */
#pragma once

#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"

bool listeners_is_one(const struct dump_file *f);

/* A thread (its id here) that waits for an answer and can be interrupted by nothing (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV); 0: none
 * does. */
pid_t listeners_hold_up(const struct dump *d);
bool listeners_holds_up(pid_t tid);

/* How many of its filters the thread was born with: those up to one with a listener; 0: there is none. */
size_t listeners_n_born_with(const St__Process *p, const St__Thread *t, uint64_t *ret_listener);
/* File.id; 0: it has none. */
uint64_t listeners_of(const St__Process *p);
/* It is held by the agent outside: no File. */
bool listeners_has_agent(const St__Process *p);
/* What an image says of them. */
int listeners_validate(const struct restore *r, struct error *e) _must_check_;
/* Who loads the filter; 0: nobody. */
int listeners_loader(const struct restore *r, uint64_t listener);

/* In a stub: loads its filters up to that one, whose listener comes to its place. */
int listeners_load(struct restore *r, size_t index, struct error *e) _must_check_;

/* In the parent. Traces who is about to load one, hands listeners over to the agent, and lets go on who is traced and stops at a fork. Whenever it waits for stubs. */
int listeners_serve(struct restore *r, struct container *c, struct error *e) _must_check_;
bool listeners_any(const struct restore *r);
/* A task that is traced already. */
bool listeners_take_over(struct restore *r, struct task *t);
/* When all that live are taken over: the others are dead, or about to end. */
int listeners_reap(struct restore *r, struct error *e) _must_check_;
