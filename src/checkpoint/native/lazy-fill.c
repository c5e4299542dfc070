/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that fill memory before anybody asks for it: first behind the places of faults, then what the container touched
 * after its last restore, in that order, then the rest. Each claims a piece of what is missing, reads and checks it, and puts it
 * into place, unless the program has meanwhile taken the place away.
 */
#include "checkpoint/native/lazy.h"

#include <linux/userfaultfd.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/fault.h"
#include "checkpoint/native/pagemap.h"
#include "checkpoint/native/restore-share.h"

enum {
	NO_MEMORY_PAUSE_US = 10000,
	NO_MEMORY_TRIES = 500,
	PAGE = IMAGE_PAGE_SIZE,
	CLAIM = 1 << 20,
	PIECE = 128 << 10, /* how long a fault may have to wait for us */
	CALM_US = 1000,
	CALM_MOST_US = 10000,
};

bool lazy_is_complete(const struct lazy_memory *m)
{
	return m->missing.n == 0 && m->claims == 0;
}

static void wake(struct lazy *l)
{
	(void)!eventfd_write(l->wake_fd, 1);
}

void lazy_fail(struct lazy *l, const struct error *e)
{
	pthread_mutex_lock(&l->lock);
	if (!l->failed)
		l->error = *e;
	l->failed = true;
	pthread_cond_broadcast(&l->more);
	pthread_mutex_unlock(&l->lock);
	wake(l);
}

int lazy_give_back(struct lazy_claim *claim)
{
	struct lazy_memory *m = claim->m;

	claim->m = NULL;
	m->claims--;
	return lazy_ranges_add(&m->missing, (struct lazy_range){claim->start, claim->end, claim->address});
}

/* ---- what comes next ---- */

/* The first page data of the range from "address" on. False: there is none; the rest of the range is forgotten. */
static bool find_data(struct lazy *l, struct lazy_memory *m, size_t i, uint64_t address,
	struct restore_piece *piece, uint64_t *ret_address)
{
	struct lazy_range range = m->missing.v[i];
	uint64_t from = MAX(address, range.start), at = range.address + (from - range.start),
		 end = range.address + (range.end - range.start);

	while (restore_next_piece(l->image, m->space, &at, end, piece)) {
		if (piece->zero)
			continue;
		*ret_address = range.start + (piece->start - range.address);
		return true;
	}
	(void)!lazy_ranges_cut(&m->missing, from, range.end); /* only its end moves, or it goes */
	return false;
}

/* Claims data from "address" on, at most "len" bytes behind it. */
static bool claim_at(
	struct lazy *l, struct lazy_claim *c, struct lazy_memory *m, uint64_t address, uint64_t len)
{
	size_t i = lazy_ranges_find(&m->missing, address);
	struct restore_piece piece;
	uint64_t at, size;

	if (m->uffd < 0 || i == m->missing.n || m->missing.v[i].start >= address + len ||
		!find_data(l, m, i, address, &piece, &at) || at >= address + len)
		return false;
	/* Up to a boundary in the file: no chunk is read twice. */
	size = MIN(piece.end - piece.start, CLAIM - piece.offset % CLAIM);
	if (lazy_ranges_cut(&m->missing, at, at + size) < 0) {
		l->failed = true;
		error_errno(&l->error, -ENOMEM, LAZY_FAILURE);
		return false;
	}
	*c = (struct lazy_claim){m, at, at + size, piece.start, piece.offset, .layer = piece.layer};
	m->claims++;
	return true;
}

static bool claim_hinted(struct lazy *l, struct lazy_claim *c)
{
	while (l->n_hints > 0) {
		struct lazy_hint *h = &l->hints[l->n_hints - 1];
		uint64_t left = h->left;

		if (left > 0 && claim_at(l, c, h->m, h->address, left)) {
			h->left -= MIN(left, c->end - h->address);
			h->address = c->end;
			return true;
		}
		l->n_hints--;
	}
	return false;
}

