/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of things in a network namespace, and reading them. Sources: rtnetlink(7), linux/{if_link,if_addr,rtnetlink,
 * fib_rules,neighbour}.h. */
#include "checkpoint/native/network.h"

/* Before those of the kernel, which then leave out what they both define. */
#include <net/if.h>

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_addrlabel.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tunnel.h>
#include <linux/neighbour.h>
#include <linux/nexthop.h>
#include <string.h>
#include <sys/socket.h>

#include "checkpoint/native/network-mptcp.h"
#include "checkpoint/native/traffic.h"

#define BIT(n) (1ull << (n))

enum { TRIES = 10, USER_HZ = 100 };

static bool clean_address(void *header, const struct rtattr *a _unused_, int len _unused_)
{
	((struct ifaddrmsg *)header)->ifa_flags = 0; /* the attribute has all of them */
	return true;
}

static bool clean_neighbour(void *header, const struct rtattr *a _unused_, int len _unused_)
{
	struct ndmsg *m = header;

	m->ndm_type = 0;
	return (m->ndm_state & NUD_PERMANENT) || (m->ndm_flags & NTF_PROXY);
}

static bool clean_rule(void *header, const struct rtattr *a _unused_, int len _unused_)
{
	((struct fib_rule_hdr *)header)->flags &= FIB_RULE_INVERT;
	return true;
}

/* Entries of the cache are no routes; and what IPv6 has for its own addresses comes and goes with these, by a worker, and
 * cannot be made by hand (the metric 0 stands for 1024 then). */
static bool clean_route(void *header, const struct rtattr *a, int len)
{
	struct rtmsg *m = header;
	bool cached = m->rtm_flags & RTM_F_CLONED;
	bool of_address = m->rtm_family == AF_INET6 && m->rtm_protocol == RTPROT_KERNEL &&
			  (m->rtm_type == RTN_LOCAL || m->rtm_type == RTN_ANYCAST) &&
			  netlink_u32(netlink_find(a, len, RTA_PRIORITY), 0) == 0;

	m->rtm_flags &= RTNH_F_ONLINK | RTNH_F_PERVASIVE;
	return !cached && !of_address;
}

/* What a bridge or a vxlan forwards by. Not what it has learned, nor groups that protocols have joined. */
static bool clean_forwarding(void *header, const struct rtattr *a, int len)
{
	const struct rtattr *address = netlink_find(a, len, NDA_LLADDR);
	struct ndmsg *m = header;
	bool of_group = address && RTA_PAYLOAD(address) >= 1 && (*(const uint8_t *)RTA_DATA(address) & 1);
	bool configured = m->ndm_state & (NUD_PERMANENT | NUD_NOARP);

	m->ndm_type = 0;
	m->ndm_flags &= NTF_SELF | NTF_STICKY | NTF_EXT_LEARNED;
	/* Of the bridge itself: a request has to say so. */
	if ((int)netlink_u32(netlink_find(a, len, NDA_MASTER), 0) == m->ndm_ifindex)
		m->ndm_flags |= NTF_SELF;
	return configured && !of_group;
}

static bool clean_nexthop(void *header, const struct rtattr *a _unused_, int len _unused_)
{
	struct nhmsg *m = header;

	m->nh_scope = 0;
	m->nh_flags &= RTNH_F_ONLINK;
	return true;
}

static bool clean_label(void *header, const struct rtattr *a _unused_, int len _unused_)
{
	((struct ifaddrlblmsg *)header)->ifal_seq = 0;
	return true;
}

