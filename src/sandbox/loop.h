/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of the supervisor: one thread that sleeps in epoll_wait(2) until a descriptor is ready or a timer is due. What
 * is watched belongs to the caller and is part of his own structs; he takes it out before he frees it. Callbacks may take out or
 * free anything: events are fetched one at a time.
 */
#pragma once

#include <sys/epoll.h>

#include "base/error.h"

struct loop;

struct loop_fd {
	int fd; /* the caller's; -EBADF: not watched */
	void (*ready)(void *arg, uint32_t events);
	void *arg;
};

struct loop_timer {
	int64_t at_ms; /* CLOCK_BOOTTIME */
	void (*due)(void *arg);
	void *arg;
	struct loop_timer *next;
	bool set;
};

int loop_new(struct loop **ret) _must_check_;
void loop_free(struct loop *l);

/* Begins to watch, with EPOLLIN and the like; changes what is waited for; ends (before the descriptor is closed). */
int loop_watch(struct loop *l, struct loop_fd *w, int fd, uint32_t events) _must_check_;
int loop_change(struct loop *l, struct loop_fd *w, uint32_t events) _must_check_;
void loop_forget(struct loop *l, struct loop_fd *w);

/* Once, in so many milliseconds; anew if it was set already. */
void loop_set_timer(struct loop *l, struct loop_timer *t, int64_t ms);
void loop_clear_timer(struct loop *l, struct loop_timer *t);

/* Until loop_stop(). */
int loop_run(struct loop *l) _must_check_;
void loop_stop(struct loop *l);
