/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the network namespace of this process what the image says (network.h). In the container's init, before its
 * sockets: first the interfaces that are not there, still down; their addresses; then up; then what refers to them.
 *
 * An address of IPv6 would be tentative for a second, and no socket could have it: all are added as tested already, and
 * no interface makes one by itself until all is there.
 */
#include "checkpoint/native/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/network-mptcp.h"
#include "checkpoint/native/nftables.h"
#include "checkpoint/native/traffic.h"
#include "linux/netdev.h"

struct net_restore {
	struct arena arena;
	struct network_image *image;
	const St__Network *want;
	St__Network *found; /* at first */
	int socket, proc_fd;
	bool *made; /* by index in want->links: it is there */
};

static const uint32_t settable_flags = IFF_NOARP | IFF_ALLMULTI | IFF_PROMISC | IFF_MULTICAST | IFF_DYNAMIC;

/* Made by this restore, with its other end outside of this namespace. */
static bool is_pair(const struct net_restore *r, const St__Link *l)
{
	if (l->inside)
		return true;
	for (size_t i = 0; i < r->image->n_veth_pairs; i++)
		if (strcmp(r->image->veth_pairs[i].in, l->name) == 0)
			return true;
	return false;
}

/* Somebody outside made it for this container: it stays as it is. */
static bool is_theirs(const struct net_restore *r, const St__Link *l)
{
	return l->index != LOOPBACK_INDEX && network_link_named(r->found, l->name) && !is_pair(r, l);
}

static bool is_ours(int index, void *arg)
{
	const struct net_restore *r = arg;
	const St__Link *l = network_link(r->want, index);

	return l && !is_theirs(r, l);
}

/* Of what is there now: its interface is none that somebody outside made. */
static bool was_ours(int index, void *arg)
{
	const struct net_restore *r = arg;
	const St__Link *l = network_link(r->found, index),
		       *wanted = l ? network_link_named(r->want, l->name) : NULL;

	return index == LOOPBACK_INDEX || !l || is_pair(r, wanted ? wanted : l);
}

static bool anything_theirs(const struct net_restore *r)
{
	for (size_t i = 0; i < r->found->n_links; i++)
		if (!was_ours(r->found->links[i]->index, (void *)r))
			return true;
	return false;
}

static int current_index(const struct net_restore *r, int index)
{
	const St__Link *l = network_link(r->want, index),
		       *there = l ? network_link_named(r->found, l->name) : NULL;

	return there ? there->index : index;
}

/* Interfaces -------------------------------------------------------------------------------------------------------- */

/* What they have from the first moment; the rest is settled later. */
void network_put_birth(struct netlink_message *m, const St__Link *l)
{
	netlink_put(m, IFLA_IFNAME, l->name, strlen(l->name) + 1);
	if (l->address.len > 0)
		netlink_put(m, IFLA_ADDRESS, l->address.data, l->address.len);
	if (l->tx_queues > 1)
		netlink_put_u32(m, IFLA_NUM_TX_QUEUES, l->tx_queues);
	if (l->rx_queues > 1)
		netlink_put_u32(m, IFLA_NUM_RX_QUEUES, l->rx_queues);
}

/* The attributes of a kind, without those that it cannot have: "from" is an image's. */
static bool is_zero(const struct rtattr *a)
{
	const uint8_t *b = RTA_DATA(a);

	for (size_t i = 0; i < RTA_PAYLOAD(a); i++)
		if (b[i])
			return false;
	return true;
}

static void put_allowed(struct netlink_message *m, ProtobufCBinaryData from, uint64_t allowed, uint64_t asked)
{
	const struct rtattr *a = (const struct rtattr *)from.data;
	int len = from.len;

	netlink_for(a, len)
	{
		unsigned type = a->rta_type & NLA_TYPE_MASK;

		if (type < 64 && (allowed & 1ull << type) && !((asked & 1ull << type) && is_zero(a)))
			netlink_put(m, a->rta_type, RTA_DATA(a), RTA_PAYLOAD(a));
	}
}