/* The first process with these pages: what relatives touch is touched in all of them. */
static bool claim_touched(struct lazy *l, struct lazy_claim *c)
{
	for (; l->at_order < l->n_order; l->at_order++) {
		const struct image_touched *t = &l->order[l->at_order];

		for (size_t i = 0; i < l->n_memories; i++)
			if (l->memories[i]->space == t->space &&
				claim_at(l, c, l->memories[i], t->address, t->len))
				return true;
	}
	return false;
}

static bool claim_next(struct lazy *l, struct lazy_claim *c)
{
	if (claim_hinted(l, c) || claim_touched(l, c))
		return true;
	for (size_t i = 0; i < l->n_memories; i++)
		while (l->memories[i]->missing.n > 0 && !l->failed)
			if (claim_at(
				    l, c, l->memories[i], l->memories[i]->missing.v[0].start, UINT64_MAX / 2))
				return true;
	return false;
}

/* ---- into the memory ---- */

static int copy(int uffd, uint64_t to, const uint8_t *from, uint64_t len, int64_t *ret)
{
	struct uffdio_copy c = {.dst = to, .src = (uint64_t)from, .len = len};
	int r = ioctl(uffd, UFFDIO_COPY, &c) < 0 ? -errno : 0;

	*ret = r == 0 ? (int64_t)len : c.copy;
	return r;
}

/*
 * UFFDIO_COPY takes a guard region for memory that is missing (Linux 6.13 to 6.18 at least) and would put a page there. How many of the
 * "len" bytes can be filled; 0: none of the next *ret_taken.
 */
uint64_t lazy_vacant(const struct lazy_memory *m, uint64_t at, uint64_t len, uint64_t *ret_taken)
{
	struct page_region region = {};
	struct pm_scan_arg arg = {.size = sizeof(arg),
		.start = at,
		.end = at + len,
		.vec = (uint64_t)&region,
		.vec_len = 1,
		.category_anyof_mask = PM_PRESENT | PM_SWAPPED, /* guard regions are swapped, it says */
		.return_mask = PM_PRESENT | PM_SWAPPED};

	if (m->pagemap < 0 || ioctl(m->pagemap, PAGEMAP_SCAN_IOCTL, &arg) <= 0)
		return len;
	*ret_taken = region.end - region.start;
	return region.start - at;
}

int lazy_put(const struct lazy_memory *m, uint64_t to, const uint8_t *from, uint64_t len, uint64_t *done)
{
	uint64_t most = len;

	while (*done < len) {
		uint64_t n = MIN(len - *done, most), taken = 0;
		int64_t copied;
		int r;

		n = lazy_vacant(m, to + *done, n, &taken);
		if (n == 0) {
			struct uffdio_range there = {to + *done, taken};

			(void)!ioctl(m->uffd, UFFDIO_WAKE, &there);
			*done += taken;
			continue;
		}
		r = copy(m->uffd, to + *done, from + *done, n, &copied);
		if (copied > 0) {
			*done += copied;
			continue;
		}
		if (r == -ENOENT && n > PAGE) {
			most = MAX(n / 2 / PAGE * PAGE, (uint64_t)PAGE); /* the mapping has come apart */
		} else if (r == -EEXIST || r == -ENOENT) {
			struct uffdio_range page = {to + *done, PAGE};

			/* Somebody may wait for it who came while it was filled, or unmapped. */
			(void)!ioctl(m->uffd, UFFDIO_WAKE, &page);
			*done += PAGE;
		} else {
			return r;
		}
	}
	return 0;
}

bool lazy_may_wait(unsigned *waited)
{
	usleep(NO_MEMORY_PAUSE_US);
	return ++*waited < NO_MEMORY_TRIES;
}

