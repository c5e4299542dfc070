/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every option of every kind of socket that can be set and read back. No list of them is kept here: all numbers of all
 * levels are tried, so that an option of a newer kernel which the engine does not know fails this test.
 *
 * cr: caps=NET_ADMIN
 */
#include "sockets.h"

#include <linux/filter.h>
#include <netinet/in.h>

enum { NAMES = 128, VALUE_MAX = 64, VALUES_MAX = 8192, FEWEST = 14, BUF_LOCK = 72 };

static const struct kind {
	const char *name;
	int family, type, protocol, fewest;
} kinds[] = {
	{"unix stream", AF_UNIX, SOCK_STREAM, 0, FEWEST},
	{"unix datagram", AF_UNIX, SOCK_DGRAM, 0, FEWEST},
	{"unix seqpacket", AF_UNIX, SOCK_SEQPACKET, 0, FEWEST},
	{"tcp", AF_INET, SOCK_STREAM, 0, 40},
	{"tcp6", AF_INET6, SOCK_STREAM, 0, 60},
	{"udp", AF_INET, SOCK_DGRAM, 0, 30},
	{"udp6", AF_INET6, SOCK_DGRAM, 0, 60},
	{"udplite", AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, 0},
	{"udplite6", AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE, 0},
	{"raw", AF_INET, SOCK_RAW, 253, 30},
	{"raw6", AF_INET6, SOCK_RAW, 253, 40},
	{"raw icmp", AF_INET, SOCK_RAW, IPPROTO_ICMP, 30},
	{"raw icmp6", AF_INET6, SOCK_RAW, IPPROTO_ICMPV6, 40},
	{"ping", AF_INET, SOCK_DGRAM, IPPROTO_ICMP, 0},
	{"packet raw", AF_PACKET, SOCK_RAW, 0, FEWEST},
	{"packet datagram", AF_PACKET, SOCK_DGRAM, 0, FEWEST},
	{"netlink", AF_NETLINK, SOCK_RAW, 0, FEWEST},
};
enum { KINDS = sizeof(kinds) / sizeof(*kinds) };
static int sockets[KINDS];

static const int levels[] = {SOL_SOCKET, IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6, IPPROTO_ICMPV6,
	IPPROTO_UDPLITE, SOL_RAW, SOL_PACKET, SOL_NETLINK};
enum { LEVELS = sizeof(levels) / sizeof(*levels) };

struct range {
	int level, first, last;
};

/* What is an act and no state, would keep the rest from being set, or is set below with a value that makes sense. */
static const struct range not_set[] = {
	{SOL_SOCKET, SO_BINDTODEVICE, SO_DETACH_FILTER},
	{SOL_SOCKET, 32, 33}, /* SO_SNDBUFFORCE, SO_RCVBUFFORCE */
	{SOL_SOCKET, SO_LOCK_FILTER, SO_LOCK_FILTER},
	{SOL_SOCKET, 50, 53}, /* BPF programs, SO_CNX_ADVICE */
	{SOL_SOCKET, 62, 62}, /* SO_BINDTOIFINDEX */
	{SOL_SOCKET, 68, 68}, /* SO_DETACH_REUSEPORT_BPF */
	{IPPROTO_IP, 16, 17}, /* policies of IPsec */
	{IPPROTO_IP, 35, 48}, /* memberships */
	{IPPROTO_IP, 64, NAMES},
	{IPPROTO_IPV6, IPV6_JOIN_GROUP, IPV6_ROUTER_ALERT},
	{IPPROTO_IPV6, IPV6_JOIN_ANYCAST, IPV6_LEAVE_ANYCAST},
	{IPPROTO_IPV6, 24, 24}, /* IPV6_MTU */
	{IPPROTO_IPV6, 32, 32}, /* IPV6_FLOWLABEL_MGR */
	{IPPROTO_IPV6, 34, 35}, /* policies of IPsec */
	{IPPROTO_IPV6, 42, 48}, /* memberships */
	{IPPROTO_TCP, 14, 14},	/* TCP_MD5SIG */
	{IPPROTO_TCP, 19, 22},	/* TCP_REPAIR */
	{IPPROTO_TCP, 24, 24},	/* TCP_TIMESTAMP */
	{IPPROTO_TCP, 28, 29},	/* TCP_SAVED_SYN, TCP_REPAIR_WINDOW */
	{IPPROTO_TCP, 31, 35},	/* TCP_ULP, keys, TCP_ZEROCOPY_RECEIVE */
	{IPPROTO_TCP, 38, 43},	/* TCP_AO */
	{SOL_PACKET, 1, 6},	/* memberships, rings */
	{SOL_PACKET, 13, 13},
	{SOL_PACKET, 18, 18}, /* PACKET_FANOUT */
	{SOL_PACKET, 22, 22},
	{SOL_NETLINK, 1, 2},
};

/* What tells of the moment, or of the socket's identity. */
static const struct range not_compared[] = {
	{SOL_SOCKET, SO_ERROR, SO_ERROR},
	{SOL_SOCKET, 55, 57},			   /* SO_MEMINFO, SO_INCOMING_NAPI_ID, SO_COOKIE */
	{SOL_SOCKET, 71, 71},			   /* SO_NETNS_COOKIE */
	{SOL_SOCKET, 77, 77},			   /* SO_PEERPIDFD */
	{IPPROTO_TCP, 11, 11},			   /* TCP_INFO */
	{IPPROTO_TCP, 24, 24},			   /* TCP_TIMESTAMP */
	{IPPROTO_TCP, 26, 26},			   /* TCP_CC_INFO */
	{IPPROTO_TCP, 35, 35}, {SOL_PACKET, 6, 6}, /* PACKET_STATISTICS */
};