size_t network_begin_peer(struct netlink_message *m, const St__Link *peer)
{
	struct ifinfomsg header = {.ifi_index = peer->index};
	size_t nest = netlink_nest(m, VETH_INFO_PEER);

	if (m->h.nlmsg_len + sizeof(header) <= sizeof(*m)) {
		memcpy((char *)m + m->h.nlmsg_len, &header, sizeof(header));
		m->h.nlmsg_len += sizeof(header);
	}
	network_put_birth(m, peer);
	return nest;
}

static int make_link(struct net_restore *r, const St__Link *l, struct error *e)
{
	const struct link_kind *kind = link_kind_find(l->kind);
	const St__Link *peer = strcmp(l->kind, "veth") == 0 ? network_link(r->want, l->lower) : NULL;
	struct netlink_message m;
	struct ifinfomsg *header;
	size_t info, data;
	int result;

	header = netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(*header));
	header->ifi_index = l->index;
	network_put_birth(&m, l);
	if (kind->has_lower && !kind->lower)
		netlink_put_u32(&m, IFLA_LINK, l->lower);
	info = netlink_nest(&m, IFLA_LINKINFO);
	netlink_put(&m, IFLA_INFO_KIND, l->kind, strlen(l->kind));
	data = netlink_nest(&m, IFLA_INFO_DATA);
	put_allowed(&m, l->data, kind->data, kind->asked);
	if (kind->lower && l->lower)
		netlink_put_u32(&m, kind->lower, l->lower);
	if (peer)
		netlink_end_nest(&m, network_begin_peer(&m, peer));
	netlink_end_nest(&m, data);
	netlink_end_nest(&m, info);
	result = netlink_ask(r->socket, &m, NULL, NULL);
	return result < 0 ? error_errno(e, result, "make the network interface %s (%s, number %d)", l->name,
				    l->kind, l->index)
			  : 0;
}

/* Only its own end is in the image, or it is of a kind that comes from outside. */
static int cannot_make(const St__Link *l, struct error *e)
{
	return error_set(e, -ENODEV, ERROR_STATE,
		"the container had a network interface %s (%s%s), which is not there: let a hook or "
		"linux.netDevices of config.json bring one of that name, %srestore with --empty-ns network "
		"for a namespace without the recorded interfaces",
		l->name, *l->kind ? l->kind : "a device", l->outside ? " to another network namespace" : "",
		l->outside && strcmp(l->kind, "veth") == 0
			? "have it made with --veth-pair IN=OUT[@BRIDGE], or "
			: "or ");
}

/* Nothing is put on an interface of others: it would hear and say there what config.json may not allow. */
static bool can_make(const struct net_restore *r, const St__Link *l)
{
	const struct link_kind *kind = link_kind_find(l->kind);
	bool lies = kind && kind->has_lower && (l->lower || !kind->lower);
	const St__Link *lower = lies ? network_link(r->want, l->lower) : l;

	return kind && !l->outside && lower && !is_theirs(r, lower);
}

static void mark_made(struct net_restore *r, size_t i)
{
	const St__Link *l = r->want->links[i];

	r->made[i] = true;
	for (size_t k = 0; k < r->want->n_links && strcmp(l->kind, "veth") == 0; k++)
		if (r->want->links[k]->index == l->lower)
			r->made[k] = true;
}

static bool lower_is_there(const struct net_restore *r, const St__Link *l)
{
	for (size_t i = 0; i < r->want->n_links && link_kind_find(l->kind)->has_lower; i++)
		if (r->want->links[i]->index == l->lower)
			return r->made[i];
	return true;
}

