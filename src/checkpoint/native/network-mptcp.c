/* SPDX-License-Identifier: Apache-2.0 */
/* What a network namespace says to its MPTCP connections: endpoints with their numbers, and limits. Source: linux/mptcp.h. */
#include "checkpoint/native/network-mptcp.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/mptcp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "linux/nlmsg.h"
#include "linux/sockdiag.h"

#define BIT(n) (1u << (n))

enum { USUAL_ACCEPTED = 0, USUAL_SUBFLOWS = 2 };

static const uint32_t kept = BIT(MPTCP_PM_ADDR_ATTR_FAMILY) | BIT(MPTCP_PM_ADDR_ATTR_ID) |
			     BIT(MPTCP_PM_ADDR_ATTR_ADDR4) | BIT(MPTCP_PM_ADDR_ATTR_ADDR6) |
			     BIT(MPTCP_PM_ADDR_ATTR_PORT) | BIT(MPTCP_PM_ADDR_ATTR_FLAGS) |
			     BIT(MPTCP_PM_ADDR_ATTR_IF_IDX);

static void begin(struct netlink_message *m, int family, int flags, int command, int version)
{
	struct genlmsghdr *g = netlink_begin(m, family, flags, sizeof(*g));

	g->cmd = command;
	g->version = version;
}

static int take_family(const struct nlmsghdr *h, void *arg)
{
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct genlmsghdr), &len),
			    *id = a ? netlink_find(a, len, CTRL_ATTR_FAMILY_ID) : NULL;
	uint16_t number;

	if (!id || RTA_PAYLOAD(id) < sizeof(number))
		return -EBADMSG;
	memcpy(&number, RTA_DATA(id), sizeof(number));
	*(int *)arg = number;
	return 0;
}

/* The number of the protocol; 0: a kernel without it. */
static int find_family(int socket, int *ret)
{
	struct netlink_message q;
	int r;

	*ret = 0;
	begin(&q, GENL_ID_CTRL, 0, CTRL_CMD_GETFAMILY, 1);
	netlink_put(&q, CTRL_ATTR_FAMILY_NAME, MPTCP_PM_NAME, sizeof(MPTCP_PM_NAME));
	r = netlink_ask(socket, &q, take_family, ret);
	return r == -ENOENT ? 0 : r;
}

struct reading {
	struct arena *a;
	St__Network *n;
	size_t max;
};

/* Without those that the kernel has made for connections. */
static int take_endpoint(const struct nlmsghdr *h, void *arg)
{
	struct reading *r = arg;
	int len, left;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct genlmsghdr), &len), *i;
	struct netlink_message m;
	ProtobufCBinaryData *b;

	a = a ? netlink_find(a, len, MPTCP_PM_ATTR_ADDR) : NULL;
	if (!a)
		return -EBADMSG;
	i = RTA_DATA(a);
	left = RTA_PAYLOAD(a);
	if (netlink_u32(netlink_find(i, left, MPTCP_PM_ADDR_ATTR_FLAGS), 0) & MPTCP_PM_ADDR_FLAG_IMPLICIT)
		return 0;
	(void)netlink_begin(&m, 0, 0, 0);
	netlink_for(i, left)
	{
		unsigned type = i->rta_type & NLA_TYPE_MASK;

		if (type < 32 && (kept & BIT(type)))
			netlink_put(&m, type, RTA_DATA(i), RTA_PAYLOAD(i));
	}
	if (m.h.nlmsg_len > sizeof(m))
		return -EMSGSIZE;
	r->n->mptcp_endpoints = arena_grow(r->a, r->n->mptcp_endpoints, r->n->n_mptcp_endpoints, &r->max,
		sizeof(*r->n->mptcp_endpoints));
	if (!r->n->mptcp_endpoints)
		return -ENOMEM;
	b = &r->n->mptcp_endpoints[r->n->n_mptcp_endpoints++];
	b->len = m.h.nlmsg_len - NLMSG_LENGTH(0);
	b->data = arena_memdup(r->a, m.body, b->len);
	return b->data ? 0 : -ENOMEM;
}

static int take_limits(const struct nlmsghdr *h, void *arg)
{
	St__Network *n = arg;
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct genlmsghdr), &len);

	if (!a)
		return -EBADMSG;
	n->mptcp_accepted = netlink_u32(netlink_find(a, len, MPTCP_PM_ATTR_RCV_ADD_ADDRS), USUAL_ACCEPTED);
	n->mptcp_subflows = netlink_u32(netlink_find(a, len, MPTCP_PM_ATTR_SUBFLOWS), USUAL_SUBFLOWS);
	n->has_mptcp_limits = n->mptcp_accepted != USUAL_ACCEPTED || n->mptcp_subflows != USUAL_SUBFLOWS;
	return 0;
}

