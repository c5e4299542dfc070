/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One dump request per namespace; the answer is a stream of netlink messages, one a socket, whose
 * attributes are walked here. They come from the kernel, yet every length is checked before it is used.
 *
 * The only way into another network namespace is setns(2) of the calling thread. A socket belongs to the
 * namespace in which it was made, so the thread goes back at once and keeps the socket.
 */
#include "linux/sockdiag.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "linux/clone.h"

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
	if (r == 0)
		r = ns_return(own, CLONE_NEWNET);
	else
		(void)!ns_return(own, CLONE_NEWNET);
	return r < 0 ? r : take_fd(&fd);
}

static int request(int fd, const void *req, size_t len)
{
	struct {
		struct nlmsghdr header;
		char req[128];
	} m = {
		.header =
			{
				.nlmsg_len = NLMSG_LENGTH(len),
				.nlmsg_type = SOCK_DIAG_BY_FAMILY,
				.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			},
	};
	ssize_t n;

	if (len > sizeof(m.req))
		return -EINVAL;
	memcpy(m.req, req, len);
	n = send(fd, &m, m.header.nlmsg_len, 0);
	return n < 0 ? -errno : n == m.header.nlmsg_len ? 0 : -EIO;
}

/* One datagram of the answer. 1: that was the last. */
static int take_answer(const char *buf, size_t len, sockdiag_each each, void *arg)
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
		r = each(h, arg);
		if (r < 0)
			return r;
	}
	return 0;
}

int sockdiag_dump(int netns_fd, const void *req, size_t len, sockdiag_each each, void *arg)
{
	_cleanup_close_ int fd = netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
	_cleanup_free_ char *buf = malloc(BUFFER_SIZE);
	int r;

	if (fd < 0)
		return fd;
	if (!buf)
		return -ENOMEM;
	r = request(fd, req, len);
	while (r == 0) {
		ssize_t n = recv(fd, buf, BUFFER_SIZE, MSG_TRUNC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0 || n > BUFFER_SIZE)
			return -EBADMSG;
		r = take_answer(buf, n, each, arg);
	}
	return MIN(r, 0);
}

int sockdiag_attributes(
	const struct nlmsghdr *h, size_t body, int (*each)(const struct nlattr *, void *), void *arg)
{
	const char *p = (const char *)h + NLMSG_HDRLEN + NLMSG_ALIGN(body),
		   *end = (const char *)h + h->nlmsg_len;

	if (h->nlmsg_len < NLMSG_LENGTH(body))
		return -EBADMSG;
	while (p < end && (size_t)(end - p) >= NLA_HDRLEN) {
		const struct nlattr *attr = (const struct nlattr *)p;
		int r;

		if (attr->nla_len < NLA_HDRLEN || attr->nla_len > end - p)
			return -EBADMSG;
		r = each(attr, arg);
		if (r < 0)
			return r;
		p += NLA_ALIGN(attr->nla_len);
	}
	return 0;
}

struct unix_list {
	struct arena *arena;
	struct sockdiag *d;
	struct sockdiag_socket *now;
	size_t allocated;
};

