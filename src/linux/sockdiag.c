/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One dump request per namespace; the answer is a stream of netlink messages, one a socket, whose
 * attributes are walked here. They come from the kernel, yet every length is checked before it is used.
 *
 * The only way into another network namespace is setns(2) of the calling thread. A socket belongs to the
 * namespace in which it was made, so the thread goes back at once and keeps the socket.
 */
#include "linux/sockdiag.h"

#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"

enum { BUFFER_SIZE = 64 * 1024 };

int netns_socket(int netns_fd, int domain, int type, int protocol)
{
	_cleanup_close_ int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), fd = -EBADF;
	struct stat a, b;
	int r = 0;

	if (own < 0 || fstat(own, &a) < 0 || fstat(netns_fd, &b) < 0)
		return -errno;
	if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return (fd = socket(domain, type | SOCK_CLOEXEC, protocol)) < 0 ? -errno : take_fd(&fd);
	if (setns(netns_fd, CLONE_NEWNET) < 0)
		return -errno;
	fd = socket(domain, type | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		r = -errno;
	if (setns(own, CLONE_NEWNET) < 0)
		r = -errno;
	return r < 0 ? r : take_fd(&fd);
}

static int request(int fd)
{
	struct {
		struct nlmsghdr header;
		struct unix_diag_req req;
	} m = {
		.header =
			{
				.nlmsg_len = sizeof(m),
				.nlmsg_type = SOCK_DIAG_BY_FAMILY,
				.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			},
		.req =
			{
				.sdiag_family = AF_UNIX,
				.udiag_states = ~0u,
				.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER |
					      UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN,
			},
	};
	ssize_t n = send(fd, &m, sizeof(m), 0);

	return n < 0 ? -errno : n == sizeof(m) ? 0 : -EIO;
}

static int parse_attribute(const struct nlattr *attr, struct arena *a, struct sockdiag_socket *s)
{
	const void *data = (const char *)attr + NLA_HDRLEN;
	size_t len = attr->nla_len - NLA_HDRLEN;
	struct unix_diag_rqlen rqlen;
	struct unix_diag_vfs vfs;

	switch (attr->nla_type & NLA_TYPE_MASK) {
	case UNIX_DIAG_NAME:
		s->name = arena_memdup(a, data, len);
		s->name_len = len;
		return s->name ? 0 : -ENOMEM;
	case UNIX_DIAG_VFS:
		if (len < sizeof(vfs))
			return -EBADMSG;
		memcpy(&vfs, data, sizeof(vfs));
		s->has_file = true;
		s->file_dev = vfs.udiag_vfs_dev;
		s->file_ino = vfs.udiag_vfs_ino;
		return 0;
	case UNIX_DIAG_PEER:
		if (len < sizeof(s->peer))
			return -EBADMSG;
		s->has_peer = true;
		memcpy(&s->peer, data, sizeof(s->peer));
		return 0;
	case UNIX_DIAG_ICONS:
		s->pending = arena_memdup(a, data, len);
		s->n_pending = len / sizeof(*s->pending);
		return s->pending ? 0 : -ENOMEM;
	case UNIX_DIAG_RQLEN:
		if (len < sizeof(rqlen))
			return -EBADMSG;
		memcpy(&rqlen, data, sizeof(rqlen));
		s->rqueue = rqlen.udiag_rqueue;
		s->wqueue = rqlen.udiag_wqueue;
		return 0;
	case UNIX_DIAG_SHUTDOWN:
		if (len < 1)
			return -EBADMSG;
		s->shutdown = *(const uint8_t *)data;
		return 0;
	default:
		return 0;
	}
}

