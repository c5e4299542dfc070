/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that answers faults and follows what the processes do with memory that is still missing: madvise(MADV_DONTNEED),
 * munmap(), mremap(), fork(), exit. What is not (or no more) known as missing is zeros.
 *
 * The kernel hands out faults before events, but takes no answer while there is an event that we have not read: then a fault is
 * looked at again, with what the event has changed in mind.
 */
#include "checkpoint/native/lazy.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "base/fault.h"
#include "base/fd.h"
#include "checkpoint/native/restore-share.h"
#include "checkpoint/native/sched-attr.h"
#include "image/stream.h"

enum { ARRIVAL_POLL_MS = 2 };

enum { PAGE = IMAGE_PAGE_SIZE, AROUND = 64 << 10, AHEAD = 4 << 20, RANGES_MAX = 1 << 20 };
enum { OF_GUARD = 1, OF_FILLERS, OF_INIT, OF_MEMORIES }; /* epoll data */

struct lazy_memory *lazy_add_memory(
	struct lazy *l, int uffd, int pagemap, uint64_t space, struct lazy_ranges *missing)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = OF_MEMORIES + l->n_memories};
	struct lazy_memory *m = calloc(1, sizeof(*m));

	if (l->n_memories == l->max_memories) {
		size_t max = MAX(l->max_memories * 2, (size_t)16);
		struct lazy_memory **v = reallocarray(l->memories, max, sizeof(struct lazy_memory *));

		if (v) {
			l->memories = v;
			l->max_memories = max;
		}
	}
	if (!m || l->n_memories == l->max_memories ||
		epoll_ctl(l->poll_fd, EPOLL_CTL_ADD, uffd, &event) < 0) {
		free(m);
		return NULL;
	}
	*m = (struct lazy_memory){.uffd = uffd, .pagemap = pagemap, .space = space, .missing = *missing};
	*missing = (struct lazy_ranges){};
	l->memories[l->n_memories++] = m;
	return m;
}

/* ---- events: nobody fills anything meanwhile ---- */

static int on_fork(struct lazy *l, const struct lazy_memory *parent, int uffd)
{
	struct lazy_ranges missing = {};
	int r = 0;

	for (size_t i = 0; i < parent->missing.n && r == 0; i++)
		r = lazy_ranges_add(&missing, parent->missing.v[i]);
	for (size_t i = 0; i < ARRAY_SIZE(l->claims) && r == 0; i++)
		if (l->claims[i].m == parent)
			r = lazy_ranges_add(&missing, (struct lazy_range){l->claims[i].start,
							      l->claims[i].end, l->claims[i].address});
	if (r == 0 && !lazy_add_memory(l, uffd, -EBADF, parent->space, &missing))
		r = -ENOMEM;
	lazy_ranges_done(&missing);
	return r;
}

static int on_change(struct lazy *l, struct lazy_memory *m, const struct uffd_msg *msg)
{
	bool moved = msg->event == UFFD_EVENT_REMAP;
	uint64_t start = moved ? msg->arg.remap.from : msg->arg.remove.start,
		 end = moved ? start + msg->arg.remap.len : msg->arg.remove.end;
	struct uffdio_range range = {start, end - start};
	int r = 0;

	/* Whoever works there starts anew. */
	for (size_t i = 0; i < ARRAY_SIZE(l->claims) && r == 0; i++)
		if (l->claims[i].m == m)
			r = lazy_give_back(&l->claims[i]);
	/* Threads that wait for a page which is not there any more are to see that. */
	(void)!ioctl(m->uffd, UFFDIO_WAKE, &range);
	if (r < 0)
		return r;
	return moved ? lazy_ranges_move(&m->missing, start, msg->arg.remap.to, end - start)
		     : lazy_ranges_cut(&m->missing, start, end);
}

static int keep_fault(struct lazy_memory *m, uint64_t address)
{
	if (m->n_faults == m->max_faults) {
		size_t max = MAX(m->max_faults * 2, (size_t)16);
		uint64_t *faults = reallocarray(m->faults, max, sizeof(*faults));

		if (!faults)
			return -ENOMEM;
		m->faults = faults;
		m->max_faults = max;
	}
	m->faults[m->n_faults++] = address & ~(uint64_t)(PAGE - 1);
	return 0;
}

