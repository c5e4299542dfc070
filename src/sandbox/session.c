/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/session.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "linux/clone.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/session-priv.h"
#include "sandbox/supervisor-priv.h"

enum { PATIENCE_MS = 30000, DEADLINE_MAX_S = 86400 };

/* ---- who is there ---- */

size_t session_count(const struct session *s)
{
	return s->n_names - s->given;
}

static struct participant *find_name(const struct session *s, const char *name)
{
	for (struct participant *p = s->participants; p; p = p->next)
		if (!strcmp(p->name, name))
			return p;
	return NULL;
}

static bool in_image(const struct session *s, const char *name)
{
	for (size_t i = 0; i < s->n_names; i++)
		if (!strcmp(s->names[i], name))
			return true;
	return false;
}

void session_missing(const struct session *s, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < s->n_names && n < size; i++)
		if (!find_name(s, s->names[i]) && !(s->given && !strcmp(s->names[i], CONTAINER_NAME_OF_ROOT)))
			n += snprintf(buf + n, size - n, "%s%s", n ? ", " : "", s->names[i]);
}

static bool all_have(const struct session *s, uint32_t stage)
{
	for (const struct participant *p = s->participants; p; p = p->next)
		if (p->stage < stage)
			return false;
	return s->n == session_count(s);
}

/* ---- what they are told ---- */

