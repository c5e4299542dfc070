/* SPDX-License-Identifier: Apache-2.0 */
/* cr: pause=0.3 caps=WAKE_ALARM */
/* timerfd: remaining time of relative timers goes on where it was, periods, absolute ones, ticks not yet read, disarmed. */
#include "cr.h"

#include <sys/timerfd.h>

#define MS 1000000LL

static int make(clockid_t clock, int flags, int64_t first_ns, int64_t period_ns)
{
	int fd = must(timerfd_create(clock, TFD_NONBLOCK));
	struct itimerspec t = {
		.it_value = {first_ns / 1000000000, first_ns % 1000000000},
		.it_interval = {period_ns / 1000000000, period_ns % 1000000000},
	};

	must(timerfd_settime(fd, flags, &t, NULL));
	return fd;
}

static int64_t left(int fd, int64_t *period)
{
	struct itimerspec t;

	must(timerfd_gettime(fd, &t));
	*period = t.it_interval.tv_sec * 1000000000LL + t.it_interval.tv_nsec;
	return t.it_value.tv_sec * 1000000000LL + t.it_value.tv_nsec;
}

/* When it expires, by CLOCK_MONOTONIC. */
static int64_t end_us(int fd)
{
	int64_t least = INT64_MAX;

	for (int i = 0; i < 20; i++) {
		int64_t period, end = left(fd, &period);

		end += cr_now_ns(CLOCK_MONOTONIC);
		least = end < least ? end : least;
	}
	return least / 1000;
}

static uint64_t ticks(int fd)
{
	uint64_t n;

	if (read(fd, &n, 8) == 8)
		return n;
	check(errno == EAGAIN, "read: %m");
	return 0;
}

int main(void)
{
	int64_t start = cr_now_ns(CLOCK_MONOTONIC), period, rest;
	int lone = make(CLOCK_MONOTONIC, 0, 1000000 * MS, 0),
	    fast = make(CLOCK_MONOTONIC, 0, 10 * MS, 10 * MS);
	int off = make(CLOCK_REALTIME, 0, 0, 0),
	    absolute = make(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, start + 500000 * MS, 0);
	int real = make(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET,
		cr_now_ns(CLOCK_REALTIME) + 900000 * MS, 0);
	int boot = make(CLOCK_BOOTTIME, 0, 300000 * MS, 7000 * MS);
	int expired = make(CLOCK_MONOTONIC, 0, 1, 0);

	int alarm = timerfd_create(CLOCK_BOOTTIME_ALARM, TFD_NONBLOCK); /* not in a user namespace */
	struct itimerspec in_an_hour = {.it_value.tv_sec = 3600};
	int64_t lone_end = end_us(lone), absolute_end = end_us(absolute), boot_end = end_us(boot);

	check(alarm < 0 || timerfd_settime(alarm, 0, &in_an_hour, NULL) == 0, "an alarm timer: %m");
	cr_msleep(30);
	while (cr_wait()) {
		int64_t passed = cr_now_ns(CLOCK_MONOTONIC) - start;

		rest = left(lone, &period);
		check(period == 0 && llabs(rest - (1000000 * MS - passed)) < 200 * MS,
			"the relative timer has %ld ms left after %ld ms", (long)(rest / MS),
			(long)(passed / MS));
		rest = left(absolute, &period);
		check(llabs(rest - (500000 * MS - passed)) < 200 * MS,
			"the absolute timer has %ld ms left after %ld ms", (long)(rest / MS),
			(long)(passed / MS));
		rest = left(real, &period);
		check(rest > 890000 * MS && rest <= 900000 * MS, "the realtime timer has %ld ms left",
			(long)(rest / MS));
		rest = left(boot, &period);
		check(period == 7000 * MS && rest > 290000 * MS && rest <= 300000 * MS,
			"the boottime timer has %ld ms left", (long)(rest / MS));
		check(alarm < 0 ||
				(left(alarm, &period) > 3590000 * MS && left(alarm, &period) <= 3600000 * MS),
			"the alarm timer has %ld ms left", (long)(left(alarm, &period) / MS));
		rest = left(off, &period);
		check(rest == 0 && period == 0, "the disarmed timer runs");
		check(llabs(end_us(absolute) - absolute_end) < 300,
			"the absolute timer has drifted by %ld us", (long)(end_us(absolute) - absolute_end));
		check(llabs(end_us(lone) - lone_end) < (cr_emulated() ? 20000 : 2000),
			"the relative timer has drifted by %ld us", (long)(end_us(lone) - lone_end));
		check(llabs(end_us(boot) - boot_end) < (cr_emulated() ? 20000 : 2000),
			"the boottime timer has drifted by %ld us", (long)(end_us(boot) - boot_end));
		check(ticks(expired) == 1, "the tick that was not read is lost");
		check(left(expired, &period) == 0, "the expired timer is armed");
		check(ticks(fast) >= 3, "periodic ticks before the checkpoint are lost");
		left(fast, &period);
		check(period == 10 * MS, "period %ld", (long)period);
		cr_msleep(50);
		check(ticks(fast) >= 3, "the periodic timer does not go on");
		close(expired);
		check(make(CLOCK_MONOTONIC, 0, 1, 0) == expired, "fd number");
		cr_msleep(50);
	}
	return 0;
}
