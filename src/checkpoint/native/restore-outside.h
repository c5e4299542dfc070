/* SPDX-License-Identifier: Apache-2.0 */
/* Private pages that stubs cannot read by themselves: the parent fills them (restore-outside.c). */
#pragma once

#include "checkpoint/native/restore.h"

/* What a stub lacks; a list of these is in its slot. */
struct restore_stretch {
	uint64_t address, len, offset;
	uint64_t layer;
};

/* Not those of an image that is arriving: the stubs wait for them. */
static inline bool restore_is_outside(const struct restore *r, unsigned layer)
{
	return image_pages_fd(r->image, layer) < 0 && !image_feed_of(r->image);
}

/* In the parent, before the area is laid out: r->fills_outside. */
void restore_outside_plan(struct restore *r);
/* In the parent, when all stubs wait for it: fills, and lets them go on. */
int restore_outside_fill(struct restore *r, struct error *e) _must_check_;
