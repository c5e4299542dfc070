/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/patience.h"

#include <time.h>
#include <unistd.h>

#include "base/beat.h"
#include "base/trace.h"

enum { LOOKS = 6, STOPS = 8, LONGEST_LOOK_US = 10000, LONGEST_STOP_US = 64000 };

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ll + t.tv_nsec / 1000;
}

void patience_begin(struct patience *p, const struct checkpoint_options *o, bool is_paused)
{
	int64_t now = now_us(), ms = o->patience_ms ? o->patience_ms : CHECKPOINT_PATIENCE_MS;

	*p = (struct patience){.end = is_paused ? now : now + ms * 1000, .tried = now};
}

static bool go_on(struct patience *p, const struct checkpoint_options *o, bool is_passing, unsigned enough,
	int64_t pause)
{
	TRACE("let it pass");
	int64_t now = now_us(), took = now - p->tried;

	if (is_passing ? now >= p->end : p->tries >= enough)
		return false;
	if (pause < took)
		pause = took;
	/* What is waited for may last a while: nobody is to think that nothing is done. */
	beat_go_on(o->beat);
	usleep(is_passing && now + pause > p->end ? p->end - now : pause);
	p->tried = now_us();
	return true;
}

bool patience_for_look(struct patience *p, const struct checkpoint_options *o, bool is_passing)
{
	int64_t pause = 2000ll * ++p->tries;

	return go_on(p, o, is_passing, LOOKS, pause < LONGEST_LOOK_US ? pause : LONGEST_LOOK_US);
}

bool patience_for_stop(struct patience *p, const struct checkpoint_options *o, bool is_passing)
{
	int64_t pause = ++p->tries < 6 ? 1000ll << p->tries : LONGEST_STOP_US;

	return go_on(p, o, is_passing, STOPS, pause);
}