static int make_links(struct net_restore *r, struct error *e)
{
	bool progress = true;

	for (size_t i = 0; i < r->want->n_links; i++) {
		const St__Link *l = r->want->links[i];

		r->made[i] = l->index == LOOPBACK_INDEX || is_theirs(r, l) || is_pair(r, l);
		if (!r->made[i] && !can_make(r, l))
			return cannot_make(l, e);
	}
	while (progress) {
		progress = false;
		for (size_t i = 0; i < r->want->n_links; i++) {
			int result;

			if (r->made[i] || !lower_is_there(r, r->want->links[i]))
				continue;
			result = strcmp(r->want->links[i]->kind, "tun") == 0
					 ? restore_tun(r->image, r->proc_fd, r->want->links[i], e)
					 : make_link(r, r->want->links[i], e);
			if (result < 0)
				return result;
			mark_made(r, i);
			progress = true;
		}
	}
	return 0;
}

static int change_link(struct net_restore *r, int index, struct netlink_message *m, const St__Link *l,
	const char *what, struct error *e)
{
	int result;

	((struct ifinfomsg *)NLMSG_DATA(&m->h))->ifi_index = index;
	result = netlink_ask(r->socket, m, NULL, NULL);
	return result < 0 ? error_errno(e, result, "network interface %s: %s", l->name, what) : 0;
}

static int join_master(struct net_restore *r, const St__Link *l, struct error *e)
{
	struct netlink_message m;
	size_t info, data;
	int result;

	(void)netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	netlink_put_u32(&m, IFLA_MASTER, current_index(r, l->master));
	result = change_link(r, l->index, &m, l, "make it a port of its bridge", e);
	if (result < 0 || l->slave_data.len == 0)
		return result;
	(void)netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	info = netlink_nest(&m, IFLA_LINKINFO);
	netlink_put(&m, IFLA_INFO_SLAVE_KIND, l->slave_kind, strlen(l->slave_kind));
	data = netlink_nest(&m, IFLA_INFO_SLAVE_DATA);
	put_allowed(&m, l->slave_data, network_port_data, 0);
	netlink_end_nest(&m, data);
	netlink_end_nest(&m, info);
	return change_link(r, l->index, &m, l, "what its bridge keeps for it", e);
}

/* Another port, when all are there. */
static int set_backup_port(
	struct net_restore *r, const St__Link *l, const St__Link *now _unused_, struct error *e)
{
	struct netlink_message m;
	size_t info, data;

	if (!l->backup_port)
		return 0;
	(void)netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	info = netlink_nest(&m, IFLA_LINKINFO);
	netlink_put(&m, IFLA_INFO_SLAVE_KIND, l->slave_kind, strlen(l->slave_kind));
	data = netlink_nest(&m, IFLA_INFO_SLAVE_DATA);
	netlink_put_u32(&m, IFLA_BRPORT_BACKUP_PORT, current_index(r, l->backup_port));
	netlink_end_nest(&m, data);
	netlink_end_nest(&m, info);
	return change_link(r, l->index, &m, l, "the port that stands in for it", e);
}

