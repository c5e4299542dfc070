/* SPDX-License-Identifier: Apache-2.0 */
/* The checkpoint of a sandbox: of all its containers that run, at one moment (checkpoint/engine.h). */
#pragma once

#include <stdio.h>

#include "checkpoint/engine.h"
#include "sandbox/sandbox.h"

/* The sandbox that is called so, or that the container of that id is in. Caller frees *ret. 1: there is no such sandbox, but a
 * container in none, or none of either. */
int sandbox_named(const char *root, const char *id, char **ret, struct error *e) _must_check_;

/* What it came to, also after a failure. */
struct sandbox_checkpoint {
	struct sandbox *sandbox;
	struct checkpoint_member members[CHECKPOINT_MEMBERS_MAX];
	unsigned n;
	struct image_statistics stats; /* of the whole */
	int members_fd;
};
void sandbox_checkpoint_done(struct sandbox_checkpoint *s);

/* While it lasts nobody joins. Members that have stopped are not in the image; one that is created, but not started, is an
 * error. Afterwards, unless o->leave_running, those in the image are deleted. On failure all run on, and there is no image. */
int sandbox_checkpoint(const char *root, const char *id, const struct checkpoint_options *o,
	struct sandbox_checkpoint *ret, struct error *e) _must_check_;

/* What stood in the way, a line each: nothing if there is none. */
void sandbox_checkpoint_obstacles(const struct sandbox_checkpoint *s, FILE *out);
/* The figures as JSON. */
void sandbox_checkpoint_statistics(const struct sandbox_checkpoint *s, FILE *out);
