/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals say that the list of members or a state directory changes (F_NOTIFY, as in members.c); then everything is looked at.
 * The file with the attempts is kept open: it tells how a checkpoint ended also when the container is deleted with it.
 */
#include "sandbox/events.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "cgroup/watch.h"
#include "container/container.h"
#include "linux/procfd.h"
#include "linux/procfs.h"
#include "sandbox/sandbox.h"
#include "sandbox/supervisor-priv.h"
#include "sandbox/total.h"
#include "sandbox/varlink.h"

enum {
	BUSY_MS = 20,
	STATUS_MS = 500, /* for the supervisor to write down how a container ended */
};

enum phase { MAKING, CREATED, RUNNING, ENDED };

struct watched {
	struct watched *next;
	char *id, *name;
	int dir;	     /* its state directory */
	struct container *c; /* as it was when it was made; NULL: not yet */
	enum phase phase;
	bool restores; /* while it is made */
	bool there;
	int pidfd, attempts;
	struct container_attempts seen;
	struct cgroup_watch oom;
};

struct watcher {
	const struct sandbox_events *s;
	struct sandbox *sandbox;
	int members, signals;
	struct watched *list;
	bool tells; /* what is there at the beginning is no event */
	bool had_some;
	bool busy; /* somebody is about to be through, and says so to nobody */
};

static bool lives(const struct watched *w)
{
	return w->phase == CREATED || w->phase == RUNNING;
}

/* ---- what is told ---- */

static int tell(
	struct watcher *x, const struct watched *w, const char *type, const char *data, struct error *e)
{
	return x->s->emit(x->s->arg,
		&(struct sandbox_event){type, w ? w->id : x->s->sandbox, w ? w->name : NULL, data}, e);
}

static int tell_attempt(struct watcher *x, const struct watched *w, const struct container_attempts *now,
	const char *outcome, struct error *e)
{
	char data[160];

	snprintf(data, sizeof(data),
		"{\"outcome\":\"%s\",\"checkpoints\":%" PRIu64 ",\"failed\":%" PRIu64 "}", outcome,
		now->checkpoints, now->failed);
	return tell(x, w, "checkpoint", data, e);
}

static int tell_attempts(struct watcher *x, struct watched *w, struct error *e)
{
	struct container_attempts now, before = w->seen;
	int r = 0;

	if (w->attempts < 0)
		w->attempts = container_open_attempts(w->dir);
	if (w->attempts < 0 || !container_attempts_in(w->attempts, &now))
		return 0;
	w->seen = now;
	if (now.checkpoints > before.checkpoints)
		r = tell_attempt(x, w, &now, "begun", e);
	if (r == 0 && now.failed > before.failed)
		r = tell_attempt(x, w, &now, "failed", e);
	if (r == 0 && now.completed > before.completed)
		r = tell_attempt(x, w, &now, "completed", e);
	return r;
}

static int tell_oom(struct watcher *x, struct watched *w, struct error *e)
{
	int r = 0;

	for (int n = w->oom.fd >= 0 ? cgroup_oom_kills(&w->oom) : 0; n > 0 && r == 0; n--)
		r = tell(x, w, "oom", NULL, e);
	return r;
}

/* The kernel's word; on those before 6.15 the supervisor's, who hears of it when we do. */
static bool find_exit_status(struct watcher *x, struct watched *w, int *ret)
{
	struct timespec moment = {.tv_nsec = 5000000};
	struct exit_kept kept;

	if (pidfd_exit_status(w->pidfd, ret) == 0)
		return true;
	for (int ms = 0; ms < STATUS_MS; ms += 5) {
		if (exit_read(x->sandbox->dir_fd, w->id, w->c->init_pid, w->c->init_start_time, &kept)) {
			*ret = kept.status;
			return kept.known;
		}
		if (!sandbox_is_served(x->sandbox->dir_fd))
			return false;
		nanosleep(&moment, NULL);
	}
	return false;
}

static int tell_exit(struct watcher *x, struct watched *w, struct error *e)
{
	char data[80];
	int status;

	if (!lives(w))
		return 0;
	w->phase = ENDED;
	if (!find_exit_status(x, w, &status))
		return tell(x, w, "exit", NULL, e);
	snprintf(data, sizeof(data), "{\"%s\":%d,\"status\":%d}", WIFSIGNALED(status) ? "signal" : "code",
		WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), status);
	return tell(x, w, "exit", data, e);
}

