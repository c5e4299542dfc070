/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/loop.h"

#include <stdlib.h>
#include <time.h>

#include "base/fd.h"
#include "base/trace.h"

struct loop {
	int epoll;
	bool stopped;
	struct loop_timer *timers; /* few: not sorted */
};

int loop_new(struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0) {
		free(l);
		return -errno;
	}
	*ret = l;
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	close_p(&l->epoll);
	free(l);
}

int loop_watch(struct loop *l, struct loop_fd *w, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	w->fd = fd;
	return 0;
}

int loop_change(struct loop *l, struct loop_fd *w, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	return epoll_ctl(l->epoll, EPOLL_CTL_MOD, w->fd, &ev) < 0 ? -errno : 0;
}

void loop_forget(struct loop *l, struct loop_fd *w)
{
	if (w->fd >= 0)
		epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, NULL);
	w->fd = -EBADF;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

void loop_clear_timer(struct loop *l, struct loop_timer *t)
{
	for (struct loop_timer **p = &l->timers; *p; p = &(*p)->next)
		if (*p == t) {
			*p = t->next;
			break;
		}
	t->set = false;
}

void loop_set_timer(struct loop *l, struct loop_timer *t, int64_t ms)
{
	loop_clear_timer(l, t);
	t->at_ms = now_ms() + ms;
	t->set = true;
	t->next = l->timers;
	l->timers = t;
}

static struct loop_timer *first_timer(const struct loop *l)
{
	struct loop_timer *first = l->timers;

	for (struct loop_timer *t = l->timers; t; t = t->next)
		if (t->at_ms < first->at_ms)
			first = t;
	return first;
}

/* How long to sleep, -1 for ever; what is due already is called, one a turn. */
static int run_timer(struct loop *l)
{
	struct loop_timer *t = first_timer(l);
	int64_t left;

	if (!t)
		return -1;
	left = t->at_ms - now_ms();
	if (left > 0)
		return (int)MIN(left, (int64_t)3600 * 1000);
	loop_clear_timer(l, t);
	t->due(t->arg);
	return 0;
}

int loop_run(struct loop *l)
{
	while (!l->stopped) {
		struct epoll_event ev;
		int timeout = run_timer(l), n;

		if (l->stopped)
			break;
		n = epoll_wait(l->epoll, &ev, 1, timeout);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 1) {
			struct loop_fd *w = ev.data.ptr;

			TRACE("event");
			w->ready(w->arg, ev.events);
		}
	}
	return 0;
}

void loop_stop(struct loop *l)
{
	l->stopped = true;
}
