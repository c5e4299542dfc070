/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line on the terminal that says how far a long operation has come. Nothing is shown when the fd is no terminal, nor
 * in the first half second, so that quick operations stay silent. Drawing never blocks (a terminal that was stopped
 * with ^S must not hold up a frozen container) and never allocates.
 *
 *	struct progress p;
 *
 *	progress_start(&p, STDERR_FILENO, "Writing memory", total);
 *	while (...)
 *		progress_update(&p, bytes so far);	// as often as you like
 *	progress_stop(&p);
 */
#pragma once

#include "base/util.h"

struct progress {
	int fd;			    /* -EBADF: not shown */
	const char *title;	    /* borrowed */
	uint64_t total;		    /* bytes; 0: unknown */
	uint64_t start_ns, next_ns; /* CLOCK_MONOTONIC: start, and when to draw again */
	bool drawn;
};

void progress_start(struct progress *p, int fd, const char *title, uint64_t total);
void progress_update(struct progress *p, uint64_t done);
/* Removes the line. */
void progress_stop(struct progress *p);
