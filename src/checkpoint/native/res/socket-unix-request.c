/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connections by which a container asks us for something (docs/application.md, docs/adr/0057): their other end is in the
 * supervisor of its sandbox, outside of the container, and they are no obstacle. What is restored of one has the answer that
 * there was a restore, and its end.
 *
 * That it is one of these, the kernel says: the socket file of the other end is the one in the container's application directory, where
 * nobody but us can make one. Who has not been accepted yet is in the backlog of a listener with that file, which is in our network
 * namespace.
 */
#include "checkpoint/native/res/socket.h"

#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "linux/sockdiag.h"

/* 1: the container has none. */
static int application_socket(const struct dump *d, struct stat *ret)
{
	_cleanup_close_ int dir = container_open_application(d->c);

	return dir < 0 || fstatat(dir, CONTAINER_APPLICATION_SOCKET, ret, AT_SYMLINK_NOFOLLOW) < 0 ||
	       !S_ISSOCK(ret->st_mode);
}

static bool is_at(const struct sockdiag_socket *s, const struct stat *file)
{
	enum { MINOR_BITS = 20 }; /* the kernel's own dev_t */

	return s->has_file && (uint32_t)file->st_ino == s->file_ino &&
	       (major(file->st_dev) << MINOR_BITS | minor(file->st_dev)) == s->file_dev;
}

static bool is_waiting(struct dump *d, const struct sockdiag_socket *s, const struct stat *file)
{
	_cleanup_close_ int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct sockdiag *all = NULL;
	int r = -EAGAIN;

	for (int i = 0; i < 10 && ns >= 0 && r == -EAGAIN; i++)
		r = sockdiag_unix(ns, &d->arena, &all);
	for (size_t i = 0; r == 0 && i < all->n; i++) {
		const struct sockdiag_socket *l = &all->sockets[i];

		for (size_t k = 0; l->state == TCP_LISTEN && is_at(l, file) && k < l->n_pending; k++)
			if (l->pending[k] == s->ino)
				return true;
	}
	return false;
}

bool unix_is_request(struct dump *d, const struct sockdiag_socket *s, const struct sockdiag_socket *peer)
{
	struct stat file;

	if (s->type != SOCK_STREAM || !s->has_peer || (s->peer && !peer) ||
		s->shutdown == (SOCKET_SHUT_RECEIVE | SOCKET_SHUT_SEND) || application_socket(d, &file))
		return false;
	return peer ? is_at(peer, &file) : is_waiting(d, s, &file);
}

/* After all that had been answered before. The container that goes on is answered by the supervisor. */
int unix_link_request(struct dump *d, struct dump_file *f, const struct sockdiag_socket *s, struct error *e)
{
	St__SocketMessage **queue, *answer = pb_new(&d->arena, SocketMessage, socket_message);
	St__Socket *m = f->msg->socket;
	char *text = arena_printf(&d->arena, "restored %llu\n", (unsigned long long)d->c->generation + 1);

	queue = arena_array(&d->arena, m->n_queue + 1, sizeof(*queue));
	if (!answer || !queue || !text)
		return error_errno(e, -ENOMEM, "socket of a request");
	if (m->n_queue)
		memcpy(queue, m->queue, m->n_queue * sizeof(*queue));
	m->queue = queue;
	answer->data.data = (uint8_t *)text;
	answer->data.len = strlen(text);
	if (!(s->shutdown & SOCKET_SHUT_RECEIVE))
		m->queue[m->n_queue++] = answer;
	m->shutdown = SOCKET_SHUT_RECEIVE | SOCKET_SHUT_SEND;
	m->peer_closed = true;
	m->remote.len = 0; /* a name of the host's */
	return unix_peer_credentials(d, f->local, &m->peer_credentials, e);
}
