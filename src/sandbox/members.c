/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is in the sandbox. Signals say when members/ or a state directory of a member changes (F_NOTIFY, fcntl(2); not inotify, of
 * whose instances a user has 128, and a host more sandboxes). What it says is only that there is something to look at: the truth
 * is on disk, and whoever asks for a member gets what is there now (supervisor_find()), for the price of one fstatat(2).
 */
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/log.h"
#include "linux/procfd.h"
#include "sandbox/application.h"
#include "sandbox/sandbox.h"
#include "sandbox/supervisor-priv.h"
#include "sandbox/varlink.h"

static void init_ended(struct process *p, void *arg)
{
	exit_save(arg, (struct member *)((char *)p - offsetof(struct member, process)));
}

/* The process is known from now on. Who ended before we came has left his status, if another supervisor saw it. */
static void watch_init(struct supervisor *s, struct member *m)
{
	struct process *p = &m->process;
	int r;

	*p = (struct process){.pidfd = {.fd = -EBADF}, .pid = m->c->init_pid};
	if (!p->pid)
		return;
	r = process_watch(p, s->loop, m->c->init_pid, m->c->init_start_time);
	p->ended = init_ended;
	p->arg = s;
	if (r < 0)
		log_warning("container %s: %s", m->id, error_text(r).s);
	if (r == 1) {
		p->exited = true;
		(void)exit_load(s, m);
	} else {
		process_look(p);
	}
}

static void forget_state(struct member *m)
{
	container_free(take_ptr(m->c));
	json_object_put(take_ptr(m->about));
	m->started = false;
}