static int add_other_names(struct net_restore *r, const St__Link *l, struct error *e)
{
	struct netlink_message m;
	size_t list;

	if (l->n_other_names == 0)
		return 0;
	(void)netlink_begin(
		&m, RTM_NEWLINKPROP, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	list = netlink_nest(&m, IFLA_PROP_LIST);
	for (size_t i = 0; i < l->n_other_names; i++)
		netlink_put(&m, IFLA_ALT_IFNAME, l->other_names[i], strlen(l->other_names[i]) + 1);
	netlink_end_nest(&m, list);
	return change_link(r, l->index, &m, l, "its other names", e);
}

/* It makes no address of IPv6 by itself from now on, or again as it did. */
static void put_addr_gen_mode(struct netlink_message *m, uint8_t mode)
{
	size_t spec = netlink_nest(m, IFLA_AF_SPEC), inet6 = netlink_nest(m, AF_INET6);

	netlink_put(m, IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof(mode));
	netlink_end_nest(m, inet6);
	netlink_end_nest(m, spec);
}

/* Where "now" differs from what it was. Down: a change of some of these wants it so. */
static int settle_link(struct net_restore *r, const St__Link *l, const St__Link *now, struct error *e)
{
	struct netlink_message m;
	struct ifinfomsg *header = netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	size_t empty = m.h.nlmsg_len;

	header->ifi_change = (l->flags ^ now->flags) & settable_flags;
	header->ifi_flags = l->flags & header->ifi_change;
	if (l->mtu != now->mtu)
		netlink_put_u32(&m, IFLA_MTU, l->mtu);
	if (l->txqlen != now->txqlen)
		netlink_put_u32(&m, IFLA_TXQLEN, l->txqlen);
	if (l->group != now->group)
		netlink_put_u32(&m, IFLA_GROUP, l->group);
	if (*l->alias)
		netlink_put(&m, IFLA_IFALIAS, l->alias, strlen(l->alias));
	if (l->inet6_conf.len > 0 && l->index != LOOPBACK_INDEX)
		put_addr_gen_mode(&m, IN6_ADDR_GEN_MODE_NONE);
	if (m.h.nlmsg_len == empty && !header->ifi_change)
		return 0;
	return change_link(r, l->index, &m, l, "its properties", e);
}

static int each_link(struct net_restore *r,
	int (*fn)(struct net_restore *r, const St__Link *l, const St__Link *now, struct error *e),
	struct error *e)
{
	St__Network *now;
	int result = network_read(r->socket, &r->arena, &now);

	if (result < 0)
		return error_errno(e, result, "read the network interfaces");
	for (size_t i = 0; i < r->want->n_links && result == 0; i++) {
		const St__Link *l = r->want->links[i], *there = network_link(now, l->index);

		if (!is_theirs(r, l) && there)
			result = fn(r, l, there, e);
	}
	return result;
}

static int attach_link(
	struct net_restore *r, const St__Link *l, const St__Link *now _unused_, struct error *e)
{
	int result = l->master ? join_master(r, l, e) : 0;

	return result < 0 ? result : add_other_names(r, l, e);
}

static int up_or_down(struct net_restore *r, const St__Link *l, const St__Link *now, struct error *e)
{
	struct netlink_message m;
	struct ifinfomsg *header;

	if (((l->flags ^ now->flags) & IFF_UP) == 0)
		return 0;
	header = netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK, sizeof(*header));
	header->ifi_change = IFF_UP;
	header->ifi_flags = l->flags & IFF_UP;
	return change_link(r, l->index, &m, l, l->flags & IFF_UP ? "set it up" : "set it down", e);
}

static uint32_t conf_value(ProtobufCBinaryData conf, size_t i)
{
	uint32_t v = 0;

	if ((i + 1) * sizeof(v) <= conf.len)
		memcpy(&v, conf.data + i * sizeof(v), sizeof(v));
	return v;
}

static int set_inet_conf(struct net_restore *r, const St__Link *l, const St__Link *now, struct error *e)
{
	size_t n = MIN(l->inet_conf.len, now->inet_conf.len) / sizeof(uint32_t), spec, inet, conf;
	struct netlink_message m;
	bool differs = false;

	(void)netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	spec = netlink_nest(&m, IFLA_AF_SPEC);
	inet = netlink_nest(&m, AF_INET);
	conf = netlink_nest(&m, IFLA_INET_CONF);
	for (size_t i = 0; i < n; i++) {
		uint32_t value = conf_value(l->inet_conf, i);

		if (value == conf_value(now->inet_conf, i))
			continue;
		netlink_put_u32(&m, i + 1, value);
		differs = true;
	}
	netlink_end_nest(&m, conf);
	netlink_end_nest(&m, inet);
	netlink_end_nest(&m, spec);
	return differs ? change_link(r, l->index, &m, l, "its sysctls of IPv4", e) : 0;
}

