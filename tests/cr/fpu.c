/* SPDX-License-Identifier: Apache-2.0 */
/* A floating-point computation that never stops gives the same sums, by x87 and by vectors, in several threads. */
#include "cr.h"

#include <fenv.h>
#include <pthread.h>

enum { THREADS = 3, STEPS = 20000 };

static volatile uint64_t loops[THREADS];
static volatile int stop;

static double vectors(void)
{
	double a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, sum = 0;

	for (int i = 1; i < STEPS; i++)
		for (int j = 0; j < 8; j++)
			a[j] = a[j] * 1.0000001 + 1.0 / (i + j);
	for (int j = 0; j < 8; j++)
		sum += a[j];
	return sum;
}

static long double x87(void)
{
	long double a = 1;

	for (int i = 1; i < STEPS; i++)
		a = a * 1.000001L + 1.0L / i;
	return a;
}

static void *compute(void *arg)
{
	int me = (int)(intptr_t)arg;
	double first;
	long double first_x87;

	fesetround(me == 0 ? FE_TONEAREST : me == 1 ? FE_DOWNWARD : FE_TOWARDZERO);
	first = vectors();
	first_x87 = x87();
	for (; !stop; loops[me]++) {
		double d = vectors();
		long double l = x87();

		check(d == first, "thread %d: %.17g and then %.17g", me, first, d);
		check(l == first_x87, "thread %d: %.20Lg and then %.20Lg", me, first_x87, l);
		check(fegetround() == (me == 0		? FE_TONEAREST
					      : me == 1 ? FE_DOWNWARD
							: FE_TOWARDZERO),
			"rounding mode of thread %d", me);
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];

	for (intptr_t i = 0; i < THREADS; i++)
		check(pthread_create(&threads[i], NULL, compute, (void *)i) == 0, "pthread_create");
	for (int i = 0; i < THREADS; i++)
		while (!loops[i])
			cr_msleep(1);
	while (cr_wait()) {
		for (int i = 0; i < THREADS; i++) {
			uint64_t n = loops[i];

			while (loops[i] < n + 2)
				cr_msleep(1);
		}
	}
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
