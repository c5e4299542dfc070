/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notices when a checkpoint or a restore does not go on, says where every task stands, and ends what stands still, so that it is
 * undone. It is a timer of the process that would undo it: the guard of a checkpoint, the process that restores. The timer asks
 * now and then whether the beat has changed; no process, no thread and no time is spent on it otherwise.
 *
 * What is ended are all processes that this one has begun: the surgeon (its guard undoes what the journal says), or the
 * container that is being made. If a restore does not come to an end even then, it ends itself.
 */
#pragma once

#include <signal.h>
#include <time.h>

#include "base/beat.h"
#include "base/error.h"

/* Seconds without progress: until the container is made, and after that. 0: the default; */
struct watchdog_allowance {
	unsigned start, running;
};
#define WATCHDOG_NEVER UINT32_MAX
enum { WATCHDOG_START = 180, WATCHDOG_RUNNING = 30 };
enum watchdog_kind { WATCHDOG_CHECKPOINT, WATCHDOG_RESTORE };

struct watchdog {
	enum watchdog_kind kind;
	struct watchdog_allowance allowance;
	const struct beat *beat;
	pid_t init_pids[64]; /* of the containers, whose tasks are reported, too */
	unsigned n_init_pids;
	int work_dir,
		report; /* where it goes besides stderr, and that file once there is something to say; -EBADF */
	pid_t owner;
	timer_t timer;
	struct sigaction old;
	bool begun, starting, paused;
	uint32_t seen;
	unsigned quiet_ms, ended_ms; /* since when nothing is done, and since the processes were ended */
	char phase[24];		     /* in which that was; "": it was not */
	unsigned after_s;
};

/* Begins; *w is then not moved. work_path: where the report goes, too; NULL. Its first phase is the start of a restore. */
void watchdog_begin(struct watchdog *w, enum watchdog_kind kind, const struct watchdog_allowance *a,
	const struct beat *beat, const char *work_path);
/* A container that is there: from here on the shorter allowance counts. */
void watchdog_started(struct watchdog *w, pid_t init_pid);
/* While others are waited for. */
void watchdog_pause(struct watchdog *w, bool pause);
/* The end: if it has acted, *e says so instead of what that looked like. Returns r, or the code of *e. */
int watchdog_end(struct watchdog *w, int r, struct error *e);
