/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <signal.h>

#include "sandbox/supervisor.h"

/* members.c: watches who joins and leaves. */
int members_watch(struct supervisor *s, struct error *e) _must_check_;
/* The watch has said something: what has changed? members_look(): has it? */
void members_changed(struct supervisor *s, int sig);
#define MEMBERS_SIGNAL SIGUSR1	   /* someone joins or leaves */
#define MEMBERS_STATE_SIGNAL SIGIO /* a state directory changes */
void members_look(struct supervisor *s);
/* All of them now, whatever the watch says later. */
void members_scan(struct supervisor *s);
void members_done(struct supervisor *s);

/* exits.c: what is kept of a member's end, for the next supervisor. */
void exit_save(struct supervisor *s, const struct member *m);
/* True: it was kept, and belongs to this very process. */
bool exit_load(struct supervisor *s, struct member *m);
void exit_forget(struct supervisor *s, const char *id);
struct exit_kept {
	bool known;
	int status; /* wait(2) */
	int64_t at_ns;
};
/* The same for anybody: what is kept in the directory of a sandbox. */
bool exit_read(int sandbox_fd, const char *id, pid_t pid, uint64_t start_time, struct exit_kept *ret);

/* start.c */
bool sandbox_is_served(int dir_fd);
