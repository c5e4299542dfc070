/* SPDX-License-Identifier: Apache-2.0 */
/* The command's side of a restore of a sandbox: one container of its image comes to the session that its supervisor has. */
#pragma once

#include "checkpoint/engine.h"
#include "checkpoint/meeting.h"
#include "sandbox/spec-check.h"

struct restore_join {
	char *sandbox, *name; /* where it goes, and which one it is */
	char *image_path;     /* of its own image */
	char *missing;
};
void restore_join_done(struct restore_join *j);

/*
 * If o->image_path is the image of a sandbox: finds which of its containers o->create is, holds its config.json against the image's, and
 * registers it. Fills in *m (with m->prepare, set before) and *o, which borrow from *j. 0: it is an image of another kind, and nothing has been done;
 * 1: registered.
 */
int restore_join(struct restore_options *o, unsigned deadline_s, struct meeting *m, struct restore_join *j,
	struct error *e) _must_check_;
