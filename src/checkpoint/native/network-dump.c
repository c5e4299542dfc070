/* SPDX-License-Identifier: Apache-2.0 */
/* The container's network namespace in a checkpoint: what is in it (network.h), and what of it could not be made again. */
#include "checkpoint/native/network.h"

/* Before those of the kernel, which then leave out what they both define. */
#include <net/if.h>
#include <netinet/in.h>

#include <linux/if_link.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/nexthop.h>
#include <linux/xfrm.h>
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "base/trace.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/network-mptcp.h"
#include "checkpoint/native/network-pairs.h"
#include "checkpoint/native/traffic.h"
#include "linux/netdev.h"
#include "linux/sockdiag.h"

/* Every new network namespace has these, where the kernel has their kinds. */
static bool is_fallback(const St__Link *l)
{
	static const char *const names[] = {
		"tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(l->name, names[i]) == 0)
			return true;
	return false;
}

/* Hooks and netDevices run again at a restore. What they brought comes back by them. */
static bool comes_from_outside(const struct dump *d, const St__Link *l)
{
	const struct spec *s = d->c->spec;

	for (size_t i = 0; i < s->n_net_devices; i++)
		if (strcmp(s->net_devices[i].name, l->name) == 0 || strchr(s->net_devices[i].name, '%'))
			return true;
	return l->outside && !l->inside; /* the restore says so if nothing brings one of this name */
}

/* Restore puts nothing on an interface of others. */
static bool lies_on_outside(const struct dump *d, const St__Network *n, const St__Link *l)
{
	const struct link_kind *kind = link_kind_find(l->kind);
	const St__Link *lower = kind && kind->has_lower ? network_link(n, l->lower) : NULL;

	return lower && comes_from_outside(d, lower);
}

/* What has queues that nobody in the container holds cannot be as it was; and their descriptors are nowhere without it. */
static void check_tun(struct dump *d, const St__Link *l)
{
	const struct rtattr *a = (const struct rtattr *)l->data.data;
	uint32_t queues = netlink_u32(netlink_find(a, l->data.len, IFLA_TUN_NUM_QUEUES), 0) +
			  netlink_u32(netlink_find(a, l->data.len, IFLA_TUN_NUM_DISABLED_QUEUES), 0);
	const struct rtattr *persist = netlink_find(a, l->data.len, IFLA_TUN_PERSIST);
	size_t held = 0;

	for (size_t i = 0; i < d->n_files; i++)
		held += strcmp(d->files[i].info.tun, l->name) == 0;
	/* Kernels that do not count queues unless there may be several. */
	if (queues == 0)
		queues = held > 0 || (persist && *(const uint8_t *)RTA_DATA(persist)) ? held : 1;
	if (held != queues)
		preflight_add(d->report, 0, -1, "network", "a process outside of the container holds it",
			"let a process of the container hold it, or make it persistent",
			"network interface %s (tun)", l->name);
}

/* As the container sees them. */
static void name_tun_owners(struct dump *d, St__Link *l)
{
	const struct rtattr *a = (const struct rtattr *)l->data.data;
	const struct rtattr *owner = netlink_find(a, l->data.len, IFLA_TUN_OWNER);
	const struct rtattr *group = netlink_find(a, l->data.len, IFLA_TUN_GROUP);
	uint32_t id;

	if (owner && RTA_PAYLOAD(owner) == sizeof(id)) {
		id = dump_uid(d, netlink_u32(owner, 0));
		memcpy(RTA_DATA(owner), &id, sizeof(id));
	}
	if (group && RTA_PAYLOAD(group) == sizeof(id)) {
		id = dump_gid(d, netlink_u32(group, 0));
		memcpy(RTA_DATA(group), &id, sizeof(id));
	}
}

/* Tunnels that packets say themselves where they go ("external"): the kernel does not take what it shows of them. */
static bool is_external(const St__Link *l)
{
	const struct link_kind *kind = link_kind_find(l->kind);

	for (int type = 1; kind && type < 64; type++)
		if ((kind->external & 1ull << type) &&
			netlink_find((const struct rtattr *)l->data.data, (int)l->data.len, type))
			return true;
	return false;
}

static void check_link(struct dump *d, const St__Network *n, const St__Link *l, bool nested)
{
	if (strcmp(l->kind, "tun") == 0 && !nested)
		check_tun(d, l);
	if (l->index == LOOPBACK_INDEX || is_fallback(l) || (!nested && comes_from_outside(d, l)))
		return;
	if (nested && l->outside && !l->inside)
		preflight_add(d->report, 0, -1, "network",
			"it leads from a network namespace that a process of the container has made to one "
			"that is not recorded, or by another way than a pair of veth",
			"remove it", "network interface %s (%s)", l->name, l->kind);
	else if (!link_kind_find(l->kind) || lies_on_outside(d, n, l) || (nested && !strcmp(l->kind, "tun")))
		preflight_add(d->report, 0, -1, "network",
			"interfaces of this kind, or on one that comes from outside, are not recorded yet",
			"remove it, or have linux.netDevices or a hook bring it", "network interface %s (%s)",
			l->name, *l->kind ? l->kind : "device");
	else if (is_external(l))
		preflight_add(d->report, 0, -1, "network",
			"tunnels for which each packet says where it goes are not recorded yet",
			"remove it, or have a hook bring it", "network interface %s (%s external)", l->name,
			l->kind);
	else if (network_bridge_refused(l))
		preflight_add(d->report, 0, -1, "network", network_bridge_refused(l),
			"turn mcast_vlan_snooping and mst_enabled off", "network bridge %s", l->name);
}

static int check_groups(struct dump *d, int socket, const St__Network *n)
{
	const char *why = NULL;
	int r = network_groups_refused(socket, n, &why);

	if (why)
		preflight_add(d->report, 0, -1, "network", why, "take it away (bridge mdb del)",
			"a permanent multicast group");
	return r;
}

static void refuse_traffic(
	int index, const char *what, const char *kind, const char *why, const char *remedy, void *arg)
{
	preflight_add(((struct dump *)arg)->report, 0, -1, "network", why, remedy,
		"%s %s of interface number %d (traffic control)", what, kind, index);
}

static int take_any(const struct nlmsghdr *h, void *arg)
{
	++*(size_t *)arg;
	return h->nlmsg_len < NLMSG_LENGTH(0) ? -EBADMSG : 0;
}

/* Such groups shift by themselves, and the kernel does not take what it says of them. */
static void check_nexthops(struct dump *d, const St__Network *n)
{
	for (size_t i = 0; i < n->n_nexthops; i++) {
		const struct nlmsghdr *h = (const struct nlmsghdr *)n->nexthops[i].data;
		int len;
		const struct rtattr *a = netlink_attributes(h, sizeof(struct nhmsg), &len);
		const struct rtattr *type = netlink_find(a, len, NHA_GROUP_TYPE);

		if (type && *(const uint16_t *)RTA_DATA(type) == NEXTHOP_GRP_TYPE_RES)
			preflight_add(d->report, 0, -1, "network",
				"resilient groups of nexthops are not recorded",
				"use groups of the usual type", "nexthop %u",
				netlink_u32(netlink_find(a, len, NHA_ID), 0));
	}
}

/* IPsec. A kernel without it does not know the protocol. */
static int check_xfrm(struct dump *d, int netns)
{
	_cleanup_close_ int socket = netns_socket(netns, AF_NETLINK, SOCK_RAW, NETLINK_XFRM);
	struct netlink_message q;
	size_t n = 0;
	int r;

	if (socket < 0)
		return socket == -EPROTONOSUPPORT ? 0 : socket;
	(void)netlink_begin(&q, XFRM_MSG_GETSA, NLM_F_DUMP, 0);
	r = netlink_ask(socket, &q, take_any, &n);
	(void)netlink_begin(&q, XFRM_MSG_GETPOLICY, NLM_F_DUMP, 0);
	if (r == 0)
		r = netlink_ask(socket, &q, take_any, &n);
	if (n > 0)
		preflight_add(d->report, 0, -1, "network", "IPsec is not recorded yet",
			"flush its states and policies (ip xfrm), or checkpoint with --empty-ns network",
			"%zu states and policies", n);
	return r == -EAGAIN ? 0 : r;
}

static int dump_nftables(struct dump *d, int netns, struct nft_tables *ret)
{
	int r = nftables_read(netns, &d->arena, ret);

	for (size_t i = 0; i < ret->n && r == 0; i++) {
		const struct nft_table *t = &ret->tables[i];

		if (t->refused || nftables_wrong(t->msg))
			preflight_add(d->report, 0, -1, "network",
				t->refused ? t->refused : nftables_wrong(t->msg),
				t->remedy ? t->remedy : "flush it and load its rules again (nft)",
				"packet filter %s", t->msg->name);
	}
	/* What changes all the time stands still when it matters. */
	return r == -EAGAIN && !d->stopped ? 0 : r;
}

static struct nfgenmsg *begin_netfilter(struct netlink_message *q, int subsystem, int command)
{
	struct nfgenmsg *g = netlink_begin(q, subsystem << 8 | command, NLM_F_DUMP, sizeof(*g));

	g->version = NFNETLINK_V0;
	return g;
}

/* Kernels without that part of netfilter. */
static int if_there(int r)
{
	return r == -EINVAL || r == -EOPNOTSUPP ? 0 : r;
}

static int check_ipsets(struct dump *d, int socket)
{
	const uint8_t protocol = IPSET_PROTOCOL;
	struct netlink_message q;
	size_t n = 0;
	int r;

	(void)begin_netfilter(&q, NFNL_SUBSYS_IPSET, IPSET_CMD_LIST);
	netlink_put(&q, IPSET_ATTR_PROTOCOL, &protocol, sizeof(protocol));
	r = netlink_ask(socket, &q, take_any, &n);
	if (n > 0)
		preflight_add(d->report, 0, -1, "network",
			"sets of addresses of iptables are not recorded yet",
			"use those of nftables, or checkpoint with --empty-ns network and have a hook make "
			"them "
			"anew",
			"%zu ipsets", n);
	return if_there(r);
}

/* Through NAT, and in the middle: what comes next would be taken for the beginning of another connection. */
static int take_tracked(const struct nlmsghdr *h, void *arg)
{
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct nfgenmsg), &len), *tcp, *state;
	uint32_t status = a ? ntohl(netlink_u32(netlink_find(a, len, CTA_STATUS), 0)) : 0;

	tcp = a ? netlink_find(a, len, CTA_PROTOINFO) : NULL;
	tcp = tcp ? netlink_find(RTA_DATA(tcp), RTA_PAYLOAD(tcp), CTA_PROTOINFO_TCP) : NULL;
	state = tcp ? netlink_find(RTA_DATA(tcp), RTA_PAYLOAD(tcp), CTA_PROTOINFO_TCP_STATE) : NULL;
	if (state && RTA_PAYLOAD(state) >= 1 &&
		*(const uint8_t *)RTA_DATA(state) == TCP_CONNTRACK_ESTABLISHED && (status & IPS_NAT_MASK))
		++*(size_t *)arg;
	return a ? 0 : -EBADMSG;
}