const struct net_kind net_kinds[NET_KINDS] = {
	[NET_ADDRESS] = {"address", RTM_GETADDR, RTM_NEWADDR, RTM_DELADDR, sizeof(struct ifaddrmsg),
		BIT(IFA_ADDRESS) | BIT(IFA_LOCAL) | BIT(IFA_LABEL) | BIT(IFA_BROADCAST) | BIT(IFA_CACHEINFO) |
			BIT(IFA_FLAGS) | BIT(IFA_RT_PRIORITY) | BIT(IFA_PROTO),
		BIT(IFA_CACHEINFO), clean_address},
	[NET_NEIGHBOUR] = {"neighbour", RTM_GETNEIGH, RTM_NEWNEIGH, RTM_DELNEIGH, sizeof(struct ndmsg),
		BIT(NDA_DST) | BIT(NDA_LLADDR) | BIT(NDA_PROTOCOL) | BIT(NDA_FLAGS_EXT), 0, clean_neighbour},
	[NET_RULE] = {"rule", RTM_GETRULE, RTM_NEWRULE, RTM_DELRULE, sizeof(struct fib_rule_hdr),
		UINT32_MAX & ~BIT(FRA_PAD), 0, clean_rule},
	[NET_ROUTE] = {"route", RTM_GETROUTE, RTM_NEWROUTE, RTM_DELROUTE, sizeof(struct rtmsg),
		BIT(RTA_DST) | BIT(RTA_SRC) | BIT(RTA_IIF) | BIT(RTA_OIF) | BIT(RTA_GATEWAY) |
			BIT(RTA_PRIORITY) | BIT(RTA_PREFSRC) | BIT(RTA_METRICS) | BIT(RTA_MULTIPATH) |
			BIT(RTA_FLOW) | BIT(RTA_TABLE) | BIT(RTA_VIA) | BIT(RTA_NEWDST) | BIT(RTA_PREF) |
			BIT(RTA_ENCAP_TYPE) | BIT(RTA_ENCAP) | BIT(RTA_EXPIRES) | BIT(RTA_TTL_PROPAGATE) |
			BIT(RTA_NH_ID),
		BIT(RTA_EXPIRES), clean_route},
	[NET_FORWARDING] = {"forwarding entry", RTM_GETNEIGH, RTM_NEWNEIGH, RTM_DELNEIGH,
		sizeof(struct ndmsg),
		BIT(NDA_DST) | BIT(NDA_LLADDR) | BIT(NDA_VLAN) | BIT(NDA_PORT) | BIT(NDA_VNI) |
			BIT(NDA_IFINDEX) | BIT(NDA_SRC_VNI) | BIT(NDA_NH_ID),
		0, clean_forwarding},
	[NET_NEXTHOP] = {"nexthop", RTM_GETNEXTHOP, RTM_NEWNEXTHOP, RTM_DELNEXTHOP, sizeof(struct nhmsg),
		BIT(NHA_ID) | BIT(NHA_GROUP) | BIT(NHA_GROUP_TYPE) | BIT(NHA_BLACKHOLE) | BIT(NHA_OIF) |
			BIT(NHA_GATEWAY) | BIT(NHA_ENCAP_TYPE) | BIT(NHA_ENCAP) | BIT(NHA_FDB),
		0, clean_nexthop},
	[NET_VLAN] = {"VLAN of a bridge", RTM_GETVLAN, RTM_NEWVLAN, RTM_DELVLAN, sizeof(struct br_vlan_msg),
		BIT(BRIDGE_VLANDB_ENTRY), 0, .split = network_split_vlans},
	[NET_GROUP] = {"multicast group of a bridge", RTM_GETMDB, RTM_NEWMDB, RTM_DELMDB,
		sizeof(struct br_port_msg), BIT(MDBA_SET_ENTRY) | BIT(MDBA_SET_ENTRY_ATTRS), 0,
		.split = network_split_groups},
	[NET_LABEL] = {"address label", RTM_GETADDRLABEL, RTM_NEWADDRLABEL, RTM_DELADDRLABEL,
		sizeof(struct ifaddrlblmsg), BIT(IFAL_ADDRESS) | BIT(IFAL_LABEL), 0, clean_label},
};

struct net_list network_list(St__Network *n, enum net_kind_id kind)
{
	switch (kind) {
	case NET_ADDRESS:
		return (struct net_list){&n->addresses, &n->n_addresses};
	case NET_NEIGHBOUR:
		return (struct net_list){&n->neighbours, &n->n_neighbours};
	case NET_RULE:
		return (struct net_list){&n->rules, &n->n_rules};
	case NET_FORWARDING:
		return (struct net_list){&n->forwarding, &n->n_forwarding};
	case NET_NEXTHOP:
		return (struct net_list){&n->nexthops, &n->n_nexthops};
	case NET_VLAN:
		return (struct net_list){&n->vlans, &n->n_vlans};
	case NET_GROUP:
		return (struct net_list){&n->groups, &n->n_groups};
	case NET_LABEL:
		return (struct net_list){&n->address_labels, &n->n_address_labels};
	default:
		return (struct net_list){&n->routes, &n->n_routes};
	}
}

bool network_says(const St__Network *n, enum net_kind_id kind)
{
	return kind == NET_VLAN ? n->has_vlans : kind == NET_LABEL ? n->has_address_labels : true;
}

struct reading {
	struct arena *a;
	const struct net_kind *kind;
	struct net_list list; /* of messages; or ... */
	St__Network *network; /* ... links */
	size_t max;
};

static void clear_hop_flags(struct rtattr *multipath)
{
	struct rtnexthop *hop = RTA_DATA(multipath);
	int left = RTA_PAYLOAD(multipath);

	for (; left >= (int)sizeof(*hop) && RTNH_OK(hop, left); hop = RTNH_NEXT(hop)) {
		hop->rtnh_flags &= RTNH_F_ONLINK | RTNH_F_PERVASIVE;
		left -= RTNH_ALIGN(hop->rtnh_len);
	}
}

/* Flags of an address that describe what becomes of it, not what it was given as. */
static void clear_address_flags(struct rtattr *flags)
{
	uint32_t value = netlink_u32(flags, 0) & ~(IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_OPTIMISTIC |
							 IFA_F_DEPRECATED | IFA_F_STABLE_PRIVACY);

	memcpy(RTA_DATA(flags), &value, MIN(sizeof(value), RTA_PAYLOAD(flags)));
}

