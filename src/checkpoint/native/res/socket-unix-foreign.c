/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix sockets that are connected between containers of a sandbox, the dump side. Both containers look at the same list of
 * sock_diag, so both come to the same result: which end was made by accept, or else who makes the pair. Each records the queue
 * of its own end. The container that is to call connect, or socketpair, is the one whose process did: the credentials that the other end
 * sees (SO_PEERCRED) are then of the right pid namespace.
 *
 * A client that waits to be accepted, and the listener, have a key of the backlog and the place in it. Containers connect in the order of
 * these keys, own clients of such a listener among them, so that each comes to its place.
 *
 * Datagrams may have come from any socket with a name: those are offered under the number of their inode.
 */
#include "checkpoint/native/res/socket.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/peers.h"
#include "checkpoint/native/shared-pids.h"
#include "linux/sockdiag.h"

const char *unix_says(struct dump *d, const struct peer_file *other, const char *format)
{
	const char *name = peers_name(d, other->member), *at = strstr(format, "%s");
	size_t n = strlen(format) + strlen(name) + 1;
	char *text = arena_alloc(&d->arena, n);

	if (!text || !at)
		return "another container has the other end";
	(void)!snprintf(text, n, "%.*s%s%s", (int)(at - format), format, name, at + 2);
	return text;
}

/* Accepted sockets share the name of their listener, whoever has that. */
static const struct sockdiag_socket *find_listener(const struct dump *d, const struct sockdiag_socket *s)
{
	for (size_t i = 0; i < d->sockets->n && s->name_len > 0; i++) {
		const struct sockdiag_socket *o = &d->sockets->sockets[i];

		if (o->state == TCP_LISTEN && o->type == s->type && o->ns == s->ns &&
			o->name_len == s->name_len && !memcmp(o->name, s->name, s->name_len) &&
			o->has_file == s->has_file && o->file_ino == s->file_ino &&
			o->file_dev == s->file_dev)
			return o;
	}
	return NULL;
}

/* The same question as was_accepted() of socket-unix.c has; of the two ends one or none was. */
static bool was_accepted(
	const struct dump *d, const struct sockdiag_socket *s, const struct sockdiag_socket *peer)
{
	if (s->type == SOCK_DGRAM || s->name_len == 0)
		return false;
	if (peer->name_len == 0 || find_listener(d, s))
		return true;
	return !find_listener(d, peer) && s->ino > peer->ino;
}

static bool has_own(const struct dump *d, uint32_t ino)
{
	for (size_t i = 0; i < d->n_files; i++)
		if (S_ISSOCK(d->files[i].st.st_mode) && d->files[i].st.st_ino == ino)
			return true;
	return false;
}

const char *unix_foreign_obstacle(struct dump *d, const struct dump_file *f, const struct sockdiag_socket *s,
	const struct peer_file *other)
{
	const struct sockdiag_socket *peer = sockdiag_find(d->sockets, s->peer), *listener;

	if (!peer || peer->ns || s->ns)
		return unix_says(d, other,
			"its peer is in the container \"%s\", and in another network namespace: that is kept "
			"only "
			"where they share one");
	if (s->type == SOCK_DGRAM && peer->peer != s->ino && peer->name_len == 0)
		return unix_says(d, other,
			"connected to a datagram socket without a name in the container \"%s\", which is not "
			"its "
			"peer");
	listener = was_accepted(d, s, peer) ? find_listener(d, s) : NULL;
	if (listener && !has_own(d, listener->ino))
		return unix_says(d, other,
			"connected to the container \"%s\", and what accepted it listens in another one");
	return NULL;
}

/* Is this process of the host, which may be gone, in the container? */
static bool is_of(struct dump *d, pid_t pid, unsigned member)
{
	const struct together *t = d->options->together;
	const struct container *c = t->containers[member];
	const char *whose;
	char own[64], its[64];

	if (pid > 0 && shared_pids_is_shared(d, member)) {
		if (member == t->self)
			return socket_ns_pid(d, pid) != 0;
		whose = shared_pids_whose(d, pid);
		return whose && !strcmp(whose, peers_name(d, member));
	}
	return pid > 0 && proc_readlink(pid, "ns/pid", own, sizeof(own)) > 0 &&
	       proc_readlink(c->init_pid, "ns/pid", its, sizeof(its)) > 0 && !strcmp(own, its);
}

/* Of a pair: whose process has made it, as both ends tell; else it doesn't matter. */
static bool makes_pair(
	struct dump *d, const struct dump_file *f, const struct sockdiag_socket *s, unsigned other)
{
	struct ucred c = {};

	if (getsockopt(f->local, SOL_SOCKET, SO_PEERCRED, &c, &(socklen_t){sizeof(c)}) < 0)
		c.pid = 0;
	if (is_of(d, c.pid, d->options->together->self))
		return true;
	return !is_of(d, c.pid, other) && s->ino < s->peer;
}

static char *name_of(struct dump *d, uint32_t ino)
{
	return arena_printf(&d->arena, "dgram-%x", ino);
}

static int link_target(struct dump *d, St__Socket *m, const struct sockdiag_socket *s, struct error *e)
{
	m->target = name_of(d, s->peer);
	return m->target ? 0 : error_errno(e, -ENOMEM, "unix socket");
}

