/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crew.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

enum item_state { ITEM_WAITS, ITEM_BEGUN, ITEM_DONE };

struct item {
	enum item_state state;
	int result;
};

struct helper {
	struct crew *crew;
	unsigned worker;
	pthread_t thread;
};

/* All but the helpers' own fields is under the lock. */
struct crew {
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	struct helper helpers[CREW_HELPERS];
	unsigned n_helpers;
	bool quit, owner_waits;

	crew_item_fn *f;
	void *arg;
	struct item *items;
	size_t n, next;	    /* none before "next" waits */
	struct error error; /* of the first item that failed when nobody needed it yet */
};

/* With the lock, which is let go meanwhile. */
static int do_item(struct crew *c, size_t i, unsigned worker, struct error *e)
{
	int r;

	c->items[i].state = ITEM_BEGUN;
	pthread_mutex_unlock(&c->lock);
	r = c->f(c->arg, i, worker, e);
	pthread_mutex_lock(&c->lock);
	c->items[i].result = r;
	c->items[i].state = ITEM_DONE;
	if (c->owner_waits && worker)
		pthread_cond_signal(&c->done);
	return r;
}

/* With the lock: the first item that waits, if there is one. */
static bool do_next(struct crew *c, unsigned worker)
{
	struct error e;

	while (c->next < c->n && c->items[c->next].state != ITEM_WAITS)
		c->next++;
	if (c->next == c->n)
		return false;
	if (do_item(c, c->next, worker, &e) < 0) {
		if (c->error.code == 0)
			c->error = e;
		c->next = c->n;
	}
	return true;
}

static void *help(void *arg)
{
	struct helper *h = arg;
	struct crew *c = h->crew;

	pthread_mutex_lock(&c->lock);
	while (!c->quit)
		if (!do_next(c, h->worker))
			pthread_cond_wait(&c->work, &c->lock);
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static unsigned other_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) - 1 : 0;
}

void crew_hire(struct crew *c, unsigned helpers)
{
	sigset_t all, old;

	helpers = MIN(MIN(helpers, other_cpus()), (unsigned)CREW_HELPERS);
	/* Signals are for the owner. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (c->n_helpers < helpers) {
		struct helper *h = &c->helpers[c->n_helpers];

		*h = (struct helper){.crew = c, .worker = c->n_helpers + 1};
		if (pthread_create(&h->thread, NULL, help, h) != 0)
			break;
		c->n_helpers++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

int crew_new(unsigned helpers, struct crew **ret, struct error *e)
{
	struct crew *c = calloc(1, sizeof(*c));

	if (!c)
		return error_errno(e, -ENOMEM, "helper threads");
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->work, NULL);
	pthread_cond_init(&c->done, NULL);
	crew_hire(c, helpers);
	*ret = c;
	return 0;
}

void crew_free(struct crew *c)
{
	if (!c)
		return;
	crew_drop(c);
	pthread_mutex_lock(&c->lock);
	c->quit = true;
	pthread_cond_broadcast(&c->work);
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; i < c->n_helpers; i++)
		pthread_join(c->helpers[i].thread, NULL);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->work);
	pthread_cond_destroy(&c->done);
	free(c);
}

int crew_start(struct crew *c, crew_item_fn *f, void *arg, size_t n, struct error *e)
{
	struct item *items = calloc(MAX(n, (size_t)1), sizeof(*items));

	if (!items)
		return error_errno(e, -ENOMEM, "helper threads");
	pthread_mutex_lock(&c->lock);
	c->f = f;
	c->arg = arg;
	c->items = items;
	c->n = n;
	c->next = 0;
	c->error.code = 0;
	pthread_cond_broadcast(&c->work);
	pthread_mutex_unlock(&c->lock);
	return 0;
}

/* With the lock: until a helper has done what it has begun. */
static void await(struct crew *c, size_t i)
{
	c->owner_waits = true;
	while (c->items[i].state == ITEM_BEGUN)
		pthread_cond_wait(&c->done, &c->lock);
	c->owner_waits = false;
}

int crew_need(struct crew *c, size_t item, struct error *e)
{
	int r;

	pthread_mutex_lock(&c->lock);
	if (c->items[item].state == ITEM_WAITS) {
		r = do_item(c, item, 0, e);
	} else {
		while (c->items[item].state == ITEM_BEGUN && do_next(c, 0))
			;
		await(c, item);
		r = c->items[item].result;
		if (r < 0 && e)
			*e = c->error;
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

int crew_finish(struct crew *c, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < c->n && r >= 0; i++)
		r = crew_need(c, i, e);
	crew_drop(c);
	return MIN(r, 0);
}

void crew_drop(struct crew *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->next = c->n;
	for (size_t i = 0; i < c->n; i++)
		await(c, i);
	free(c->items);
	c->items = NULL;
	c->n = c->next = 0;
	pthread_mutex_unlock(&c->lock);
}
