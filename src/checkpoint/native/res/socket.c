/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kinds of sockets share, and the kinds that are refused.
 *
 * A receive queue is copied with MSG_PEEK: nothing is taken out of it, so that the container can go on as
 * if nothing had been. SO_PEEK_OFF makes each peek begin where the last one ended, and is put back to the
 * program's own value.
 */
#include "checkpoint/native/res/socket.h"

#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "linux/clone.h"

enum {
	MESSAGE_MAX = 8 << 20, /* one datagram; pages of the buffer that are not used cost nothing */
	QUEUE_MAX = 256 << 20, /* of one socket */
	MESSAGES_MAX = 1 << 16,
	CONTROL_MAX = 4096,
	OPT_SCM_PIDFD = 4,
	OPT_SO_PASSPIDFD = 76,
};

int socket_ns_pid(const struct dump *d, pid_t pid)
{
	for (size_t i = 0; i < d->n_procs && pid > 0; i++)
		if (d->procs[i].pid == pid)
			return d->procs[i].ns_pid;
	return 0;
}

bool socket_is_elsewhere(const struct dump *d, int fd)
{
	uint64_t ns;

	return dump_net_namespace(d, fd, &ns) != 0;
}

int socket_dump_namespace(struct dump *d, struct dump_file *f, struct error *e)
{
	return dump_net_namespace(d, f->local, &f->msg->net_namespace) == 0
		       ? 0
		       : error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				 "it belongs to another network namespace; close it before the checkpoint");
}

struct inside {
	int (*fn)(void *arg);
	void *arg;
	int result;
};

static int go_inside(void *arg)
{
	struct inside *i = arg;

	i->result = i->fn(i->arg);
	return 0;
}

/* The child has our memory and our descriptors, as if it were we, while we wait. */
int socket_run_inside(struct dump *d, int (*fn)(void *arg), void *arg)
{
	enum { STACK = 64 * 1024 };
	_cleanup_close_ int own = open("/proc/self/ns/pid_for_children", O_RDONLY | O_CLOEXEC), ns = -EBADF;
	_cleanup_free_ char *stack = malloc(STACK);
	struct inside i = {fn, arg, -ECHILD};
	char path[64];
	pid_t child;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", d->procs[0].pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (!stack)
		return -ENOMEM;
	if (own < 0 || ns < 0 || setns(ns, CLONE_NEWPID) < 0)
		return -errno;
	child = clone(go_inside, stack + STACK, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &i);
	if (child < 0)
		i.result = -errno;
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	r = ns_return(own, CLONE_NEWPID);
	return r < 0 ? r : i.result;
}

bool socket_address(
	const ProtobufCBinaryData *bytes, int family, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	if (bytes->len <= sizeof(sa_family_t) || bytes->len > sizeof(*ret))
		return false;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, bytes->data, bytes->len);
	*ret_len = bytes->len;
	if (ret->ss_family != family)
		return false;
	switch (family) {
	case AF_UNIX:
		return bytes->len <= sizeof(struct sockaddr_un) + 1;
	case AF_INET:
		return bytes->len == sizeof(struct sockaddr_in);
	case AF_INET6:
		return bytes->len == sizeof(struct sockaddr_in6);
	case AF_NETLINK:
		return bytes->len == sizeof(struct sockaddr_nl);
	case AF_PACKET:
		if (*ret_len < sizeof(struct sockaddr_ll))
			*ret_len = sizeof(
				struct sockaddr_ll); /* getsockname() leaves out what the address lacks */
		return bytes->len >= offsetof(struct sockaddr_ll, sll_addr);
	default:
		return false;
	}
}

static void close_passed(const struct cmsghdr *c)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	int fd;

	for (size_t i = 0; i < n; i++) {
		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
		close(fd);
	}
}

/* For now their numbers here: know_passed() makes files of them. */
static int take_passed(struct dump *d, const struct cmsghdr *c, St__SocketMessage *m, struct error *e)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	int fd;

	m->files = arena_array(&d->arena, n, sizeof(*m->files));
	if (!m->files) {
		close_passed(c);
		return error_errno(e, -ENOMEM, "queue of a socket");
	}
	for (size_t i = 0; i < n; i++) {
		memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
		m->files[m->n_files++] = fd;
	}
	return 0;
}