static int parse_socket(const struct nlmsghdr *h, struct arena *a, struct sockdiag_socket *s)
{
	const struct unix_diag_msg *m = NLMSG_DATA(h);
	const char *p, *end = (const char *)h + h->nlmsg_len;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EBADMSG;
	*s = (struct sockdiag_socket){
		.ino = m->udiag_ino, .type = m->udiag_type, .state = m->udiag_state, .name = ""};
	p = (const char *)m + NLMSG_ALIGN(sizeof(*m));
	while (p < end && (size_t)(end - p) >= NLA_HDRLEN) {
		const struct nlattr *attr = (const struct nlattr *)p;
		int r;

		if (attr->nla_len < NLA_HDRLEN || attr->nla_len > end - p)
			return -EBADMSG;
		r = parse_attribute(attr, a, s);
		if (r < 0)
			return r;
		p += NLA_ALIGN(attr->nla_len);
	}
	return 0;
}

static int add_socket(const struct nlmsghdr *h, struct arena *a, struct sockdiag *d, size_t *allocated)
{
	if (d->n == *allocated) {
		size_t want = *allocated ? *allocated * 2 : 64;
		void *p = arena_array(a, want, sizeof(*d->sockets));

		if (!p)
			return -ENOMEM;
		if (d->n)
			memcpy(p, d->sockets, d->n * sizeof(*d->sockets));
		d->sockets = p;
		*allocated = want;
	}
	return parse_socket(h, a, &d->sockets[d->n++]);
}

/* One datagram of the answer. 1: that was the last. */
static int parse_answer(const char *buf, size_t len, struct arena *a, struct sockdiag *d, size_t *allocated)
{
	for (const struct nlmsghdr *h = (const struct nlmsghdr *)buf; NLMSG_OK(h, len);
		h = NLMSG_NEXT(h, len)) {
		int r;

		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR) {
			const struct nlmsgerr *err = NLMSG_DATA(h);

			return h->nlmsg_len >= NLMSG_LENGTH(sizeof(*err)) && err->error < 0 ? err->error
											    : -EBADMSG;
		}
		/* The table changed while it was read: some sockets may be missing. */
		if (h->nlmsg_flags & NLM_F_DUMP_INTR)
			return -EAGAIN;
		if (h->nlmsg_type != SOCK_DIAG_BY_FAMILY)
			continue;
		r = add_socket(h, a, d, allocated);
		if (r < 0)
			return r;
	}
	return 0;
}

static int compare_socket(const void *a, const void *b)
{
	const struct sockdiag_socket *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

int sockdiag_unix(int netns_fd, struct arena *a, struct sockdiag **ret)
{
	_cleanup_close_ int fd = netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
	_cleanup_free_ char *buf = malloc(BUFFER_SIZE);
	struct sockdiag *d = arena_new(a, struct sockdiag);
	size_t allocated = 0;
	int r;

	if (fd < 0)
		return fd;
	if (!buf || !d)
		return -ENOMEM;
	r = request(fd);
	while (r == 0) {
		ssize_t n = recv(fd, buf, BUFFER_SIZE, MSG_TRUNC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0 || n > BUFFER_SIZE)
			return -EBADMSG;
		r = parse_answer(buf, n, a, d, &allocated);
	}
	if (r < 0)
		return r;
	if (d->n)
		qsort(d->sockets, d->n, sizeof(*d->sockets), compare_socket);
	*ret = d;
	return 0;
}

const struct sockdiag_socket *sockdiag_find(const struct sockdiag *d, uint64_t ino)
{
	const struct sockdiag_socket key = {.ino = ino};

	if (ino == 0 || ino > UINT32_MAX || d->n == 0)
		return NULL;
	return bsearch(&key, d->sockets, d->n, sizeof(key), compare_socket);
}

const struct sockdiag_socket *sockdiag_listener_of(const struct sockdiag *d, uint64_t ino)
{
	for (size_t i = 0; i < d->n && ino != 0; i++)
		for (size_t k = 0; k < d->sockets[i].n_pending; k++)
			if (d->sockets[i].pending[k] == ino)
				return &d->sockets[i];
	return NULL;
}
