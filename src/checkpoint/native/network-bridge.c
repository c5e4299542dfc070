/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VLANs and multicast groups of bridges: the kernel shows all of an interface in one message, and takes one at a time. And what every
 * namespace and every bridge begin with, which no image needs to say. Source: linux/if_bridge.h, linux/if_addrlabel.h.
 */
#include <errno.h>
#include <linux/if_addrlabel.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>

#include "checkpoint/native/network.h"

#define BIT(n) (1u << (n))

enum {
	MCAST_EXCLUDE = 0,	     /* of a group, the usual mode: not from ... */
	STATE_FORWARDING = 3,	     /* BR_STATE_FORWARDING, what a VLAN begins with */
	VLANDB_ENTRY_MAX_GROUPS = 8, /* newer headers have them */
	VLANDB_ENTRY_NEIGH_SUPPRESS = 9,
	USUAL_VLAN = BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED,
};

/* VLANs -------------------------------------------------------------------------------------------------------------- */

static uint8_t byte_of(const struct rtattr *a)
{
	return RTA_PAYLOAD(a) >= 1 ? *(const uint8_t *)RTA_DATA(a) : 0;
}

/* A request for a tunnel says that it is one to set. */
static void put_tunnel(struct netlink_message *m, const struct rtattr *a)
{
	size_t nest = netlink_nest(m, BRIDGE_VLANDB_ENTRY_TUNNEL_INFO);

	netlink_put_u32(m, BRIDGE_VLANDB_TINFO_ID,
		netlink_u32(netlink_find(RTA_DATA(a), RTA_PAYLOAD(a), BRIDGE_VLANDB_TINFO_ID), 0));
	netlink_put_u32(m, BRIDGE_VLANDB_TINFO_CMD, RTM_SETLINK);
	netlink_end_nest(m, nest);
}

/* Options only where they are not what they begin as: not every kernel takes them. */
static void put_vlan_attribute(struct netlink_message *m, const struct rtattr *a)
{
	unsigned type = a->rta_type & NLA_TYPE_MASK;
	bool differs = true;

	switch (type) {
	case BRIDGE_VLANDB_ENTRY_TUNNEL_INFO:
		put_tunnel(m, a);
		return;
	case BRIDGE_VLANDB_ENTRY_INFO:
	case BRIDGE_VLANDB_ENTRY_RANGE:
		break;
	case BRIDGE_VLANDB_ENTRY_STATE:
		differs = byte_of(a) != STATE_FORWARDING;
		break;
	case BRIDGE_VLANDB_ENTRY_MCAST_ROUTER:
		differs = byte_of(a) != MDB_RTR_TYPE_TEMP_QUERY;
		break;
	case VLANDB_ENTRY_MAX_GROUPS:
	case VLANDB_ENTRY_NEIGH_SUPPRESS:
		differs = byte_of(a) != 0 || netlink_u32(a, 0) != 0;
		break;
	default:
		return;
	}
	if (differs)
		netlink_put(m, type, RTA_DATA(a), RTA_PAYLOAD(a));
}

int network_split_vlans(
	const struct nlmsghdr *h, int (*give)(const struct netlink_message *m, void *arg), void *arg)
{
	int len, r = 0;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct br_vlan_msg), &len);

	if (!a || h->nlmsg_type != RTM_NEWVLAN)
		return -EBADMSG;
	netlink_for(a, len)
	{
		const struct rtattr *i = RTA_DATA(a);
		struct netlink_message m;
		int left = RTA_PAYLOAD(a);
		size_t nest;

		if ((a->rta_type & NLA_TYPE_MASK) != BRIDGE_VLANDB_ENTRY)
			continue;
		memcpy(netlink_begin(&m, RTM_NEWVLAN, 0, sizeof(struct br_vlan_msg)), NLMSG_DATA(h),
			sizeof(struct br_vlan_msg));
		m.h.nlmsg_flags = 0;
		nest = netlink_nest(&m, BRIDGE_VLANDB_ENTRY);
		netlink_for(i, left) put_vlan_attribute(&m, i);
		netlink_end_nest(&m, nest);
		r = give(&m, arg);
		if (r < 0)
			return r;
	}
	return 0;
}

static uint16_t number_of(const St__Link *l, int type)
{
	const struct rtattr *a = netlink_find((const struct rtattr *)l->data.data, l->data.len, type);
	uint16_t v = 0;

	if (a && RTA_PAYLOAD(a) >= sizeof(v))
		memcpy(&v, RTA_DATA(a), sizeof(v));
	return v;
}

static const St__Link *bridge_of(const St__Network *n, const St__Link *l)
{
	if (l && strcmp(l->kind, "bridge") == 0)
		return l;
	return l && l->master && strcmp(l->slave_kind, "bridge") == 0 ? network_link(n, l->master) : NULL;
}

