/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix sockets whose peer is made in another container that is restored beside this one. Each end records what waits in it, and
 * fills its own queue by a descriptor of the other end. What was connected by name is connected again: by the client's
 * container, so that both ends see the credentials that they saw. Accepted connections are made one after another, in the order of
 * their keys, which is the same in all containers: so nobody waits in a circle. So are those of clients that wait to be accepted, in the
 * order in which they came.
 */
#include "checkpoint/native/res/unix-restore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/exchange.h"
#include "checkpoint/native/restore-nested.h"

enum { NAME_TEXT = 32 };

static bool is_pair(const struct sock *s)
{
	return unix_is_foreign(s) && s->m->shared_pair;
}

static bool is_owner(const struct sock *s)
{
	return s->m->shared_peer->owner;
}

/* Both ends of a pair, by who made it. */
int unix_offer_pair(struct unix_restore *u, struct sock *s, struct error *e)
{
	struct deed k = {.call = CALL_PAIR, .a = s->fd, .type = s->m->type};
	int r;

	if (!is_pair(s) || !is_owner(s))
		return 0;
	r = unix_reserve_number(u, &s->foreign, e);
	k.b = s->foreign;
	s->replaced = true;
	if (r == 0)
		r = unix_perform(u, s->m->credentials, &k, "make a pair of unix sockets", e);
	if (r == 0)
		r = restore_offer(u->r, s->m->shared_peer->key, "b", s->foreign, e);
	return r < 0 ? r : restore_offer(u->r, s->m->shared_peer->key, "a", s->fd, e);
}

int unix_take_pair(struct unix_restore *u, struct sock *s, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!is_pair(s) || is_owner(s))
		return 0;
	r = restore_want(u->r, s->m->shared_peer->key, "b", &fd, e);
	if (r < 0)
		return r;
	s->replaced = true;
	return dup3(fd, s->fd, O_CLOEXEC) < 0 ? error_errno(e, -errno, "one of a pair of unix sockets") : 0;
}

int unix_fetch_pair(struct unix_restore *u, struct sock *s, struct error *e)
{
	if (!is_pair(s) || is_owner(s))
		return 0;
	return restore_want(u->r, s->m->shared_peer->key, "a", &s->foreign, e);
}

/* What a name leads to, for those who can not see where it is; without a path the socket itself says that it is there. */
static int offer_place(
	struct unix_restore *u, const struct sock *s, const char *key, const char *part, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;

	if (s->dir < 0)
		return restore_offer(u->r, key, part, s->fd, e);
	fd = openat(s->dir, s->leaf, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? error_errno(e, -errno, "the file %s of a unix socket", s->leaf)
		      : restore_offer(u->r, key, part, fd, e);
}

int unix_offer_name(struct unix_restore *u, struct sock *s, struct error *e)
{
	int r;

	if (!*s->m->offered || u->r->exchange_fd < 0)
		return 0;
	r = offer_place(u, s, s->m->offered, "n", e);
	return r < 0 ? r : restore_offer(u->r, s->m->offered, "s", s->fd, e);
}

/* To a socket that "place" is the file of, or (abstract) of the name in the record. */
static int connect_foreign(
	struct unix_restore *u, struct sock *s, int place, const St__SocketCredentials *c, struct error *e)
{
	struct deed k = {.call = CALL_CONNECT, .a = s->fd, .dir = -EBADF};
	struct sockaddr_un *a = (struct sockaddr_un *)&k.address;
	char path[sizeof(struct sockaddr_un)];
	int r;

	if (unix_path_of(&s->m->remote, path)) {
		a->sun_family = AF_UNIX;
		snprintf(a->sun_path, NAME_TEXT, "self/fd/%d", place);
		k.len = offsetof(struct sockaddr_un, sun_path) + strlen(a->sun_path) + 1;
		k.dir = u->r->proc_fd;
	} else if (!socket_address(&s->m->remote, AF_UNIX, &k.address, &k.len)) {
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "connection to a unix socket without a name");
	}
	r = unix_perform(u, c, &k, "connect to a unix socket of another container", e);
	return r < 0 ? error_prefix(e, "%s",
			       s->m->shared_peer ? s->m->shared_peer->with
			       : s->m->waits_at	 ? s->m->waits_at->with
						 : s->m->target)
		     : 0;
}

