/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets without connections below TCP and UDP: raw IP, ping (ICMP datagrams), packet and netlink. What they are is
 * their protocol, address and options; what waits in them cannot be put back, as it came from a device or the kernel.
 *
 * Netlink sockets also have groups, of which the address tells the first 32, and packet sockets memberships, which
 * sock_diag tells. Rings and fanout groups of packet sockets are refused.
 */
#include "checkpoint/native/res/socket.h"

#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/packet_diag.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "linux/sockdiag.h"

enum { GROUPS_SIZE = 512, MEMBERSHIPS_MAX = 256 };

static bool match(const struct dump *d, const struct dump_file *f)
{
	static const char *const names[] = {"RAW", "RAWv6", "PING", "PINGv6", "PACKET", "NETLINK"};

	for (size_t i = 0; f->protocol && i < ARRAY_SIZE(names); i++)
		if (strcmp(f->protocol, names[i]) == 0)
			return true;
	return false;
}

/* What PACKET_DIAG tells of one packet socket. */
struct packet_info {
	uint32_t ino;
	bool found, has_ring, has_fanout;
	struct packet_mreq memberships[MEMBERSHIPS_MAX];
	size_t n;
};

static int take_memberships(struct packet_info *p, const char *at, size_t len)
{
	struct packet_diag_mclist m;

	for (; len >= sizeof(m); at += sizeof(m), len -= sizeof(m)) {
		struct packet_mreq *to = &p->memberships[p->n];

		memcpy(&m, at, sizeof(m));
		if (m.pdmc_alen > sizeof(to->mr_address))
			return -EMSGSIZE;
		for (uint32_t i = 0; i < m.pdmc_count; i++) {
			if (p->n == MEMBERSHIPS_MAX)
				return -E2BIG;
			to = &p->memberships[p->n++];
			*to = (struct packet_mreq){
				.mr_ifindex = m.pdmc_index, .mr_type = m.pdmc_type, .mr_alen = m.pdmc_alen};
			memcpy(to->mr_address, m.pdmc_addr, m.pdmc_alen);
		}
	}
	return 0;
}

static int take_attribute(const struct nlattr *a, void *arg)
{
	struct packet_info *p = arg;

	switch (a->nla_type & NLA_TYPE_MASK) {
	case PACKET_DIAG_RX_RING:
	case PACKET_DIAG_TX_RING:
		p->has_ring = true;
		return 0;
	case PACKET_DIAG_FANOUT:
		p->has_fanout = true;
		return 0;
	case PACKET_DIAG_MCLIST:
		return take_memberships(p, (const char *)a + NLA_HDRLEN, a->nla_len - NLA_HDRLEN);
	default:
		return 0;
	}
}

static int take_packet_socket(const struct nlmsghdr *h, void *arg)
{
	const struct packet_diag_msg *m = NLMSG_DATA(h);
	struct packet_info *p = arg;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EBADMSG;
	if (m->pdiag_ino != p->ino)
		return 0;
	p->found = true;
	return sockdiag_attributes(h, sizeof(*m), take_attribute, p);
}

static int read_packet_info(struct dump *d, const struct dump_file *f, int fd, struct packet_info *ret)
{
	struct packet_diag_req req = {.sdiag_family = AF_PACKET,
		.pdiag_show = PACKET_SHOW_MCLIST | PACKET_SHOW_RING_CFG | PACKET_SHOW_FANOUT};
	_cleanup_close_ int ns = ioctl(fd, SIOCGSKNS);
	int r;

	*ret = (struct packet_info){.ino = f->st.st_ino};
	r = ns < 0 ? -errno : sockdiag_dump(ns, &req, sizeof(req), take_packet_socket, ret);
	return r < 0 ? r : ret->found ? 0 : -ENOENT;
}

bool socket_is_allowed(const struct spec *s, int family, int type, bool hears_audit)
{
	uint64_t wants = hears_audit ? 1ull << CAP_AUDIT_READ : 0;

	if (family == AF_PACKET || ((family == AF_INET || family == AF_INET6) && type == SOCK_RAW))
		wants = 1ull << CAP_NET_RAW;
	return !s->process || !s->process->has_capabilities || !(wants & ~s->process->capabilities.bounding);
}

