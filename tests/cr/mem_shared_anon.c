/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared anonymous memory: contents, still shared by parent, child and grandchild after the restore, mapped twice and in part,
 * with other protections in one of them; a process-shared mutex and condition variable in it work on.
 */
#include "cr.h"

#include <pthread.h>

#define PAGE 4096UL
enum { PAGES = 40 };

struct common {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	volatile int turn, count;
};

static void *share(size_t size)
{
	return must(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
}

static void take_turns(struct common *c, int me, int round)
{
	check(pthread_mutex_lock(&c->mutex) == 0, "lock");
	while (c->turn != me)
		pthread_cond_wait(&c->cond, &c->mutex);
	check(c->count == round * 3 + me, "count %d in turn %d of round %d", c->count, me, round);
	c->count++;
	c->turn = (me + 1) % 3;
	pthread_cond_broadcast(&c->cond);
	pthread_mutex_unlock(&c->mutex);
}

int main(void)
{
	struct common *c = share(sizeof(*c));
	char *data = share(PAGES * PAGE), *sparse = share(1UL << 30);
	char *part;
	int me = 0;
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;

	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&c->mutex, &ma);
	pthread_condattr_init(&ca);
	pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&c->cond, &ca);
	cr_fill(data, PAGES * PAGE, 9);
	*(uint64_t *)(sparse + (777UL << 20)) = 777;
	part = must(mremap(data + 8 * PAGE, 0, 4 * PAGE,
		MREMAP_MAYMOVE)); /* old size 0: a second mapping of the same memory */
	if (cr_fork("child") == 0) {
		me = 1;
		must(mprotect(data, 4 * PAGE, PROT_READ));
		must(munmap(data + 20 * PAGE, 4 * PAGE));
		if (cr_fork("grandchild") == 0) {
			me = 2;
			must(munmap(sparse, 1UL << 30));
			sparse = NULL;
		}
	}
	for (int round = 0; cr_wait(); round++) {
		check(cr_differs(data, 8 * PAGE, 9) < 0, "data differs at %zd",
			cr_differs(data, 8 * PAGE, 9));
		check(cr_differs(data + 24 * PAGE, 16 * PAGE, 9 + 24 * PAGE / 8) < 0,
			"the end of data differs");
		check(!sparse || *(uint64_t *)(sparse + (777UL << 20)) == 777, "sparse");
		check(!sparse || *(uint64_t *)(sparse + (778UL << 20)) == 0, "a hole is not zero");
		take_turns(c, me, round);
		/* One writes, the others and the second mapping see it. */
		if (me == 2)
			*(volatile int *)(data + 9 * PAGE) = round + 1000;
		for (int ms = 0; *(volatile int *)(part + PAGE) != round + 1000; ms++) {
			check(ms < 3000, "what another process writes is not seen in round %d", round);
			cr_msleep(1);
		}
		if (me == 0 && round == 0)
			sparse[5 << 20] = 5;
		if (me == 1 && round > 0)
			check(sparse[5 << 20] == 5, "sparse is not shared");
	}
	return 0;
}