/* Those of DEVCONF_* that are plain numbers and can be written; by /proc, since netlink does not take them. */
static const struct {
	int index;
	const char *name;
} inet6_confs[] = {
	{DEVCONF_FORWARDING, "forwarding"},
	{DEVCONF_HOPLIMIT, "hop_limit"},
	{DEVCONF_ACCEPT_RA, "accept_ra"},
	{DEVCONF_ACCEPT_REDIRECTS, "accept_redirects"},
	{DEVCONF_AUTOCONF, "autoconf"},
	{DEVCONF_DAD_TRANSMITS, "dad_transmits"},
	{DEVCONF_RTR_SOLICITS, "router_solicitations"},
	{DEVCONF_USE_TEMPADDR, "use_tempaddr"},
	{DEVCONF_ACCEPT_RA_DEFRTR, "accept_ra_defrtr"},
	{DEVCONF_ACCEPT_RA_PINFO, "accept_ra_pinfo"},
	{DEVCONF_ACCEPT_SOURCE_ROUTE, "accept_source_route"},
	{DEVCONF_PROXY_NDP, "proxy_ndp"},
	{DEVCONF_ACCEPT_DAD, "accept_dad"},
	{DEVCONF_DISABLE_IPV6, "disable_ipv6"},
	{DEVCONF_FORCE_TLLAO, "force_tllao"},
	{DEVCONF_NDISC_NOTIFY, "ndisc_notify"},
	{DEVCONF_SUPPRESS_FRAG_NDISC, "suppress_frag_ndisc"},
	{DEVCONF_ACCEPT_RA_FROM_LOCAL, "accept_ra_from_local"},
	{DEVCONF_KEEP_ADDR_ON_DOWN, "keep_addr_on_down"},
	{DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN, "ignore_routes_with_linkdown"},
	{DEVCONF_DROP_UNSOLICITED_NA, "drop_unsolicited_na"},
	{DEVCONF_DROP_UNICAST_IN_L2_MULTICAST, "drop_unicast_in_l2_multicast"},
};

static int set_inet6_conf(struct net_restore *r, const St__Link *l, const St__Link *now, struct error *e)
{
	char path[128], value[16];

	if (l->inet6_conf.len == 0 || now->inet6_conf.len == 0)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(inet6_confs); i++) {
		int index = inet6_confs[i].index, result;

		if (conf_value(l->inet6_conf, index) == conf_value(now->inet6_conf, index))
			continue;
		snprintf(path, sizeof(path), "sys/net/ipv6/conf/%s/%s", l->name, inet6_confs[i].name);
		snprintf(value, sizeof(value), "%d", (int)conf_value(l->inet6_conf, index));
		result = write_string_at(r->proc_fd, path, value);
		if (result < 0)
			return error_errno(e, result, "set /proc/%s to %s", path, value);
	}
	return 0;
}

static int set_confs(struct net_restore *r, const St__Link *l, const St__Link *now, struct error *e)
{
	struct netlink_message m;
	int result = set_inet_conf(r, l, now, e);

	if (result == 0)
		result = set_inet6_conf(r, l, now, e);
	if (result < 0 || l->inet6_conf.len == 0 || l->index == LOOPBACK_INDEX)
		return result;
	(void)netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	put_addr_gen_mode(&m, l->addr_gen_mode);
	return change_link(r, l->index, &m, l, "how it makes addresses", e);
}

/* Addresses, neighbours, rules, routes ------------------------------------------------------------------------------ */

/* "route 10.0.0.0/8", as far as such a message says it in one attribute. */
static int failed(
	enum net_kind_id kind, const ProtobufCBinaryData *d, int code, const char *what, struct error *e)
{
	static const int named_by[NET_KINDS] = {IFA_ADDRESS, NDA_DST, 0, RTA_DST};
	const struct nlmsghdr *h = (const struct nlmsghdr *)d->data;
	int family = *(const uint8_t *)NLMSG_DATA(h), len;
	const struct rtattr *a = netlink_attributes(h, net_kinds[kind].header, &len);
	char text[INET6_ADDRSTRLEN] = "";

