/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far a long operation has come, phase by phase: as a line on a terminal, or as JSON for a program, one object a line. On
 * a terminal nothing is shown in a phase's first half second, so that quick operations stay silent. Writing never blocks
 * (a terminal that was stopped with ^S, or a reader that is busy, must not hold up a frozen container: it misses a line) and
 * never allocates.
 *
 *	struct progress p = progress_to(STDERR_FILENO, mode);
 *
 *	progress_start(&p, "memory", "Writing memory", total);
 *	while (...)
 *		progress_update(&p, bytes so far);	// as often as you like
 *	progress_stop(&p);
 *
 * Several (progress_shares) have one line together, which adds up what they do; as JSON each has its own lines, with "container".
 *
 * As JSON: {"phase": "memory", "bytes": 1048576, "total": 4194304, "rate": 209715200, "left_us": 15000, "done": false}. "total",
 * "rate" and "left_us" are left out when they are not known. A phase has at least two lines: at its beginning and, "done",
 * at its end.
 */
#pragma once

#include "base/beat.h"
#include "base/error.h"
#include "base/util.h"

/* Of several processes with one line, in memory that they share: what each has done of its phase. Zero to begin with. */
enum { PROGRESS_SHARES_MAX = 64 };
struct progress_shares {
	uint64_t next_ns; /* when to show it again */
	struct progress_share {
		uint64_t done, total;
		bool active; /* in a phase that people are told of */
	} of[PROGRESS_SHARES_MAX];
};

enum progress_mode {
	PROGRESS_AUTO, /* the line, if it is a terminal */
	PROGRESS_NONE,
	PROGRESS_TTY,
	PROGRESS_JSON,
};

struct progress {
	int fd; /* -EBADF: not shown */
	bool json;
	const char *phase, *title;  /* borrowed: for programs, for people. NULL: between two phases */
	uint64_t done, total;	    /* bytes; total 0: unknown */
	uint64_t start_ns, next_ns; /* CLOCK_MONOTONIC: start, and when to show it again */
	bool drawn;
	struct beat *beat;		/* who watches whether it goes on; NULL */
	struct progress_shares *shares; /* borrowed; NULL: it is alone */
	unsigned self;			/* which one is ours */
	const char *container;		/* borrowed: for programs; NULL: not told */
};

/* "auto", "none", "tty", "json"; NULL: auto. */
int progress_mode_parse(const char *text, enum progress_mode *ret, struct error *e) _must_check_;
struct progress progress_to(int fd, enum progress_mode mode);
/* title NULL: nothing for people. */
void progress_start(struct progress *p, const char *phase, const char *title, uint64_t total);
void progress_update(struct progress *p, uint64_t done);
/* Removes the line. Does nothing between two phases. */
void progress_stop(struct progress *p);
/* Is anybody told? Else what it costs to know can be saved. */
bool progress_is_shown(const struct progress *p);
