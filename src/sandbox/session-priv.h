/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "checkpoint/meeting.h"
#include "sandbox/call.h"
#include "sandbox/session.h"
#include "sandbox/supervisor.h"

enum { SESSION_KEY = 64, SESSION_OFFERS_MAX = 4096, SESSION_NAMES_MAX = 1024 };

/* A container that has registered. */
struct participant {
	struct participant *next;
	struct session *session;
	char *id, *name;
	struct loop_fd line;	  /* to its restorer */
	struct loop_fd exchange;  /* to its init */
	uint32_t stage;		  /* the last of MEETING_HERE ... MEETING_RUNS that it has said */
	bool gone;		  /* nothing is left of it; only after a failure */
	bool removing;		  /* by us */
	struct loop_fd remover;	  /* a pidfd then */
	char wanted[SESSION_KEY]; /* it waits for this; "": nothing */
};

struct offer {
	struct offer *next;
	char key[SESSION_KEY];
	int fd;
};

struct session {
	struct supervisor *supervisor;
	char *image; /* tells one from another */
	char **names;
	size_t n_names; /* of the image */
	bool given;	/* the new environment has its own first container ("POD") */
	bool prepare;
	unsigned deadline_s;
	struct participant *participants;
	size_t n;
	struct meeting_shared *shared;
	int shared_fd;
	struct offer *offers;
	size_t n_offers;
	struct loop_timer deadline, patience; /* patience: for those who remove what they made */
	bool failed, succeeded;
	struct error why;
	struct call **waiters; /* WaitRestore */
	size_t n_waiters;
};

/* session.c */
size_t session_count(const struct session *s);
/* Names that have not come, separated by ", ". */
void session_missing(const struct session *s, char *buf, size_t size);
/* Is there a container of this name in the image; has it come? */
bool session_has(const struct session *s, const char *name);
struct participant *session_find(const struct session *s, const char *name);
void session_fail(struct session *s, const struct participant *by, const struct error *why);
void session_participant_free(struct participant *p);
/* Nothing is left to be done: s is gone after this. */
void session_end(struct session *s);
/* Callbacks: a restorer says something; what was left of a container is removed; timers. */
void session_line_ready(void *arg, uint32_t events);
void session_removed(void *arg, uint32_t events);
void session_too_late(void *arg);
void session_out_of_patience(void *arg);

/* session-exchange.c */
void exchange_ready(void *arg, uint32_t events);
void exchange_forget(struct session *s);
