/* SPDX-License-Identifier: Apache-2.0 */
/* Capability sets of the calling thread as 64-bit masks (bit n: CAP_ number n). Thin: negative errno. */
#pragma once

#include "base/util.h"

struct caps {
	uint64_t effective, permitted, inheritable;
};

/* The highest capability this kernel knows. */
int caps_last(void);
int caps_get(struct caps *ret) _must_check_;
int caps_set(const struct caps *c) _must_check_;
/* Drops from the bounding set what "keep" lacks. */
int caps_limit_bounding(uint64_t keep) _must_check_;
int caps_set_ambient(uint64_t set) _must_check_;