static int on_message(struct lazy *l, struct lazy_memory *m, const struct uffd_msg *msg)
{
	switch (msg->event) {
	case UFFD_EVENT_PAGEFAULT:
		return keep_fault(m, msg->arg.pagefault.address);
	case UFFD_EVENT_FORK:
		return on_fork(l, m, (int)msg->arg.fork.ufd);
	case UFFD_EVENT_REMAP:
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		return on_change(l, m, msg);
	default:
		return -EPROTO;
	}
}

/* Whoever takes its memory apart shall not take ours. */
static int check_size(const struct lazy *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n_memories; i++)
		n += l->memories[i]->missing.n;
	return n > RANGES_MAX ? -ENOMEM : 0;
}

static int read_events(struct lazy *l, struct lazy_memory *m, struct error *e)
{
	struct uffd_msg messages[32];
	ssize_t n = 0;
	int r = 0;

	pthread_rwlock_wrlock(&l->events);
	pthread_mutex_lock(&l->lock);
	while (r == 0) {
		n = read(m->uffd, messages, sizeof(messages));
		if (n <= 0)
			break;
		for (size_t i = 0; i < n / sizeof(*messages) && r == 0; i++)
			r = on_message(l, m, &messages[i]);
	}
	if (r == 0 && n < 0 && errno != EAGAIN && errno != EINTR)
		r = -errno;
	pthread_cond_broadcast(&l->more);
	pthread_mutex_unlock(&l->lock);
	pthread_rwlock_unlock(&l->events);
	if (r == 0)
		r = check_size(l);
	return r < 0 ? error_errno(e, r, "events of the memory of a process") : 0;
}

/* ---- faults ---- */

/* Where the contents of a page are: 1, with the piece of page data around it; 0: zeros. */
static int find_contents(struct lazy *l, const struct lazy_memory *m, uint64_t page, uint64_t *ret_start,
	struct restore_piece *ret)
{
	struct lazy_range range = {};
	size_t i = lazy_ranges_find(&m->missing, page);
	uint64_t at, start, end;

	if (i < m->missing.n && m->missing.v[i].start <= page)
		range = m->missing.v[i];
	for (size_t k = 0; k < ARRAY_SIZE(l->claims) && !range.end; k++)
		if (l->claims[k].m == m && l->claims[k].start <= page && page < l->claims[k].end)
			range = (struct lazy_range){
				l->claims[k].start, l->claims[k].end, l->claims[k].address};
	if (!range.end)
		return 0;
	start = MAX(range.start, page / AROUND * AROUND);
	end = MIN(range.end, page / AROUND * AROUND + AROUND);
	at = range.address + (page - range.start);
	if (!restore_next_piece(l->image, m->space, &at, range.address + (end - range.start), ret) ||
		ret->zero || ret->start != range.address + (page - range.start))
		return 0;
	/* From the start of its run, if that is so far. */
	for (at = range.address + (start - range.start);
		restore_next_piece(l->image, m->space, &at, range.address + (end - range.start), ret);)
		if (!ret->zero && ret->end > range.address + (page - range.start))
			break;
	*ret_start = range.start + (ret->start - range.address);
	return 1;
}

static void note_touched(struct lazy *l, const struct lazy_memory *m, const struct restore_piece *p)
{
	if (l->touched && l->n_touched < IMAGE_TOUCHED_MAX)
		l->touched[l->n_touched++] = (struct image_touched){m->space, p->start, p->end - p->start};
}

static void hint(struct lazy *l, struct lazy_memory *m, uint64_t address)
{
	if (l->n_hints == LAZY_HINTS) {
		memmove(l->hints, l->hints + 1, (LAZY_HINTS - 1) * sizeof(*l->hints));
		l->n_hints--;
	}
	l->hints[l->n_hints++] = (struct lazy_hint){m, address, AHEAD};
}

