/* SPDX-License-Identifier: Apache-2.0 */
/* That something goes on, for whoever watches: in memory that both have. Costs an addition. */
#pragma once

#include <string.h>

#include "base/util.h"

struct beat {
	uint32_t n;	/* changes with whatever is done */
	char phase[24]; /* what that is; "" at first */
};

static inline void beat_go_on(struct beat *b)
{
	if (b)
		__atomic_add_fetch(&b->n, 1, __ATOMIC_RELAXED);
}

static inline void beat_phase(struct beat *b, const char *phase)
{
	if (!b)
		return;
	for (size_t i = 0; i < sizeof(b->phase) - 1; i++) {
		b->phase[i] = *phase;
		phase += *phase != '\0';
	}
	beat_go_on(b);
}
