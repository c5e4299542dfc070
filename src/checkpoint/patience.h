/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Much of what stands in the way of a checkpoint passes: events that are about to be read, a connection that the server accepts in a
 * moment. It is looked for again and again, for a while; what does not look as if it passed is believed after a few looks.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/engine.h"

struct patience {
	int64_t end;   /* CLOCK_MONOTONIC, microseconds: until then */
	int64_t tried; /* the beginning of the last try, likewise */
	unsigned tries;
};

/* Before the first try. A paused container is as it is: nothing passes. */
void patience_begin(struct patience *p, const struct checkpoint_options *o, bool is_paused);
/* After a look, or a stop, at containers in vain: whether there is to be another one, which is then waited for, at least as long as
 * the last one has taken. */
bool patience_for_look(struct patience *p, const struct checkpoint_options *o, bool is_passing);
bool patience_for_stop(struct patience *p, const struct checkpoint_options *o, bool is_passing);