static void put_attribute(struct netlink_message *m, const struct net_kind *k, const struct rtattr *a)
{
	size_t at = m->h.nlmsg_len;

	netlink_put(m, a->rta_type, RTA_DATA(a), RTA_PAYLOAD(a));
	if (m->h.nlmsg_len > sizeof(*m))
		return;
	if (k->get == RTM_GETROUTE && a->rta_type == RTA_MULTIPATH)
		clear_hop_flags((struct rtattr *)((char *)m + at));
	if (k->get == RTM_GETADDR && a->rta_type == IFA_FLAGS)
		clear_address_flags((struct rtattr *)((char *)m + at));
	if (k->get == RTM_GETADDR && a->rta_type == IFA_CACHEINFO && RTA_PAYLOAD(a) >= 16)
		memset((char *)m + at + RTA_LENGTH(8), 0, 8); /* when it was made and changed */
}

/* A route of IPv6 says in its cacheinfo how long it is good for. */
static void put_expiry(struct netlink_message *m, const struct rtattr *a, int len)
{
	const struct rtattr *cache = netlink_find(a, len, RTA_CACHEINFO);
	struct rta_cacheinfo info;

	if (!cache || RTA_PAYLOAD(cache) < sizeof(info))
		return;
	memcpy(&info, RTA_DATA(cache), sizeof(info));
	if (info.rta_expires > 0)
		netlink_put_u32(m, RTA_EXPIRES, info.rta_expires / USER_HZ);
}

/* What a route by a nexthop object shows of that, and must not be asked for together with it. */
static bool is_nexthops(const struct net_kind *k, int type, const struct rtattr *all, int len)
{
	const uint32_t shown = BIT(RTA_OIF) | BIT(RTA_GATEWAY) | BIT(RTA_VIA) | BIT(RTA_MULTIPATH) |
			       BIT(RTA_ENCAP_TYPE) | BIT(RTA_ENCAP) | BIT(RTA_FLOW);

	return k->get == RTM_GETROUTE && (shown & BIT(type)) && netlink_find(all, len, RTA_NH_ID);
}

static int add_message(const struct netlink_message *m, void *arg)
{
	struct reading *r = arg;
	ProtobufCBinaryData *b;

	if (m->h.nlmsg_len > sizeof(*m))
		return -EMSGSIZE;
	*r->list.items = arena_grow(r->a, *r->list.items, *r->list.n, &r->max, sizeof(**r->list.items));
	if (!*r->list.items)
		return -ENOMEM;
	b = &(*r->list.items)[*r->list.n];
	b->len = m->h.nlmsg_len;
	b->data = arena_memdup(r->a, m, b->len);
	++*r->list.n;
	return b->data ? 0 : -ENOMEM;
}

static int take_message(const struct nlmsghdr *h, void *arg)
{
	struct reading *r = arg;
	const struct net_kind *k = r->kind;
	struct netlink_message m;
	const struct rtattr *a;
	void *header;
	int len, left;

	if (k->split)
		return k->split(h, add_message, r);
	a = netlink_attributes(h, k->header, &len);
	if (!a || h->nlmsg_type != k->new)
		return -EBADMSG;
	header = netlink_begin(&m, k->new, 0, k->header);
	memcpy(header, NLMSG_DATA(h), k->header);
	if (!k->clean(header, a, len))
		return 0;
	m.h.nlmsg_flags = 0;
	left = len;
	for (const struct rtattr *i = a; RTA_OK(i, left); i = RTA_NEXT(i, left))
		if ((i->rta_type & NLA_TYPE_MASK) < 32 && (k->kept & BIT(i->rta_type & NLA_TYPE_MASK)) &&
			!is_nexthops(k, i->rta_type & NLA_TYPE_MASK, a, len))
			put_attribute(&m, k, i);
	if (k->get == RTM_GETROUTE)
		put_expiry(&m, a, len);
	return add_message(&m, r);
}

/* Asks until nothing changed meanwhile. What the kernel does not know is not there. */
static int list_of(int socket, const struct netlink_message *q, netlink_answer_fn take, struct reading *r)
{
	size_t before = r->list.n ? *r->list.n : 0;
	int result = -EAGAIN;

	for (int i = 0; i < TRIES && result == -EAGAIN; i++) {
		if (r->list.n)
			*r->list.n = before;
		else
			r->network->n_links = 0;
		result = netlink_ask(socket, q, take, r);
	}
	return result == -EAFNOSUPPORT || result == -EOPNOTSUPP ? 0 : result;
}

