/* SPDX-License-Identifier: Apache-2.0 */
/* restore_run() in a process of its own, for a restore that waits (meeting.h). */
#pragma once

#include "checkpoint/engine.h"

/*
 * o->meeting says for what it waits. Returns when the container is there and waits (detach), or its program runs: then its init
 * becomes our child, if we are a subreaper, or that of the next one. stats (with a program that runs; may be NULL): of the restore. On failure
 * nothing is left. SIGINT, SIGTERM, SIGHUP and SIGQUIT undo it, as long as it has not returned.
 */
/* 1: the program runs; 0: the container waits. */
int restorer_run(
	const struct restore_options *o, struct image_statistics *stats, struct error *e) _must_check_;
