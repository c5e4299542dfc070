/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=all */
/*
 * Signals that come all the time, so that the checkpoint meets them at every stage of delivery: queued ones arrive each once
 * and in order, timers go on, a system call that is restarted does what it should.
 */
#include "cr.h"

#include <sys/time.h>

static volatile int next, alarms;
static volatile bool wrong;
static int wrong_got, wrong_expected;

static void on_queued(int sig CR_UNUSED, siginfo_t *info, void *context CR_UNUSED)
{
	if (info->si_value.sival_int != next && !wrong) {
		wrong_got = info->si_value.sival_int;
		wrong_expected = next;
		wrong = true;
	}
	next++;
}

static void on_alarm(int sig CR_UNUSED)
{
	alarms++;
}

int main(void)
{
	struct sigaction queued = {.sa_sigaction = on_queued, .sa_flags = SA_SIGINFO | SA_RESTART};
	struct sigaction alarm_ = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct itimerval fast = {{0, 500}, {0, 500}};
	int p[2];
	pid_t parent = getpid();

	must(sigaction(SIGRTMIN, &queued, NULL));
	must(sigaction(SIGALRM, &alarm_, NULL));
	must(pipe(p));
	if (cr_fork("sender") == 0) {
		for (int n = 0;; n++) {
			/* A round at any time: this process never waits for it. */
			if (n % 16 == 0) {
				static int announced;

				if (!announced || cr_exists("go", cr_n, "")) {
					if (announced && cr_is_end(cr_n))
						_exit(0);
					cr_announce();
					announced = 1;
				}
			}
			while (sigqueue(parent, SIGRTMIN, (union sigval){.sival_int = n}) < 0)
				check(errno == EAGAIN, "sigqueue: %m");
			for (volatile int i = 0; i < 20000; i++)
				;
		}
	}
	if (cr_fork("writer") == 0) {
		while (cr_wait())
			must(write(p[1], "x", 1));
		_exit(0);
	}
	must(setitimer(ITIMER_REAL, &fast, NULL));
	while (cr_wait()) {
		int n = next, a = alarms;
		char c;

		check(read(p[0], &c, 1) == 1, "a read with SA_RESTART: %m");
		for (int ms = 0; next < n + 20 || alarms < a + 5; ms++) {
			check(ms < 5000, "no more signals: %d queued, %d alarms", next - n, alarms - a);
			cr_msleep(1);
		}
		check(!wrong, "signal %d came instead of %d", wrong_got, wrong_expected);
	}
	return 0;
}
