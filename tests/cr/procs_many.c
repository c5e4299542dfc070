/* SPDX-License-Identifier: Apache-2.0 */
/* A tree of 500 brothers beside a chain of 200 generations: each keeps its pid and parent, and what it has on its stack.
 * cr: modes=once,rootless ignore=memory seconds=240 */
#include "cr.h"

enum { WIDTH = 500, DEPTH = 200, ALL = WIDTH + DEPTH };
static struct shared {
	volatile int round;
	volatile pid_t pid[ALL], parent[ALL];
	volatile int passed[ALL]; /* the round */
} * shared;

static void idle(int n)
{
	volatile uint64_t own[64];

	cr_fill((void *)own, sizeof(own), n);
	shared->parent[n] = getppid();
	__sync_synchronize();
	shared->pid[n] = getpid();
	for (int done = 0;; cr_msleep(20)) {
		if (shared->round == done)
			continue;
		check(cr_differs((void *)own, sizeof(own), n) < 0, "the stack of process %d", n);
		check(getpid() == shared->pid[n], "pid %d is %d", shared->pid[n], getpid());
		check(getppid() == shared->parent[n], "parent of %d", n);
		shared->passed[n] = done = shared->round;
	}
}

static void chain(int n)
{
	while (n + 1 < ALL && must(fork()) == 0)
		n++;
	idle(n);
}

static void all(volatile int *of, int value, const char *what)
{
	for (int n = 0, ms = 0; n < ALL; ms++) {
		while (n < ALL && (value ? of[n] == value : of[n] != 0))
			n++;
		check(ms < 20000, "%s: process %d stands still", what, n);
		cr_msleep(1);
	}
}

int main(void)
{
	int round = 0;

	shared = must(mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	for (int n = 0; n < WIDTH; n++)
		if (must(fork()) == 0)
			idle(n);
	if (must(fork()) == 0)
		chain(WIDTH);
	all(shared->pid, 0, "begin");
	while (cr_wait()) {
		shared->round = ++round;
		all(shared->passed, round, "round");
	}
	return 0;
}
