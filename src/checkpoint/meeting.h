/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A restore that waits: to be started ("prepared"), and for the others of its sandbox. It is done by a process of its own, the
 * restorer (restorer.h), which may go on when the command that began it has returned: the container is "created" meanwhile, and
 * "start" speaks with the restorer as it would with a waiting init.
 *
 * Containers of a sandbox meet in a session of the supervisor (sandbox/session.h): each restorer has a SOCK_SEQPACKET socket to it. If one
 * fails, all do. What must not be in doubt when the supervisor dies is in memory that all share: whether all run.
 */
#pragma once

#include "base/error.h"
#include "container/container.h"
#include "image/image.h"
#include "linux/clocks.h"

/* ---- between the restorers and the session ---- */
enum meeting_message_type {
	/* of a restorer */
	MEETING_HERE = 1, /* its container is created */
	MEETING_FILES,	  /* prepared: its files are open */
	MEETING_BUILT,	  /* everything is there */
	MEETING_RUNS,	  /* it has let its program go on */
	MEETING_SETTLED,  /* and its state says so */
	MEETING_FAILED,	  /* and why; also of the session */
	MEETING_GONE,	  /* all that it had made is removed */
	/* of the session: all have come so far */
	MEETING_ALL_HERE,
	MEETING_ALL_FILES,
	MEETING_ALL_BUILT,
	MEETING_ALL_RUN,
	MEETING_ALL_SETTLED,
	MEETING_ALL_GONE,
};
struct meeting_message {
	uint32_t type;
	struct error error; /* MEETING_FAILED */
};
enum meeting_verdict { MEETING_OPEN, MEETING_SUCCEEDED, MEETING_LOST };
/* In memory that session and restorers share. */
struct meeting_shared {
	uint32_t verdict;      /* changes once */
	uint32_t moment_state; /* 0: nobody has set the moment, 1: somebody is about to, 2: there it is */
	struct clocks moment;  /* when the clocks of all containers go on: as the machine's clocks tell it */
	uint64_t latest;       /* realtime of the checkpoint of the container that was the last one, ns */
};

struct meeting {
	bool prepare; /* it is to be started */
	bool detach;  /* the command does not wait for the program to run */
	int report;   /* to the command; -EBADF: it has returned */
	int session, exchange;
	struct meeting_shared *shared; /* NULL: the container comes back alone */
	unsigned k, n;		       /* it is the k-th of n */
	const char *missing;	       /* names of those that were not there when it came; NULL */
	bool joins_pids; /* init dies with that of another container, whose pid namespace it is in */
	int starter;	 /* who has started it, until it is answered */
	bool left;	 /* what is left of it is for its deletion: init was killed while it waited */
};
/* Ends what a process has of it. */
void meeting_close(struct meeting *m);
#define MEETING_INIT                                                                                         \
	{                                                                                                    \
		.report = -EBADF, .session = -EBADF, .exchange = -EBADF, .starter = -EBADF                   \
	}

/* What the command hears. */
enum meeting_report_type { MEETING_IS_READY = 1, MEETING_IS_RUNNING, MEETING_HAS_FAILED };
struct meeting_report {
	uint32_t type;
	struct error error;
	struct image_statistics stats;
};

/* Of a sandbox: when its checkpoint was made, by the wall clock (ns). Before the others are met. */
void meeting_tell_time(struct meeting *m, uint64_t realtime);
/* When the clocks of all its containers go on. *ret_ahead: by how much (ns) this one's are ahead of what its image says, as it was the
 * first one whose clocks were read. Not of a sandbox: now, and 0. */
int meeting_moment(struct meeting *m, uint64_t realtime, struct clocks *ret, int64_t *ret_ahead,
	struct error *e) _must_check_;
/* Another one has failed: -errno and why. */
int meeting_is_lost(struct meeting *m, struct error *e) _must_check_;

/* Init has died. -errno and why, if it was because another one has failed, which may be heard of a moment later; 0. */
int meeting_why_died(struct meeting *m, struct error *e) _must_check_;

/* In this order, by the restorer. Each may fail as another one has, or because somebody has ended init. */
int meeting_all_here(struct meeting *m, struct container *c, struct error *e) _must_check_;
int meeting_started(struct meeting *m, struct container *c, struct error *e) _must_check_;
int meeting_all_built(struct meeting *m, struct container *c, struct error *e) _must_check_;
int meeting_end(struct meeting *m, struct container *c, struct error *e) _must_check_;
/* After a failure the others should know. */
void meeting_tell_failure(struct meeting *m, const struct error *e);
/* Then: whether what was made is ours to remove. Waits for who has the container's lock. */
bool meeting_may_undo(struct meeting *m, struct container *c);
/* When that has been done. */
void meeting_failed(struct meeting *m, struct container *c, const struct error *e);