/* Not by socket_run_inside(), where pids are others. */
static int know_passed(struct dump *d, St__Socket *m, int r, struct error *e)
{
	for (size_t i = 0; i < m->n_queue; i++) {
		for (size_t k = 0; k < m->queue[i]->n_files; k++) {
			int fd = (int)m->queue[i]->files[k];

			if (r < 0)
				close(fd);
			else
				r = dump_own_file(d, fd, &m->queue[i]->files[k], e);
		}
	}
	return r;
}

/* Credentials and passed descriptors. */
static int dump_control(struct dump *d, struct msghdr *h, St__SocketMessage *m, struct error *e)
{
	struct ucred cred;
	int r = 0, fd;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS && r == 0) {
			r = take_passed(d, c, m, e);
		} else if (c->cmsg_type == SCM_RIGHTS) {
			close_passed(c);
		} else if (c->cmsg_type == OPT_SCM_PIDFD && c->cmsg_len >= CMSG_LEN(sizeof(fd))) {
			memcpy(&fd, CMSG_DATA(c), sizeof(fd)); /* made for who asks, of the credentials */
			if (fd >= 0)
				close(fd);
		} else if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(cred))) {
			memcpy(&cred, CMSG_DATA(c), sizeof(cred));
			m->credentials = pb_new(&d->arena, SocketCredentials, socket_credentials);
			if (!m->credentials)
				return error_errno(e, -ENOMEM, "queue of a socket");
			m->credentials->pid = cred.pid; /* socket_dump_queue() runs us inside */
			m->credentials->uid = dump_uid(d, cred.uid);
			m->credentials->gid = dump_gid(d, cred.gid);
		}
	}
	return r;
}

/* One peek. 1: the queue has no more. */
static int dump_message(struct dump *d, int fd, St__Socket *m, St__SocketMessage *to, struct error *e)
{
	_Alignas(struct cmsghdr) char control[CONTROL_MAX];
	struct sockaddr_storage address;
	struct iovec iov = {d->message, MESSAGE_MAX};
	struct msghdr h = {.msg_name = &address,
		.msg_namelen = sizeof(address),
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &h, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int r;

	/* What ICMP said about an earlier datagram is reported once, before the data: a hint that may be
	 * lost. */
	if (n < 0 && errno != EAGAIN && m->family != AF_UNIX)
		n = recvmsg(fd, &h, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN ? 1 : error_errno(e, -errno, "read the queue of a socket");
	r = dump_control(d, &h, to, e);
	if (r < 0)
		return r;
	/* The end of a stream; of packets, one of length 0 looks the same unless sending has ended. */
	if (n == 0 &&
		(m->type == SOCK_STREAM || (m->type == SOCK_SEQPACKET && m->shutdown & SOCKET_SHUT_RECEIVE)))
		return 1;
	if (h.msg_flags & MSG_TRUNC)
		return error_set(e, -EAGAIN, ERROR_REFUSED,
			"a message of more than %d bytes waits in a socket: let the program read it, then "
			"checkpoint",
			MESSAGE_MAX);
	to->data.data = arena_memdup(&d->arena, d->message, n);
	to->data.len = n;
	if (!to->data.data)
		return error_errno(e, -ENOMEM, "queue of a socket");
	if (m->type == SOCK_STREAM || h.msg_namelen <= sizeof(sa_family_t) || h.msg_namelen > sizeof(address))
		return 0;
	to->address.data = arena_memdup(&d->arena, &address, h.msg_namelen);
	to->address.len = h.msg_namelen;
	return to->address.data ? 0 : error_errno(e, -ENOMEM, "queue of a socket");
}

static int append_message(
	struct dump *d, St__Socket *m, St__SocketMessage *message, size_t *allocated, struct error *e)
{
	if (m->n_queue == *allocated) {
		size_t want = *allocated ? *allocated * 2 : 16;
		void *p = want > MESSAGES_MAX ? NULL : arena_array(&d->arena, want, sizeof(*m->queue));

		if (!p)
			return error_errno(e, -ENOMEM, "%zu messages in a socket", m->n_queue);
		if (m->n_queue)
			memcpy(p, m->queue, m->n_queue * sizeof(*m->queue));
		m->queue = p;
		*allocated = want;
	}
	m->queue[m->n_queue++] = message;
	return 0;
}

/* How many bytes of a stream, from "offset" on, come before the last piece of "len" bytes that were read: a piece is copied
 * whole, so that with room for one byte less it is not copied at all. */
static int peek_before(struct dump *d, int fd, int offset, size_t len)
{
	void *wall = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec iov[] = {{d->message, len - 1}, {wall, 4096}};
	struct msghdr h = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t n;

	if (wall == MAP_FAILED)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof(offset)) < 0)
		n = -errno;
	else
		n = recvmsg(fd, &h, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0)
		n = errno == EFAULT ? 0 : -errno;
	munmap(wall, 4096);
	return n < (ssize_t)len ? (int)n : -EIO;
}