static int read_kind(int socket, struct reading *r, int family, int neighbour_flags)
{
	struct netlink_message q;
	char *header = netlink_begin(&q, r->kind->get, NLM_F_DUMP, r->kind->header);

	header[0] = family; /* the first member of each of these headers */
	if (r->kind->get == RTM_GETNEIGH)
		((struct ndmsg *)header)->ndm_flags = neighbour_flags;
	return list_of(socket, &q, take_message, r);
}

/* Links ------------------------------------------------------------------------------------------------------------- */

#define RANGE(from, to) ((BIT((to) + 1) - 1) & ~(BIT(from) - 1))

/* What newer headers define. */
enum {
	BR_FDB_MAX_LEARNED = 49,
	BRPORT_MAB = 40,
	BRPORT_MCAST_MAX_GROUPS = 42,
	BRPORT_NEIGH_VLAN_SUPPRESS = 43,
	BRPORT_BACKUP_NHID = 44,
};

#define MACVLAN_DATA (BIT(IFLA_MACVLAN_MODE) | BIT(IFLA_MACVLAN_FLAGS) | BIT(IFLA_MACVLAN_BC_QUEUE_LEN))
#define IPVLAN_DATA (BIT(IFLA_IPVLAN_MODE) | BIT(IFLA_IPVLAN_FLAGS))
#define VXLAN_DATA (RANGE(IFLA_VXLAN_ID, IFLA_VXLAN_DF) & ~BIT(IFLA_VXLAN_LINK))
#define BRIDGE_DATA                                                                                          \
	((RANGE(IFLA_BR_FORWARD_DELAY, IFLA_BR_GROUP_FWD_MASK) |                                             \
		 RANGE(IFLA_BR_MCAST_ROUTER, IFLA_BR_MULTI_BOOLOPT)) &                                       \
		~BIT(IFLA_BR_PAD))
/* Asked for by who has changed it. */
#define BRIDGE_ASKED (BIT(IFLA_BR_VLAN_FILTERING) | BIT(BR_FDB_MAX_LEARNED))

#define IPTUN_DATA                                                                                           \
	(RANGE(IFLA_IPTUN_LOCAL, IFLA_IPTUN_PMTUDISC) |                                                      \
		RANGE(IFLA_IPTUN_ENCAP_TYPE, IFLA_IPTUN_COLLECT_METADATA) | BIT(IFLA_IPTUN_FWMARK))
#define SIT_DATA (IPTUN_DATA | RANGE(IFLA_IPTUN_6RD_PREFIX, IFLA_IPTUN_6RD_RELAY_PREFIXLEN))
#define GRE_DATA                                                                                             \
	(RANGE(IFLA_GRE_IFLAGS, IFLA_GRE_ENCAP_DPORT) | RANGE(IFLA_GRE_COLLECT_METADATA, IFLA_GRE_FWMARK))
#define TUNNEL(kind, attributes, link, metadata)                                                             \
	{                                                                                                    \
		.name = kind, .shown = (attributes) | BIT(link), .data = (attributes),                       \
		.flags = BIT(metadata), .external = BIT(metadata), .has_lower = true, .lower = link          \
	}

static const struct link_kind link_kinds[] = {
	TUNNEL("ipip", IPTUN_DATA, IFLA_IPTUN_LINK, IFLA_IPTUN_COLLECT_METADATA),
	TUNNEL("sit", SIT_DATA, IFLA_IPTUN_LINK, IFLA_IPTUN_COLLECT_METADATA),
	TUNNEL("ip6tnl", IPTUN_DATA, IFLA_IPTUN_LINK, IFLA_IPTUN_COLLECT_METADATA),
	TUNNEL("gre", GRE_DATA, IFLA_GRE_LINK, IFLA_GRE_COLLECT_METADATA),
	TUNNEL("gretap", GRE_DATA, IFLA_GRE_LINK, IFLA_GRE_COLLECT_METADATA),
	TUNNEL("ip6gre", GRE_DATA, IFLA_GRE_LINK, IFLA_GRE_COLLECT_METADATA),
	{.name = "veth"},
	{.name = "dummy"},
	{.name = "ifb"},
	{.name = "bridge",
		.shown = BRIDGE_DATA | BRIDGE_ASKED | BIT(IFLA_BR_GROUP_ADDR),
		.data = BRIDGE_DATA | BRIDGE_ASKED | BIT(IFLA_BR_GROUP_ADDR),
		.asked = BRIDGE_ASKED},
	{.name = "vlan",
		.shown = RANGE(IFLA_VLAN_ID, IFLA_VLAN_PROTOCOL),
		.data = RANGE(IFLA_VLAN_ID, IFLA_VLAN_PROTOCOL),
		.has_lower = true},
	{.name = "macvlan", .shown = MACVLAN_DATA, .data = MACVLAN_DATA, .has_lower = true},
	/* Its device belongs to nobody who could be recorded: that is refused with the descriptor. */
	{.name = "macvtap", .shown = MACVLAN_DATA, .data = MACVLAN_DATA, .has_lower = true},
	{.name = "tun", .shown = RANGE(IFLA_TUN_OWNER, IFLA_TUN_NUM_DISABLED_QUEUES)},
	{.name = "ipvlan", .shown = IPVLAN_DATA, .data = IPVLAN_DATA, .has_lower = true},
	{.name = "vxlan",
		.shown = VXLAN_DATA | BIT(IFLA_VXLAN_LINK),
		.data = VXLAN_DATA,
		.flags = BIT(IFLA_VXLAN_TTL_INHERIT),
		.has_lower = true,
		.lower = IFLA_VXLAN_LINK},
	{.name = "vrf", .shown = BIT(IFLA_VRF_TABLE), .data = BIT(IFLA_VRF_TABLE)},
};

