/* SPDX-License-Identifier: Apache-2.0 */
/* cr: pause=0.3 ignore=ShdPnd */
/* Interval timers: the remaining time goes on where it was, ITIMER_VIRTUAL and _PROF keep theirs, alarm, periods. */
#include "cr.h"

#include <sys/time.h>

static volatile int ticks;

static void on_alarm(int sig CR_UNUSED)
{
	ticks++;
}

static int64_t left(int which)
{
	struct itimerval t;

	must(getitimer(which, &t));
	return t.it_value.tv_sec * 1000LL + t.it_value.tv_usec / 1000;
}

/* When ITIMER_REAL expires, by the clock. */
static int64_t end_us(void)
{
	int64_t least = INT64_MAX;

	for (int i = 0; i < 20; i++) {
		struct itimerval t;
		int64_t end;

		must(getitimer(ITIMER_REAL, &t));
		end = cr_now_ns(CLOCK_MONOTONIC) / 1000 + t.it_value.tv_sec * 1000000 + t.it_value.tv_usec;
		least = end < least ? end : least;
	}
	return least;
}

int main(void)
{
	struct itimerval far = {.it_value = {100, 0}, .it_interval = {50, 250000}}, now;
	struct itimerval fast = {.it_value = {0, 20000}, .it_interval = {0, 20000}};
	int64_t start = cr_now_ns(CLOCK_MONOTONIC);
	int64_t end;
	bool child;

	signal(SIGALRM, on_alarm);
	must(setitimer(ITIMER_REAL, &far, NULL));
	must(setitimer(ITIMER_VIRTUAL, &far, NULL));
	must(setitimer(ITIMER_PROF, &far, NULL));
	end = end_us();
	child = cr_fork("child") == 0;
	if (child)
		must(setitimer(ITIMER_REAL, &fast, NULL));
	while (cr_wait()) {
		int64_t passed = (cr_now_ns(CLOCK_MONOTONIC) - start) / 1000000;

		if (child) {
			int before = ticks;

			cr_msleep(60);
			cr_msleep(60);
			cr_msleep(60);
			cr_msleep(60);
			check(ticks - before >= 3, "%d ticks", ticks - before);
			must(getitimer(ITIMER_REAL, &now));
			check(now.it_interval.tv_usec == 20000 && now.it_interval.tv_sec == 0, "the period");
			continue;
		}
		check(llabs(left(ITIMER_REAL) - (100000 - passed)) < 200,
			"ITIMER_REAL has %ld ms left after %ld ms", (long)left(ITIMER_REAL), (long)passed);
		check(llabs(end_us() - end) < (cr_emulated() ? 20000 : 2000),
			"ITIMER_REAL has drifted by %ld us", (long)(end_us() - end));
		check(left(ITIMER_VIRTUAL) > 99000 && left(ITIMER_VIRTUAL) <= 100100,
			"ITIMER_VIRTUAL has %ld ms left", (long)left(ITIMER_VIRTUAL));
		check(left(ITIMER_PROF) > 99000 && left(ITIMER_PROF) <= 100100, "ITIMER_PROF has %ld ms left",
			(long)left(ITIMER_PROF));
		must(getitimer(ITIMER_REAL, &now));
		check(now.it_interval.tv_sec == 50 && now.it_interval.tv_usec == 250000, "the period");
	}
	return 0;
}