static int parse_attribute(const struct nlattr *attr, void *arg)
{
	struct unix_list *list = arg;
	struct sockdiag_socket *s = list->now;
	struct arena *a = list->arena;
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

static int add_socket(const struct nlmsghdr *h, void *arg)
{
	const struct unix_diag_msg *m = NLMSG_DATA(h);
	struct unix_list *list = arg;
	struct sockdiag *d = list->d;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EBADMSG;
	if (d->n == list->allocated) {
		size_t want = list->allocated ? list->allocated * 2 : 64;
		void *p = arena_array(list->arena, want, sizeof(*d->sockets));

		if (!p)
			return -ENOMEM;
		if (d->n)
			memcpy(p, d->sockets, d->n * sizeof(*d->sockets));
		d->sockets = p;
		list->allocated = want;
	}
	list->now = &d->sockets[d->n++];
	*list->now = (struct sockdiag_socket){
		.ino = m->udiag_ino, .type = m->udiag_type, .state = m->udiag_state, .name = ""};
	return sockdiag_attributes(h, sizeof(*m), parse_attribute, list);
}

static int compare_socket(const void *a, const void *b)
{
	const struct sockdiag_socket *x = a, *y = b;

	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

int sockdiag_unix(int netns_fd, struct arena *a, struct sockdiag **ret)
{
	static const struct unix_diag_req req = {
		.sdiag_family = AF_UNIX,
		.udiag_states = ~0u,
		.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS |
			      UDIAG_SHOW_RQLEN,
	};
	struct unix_list list = {.arena = a, .d = arena_new(a, struct sockdiag)};
	int r;

	if (!list.d)
		return -ENOMEM;
	r = sockdiag_dump(netns_fd, &req, sizeof(req), add_socket, &list);
	if (r < 0)
		return r;
	if (list.d->n)
		qsort(list.d->sockets, list.d->n, sizeof(*list.d->sockets), compare_socket);
	*ret = list.d;
	return 0;
}

int sockdiag_merge(struct sockdiag *to, const struct sockdiag *more, uint64_t ns, struct arena *a)
{
	struct sockdiag_socket *all = arena_array(a, to->n + more->n, sizeof(*all));

	if (!all)
		return -ENOMEM;
	if (more->n == 0)
		return 0;
	if (to->n > 0)
		memcpy(all, to->sockets, to->n * sizeof(*all));
	memcpy(all + to->n, more->sockets, more->n * sizeof(*all));
	for (size_t i = 0; i < more->n; i++)
		all[to->n + i].ns = ns;
	to->sockets = all;
	to->n += more->n;
	qsort(to->sockets, to->n, sizeof(*all), compare_socket);
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

struct tcp_search {
	uint32_t ino;
	int family;
	struct sockaddr_storage *ret;
	bool found;
};

static int compare_tcp(const struct nlmsghdr *h, void *arg)
{
	const struct inet_diag_msg *m = NLMSG_DATA(h);
	struct tcp_search *s = arg;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EBADMSG;
	if (m->idiag_inode != s->ino)
		return 0;
	memset(s->ret, 0, sizeof(*s->ret));
	s->ret->ss_family = s->family;
	if (s->family == AF_INET) {
		struct sockaddr_in *a = (struct sockaddr_in *)s->ret;

		a->sin_port = m->id.idiag_dport;
		memcpy(&a->sin_addr, m->id.idiag_dst, sizeof(a->sin_addr));
	} else {
		struct sockaddr_in6 *a = (struct sockaddr_in6 *)s->ret;

		a->sin6_port = m->id.idiag_dport;
		memcpy(&a->sin6_addr, m->id.idiag_dst, sizeof(a->sin6_addr));
		if (IN6_IS_ADDR_LINKLOCAL(&a->sin6_addr))
			a->sin6_scope_id = m->id.idiag_if;
	}
	s->found = true;
	return 0;
}

int sockdiag_tcp_peer(int netns_fd, int family, uint32_t ino, struct sockaddr_storage *ret)
{
	struct tcp_search s = {.ino = ino, .family = family, .ret = ret};
	struct inet_diag_req_v2 req = {.sdiag_family = family,
		.sdiag_protocol = IPPROTO_TCP,
		.idiag_states = 1 << TCP_SYN_SENT | 1 << TCP_ESTABLISHED};
	int r = sockdiag_dump(netns_fd, &req, sizeof(req), compare_tcp, &s);

	return r < 0 ? r : s.found ? 0 : -ENOENT;
}

void sockdiag_address(int family, const void *address, struct in6_addr *ret)
{
	*ret = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
	if (family == AF_INET)
		memcpy(&ret->s6_addr[12], address, sizeof(struct in_addr));
	else
		memcpy(ret, address, sizeof(*ret));
}

struct unowned_list {
	struct arena *arena;
	struct sockdiag_unowned *v;
	size_t n, allocated;
};

static int add_unowned(const struct nlmsghdr *h, void *arg)
{
	const struct inet_diag_msg *m = NLMSG_DATA(h);
	struct unowned_list *l = arg;
	struct sockdiag_unowned *c;
	bool opening;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EBADMSG;
	opening = m->idiag_state == TCP_SYN_RECV;
	if (m->idiag_inode || (!m->idiag_wqueue && !opening))
		return 0;
	if (l->n == l->allocated) {
		size_t n = MAX(l->allocated * 2, (size_t)16);
		struct sockdiag_unowned *more = arena_array(l->arena, n, sizeof(*more));

		if (!more)
			return -ENOMEM;
		if (l->n)
			memcpy(more, l->v, l->n * sizeof(*more));
		l->v = more;
		l->allocated = n;
	}
	c = &l->v[l->n++];
	*c = (struct sockdiag_unowned){
		.local_port = m->id.idiag_sport, .remote_port = m->id.idiag_dport, .opening = opening};
	sockdiag_address(m->idiag_family, m->id.idiag_src, &c->local);
	sockdiag_address(m->idiag_family, m->id.idiag_dst, &c->remote);
	return 0;
}

int sockdiag_tcp_unowned(int netns_fd, struct arena *a, struct sockdiag_unowned **ret, size_t *ret_n)
{
	static const int families[] = {AF_INET, AF_INET6};
	struct unowned_list l = {.arena = a};

	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		struct inet_diag_req_v2 req = {.sdiag_family = families[i],
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = 1 << TCP_FIN_WAIT1 | 1 << TCP_CLOSING | 1 << TCP_LAST_ACK |
					1 << TCP_SYN_RECV};
		int r = sockdiag_dump(netns_fd, &req, sizeof(req), add_unowned, &l);

		if (r < 0)
			return r;
	}
	*ret = l.v;
	*ret_n = l.n;
	return 0;
}