/* What a port of a bridge is given; the rest is its state. */
const uint64_t network_port_data =
	RANGE(IFLA_BRPORT_PRIORITY, IFLA_BRPORT_PROXYARP) | BIT(IFLA_BRPORT_PROXYARP_WIFI) |
	RANGE(IFLA_BRPORT_MULTICAST_ROUTER, IFLA_BRPORT_MULTICAST_ROUTER) |
	RANGE(IFLA_BRPORT_MCAST_FLOOD, IFLA_BRPORT_ISOLATED) | BIT(IFLA_BRPORT_MCAST_EHT_HOSTS_LIMIT) |
	BIT(IFLA_BRPORT_LOCKED) | BIT(BRPORT_MAB) | BIT(BRPORT_MCAST_MAX_GROUPS) |
	BIT(BRPORT_NEIGH_VLAN_SUPPRESS) | BIT(BRPORT_BACKUP_NHID);

const struct link_kind *link_kind_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(link_kinds); i++)
		if (strcmp(link_kinds[i].name, name) == 0)
			return &link_kinds[i];
	return NULL;
}

const St__Link *network_link(const St__Network *n, int index)
{
	for (size_t i = 0; i < n->n_links; i++)
		if (n->links[i]->index == index)
			return n->links[i];
	return NULL;
}

const St__Link *network_link_named(const St__Network *n, const char *name)
{
	for (size_t i = 0; i < n->n_links; i++)
		if (strcmp(n->links[i]->name, name) == 0)
			return n->links[i];
	return NULL;
}

static char *text_of(struct arena *a, const struct rtattr *attribute)
{
	return attribute ? arena_strndup(a, RTA_DATA(attribute),
				   strnlen(RTA_DATA(attribute), RTA_PAYLOAD(attribute)))
			 : arena_strdup(a, "");
}

static ProtobufCBinaryData bytes_of(struct arena *a, const struct rtattr *attribute)
{
	ProtobufCBinaryData b = {};

	if (attribute && RTA_PAYLOAD(attribute) > 0) {
		b.data = arena_memdup(a, RTA_DATA(attribute), RTA_PAYLOAD(attribute));
		b.len = b.data ? RTA_PAYLOAD(attribute) : 0;
	}
	return b;
}

/* Those attributes within "nested" that can be set. */
static ProtobufCBinaryData settable(
	struct arena *a, const struct rtattr *nested, uint64_t allowed, uint64_t flags)
{
	struct netlink_message m;
	const struct rtattr *i = nested ? RTA_DATA(nested) : NULL;
	int len = nested ? RTA_PAYLOAD(nested) : 0;
	ProtobufCBinaryData b = {};

	(void)netlink_begin(&m, 0, 0, 0);
	netlink_for(i, len)
	{
		unsigned type = i->rta_type & NLA_TYPE_MASK;

		if (type >= 64 || !(allowed & BIT(type)))
			continue;
		if (!(flags & BIT(type)))
			netlink_put(&m, i->rta_type, RTA_DATA(i), RTA_PAYLOAD(i));
		else if (RTA_PAYLOAD(i) == 0 || *(const uint8_t *)RTA_DATA(i))
			netlink_put(&m, i->rta_type, NULL, 0);
	}
	if (m.h.nlmsg_len <= sizeof(m) && m.h.nlmsg_len > NLMSG_LENGTH(0)) {
		b.len = m.h.nlmsg_len - NLMSG_LENGTH(0);
		b.data = arena_memdup(a, m.body, b.len);
		if (!b.data)
			b.len = 0;
	}
	return b;
}

/* The kernel shows all options that a bridge can have, but is to be asked only for those that are on; and who sets the address of
 * its protocol has it for his own from then on. */
