/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timerfd_create(2): clock, remaining time, interval and unread ticks, as fdinfo tells them. A timer set to an absolute
 * time fires at that time of the container's clock: CLOCK_MONOTONIC goes on from the checkpoint, CLOCK_REALTIME is the
 * wall clock, so that a time that has passed meanwhile fires at once.
 */
#include "checkpoint/native/res/res.h"

#include <sys/ioctl.h>
#include <sys/timerfd.h>

enum { NS = 1000000000 };

static bool match(const struct dump *d, const struct dump_file *f)
{
	return link_is_anon_inode(f, "[timerfd]");
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__TimerFd *m = pb_new(&d->arena, TimerFd, timer_fd);
	struct itimerspec its;
	int r;

	if (!f->info.has_timerfd)
		return error_set(e, -EOPNOTSUPP, ERROR_KERNEL, "this kernel does not show timers in fdinfo");
	if (!m)
		return error_errno(e, -ENOMEM, "timerfd");
	/* A periodic timer that has expired counts its ticks when it is looked at, and only then goes on. */
	if (timerfd_gettime(f->local, &its) < 0)
		return error_errno(e, -errno, "read a timer");
	r = proc_read_fdinfo(f->proc->pid, f->fd, &d->arena, &f->info);
	if (r < 0)
		return error_errno(e, r, "fdinfo of a timer");
	m->clockid = f->info.clockid;
	m->ticks = f->info.ticks;
	m->settime_flags = f->info.settime_flags;
	m->value = pb_timespec(&d->arena, f->info.it_value.sec, f->info.it_value.nsec);
	m->interval = pb_timespec(&d->arena, f->info.it_interval.sec, f->info.it_interval.nsec);
	if (!m->value || !m->interval)
		return error_errno(e, -ENOMEM, "timerfd");
	f->msg->kind_case = ST__FILE__KIND_TIMERFD;
	f->msg->timerfd = m;
	return 0;
}

/* The clock of the timer as it stood at the checkpoint. */
static const St__TimeSpec *clock_then(const struct restore *r, int clockid)
{
	switch (clockid) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_ALARM:
		return r->container->realtime;
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		return r->container->boottime;
	default:
		return r->container->monotonic;
	}
}

static int open_timerfd(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	const St__TimerFd *t = m->timerfd;
	const St__TimeSpec *then = clock_then(r, t->clockid);
	struct itimerspec its = {};
	bool armed = t->value && (t->value->sec || t->value->nsec);
	int fd;

	fd = timerfd_create(t->clockid, TFD_CLOEXEC);
	if (fd < 0)
		return error_errno(e, -errno, "make a timer of clock %d", t->clockid);
	if (t->interval) {
		its.it_interval.tv_sec = t->interval->sec;
		its.it_interval.tv_nsec = t->interval->nsec;
	}
	if (armed) {
		its.it_value.tv_sec = t->value->sec;
		its.it_value.tv_nsec = t->value->nsec;
		if ((t->settime_flags & TFD_TIMER_ABSTIME) && then) {
			its.it_value.tv_sec += then->sec + (t->value->nsec + then->nsec) / NS;
			its.it_value.tv_nsec = (t->value->nsec + then->nsec) % NS;
		}
		if (timerfd_settime(fd, t->settime_flags, &its, NULL) < 0) {
			close(fd);
			return error_errno(e, -errno, "set a timer");
		}
	}
	if (t->ticks && ioctl(fd, _IOW('T', 0, uint64_t), &t->ticks) < 0) {
		close(fd);
		return error_errno(e, -errno, "set a timer's ticks");
	}
	*ret_fd = fd;
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