int unix_link_foreign(struct dump *d, struct dump_file *f, const struct sockdiag_socket *s,
	const struct peer_file *other, struct error *e)
{
	const struct sockdiag_socket *peer = sockdiag_find(d->sockets, s->peer);
	const char *reason = unix_foreign_obstacle(d, f, s, other);
	St__Socket *m = f->msg->socket;
	_cleanup_close_ int fd = -EBADF;
	St__Shared *shared;
	bool accepts;

	if (reason)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED, "%s", reason);
	d->shares = true;
	if (s->type == SOCK_DGRAM && peer->peer != s->ino)
		return link_target(d, m, s, e);
	if (m->reset)
		return error_set(e, -EAGAIN, ERROR_REFUSED,
			"an error waits in the socket: let the program read it, then checkpoint");
	shared = m->shared_peer = pb_new(&d->arena, Shared, shared);
	if (!shared)
		return error_errno(e, -ENOMEM, "unix socket");
	m->accepted = was_accepted(d, s, peer);
	accepts = m->accepted || was_accepted(d, peer, s);
	m->shared_pair = !accepts;
	if (!m->accepted)
		m->listener = 0;
	shared->owner = accepts ? m->accepted : makes_pair(d, f, s, other->member);
	shared->with = (char *)peers_name(d, other->member);
	shared->key = arena_printf(&d->arena, "unix-%x-%x", MIN(s->ino, s->peer), MAX(s->ino, s->peer));
	if (!shared->key)
		return error_errno(e, -ENOMEM, "unix socket");
	/* What the peer sees of us only the peer tells. */
	fd = peers_duplicate(other);
	/* What was on its way the other surgeon may have let go by now. */
	if (fd == -EBADF || fd == -ESRCH)
		return error_set(e, -EAGAIN, ERROR_STATE, "the peer of a unix socket is gone");
	if (fd < 0)
		return error_errno(e, fd, "the peer of a unix socket in the container \"%s\"", shared->with);
	return unix_peer_credentials(d, fd, &m->credentials, e);
}

/* Keys that are sorted as the sockets came: by the listener, then by the place in its backlog. */
static char *waiting_key(struct dump *d, const struct sockdiag_socket *listener, size_t place)
{
	return arena_printf(&d->arena, "wait-%08x-%08zx", listener->ino, place);
}

int unix_link_waiting(struct dump *d, const struct sockdiag_socket *listener, St__Socket *m, struct error *e)
{
	m->waiting_keys = arena_array(&d->arena, m->n_waiting, sizeof(*m->waiting_keys));
	if (!m->waiting_keys)
		return error_errno(e, -ENOMEM, "backlog");
	for (size_t i = 0; i < m->n_waiting; i++)
		if (!(m->waiting_keys[m->n_waiting_keys++] = waiting_key(d, listener, i)))
			return error_errno(e, -ENOMEM, "backlog");
	d->shares = true;
	return 0;
}

int unix_link_arrival(struct dump *d, struct dump_file *f, const struct sockdiag_socket *listener,
	const struct peer_file *other, struct error *e)
{
	St__Shared *m = f->msg->socket->waits_at = pb_new(&d->arena, Shared, shared);
	size_t place = 0;

	while (place < listener->n_pending && listener->pending[place] != f->st.st_ino)
		place++;
	if (!m || !(m->key = waiting_key(d, listener, place)))
		return error_errno(e, -ENOMEM, "unix socket");
	m->with = (char *)peers_name(d, other->member);
	d->shares = true;
	return 0;
}

/* The socket of another container that has this name. */
static const struct sockdiag_socket *find_sender(struct dump *d, const St__SocketMessage *message)
{
	const size_t offset = sizeof(sa_family_t);
	const char *name = (const char *)message->address.data + offset;
	size_t n = message->address.len > offset ? message->address.len - offset : 0;

	/* A path ends with its NUL, or the address with it. */
	if (n > 0 && name[0])
		n = strnlen(name, n);
	for (size_t i = 0; n > 0 && i < d->sockets->n; i++) {
		const struct sockdiag_socket *o = &d->sockets->sockets[i];
		size_t len = o->name_len > 0 && o->name[0] ? strnlen(o->name, o->name_len) : o->name_len;

		if (o->type == SOCK_DGRAM && !o->ns && len == n && !memcmp(o->name, name, n))
			return o;
	}
	return NULL;
}

int unix_link_names(struct dump *d, struct dump_file *f, const struct sockdiag_socket *s, struct error *e)
{
	St__Socket *m = f->msg->socket;

	if (!d->options->together || s->type != SOCK_DGRAM || s->ns)
		return 0;
	if (s->name_len > 0 && !(m->offered = name_of(d, s->ino)))
		return error_errno(e, -ENOMEM, "unix socket");
	for (size_t i = 0; i < m->n_queue; i++) {
		const struct sockdiag_socket *o = find_sender(d, m->queue[i]);

		if (!o || has_own(d, o->ino) || !peers_socket(d, o->ino))
			continue;
		d->shares = true;
		m->queue[i]->sender = name_of(d, o->ino);
		if (!m->queue[i]->sender)
			return error_errno(e, -ENOMEM, "unix socket");
	}
	return 0;
}
