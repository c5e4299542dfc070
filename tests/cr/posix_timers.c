/* SPDX-License-Identifier: Apache-2.0 */
/* cr: pause=0.3 ignore=thread,memory also=filtered */
/*
 * POSIX timers: ids (with gaps), clocks, SIGEV_SIGNAL, _THREAD_ID and _NONE, remaining time, periods, overruns (not those
 * of a signal that was pending: docs/support.md); a timer made afterwards does not take an id that is in use.
 */
#include "cr.h"

#include <pthread.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static volatile int ticks, tick_tid, tick_value;
static volatile pid_t worker_tid;
static volatile int stop;

static void on_tick(int sig CR_UNUSED, siginfo_t *info, void *context CR_UNUSED)
{
	ticks++;
	tick_tid = gettid();
	tick_value = info->si_value.sival_int;
}

static void *worker(void *arg CR_UNUSED)
{
	worker_tid = gettid();
	while (!stop)
		cr_msleep(1);
	return NULL;
}

static int make(clockid_t clock, int notify, int signo, int value, pid_t tid)
{
	struct sigevent e = {.sigev_notify = notify, .sigev_signo = signo, .sigev_value.sival_int = value};
	int id;

	e.sigev_notify_thread_id = tid;
	must(syscall(SYS_timer_create, clock, &e, &id));
	return id;
}

static void set(int id, int flags, int64_t first_ms, int64_t period_ms)
{
	struct itimerspec t = {
		{period_ms / 1000, period_ms % 1000 * 1000000}, {first_ms / 1000, first_ms % 1000 * 1000000}};

	must(syscall(SYS_timer_settime, id, flags, &t, NULL));
}

static int64_t left(int id, int64_t *period)
{
	struct itimerspec t;

	must(syscall(SYS_timer_gettime, id, &t));
	*period = t.it_interval.tv_sec * 1000 + t.it_interval.tv_nsec / 1000000;
	return t.it_value.tv_sec * 1000 + t.it_value.tv_nsec / 1000000;
}

/* When it expires, by the clock. Of some tries the one that nothing came between. */
static int64_t end_us(int id, clockid_t clock)
{
	int64_t least = INT64_MAX;

	for (int i = 0; i < 20; i++) {
		struct itimerspec t;
		int64_t now;

		must(syscall(SYS_timer_gettime, id, &t));
		now = cr_now_ns(clock);
		if (now + t.it_value.tv_sec * 1000000000 + t.it_value.tv_nsec < least)
			least = now + t.it_value.tv_sec * 1000000000 + t.it_value.tv_nsec;
	}
	return least / 1000;
}

int main(void)
{
	struct sigaction sa = {.sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART};
	int one, gap, none, threaded, absolute, cpu, overrun, unset, real;
	int64_t start = cr_now_ns(CLOCK_MONOTONIC), one_end, absolute_end, none_end, real_end, period, rest,
		passed, slack = cr_emulated() ? 1000 : 200;
	pthread_t thread;
	sigset_t set_;

	must(sigaction(SIGRTMIN + 1, &sa, NULL));
	/* Before the thread is made, or it would take the signal. */
	sigemptyset(&set_);
	sigaddset(&set_, SIGRTMIN + 5);
	sigprocmask(SIG_BLOCK, &set_, NULL);
	check(pthread_create(&thread, NULL, worker, NULL) == 0, "pthread_create");
	while (!worker_tid)
		cr_msleep(1);
	one = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 2, 5, 0);
	set(one, 0, 500000, 0);
	gap = make(CLOCK_REALTIME, SIGEV_NONE, 0, 0, 0);
	none = make(CLOCK_BOOTTIME, SIGEV_NONE, 0, 0, 0);
	set(none, 0, 400000, 1000);
	must(syscall(SYS_timer_delete, gap));
	threaded = make(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGRTMIN + 1, 1234, worker_tid);
	set(threaded, 0, 10, 10);
	absolute = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR2, 0, 0);
	set(absolute, TIMER_ABSTIME, start / 1000000 + 300000, 0);
	cpu = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGUSR2, 0, 0);
	set(cpu, 0, 200000, 0);
	/* Expired many times, the signal is blocked and pending: overruns are counted. */
	overrun = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 5, 88, 0);
	set(overrun, 0, 1, 1);
	real = make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGUSR2, 0, 0);
	set(real, 0, 800000, 0);
	unset = make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGUSR2, 0, 0);
	one_end = end_us(one, CLOCK_MONOTONIC);
	none_end = end_us(none, CLOCK_BOOTTIME);
	absolute_end = end_us(absolute, CLOCK_MONOTONIC);
	real_end = end_us(real, CLOCK_MONOTONIC);
	cr_msleep(30);
	while (cr_wait()) {
		siginfo_t info;
		int before = ticks, more;

		passed = (cr_now_ns(CLOCK_MONOTONIC) - start) / 1000000;
		rest = left(one, &period);
		check(period == 0 && llabs(rest - (500000 - passed)) < slack,
			"the lone timer has %ld ms left after %ld ms", (long)rest, (long)passed);
		rest = left(none, &period);
		check(period == 1000 && llabs(rest - (400000 - passed)) < 1500,
			"the boottime timer has %ld ms left", (long)rest);
		rest = left(absolute, &period);
		check(llabs(rest - (300000 - passed)) < slack, "the absolute timer has %ld ms left",
			(long)rest);
		rest = left(cpu, &period);
		check(rest > 199000 && rest <= 200100, "the cpu timer has %ld ms left", (long)rest);
		/* The clocks go on where they stood, and the timers with them: to some microseconds. */
		check(llabs(end_us(one, CLOCK_MONOTONIC) - one_end) < 300,
			"the lone timer has drifted by %ld us",
			(long)(end_us(one, CLOCK_MONOTONIC) - one_end));
		check(llabs(end_us(none, CLOCK_BOOTTIME) - none_end) < 300,
			"the boottime timer has drifted by %ld us",
			(long)(end_us(none, CLOCK_BOOTTIME) - none_end));
		check(llabs(end_us(absolute, CLOCK_MONOTONIC) - absolute_end) < 300,
			"the absolute timer has drifted by %ld us",
			(long)(end_us(absolute, CLOCK_MONOTONIC) - absolute_end));
		/* Of the wall clock's: as much of the container's time as was left. */
		check(llabs(end_us(real, CLOCK_MONOTONIC) - real_end) < slack * 10,
			"the realtime timer has drifted by %ld us",
			(long)(end_us(real, CLOCK_MONOTONIC) - real_end));
		check(left(unset, &period) == 0, "the unset timer runs");
		cr_msleep(60);
		check(ticks > before, "the periodic timer stands still");
		check(tick_tid == worker_tid, "its signal went to %d, not %d", tick_tid, worker_tid);
		check(tick_value == 1234, "its value is %d", tick_value);
		check(sigwaitinfo(&set_, &info) == SIGRTMIN + 5, "the pending signal of the timer: %m");
		check(info.si_code == SI_TIMER && info.si_value.sival_int == 88, "code %d value %d",
			info.si_code, info.si_value.sival_int);
		cr_msleep(30);
		check(sigwaitinfo(&set_, &info) == SIGRTMIN + 5, "the next signal of the timer");
		check(info.si_overrun > 10, "%d overruns", info.si_overrun);
		more = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
		check(more != one && more != none && more != threaded && more != absolute && more != cpu &&
				more != overrun && more != unset,
			"id %d is given twice", more);
		must(syscall(SYS_timer_delete, more));
		cr_msleep(30);
	}
	stop = 1;
	pthread_join(thread, NULL);
	return 0;
}
