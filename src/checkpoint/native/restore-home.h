/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stubs that live in a user namespace of the container's processes before they give up their memory (homes.h): the first
 * process of a pid namespace that belongs to it, all below that one, and whoever has threads. Who is in there may not choose
 * pids outside of it (set_tid wants a capability for each level). So there is a clerk, a helper in the container's own pid
 * namespace: one after another asks him, by a ticket in the shared area, and he sets the cursors of those pid namespaces
 * (ns_last_pid) so that the next fork gets the right ones. Nobody else forks without a choice of pids meanwhile.
 */
#pragma once

#include "checkpoint/native/restore.h"

enum { TICKET_LEVELS = 32 };

/* Words are futexes. asked: by who forks; turn: by the clerk, he may; done: he has. */
struct restore_ticket {
	uint32_t asked, turn, done;
	uint32_t proc;		     /* index: whose pid namespaces it is about, */
	uint32_t n;		     /* the outermost n of them */
	int32_t pids[TICKET_LEVELS]; /* which the fork is to get there */
};

/* In the parent: who lives where. REFUSED: that cannot be. */
int restore_find_homes(struct restore *r, struct error *e) _must_check_;
size_t restore_n_tickets(const struct restore *r);
/* Of the fork of a process, of the helper that forks it, of one of its threads. */
struct restore_ticket *restore_ticket(struct restore *r, size_t proc);
struct restore_ticket *restore_helper_ticket(struct restore *r, size_t proc);
struct restore_ticket *restore_thread_ticket(struct restore *r, size_t proc, size_t thread);
/* ids: of all levels, the outermost first. */
void restore_ticket_fill(
	struct restore_ticket *t, size_t proc, size_t foreign, int outermost, const int32_t *inner);

/* In init, before it forks the tree; nothing to do if nobody will ask. Fails the restore by itself later. */
int restore_start_clerk(struct restore *r, struct error *e) _must_check_;
/* In a stub: until it is its turn; it is over. */
void restore_ask_clerk(struct restore *r, struct restore_ticket *t);
void restore_thank_clerk(struct restore_ticket *t);
/* An id that nothing else has at any level. */
int restore_spare_id(const struct restore *r, size_t nth);

/* In a stub: takes the ids of the process, and enters that user namespace for good. */
int restore_settle(struct restore *r, const St__Process *p, uint64_t home) _must_check_;

/* Those that a change of ids has lowered. */
int restore_raise_capabilities(void);

/* What a stub has to set to become like that, as numbers of where it lives; UINT32_MAX: it stays as it is. */
struct restore_ids {
	bool groups_differ;
	size_t n_groups;
	uint32_t *groups; /* in the arena */
	uint32_t uid[4], gid[4];
};
int restore_ids(struct restore *r, const St__Credentials *c, struct restore_ids *ret) _must_check_;
