/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that one init offers and others want. All that comes is for them to make sense of: here are only keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "sandbox/session-priv.h"

enum { OFFER = 1, WANT = 2 };

struct request {
	uint32_t op;
	char key[SESSION_KEY];
};

static const struct offer *find(const struct session *s, const char *key)
{
	for (const struct offer *o = s->offers; o; o = o->next)
		if (!strcmp(o->key, key))
			return o;
	return NULL;
}

static int give(const struct participant *p, const struct offer *o)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct request answer = {};
	struct iovec data = {&answer, sizeof(answer)};
	struct msghdr m = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	memcpy(answer.key, o->key, sizeof(answer.key));
	control.align = (struct cmsghdr){
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
	memcpy(CMSG_DATA(&control.align), &o->fd, sizeof(o->fd));
	return sendmsg(p->exchange.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Who will never get what he waits for: nobody is left who could offer it. */
static void look_for_end(struct session *s)
{
	const struct participant *waits = NULL;
	struct error e;

	if (s->n < session_count(s) || s->failed)
		return;
	for (const struct participant *p = s->participants; p; p = p->next) {
		if (p->wanted[0])
			waits = p;
		else if (p->stage < MEETING_FILES)
			return;
	}
	if (!waits)
		return;
	error_set(&e, -EBADMSG, ERROR_CORRUPT, "nobody has \"%s\", which it shares with another container",
		waits->wanted);
	session_fail(s, waits, &e);
}

static int take_offer(struct session *s, const struct request *q, int fd)
{
	struct offer *o;

	if (fd < 0 || s->n_offers == SESSION_OFFERS_MAX || find(s, q->key))
		return -EINVAL;
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	memcpy(o->key, q->key, sizeof(o->key));
	o->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (o->fd < 0) {
		free(o);
		return -errno;
	}
	o->next = s->offers;
	s->offers = o;
	s->n_offers++;
	for (struct participant *p = s->participants; p; p = p->next) {
		if (strcmp(p->wanted, o->key) != 0)
			continue;
		p->wanted[0] = '\0';
		if (give(p, o) < 0)
			return -EPIPE;
	}
	return 0;
}

static int take_want(struct participant *p, const struct request *q)
{
	const struct offer *o = find(p->session, q->key);

	if (p->wanted[0])
		return -EINVAL;
	if (o)
		return give(p, o);
	memcpy(p->wanted, q->key, sizeof(p->wanted));
	look_for_end(p->session);
	return 0;
}

static ssize_t receive(int from, struct request *q, int *ret_fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct iovec data = {q, sizeof(*q)};
	struct msghdr m = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(from, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
		c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(c), sizeof(*ret_fd));
	return n < 0 ? -errno : n;
}

void exchange_ready(void *arg, uint32_t events)
{
	struct participant *p = arg;
	_cleanup_close_ int fd = -EBADF;
	struct request q;
	ssize_t n = receive(p->exchange.fd, &q, &fd);
	struct error e;
	int r = -EINVAL;

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) { /* init has all that it wants, or is gone: its restorer notices */
		loop_forget(p->session->supervisor->loop, &p->exchange);
		return;
	}
	if (n == sizeof(q) && !q.key[SESSION_KEY - 1] && q.key[0])
		r = q.op == OFFER  ? take_offer(p->session, &q, fd)
		    : q.op == WANT ? take_want(p, &q)
				   : -EINVAL;
	if (r >= 0)
		return;
	error_errno(&e, r, "what it shares with other containers does not make sense");
	session_fail(p->session, p, &e);
}

void exchange_forget(struct session *s)
{
	for (struct offer *o = s->offers, *next; o; o = next) {
		next = o->next;
		close_p(&o->fd);
		free(o);
	}
	s->offers = NULL;
	s->n_offers = 0;
}