static int check_tracked(struct dump *d, int socket)
{
	struct netlink_message q;
	size_t n = 0;
	int r;

	(void)begin_netfilter(&q, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET);
	r = netlink_ask(socket, &q, take_tracked, &n);
	if (n > 0)
		preflight_add(d->report, 0, -1, "network", "where NAT leads a connection is not recorded yet",
			"wait until they have ended, or checkpoint with --empty-ns network",
			"%zu TCP connections through NAT", n);
	return r == -EAGAIN ? 0 : if_there(r);
}

/* What packet filters refer to. */
static int check_netfilter(struct dump *d, int netns, const struct nft_tables *filters)
{
	_cleanup_close_ int socket = -EBADF;
	int r;

	if (filters->n == 0)
		return 0;
	socket = nf_socket(netns);
	r = socket < 0 ? socket : check_ipsets(d, socket);
	return r < 0 ? r : check_tracked(d, socket);
}

/* iptables as it was before nftables: IPv4 and IPv6 have the same requests and nearly the same structures. */
struct tables {
	const char *names; /* below /proc/PID/net */
	int family, level;
	size_t target_offset; /* where an entry says where its target is */
};
static const struct tables tables[] = {
	{"ip_tables_names", AF_INET, SOL_IP, offsetof(struct ipt_entry, target_offset)},
	{"ip6_tables_names", AF_INET6, SOL_IPV6, offsetof(struct ip6t_entry, target_offset)},
};