/* One piece of the claim: 1: go on; 0: no claim any more. */
static int fill_piece(struct lazy *l, struct lazy_claim *c, struct image_reader *reader, struct error *e)
{
	struct lazy_claim mine;
	const uint8_t *data;
	uint64_t done = 0;
	size_t len;
	int r;

	pthread_mutex_lock(&l->lock);
	mine = *c;
	pthread_mutex_unlock(&l->lock);
	if (!mine.m || mine.start >= mine.end)
		return 0;
	len = MIN(mine.end - mine.start, (uint64_t)PIECE);
	r = image_reader_get(reader, mine.layer, mine.offset, &len, &data, e);
	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&l->events);
	/* Events take claims back; who writes is not here now. */
	r = c->m ? lazy_put(mine.m, mine.start, data, len, &done) : 0;
	if (c->m) {
		pthread_mutex_lock(&l->lock);
		c->start += done;
		c->address += done;
		c->offset += done;
		pthread_mutex_unlock(&l->lock);
	}
	pthread_rwlock_unlock(&l->events);
	if (r == -EAGAIN)
		sched_yield();
	if (r == -ESRCH)
		return 0;
	if (r == -ENOMEM && lazy_may_wait(&c->waited))
		return 1;
	return r < 0 && r != -EAGAIN ? error_errno(e, r, LAZY_FAILURE) : 1;
}

/* A claim that failed stays: its memory is never complete. */
static int fill_claim(struct lazy *l, struct lazy_claim *c, struct image_reader *reader, struct error *e)
{
	int r;

	do
		r = fill_piece(l, c, reader, e);
	while (r > 0);
	if (r < 0)
		return r;
	pthread_mutex_lock(&l->lock);
	if (c->m) {
		if (c->start < c->end) /* the process is gone: nothing is missing */
			lazy_ranges_done(&c->m->missing);
		c->m->claims--;
		if (lazy_is_complete(c->m))
			wake(l);
		c->m = NULL;
	}
	pthread_cond_broadcast(&l->more);
	pthread_mutex_unlock(&l->lock);
	return 0;
}

static bool all_complete(const struct lazy *l)
{
	for (size_t i = 0; i < l->n_memories; i++)
		if (!lazy_is_complete(l->memories[i]))
			return false;
	return true;
}

/* False: there is nothing to do any more. */
static bool wait_for_claim(struct lazy *l, struct lazy_claim *c)
{
	bool found = false;

	pthread_mutex_lock(&l->lock);
	while (!l->failed && !(found = claim_next(l, c)) && !all_complete(l))
		pthread_cond_wait(&l->more, &l->lock);
	if (!found)
		wake(l);
	pthread_mutex_unlock(&l->lock);
	return found && !l->failed;
}

uint64_t lazy_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* A program that has just been let go on wants some pages at once, one after the other: until it has them, the CPUs are left to it and
 * to who answers its faults. */
static void wait_for_calm(struct lazy *l)
{
	uint64_t start = lazy_now_us(), now = start, last = 0;
	bool failed = false;

	while (!l->is_waited_for && !failed && now - start < CALM_MOST_US &&
		(!last || now - last < CALM_US)) {
		usleep(CALM_US / 4);
		now = lazy_now_us();
		pthread_mutex_lock(&l->lock);
		last = l->last_fault_us;
		failed = l->failed;
		pthread_mutex_unlock(&l->lock);
	}
}

void *lazy_fill_thread(void *arg)
{
	struct lazy_thread *t = arg;
	struct image_reader *reader = NULL;
	struct error e;
	int r = image_reader_new(t->l->image, &reader, &e);

	wait_for_calm(t->l);
	while (r == 0 && wait_for_claim(t->l, t->claim)) {
		r = fill_claim(t->l, t->claim, reader, &e);
		if (r == 0)
			r = fault_point("lazy-filling", &e);
	}
	if (r < 0)
		lazy_fail(t->l, &e);
	image_reader_free(reader);
	return NULL;
}