static bool is_in(const struct range *r, size_t n, int level, int name)
{
	for (size_t i = 0; i < n; i++)
		if (r[i].level == level && name >= r[i].first && name <= r[i].last)
			return true;
	return false;
}
#define IS_IN(ranges, level, name) is_in(ranges, sizeof(ranges) / sizeof(*ranges), level, name)

struct value {
	short kind, level, name;
	socklen_t len;
	unsigned char bytes[VALUE_MAX];
};
static struct value values[VALUES_MAX];
static size_t n_values;

static bool get(int fd, int level, int name, struct value *ret)
{
	memset(ret->bytes, 0, sizeof(ret->bytes));
	ret->len = sizeof(ret->bytes);
	return getsockopt(fd, level, name, ret->bytes, &ret->len) == 0;
}

/* Some value that it does not have yet. */
static bool change(int fd, int level, int name)
{
	static const int tries[] = {
		1, 0, 2, 3, 5, 7, 10, 12, 16, 32, 100, 200, 500, 1000, 4000, 10000, 65536, -1, 1 << 24};
	struct value before, now;

	if (!get(fd, level, name, &before))
		return false;
	for (size_t i = 0; i < sizeof(tries) / sizeof(*tries); i++) {
		unsigned char bytes[VALUE_MAX] = {0};

		memcpy(bytes, &tries[i], sizeof(int));
		if (setsockopt(fd, level, name, bytes, before.len >= 4 ? before.len : 4) == 0 &&
			get(fd, level, name, &now) && memcmp(&before, &now, sizeof(now)) != 0)
			return true;
	}
	return false;
}

static int change_all(int fd)
{
	int changed = 0;

	for (int l = 0; l < LEVELS; l++)
		for (int name = 1; name < NAMES; name++)
			if (!IS_IN(not_set, levels[l], name) && change(fd, levels[l], name))
				changed++;
	return changed;
}

/* Those that need more than a number. */
static void change_special(const struct kind *k, int fd)
{
	static const unsigned char padding[] = {0, 0, 1, 4, 0, 0, 0, 0}, nops[] = {1, 1, 1, 0};
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0x40000)};
	struct sock_fprog filter = {1, code};

	must(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	must(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)));
	sk_set(fd, SOL_SOCKET, SO_LOCK_FILTER, 1);
	/* Sizes that were set, and then let go; those of TCP are the kernel's business then. */
	if (k->type == SOCK_DGRAM)
		sk_set(fd, SOL_SOCKET, BUF_LOCK, 0);
	else if (k->type == SOCK_STREAM && k->family != AF_UNIX)
		sk_set(fd, SOL_SOCKET, BUF_LOCK, 3);
	if (k->family == AF_INET)
		must(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, nops, sizeof(nops)));
	if (k->family == AF_INET6) {
		must(setsockopt(fd, IPPROTO_IPV6, IPV6_HOPOPTS, padding, sizeof(padding)));
		must(setsockopt(fd, IPPROTO_IPV6, IPV6_DSTOPTS, padding, sizeof(padding)));
		must(setsockopt(fd, IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, padding, sizeof(padding)));
	}
	if (k->family == AF_INET && k->type == SOCK_STREAM)
		must(setsockopt(fd, IPPROTO_TCP, 33, "0123456789abcdef", 16)); /* TCP_FASTOPEN_KEY */
	/* IP_TOS sets it, and the program then something else. */
	sk_set(fd, SOL_SOCKET, SO_PRIORITY, k->type == SOCK_STREAM ? 0 : 3);
}

static void remember(int kind, int fd)
{
	for (int l = 0; l < LEVELS; l++) {
		for (int name = 1; name < NAMES; name++) {
			struct value *v = &values[n_values];

			if (IS_IN(not_compared, levels[l], name) || !get(fd, levels[l], name, v))
				continue;
			v->kind = kind;
			v->level = levels[l];
			v->name = name;
			n_values++;
			check(n_values < VALUES_MAX, "too many options");
		}
	}
}

static unsigned first_of(const struct value *v)
{
	unsigned n;

	memcpy(&n, v->bytes, sizeof(n));
	return n;
}

static void compare(const struct value *v)
{
	struct value now;
	bool there = get(sockets[v->kind], v->level, v->name, &now);

	check(there && now.len == v->len && memcmp(now.bytes, v->bytes, v->len) == 0,
		"%s: option %d of level %d was %u (%u bytes), is %u (%d bytes)", kinds[v->kind].name, v->name,
		v->level, first_of(v), v->len, first_of(&now), there ? (int)now.len : -1);
}

int main(void)
{
	for (int i = 0; i < KINDS; i++) {
		const struct kind *k = &kinds[i];
		int n;

		sockets[i] = socket(k->family, k->type, k->protocol);
		if (sockets[i] < 0) {
			check(k->fewest == 0, "a socket of kind %s: %m", k->name);
			continue;
		}
		n = change_all(sockets[i]);
		check(n >= k->fewest, "%s: only %d options can be set", k->name, n);
		change_special(k, sockets[i]);
		remember(i, sockets[i]);
	}
	while (cr_wait())
		for (size_t i = 0; i < n_values; i++)
			compare(&values[i]);
	return 0;
}