/* The verdict of a chain where no rule fits lies at "underflow". */
static bool accepts(const struct tables *t, const char *entries, size_t size, size_t underflow)
{
	struct xt_standard_target target;
	uint16_t offset;

	if (underflow + t->target_offset + sizeof(offset) > size)
		return false;
	memcpy(&offset, entries + underflow + t->target_offset, sizeof(offset));
	if (underflow + offset + sizeof(target) > size)
		return false;
	memcpy(&target, entries + underflow + offset, sizeof(target));
	return target.verdict == -NF_ACCEPT - 1;
}

/* Looking at a table makes it, so one without rules that accepts everything is none. */
static bool table_does_nothing(const struct tables *t, int socket, const char *name)
{
	struct ipt_getinfo info = {};
	struct ipt_get_entries *all;
	_cleanup_free_ void *memory = NULL;
	socklen_t len = sizeof(info);

	snprintf(info.name, sizeof(info.name), "%s", name);
	if (getsockopt(socket, t->level, IPT_SO_GET_INFO, &info, &len) < 0 ||
		info.num_entries != (unsigned)__builtin_popcount(info.valid_hooks) + 1 || info.size > 65536)
		return false;
	len = sizeof(*all) + info.size;
	all = memory = calloc(1, len);
	if (!all)
		return false;
	memcpy(all->name, info.name, sizeof(all->name));
	all->size = info.size;
	if (getsockopt(socket, t->level, IPT_SO_GET_ENTRIES, all, &len) < 0)
		return false;
	for (unsigned hook = 0; hook < NF_INET_NUMHOOKS; hook++)
		if ((info.valid_hooks & 1u << hook) &&
			!accepts(t, (const char *)all->entrytable, info.size, info.underflow[hook]))
			return false;
	return true;
}

