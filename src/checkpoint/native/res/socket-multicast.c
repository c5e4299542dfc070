/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multicast memberships of UDP and raw sockets. The kernel lists the groups of each interface, and tells a socket that asks
 * whether it is a member, and which sources it wants to hear: so all groups are asked for. What a socket has joined is
 * charged to it, so one to which nothing is charged need not ask.
 */
#include "checkpoint/native/res/socket.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "linux/clone.h"

enum { SOURCES_MAX = 1024 };

/* Groups of both families in one network namespace; taken again once the tasks are stopped. */
struct multicast_groups {
	bool stopped;
	uint64_t ns;
	struct proc_group *of[2]; /* IPv4, IPv6 */
	size_t n[2];
};

static int read_from(struct dump *d, pid_t pid, struct multicast_groups *g)
{
	int r = proc_read_groups(pid, AF_INET, &d->arena, &g->of[0], &g->n[0]);

	return r < 0 ? r : proc_read_groups(pid, AF_INET6, &d->arena, &g->of[1], &g->n[1]);
}

/* In one that a process has made, we look ourselves. */
static int read_inside(struct dump *d, struct multicast_groups *g)
{
	_cleanup_close_ int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int r, left;

	if (own < 0 || setns(dump_net_namespace_fd(d, g->ns), CLONE_NEWNET) < 0)
		return -errno;
	r = read_from(d, getpid(), g);
	left = ns_return(own, CLONE_NEWNET);
	return r < 0 ? r : left;
}

static int read_groups(struct dump *d, int fd)
{
	struct multicast_groups *g = d->groups;
	uint64_t ns;
	int r;

	if (dump_net_namespace(d, fd, &ns) != 0)
		return -EXDEV; /* which is refused */
	if (g && g->stopped == d->stopped && g->ns == ns)
		return 0;
	g = arena_new(&d->arena, struct multicast_groups);
	if (!g)
		return -ENOMEM;
	g->stopped = d->stopped;
	g->ns = ns;
	r = ns ? read_inside(d, g) : read_from(d, d->procs[0].pid, g);
	if (r == 0)
		d->groups = g;
	return r;
}

static void set_address(struct sockaddr_storage *a, int family, const uint8_t *bytes)
{
	memset(a, 0, sizeof(*a));
	a->ss_family = family;
	if (family == AF_INET)
		memcpy(&((struct sockaddr_in *)a)->sin_addr, bytes, 4);
	else
		memcpy(&((struct sockaddr_in6 *)a)->sin6_addr, bytes, 16);
}

static const void *bytes_of(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET ? (const void *)&((const struct sockaddr_in *)a)->sin_addr
				       : (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr;
}

static int level_of(int family)
{
	return family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
}

static size_t size_of(int family)
{
	return family == AF_INET ? 4 : 16;
}

static int set_bytes(struct dump *d, ProtobufCBinaryData *to, const void *bytes, size_t len)
{
	to->data = arena_memdup(&d->arena, bytes, len);
	to->len = len;
	return to->data ? 0 : -ENOMEM;
}

static int add_membership(struct dump *d, St__Socket *m, const struct proc_group *g,
	const struct group_filter *filter, size_t room)
{
	St__MulticastMembership *s = pb_new(&d->arena, MulticastMembership, multicast_membership);
	size_t size = size_of(g->family);
	int r;

	if (!m->multicast)
		m->multicast = arena_array(&d->arena, room, sizeof(*m->multicast));
	if (!s || !m->multicast)
		return -ENOMEM;
	s->interface = arena_strdup(&d->arena, g->device);
	s->include = filter->gf_fmode == MCAST_INCLUDE;
	r = set_bytes(d, &s->group, g->address, size);
	if (filter->gf_numsrc)
		s->sources = arena_array(&d->arena, filter->gf_numsrc, sizeof(*s->sources));
	if (!s->interface || (filter->gf_numsrc && !s->sources))
		return -ENOMEM;
	for (size_t i = 0; i < filter->gf_numsrc && r == 0; i++)
		r = set_bytes(d, &s->sources[s->n_sources++], bytes_of(&filter->gf_slist[i]), size);
	m->multicast[m->n_multicast++] = s;
	return r;
}

/* 1: it is no member. */
static int ask(int fd, const struct proc_group *g, struct group_filter *ret)
{
	socklen_t len = GROUP_FILTER_SIZE(SOURCES_MAX);

	memset(ret, 0, GROUP_FILTER_SIZE(0));
	ret->gf_interface = g->ifindex;
	ret->gf_numsrc = SOURCES_MAX;
	set_address(&ret->gf_group, g->family, g->address);
	if (getsockopt(fd, level_of(g->family), MCAST_MSFILTER, ret, &len) < 0)
		return errno == EADDRNOTAVAIL || errno == ENOPROTOOPT || errno == EINVAL ? 1 : -errno;
	return ret->gf_numsrc > SOURCES_MAX ? -E2BIG : 0;
}

static int charged(int fd)
{
	enum { OPTION_MEMORY = 6, N = 9, OPT_SO_MEMINFO = 55 };
	uint32_t info[N] = {};
	socklen_t len = sizeof(info);

	return getsockopt(fd, SOL_SOCKET, OPT_SO_MEMINFO, info, &len) < 0 ? -errno : (int)info[OPTION_MEMORY];
}

int multicast_dump(struct dump *d, int fd, St__Socket *m, struct error *e)
{
	_cleanup_free_ struct group_filter *filter = NULL;
	int r;

	if ((m->family != AF_INET && m->family != AF_INET6) || charged(fd) == 0)
		return 0;
	r = read_groups(d, fd);
	if (r >= 0 && !(filter = malloc(GROUP_FILTER_SIZE(SOURCES_MAX))))
		r = -ENOMEM;
	for (int of = 0; of < (m->family == AF_INET ? 1 : 2) && r >= 0; of++) {
		for (size_t i = 0; i < d->groups->n[of] && r >= 0; i++) {
			const struct proc_group *g = &d->groups->of[of][i];

			r = ask(fd, g, filter);
			if (r == 0)
				r = add_membership(d, m, g, filter, d->groups->n[0] + d->groups->n[1]);
		}
	}
	return r < 0 ? error_errno(e, r, "multicast memberships") : 0;
}

static bool has_ipv6_headers(int fd)
{
	static const int names[] = {IPV6_HOPOPTS, IPV6_RTHDRDSTOPTS, IPV6_RTHDR, IPV6_DSTOPTS};
	char value[2048];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		socklen_t len = sizeof(value);

		if (getsockopt(fd, IPPROTO_IPV6, names[i], value, &len) == 0 && len > 0)
			return true;
	}
	return false;
}