static void keep_options_that_are_on(St__Link *l)
{
	static const uint8_t usual[] = {0x01, 0x80, 0xc2, 0x00, 0x00, 0x00};
	const struct rtattr *a =
		netlink_find((const struct rtattr *)l->data.data, l->data.len, IFLA_BR_MULTI_BOOLOPT);
	struct rtattr *group = (struct rtattr *)netlink_find(
		(const struct rtattr *)l->data.data, l->data.len, IFLA_BR_GROUP_ADDR);
	struct br_boolopt_multi options;

	if (strcmp(l->kind, "bridge") != 0)
		return;
	if (group && RTA_PAYLOAD(group) == sizeof(usual) &&
		memcmp(RTA_DATA(group), usual, sizeof(usual)) == 0)
		group->rta_type = 0;
	if (!a || RTA_PAYLOAD(a) < sizeof(options))
		return;
	memcpy(&options, RTA_DATA(a), sizeof(options));
	options.optmask = options.optval;
	memcpy(RTA_DATA(a), &options, sizeof(options));
}

static const struct rtattr *within(const struct rtattr *nested, int type)
{
	return nested ? netlink_find(RTA_DATA(nested), RTA_PAYLOAD(nested), type) : NULL;
}

static int other_names(struct arena *a, St__Link *l, const struct rtattr *list)
{
	const struct rtattr *i = list ? RTA_DATA(list) : NULL;
	int len = list ? RTA_PAYLOAD(list) : 0;
	size_t max = 0;

	netlink_for(i, len)
	{
		if ((i->rta_type & NLA_TYPE_MASK) != IFLA_ALT_IFNAME)
			continue;
		l->other_names = arena_grow(a, l->other_names, l->n_other_names, &max, sizeof(char *));
		if (!l->other_names || !(l->other_names[l->n_other_names] = text_of(a, i)))
			return -ENOMEM;
		l->n_other_names++;
	}
	return 0;
}

static int fill_link(struct arena *a, St__Link *l, const struct rtattr *all, int len)
{
	const struct rtattr *info = netlink_find(all, len, IFLA_LINKINFO);
	const struct rtattr *spec = netlink_find(all, len, IFLA_AF_SPEC);
	const struct link_kind *kind;

	l->name = text_of(a, netlink_find(all, len, IFLA_IFNAME));
	l->kind = text_of(a, within(info, IFLA_INFO_KIND));
	l->slave_kind = text_of(a, within(info, IFLA_INFO_SLAVE_KIND));
	l->alias = text_of(a, netlink_find(all, len, IFLA_IFALIAS));
	if (!l->name || !l->kind || !l->slave_kind || !l->alias)
		return -ENOMEM;
	kind = link_kind_find(l->kind);
	l->data = settable(a, within(info, IFLA_INFO_DATA), kind ? kind->shown : 0, kind ? kind->flags : 0);
	keep_options_that_are_on(l);
	if (strcmp(l->slave_kind, "bridge") == 0)
		l->slave_data = settable(a, within(info, IFLA_INFO_SLAVE_DATA), network_port_data, 0);
	l->backup_port = netlink_u32(within(within(info, IFLA_INFO_SLAVE_DATA), IFLA_BRPORT_BACKUP_PORT), 0);
	l->address = bytes_of(a, netlink_find(all, len, IFLA_ADDRESS));
	l->mtu = netlink_u32(netlink_find(all, len, IFLA_MTU), 0);
	l->txqlen = netlink_u32(netlink_find(all, len, IFLA_TXQLEN), 0);
	l->lower = netlink_u32(netlink_find(all, len, IFLA_LINK), 0);
	if (kind && kind->lower)
		l->lower = netlink_u32(
			netlink_find((const struct rtattr *)l->data.data, l->data.len, kind->lower), 0);
	l->outside = netlink_find(all, len, IFLA_LINK_NETNSID) != NULL;
	l->peer_nsid = netlink_u32(netlink_find(all, len, IFLA_LINK_NETNSID), 0);
	l->master = netlink_u32(netlink_find(all, len, IFLA_MASTER), 0);
	l->group = netlink_u32(netlink_find(all, len, IFLA_GROUP), 0);
	l->tx_queues = netlink_u32(netlink_find(all, len, IFLA_NUM_TX_QUEUES), 1);
	l->rx_queues = netlink_u32(netlink_find(all, len, IFLA_NUM_RX_QUEUES), 1);
	l->inet_conf = bytes_of(a, within(within(spec, AF_INET), IFLA_INET_CONF));
	l->inet6_conf = bytes_of(a, within(within(spec, AF_INET6), IFLA_INET6_CONF));
	spec = within(within(spec, AF_INET6), IFLA_INET6_ADDR_GEN_MODE);
	l->addr_gen_mode = spec && RTA_PAYLOAD(spec) >= 1 ? *(const uint8_t *)RTA_DATA(spec) : 0;
	return other_names(a, l, netlink_find(all, len, IFLA_PROP_LIST));
}