static int check_iptables(struct dump *d, int netns, pid_t pid, const struct tables *t)
{
	_cleanup_close_ int socket = -EBADF;
	char path[64], names[1024], *rest = names, *name;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/net/%s", pid, t->names);
	n = read_small_file_at(AT_FDCWD, path, names, sizeof(names));
	if (n <= 0)
		return 0; /* the kernel has no such thing, or the namespace no table */
	socket = netns_socket(netns, t->family, SOCK_RAW, IPPROTO_RAW);
	if (socket < 0)
		return socket;
	while ((name = strsep(&rest, "\n")))
		if (*name && !table_does_nothing(t, socket, name))
			preflight_add(d->report, 0, -1, "network", "packet filters are not recorded yet",
				"flush it, or checkpoint with --empty-ns network and have a hook make it "
				"anew",
				"table %s of %s", name, t->family == AF_INET ? "iptables" : "ip6tables");
	return 0;
}

/* Whether there is a /proc of the container whose sys can be written: mostly that is read-only. */
static bool can_write_sysctls(const struct dump *d)
{
	bool can = false;

	for (size_t i = 0; i < d->n_mounts; i++) {
		const struct proc_mount *m = &d->mounts[i];
		size_t len = strlen(m->target);
		bool writable = strncmp(m->options, "ro", 2) != 0;

		if (strcmp(m->fstype, "proc") != 0)
			continue;
		if (strcmp(m->root, "/") == 0 || strncmp(m->root, "/sys", 4) == 0)
			can |= writable;
		/* Over the one before it. */
		if (strcmp(m->root, "/sys") == 0 && len > 4 && strcmp(m->target + len - 4, "/sys") == 0)
			can = writable;
	}
	return can;
}