bool socket_has_unseen(struct dump *d, int fd)
{
	St__Socket m = ST__SOCKET__INIT;
	struct error e = {};
	int zerocopy = 0;
	socklen_t n = 0, len = sizeof(int);

	if (charged(fd) <= 0 || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &m.family, &len) < 0)
		return false;
	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) < 0 || n > 0 || has_ipv6_headers(fd))
		return false;
	len = sizeof(zerocopy);
	if (getsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &zerocopy, &len) == 0 && zerocopy)
		return false;
	return multicast_dump(d, fd, &m, &e) == 0 && m.n_multicast == 0;
}

/* --- restore --- */

static int join(int fd, int family, unsigned index, const uint8_t *group)
{
	struct group_req q = {.gr_interface = index};

	set_address(&q.gr_group, family, group);
	return setsockopt(fd, level_of(family), MCAST_JOIN_GROUP, &q, sizeof(q)) < 0 ? -errno : 0;
}

/* Joined so that at no time more comes in than was wanted. */
static int join_again(int fd, const St__MulticastMembership *s, unsigned index)
{
	int family = s->group.len == 4 ? AF_INET : AF_INET6, r = 0;

	if (!s->include)
		r = join(fd, family, index, s->group.data);
	for (size_t i = 0; i < s->n_sources && r == 0; i++) {
		struct group_source_req q = {.gsr_interface = index};

		set_address(&q.gsr_group, family, s->group.data);
		set_address(&q.gsr_source, family, s->sources[i].data);
		if (setsockopt(fd, level_of(family),
			    s->include ? MCAST_JOIN_SOURCE_GROUP : MCAST_BLOCK_SOURCE, &q, sizeof(q)) < 0)
			r = -errno;
	}
	return r;
}

static bool is_valid(const St__Socket *m, const St__MulticastMembership *s)
{
	if (s->group.len != 4 && (s->group.len != 16 || m->family != AF_INET6))
		return false;
	for (size_t i = 0; i < s->n_sources; i++)
		if (s->sources[i].len != s->group.len)
			return false;
	return s->n_sources <= SOURCES_MAX && (!s->include || s->n_sources > 0);
}

/* In the namespace of the socket. */
static int index_of(int fd, const char *interface)
{
	struct ifreq q = {};

	if (strlen(interface) >= sizeof(q.ifr_name))
		return -ENODEV;
	memcpy(q.ifr_name, interface, strlen(interface));
	return ioctl(fd, SIOCGIFINDEX, &q) < 0 ? -errno : q.ifr_ifindex;
}

int multicast_restore(int fd, const St__Socket *m, struct error *e)
{
	for (size_t i = 0; i < m->n_multicast; i++) {
		const St__MulticastMembership *s = m->multicast[i];
		int index, r;

		if (!is_valid(m, s))
			return error_set(e, -EBADMSG, ERROR_CORRUPT, "a multicast membership is malformed");
		index = index_of(fd, s->interface);
		r = index < 0 ? index : join_again(fd, s, index);
		if (r < 0)
			return error_errno(e, r, "join a multicast group on the interface %s", s->interface);
	}
	return 0;
}
