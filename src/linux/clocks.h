/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <time.h>

struct clocks {
	struct timespec monotonic, boottime, realtime;
};

/* What they show at one moment: who is put aside by the scheduler between two of them looks again. One that is late would make the
 * container's clocks drift apart, and its timers expire too early. */
void clocks_now(struct clocks *ret);
