/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source: rtnetlink(7), linux/if_link.h. An interface is up before it gets its addresses, so that the routes to their networks are
 * there when the routes through them come; addresses of IPv6 are added as tested already, for they could not be used for a second.
 * Each step leaves behind the message that takes it back: in memory that two processes have, so that the other one can do it if this
 * one is killed.
 */
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/veth.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "linux/netdev.h"
#include "linux/nlmsg.h"
#include "sandbox/network.h"

struct undo {
	struct undo *next; /* the step before */
	struct nlmsghdr *message;
	/* After it: the addresses that an interface forgets when it goes down. */
	int index;
	struct netdev_addresses *addresses;
};

#define ROUND_UP(n) (((n) + 15) & ~(size_t)15)

struct net_journal {
	struct undo *undo; /* the last step first */
	size_t used;	   /* of what follows; nothing of it is given back */
};

enum { JOURNAL_SIZE = 64 << 20 }; /* memory is taken only for what is written */

struct apply {
	const struct net_sockets *s;
	char *item;
	struct net_journal *journal;
	struct error *e;
};

static void set_item(struct apply *a, const char *format, ...) _printf_(2, 3);
static void set_item(struct apply *a, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(a->item, NET_ITEM_SIZE, format, ap);
	va_end(ap);
}

int net_journal_new(struct net_journal **ret, struct error *e)
{
	struct net_journal *j = mmap(NULL, JOURNAL_SIZE, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (j == MAP_FAILED)
		return error_errno(e, -errno, "memory to take links and routes back");
	j->used = ROUND_UP(sizeof(*j));
	*ret = j;
	return 0;
}

void net_journal_free(struct net_journal *j)
{
	if (j)
		munmap(j, JOURNAL_SIZE);
}

/* Zeroed. */
static void *take(struct net_journal *j, size_t size)
{
	void *p = (char *)j + j->used;

	if (size > JOURNAL_SIZE - j->used)
		return NULL;
	j->used += ROUND_UP(size);
	return p;
}

void net_journal_undo(const struct net_sockets *s, struct net_journal *j)
{
	for (; j->undo; j->undo = j->undo->next) {
		const struct undo *u = j->undo;
		struct netlink_message m;

		memcpy(&m, u->message, u->message->nlmsg_len);
		(void)!netlink_ask(s->inside, &m, NULL, NULL);
		for (size_t i = 0; u->addresses && i < u->addresses->n; i++)
			(void)!netdev_add_address(s->inside, u->index, &u->addresses->address[i]);
	}
}

/* The message is what takes back the next step; addresses (of that interface; NULL: none) come after it. */
static int prepare_undo(
	struct apply *a, const struct netlink_message *m, int index, const struct netdev_addresses *addresses)
{
	struct undo *u = take(a->journal, sizeof(*u));

	if (u && m->h.nlmsg_len <= sizeof(*m))
		u->message = take(a->journal, m->h.nlmsg_len);
	if (u && addresses)
		u->addresses = take(a->journal, sizeof(*addresses));
	if (!u || !u->message || (addresses && !u->addresses))
		return error_errno(a->e, -ENOMEM, "%s", a->item);
	memcpy(u->message, m, m->h.nlmsg_len);
	if (addresses)
		*u->addresses = *addresses;
	u->index = index;
	u->next = a->journal->undo;
	a->journal->undo = u;
	return 0;
}

/* Does a step that changes an interface which has addresses. */
static int step_with_addresses(struct apply *a, int socket, const struct netlink_message *m,
	const struct netlink_message *undo, int index, const struct netdev_addresses *addresses)
{
	int r = prepare_undo(a, undo, index, addresses);

	if (r < 0)
		return r;
	r = netlink_ask(socket, m, NULL, NULL);
	if (r < 0) /* there is nothing to take back of it */
		a->journal->undo = a->journal->undo->next;
	return r;
}

/* Does a step; "undo" takes it back. */
static int step(
	struct apply *a, int socket, const struct netlink_message *m, const struct netlink_message *undo)
{
	return step_with_addresses(a, socket, m, undo, 0, NULL);
}

/* The same message that removes: its type is the next one (RTM_NEWROUTE, RTM_DELROUTE ...). */
static struct netlink_message removal(const struct netlink_message *m)
{
	struct netlink_message r = *m;

	r.h.nlmsg_type++;
	r.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	return r;
}

static int find(struct apply *a, int socket, const char *where, const char *name)
{
	int index = netdev_index(socket, name);

	if (index == -ENODEV)
		return error_set(a->e, index, ERROR_STATE, "there is no interface %s in %s", name, where);
	return index < 0 ? error_errno(a->e, index, "look for the interface %s", name) : index;
}

static int find_inside(struct apply *a, const char *name)
{
	return find(a, a->s->inside, "the sandbox", name);
}

static size_t address_size(const struct net_address *a)
{
	return a->family == AF_INET6 ? 16 : 4;
}

/* Links ------------------------------------------------------------------------------------------------------------- */

static void put_name(struct netlink_message *m, int type, const char *name)
{
	netlink_put(m, type, name, strlen(name) + 1);
}

static const char *const kinds[] = {
	[NET_DUMMY] = "dummy",
	[NET_BRIDGE] = "bridge",
	[NET_VETH] = "veth",
	[NET_VLAN] = "vlan",
	[NET_MACVLAN] = "macvlan",
	[NET_IPVLAN] = "ipvlan",
};

static void put_data(struct netlink_message *m, const struct net_link *l)
{
	size_t info = netlink_nest(m, IFLA_LINKINFO), data, peer;
	struct ifinfomsg header = {0};

	netlink_put(m, IFLA_INFO_KIND, kinds[l->kind], strlen(kinds[l->kind]));
	data = netlink_nest(m, IFLA_INFO_DATA);
	if (l->kind == NET_VLAN) {
		netlink_put(m, IFLA_VLAN_ID, &l->vlan, sizeof(l->vlan));
	} else if (l->kind == NET_VETH) {
		peer = netlink_nest(m, VETH_INFO_PEER);
		memcpy((char *)m + m->h.nlmsg_len, &header, sizeof(header)); /* far from the message's end */
		m->h.nlmsg_len += sizeof(header);
		put_name(m, IFLA_IFNAME, l->peer);
		if (l->mtu)
			netlink_put_u32(m, IFLA_MTU, l->mtu);
		netlink_end_nest(m, peer);
	}
	netlink_end_nest(m, data);
	netlink_end_nest(m, info);
}

/* The kernel refuses that while it makes it. It goes with the other end. */
static int bring_up_peer(struct apply *a, const struct net_link *l)
{
	int index = netdev_index(a->s->host, l->peer), r = index < 0 ? index : netdev_up(a->s->host, index);

	return r < 0 ? error_errno(a->e, r, "bring up the interface %s on the host", l->peer) : 0;
}

/* What lies on an interface of the host is made there, and appears in the namespace. */
static int make(struct apply *a, const struct net_link *l)
{
	bool on_host = l->kind == NET_VETH || (l->parent && !l->parent_inside);
	int socket = on_host ? a->s->host : a->s->inside, parent = 0, r;
	struct netlink_message m, undo;

	if (l->parent) {
		parent = find(a, socket, on_host ? "the host's network namespace" : "the sandbox", l->parent);
		if (parent < 0)
			return parent;
	}
	(void)netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	put_name(&m, IFLA_IFNAME, l->name);
	if (on_host)
		netlink_put_u32(&m, IFLA_NET_NS_FD, (uint32_t)a->s->netns);
	if (parent)
		netlink_put_u32(&m, IFLA_LINK, (uint32_t)parent);
	if (l->has_mac)
		netlink_put(&m, IFLA_ADDRESS, l->mac, sizeof(l->mac));
	if (l->mtu)
		netlink_put_u32(&m, IFLA_MTU, l->mtu);
	put_data(&m, l);
	(void)netlink_begin(&undo, RTM_DELLINK, NLM_F_ACK, sizeof(struct ifinfomsg));
	put_name(&undo, IFLA_IFNAME, l->name);
	r = step(a, socket, &m, &undo);
	if (r == -EEXIST && l->kind == NET_VETH)
		return error_set(a->e, r, ERROR_STATE,
			"there is an interface %s in the sandbox already, or one of the name %s on the host",
			l->name, l->peer);
	if (r == -EEXIST)
		return error_set(
			a->e, r, ERROR_STATE, "there is an interface %s in the sandbox already", l->name);
	if (r == -EOPNOTSUPP)
		return error_set(a->e, r, ERROR_KERNEL,
			"this kernel cannot make the interface %s: it has none of the kind %s", l->name,
			kinds[l->kind]);
	if (r < 0)
		return error_errno(a->e, r, "make the interface %s", l->name);
	return l->peer ? bring_up_peer(a, l) : 0;
}

/* What an interface was before; the rest of it we do not touch. */
struct link_state {
	uint32_t mtu, master;
	bool up;
};

static int take_state(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *header = NLMSG_DATA(h);
	struct link_state *s = arg;
	const struct rtattr *a;
	int len;

	if (h->nlmsg_type != RTM_NEWLINK)
		return -EBADMSG;
	a = netlink_attributes(h, sizeof(*header), &len);
	if (!a)
		return -EBADMSG;
	s->up = header->ifi_flags & IFF_UP;
	s->mtu = netlink_u32(netlink_find(a, len, IFLA_MTU), 0);
	s->master = netlink_u32(netlink_find(a, len, IFLA_MASTER), 0);
	return 0;
}

static int read_state(struct apply *a, int index, struct link_state *ret)
{
	struct netlink_message m;
	struct ifinfomsg *header;
	int r;

	*ret = (struct link_state){0};
	header = netlink_begin(&m, RTM_GETLINK, 0, sizeof(*header));
	header->ifi_index = index;
	r = netlink_ask(a->s->inside, &m, take_state, ret);
	return r < 0 ? error_errno(a->e, r, "look at the interface") : 0;
}

static struct ifinfomsg *begin_change(struct netlink_message *m, int index)
{
	struct ifinfomsg *header = netlink_begin(m, RTM_NEWLINK, NLM_F_ACK, sizeof(*header));

	header->ifi_index = index;
	return header;
}

static int set_size(struct apply *a, const struct net_link *l, int index, const struct link_state *was)
{
	struct netlink_message m, undo;
	int r;

	(void)begin_change(&m, index);
	netlink_put_u32(&m, IFLA_MTU, l->mtu);
	(void)begin_change(&undo, index);
	netlink_put_u32(&undo, IFLA_MTU, was->mtu);
	r = step(a, a->s->inside, &m, &undo);
	return r < 0 ? error_errno(a->e, r, "set the MTU of %s", l->name) : 0;
}

static int join_bridge(struct apply *a, const struct net_link *l, int index, const struct link_state *was)
{
	int bridge = find_inside(a, l->bridge), r;
	struct netlink_message m, undo;

	if (bridge < 0)
		return bridge;
	(void)begin_change(&m, index);
	netlink_put_u32(&m, IFLA_MASTER, (uint32_t)bridge);
	(void)begin_change(&undo, index);
	netlink_put_u32(&undo, IFLA_MASTER, was->master);
	r = step(a, a->s->inside, &m, &undo);
	return r < 0 ? error_errno(a->e, r, "make %s a port of %s", l->name, l->bridge) : 0;
}

/* One that was there and was down had addresses, perhaps: the kernel takes those of IPv6 away when it goes down again. */
static int bring_up(struct apply *a, const struct net_link *l, int index)
{
	_cleanup_free_ struct netdev_addresses *addresses = calloc(1, sizeof(*addresses));
	struct netlink_message m, undo;
	struct ifinfomsg *header;
	int r = addresses ? netdev_get_addresses(a->s->inside, index, addresses) : -ENOMEM;

	if (r < 0)
		return error_errno(a->e, r, "addresses of the interface %s", l->name);
	header = begin_change(&m, index);
	header->ifi_flags = header->ifi_change = IFF_UP;
	header = begin_change(&undo, index);
	header->ifi_change = IFF_UP;
	r = step_with_addresses(a, a->s->inside, &m, &undo, index, addresses);
	return r < 0 ? error_errno(a->e, r, "bring up the interface %s", l->name) : 0;
}

static int add_address(struct apply *a, const struct net_link *l, int index, const struct net_address *w)
{
	struct netlink_message m, undo;
	struct ifaddrmsg *header;
	unsigned char broadcast[4];
	uint32_t mask;
	int r;

	header = netlink_begin(&m, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(*header));
	*header = (struct ifaddrmsg){
		.ifa_family = w->family, .ifa_prefixlen = w->prefix_len, .ifa_index = (unsigned int)index};
	netlink_put(&m, IFA_LOCAL, w->bytes, address_size(w));
	netlink_put(&m, IFA_ADDRESS, w->bytes, address_size(w));
	if (w->family == AF_INET && w->bytes[0] == 127)
		header->ifa_scope = RT_SCOPE_HOST;
	undo = removal(&m);
	if (w->family == AF_INET6) {
		netlink_put_u32(&m, IFA_FLAGS, IFA_F_NODAD);
	} else if (w->prefix_len < 31 && strcmp(l->name, "lo") != 0) {
		mask = UINT32_MAX >> w->prefix_len;
		for (int i = 0; i < 4; i++)
			broadcast[i] = w->bytes[i] | (unsigned char)(mask >> (24 - 8 * i));
		netlink_put(&m, IFA_BROADCAST, broadcast, sizeof(broadcast));
	}
	r = step(a, a->s->inside, &m, &undo);
	if (r == -EEXIST)
		return error_set(a->e, r, ERROR_STATE, "the interface %s has this address already", l->name);
	return r < 0 ? error_errno(a->e, r, "give the interface %s an address", l->name) : 0;
}

static int apply_link(struct apply *a, const struct net_link *l, size_t n)
{
	bool made = l->kind != NET_EXISTING;
	struct link_state was;
	int index, r = made ? make(a, l) : 0;

	if (r < 0)
		return r;
	index = find_inside(a, l->name);
	r = index < 0 ? index : read_state(a, index, &was);
	if (r == 0 && !made && l->mtu)
		r = set_size(a, l, index, &was);
	if (r == 0 && l->bridge)
		r = join_bridge(a, l, index, &was);
	if (r == 0 && !l->leave_down && !was.up)
		r = bring_up(a, l, index);
	for (size_t i = 0; r == 0 && i < l->n_addresses; i++) {
		set_item(a, "links[%zu].addresses[%zu]", n, i);
		r = add_address(a, l, index, &l->addresses[i]);
	}
	return r;
}

/* Routes, neighbours ------------------------------------------------------------------------------------------------ */

static int apply_route(struct apply *a, const struct net_route *t)
{
	int device = t->device ? find_inside(a, t->device) : 0, r;
	struct netlink_message m, undo;
	struct rtmsg *header;

	if (device < 0)
		return device;
	header = netlink_begin(&m, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(*header));
	*header = (struct rtmsg){
		.rtm_family = t->destination.family,
		.rtm_dst_len = t->destination.prefix_len,
		.rtm_table = t->table < 256 ? (unsigned char)t->table : RT_TABLE_UNSPEC,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = t->destination.family == AF_INET ? t->scope : RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
	};
	if (t->destination.prefix_len > 0)
		netlink_put(&m, RTA_DST, t->destination.bytes, address_size(&t->destination));
	if (t->gateway.family)
		netlink_put(&m, RTA_GATEWAY, t->gateway.bytes, address_size(&t->gateway));
	if (t->source.family)
		netlink_put(&m, RTA_PREFSRC, t->source.bytes, address_size(&t->source));
	if (device)
		netlink_put_u32(&m, RTA_OIF, (uint32_t)device);
	if (t->has_metric)
		netlink_put_u32(&m, RTA_PRIORITY, t->metric);
	netlink_put_u32(&m, RTA_TABLE, t->table);
	undo = removal(&m);
	r = step(a, a->s->inside, &m, &undo);
	if (r == -EEXIST)
		return error_set(a->e, r, ERROR_STATE, "there is such a route already");
	return r < 0 ? error_errno(a->e, r, "make the route") : 0;
}

static int apply_neighbor(struct apply *a, const struct net_neighbor *n)
{
	int device = find_inside(a, n->device), r;
	struct netlink_message m, undo;
	struct ndmsg *header;

	if (device < 0)
		return device;
	header = netlink_begin(&m, RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(*header));
	*header = (struct ndmsg){
		.ndm_family = n->address.family, .ndm_ifindex = device, .ndm_state = NUD_PERMANENT};
	netlink_put(&m, NDA_DST, n->address.bytes, address_size(&n->address));
	netlink_put(&m, NDA_LLADDR, n->mac, sizeof(n->mac));
	undo = removal(&m);
	r = step(a, a->s->inside, &m, &undo);
	if (r == -EEXIST)
		return error_set(a->e, r, ERROR_STATE, "%s has this neighbour already", n->device);
	return r < 0 ? error_errno(a->e, r, "make the neighbour") : 0;
}

int net_plan_apply(const struct net_sockets *s, const struct net_plan *p, struct net_journal *journal,
	char item[NET_ITEM_SIZE], struct error *e)
{
	struct apply a = {.s = s, .item = item, .journal = journal, .e = e};
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->n_links; i++) {
		set_item(&a, "links[%zu]", i);
		r = apply_link(&a, &p->links[i], i);
	}
	for (size_t i = 0; r == 0 && i < p->n_routes; i++) {
		set_item(&a, "routes[%zu]", i);
		r = apply_route(&a, &p->routes[i]);
	}
	for (size_t i = 0; r == 0 && i < p->n_neighbors; i++) {
		set_item(&a, "neighbors[%zu]", i);
		r = apply_neighbor(&a, &p->neighbors[i]);
	}
	if (r < 0)
		net_journal_undo(s, journal);
	return r;
}
