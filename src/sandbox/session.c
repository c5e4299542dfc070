/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/session.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "linux/clone.h"
#include "sandbox/session-priv.h"

enum { PATIENCE_MS = 30000 };

/* ---- who is there ---- */

size_t session_count(const struct session *s)
{
	return s->n_names - s->given;
}

struct participant *session_find(const struct session *s, const char *name)
{
	for (struct participant *p = s->participants; p; p = p->next)
		if (!strcmp(p->name, name))
			return p;
	return NULL;
}

bool session_has(const struct session *s, const char *name)
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
		if (!session_find(s, s->names[i]) &&
			!(s->given && !strcmp(s->names[i], CONTAINER_NAME_OF_ROOT)))
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

void session_participant_free(struct participant *p)
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
		session_participant_free(p);
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

void session_end(struct session *s)
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
	session_end(s);
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

void session_removed(void *arg, uint32_t events)
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

void session_out_of_patience(void *arg)
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

void session_too_late(void *arg)
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
		session_end(s);
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
		session_end(s);
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

void session_line_ready(void *arg, uint32_t events)
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
