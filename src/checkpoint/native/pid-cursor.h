/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The next pid of a pid namespace. What makes a process in there for a moment, while all else in it stands still, holds the cursor:
 * whoever is born afterwards gets the pid that he would have got.
 */
#pragma once

#include <sys/types.h>

#include "base/util.h"

struct pid_cursor {
	pid_t pid; /* a helper of ours in the namespace; 0: none */
	int end;
};

/* By a helper, whose own pid is chosen so that it does not count. It dies with us, and then, too, puts the cursor back.
 * "of": a process in the namespace. Negative errno: this cannot be done here. */
int pid_cursor_hold(pid_t of, struct pid_cursor *ret) _must_check_;
/* Puts it back; nothing to do if it was not held. */
int pid_cursor_release(struct pid_cursor *c) _must_check_;
