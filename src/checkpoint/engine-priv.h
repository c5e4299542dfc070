/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#pragma once

#include "checkpoint/engine.h"

/* ---- inside.c ---- */
/* Do we lack the machine's privileges? Then we must enter the container's user namespace. */
bool checkpoint_is_unprivileged(const struct container *c);
int checkpoint_enter_userns(const struct container *c, struct error *e) _must_check_;
/* checkpoint_preflight() by a child that has. */
int checkpoint_preflight_inside(struct container *c, const struct checkpoint_options *o,
	struct preflight_report *r, struct error *e) _must_check_;