int unix_connect_target(struct unix_restore *u, struct sock *s, struct error *e)
{
	_cleanup_close_ int place = -EBADF;
	int r = restore_want(u->r, s->m->target, "n", &place, e);

	return r < 0 ? r : connect_foreign(u, s, place, NULL, e);
}

int unix_sender(struct unix_restore *u, const St__SocketMessage *message, int *ret_fd, struct error *e)
{
	return restore_want(u->r, message->sender, "s", ret_fd, e);
}

static int accept_on(struct sock *s, const struct sock *listener, struct error *e)
{
	_cleanup_close_ int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0 || dup3(fd, s->fd, O_CLOEXEC) < 0)
		return error_errno(e, -errno, "accept a unix socket of another container");
	s->replaced = true;
	return 0;
}

static int serve(struct unix_restore *u, struct sock *s, struct error *e)
{
	struct sock temporary = {.file = s->file, .m = s->m, .fd = -EBADF, .other = -EBADF, .dir = -EBADF},
		    *listener = unix_find_sock(u, s->m->listener);
	const char *key = s->m->shared_peer->key;
	int r = 0;

	if (!listener) {
		listener = &temporary;
		r = unix_temporary_listener(u, &temporary, s->m->credentials, e);
	}
	if (r == 0)
		r = offer_place(u, listener, key, "l", e);
	if (r == 0)
		r = restore_want(u->r, key, "c", &s->foreign, e);
	if (r == 0)
		r = accept_on(s, listener, e);
	unix_drop(&temporary);
	return r < 0 ? r : restore_offer(u->r, key, "s", s->fd, e);
}

static int dial(struct unix_restore *u, struct sock *s, struct error *e)
{
	const char *key = s->m->shared_peer->key;
	_cleanup_close_ int place = -EBADF;
	int r = restore_want(u->r, key, "l", &place, e);

	if (r == 0)
		r = connect_foreign(u, s, place, s->m->credentials, e);
	if (r == 0)
		r = restore_offer(u->r, key, "c", s->fd, e);
	return r < 0 ? r : restore_want(u->r, key, "s", &s->foreign, e);
}

static int by_key(const void *a, const void *b)
{
	const struct sock *const *x = a, *const *y = b;

	return strcmp((*x)->m->shared_peer->key, (*y)->m->shared_peer->key);
}

int unix_join(struct unix_restore *u, struct error *e)
{
	struct sock **list = arena_array(&u->r->arena, u->n, sizeof(*list));
	size_t n = 0;
	int r = 0;

	if (!list)
		return error_errno(e, -ENOMEM, "unix sockets");
	for (size_t i = 0; i < u->n; i++)
		if (unix_is_foreign(&u->socks[i]) && !u->socks[i].m->shared_pair)
			list[n++] = &u->socks[i];
	if (n)
		qsort(list, n, sizeof(*list), by_key);
	for (size_t i = 0; i < n && r == 0; i++) {
		r = restore_enter_network(u->r, list[i]->file->net_namespace, e);
		if (r == 0)
			r = is_owner(list[i]) ? serve(u, list[i], e) : dial(u, list[i], e);
	}
	return r;
}

/* ---- clients that wait to be accepted ---- */

struct arrival {
	const char *key;
	struct sock *listener, *client; /* NULL: another container's */
	size_t place;			/* in the backlog of the listener */
};

static int connect_arrival(struct unix_restore *u, struct sock *s, int place, struct error *e)
{
	struct timeval limit = {.tv_sec = 5}, none = {};
	int r;

	/* As in unix_connect_to(). */
	setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	r = connect_foreign(u, s, place, s->m->credentials, e);
	setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	return r;
}

