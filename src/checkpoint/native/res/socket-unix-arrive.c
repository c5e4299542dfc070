/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of a unix listener that nobody has accepted, the restore side (socket-unix-backlog.c is the dump): each connects in its turn, as who
 * it was, and has sent again what it had sent. One that is gone is played by a socket of ours, which is closed then.
 */
#include <errno.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "checkpoint/native/res/unix-restore.h"

static const St__UnixArrival *arrival_of(const struct sock *listener, size_t i)
{
	return i < listener->m->n_arrivals ? listener->m->arrivals[i] : NULL;
}

bool unix_is_gone(const struct sock *listener, size_t i)
{
	const St__UnixArrival *a = arrival_of(listener, i);

	return a && a->gone;
}

static int set_receives(int fd, int bits, struct error *e)
{
	static const int names[] = {SO_PASSCRED, SO_PASSSEC, UNIX_OPT_PASSPIDFD, UNIX_OPT_PASSRIGHTS};

	for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
		int on = bits >> k & 1;

		if (setsockopt(fd, SOL_SOCKET, names[k], &on, sizeof(on)) < 0 && errno != ENOPROTOOPT &&
			errno != EOPNOTSUPP)
			return error_errno(e, -errno, "what a unix socket receives");
	}
	return 0;
}

/* Since Linux 6.16 a socket has from its listener what that receives when the client connects, before when it is accepted. What the listener
 * itself receives is set at the end. */
int unix_prepare_arrival(struct sock *listener, size_t i, struct error *e)
{
	const St__UnixArrival *a = arrival_of(listener, i);

	if (!a || !(a->receives & UNIX_RECEIVES_KNOWN))
		return socket_restore_options(listener->fd, listener->m, SOCKET_LATE, e);
	return set_receives(listener->fd, a->receives, e);
}

int unix_forget_arrivals(struct sock *listener, struct error *e)
{
	enum { AS_MADE = 8 }; /* SO_PASSRIGHTS */

	return listener->m->n_arrivals ? set_receives(listener->fd, AS_MADE, e) : 0;
}

int unix_send_arrival(struct unix_restore *u, const struct sock *listener, size_t i, int fd, struct error *e)
{
	const St__UnixArrival *a = arrival_of(listener, i);
	int r = 0;

	for (size_t k = 0; a && k < a->n_sent && r == 0; k++)
		r = unix_send_message(u->r, fd, NULL, 0, a->sent[k], e);
	return r;
}

int unix_send_for_gone(struct unix_restore *u, struct sock *listener, size_t i, struct error *e)
{
	const St__UnixArrival *a = arrival_of(listener, i);
	St__Socket name = ST__SOCKET__INIT;
	struct sock client = {
		.file = listener->file, .m = &name, .fd = -EBADF, .other = -EBADF, .dir = -EBADF};
	int r = 0;

	name.type = listener->m->type;
	name.local = a->name;
	name.unlinked = true;
	name.mode = 0700;
	client.fd = socket(AF_UNIX, name.type | SOCK_CLOEXEC, 0);
	if (client.fd < 0)
		return error_errno(e, -errno, "make a unix socket");
	if (name.local.len > 0)
		r = unix_bind_name(u, &client, client.fd, e);
	if (r == 0)
		r = unix_connect_to(u, client.fd, listener, a->client, e);
	if (r == 0)
		r = unix_send_arrival(u, listener, i, client.fd, e);
	unix_drop(&client);
	return r < 0 ? error_prefix(e, "a client that was gone before it was accepted") : 0;
}

int unix_connect_waiting(struct unix_restore *u, struct sock *s, struct error *e)
{
	int r = 0;

	if (s->m->n_arrivals && s->m->n_arrivals != s->m->n_waiting)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "clients of a backlog");
	if (s->m->n_waiting_keys)
		return 0; /* unix_join_waiting() */
	for (size_t i = 0; i < s->m->n_waiting && r == 0; i++) {
		struct sock *client = unix_find_sock(u, s->m->waiting[i]);

		if (!client && !unix_is_gone(s, i))
			return error_set(e, -EBADMSG, ERROR_CORRUPT, "unknown socket in a backlog");
		r = unix_prepare_arrival(s, i, e);
		if (r < 0)
			return r;
		if (unix_is_gone(s, i)) {
			r = unix_send_for_gone(u, s, i, e);
			continue;
		}
		r = unix_connect_to(u, client->fd, s, client->m->credentials, e);
		if (r == 0)
			r = unix_send_arrival(u, s, i, client->fd, e);
	}
	return r;
}
