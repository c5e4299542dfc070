/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/log.h"
#include "sandbox/sandbox.h"
#include "sandbox/supervisor.h"

struct server {
	struct supervisor *s;
	struct loop *loop;
	int fd;
	struct loop_fd listener;
	struct connection *connections;
	size_t n;
	uint64_t clock;
};

static void connection_free(struct connection *k)
{
	for (struct connection **p = &k->server->connections; *p; p = &(*p)->next)
		if (*p == k) {
			*p = k->next;
			k->server->n--;
			break;
		}
	loop_clear_timer(k->server->loop, &k->half);
	loop_clear_timer(k->server->loop, &k->stall);
	loop_clear_timer(k->server->loop, &k->next_message);
	loop_forget(k->server->loop, &k->io);
	for (int i = 0; i < k->n_fds; i++)
		close_p(&k->fds[i]);
	close_p(&k->fd);
	free(k->in);
	free(k->out);
	free(k);
}

/* Its client is no more, for us. */
static void drop(struct connection *k)
{
	struct call *c = take_ptr(k->call);

	k->dead = true;
	if (c)
		call_client_gone(c);
	if (!k->busy) {
		struct supervisor *s = k->server->s;

		connection_free(k);
		supervisor_check_end(s);
	}
}

static void enter(struct connection *k)
{
	k->busy++;
}

/* False: the connection is gone. */
static bool leave(struct connection *k)
{
	if (--k->busy || !k->dead)
		return true;
	drop(k);
	return false;
}

/* ---- out ---- */

static void update(struct connection *k)
{
	bool unsent = k->out_sent < k->out_len;
	uint32_t events = unsent ? EPOLLOUT : 0;

	if (!k->call && !k->closing && !k->ended && !connection_is_full(k))
		events |= EPOLLIN;
	if (k->dead || (k->io.fd >= 0 && events == k->events))
		return;
	k->events = events;
	if (k->io.fd >= 0 ? loop_change(k->server->loop, &k->io, events) < 0
			  : loop_watch(k->server->loop, &k->io, k->fd, events) < 0)
		drop(k);
}

bool connection_is_full(const struct connection *k)
{
	return k->out_len - k->out_sent >= SERVER_OUT_HIGH;
}

static void flush(struct connection *k)
{
	while (k->out_sent < k->out_len) {
		ssize_t n = send(
			k->fd, k->out + k->out_sent, k->out_len - k->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			drop(k);
			return;
		}
		k->out_sent += n;
		if (k->stall.set)
			loop_set_timer(k->server->loop, &k->stall, SERVER_STALL_MS);
	}
	loop_clear_timer(k->server->loop, &k->stall);
	free(take_ptr(k->out));
	k->out_len = k->out_sent = 0;
}

/* What flush() has left, or all of it. */
static int keep_output(struct connection *k, const char *data, size_t len)
{
	size_t unsent = k->out_len - k->out_sent;
	char *all;

	if (unsent + len > SERVER_OUT_MAX)
		return -ENOBUFS;
	all = malloc(unsent + len);
	if (!all)
		return -ENOMEM;
	if (unsent)
		memcpy(all, k->out + k->out_sent, unsent);
	memcpy(all + unsent, data, len);
	free(k->out);
	k->out = all;
	k->out_len = unsent + len;
	k->out_sent = 0;
	return 0;
}

void connection_send(struct connection *k, const char *data, size_t len)
{
	if (k->dead)
		return;
	enter(k);
	if (k->out_sent == k->out_len) {
		ssize_t n = send(k->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			data += n;
			len -= n;
		} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
			drop(k);
		}
	}
	if (!k->dead && len && keep_output(k, data, len) < 0)
		drop(k);
	if (!k->dead && len && !k->stall.set)
		loop_set_timer(k->server->loop, &k->stall, SERVER_STALL_MS);
	if (!k->dead)
		update(k);
	leave(k);
}

static void stalled(void *arg)
{
	log_debug("a client takes no replies");
	drop(arg);
}

/* ---- in ---- */

static void half_is_old(void *arg)
{
	log_debug("a client stopped in the middle of a message");
	drop(arg);
}