static int tell_made(struct watcher *x, const struct watched *w, struct error *e)
{
	char data[100];

	if (w->c->generation == 0)
		return tell(x, w, "create", NULL, e);
	snprintf(data, sizeof(data), "{\"outcome\":\"completed\",\"generation\":%" PRIu64 "}",
		w->c->generation);
	return tell(x, w, "restore", data, e);
}

/* It has been deleted, or never was complete. */
static int tell_gone(struct watcher *x, struct watched *w, struct error *e)
{
	int r = tell_attempts(x, w, e);

	if (w->phase == MAKING)
		return r == 0 && w->restores ? tell(x, w, "restore", "{\"outcome\":\"failed\"}", e) : r;
	if (r == 0)
		r = tell_exit(x, w, e);
	return r == 0 ? tell(x, w, "delete", NULL, e) : r;
}

/* ---- looking ---- */

static int notify(int fd)
{
	return fcntl(fd, F_SETSIG, MEMBERS_SIGNAL) < 0 ||
			       fcntl(fd, F_NOTIFY,
				       DN_CREATE | DN_DELETE | DN_RENAME | DN_MODIFY | DN_MULTISHOT) < 0
		       ? -errno
		       : 0;
}

static void watched_free(struct watched *w)
{
	container_free(w->c);
	cgroup_watch_done(&w->oom);
	close_p(&w->pidfd);
	close_p(&w->attempts);
	close_p(&w->dir);
	free(w->id);
	free(w->name);
	free(w);
}

static int open_state(const struct watcher *x, const char *id)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", x->s->root, id);
	return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int add(struct watcher *x, const struct sandbox_member *m, struct watched **ret, struct error *e)
{
	struct watched *w = calloc(1, sizeof(*w)), **end = &x->list;
	int r;

	if (!w)
		return error_errno(e, -ENOMEM, "container %s", m->id);
	w->pidfd = w->attempts = -EBADF;
	w->oom = (struct cgroup_watch){.fd = -EBADF, .keep = -EBADF, .dir = -EBADF};
	w->id = strdup(m->id);
	w->name = strdup(m->name);
	w->dir = open_state(x, m->id);
	r = !w->id || !w->name ? -ENOMEM : w->dir < 0 ? -errno : notify(w->dir);
	if (r < 0) {
		watched_free(w);
		return r == -ENOENT ? 0 : error_errno(e, r, "watch container %s", m->id);
	}
	while (*end)
		end = &(*end)->next;
	*ret = *end = w;
	return 0;
}

/* From now on it is a container. */
static void begin(struct watcher *x, struct watched *w, struct container *c)
{
	struct error ignored = {0};

	w->c = c;
	w->pidfd = container_init_pidfd(c);
	w->phase = CREATED;
	if (cgroup_watch_oom(&c->cgroup, &w->oom, &ignored) < 0)
		log_debug("OOM kills are not watched: %s", ignored.message);
	w->attempts = container_open_attempts(w->dir);
	if (w->attempts >= 0 && (!x->tells || c->generation))
		(void)container_attempts_in(w->attempts, &w->seen);
	if (x->tells)
		w->seen.completed = 0;
}

/* A restore that waits for no others has the container's lock until its end; then nothing changes on disk. */
static bool is_restored_just_now(const struct watched *w, const struct container *c)
{
	if (c->generation == 0)
		return false;
	if (flock(w->dir, LOCK_SH | LOCK_NB) < 0)
		return true;
	flock(w->dir, LOCK_UN);
	return false;
}

static int look_at_new(struct watcher *x, struct watched *w, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	struct error ignored;
	enum container_status status;

	if (container_load(x->s->root, w->id, false, &c, &ignored) < 0)
		return 0;
	w->restores |= c->restoring || c->generation > 0;
	status = container_status(c);
	/* Before there is an init it looks as if that had ended. */
	if (c->restoring || !c->mountinfo || status == CONTAINER_CREATING)
		return 0;
	if (x->tells && is_restored_just_now(w, c)) {
		x->busy = true;
		return 0;
	}
	begin(x, w, take_ptr(c));
	if (status == CONTAINER_STOPPED && !x->tells)
		w->phase = ENDED;
	return x->tells ? tell_made(x, w, e) : 0;
}

