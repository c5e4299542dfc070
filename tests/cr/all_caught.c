/* SPDX-License-Identifier: Apache-2.0 */
/* A program that catches every signal, as those of Go do, in two threads: none must come of a checkpoint. */
#include "cr.h"

#include <pthread.h>

static volatile int came;

static void handler(int sig)
{
	came = sig;
}

static void *spin(void *arg)
{
	volatile uint64_t *n = arg;

	for (;;)
		++*n;
	return NULL;
}

int main(void)
{
	static uint64_t turns;
	struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART};
	pthread_t thread;

	cr_not_init();
	for (int sig = 1; sig <= 64; sig++)
		sigaction(sig, &a, NULL); /* not all can be caught */
	check(pthread_create(&thread, NULL, spin, &turns) == 0, "pthread_create");
	while (!*(volatile uint64_t *)&turns)
		cr_msleep(1);
	while (cr_wait()) {
		volatile uint64_t *n = &turns;
		uint64_t before = *n;

		for (int ms = 0; *n == before; ms++) {
			check(ms < 10000, "the thread does not go on");
			cr_msleep(1);
		}
		check(!came, "signal %d came", came);
		must(raise(SIGURG));
		check(came == SIGURG, "SIGURG does not come");
		came = 0;
	}
	_exit(0);
}