/* How far behind a page of zeros there are more of them. Under the lock. */
static uint64_t find_zeros_end(struct lazy *l, const struct lazy_memory *m, uint64_t page)
{
	uint64_t end = page / AROUND * AROUND + AROUND;
	size_t i = lazy_ranges_find(&m->missing, page);
	const struct lazy_range *range = i < m->missing.n ? &m->missing.v[i] : NULL;

	for (size_t k = 0; k < ARRAY_SIZE(l->claims); k++)
		if (l->claims[k].m == m && l->claims[k].start > page)
			end = MIN(end, l->claims[k].start);
	if (range && range->start > page)
		end = MIN(end, range->start);
	if (range && range->start <= page) {
		uint64_t at = range->address + (page - range->start);
		struct restore_piece piece;

		end = MIN(end, range->end);
		while (restore_next_piece(
			l->image, m->space, &at, range->address + (end - range->start), &piece))
			if (!piece.zero)
				end = range->start + (piece.start - range->address);
	}
	return end;
}

/* All of them at once: a program that begins to use memory would fault on each. But none but this page where it is not known whether
 * others are there already, or guard regions. */
static int give_zeros(const struct lazy_memory *m, uint64_t page, uint64_t end)
{
	uint64_t taken,
		n = m->pagemap < 0 ? PAGE : MAX(lazy_vacant(m, page, end - page, &taken), (uint64_t)PAGE);
	struct uffdio_zeropage z = {.range = {page, n}};
	int r = ioctl(m->uffd, UFFDIO_ZEROPAGE, &z) < 0 ? -errno : 0;

	if (z.zeropage > 0)
		return 0;
	if (r == -ENOENT && n > PAGE) /* the mapping has come apart */
		return give_zeros(m, page, page + PAGE);
	z.range.len = PAGE;
	if (r == -EEXIST || r == -ENOENT)
		r = ioctl(m->uffd, UFFDIO_WAKE, &z.range) < 0 ? -errno : 0;
	return r;
}

/* Nobody else reads events, so they need not be locked. */
static int answer(
	struct lazy *l, struct lazy_memory *m, uint64_t page, struct image_reader *reader, struct error *e)
{
	struct restore_piece piece;
	const uint8_t *data;
	uint64_t start, done = 0, zeros_end = 0;
	size_t len;
	int r;

	pthread_mutex_lock(&l->lock);
	l->last_fault_us = lazy_now_us();
	r = find_contents(l, m, page, &start, &piece);
	if (r == 0)
		zeros_end = find_zeros_end(l, m, page);
	pthread_mutex_unlock(&l->lock);
	if (r == 0) {
		r = give_zeros(m, page, zeros_end);
		return r < 0 && r != -EAGAIN && r != -ESRCH && r != -ENOMEM ? error_errno(e, r, LAZY_FAILURE)
									    : r;
	}
	if (image_feed_of(l->image)) {
		r = image_feed_has(image_feed_of(l->image), piece.offset + (piece.end - piece.start), e);
		if (r <= 0)
			return r < 0 ? r : -EAGAIN;
	}
	for (uint64_t at = piece.start; at < piece.end && r >= 0; at += len) {
		len = piece.end - at;
		r = image_reader_get(reader, piece.layer, piece.offset + (at - piece.start), &len, &data, e);
		if (r < 0)
			return r;
		done = 0;
		r = lazy_put(m, start + (at - piece.start), data, len, &done);
	}
	if (r < 0)
		return r == -EAGAIN || r == -ESRCH || r == -ENOMEM ? r : error_errno(e, r, LAZY_FAILURE);
	pthread_mutex_lock(&l->lock);
	r = lazy_ranges_cut(&m->missing, start, start + (piece.end - piece.start));
	note_touched(l, m, &piece);
	hint(l, m, start + (piece.end - piece.start));
	pthread_cond_broadcast(&l->more);
	pthread_mutex_unlock(&l->lock);
	return r < 0 ? error_errno(e, r, LAZY_FAILURE) : 0;
}

/* Of a process that is gone nothing is missing. */
static void forget(struct lazy *l, struct lazy_memory *m)
{
	pthread_mutex_lock(&l->lock);
	lazy_ranges_done(&m->missing);
	m->n_faults = 0;
	pthread_cond_broadcast(&l->more);
	pthread_mutex_unlock(&l->lock);
}

static int answer_all(struct lazy *l, struct lazy_memory *m, struct image_reader *reader, struct error *e)
{
	size_t n = m->n_faults, left = 0;
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++) {
		r = answer(l, m, m->faults[i], reader, e);
		if (r == -ESRCH) {
			forget(l, m);
			return 0;
		}
		if (r == -ENOMEM && !lazy_may_wait(&m->waited))
			return error_errno(e, r, LAZY_FAILURE);
		if (r == -EAGAIN || r == -ENOMEM) {
			m->faults[left++] = m->faults[i];
			r = 0;
		}
	}
	if (r >= 0)
		m->n_faults = left;
	return MIN(r, 0);
}