static int read_sysctls(struct dump *d, int netns, St__Network *n)
{
	_cleanup_close_ int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (own < 0 || setns(netns, CLONE_NEWNET) < 0)
		return -errno;
	r = network_read_sysctls(&d->arena, n);
	return setns(own, CLONE_NEWNET) < 0 ? -errno : r;
}

/* pid: of a process in it. */
static int read_namespace(
	struct dump *d, int netns, pid_t pid, St__Network **ret, struct nft_tables *ret_filters)
{
	_cleanup_close_ int socket = netdev_open(netns);
	int r = socket < 0 ? socket : network_read(socket, &d->arena, ret);

	if (r == 0)
		r = traffic_read(socket, &d->arena, *ret, refuse_traffic, d);
	r = r == -EAGAIN && !d->stopped ? 0 : r;
	if (r == 0)
		network_forget_usual(*ret);
	if (r == 0 && (*ret)->n_links > 1)
		r = check_groups(d, socket, *ret);
	if (r == 0)
		r = network_read_mptcp(netns, &d->arena, *ret);
	r = r == -EAGAIN && !d->stopped ? 0 : r;
	if (r == 0)
		r = check_xfrm(d, netns);
	if (r == 0)
		check_nexthops(d, *ret);
	if (r == 0)
		r = dump_nftables(d, netns, ret_filters);
	if (r == 0)
		r = check_netfilter(d, netns, ret_filters);
	for (size_t i = 0; i < ARRAY_SIZE(tables) && r == 0; i++)
		r = check_iptables(d, netns, pid, &tables[i]);
	if (r == 0 && d->stopped && can_write_sysctls(d))
		r = read_sysctls(d, netns, *ret);
	return r;
}

static void check_links(struct dump *d, const St__Network *n, bool nested)
{
	for (size_t i = 0; i < n->n_links; i++) {
		if (strcmp(n->links[i]->kind, "tun") == 0)
			name_tun_owners(d, n->links[i]);
		check_link(d, n, n->links[i], nested);
	}
}

static int read_own(struct dump *d, int *ret_netns)
{
	const struct spec_namespace *ns = &d->c->spec->namespaces[NS_NET];
	char path[64];

	/* That of others stays what it is, with them. */
	if (!ns->present || ns->path || d->options->empty_ns)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", d->c->init_pid);
	*ret_netns = open(path, O_RDONLY | O_CLOEXEC);
	return *ret_netns < 0 ? -errno
			      : read_namespace(d, *ret_netns, d->c->init_pid, &d->network, &d->packet_tables);
}

int dump_network(struct dump *d, struct error *e)
{
	TRACE("network");
	_cleanup_close_ int netns = -EBADF;
	int r = read_own(d, &netns);

	if (r == 0)
		r = dump_network_pairs(d, netns);
	if (r < 0)
		return error_errno(e, r, "read the container's network");
	if (d->network)
		check_links(d, d->network, false);
	for (size_t i = 0; i < d->n_nested; i++)
		if (d->nested[i].msg->network)
			check_links(d, d->nested[i].msg->network, true);
	return 0;
}

static int add_filters(struct dump *d, St__Namespace *m, const struct nft_tables *filters)
{
	m->packet_tables = arena_array(&d->arena, filters->n + 1, sizeof(*m->packet_tables));
	for (size_t i = 0; i < filters->n && m->packet_tables; i++)
		m->packet_tables[m->n_packet_tables++] = filters->tables[i].msg;
	return m->packet_tables ? 0 : -ENOMEM;
}

int dump_nested_network(struct dump *d, int netns, pid_t pid, St__Namespace *m, struct error *e)
{
	struct nft_tables filters = {};
	int r = read_namespace(d, netns, pid, &m->network, &filters);

	if (r == 0)
		r = add_filters(d, m, &filters);
	return r < 0 ? error_errno(e, r, "read the network namespace of a process") : 0;
}
