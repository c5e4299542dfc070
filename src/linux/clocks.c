/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/clocks.h"

#include <stdint.h>

void clocks_now(struct clocks *ret)
{
	enum { TRIES = 20, MOMENT_NS = 20000 };

	for (int i = 0; i < TRIES; i++) {
		struct timespec after;

		clock_gettime(CLOCK_MONOTONIC, &ret->monotonic);
		clock_gettime(CLOCK_BOOTTIME, &ret->boottime);
		clock_gettime(CLOCK_REALTIME, &ret->realtime);
		clock_gettime(CLOCK_MONOTONIC, &after);
		if ((int64_t)(after.tv_sec - ret->monotonic.tv_sec) * 1000000000 + after.tv_nsec -
				ret->monotonic.tv_nsec <
			MOMENT_NS)
			return;
	}
}