bool socket_hears_audit(const St__Socket *m)
{
	struct sockaddr_nl a = {};

	if (m->family != AF_NETLINK || m->protocol != NETLINK_AUDIT)
		return false;
	memcpy(&a, m->local.data, MIN(m->local.len, sizeof(a)));
	for (size_t i = 0; i < m->groups.len; i++)
		if (m->groups.data[i])
			return true;
	return a.nl_groups != 0;
}

static bool is_allowed(const struct dump *d, int fd)
{
	int family = 0, type = 0;
	socklen_t len = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len) < 0 ||
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
	       socket_is_allowed(d->c->spec, family, type, false);
}

/* What cannot be kept; NULL: nothing. */
static const char *refusal(struct dump *d, const struct dump_file *f, int fd, const char **remedy)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct packet_info info;
	int outgoing = 0, r;

	*remedy = "close the socket before the checkpoint";
	if (socket_is_elsewhere(d, fd))
		return "it belongs to another network namespace";
	if (strcmp(f->protocol, "PACKET") == 0) {
		r = read_packet_info(d, f, fd, &info);
		if (r == -ENOENT)
			return "it belongs to another network namespace";
		if (r < 0)
			return "this kernel does not tell about packet sockets";
		if (info.has_ring)
			return "its packets go through a ring in memory";
		if (info.has_fanout)
			return "it is a member of a fanout group";
	}
	*remedy = "add CAP_NET_RAW to process.capabilities.bounding";
	if (!is_allowed(d, fd))
		return "config.json does not allow the container to make one, so no restore would";
	*remedy = REMEDY_READ;
	if (poll(&p, 1, 0) > 0 && p.revents & (POLLIN | POLLERR))
		return "messages wait in it that cannot be put back";
	*remedy = REMEDY_CORK;
	if (strcmp(f->protocol, "NETLINK") != 0 && ioctl(fd, SIOCOUTQ, &outgoing) == 0 && outgoing > 0)
		return "data that it is to send is held back, and cannot be read";
	*remedy = "close the socket before the checkpoint";
	if (socket_has_unseen(d, fd))
		return "it has options that the kernel does not show";
	return NULL;
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	_cleanup_close_ int fd = dump_duplicate(f);
	const char *remedy, *reason = fd < 0 ? NULL : refusal(d, f, fd, &remedy);

	if (reason)
		dump_refuse(d, f->proc, f->fd, "raw socket", reason, remedy, "%s %s", f->protocol, f->link);
	return 0;
}

static int set_bytes(struct dump *d, ProtobufCBinaryData *to, const void *data, size_t len)
{
	to->data = arena_memdup(&d->arena, data, len);
	to->len = len;
	return to->data ? 0 : -ENOMEM;
}

static int dump_groups(struct dump *d, int fd, St__Socket *m)
{
	char groups[GROUPS_SIZE] = "";
	socklen_t len = sizeof(groups);

	if (getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &len) < 0)
		return -errno;
	return len > sizeof(groups) ? -E2BIG : set_bytes(d, &m->groups, groups, len);
}

static int dump_memberships(struct dump *d, const struct dump_file *f, St__Socket *m)
{
	struct packet_info info;
	int r = read_packet_info(d, f, f->local, &info);

	return r < 0 ? r
		     : set_bytes(d, &m->memberships, info.memberships, info.n * sizeof(*info.memberships));
}

static bool is_zero(const ProtobufCBinaryData *a)
{
	for (size_t i = sizeof(sa_family_t); i < a->len; i++)
		if (a->data[i])
			return false;
	return true;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	const char *remedy, *reason = refusal(d, f, f->local, &remedy);
	St__Socket *m;
	int r;

	if (reason)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED, "%s; %s", reason, remedy);
	r = socket_dump_common(d, f, &m, e);
	if (r == 0)
		r = socket_dump_namespace(d, f, e);
	if (r < 0)
		return r;
	if (is_zero(&m->local))
		m->local.len = 0;
	if (is_zero(&m->remote)) /* netlink sockets always tell one: the kernel */
		m->remote.len = 0;
	if (m->remote.len > 0)
		m->state = SOCKET_CONNECTED;
	if (m->family == AF_NETLINK)
		r = dump_groups(d, f->local, m);
	else if (m->family == AF_PACKET)
		r = dump_memberships(d, f, m);
	return r < 0 ? error_errno(e, r, "memberships of a socket") : 0;
}