	a = netlink_find(a, len, named_by[kind]);
	if (a && named_by[kind] && RTA_PAYLOAD(a) >= (family == AF_INET6 ? 16 : 4))
		inet_ntop(family, RTA_DATA(a), text, sizeof(text));
	return error_errno(e, code, "%s the %s %s of the container's network", what, net_kinds[kind].name,
		*text		     ? text
		: kind > NET_ROUTE   ? ""
		: family == AF_INET6 ? "(IPv6)"
				     : "(default)");
}

static int send_message(struct net_restore *r, const ProtobufCBinaryData *d, int type, int flags)
{
	struct netlink_message m;

	memcpy(&m, d->data, d->len);
	m.h.nlmsg_type = type;
	m.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	m.h.nlmsg_seq = m.h.nlmsg_pid = 0;
	return netlink_ask(r->socket, &m, NULL, NULL);
}

/* New ones of IPv6 as tested; "tested" false: takes that flag away again from those that did not have it. */
static int send_address(struct net_restore *r, const ProtobufCBinaryData *d, bool tested)
{
	_cleanup_free_ void *copy = malloc(d->len);
	ProtobufCBinaryData with = {d->len, copy};
	const struct rtattr *attributes;
	struct rtattr *flags;
	uint32_t value;
	int len;

	if (!copy)
		return -ENOMEM;
	memcpy(copy, d->data, d->len);
	attributes = netlink_attributes(copy, sizeof(struct ifaddrmsg), &len);
	flags = (struct rtattr *)netlink_find(attributes, len, IFA_FLAGS);
	value = netlink_u32(flags, 0);
	if (flags && tested && RTA_PAYLOAD(flags) >= sizeof(value)) {
		value |= IFA_F_NODAD;
		memcpy(RTA_DATA(flags), &value, sizeof(value));
	}
	return send_message(r, &with, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
}

static int add(struct net_restore *r, enum net_kind_id kind, const ProtobufCBinaryData *d)
{
	bool inet6 = *(const uint8_t *)NLMSG_DATA((struct nlmsghdr *)d->data) == AF_INET6;

	if (kind == NET_ADDRESS && inet6)
		return send_address(r, d, true);
	/* A route of IPv6 beside another one with the same destination is a hop more of that one only with APPEND. */
	return send_message(r, d, net_kinds[kind].new,
		NLM_F_CREATE | (kind == NET_ROUTE || kind == NET_FORWARDING ? NLM_F_APPEND
				       : kind == NET_RULE		    ? NLM_F_EXCL
									    : NLM_F_REPLACE));
}

static bool is_in(enum net_kind_id kind, const ProtobufCBinaryData *d, const St__Network *n)
{
	struct net_list list = network_list((St__Network *)n, kind);

	for (size_t i = 0; i < *list.n; i++)
		if (network_same(&net_kinds[kind], d, &(*list.items)[i]))
			return true;
	return false;
}

static int take_away_others(
	struct net_restore *r, enum net_kind_id kind, const St__Network *now, struct error *e)
{
	struct net_list list = network_list((St__Network *)now, kind);

	for (size_t i = 0; i < *list.n; i++) {
		const ProtobufCBinaryData *d = &(*list.items)[i];
		int result;

		if (is_in(kind, d, r->want) || !network_interfaces_of(kind, d, was_ours, r) ||
			(kind == NET_RULE && anything_theirs(r)))
			continue;
		result = send_message(r, d, net_kinds[kind].del, 0);
		/* It may have gone with another one. */
		if (result < 0 && result != -ESRCH && result != -ENOENT && result != -EADDRNOTAVAIL)
			return failed(kind, d, result, "take away", e);
	}
	return 0;
}

/* One may need another one, as a route by a gateway that to the gateway: as long as any succeeds. */
static int add_missing(struct net_restore *r, enum net_kind_id kind, const St__Network *now, struct error *e)
{
	struct net_list list = network_list((St__Network *)r->want, kind);
	_cleanup_free_ bool *done = calloc(*list.n + 1, sizeof(bool));
	const ProtobufCBinaryData *stuck = NULL;
	bool progress = true;
	int code = 0;

	if (!done)
		return error_errno(e, -ENOMEM, "network");
	for (size_t i = 0; i < *list.n; i++)
		done[i] = is_in(kind, &(*list.items)[i], now) ||
			  !network_interfaces_of(kind, &(*list.items)[i], is_ours, r);
	while (progress) {
		progress = false;
		stuck = NULL;
		for (size_t i = 0; i < *list.n; i++) {
			int result = done[i] ? 0 : add(r, kind, &(*list.items)[i]);

			if (!done[i] && (result == 0 || result == -EEXIST)) {
				done[i] = progress = true;
			} else if (result < 0) {
				stuck = &(*list.items)[i];
				code = result;
			}
		}
	}
	return stuck ? failed(kind, stuck, code, "restore", e) : 0;
}

static int make_equal(struct net_restore *r, enum net_kind_id kind, struct error *e)
{
	St__Network *now;
	int result;

	if (!network_says(r->want, kind))
		return 0;
	result = network_read(r->socket, &r->arena, &now);
	if (result < 0)
		return error_errno(e, result, "read the container's network");
	result = take_away_others(r, kind, now, e);
	return result < 0 ? result : add_missing(r, kind, now, e);
}

static int forget_tested(struct net_restore *r, struct error *e)
{
	for (size_t i = 0; i < r->want->n_addresses; i++) {
		const ProtobufCBinaryData *d = &r->want->addresses[i];
		const struct nlmsghdr *h = (const struct nlmsghdr *)d->data;
		const struct ifaddrmsg *m = NLMSG_DATA(h);
		int len, result;
		const struct rtattr *a = netlink_attributes(h, sizeof(*m), &len);

		if (m->ifa_family != AF_INET6 || !is_ours(m->ifa_index, r) ||
			(netlink_u32(netlink_find(a, len, IFA_FLAGS), 0) & IFA_F_NODAD))
			continue;
		result = send_address(r, d, false);
		if (result < 0)
			return failed(NET_ADDRESS, d, result, "restore", e);
	}
	return 0;
}

static bool is_our_name(const char *name, size_t len, void *arg)
{
	const struct net_restore *r = arg;

	for (size_t i = 0; i < r->want->n_links; i++)
		if (strlen(r->want->links[i]->name) == len && !strncmp(r->want->links[i]->name, name, len))
			return !is_theirs(r, r->want->links[i]);
	return false;
}

static int write_sysctls(struct net_restore *r, enum network_sysctl_group group, struct error *e)
{
	return network_write_sysctls(r->want, r->proc_fd, group, is_our_name, r, e);
}

/* While nothing is up that it could let through. */
static int filter_packets(struct net_restore *r, struct error *e)
{
	bool differ = false;

	for (size_t i = 0; i < r->want->n_links; i++)
		differ |= current_index(r, r->want->links[i]->index) != r->want->links[i]->index;
	return restore_nftables(r->image->tables, r->image->n_tables, r->image->may_filter, differ, e);
}

static bool is_theirs_now(int index, void *arg)
{
	const struct net_restore *r = arg;
	const St__Link *l = network_link(r->want, index);

	return !l || is_theirs(r, l);
}

static int index_now(int index, void *arg)
{
	return current_index(arg, index);
}

/* While nothing is up that could wait in it. */
static int control_traffic(struct net_restore *r, struct error *e)
{
	return restore_traffic(&(struct traffic_restore){.socket = r->socket,
				       .arena = &r->arena,
				       .want = r->want,
				       .may_make = r->image->may_filter,
				       .is_theirs = is_theirs_now,
				       .current = index_now,
				       .arg = r},
		e);
}

static int restore_all(struct net_restore *r, struct error *e)
{
	int result = write_sysctls(r, NETWORK_SYSCTLS_ALL, e);

	if (result == 0)
		result = write_sysctls(r, NETWORK_SYSCTLS_DEFAULT, e);
	if (result == 0)
		result = make_links(r, e);
	if (result == 0)
		result = each_link(r, attach_link, e);
	if (result == 0)
		result = each_link(r, set_backup_port, e);
	if (result == 0)
		result = each_link(r, settle_link, e);
	if (result == 0)
		result = make_equal(r, NET_VLAN, e);
	if (result == 0)
		result = filter_packets(r, e);
	if (result == 0)
		result = control_traffic(r, e);
	if (result == 0)
		result = make_equal(r, NET_ADDRESS, e);
	if (result == 0)
		result = each_link(r, up_or_down, e);
	if (result == 0)
		result = each_link(r, set_confs, e);
	if (result == 0)
		result = write_sysctls(r, NETWORK_SYSCTLS_LINK, e);
	if (result == 0)
		result = make_equal(r, NET_ADDRESS, e);
	if (result == 0)
		result = forget_tested(r, e);
	if (result == 0)
		result = make_equal(r, NET_NEIGHBOUR, e);
	if (result == 0)
		result = make_equal(r, NET_NEXTHOP, e);
	if (result == 0)
		result = make_equal(r, NET_FORWARDING, e);
	if (result == 0)
		result = make_equal(r, NET_GROUP, e);
	if (result == 0)
		result = make_equal(r, NET_LABEL, e);
	if (result == 0)
		result = restore_mptcp(r->want, r->image->may_filter, index_now, r, e);
	if (result == 0)
		result = make_equal(r, NET_RULE, e);
	return result < 0 ? result : make_equal(r, NET_ROUTE, e);
}

static bool is_all_the_same(const struct net_restore *r)
{
	const St__Link *a, *b;

	if (r->want->n_links != 1 || r->found->n_links != 1 || r->want->n_sysctls > 0 ||
		r->image->n_tables > 0 || r->want->n_traffic > 0 || network_has_mptcp(r->want))
		return false;
	a = r->want->links[0];
	b = r->found->links[0];
	if (a->flags != b->flags || a->mtu != b->mtu || a->inet_conf.len != b->inet_conf.len ||
		memcmp(a->inet_conf.data, b->inet_conf.data, a->inet_conf.len) != 0)
		return false;
	for (enum net_kind_id k = 0; k < NET_KINDS; k++) {
		struct net_list want = network_list((St__Network *)r->want, k),
				found = network_list(r->found, k);

		if (!network_says(r->want, k))
			continue;
		if (*want.n != *found.n)
			return false;
		for (size_t i = 0; i < *want.n; i++)
			if (!network_same(&net_kinds[k], &(*want.items)[i], &(*found.items)[i]))
				return false;
	}
	return true;
}

int restore_network(struct network_image *image, int proc_fd, struct error *e)
{
	const St__Network *n = image->network;
	struct net_restore r = {.image = image, .want = n, .proc_fd = proc_fd};
	_cleanup_close_ int socket = netdev_open(-EBADF);
	int result;

	if (socket < 0)
		return error_errno(e, socket, "open a netlink socket");
	r.socket = socket;
	result = network_read(socket, &r.arena, &r.found);
	if (result < 0)
		error_errno(e, result, "read the container's network");
	/* Most have but lo, as it was. */
	if (result == 0 && !is_all_the_same(&r)) {
		r.made = arena_array(&r.arena, n->n_links + 1, sizeof(bool));
		result = r.made ? restore_all(&r, e) : error_errno(e, -ENOMEM, "network");
	}
	arena_done(&r.arena);
	return result;
}
