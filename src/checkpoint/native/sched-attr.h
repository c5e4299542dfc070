/* SPDX-License-Identifier: Apache-2.0 */
/* struct sched_attr of sched_setattr(2), which glibc 2.36 does not declare and linux/sched/types.h clashes with it. */
#pragma once

#include <stdint.h>

#define SCHED_POLICY_DEADLINE 6

struct sched_attributes {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};