/* What is no call gets this answer, and the stream is of no use any more. */
static void refuse(struct connection *k, const struct error *e)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();
	_cleanup_free_ char *text = NULL;
	size_t len;

	json_add_string(o, "message", e->message);
	text = varlink_make_reply(o, "io.stasis.Sandbox.InvalidMessage", false, &len);
	k->closing = true;
	if (text)
		connection_send(k, text, len);
}

/* A message is complete. */
static void take_message(struct connection *k, size_t len)
{
	struct varlink_call m;
	struct error e;
	int r = varlink_parse_call(k->in, len, &m, &e);

	k->used = ++k->server->clock;
	k->in_len -= len + 1;
	memmove(k->in, k->in + len + 1, k->in_len);
	k->in_looked = 0;
	if (r < 0)
		refuse(k, &e);
	else
		call_begin(k, &m);
}

static void parse_messages(struct connection *k)
{
	while (!k->dead && !k->call && !k->closing && !connection_is_full(k)) {
		char *end = k->in_len > k->in_looked
				    ? memchr(k->in + k->in_looked, 0, k->in_len - k->in_looked)
				    : NULL;

		if (end) {
			loop_clear_timer(k->server->loop, &k->half);
			take_message(k, end - k->in);
			continue;
		}
		k->in_looked = k->in_len;
		if (k->in_len > VARLINK_MESSAGE_MAX) {
			struct error e;

			error_set(&e, -EMSGSIZE, ERROR_USAGE, "the message is longer than %d bytes",
				VARLINK_MESSAGE_MAX);
			refuse(k, &e);
			return;
		}
		if (!k->in_len) {
			free(take_ptr(k->in));
			k->in_size = 0;
		} else if (!k->half.set) {
			loop_set_timer(k->server->loop, &k->half, SERVER_HALF_MS);
		}
		break;
	}
}

static void go_on(struct connection *k)
{
	enter(k);
	parse_messages(k);
	if (!k->dead && k->ended && !k->call)
		k->closing = true;
	if (!k->dead && k->closing && k->out_sent == k->out_len)
		drop(k);
	else if (!k->dead)
		update(k);
	leave(k);
}

static void next_is_due(void *arg)
{
	go_on(arg);
}

void connection_next(struct connection *k)
{
	/* Not now: whoever has replied is in the middle of something. */
	if (!k->dead && !k->busy)
		loop_set_timer(k->server->loop, &k->next_message, 0);
}

static int take_fds(struct connection *k, struct msghdr *m)
{
	bool lost = m->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		size_t n = h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS
				   ? (h->cmsg_len - CMSG_LEN(0)) / sizeof(int)
				   : 0;

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
			if (k->n_fds < CALL_FDS_MAX) {
				k->fds[k->n_fds++] = fd;
			} else {
				close_p(&fd);
				lost = true;
			}
		}
	}
	return lost ? -EMFILE : 0;
}