static int take_link(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *m = NLMSG_DATA(h);
	struct reading *r = arg;
	St__Network *n = r->network;
	const struct rtattr *a;
	St__Link *l;
	int len, result;

	a = netlink_attributes(h, sizeof(*m), &len);
	if (!a || h->nlmsg_type != RTM_NEWLINK)
		return -EBADMSG;
	n->links = arena_grow(r->a, n->links, n->n_links, &r->max, sizeof(*n->links));
	l = arena_new(r->a, St__Link);
	if (!n->links || !l)
		return -ENOMEM;
	st__link__init(l);
	l->index = m->ifi_index;
	l->flags = m->ifi_flags;
	result = fill_link(r->a, l, a, len);
	n->links[n->n_links++] = l;
	return result;
}

static int by_index(const void *a, const void *b)
{
	return (*(St__Link *const *)a)->index - (*(St__Link *const *)b)->index;
}

static int read_links(int socket, struct arena *a, St__Network *n)
{
	struct reading r = {.a = a, .network = n};
	struct netlink_message q;
	int result;

	(void)netlink_begin(&q, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
	result = list_of(socket, &q, take_link, &r);
	if (result == 0 && n->n_links > 1)
		qsort(n->links, n->n_links, sizeof(*n->links), by_index);
	return result;
}

static bool has_kind(const St__Network *n, const char *kind)
{
	for (size_t i = 0; i < n->n_links; i++)
		if (strcmp(n->links[i]->kind, kind) == 0)
			return true;
	return false;
}

/* Whether there can be any of that kind. */
static bool is_asked_for(const St__Network *n, enum net_kind_id k)
{
	if (k == NET_VLAN || k == NET_GROUP)
		return has_kind(n, "bridge") || (k == NET_GROUP && has_kind(n, "vxlan"));
	return k != NET_FORWARDING || n->n_links > 1;
}

static int read_all_of(int socket, struct arena *a, St__Network *n, enum net_kind_id k)
{
	struct reading reading = {.a = a, .kind = &net_kinds[k], .list = network_list(n, k)};
	int r;

	if (!is_asked_for(n, k))
		return 0;
	switch (k) {
	case NET_FORWARDING:
	case NET_VLAN:
	case NET_GROUP:
		return read_kind(socket, &reading, AF_BRIDGE, 0);
	case NET_NEXTHOP:
		return read_kind(socket, &reading, AF_UNSPEC, 0);
	case NET_LABEL:
		return read_kind(socket, &reading, AF_INET6, 0);
	default:
		r = read_kind(socket, &reading, AF_INET, 0);
		if (r == 0)
			r = read_kind(socket, &reading, AF_INET6, 0);
		if (r == 0 && k == NET_NEIGHBOUR)
			r = read_kind(socket, &reading, AF_UNSPEC, NTF_PROXY);
		return r;
	}
}

int network_read(int socket, struct arena *a, St__Network **ret)
{
	St__Network *n = arena_new(a, St__Network);
	int r;

	if (!n)
		return -ENOMEM;
	st__network__init(n);
	r = read_links(socket, a, n);
	for (enum net_kind_id k = 0; k < NET_KINDS && r == 0; k++)
		r = read_all_of(socket, a, n, k);
	if (r < 0)
		return r;
	n->has_vlans = !network_vlans_are_usual(n);
	n->has_address_labels = !network_labels_are_usual(n);
	*ret = n;
	return 0;
}

/* Comparing ----------------------------------------------------------------------------------------------------------- */

/* The next attribute that makes a difference. */
static const struct rtattr *next_of(const struct net_kind *k, const struct rtattr *a, int *len)
{
	while (RTA_OK(a, *len) && (k->passing & BIT(a->rta_type & 31)))
		a = RTA_NEXT(a, *len);
	return RTA_OK(a, *len) ? a : NULL;
}

bool network_same(const struct net_kind *k, const ProtobufCBinaryData *a, const ProtobufCBinaryData *b)
{
	const struct nlmsghdr *x = (const struct nlmsghdr *)a->data, *y = (const struct nlmsghdr *)b->data;
	int left_a, left_b;
	const struct rtattr *p = netlink_attributes(x, k->header, &left_a);
	const struct rtattr *q = netlink_attributes(y, k->header, &left_b);

	if (!p || !q || memcmp(NLMSG_DATA(x), NLMSG_DATA(y), k->header) != 0)
		return false;
	for (;;) {
		p = next_of(k, p, &left_a);
		q = next_of(k, q, &left_b);
		if (!p || !q)
			return !p && !q;
		if (p->rta_len != q->rta_len || memcmp(p, q, p->rta_len) != 0)
			return false;
		p = RTA_NEXT(p, left_a);
		q = RTA_NEXT(q, left_b);
	}
}

/* Both that it may name. */
static bool interfaces_of_forwarding(const struct nlmsghdr *h, bool (*use)(int index, void *arg), void *arg)
{
	const struct ndmsg *m = NLMSG_DATA(h);
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(*m), &len),
			    *via = netlink_find(a, len, NDA_IFINDEX);

	return use(m->ndm_ifindex, arg) && (!via || use(netlink_u32(via, 0), arg));
}

