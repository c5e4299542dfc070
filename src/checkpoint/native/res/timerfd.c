/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timerfd_create(2): clock, remaining time, interval and unread ticks, as fdinfo tells them. A timer set to an absolute
 * time fires at that time of the container's clock: CLOCK_MONOTONIC goes on from the checkpoint, CLOCK_REALTIME is the
 * wall clock, so that a time that has passed meanwhile fires at once.
 */
#include "checkpoint/native/res/res.h"

#include <sys/ioctl.h>
#include <sys/timerfd.h>

#include "checkpoint/native/restore-time.h"

enum { NS = 1000000000, TRIES = 5, QUICK_NS = 200000 };

static bool match(const struct dump *d, const struct dump_file *f)
{
	return link_is_anon_inode(f, "[timerfd]");
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * (int64_t)NS + now.tv_nsec;
}

/* Ticks, and how long after the moment of the checkpoint the next one comes (0: none does). Again, if something came between the
 * look at the timer and that at the clock. */
static int read_timer(struct dump *d, struct dump_file *f, int64_t *ret, struct error *e)
{
	int64_t then = d->container->monotonic->sec * NS + d->container->monotonic->nsec, left, now, before;
	struct itimerspec its;
	int r;

	for (int i = 0; i < TRIES; i++) {
		/* A periodic timer that has expired counts its ticks when it is looked at, and only then goes on. */
		before = now_ns();
		if (timerfd_gettime(f->local, &its) < 0)
			return error_errno(e, -errno, "read a timer");
		now = now_ns();
		r = proc_read_fdinfo(f->proc->shown, f->fd, &d->arena, &f->info);
		if (r < 0)
			return error_errno(e, r, "fdinfo of a timer");
		left = MIN(its.it_value.tv_sec, INT64_MAX / NS / 2) * NS + its.it_value.tv_nsec;
		/* Both times before the same expiry: then the ticks belong to what is left. */
		if (now - before < QUICK_NS && (left == 0 || (f->info.it_value.sec || f->info.it_value.nsec)))
			break;
	}
	*ret = left == 0 ? 0 : MAX(now + d->clock_offset + left - then, (int64_t)1);
	return 0;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__TimerFd *m = pb_new(&d->arena, TimerFd, timer_fd);
	int64_t end = 0;
	int r;

	if (!f->info.has_timerfd)
		return error_set(e, -EOPNOTSUPP, ERROR_KERNEL, "this kernel does not show timers in fdinfo");
	if (!m)
		return error_errno(e, -ENOMEM, "timerfd");
	r = read_timer(d, f, &end, e);
	if (r < 0)
		return r;
	m->clockid = f->info.clockid;
	m->ticks = f->info.ticks;
	m->settime_flags = f->info.settime_flags;
	m->value = pb_timespec(&d->arena, end / NS, end % NS);
	m->interval = pb_timespec(&d->arena, f->info.it_interval.sec, f->info.it_interval.nsec);
	if (!m->value || !m->interval)
		return error_errno(e, -ENOMEM, "timerfd");
	f->msg->kind_case = ST__FILE__KIND_TIMERFD;
	f->msg->timerfd = m;
	return 0;
}

static int arm(struct restore *r, const St__TimerFd *t, int fd)
{
	struct itimerspec its = {};
	bool absolute = t->settime_flags & TFD_TIMER_ABSTIME;

	if (t->interval) {
		its.it_interval.tv_sec = t->interval->sec;
		its.it_interval.tv_nsec = t->interval->nsec;
	}
	for (int i = 0; i < TRIES; i++) {
		int64_t before = now_ns();

		its.it_value =
			absolute ? restore_clock_at(r, t->clockid, t->value) : restore_left(r, t->value);
		if (timerfd_settime(fd, t->settime_flags, &its, NULL) < 0)
			return -errno;
		if (absolute || now_ns() - before < QUICK_NS)
			break;
	}
	return 0;
}

static int open_timerfd(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	const St__TimerFd *t = m->timerfd;
	bool armed = t->value && (t->value->sec || t->value->nsec);
	int fd = timerfd_create(t->clockid, TFD_CLOEXEC), result;

	if (fd < 0)
		return error_errno(e, -errno, "make a timer of clock %d", t->clockid);
	result = armed && !r->clocks_later ? arm(r, t, fd) : 0;
	if (result < 0) {
		close(fd);
		return error_errno(e, result, "set a timer");
	}
	if (t->ticks && ioctl(fd, _IOW('T', 0, uint64_t), &t->ticks) < 0) {
		close(fd);
		return error_errno(e, -errno, "set a timer's ticks");
	}
	*ret_fd = fd;
	return 0;
}

int timerfd_arm_later(struct restore *r, struct error *e)
{
	for (size_t i = 0; i < r->n_files; i++) {
		const St__TimerFd *t = r->files[i]->timerfd;
		const St__Shared *others = r->files[i]->description;
		int result;

		/* One that another container has made is its to set. */
		if (r->files[i]->kind_case != ST__FILE__KIND_TIMERFD || (others && !others->owner) ||
			!t->value || (!t->value->sec && !t->value->nsec))
			continue;
		result = arm(r, t, restore_fd(r, r->files[i]->id));
		/* Setting it takes its ticks away. */
		if (result == 0 && t->ticks &&
			ioctl(restore_fd(r, r->files[i]->id), _IOW('T', 0, uint64_t), &t->ticks) < 0)
			result = -errno;
		if (result < 0)
			return error_errno(e, result, "set a timer");
	}
	return 0;
}

extern const struct resource resource_timerfd;
const struct resource resource_timerfd = {
	.kind = "timerfd",
	.description = "timerfd, all clocks, remaining time, interval, unread ticks",
	.kind_case = ST__FILE__KIND_TIMERFD,
	.match = match,
	.dump = dump,
	.open = open_timerfd,
};