/* Only the one that its bridge gives every port. */
static bool is_usual_vlan(const St__Network *n, const ProtobufCBinaryData *d)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)d->data;
	const struct br_vlan_msg *m = NLMSG_DATA(h);
	const St__Link *bridge = bridge_of(n, network_link(n, (int)m->ifindex));
	struct bridge_vlan_info info;
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(*m), &len);

	a = netlink_find(a, len, BRIDGE_VLANDB_ENTRY);
	if (!a || !bridge || RTA_PAYLOAD(a) != RTA_SPACE(sizeof(info)))
		return false;
	a = netlink_find(RTA_DATA(a), RTA_PAYLOAD(a), BRIDGE_VLANDB_ENTRY_INFO);
	if (!a || RTA_PAYLOAD(a) < sizeof(info))
		return false;
	memcpy(&info, RTA_DATA(a), sizeof(info));
	return info.flags == USUAL_VLAN && info.vid == number_of(bridge, IFLA_BR_VLAN_DEFAULT_PVID);
}

bool network_vlans_are_usual(const St__Network *n)
{
	size_t expected = 0;

	for (size_t i = 0; i < n->n_links; i++) {
		const St__Link *l = n->links[i], *bridge = bridge_of(n, l);
		const struct rtattr *filters = netlink_find(
			(const struct rtattr *)l->data.data, l->data.len, IFLA_BR_VLAN_FILTERING);

		if (bridge == l && filters && byte_of(filters))
			return false;
		expected += bridge && number_of(bridge, IFLA_BR_VLAN_DEFAULT_PVID) != 0;
	}
	for (size_t i = 0; i < n->n_vlans; i++)
		if (!is_usual_vlan(n, &n->vlans[i]))
			return false;
	return n->n_vlans == 0 || n->n_vlans == expected;
}

/* Multicast groups --------------------------------------------------------------------------------------------------- */

static int give_group(uint32_t bridge, const struct rtattr *info,
	int (*give)(const struct netlink_message *m, void *arg), void *arg)
{
	struct br_mdb_entry entry;
	const struct rtattr *source;
	struct netlink_message m;
	struct br_port_msg *header;
	size_t nest;

	if (RTA_PAYLOAD(info) < sizeof(entry))
		return -EBADMSG;
	memcpy(&entry, RTA_DATA(info), sizeof(entry));
	if (!(entry.state & MDB_PERMANENT))
		return 0; /* it has been learned */
	entry.flags = 0;
	header = netlink_begin(&m, RTM_NEWMDB, 0, sizeof(*header));
	m.h.nlmsg_flags = 0;
	*header = (struct br_port_msg){.family = AF_BRIDGE, .ifindex = bridge};
	netlink_put(&m, MDBA_SET_ENTRY, &entry, sizeof(entry));
	source =
		netlink_find((const struct rtattr *)((const char *)RTA_DATA(info) + NLA_ALIGN(sizeof(entry))),
			(int)(RTA_PAYLOAD(info) - NLA_ALIGN(sizeof(entry))), MDBA_MDB_EATTR_SOURCE);
	if (source) {
		nest = netlink_nest(&m, MDBA_SET_ENTRY_ATTRS);
		netlink_put(&m, MDBE_ATTR_SOURCE, RTA_DATA(source), RTA_PAYLOAD(source));
		netlink_end_nest(&m, nest);
	}
	return give(&m, arg);
}

int network_split_groups(
	const struct nlmsghdr *h, int (*give)(const struct netlink_message *m, void *arg), void *arg)
{
	int len, r = 0;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct br_port_msg), &len), *entry, *info;
	uint32_t bridge = a ? ((const struct br_port_msg *)NLMSG_DATA(h))->ifindex : 0;
	int left, rest;

	if (!a)
		return -EBADMSG;
	a = netlink_find(a, len, MDBA_MDB);
	entry = a ? RTA_DATA(a) : NULL;
	left = a ? (int)RTA_PAYLOAD(a) : 0;
	netlink_for(entry, left)
	{
		info = RTA_DATA(entry);
		rest = RTA_PAYLOAD(entry);
		netlink_for(info, rest)
		{
			r = (info->rta_type & NLA_TYPE_MASK) == MDBA_MDB_ENTRY_INFO
				    ? give_group(bridge, info, give, arg)
				    : 0;
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* Address labels ------------------------------------------------------------------------------------------------------ */

bool network_labels_are_usual(const St__Network *n)
{
	/* RFC 6724, as the kernel has it. */
	static const struct {
		uint8_t prefix[16];
		uint8_t len;
		uint32_t label;
	} usual[] = {
		{{}, 0, 1},
		{{0xfc}, 7, 5},
		{{0xfe, 0xc0}, 10, 11},
		{{0x20, 0x02}, 16, 2},
		{{0x3f, 0xfe}, 16, 12},
		{{0x20, 0x01}, 32, 6},
		{{0x20, 0x01, 0x00, 0x10}, 28, 7},
		{{[10] = 0xff, 0xff}, 96, 4},
		{{}, 96, 3},
		{{[15] = 1}, 128, 0},
	};
	size_t found = 0;

	for (size_t i = 0; i < n->n_address_labels; i++) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)n->address_labels[i].data;
		const struct ifaddrlblmsg *m = NLMSG_DATA(h);
		int len;
		const struct rtattr *a = netlink_attributes(h, sizeof(*m), &len),
				    *prefix = netlink_find(a, len, IFAL_ADDRESS);

		for (size_t k = 0; k < ARRAY_SIZE(usual); k++)
			found += prefix && RTA_PAYLOAD(prefix) == sizeof(usual[k].prefix) &&
				 m->ifal_index == 0 && m->ifal_prefixlen == usual[k].len &&
				 memcmp(RTA_DATA(prefix), usual[k].prefix, sizeof(usual[k].prefix)) == 0 &&
				 netlink_u32(netlink_find(a, len, IFAL_LABEL), UINT32_MAX) == usual[k].label;
	}
	/* A kernel without IPv6 has none. */
	return found == n->n_address_labels &&
	       (found == ARRAY_SIZE(usual) || n->n_links == 0 || n->links[0]->inet6_conf.len == 0);
}