static bool stamp(int dir_fd, const char *path, struct stat_stamp *ret)
{
	struct stat st;

	*ret = (struct stat_stamp){};
	if (fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	*ret = (struct stat_stamp){st.st_ino, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
	return true;
}

/* As long as the descriptor is open. Signals that are waiting already are not sent again. */
static int watch(int dir_fd, int sig)
{
	return fcntl(dir_fd, F_SETSIG, sig) < 0 ||
			       fcntl(dir_fd, F_NOTIFY, DN_CREATE | DN_DELETE | DN_RENAME | DN_MULTISHOT) < 0
		       ? -errno
		       : 0;
}

/* state.json as it is now. Without one the container is still being made (or was never). The stamp is older than what is read:
 * what changes meanwhile is read next time. */
static int load(struct supervisor *s, struct member *m, struct error *e)
{
	struct process old = m->process;
	struct stat_stamp before;
	struct container *c;
	char path[PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%s/%s/state.json", s->root, m->id);
	(void)stamp(AT_FDCWD, path, &before);
	r = container_load(s->root, m->id, false, &c, e);
	if (r < 0)
		return r;
	forget_state(m);
	m->c = c;
	m->state = before;
	r = watch(c->dir_fd, MEMBERS_STATE_SIGNAL);
	if (r < 0)
		log_warning("container %s: its changes go unnoticed: %s", m->id, error_text(r).s);
	application_serve(s, m);
	if (c->init_pid == old.pid && c->init_start_time == old.start_time && old.loop)
		return 0;
	process_look(&m->process); /* who waits for it hears how it ended */
	process_done(&m->process);
	watch_init(s, m);
	return 0;
}

/* Whether that is still so, without reading it. While it is made the file is replaced several times within one tick of the clock, and
 * an inode number may come again. */
static int refresh(struct supervisor *s, struct member *m, struct error *e)
{
	struct stat_stamp now;

	if (m->c && m->c->init_pid && stamp(m->c->dir_fd, "state.json", &now) &&
		!memcmp(&now, &m->state, sizeof(now))) {
		if (!m->c->mountinfo && faccessat(m->c->dir_fd, "mountinfo", F_OK, 0) == 0)
			m->c->mountinfo = strdup("");
		return 0;
	}
	return load(s, m, e);
}

enum container_status member_status(struct member *m)
{
	enum container_status status;

	if (!m->c || !m->process.pid || m->process.exited)
		return CONTAINER_STOPPED;
	process_look(&m->process);
	if (m->process.exited)
		return CONTAINER_STOPPED;
	if (m->started)
		return cgroup_is_frozen(&m->c->cgroup) > 0 ? CONTAINER_PAUSED : CONTAINER_RUNNING;
	status = container_status(m->c);
	m->started = status == CONTAINER_RUNNING;
	return status;
}

/* ---- members come and go ---- */

struct member *supervisor_member(const struct supervisor *s, const char *id)
{
	struct member *m = s->members;

	while (m && strcmp(m->id, id) != 0)
		m = m->next;
	return m;
}

static void forget_processes_of(struct supervisor *s, const char *id)
{
	for (struct process **p = &s->others; *p;) {
		struct process *old = *p;

		if (strcmp(old->id, id) != 0) {
			p = &old->next;
			continue;
		}
		*p = old->next;
		process_done(old);
		free(old);
	}
}

static void member_free(struct supervisor *s, struct member *m)
{
	process_done(&m->process);
	application_free(m->application);
	forget_state(m);
	free(m->id);
	free(m->name);
	free(m);
}

static void remove_member(struct supervisor *s, struct member **at)
{
	struct member *m = *at;

	*at = m->next;
	forget_processes_of(s, m->id);
	process_look(&m->process); /* who waits for it hears how it ended */
	process_done(&m->process);
	m->process = (struct process){.pidfd = {.fd = -EBADF}};
	exit_forget(s, m->id);
	member_free(s, m);
}

static void add_member(struct supervisor *s, const struct sandbox_member *from)
{
	struct member *m = calloc(1, sizeof(*m)), **end = &s->members;
	struct error e;

	if (!m)
		return;
	m->process.pidfd.fd = -EBADF;
	m->id = strdup(from->id);
	m->name = strdup(from->name);
	if (!m->id || !m->name) {
		member_free(s, m);
		return;
	}
	while (*end)
		end = &(*end)->next;
	*end = m;
	/* twice, as it may have changed before it was watched */
	if (load(s, m, &e) < 0 || refresh(s, m, &e) < 0)
		log_debug("%s", e.message);
}

void members_scan(struct supervisor *s)
{
	_cleanup_(sandbox_free_p) struct sandbox *b = NULL;
	struct error e;

	if (sandbox_open(s->root, s->id, &b, &e) < 0) {
		log_debug("%s", e.message);
		if (e.code != -ENOENT)
			return;
	}
	for (struct member **p = &s->members; *p;) {
		bool there = false;

		for (size_t i = 0; b && i < b->n_members; i++)
			there |= !strcmp(b->members[i].id, (*p)->id) &&
				 !strcmp(b->members[i].name, (*p)->name);
		if (there)
			p = &(*p)->next;
		else
			remove_member(s, p);
	}
	for (size_t i = 0; b && i < b->n_members; i++) {
		if (!supervisor_member(s, b->members[i].id))
			add_member(s, &b->members[i]);
	}
}

/* Of several with a name at most one has not stopped. */
static struct member *find_named(const struct supervisor *s, const char *name)
{
	struct member *found = NULL;

	for (struct member *m = s->members; m; m = m->next)
		if (!strcmp(m->name, name) && (!found || member_status(found) == CONTAINER_STOPPED))
			found = m;
	return found;
}

int supervisor_find(struct supervisor *s, const char *id, struct member **ret, struct error *e)
{
	struct member *m = supervisor_member(s, id);
	int r;

	if (!m) { /* it may have come just now */
		members_look(s);
		m = supervisor_member(s, id);
	}
	if (!m)
		m = find_named(s, id);
	if (!m)
		return error_set(
			e, -ENOENT, ERROR_STATE, "container does not exist in the sandbox %s: %s", s->id, id);
	r = refresh(s, m, e);
	if (r == 0)
		*ret = m;
	return r;
}

/* ---- changes ---- */

void members_changed(struct supervisor *s, int sig)
{
	struct error e;

	if (sig == MEMBERS_SIGNAL) {
		members_scan(s);
		malloc_trim(0);
		return;
	}
	for (struct member *m = s->members; m; m = m->next)
		if (refresh(s, m, &e) < 0)
			log_debug("%s", e.message);
}

void members_look(struct supervisor *s)
{
	const struct timespec now = {0};
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, MEMBERS_SIGNAL);
	sigaddset(&set, MEMBERS_STATE_SIGNAL);
	while ((sig = sigtimedwait(&set, NULL, &now)) > 0)
		members_changed(s, sig);
}

int members_watch(struct supervisor *s, struct error *e)
{
	int r;

	if (mkdirat(s->dir_fd, CONTAINER_MEMBERS, 0700) < 0 && errno != EEXIST)
		return error_errno(e, -errno, "members of the sandbox %s", s->id);
	s->members_fd = openat(s->dir_fd, CONTAINER_MEMBERS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	r = s->members_fd < 0 ? -errno : watch(s->members_fd, MEMBERS_SIGNAL);
	if (r < 0)
		return error_errno(e, r, "watch the members of the sandbox %s", s->id);
	members_scan(s);
	malloc_trim(0);
	return 0;
}

void members_done(struct supervisor *s)
{
	while (s->members) {
		struct member *m = s->members;

		s->members = m->next;
		member_free(s, m);
	}
	close_p(&s->members_fd);
}