/* What was read of a stream ends with the bytes to which descriptors belong. The ones before them were written by
 * themselves, and who reads only those must not get the descriptors: a message of their own. */
static int split_stream(
	struct dump *d, int fd, size_t before, St__SocketMessage *m, St__SocketMessage **ret, struct error *e)
{
	int end = before + m->data.len, none = peek_before(d, fd, before, m->data.len);
	St__SocketMessage *first;

	if (none >= 0 && setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &end, sizeof(end)) < 0)
		none = -errno;
	if (none < 0)
		return error_errno(e, none, "read the queue of a socket");
	*ret = NULL;
	if (none == 0)
		return 0;
	first = *ret = pb_new(&d->arena, SocketMessage, socket_message);
	if (!first)
		return error_errno(e, -ENOMEM, "queue of a socket");
	first->data = m->data;
	first->data.len = none;
	first->credentials = m->credentials;
	m->data.data += none;
	m->data.len -= none;
	return 0;
}

/* "waiting": how many bytes there are; -1: not known (datagrams). To read on behind the last byte of a
 * stream would take a pending error away from the program. */
static int dump_messages(struct dump *d, int fd, St__Socket *m, int waiting, struct error *e)
{
	size_t allocated = 0, total = 0;
	int r;

	if (!d->message)
		d->message = malloc(MESSAGE_MAX);
	if (!d->message)
		return error_errno(e, -ENOMEM, "queue of a socket");
	while (m->type != SOCK_STREAM || total < (size_t)waiting) {
		St__SocketMessage *message = pb_new(&d->arena, SocketMessage, socket_message);

		if (!message)
			return error_errno(e, -ENOMEM, "queue of a socket");
		r = dump_message(d, fd, m, message, e);
		if (r != 0)
			return r < 0 ? r : 0;
		if (m->type == SOCK_STREAM && message->n_files) {
			size_t before = total;
			St__SocketMessage *first = NULL;

			total += message->data.len;
			r = split_stream(d, fd, before, message, &first, e);
			if (r == 0 && first)
				r = append_message(d, m, first, &allocated, e);
			if (r < 0)
				return r;
		} else {
			total += message->data.len;
		}
		if (total > QUEUE_MAX)
			return error_set(e, -EAGAIN, ERROR_REFUSED,
				"more than %d bytes wait in a socket: let the program read them, then "
				"checkpoint",
				QUEUE_MAX);
		r = append_message(d, m, message, &allocated, e);
		if (r < 0)
			return r;
	}
	return 0;
}

struct queue_dump {
	struct dump *d;
	int fd, waiting;
	bool begun;
	St__Socket *m;
	struct error *e;
};

static int dump_messages_of(void *arg)
{
	struct queue_dump *q = arg;

	q->begun = true;
	return dump_messages(q->d, q->fd, q->m, q->waiting, q->e);
}