static bool interfaces_of_nexthop(const struct nlmsghdr *h, bool (*use)(int index, void *arg), void *arg)
{
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct nhmsg), &len),
			    *oif = netlink_find(a, len, NHA_OIF);

	return !oif || use(netlink_u32(oif, 0), arg);
}

static bool interfaces_of_route(const struct nlmsghdr *h, bool (*use)(int index, void *arg), void *arg)
{
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct rtmsg), &len);
	const struct rtattr *oif = netlink_find(a, len, RTA_OIF), *hops = netlink_find(a, len, RTA_MULTIPATH);
	const struct rtnexthop *hop = hops ? RTA_DATA(hops) : NULL;
	int left = hops ? RTA_PAYLOAD(hops) : 0;

	if (oif && !use(netlink_u32(oif, 0), arg))
		return false;
	for (; left >= (int)sizeof(*hop) && RTNH_OK(hop, left); hop = RTNH_NEXT(hop)) {
		if (!use(hop->rtnh_ifindex, arg))
			return false;
		left -= RTNH_ALIGN(hop->rtnh_len);
	}
	return true;
}

static bool interfaces_of_group(const struct nlmsghdr *h, bool (*use)(int index, void *arg), void *arg)
{
	const struct br_port_msg *m = NLMSG_DATA(h);
	struct br_mdb_entry entry = {};
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(*m), &len);

	a = netlink_find(a, len, MDBA_SET_ENTRY);
	if (a && RTA_PAYLOAD(a) >= sizeof(entry))
		memcpy(&entry, RTA_DATA(a), sizeof(entry));
	return use(m->ifindex, arg) && use(entry.ifindex, arg);
}

bool network_interfaces_of(
	enum net_kind_id kind, const ProtobufCBinaryData *m, bool (*use)(int index, void *arg), void *arg)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)m->data;

	switch (kind) {
	case NET_ADDRESS:
		return use(((const struct ifaddrmsg *)NLMSG_DATA(h))->ifa_index, arg);
	case NET_NEIGHBOUR:
		return use(((const struct ndmsg *)NLMSG_DATA(h))->ndm_ifindex, arg);
	case NET_ROUTE:
		return interfaces_of_route(h, use, arg);
	case NET_FORWARDING:
		return interfaces_of_forwarding(h, use, arg);
	case NET_NEXTHOP:
		return interfaces_of_nexthop(h, use, arg);
	case NET_VLAN:
		return use(((const struct br_vlan_msg *)NLMSG_DATA(h))->ifindex, arg);
	case NET_GROUP:
		return interfaces_of_group(h, use, arg);
	case NET_LABEL:
		return ((const struct ifaddrlblmsg *)NLMSG_DATA(h))->ifal_index == 0 ||
		       use(((const struct ifaddrlblmsg *)NLMSG_DATA(h))->ifal_index, arg);
	default:
		return true; /* rules name theirs, which need not be there */
	}
}

/* Of the right type and length, and with no attribute but those that a dump keeps: others lead out of the namespace. */
static bool is_message(const struct net_kind *k, const ProtobufCBinaryData *m)
{
	const struct nlmsghdr *h = (const struct nlmsghdr *)m->data;
	const struct rtattr *a;
	int len;

	if (m->len < NLMSG_LENGTH(k->header) || m->len > NETLINK_MESSAGE_MAX / 2 ||
		(uintptr_t)m->data % sizeof(uint32_t) != 0 || h->nlmsg_len != m->len ||
		h->nlmsg_type != k->new)
		return false;
	a = netlink_attributes(h, k->header, &len);
	netlink_for(a, len)
	{
		unsigned type = a->rta_type & NLA_TYPE_MASK;

		if (type >= 32 || !(k->kept & BIT(type)))
			return false;
	}
	return len == 0;
}

const char *network_wrong(const St__Network *n)
{
	for (size_t i = 0; i < n->n_links; i++)
		if (n->links[i]->index <= (i > 0 ? n->links[i - 1]->index : 0) || !*n->links[i]->name ||
			strlen(n->links[i]->name) >= IFNAMSIZ)
			return "an interface has no name, or they are not in order";
	for (enum net_kind_id k = 0; k < NET_KINDS; k++) {
		struct net_list list = network_list((St__Network *)n, k);

		for (size_t i = 0; i < *list.n; i++)
			if (!is_message(&net_kinds[k], &(*list.items)[i]))
				return "a message about the network is not one";
	}
	if (network_mptcp_is_wrong(n))
		return "an endpoint of MPTCP is none";
	for (size_t i = 0; i < n->n_traffic; i++)
		if (!traffic_is_request(&n->traffic[i]))
			return "a message about traffic control is not one";
	for (size_t i = 0; i < n->n_sysctls; i++)
		if (!network_is_sysctl(n->sysctls[i]->name))
			return "a sysctl is none of the network's";
	return NULL;
}