/* What a namespace begins with is not recorded. */
void network_forget_usual(St__Network *n)
{
	if (!n->has_vlans)
		n->n_vlans = 0;
	if (!n->has_address_labels)
		n->n_address_labels = 0;
}

/* Refusing ------------------------------------------------------------------------------------------------------------ */

const char *network_bridge_refused(const St__Link *l)
{
	const uint32_t others = BIT(BR_BOOLOPT_MCAST_VLAN_SNOOPING) | BIT(BR_BOOLOPT_MST_ENABLE);
	const struct rtattr *a =
		netlink_find((const struct rtattr *)l->data.data, l->data.len, IFLA_BR_MULTI_BOOLOPT);
	struct br_boolopt_multi options;

	if (strcmp(l->kind, "bridge") != 0 || !a || RTA_PAYLOAD(a) < sizeof(options))
		return NULL;
	memcpy(&options, RTA_DATA(a), sizeof(options));
	return options.optval & others ? "what it keeps for each VLAN is not recorded" : NULL;
}

static const char *group_refused(const St__Link *bridge, const struct rtattr *info)
{
	const struct rtattr *a = (const struct rtattr *)((const char *)RTA_DATA(info) +
							 NLA_ALIGN(sizeof(struct br_mdb_entry)));
	int len = (int)RTA_PAYLOAD(info) - NLA_ALIGN(sizeof(struct br_mdb_entry));
	const struct rtattr *mode = netlink_find(a, len, MDBA_MDB_EATTR_GROUP_MODE),
			    *sources = netlink_find(a, len, MDBA_MDB_EATTR_SRC_LIST);

	if (!(((const struct br_mdb_entry *)RTA_DATA(info))->state & MDB_PERMANENT))
		return NULL;
	if (!bridge || strcmp(bridge->kind, "bridge") != 0)
		return "those of other interfaces than bridges are not recorded";
	if (!(bridge->flags & IFF_UP))
		return "its bridge is down, and would take none";
	if (netlink_find(a, len, MDBA_MDB_EATTR_SOURCE))
		return NULL;
	return (sources && RTA_PAYLOAD(sources) > 0) || (mode && byte_of(mode) != MCAST_EXCLUDE)
		       ? "its sources are not recorded"
		       : NULL;
}

struct groups {
	const St__Network *network;
	const char *refused;
};

static int take_groups(const struct nlmsghdr *h, void *arg)
{
	struct groups *g = arg;
	int len, left, rest;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct br_port_msg), &len), *entry, *info;
	const St__Link *bridge;

	if (!a)
		return -EBADMSG;
	bridge = network_link(g->network, (int)((const struct br_port_msg *)NLMSG_DATA(h))->ifindex);
	a = netlink_find(a, len, MDBA_MDB);
	entry = a ? RTA_DATA(a) : NULL;
	left = a ? (int)RTA_PAYLOAD(a) : 0;
	netlink_for(entry, left)
	{
		info = RTA_DATA(entry);
		rest = RTA_PAYLOAD(entry);
		netlink_for(info, rest)
		{
			if ((info->rta_type & NLA_TYPE_MASK) == MDBA_MDB_ENTRY_INFO &&
				RTA_PAYLOAD(info) >= NLA_ALIGN(sizeof(struct br_mdb_entry)) && !g->refused)
				g->refused = group_refused(bridge, info);
		}
	}
	return 0;
}

int network_groups_refused(int socket, const St__Network *n, const char **ret)
{
	struct groups g = {.network = n};
	struct netlink_message q;
	int r;

	((struct br_port_msg *)netlink_begin(&q, RTM_GETMDB, NLM_F_DUMP, sizeof(struct br_port_msg)))
		->family = AF_BRIDGE;
	r = netlink_ask(socket, &q, take_groups, &g);
	*ret = g.refused;
	return r == -EAGAIN || r == -EOPNOTSUPP || r == -EAFNOSUPPORT ? 0 : r;
}