int socket_dump_queue(struct dump *d, int fd, St__Socket *m, struct error *e)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLPRI};
	struct queue_dump q = {.d = d, .fd = fd, .m = m, .e = e};
	int own, from_start = 0, waiting = -1, credentials = 0, pidfds = 0, on = 1, r;

	if (poll(&p, 1, 0) < 0)
		return error_errno(e, -errno, "poll a socket");
	/* It is counted, but peeking does not show it: who looks for it behind the rest takes a pending error away. */
	if (m->family == AF_UNIX && p.revents & POLLPRI)
		return error_set(e, -EAGAIN, ERROR_REFUSED,
			"urgent data (MSG_OOB) waits in the socket: let the program read it, then "
			"checkpoint");
	if (m->type != SOCK_DGRAM && ioctl(fd, SIOCINQ, &waiting) < 0)
		return error_errno(e, -errno, "length of the queue of a socket");
	if (!(p.revents & POLLIN) || (m->reset && waiting == 0))
		return 0;
	/* Packets: the error is reported before them, and once. */
	if (m->reset && m->type != SOCK_STREAM)
		return error_set(e, -EAGAIN, ERROR_REFUSED,
			"both an error and data wait in a socket: let the program read them, then "
			"checkpoint");
	if (getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &own, &(socklen_t){sizeof(own)}) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &from_start, sizeof(from_start)) < 0)
		return error_errno(e, -errno, "SO_PEEK_OFF");
	getsockopt(fd, SOL_SOCKET, SO_PASSCRED, &credentials, &(socklen_t){sizeof(credentials)});
	getsockopt(fd, SOL_SOCKET, OPT_SO_PASSPIDFD, &pidfds, &(socklen_t){sizeof(pidfds)});
	/* A pidfd is made of the credentials when it is received. */
	if (pidfds && !credentials && m->family == AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	q.waiting = waiting;
	r = credentials || pidfds ? socket_run_inside(d, dump_messages_of, &q) : dump_messages_of(&q);
	if (pidfds && !credentials && m->family == AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &credentials, sizeof(credentials));
	if (r < 0 && !q.begun)
		r = error_errno(e, r, "look into the container's pid namespace");
	if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &own, sizeof(own)) < 0 && r == 0)
		r = error_errno(e, -errno, "SO_PEEK_OFF");
	return know_passed(d, m, r, e);
}

int socket_open(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	const St__Socket *s = m->socket;

	if (raw_is_raw(s))
		return raw_open(s, ret_fd, e);
	if (s->family == AF_INET || s->family == AF_INET6)
		return inet_open(r, m, ret_fd, e);
	if (s->family != AF_UNIX || s->protocol != 0)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "socket of family %d", s->family);
	if (s->type != SOCK_STREAM && s->type != SOCK_DGRAM && s->type != SOCK_SEQPACKET)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "unix socket of type %d", s->type);
	/* unix_restore_all() replaces it if it is one of a pair. */
	*ret_fd = socket(AF_UNIX, s->type | SOCK_CLOEXEC, 0);
	return *ret_fd < 0 ? error_errno(e, -errno, "make a unix socket") : 0;
}

int socket_connect(struct restore *r, const St__File *m, int fd, struct error *e)
{
	if (raw_is_raw(m->socket))
		return raw_connect(m->socket, fd, e);
	if (m->socket->family != AF_UNIX)
		return inet_connect(r, m, fd, e);
	/* Unix sockets need each other: all are done together, when the first one's turn comes. */
	for (size_t i = 0; i < r->n_files; i++)
		if (r->files[i]->kind_case == ST__FILE__KIND_SOCKET && r->files[i]->socket->family == AF_UNIX)
			return r->files[i] == m ? unix_restore_all(r, e) : 0;
	return 0;
}

static bool match_other(const struct dump *d, const struct dump_file *f)
{
	return f->protocol;
}

extern const struct resource resource_socket_other;
const struct resource resource_socket_other = {
	.kind = "other socket",
	.description = "vsock, SCTP, XDP and other sockets",
	.refused_reason =
		"sockets of this protocol are not recorded: they end at a peer outside, or at a device",
	.refused_remedy = "close the socket before the checkpoint",
	.match = match_other,
};