/* --- restore --- */

bool raw_is_raw(const St__Socket *m)
{
	if (m->family == AF_PACKET || m->family == AF_NETLINK)
		return m->type == SOCK_RAW || m->type == SOCK_DGRAM;
	if (m->family != AF_INET && m->family != AF_INET6)
		return false;
	return m->type == SOCK_RAW ||
	       (m->type == SOCK_DGRAM && (m->protocol == IPPROTO_ICMP || m->protocol == IPPROTO_ICMPV6));
}

bool raw_needs_privilege(const St__Socket *m)
{
	return m->family == AF_PACKET ||
	       ((m->family == AF_INET || m->family == AF_INET6) && m->type == SOCK_RAW);
}

static int join_groups(const St__Socket *m, int fd)
{
	for (size_t i = 32; i < MIN(m->groups.len, (size_t)GROUPS_SIZE) * 8; i++) {
		int group = (int)i + 1;

		if (m->groups.data[i / 8] & 1 << i % 8 &&
			setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
			return -errno;
	}
	return 0;
}

static int join_memberships(const St__Socket *m, int fd)
{
	struct packet_mreq q;

	for (size_t i = 0; i + sizeof(q) <= m->memberships.len; i += sizeof(q)) {
		memcpy(&q, m->memberships.data + i, sizeof(q));
		if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &q, sizeof(q)) < 0)
			return -errno;
	}
	return 0;
}

static int set_address(const St__Socket *m, int fd, int (*set)(int, const struct sockaddr *, socklen_t),
	const ProtobufCBinaryData *bytes)
{
	struct sockaddr_storage a;
	socklen_t len;

	if (bytes->len == 0)
		return 0;
	if (!socket_address(bytes, m->family, &a, &len))
		return -EBADMSG;
	return set(fd, (const struct sockaddr *)&a, len) < 0 ? -errno : 0;
}

static int bind_to(int fd, const struct sockaddr *a, socklen_t len)
{
	return bind(fd, a, len);
}

static int connect_to(int fd, const struct sockaddr *a, socklen_t len)
{
	return connect(fd, a, len);
}

int raw_open(const St__Socket *m, int *ret_fd, struct error *e)
{
	/* A packet socket would take packets from now on, also those that are not for its address. */
	int protocol = m->family == AF_PACKET ? 0 : m->protocol, r;
	_cleanup_close_ int fd = socket(m->family, m->type | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return error_errno(
			e, -errno, "make a socket of family %d, protocol %d", m->family, m->protocol);
	r = socket_restore_options(fd, m, SOCKET_EARLY, e);
	if (r < 0)
		return r;
	/* Here, as netlink sockets that are bound already would hear of it. */
	r = m->family == AF_PACKET ? join_memberships(m, fd) : 0;
	if (r < 0)
		return error_errno(e, r, "memberships of a packet socket");
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Raw sockets have no need of an address: what they took while other sockets were filled. */
static void drop_received(int fd)
{
	char c;

	while (recv(fd, &c, sizeof(c), MSG_DONTWAIT) >= 0)
		;
}

int raw_connect(const St__Socket *m, int fd, struct error *e)
{
	int r = set_address(m, fd, bind_to, &m->local);

	if (r == 0 && m->state == SOCKET_CONNECTED)
		r = set_address(m, fd, connect_to, &m->remote);
	if (r < 0)
		return error_errno(
			e, r, "address of a socket of family %d, protocol %d", m->family, m->protocol);
	r = m->family == AF_NETLINK ? join_groups(m, fd) : 0;
	if (m->family == AF_INET || m->family == AF_INET6)
		drop_received(fd);
	return r < 0 ? error_errno(e, r, "groups of a socket of family %d", m->family)
		     : socket_restore_options(fd, m, SOCKET_LATE, e);
}

extern const struct resource resource_raw;
const struct resource resource_raw = {
	.kind = "raw socket",
	.description =
		"raw IP, ping, packet and netlink sockets in which nothing waits; their groups and filters",
	.kind_case = ST__FILE__KIND_SOCKET,
	.match = match,
	.check = check,
	.dump = dump,
	.open = socket_open,
	.connect = socket_connect,
};