static void tell(const struct participant *p, enum meeting_message_type type, const struct error *why)
{
	struct meeting_message m = {.type = type};

	if (why)
		m.error = *why;
	/* One that takes no messages is noticed by its end. */
	if (p->line.fd >= 0)
		(void)!send(p->line.fd, &m, why ? sizeof(m) : offsetof(struct meeting_message, error),
			MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void tell_all(const struct session *s, enum meeting_message_type type)
{
	for (const struct participant *p = s->participants; p; p = p->next)
		tell(p, type, NULL);
}

/* ---- its end ---- */

static void close_line(struct loop *l, struct loop_fd *w)
{
	int fd = w->fd;

	if (fd < 0)
		return;
	loop_forget(l, w);
	close(fd);
	w->fd = -EBADF;
}

static void participant_free(struct participant *p)
{
	struct loop *l = p->session->supervisor->loop;

	close_line(l, &p->line);
	close_line(l, &p->exchange);
	close_line(l, &p->remover);
	free(p->id);
	free(p->name);
	free(p);
}

/* Those who wait for it learn how it ended. */
static void answer_waiters(struct session *s)
{
	for (size_t i = 0; i < s->n_waiters; i++) {
		struct call *c = s->waiters[i];

		c->arg = NULL;
		if (s->failed)
			(void)call_failed(c, &s->why);
		else
			(void)call_reply(c, NULL, false);
	}
	s->n_waiters = 0;
}

/* For those who ask later. */
static void keep_failure(const struct session *s)
{
	struct supervisor *of = s->supervisor;

	free(of->restore_failure);
	of->restore_failure = s->failed ? calloc(1, sizeof(*of->restore_failure)) : NULL;
	if (of->restore_failure)
		*of->restore_failure = s->why;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	s->supervisor->session = NULL;
	keep_failure(s);
	answer_waiters(s);
	while (s->participants) {
		struct participant *p = s->participants;

		s->participants = p->next;
		participant_free(p);
	}
	exchange_forget(s);
	loop_clear_timer(s->supervisor->loop, &s->deadline);
	loop_clear_timer(s->supervisor->loop, &s->patience);
	if (s->shared)
		munmap(s->shared, sizeof(*s->shared));
	close_p(&s->shared_fd);
	for (size_t i = 0; i < s->n_names; i++)
		free(s->names[i]);
	free(s->names);
	free(s->image);
	free(s->waiters);
	free(s);
}

static void end(struct session *s)
{
	struct supervisor *of = s->supervisor;

	session_free(s);
	supervisor_release(of);
}

/* ---- failure ---- */

static void look_whether_all_are_gone(struct session *s)
{
	for (const struct participant *p = s->participants; p; p = p->next)
		if (!p->gone)
			return;
	tell_all(s, MEETING_ALL_GONE);
	end(s);
}

/* In a child: what a restorer that was killed has left. Only of a restore that had not come to its end. */
static _Noreturn void remove_left(const struct participant *p)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	const struct supervisor *s = p->session->supervisor;
	struct error e;
	sigset_t none;
	int r;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close_range(STDERR_FILENO + 1, ~0U, 0);
	r = container_load(s->root, p->id, true, &c, &e);
	if (r == 0 && (c->restoring || !c->init_pid))
		r = container_delete(c, true, &e);
	_exit(r < 0);
}

static void removed(void *arg, uint32_t events)
{
	struct participant *p = arg;

	close_line(p->session->supervisor->loop, &p->remover);
	p->gone = true;
	look_whether_all_are_gone(p->session);
}

static void remove_what_is_left(struct participant *p)
{
	int pidfd = -EBADF;
	pid_t pid;

	if (p->removing || p->gone)
		return;
	p->removing = true;
	pid = clone_fork(0, -EBADF, &pidfd);
	if (pid == 0)
		remove_left(p);
	if (pid < 0 || loop_watch(p->session->supervisor->loop, &p->remover, pidfd, EPOLLIN) < 0) {
		close_p(&pidfd);
		p->gone = true;
	}
}

static void out_of_patience(void *arg)
{
	struct session *s = arg;

	for (struct participant *p = s->participants; p; p = p->next)
		p->gone = true;
	look_whether_all_are_gone(s);
}

void session_fail(struct session *s, const struct participant *by, const struct error *why)
{
	uint32_t open = MEETING_OPEN;

	if (s->failed)
		return;
	(void)__atomic_compare_exchange_n(
		&s->shared->verdict, &open, MEETING_LOST, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	s->failed = true;
	s->why = *why;
	if (by)
		error_prefix(&s->why, "the restore of the sandbox has failed: container \"%s\"", by->name);
	loop_clear_timer(s->supervisor->loop, &s->deadline);
	loop_set_timer(s->supervisor->loop, &s->patience, PATIENCE_MS);
	for (struct participant *p = s->participants; p; p = p->next) {
		if (p != by)
			tell(p, MEETING_FAILED, &s->why);
		close_line(s->supervisor->loop, &p->exchange);
	}
	exchange_forget(s);
}

static void too_late(void *arg)
{
	struct session *s = arg;
	char missing[600];
	struct error e;

	session_missing(s, missing, sizeof(missing));
	error_set(&e, -ETIMEDOUT, ERROR_STATE,
		"the restore of the sandbox was given up: after %u s these containers of the image are "
		"missing: %s",
		s->deadline_s, missing);
	session_fail(s, NULL, &e);
}

/* ---- what they say ---- */

static void comes_to(struct participant *p, uint32_t stage);

/* Its restorer is dead, or has done all that it had to. */
static void line_ends(struct participant *p)
{
	struct session *s = p->session;
	struct error e;

	close_line(s->supervisor->loop, &p->line);
	if (s->succeeded) {
		comes_to(p, MEETING_SETTLED);
		return;
	}
	error_set(&e, -ECONNRESET, ERROR_SYSTEM, "the process that restored it was killed");
	session_fail(s, p, &e);
	if (!p->gone)
		remove_what_is_left(p);
	look_whether_all_are_gone(s);
}

static void succeed(struct session *s)
{
	uint32_t open = MEETING_OPEN;

	if (!__atomic_compare_exchange_n(
		    &s->shared->verdict, &open, MEETING_SUCCEEDED, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return; /* somebody has failed: he says so, or ends */
	s->succeeded = true;
	tell_all(s, MEETING_ALL_RUN);
}

static void comes_to(struct participant *p, uint32_t stage)
{
	struct session *s = p->session;

	if (s->failed || stage <= p->stage)
		return;
	p->stage = stage;
	if (!all_have(s, stage))
		return;
	switch (stage) {
	case MEETING_HERE:
		loop_clear_timer(s->supervisor->loop, &s->deadline);
		tell_all(s, MEETING_ALL_HERE);
		break;
	case MEETING_FILES: /* prepared: from here on each is on its own */
		tell_all(s, MEETING_ALL_FILES);
		end(s);
		break;
	case MEETING_BUILT:
		exchange_forget(s);
		tell_all(s, MEETING_ALL_BUILT);
		break;
	case MEETING_RUNS:
		succeed(s);
		break;
	case MEETING_SETTLED:
		tell_all(s, MEETING_ALL_SETTLED);
		end(s);
		break;
	}
}

static void says(struct participant *p, struct meeting_message *m, size_t len)
{
	struct session *s = p->session;

	switch (m->type) {
	case MEETING_HERE:
	case MEETING_FILES:
	case MEETING_BUILT:
	case MEETING_RUNS:
	case MEETING_SETTLED:
		comes_to(p, m->type);
		break;
	case MEETING_FAILED:
		if (len != sizeof(*m) || m->error.code >= 0)
			error_set(&m->error, -EIO, ERROR_INTERNAL, "it has failed and does not say why");
		m->error.message[sizeof(m->error.message) - 1] = '\0';
		session_fail(s, p, &m->error);
		break;
	case MEETING_GONE:
		p->gone = true;
		look_whether_all_are_gone(s);
		break;
	}
}

static void line_ready(void *arg, uint32_t events)
{
	struct participant *p = arg;
	struct meeting_message m = {0};
	ssize_t n = recv(p->line.fd, &m, sizeof(m), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < (ssize_t)sizeof(m.type))
		line_ends(p);
	else
		says(p, &m, n);
}

/* ---- JoinRestore ---- */

static int share(struct session *s, struct error *e)
{
	s->shared_fd = memfd_create("restore", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (s->shared_fd < 0 || ftruncate(s->shared_fd, sizeof(*s->shared)) < 0 ||
		fcntl(s->shared_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return error_errno(e, -errno, "memory of a restore");
	s->shared = mmap(NULL, sizeof(*s->shared), PROT_READ | PROT_WRITE, MAP_SHARED, s->shared_fd, 0);
	if (s->shared == MAP_FAILED)
		s->shared = NULL;
	return s->shared ? 0 : error_errno(e, -ENOMEM, "memory of a restore");
}

static int take_names(struct session *s, struct call *c, struct error *e)
{
	struct json_object *names = call_parameter(c, "names");
	size_t n = json_object_array_length(names);

	if (n == 0 || n > SESSION_NAMES_MAX)
		return call_invalid(c, "names", e, "names of containers are needed, each once");
	s->names = calloc(n, sizeof(*s->names));
	for (size_t i = 0; i < n && s->names; i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(names, i));

		if (container_id_check(name, NULL) < 0 || in_image(s, name))
			return call_invalid(c, "names", e, "names of containers are needed, each once");
		s->names[i] = strdup(name);
		if (!s->names[i])
			return error_errno(e, -ENOMEM, "restore");
		s->n_names = i + 1;
	}
	return s->names ? 0 : error_errno(e, -ENOMEM, "restore");
}

/* The new environment may have a first container of its own; the image's is not wanted then. */
static bool has_own_first(struct supervisor *s)
{
	for (struct member *m = s->members; m; m = m->next)
		if (!strcmp(m->name, CONTAINER_NAME_OF_ROOT) && m->c && !m->c->restoring &&
			member_status(m) != CONTAINER_STOPPED)
			return true;
	return false;
}

static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)!setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int begin(struct supervisor *of, struct call *c, struct session **ret, struct error *e)
{
	struct session *s = calloc(1, sizeof(*s));
	const char *image = call_string(c, "image");
	int64_t deadline = call_int(c, "deadline", 0);
	int r;

	if (!s)
		return error_errno(e, -ENOMEM, "restore");
	*s = (struct session){.supervisor = of,
		.image = strdup(image),
		.prepare = call_bool(c, "prepare"),
		.deadline_s = (unsigned)MAX(MIN(deadline, (int64_t)DEADLINE_MAX_S), (int64_t)1),
		.shared_fd = -EBADF,
		.deadline = {.due = too_late, .arg = s},
		.patience = {.due = out_of_patience, .arg = s}};
	r = s->image ? take_names(s, c, e) : error_errno(e, -ENOMEM, "restore");
	if (r == 0)
		r = share(s, e);
	s->given = r == 0 && in_image(s, CONTAINER_NAME_OF_ROOT) && has_own_first(of);
	if (r == 0 && session_count(s) == 0)
		r = error_set(e, -EINVAL, ERROR_STATE,
			"there is nothing in the image that the sandbox has not got");
	if (r < 0) {
		session_free(s);
		return r;
	}
	raise_limit();
	of->session = s;
	supervisor_hold(of);
	loop_set_timer(of->loop, &s->deadline, s->deadline_s * INT64_C(1000));
	*ret = s;
	return 0;
}

static int check_name(const struct session *s, const char *name, const char *id, struct error *e)
{
	char names[600] = "";
	size_t n = 0;

	if (!in_image(s, name)) {
		for (size_t i = 0; i < s->n_names && n < sizeof(names); i++)
			n += snprintf(names + n, sizeof(names) - n, "%s%s", i ? ", " : "", s->names[i]);
		return error_set(e, -ENOENT, ERROR_USAGE,
			"the image has no container \"%s\": there are %s (--container-name says which one)",
			name, names);
	}
	for (const struct participant *p = s->participants; p; p = p->next) {
		if (!strcmp(p->name, name))
			return error_set(e, -EEXIST, ERROR_STATE,
				"the name \"%s\" is used twice: container %s has been registered with it",
				name, p->id);
		if (!strcmp(p->id, id))
			return error_set(e, -EEXIST, ERROR_STATE,
				"the id %s is used twice: it has been registered for \"%s\"", id, p->name);
	}
	/* One that has stopped keeps its name until it is deleted, and its successor has it too. */
	for (struct member *m = s->supervisor->members; m; m = m->next)
		if (!strcmp(m->name, name) && member_status(m) != CONTAINER_STOPPED)
			return error_set(e, -EEXIST, ERROR_STATE,
				"the sandbox has a container with the name \"%s\" already: %s", name, m->id);
	return 0;
}

static int check_session(const struct session *s, const struct call *c, struct error *e)
{
	if (s->failed || s->succeeded)
		return error_set(e, -EBUSY, ERROR_STATE,
			"a restore of the sandbox is just coming to its end: try again");
	if (strcmp(s->image, call_string(c, "image")) != 0)
		return error_set(e, -EBUSY, ERROR_STATE, "the sandbox is being restored from another image");
	if (s->prepare != call_bool(c, "prepare"))
		return error_set(e, -EINVAL, ERROR_USAGE,
			"the containers of a sandbox are restored either all with --prepare, or none");
	return 0;
}

static int check_id(const struct supervisor *s, const char *id, struct error *e)
{
	_cleanup_close_ int root = open(s->root, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (container_id_check(id, e) < 0)
		return e->code;
	if (root >= 0 && faccessat(root, id, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return error_set(e, -EEXIST, ERROR_STATE, "container with given ID already exists: %s", id);
	return 0;
}

static int add(struct session *s, struct call *c, struct error *e)
{
	struct participant *p = calloc(1, sizeof(*p));
	struct loop *l = s->supervisor->loop;
	int r = 0;

	if (!p)
		return error_errno(e, -ENOMEM, "restore");
	*p = (struct participant){.session = s,
		.id = strdup(call_string(c, "id")),
		.name = strdup(call_string(c, "name")),
		.line = {-EBADF, line_ready, p},
		.exchange = {-EBADF, exchange_ready, p},
		.remover = {-EBADF, removed, p}};
	if (!p->id || !p->name)
		r = -ENOMEM;
	if (r == 0)
		r = loop_watch(l, &p->line, c->fds[0], EPOLLIN);
	if (r == 0)
		c->fds[0] = -EBADF;
	if (r == 0)
		r = loop_watch(l, &p->exchange, c->fds[1], EPOLLIN);
	if (r == 0)
		c->fds[1] = -EBADF;
	if (r < 0) {
		participant_free(p);
		return error_errno(e, r, "register a container for a restore");
	}
	p->next = s->participants;
	s->participants = p;
	s->n++;
	return 0;
}

/* The first thing that comes on its line is the memory that all share. */
static int welcome(struct session *s, struct error *e)
{
	struct participant *p = s->participants;
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	uint32_t type = 0;
	struct iovec data = {&type, sizeof(type)};
	struct msghdr m = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	control.align = (struct cmsghdr){
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(&control.align), &s->shared_fd, sizeof(int));
	if (sendmsg(p->line.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return 0;
	error_errno(e, -errno, "register a container for a restore");
	s->participants = p->next;
	s->n--;
	participant_free(p);
	return e->code;
}

static void tell_progress(const struct session *s)
{
	for (size_t i = 0; i < s->n_waiters; i++) {
		struct json_object *o = json_object_new_object();

		if (!s->waiters[i]->more) {
			json_object_put(o);
			continue;
		}
		json_object_object_add(o, "place", json_object_new_int64((int64_t)s->n));
		json_object_object_add(o, "count", json_object_new_int64((int64_t)session_count(s)));
		(void)call_reply(s->waiters[i], o, true);
	}
}

static int reply_place(const struct session *s, struct call *c)
{
	struct json_object *o = json_object_new_object(), *missing = json_object_new_array();

	for (size_t i = 0; i < s->n_names; i++)
		if (!find_name(s, s->names[i]) && !(s->given && !strcmp(s->names[i], CONTAINER_NAME_OF_ROOT)))
			json_object_array_add(missing, json_object_new_string(s->names[i]));
	json_object_object_add(o, "place", json_object_new_int64((int64_t)s->n));
	json_object_object_add(o, "count", json_object_new_int64((int64_t)session_count(s)));
	json_object_object_add(o, "missing", missing);
	return call_reply(c, o, false);
}

static int join_restore(struct call *c, struct error *e)
{
	struct supervisor *of = c->supervisor;
	struct session *s = of->session;
	bool first = !s;
	int r;

	if (c->n_fds != 2)
		return call_bad_fds(c, e, "two sockets are needed: %d descriptors came", c->n_fds);
	members_look(of);
	r = check_id(of, call_string(c, "id"), e);
	if (r == 0)
		r = first ? begin(of, c, &s, e) : check_session(s, c, e);
	if (r == 0) {
		r = check_name(s, call_string(c, "name"), call_string(c, "id"), e);
		if (r == 0)
			r = add(s, c, e);
		if (r == 0)
			r = welcome(s, e);
		if (r < 0 && first)
			end(s);
	}
	if (r < 0)
		return r;
	log_info("restore of the sandbox %s: container %zu of %zu (%s)", of->id, s->n, session_count(s),
		call_string(c, "name"));
	tell_progress(s);
	return reply_place(s, c);
}

/* ---- WaitRestore ---- */

static void wait_cancelled(struct call *c, void *arg)
{
	struct session *s = arg;

	for (size_t i = 0; s && i < s->n_waiters; i++)
		if (s->waiters[i] == c) {
			s->waiters[i] = s->waiters[--s->n_waiters];
			return;
		}
}

static int wait_restore(struct call *c, struct error *e)
{
	struct session *s = c->supervisor->session;
	struct call **more;

	if (!s && c->supervisor->restore_failure) {
		*e = *c->supervisor->restore_failure;
		return e->code;
	}
	if (!s)
		return call_reply(c, NULL, false);
	more = reallocarray(s->waiters, s->n_waiters + 1, sizeof(*more));
	if (!more)
		return error_errno(e, -ENOMEM, "wait");
	s->waiters = more;
	s->waiters[s->n_waiters++] = c;
	c->cancelled = wait_cancelled;
	c->arg = s;
	return CALL_LATER;
}

const struct method restore_methods[] = {
	{SANDBOX_INTERFACE, "JoinRestore", join_restore},
	{SANDBOX_INTERFACE, "WaitRestore", wait_restore},
	{},
};