static bool has_ended(const struct watched *w)
{
	return w->pidfd < 0 || pidfd_wait_exit(w->pidfd, 0) != 0;
}

/* Of one that has ended, or is paused, the socket on which it would wait tells: who starts it removes that when it runs. */
static bool was_started(const struct watched *w)
{
	struct timespec moment = {.tv_nsec = 5000000};
	int tries = 10;

	if (w->restores || (!has_ended(w) && container_status(w->c) == CONTAINER_RUNNING))
		return true;
	while (faccessat(w->dir, CONTAINER_START_SOCKET, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		if (!has_ended(w) || tries-- == 0)
			return false;
		nanosleep(&moment, NULL);
	}
	return true;
}

static int look_at(struct watcher *x, struct watched *w, struct error *e)
{
	int r = w->phase == MAKING ? look_at_new(x, w, e) : 0;

	if (r < 0 || w->phase == MAKING)
		return r;
	if (w->phase == CREATED && was_started(w)) {
		w->phase = RUNNING;
		if (x->tells && !w->restores)
			r = tell(x, w, "start", NULL, e);
	}
	if (r == 0)
		r = tell_attempts(x, w, e);
	if (r == 0)
		r = tell_oom(x, w, e);
	return r == 0 && lives(w) && has_ended(w) ? tell_exit(x, w, e) : r;
}

static struct watched *find(struct watcher *x, const struct sandbox_member *m)
{
	struct watched *w = x->list;
	struct stat st;

	while (w && strcmp(w->id, m->id) != 0)
		w = w->next;
	/* Another one may have got the id: its directory is not that one. */
	return w && !strcmp(w->name, m->name) && fstat(w->dir, &st) == 0 && st.st_nlink > 0 ? w : NULL;
}

static int forget_gone(struct watcher *x, struct error *e)
{
	int r = 0;

	for (struct watched **p = &x->list, *w; (w = *p) && r == 0;) {
		if (w->there) {
			p = &w->next;
			continue;
		}
		*p = w->next;
		r = x->tells ? tell_gone(x, w, e) : 0;
		watched_free(w);
	}
	return r;
}

static int look(struct watcher *x, struct error *e)
{
	int r = sandbox_refresh(x->sandbox, e);

	x->busy = false;
	for (struct watched *w = x->list; w; w = w->next)
		w->there = false;
	for (size_t i = 0; i < x->sandbox->n_members && r == 0; i++) {
		struct watched *w = find(x, &x->sandbox->members[i]);

		if (!w)
			r = add(x, &x->sandbox->members[i], &w, e);
		if (w)
			w->there = true;
		x->had_some |= w != NULL;
	}
	if (r == 0)
		r = forget_gone(x, e);
	for (struct watched *w = x->list; w && r == 0; w = w->next)
		r = look_at(x, w, e);
	x->tells = true;
	return r;
}

/* ---- statistics ---- */

static bool network_of(const struct watched *w, char *buf, size_t size)
{
	return proc_readlink(w->c->init_pid, "ns/net", buf, size) > 0;
}

/* Interfaces of a network namespace count once. */
static bool is_first_of_network(const struct watcher *x, const struct watched *w)
{
	char own[64], other[64];

	if (!network_of(w, own, sizeof(own)))
		return true;
	for (const struct watched *o = x->list; o != w; o = o->next)
		if (lives(o) && network_of(o, other, sizeof(other)) && !strcmp(own, other))
			return false;
	return true;
}

/* 1: it has none, because it ends just now. */
static int measure(struct watcher *x, struct watched *w, struct json_object *total, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ struct json_object *one = NULL;
	struct error ignored;
	int r;

	if (container_stats_json(w->c, &text, &ignored) < 0)
		return 1;
	r = tell(x, w, "stats", text, e);
	if (r < 0)
		return r;
	one = json_tokener_parse(text);
	if (!one)
		return error_set(e, -EBADMSG, ERROR_INTERNAL, "statistics of container %s", w->id);
	if (!is_first_of_network(x, w))
		json_object_object_del(one, "network_interfaces");
	total_add(total, one);
	return 0;
}

static int measure_all(struct watcher *x, unsigned *ret_n, struct error *e)
{
	_cleanup_json_ struct json_object *total = json_object_new_object();
	unsigned n = 0;
	int r = 0;

	for (struct watched *w = x->list; w && r >= 0; w = w->next) {
		if (!lives(w))
			continue;
		r = measure(x, w, total, e);
		n += r == 0;
	}
	*ret_n = n;
	if (r < 0 || n == 0)
		return MIN(r, 0);
	return tell(x, NULL, "total",
		json_object_to_json_string_ext(
			total, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE),
		e);
}

/* ---- */

static void watcher_done(struct watcher *x)
{
	while (x->list) {
		struct watched *w = x->list;

		x->list = w->next;
		watched_free(w);
	}
	sandbox_free(x->sandbox);
	close_p(&x->members);
	close_p(&x->signals);
}

static int open_watcher(struct watcher *x, struct error *e)
{
	sigset_t set;
	int r = sandbox_open(x->s->root, x->s->sandbox, &x->sandbox, e);

	if (r < 0)
		return r;
	sigemptyset(&set);
	sigaddset(&set, MEMBERS_SIGNAL);
	sigprocmask(SIG_BLOCK, &set, NULL);
	x->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	x->members = openat(
		x->sandbox->dir_fd, CONTAINER_MEMBERS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = x->signals < 0 || x->members < 0 ? -errno : notify(x->members);
	return r < 0 ? error_errno(e, r, "watch the sandbox %s", x->s->sandbox) : look(x, e);
}

int sandbox_statistics(const struct sandbox_events *s, struct error *e)
{
	_cleanup_(watcher_done) struct watcher x = {.s = s, .members = -EBADF, .signals = -EBADF};
	unsigned n = 0;
	int r = open_watcher(&x, e);

	if (r == 0)
		r = measure_all(&x, &n, e);
	if (r == 0 && n == 0)
		return error_set(
			e, -ESRCH, ERROR_STATE, "none of the containers of sandbox %s runs", s->sandbox);
	return r;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Until something happens, or statistics are due (next; 0: never). */
static int wait_for_change(struct watcher *x, int64_t next, struct error *e)
{
	size_t n = 1, max = 1;
	_cleanup_free_ struct pollfd *all = NULL;
	struct signalfd_siginfo si;
	int64_t wait = -1;

	for (const struct watched *w = x->list; w; w = w->next)
		max += 2;
	all = calloc(max, sizeof(*all));
	if (!all)
		return error_errno(e, -ENOMEM, "events");
	all[0] = (struct pollfd){.fd = x->signals, .events = POLLIN};
	for (const struct watched *w = x->list; w; w = w->next) {
		if (!lives(w))
			continue;
		all[n++] = (struct pollfd){.fd = w->pidfd, .events = POLLIN};
		all[n++] = (struct pollfd){.fd = w->oom.fd, .events = w->oom.events};
	}
	if (next)
		wait = MAX(MIN(next - now_ms(), INT32_MAX), (int64_t)0);
	if (x->busy)
		wait = next ? MIN(wait, (int64_t)BUSY_MS) : BUSY_MS;
	if (poll(all, n, (int)wait) < 0 && errno != EINTR)
		return error_errno(e, -errno, "poll");
	while (read(x->signals, &si, sizeof(si)) == sizeof(si))
		;
	return 0;
}

int sandbox_follow(const struct sandbox_events *s, struct error *e)
{
	_cleanup_(watcher_done) struct watcher x = {.s = s, .members = -EBADF, .signals = -EBADF};
	int64_t next = s->interval_ms ? now_ms() : 0;
	unsigned n;
	int r = open_watcher(&x, e);

	if (r == 0 && !x.had_some && !s->waits)
		return error_set(e, -ENOENT, ERROR_STATE, "sandbox %s has no containers", s->sandbox);
	while (r == 0 && (x.list || !x.had_some)) {
		if (next && now_ms() >= next) {
			next = MAX(next + s->interval_ms, now_ms());
			r = measure_all(&x, &n, e);
		}
		if (r == 0)
			r = wait_for_change(&x, next, e);
		if (r == 0)
			r = look(&x, e);
	}
	return r == 0 ? tell(&x, NULL, "end", NULL, e) : r;
}
