/* SPDX-License-Identifier: Apache-2.0 */
/* How containers come to the restore of their sandbox, and who waits for its end: JoinRestore, WaitRestore. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/session-priv.h"
#include "sandbox/supervisor-priv.h"

enum { DEADLINE_MAX_S = 86400 };

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

		if (container_id_check(name, NULL) < 0 || session_has(s, name))
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
		.deadline = {.due = session_too_late, .arg = s},
		.patience = {.due = session_out_of_patience, .arg = s}};
	r = s->image ? take_names(s, c, e) : error_errno(e, -ENOMEM, "restore");
	if (r == 0)
		r = share(s, e);
	s->given = r == 0 && session_has(s, CONTAINER_NAME_OF_ROOT) && has_own_first(of);
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

	if (!session_has(s, name)) {
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
		.line = {-EBADF, session_line_ready, p},
		.exchange = {-EBADF, exchange_ready, p},
		.remover = {-EBADF, session_removed, p}};
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
		session_participant_free(p);
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
	session_participant_free(p);
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
		if (!session_find(s, s->names[i]) &&
			!(s->given && !strcmp(s->names[i], CONTAINER_NAME_OF_ROOT)))
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
			session_end(s);
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