/* 0: end of file. */
static ssize_t receive(struct connection *k)
{
	union {
		char buf[CMSG_SPACE(CALL_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec io;
	struct msghdr m = {
		.msg_iov = &io, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n;

	if (k->in_len == k->in_size) {
		size_t size = k->in_size ? MIN(2 * k->in_size, (size_t)VARLINK_MESSAGE_MAX + 2) : 2048;
		char *in = realloc(k->in, size);

		if (!in)
			return -ENOMEM;
		k->in = in;
		k->in_size = size;
	}
	/* not all at once: others want their turn */
	io = (struct iovec){k->in + k->in_len, MIN(k->in_size - k->in_len, (size_t)SERVER_READ)};
	n = recvmsg(k->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	if (take_fds(k, &m) < 0)
		return -EMFILE;
	k->in_len += n;
	return n;
}

static void read_some(struct connection *k)
{
	ssize_t n = receive(k);
	struct error e;

	if (n > 0)
		return;
	if (n == 0) {
		k->ended = true;
	} else if (n == -EMFILE) {
		error_set(&e, -EMFILE, ERROR_USAGE,
			"more descriptors than can be taken (%d with one message)", CALL_FDS_MAX);
		refuse(k, &e);
	} else if (n != -EAGAIN && n != -EINTR) {
		drop(k);
	}
}

static void connection_ready(void *arg, uint32_t events)
{
	struct connection *k = arg;

	enter(k);
	if (events & EPOLLOUT)
		flush(k);
	if (!k->dead && events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !k->call && !k->closing && !k->ended)
		read_some(k);
	else if (!k->dead && events & (EPOLLHUP | EPOLLERR)) {
		if (k->call && k->call->oneway) /* it does not wait */
			loop_forget(k->server->loop, &k->io);
		else
			drop(k);
	}
	if (!k->dead && k->call && !connection_is_full(k) && k->call->worker)
		worker_resume(k->call->worker);
	if (leave(k) && (k->io.fd >= 0 || !k->call))
		go_on(k);
}

/* ---- clients come ---- */

/* Somebody who waits for nothing makes room; NULL: all have calls. */
static struct connection *longest_idle(const struct server *v)
{
	struct connection *oldest = NULL;

	for (struct connection *k = v->connections; k; k = k->next)
		if (!k->call && (!oldest || k->used < oldest->used))
			oldest = k;
	return oldest;
}

static bool may_use(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

static void accept_client(struct server *v, int fd)
{
	struct connection *k;

	if (v->n >= SERVER_CLIENTS_MAX && longest_idle(v))
		drop(longest_idle(v));
	k = v->n < SERVER_CLIENTS_MAX && may_use(fd) ? calloc(1, sizeof(*k)) : NULL;
	if (!k) {
		close_p(&fd);
		return;
	}
	*k = (struct connection){
		.next = v->connections, .server = v, .supervisor = v->s, .fd = fd, .used = ++v->clock};
	k->io = (struct loop_fd){-EBADF, connection_ready, k};
	k->half = (struct loop_timer){.due = half_is_old, .arg = k};
	k->next_message = (struct loop_timer){.due = next_is_due, .arg = k};
	k->stall = (struct loop_timer){.due = stalled, .arg = k};
	v->connections = k;
	v->n++;
	update(k);
}

static void client_comes(void *arg, uint32_t events)
{
	struct server *v = arg;
	int fd = accept4(v->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0) {
		accept_client(v, fd);
		supervisor_check_end(v->s);
	} else if (errno == EMFILE || errno == ENFILE) {
		struct connection *k = longest_idle(v);

		if (k)
			drop(k);
		else /* it would be ready for ever */
			usleep(1000);
	}
}

int server_new(struct supervisor *s, struct server **ret, struct error *e)
{
	struct server *v = calloc(1, sizeof(*v));

	if (!v)
		return error_errno(e, -ENOMEM, "control socket");
	v->s = s;
	v->loop = s->loop;
	v->fd = -EBADF;
	v->listener = (struct loop_fd){-EBADF, client_comes, v};
	*ret = v;
	return 0;
}

int server_listen(struct server *v, struct error *e)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	mode_t old;
	int r = 0;

	if (fd < 0)
		return error_errno(e, -errno, "control socket");
	/* by descriptor: the path may be longer than sun_path */
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/.%s", v->s->dir_fd,
		CONTAINER_CONTROL_SOCKET);
	unlink(a.sun_path);
	old = umask(0177);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, SOMAXCONN) < 0 ||
		renameat(v->s->dir_fd, "." CONTAINER_CONTROL_SOCKET, v->s->dir_fd, CONTAINER_CONTROL_SOCKET) <
			0)
		r = -errno;
	umask(old);
	if (r == 0)
		r = loop_watch(v->loop, &v->listener, fd, EPOLLIN);
	if (r < 0)
		return error_errno(e, r, "listen at the control socket of sandbox %s", v->s->id);
	v->fd = take_fd(&fd);
	return 0;
}

bool server_unlisten(struct server *v)
{
	unlinkat(v->s->dir_fd, CONTAINER_CONTROL_SOCKET, 0);
	for (;;) {
		int fd = accept4(v->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			break;
		accept_client(v, fd);
	}
	loop_forget(v->loop, &v->listener);
	close_p(&v->fd);
	return v->n > 0;
}

size_t server_n_clients(const struct server *v)
{
	return v->n;
}

void server_free(struct server *v)
{
	if (!v)
		return;
	while (v->connections)
		drop(v->connections);
	loop_forget(v->loop, &v->listener);
	close_p(&v->fd);
	free(v);
}