/* ---- the loop ---- */

static void drop(struct lazy_memory *m)
{
	close_p(&m->uffd);
	close_p(&m->pagemap);
}

/* 1: something is missing, 0: all is there. With the last descriptor what is not there becomes zeros: only of a memory that is
 * complete, and never once something has failed. */
static int release_complete(struct lazy *l, struct error *e)
{
	int r = 0;

	pthread_mutex_lock(&l->lock);
	if (l->failed) {
		*e = l->error;
		r = e->code;
	}
	for (size_t i = 0; i < l->n_memories && r >= 0; i++) {
		if (l->memories[i]->uffd >= 0 && lazy_is_complete(l->memories[i]))
			drop(l->memories[i]);
		if (l->memories[i]->uffd >= 0)
			r = 1;
	}
	pthread_mutex_unlock(&l->lock);
	return r;
}

/* Of those that wait for an event to be read. *ret: how long the next one may be waited for. */
static int answer_kept(struct lazy *l, struct image_reader *reader, int *ret, struct error *e)
{
	*ret = -1;
	for (size_t i = 0; i < l->n_memories; i++) {
		struct lazy_memory *m = l->memories[i];
		int r;

		if (m->uffd < 0 || m->n_faults == 0)
			continue;
		r = read_events(l, m, e);
		if (r == 0)
			r = answer_all(l, m, reader, e);
		if (r < 0)
			return r;
		if (m->n_faults > 0) {
			sched_yield();
			/* it may be that it has not arrived */
			*ret = image_feed_of(l->image) ? ARRIVAL_POLL_MS : 0;
		}
	}
	return 0;
}

/* 1: go on, 0: all is there. */
static int step(struct lazy *l, struct image_reader *reader, int timeout, struct error *e)
{
	struct epoll_event events[16];
	int r = 0, n = epoll_wait(l->poll_fd, events, ARRAY_SIZE(events), timeout);
	eventfd_t ignored;

	if (n < 0 && errno != EINTR)
		return error_errno(e, -errno, "wait for faults");
	for (int i = 0; i < n && r == 0; i++) {
		uint64_t what = events[i].data.u64;
		struct lazy_memory *m = what >= OF_MEMORIES ? l->memories[what - OF_MEMORIES] : NULL;

		if (what == OF_GUARD)
			return error_set(e, -ECHILD, ERROR_SYSTEM,
				"a process that held its memory was killed before all of it was there");
		if (what == OF_FILLERS)
			(void)!eventfd_read(l->wake_fd, &ignored);
		if (what == OF_INIT) /* its processes go one after the other: all at once */
			return 0;
		if (!m || m->uffd < 0)
			continue;
		r = read_events(l, m, e);
		if (r == 0)
			r = answer_all(l, m, reader, e);
	}
	return r < 0 ? r : release_complete(l, e);
}

static int watch(struct lazy *l, int fd, uint64_t what)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = what};

	return epoll_ctl(l->poll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Short turns, so that it need not wait for the end of those of the threads that fill (Linux 6.12). */
static void be_quick(void)
{
	struct sched_attributes a = {.size = 48};

	if (syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0) < 0 || a.policy != SCHED_OTHER)
		return;
	a.size = 48;
	a.runtime = 100 * 1000;
	(void)!syscall(SYS_sched_setattr, 0, &a, 0);
}

int lazy_serve(struct lazy *l, int guard, struct error *e)
{
	struct image_reader *reader = NULL;
	int r = image_reader_new(l->image, &reader, e), timeout = -1;

	if (r == 0 && (watch(l, guard, OF_GUARD) < 0 || watch(l, l->wake_fd, OF_FILLERS) < 0 ||
			      watch(l, l->init_pidfd, OF_INIT) < 0))
		r = error_errno(e, -errno, "epoll");
	be_quick();
	if (r == 0)
		r = 1;
	while (r == 1) {
		r = step(l, reader, timeout, e);
		if (r == 1 && answer_kept(l, reader, &timeout, e) < 0)
			r = e->code;
	}
	image_reader_free(reader);
	return r;
}