static int receive(struct unix_restore *u, const struct arrival *a, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (a->client) {
		r = unix_connect_to(u, a->client->fd, a->listener, a->client->m->credentials, e);
		return r < 0 ? r : unix_send_arrival(u, a->listener, a->place, a->client->fd, e);
	}
	r = offer_place(u, a->listener, a->key, "l", e);
	if (r == 0)
		r = restore_want(u->r, a->key, "c", &fd, e);
	if (r == 0)
		r = unix_send_arrival(u, a->listener, a->place, fd, e);
	return r < 0 ? r : restore_offer(u->r, a->key, "f", u->cwd, e);
}

static int arrive(struct unix_restore *u, const struct arrival *a, struct error *e)
{
	const struct sock *own = a->client ? a->client : a->listener;
	_cleanup_close_ int fd = -EBADF, sent = -EBADF;
	int r = restore_enter_network(u->r, own->file->net_namespace, e);

	if (r == 0 && a->listener)
		r = unix_prepare_arrival(a->listener, a->place, e);
	if (r < 0)
		return r;
	if (a->listener && unix_is_gone(a->listener, a->place))
		return unix_send_for_gone(u, a->listener, a->place, e);
	if (a->listener)
		return receive(u, a, e);
	r = restore_want(u->r, a->key, "l", &fd, e);
	if (r == 0)
		r = connect_arrival(u, a->client, fd, e);
	if (r == 0)
		r = restore_offer(u->r, a->key, "c", a->client->fd, e);
	/* What is shut down takes no more. */
	return r < 0 ? r : restore_want(u->r, a->key, "f", &sent, e);
}

static int add_waiting(
	struct unix_restore *u, struct sock *s, struct arrival *list, size_t *n, struct error *e)
{
	if (s->m->n_waiting_keys != s->m->n_waiting)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "keys of a backlog");
	for (size_t i = 0; i < s->m->n_waiting; i++) {
		struct sock *client = unix_find_sock(u, s->m->waiting[i]);

		if (s->m->waiting[i] && !client)
			return error_set(e, -EBADMSG, ERROR_CORRUPT, "unknown socket in a backlog");
		list[(*n)++] = (struct arrival){s->m->waiting_keys[i], s, client, i};
	}
	return 0;
}

static int arrivals_by_key(const void *a, const void *b)
{
	const struct arrival *x = a, *y = b;

	return strcmp(x->key, y->key);
}

int unix_join_waiting(struct unix_restore *u, struct error *e)
{
	size_t n = 0, max = 0;
	struct arrival *list;
	int r = 0;

	for (size_t i = 0; i < u->n; i++)
		max += u->socks[i].m->n_waiting_keys ? u->socks[i].m->n_waiting
						     : u->socks[i].m->waits_at != NULL;
	if (max == 0)
		return 0;
	list = arena_array(&u->r->arena, max, sizeof(*list));
	if (!list)
		return error_errno(e, -ENOMEM, "unix sockets");
	for (size_t i = 0; i < u->n && r == 0; i++) {
		struct sock *s = &u->socks[i];

		if (s->m->n_waiting_keys)
			r = add_waiting(u, s, list, &n, e);
		else if (s->m->waits_at)
			list[n++] = (struct arrival){s->m->waits_at->key, NULL, s, 0};
	}
	qsort(list, n, sizeof(*list), arrivals_by_key);
	for (size_t i = 0; i < n && r == 0; i++)
		r = arrive(u, &list[i], e);
	return r;
}

/* What is shut down takes no more: the other container has to have filled its end before. */
static const char *part(const struct sock *s, bool own)
{
	return is_owner(s) == own ? "full-a" : "full-b";
}

int unix_tell_filled(struct unix_restore *u, struct sock *s, struct error *e)
{
	if (!unix_is_foreign(s) || !s->m->shutdown)
		return 0;
	return restore_offer(u->r, s->m->shared_peer->key, part(s, true), u->cwd, e);
}

int unix_await_filled(struct unix_restore *u, struct sock *s, struct error *e)
{
	_cleanup_close_ int token = -EBADF;

	if (!unix_is_foreign(s) || !s->m->shutdown)
		return 0;
	return restore_want(u->r, s->m->shared_peer->key, part(s, false), &token, e);
}
