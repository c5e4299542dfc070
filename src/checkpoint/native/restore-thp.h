/* SPDX-License-Identifier: Apache-2.0 */
/* Transparent huge pages for memory that a restore fills from end to end (restore-thp.c). */
#pragma once

#include "checkpoint/native/restore.h"

/* In the parent: r->huge_fill, whether they are wanted, and faster. */
void restore_thp_plan(struct restore *r);
/* In a stub, once the mapping is there, and before it is filled and given its advice. */
int restore_thp_ops(struct restore *r, struct batch *b, size_t proc, size_t vma) _must_check_;
/* How many calls that takes at most for a stretch that is filled, beside two for each. */
static inline uint64_t restore_thp_ops_max(uint64_t len)
{
	return 1 + len / (1 << 20);
}
