/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping all tasks of a cgroup. v2: cgroup.freeze, done when cgroup.events says "frozen 1". v1: freezer.state, done
 * when it reads FROZEN. Both are read in a loop: the notification of cgroup.events is rate-limited to one in 10 ms,
 * and v1 has none. After 2 ms without success something is in the way (a task in the kernel), so the loop sleeps a
 * little between reads.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cgroup/cgroup-priv.h"

struct freezer {
	int dir; /* of the cgroup */
	int fd;	 /* of the file that tells the state */
	bool v2;
};

static void freezer_done(struct freezer *f)
{
	close_p(&f->fd);
	close_p(&f->dir);
}

static const struct cgroup_dir *freezer_dir(const struct cgroup *cg)
{
	const struct cgroup_dir *d = cgroup_v2_dir(cg);

	return d ? d : cgroup_v1_dir(cg, "freezer");
}

static int freezer_open(
	const struct cgroup *cg, const struct cgroup_dir *d, struct freezer *f, struct error *e)
{
	f->dir = f->fd = -EBADF;
	if (!d)
		return error_set(e, -ENOTSUP, ERROR_KERNEL, "the container has no cgroup with a freezer");
	f->v2 = cgroup_dir_is_v2(d);
	f->dir = cgroup_dir_open(cg, d, e);
	if (f->dir < 0)
		return f->dir;
	f->fd = openat(f->dir, f->v2 ? "cgroup.events" : "freezer.state", O_RDONLY | O_CLOEXEC);
	if (f->fd < 0)
		return error_errno(e, -errno, "cgroup: open the freezer's state in %s", d->path);
	return 0;
}

static int freezer_state(const struct freezer *f)
{
	char text[256];
	ssize_t n = pread(f->fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return -errno;
	text[n] = 0;
	return f->v2 ? strstr(text, "frozen 1") != NULL : strncmp(text, "FROZEN", 6) == 0;
}

static int freezer_write(const struct freezer *f, bool freeze)
{
	if (f->v2)
		return write_string_at(f->dir, "cgroup.freeze", freeze ? "1" : "0");
	return write_string_at(f->dir, "freezer.state", freeze ? "FROZEN" : "THAWED");
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int wait_frozen(const struct freezer *f, int timeout_ms)
{
	static const struct timespec pause = {.tv_nsec = 50000};
	enum { SPIN_US = 200 /* many tasks want the CPU, to freeze on */ };
	int64_t start = now_us(), renewed = start;

	for (;;) {
		int r = freezer_state(f);
		int64_t now;

		if (r != 0)
			return r < 0 ? r : 0;
		now = now_us();
		if (now - start > (int64_t)timeout_ms * 1000)
			return -ETIMEDOUT;
		if (now - start < SPIN_US)
			continue;
		/* v1 misses a task that was forked or woken in the wrong moment until it is told again. */
		if (!f->v2 && now - renewed > 1000) {
			r = freezer_write(f, true);
			if (r < 0)
				return r;
			renewed = now;
		}
		nanosleep(&pause, NULL);
	}
}

static int freeze(const struct cgroup *cg, int timeout_ms, bool keep, struct error *e)
{
	_cleanup_(freezer_done) struct freezer f;
	int r = freezer_open(cg, freezer_dir(cg), &f, e);

	if (r < 0)
		return r;
	r = freezer_write(&f, true);
	if (r == 0)
		r = wait_frozen(&f, timeout_ms);
	if (r == 0)
		return 0;
	if (r != -ETIMEDOUT || !keep)
		(void)!freezer_write(&f, false);
	if (r == -ETIMEDOUT)
		return error_set(e, r, ERROR_SYSTEM,
			"cgroup: %s could not be frozen in %d ms: a task does not leave the kernel, or "
			"gets no CPU time on a busy machine",
			cg->path, timeout_ms);
	return error_errno(e, r, "cgroup: freeze %s", cg->path);
}

int cgroup_freeze(const struct cgroup *cg, int timeout_ms, struct error *e)
{
	return freeze(cg, timeout_ms, false, e);
}

int cgroup_freeze_begin(const struct cgroup *cg, int timeout_ms, struct error *e)
{
	return freeze(cg, timeout_ms, true, e);
}

static int thaw_one(const struct cgroup *cg, const struct cgroup_dir *d, struct error *e)
{
	_cleanup_(freezer_done) struct freezer f;
	int r = freezer_open(cg, d, &f, e);

	if (r < 0)
		return r;
	r = freezer_write(&f, false);
	return r < 0 ? error_errno(e, r, "cgroup: thaw %s", d->path) : 0;
}

int cgroup_thaw(const struct cgroup *cg, struct error *e)
{
	const struct cgroup_dir *v1 = cgroup_v1_dir(cg, "freezer"), *d = freezer_dir(cg);
	int r = thaw_one(cg, d, e), q = 0;

	/* Another program may have used v1's freezer on a hybrid machine. */
	if (v1 && v1 != d)
		q = thaw_one(cg, v1, r ? NULL : e);
	return r < 0 ? r : q;
}

static int dir_is_frozen(const struct cgroup *cg, const struct cgroup_dir *d)
{
	_cleanup_(freezer_done) struct freezer f;
	int r = freezer_open(cg, d, &f, NULL);

	return r < 0 ? r : freezer_state(&f);
}

int cgroup_is_frozen(const struct cgroup *cg)
{
	const struct cgroup_dir *v1 = cgroup_v1_dir(cg, "freezer"), *d = freezer_dir(cg);
	int r;

	if (!d)
		return 0;
	r = dir_is_frozen(cg, d);
	return r == 0 && v1 && v1 != d ? dir_is_frozen(cg, v1) : r;
}