int network_read_mptcp(int netns, struct arena *a, St__Network *n)
{
	_cleanup_close_ int socket = netns_socket(netns, AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
	struct reading reading = {.a = a, .n = n};
	struct netlink_message q;
	int family = 0, r = socket < 0 ? socket : find_family(socket, &family);

	if (r < 0 || !family)
		return r;
	begin(&q, family, NLM_F_DUMP, MPTCP_PM_CMD_GET_ADDR, MPTCP_PM_VER);
	r = netlink_ask(socket, &q, take_endpoint, &reading);
	begin(&q, family, 0, MPTCP_PM_CMD_GET_LIMITS, MPTCP_PM_VER);
	return r < 0 ? r : netlink_ask(socket, &q, take_limits, n);
}

static int put_endpoint(
	int socket, int family, const ProtobufCBinaryData *d, int (*current)(int index, void *arg), void *arg)
{
	const struct rtattr *i = (const struct rtattr *)d->data;
	int len = (int)d->len;
	struct netlink_message m;
	size_t nest;

	begin(&m, family, NLM_F_ACK, MPTCP_PM_CMD_ADD_ADDR, MPTCP_PM_VER);
	nest = netlink_nest(&m, MPTCP_PM_ATTR_ADDR);
	netlink_for(i, len)
	{
		if ((i->rta_type & NLA_TYPE_MASK) == MPTCP_PM_ADDR_ATTR_IF_IDX)
			netlink_put_u32(&m, MPTCP_PM_ADDR_ATTR_IF_IDX,
				(uint32_t)current((int)netlink_u32(i, 0), arg));
		else
			netlink_put(&m, i->rta_type, RTA_DATA(i), RTA_PAYLOAD(i));
	}
	netlink_end_nest(&m, nest);
	return netlink_ask(socket, &m, NULL, NULL);
}

static int put_limits(int socket, int family, const St__Network *n)
{
	struct netlink_message m;

	begin(&m, family, NLM_F_ACK, MPTCP_PM_CMD_SET_LIMITS, MPTCP_PM_VER);
	netlink_put_u32(&m, MPTCP_PM_ATTR_RCV_ADD_ADDRS, n->mptcp_accepted);
	netlink_put_u32(&m, MPTCP_PM_ATTR_SUBFLOWS, n->mptcp_subflows);
	return netlink_ask(socket, &m, NULL, NULL);
}

bool network_has_mptcp(const St__Network *n)
{
	return n->n_mptcp_endpoints > 0 || n->has_mptcp_limits;
}

int restore_mptcp(
	const St__Network *n, bool may, int (*current)(int index, void *arg), void *arg, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int family = 0, r;

	if (!network_has_mptcp(n))
		return 0;
	if (!may)
		return error_set(e, -EPERM, ERROR_REFUSED,
			"the image has endpoints or limits of MPTCP, and the bundle's config.json does not "
			"allow the container to set any: add CAP_NET_ADMIN to process.capabilities.bounding, "
			"if that is wanted, or use --empty-ns network");
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	r = fd < 0 ? -errno : find_family(fd, &family);
	if (r == 0 && !family)
		r = -EPROTONOSUPPORT;
	if (r == 0 && n->has_mptcp_limits)
		r = put_limits(fd, family, n);
	for (size_t i = 0; i < n->n_mptcp_endpoints && r == 0; i++)
		r = put_endpoint(fd, family, &n->mptcp_endpoints[i], current, arg);
	return r < 0 ? error_errno(e, r, "restore the endpoints of MPTCP") : 0;
}

bool network_mptcp_is_wrong(const St__Network *n)
{
	for (size_t k = 0; k < n->n_mptcp_endpoints; k++) {
		const ProtobufCBinaryData *d = &n->mptcp_endpoints[k];
		const struct rtattr *i = (const struct rtattr *)d->data;
		int len = (int)d->len;

		if (d->len > UINT16_MAX / 16 || (uintptr_t)d->data % sizeof(uint32_t) != 0)
			return true;
		netlink_for(i, len)
		{
			unsigned type = i->rta_type & NLA_TYPE_MASK;

			if (type >= 32 || !(kept & BIT(type)))
				return true;
		}
		if (len != 0)
			return true;
	}
	return false;
}
