/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Notifications of the memory controller. v1: an eventfd is tied to a control file by one line in
 * cgroup.event_control. v2: memory.events raises inotify when it changes, and a PSI trigger lives as long as the fd
 * that wrote it.
 */
#include "cgroup/watch.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#include "cgroup/cgroup-priv.h"

enum { SOON = 300 }; /* milliseconds */

static const struct cgroup_watch no_watch = {.fd = -EBADF, .keep = -EBADF, .dir = -EBADF};

void cgroup_watch_done(struct cgroup_watch *w)
{
	close_p(&w->fd);
	close_p(&w->keep);
	close_p(&w->dir);
}

/* Whether there was anything. */
static bool drain(struct cgroup_watch *w)
{
	bool any = false;
	char buf[4096];

	/* A PSI trigger has nothing to read: poll(2) itself resets it. */
	if (w->events == POLLIN)
		while (read(w->fd, buf, sizeof(buf)) > 0)
			any = true;
	return any;
}

void cgroup_watch_drain(struct cgroup_watch *w)
{
	(void)drain(w);
}

/* The directory with the memory controller. */
static int open_memory(const struct cgroup *cg, struct cgroup_watch *w, struct error *e)
{
	const struct cgroup_dir *d = cg->mode == CGROUP_V2 ? cgroup_v2_dir(cg) : cgroup_v1_dir(cg, "memory");

	*w = no_watch;
	if (!d)
		return error_set(e, -ENOTSUP, ERROR_KERNEL, "the container has no memory cgroup to watch");
	w->v2 = cgroup_dir_is_v2(d);
	w->dir = cgroup_dir_open(cg, d, e);
	return w->dir < 0 ? w->dir : 0;
}

static int register_v1(struct cgroup_watch *w, const char *file, const char *argument, struct error *e)
{
	char line[64];
	int r;

	w->events = POLLIN;
	w->keep = openat(w->dir, file, O_RDONLY | O_CLOEXEC);
	if (w->keep < 0)
		return error_errno(e, -errno, "cgroup: open %s", file);
	w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->fd < 0)
		return error_errno(e, -errno, "eventfd");
	snprintf(line, sizeof(line), "%d %d%s%s", w->fd, w->keep, argument ? " " : "",
		argument ? argument : "");
	r = write_string_at(w->dir, "cgroup.event_control", line);
	return r < 0 ? error_errno(e, r, "cgroup: watch %s", file) : 0;
}

static int watch_v2_events(struct cgroup_watch *w, struct error *e)
{
	char path[64];

	w->events = POLLIN;
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd < 0)
		return error_errno(e, -errno, "inotify");
	snprintf(path, sizeof(path), "/proc/self/fd/%d/memory.events", w->dir);
	if (inotify_add_watch(w->fd, path, IN_MODIFY | IN_DELETE_SELF) < 0)
		return error_errno(e, -errno, "cgroup: watch memory.events");
	return 0;
}

/* The number after "oom_kill" in memory.oom_control or memory.events. */
static int read_kills(const struct cgroup_watch *w, uint64_t *ret)
{
	char text[1024];
	ssize_t n = read_small_file_at(
		w->dir, w->v2 ? "memory.events" : "memory.oom_control", text, sizeof(text));
	const char *at;

	if (n < 0)
		return n == -ENOENT ? -ENODEV : (int)n;
	at = strstr(text, "oom_kill ");
	if (!at)
		return -ENOTSUP;
	errno = 0;
	*ret = strtoull(at + 9, NULL, 10);
	return -errno;
}

int cgroup_read_oom(const struct cgroup *cg, uint64_t *ret_kills, uint64_t *ret_limit)
{
	_cleanup_(cgroup_watch_done) struct cgroup_watch w;
	struct error ignored;
	char text[64];
	int r = open_memory(cg, &w, &ignored);

	if (r == 0)
		r = read_kills(&w, ret_kills);
	if (r < 0)
		return r;
	*ret_limit = UINT64_MAX;
	if (read_small_file_at(w.dir, w.v2 ? "memory.max" : "memory.limit_in_bytes", text, sizeof(text)) >
			0 &&
		text[0] >= '0' && text[0] <= '9')
		*ret_limit = strtoull(text, NULL, 10);
	if (*ret_limit >= INT64_MAX / 4096 * 4096) /* v1's "none" */
		*ret_limit = UINT64_MAX;
	return 0;
}

int cgroup_watch_oom(const struct cgroup *cg, struct cgroup_watch *ret, struct error *e)
{
	_cleanup_(cgroup_watch_done) struct cgroup_watch w;
	int r = open_memory(cg, &w, e);

	if (r == 0)
		r = w.v2 ? watch_v2_events(&w, e) : register_v1(&w, "memory.oom_control", NULL, e);
	if (r < 0)
		return r;
	r = read_kills(&w, &w.seen);
	if (r < 0)
		return error_errno(e, r, "cgroup: count the OOM kills");
	*ret = w;
	w = no_watch;
	return 0;
}

int cgroup_oom_kills(struct cgroup_watch *w)
{
	uint64_t now, before = w->seen;
	bool told = drain(w);
	int r = read_kills(w, &now);

	/* v1 tells that memory is out, and only then kills: it is counted a moment later (or never, if there is nobody to kill). */
	for (int i = 0; r == 0 && told && !w->v2 && now == before && i < SOON; i++) {
		usleep(1000);
		r = read_kills(w, &now);
	}
	if (r < 0)
		return r;
	w->seen = now;
	return now > before ? (int)MIN(now - before, (uint64_t)INT32_MAX) : 0;
}

int cgroup_watch_pressure(
	const struct cgroup *cg, enum cgroup_pressure_level level, struct cgroup_watch *ret, struct error *e)
{
	static const struct {
		const char *v1, *v2; /* v2: stalled microseconds in a window of 1 s */
	} levels[] = {
		[CGROUP_PRESSURE_LOW] = {"low", "some 50000 1000000"},
		[CGROUP_PRESSURE_MEDIUM] = {"medium", "some 100000 1000000"},
		[CGROUP_PRESSURE_CRITICAL] = {"critical", "some 300000 1000000"},
	};
	_cleanup_(cgroup_watch_done) struct cgroup_watch w;
	int r = open_memory(cg, &w, e);

	if (r < 0)
		return r;
	if (!w.v2) {
		r = register_v1(&w, "memory.pressure_level", levels[level].v1, e);
		if (r < 0)
			return r;
	} else {
		w.events = POLLPRI;
		w.fd = openat(w.dir, "memory.pressure", O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (w.fd < 0 || write(w.fd, levels[level].v2, strlen(levels[level].v2) + 1) < 0)
			return error_errno(e, -errno, "cgroup: watch memory.pressure");
	}
	*ret = w;
	w = no_watch;
	return 0;
}
