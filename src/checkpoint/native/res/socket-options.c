/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket options. The table lists every option of Linux 6.18 that a program can set and read back; what differs
 * from the value of a new socket goes into the image. tests/cr/socket_options.c tries all numbers, and so finds what is
 * missing here. *
 * When an option is set matters: what decides about the address comes before bind, what limits or filters
 * data comes after the queues are full again.
 */
#include "checkpoint/native/res/socket.h"

#include <linux/filter.h>
#include <linux/icmp.h>
#include <linux/if_packet.h>
#include <linux/ipv6.h>
#include <linux/netlink.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

#include "base/fd.h"

enum {
	UNIX = 1,
	TCP = 2, /* MPTCP as well */
	UDP = 4, /* UDP-Lite and ping sockets as well */
	RAW = 8,
	PACKET = 16,
	NETLINK = 32,
	DATAGRAM = UDP | RAW,
	INET = TCP | DATAGRAM,
	ANY = UNIX | INET | PACKET | NETLINK,
	V6 = 64,  /* only of AF_INET6 sockets */
	V4 = 128, /* only of AF_INET sockets */
	EARLY = 256,
	SYSCTL = 512, /* what a new socket has depends on a sysctl: always recorded */
	LONG = 0,     /* size of what has no fixed one */
};

/* Newer than the headers of the oldest system that this is built on. */
enum {
	OPT_SO_BUF_LOCK = 72,
	OPT_SO_RESERVE_MEM = 73,
	OPT_SO_TXREHASH = 74,
	OPT_SO_RCVMARK = 75,
	OPT_SO_PASSPIDFD = 76,
	OPT_SO_RCVPRIORITY = 82,
	OPT_SO_PASSRIGHTS = 83,
	OPT_IP_LOCAL_PORT_RANGE = 51,
	OPT_TCP_RTO_MAX_MS = 44,
	OPT_TCP_RTO_MIN_US = 45,
	OPT_TCP_DELACK_MAX_US = 46,
	OPT_UDPLITE_SEND_CSCOV = 10,
	OPT_UDPLITE_RECV_CSCOV = 11,
	OPT_PACKET_VNET_HDR_SZ = 24,
	LOCKED_SEND_BUFFER = 1,
	LOCKED_RECEIVE_BUFFER = 2,
	MAX_OPTION = 2048,
};

struct option {
	short level, name;
	unsigned char size;
	unsigned short where;
	int initial; /* of options of 4 bytes; longer ones are zero, unless is_initial() knows better */
};

/* In the order in which they are set. */
/* clang-format off */
static const struct option options[] = {
	{SOL_SOCKET, SO_REUSEADDR, 4, ANY | EARLY, 0},
	{SOL_SOCKET, SO_REUSEPORT, 4, INET | EARLY, 0},
	{SOL_SOCKET, SO_MARK, 4, ANY | EARLY, 0},
	{SOL_SOCKET, SO_DEBUG, 4, ANY, 0},
	{SOL_SOCKET, SO_DONTROUTE, 4, ANY, 0},
	{SOL_SOCKET, SO_BROADCAST, 4, ANY, 0},
	{SOL_SOCKET, SO_KEEPALIVE, 4, ANY, 0},
	{SOL_SOCKET, SO_OOBINLINE, 4, ANY, 0},
	{SOL_SOCKET, SO_NO_CHECK, 4, ANY, 0},
	{SOL_SOCKET, SO_LINGER, 8, ANY, 0},
	{SOL_SOCKET, SO_PASSCRED, 4, UNIX | NETLINK, 0},
	{SOL_SOCKET, SO_PASSSEC, 4, UNIX | NETLINK, 0},
	{SOL_SOCKET, OPT_SO_PASSPIDFD, 4, UNIX, 0},
	{SOL_SOCKET, OPT_SO_PASSRIGHTS, 4, UNIX, 1},
	{SOL_SOCKET, SO_RCVLOWAT, 4, ANY, 1},
	{SOL_SOCKET, SO_RCVTIMEO, 16, ANY, 0},
	{SOL_SOCKET, SO_SNDTIMEO, 16, ANY, 0},
	{SOL_SOCKET, SO_TIMESTAMP_OLD, 4, ANY, 0},
	{SOL_SOCKET, SO_TIMESTAMPNS_OLD, 4, ANY, 0},
	{SOL_SOCKET, SO_TIMESTAMPING_OLD, 8, ANY, 0},
	{SOL_SOCKET, SO_TIMESTAMP_NEW, 4, ANY, 0},
	{SOL_SOCKET, SO_TIMESTAMPNS_NEW, 4, ANY, 0},
	{SOL_SOCKET, SO_TIMESTAMPING_NEW, 8, ANY, 0},
	{SOL_SOCKET, SO_RXQ_OVFL, 4, ANY, 0},
	{SOL_SOCKET, SO_WIFI_STATUS, 4, ANY, 0},
	{SOL_SOCKET, SO_PEEK_OFF, 4, ANY, -1},
	{SOL_SOCKET, SO_NOFCS, 4, ANY, 0},
	{SOL_SOCKET, SO_SELECT_ERR_QUEUE, 4, ANY, 0},
	{SOL_SOCKET, SO_BUSY_POLL, 4, ANY | SYSCTL, 0},
	{SOL_SOCKET, SO_PREFER_BUSY_POLL, 4, ANY, 0},
	{SOL_SOCKET, SO_MAX_PACING_RATE, 8, ANY, 0},
	{SOL_SOCKET, SO_INCOMING_CPU, 4, ANY, -1},
	{SOL_SOCKET, SO_ZEROCOPY, 4, ANY, 0},
	{SOL_SOCKET, SO_TXTIME, 8, ANY, 0},
	{SOL_SOCKET, OPT_SO_TXREHASH, 4, TCP | SYSCTL, 1},
	{SOL_SOCKET, OPT_SO_RCVMARK, 4, ANY, 0},
	{SOL_SOCKET, OPT_SO_RCVPRIORITY, 4, ANY, 0},
	{SOL_SOCKET, OPT_SO_RESERVE_MEM, 4, INET, 0},

	{IPPROTO_IP, IP_FREEBIND, 4, INET | EARLY, 0},
	{IPPROTO_IP, IP_TRANSPARENT, 4, INET | EARLY, 0},
	{IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 4, INET | EARLY, 0},
	{IPPROTO_IP, OPT_IP_LOCAL_PORT_RANGE, 4, INET | EARLY, 0},
	{IPPROTO_IP, IP_TOS, 4, INET, 0},
	{IPPROTO_IP, IP_TTL, 4, INET | SYSCTL, 64},
	{IPPROTO_IP, IP_MTU_DISCOVER, 4, INET | SYSCTL, 1},
	{IPPROTO_IP, IP_RECVERR, 4, INET, 0},
	{IPPROTO_IP, IP_RECVERR_RFC4884, 4, INET, 0},
	{IPPROTO_IP, IP_PKTINFO, 4, INET, 0},
	{IPPROTO_IP, IP_RECVOPTS, 4, INET, 0},
	{IPPROTO_IP, IP_RETOPTS, 4, INET, 0},
	{IPPROTO_IP, IP_OPTIONS, LONG, INET, 0},
	{IPPROTO_IP, IP_PASSSEC, 4, INET, 0},
	{IPPROTO_IP, IP_RECVTTL, 4, INET, 0},
	{IPPROTO_IP, IP_RECVTOS, 4, INET, 0},
	{IPPROTO_IP, IP_RECVORIGDSTADDR, 4, INET, 0},
	{IPPROTO_IP, IP_RECVFRAGSIZE, 4, INET, 0},
	{IPPROTO_IP, IP_MINTTL, 4, INET, 0},
	{IPPROTO_IP, IP_CHECKSUM, 4, INET, 0},
	{IPPROTO_IP, IP_MULTICAST_IF, 4, INET, 0},
	{IPPROTO_IP, IP_MULTICAST_TTL, 4, DATAGRAM, 1},
	{IPPROTO_IP, IP_MULTICAST_LOOP, 4, INET, 1},
	{IPPROTO_IP, IP_MULTICAST_ALL, 4, INET | V4, 1},
	{IPPROTO_IP, IP_MULTICAST_ALL, 4, INET | V6, 0},
	{IPPROTO_IP, IP_UNICAST_IF, 4, INET, 0},
	{IPPROTO_IP, IP_NODEFRAG, 4, RAW | V4, 0},
	{IPPROTO_IP, IP_HDRINCL, 4, RAW | V4, 0},
	{IPPROTO_IP, IP_ROUTER_ALERT, 4, RAW | V4, 0},

	{IPPROTO_IPV6, IPV6_V6ONLY, 4, INET | V6 | EARLY | SYSCTL, 0},
	{IPPROTO_IPV6, IPV6_TRANSPARENT, 4, INET | V6 | EARLY, 0},
	{IPPROTO_IPV6, IPV6_FREEBIND, 4, INET | V6 | EARLY, 0},
	{IPPROTO_IPV6, IPV6_UNICAST_HOPS, 4, INET | V6 | SYSCTL, 64},
	{IPPROTO_IPV6, IPV6_MULTICAST_IF, 4, DATAGRAM | V6, 0},
	{IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 4, DATAGRAM | V6, 1},
	{IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 4, INET | V6, 1},
	{IPPROTO_IPV6, IPV6_MULTICAST_ALL, 4, INET | V6, 1},
	{IPPROTO_IPV6, IPV6_MTU_DISCOVER, 4, INET | V6, 1},
	{IPPROTO_IPV6, IPV6_RECVERR, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RECVERR_RFC4884, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_2292PKTINFO, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_2292HOPOPTS, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_2292DSTOPTS, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_2292RTHDR, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_2292HOPLIMIT, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_FLOWINFO, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RECVPKTINFO, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RECVHOPOPTS, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RECVRTHDR, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RECVDSTOPTS, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RECVPATHMTU, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RECVTCLASS, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RECVFRAGSIZE, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_HOPOPTS, LONG, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, LONG, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_RTHDR, LONG, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_DSTOPTS, LONG, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_DONTFRAG, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_TCLASS, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 4, INET | V6 | SYSCTL, 1},
	{IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, 4, INET | V6, 0x500},
	{IPPROTO_IPV6, IPV6_MINHOPCOUNT, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_UNICAST_IF, 4, INET | V6, 0},
	{IPPROTO_IPV6, IPV6_ROUTER_ALERT_ISOLATE, 4, INET | V6, 0},

	{IPPROTO_TCP, TCP_NODELAY, 4, TCP, 0},
	{IPPROTO_TCP, TCP_CORK, 4, TCP, 0},
	{IPPROTO_TCP, TCP_MAXSEG, 4, TCP, 536},
	{IPPROTO_TCP, TCP_KEEPIDLE, 4, TCP | SYSCTL, 7200},
	{IPPROTO_TCP, TCP_KEEPINTVL, 4, TCP | SYSCTL, 75},
	{IPPROTO_TCP, TCP_KEEPCNT, 4, TCP | SYSCTL, 9},
	{IPPROTO_TCP, TCP_SYNCNT, 4, TCP | SYSCTL, 6},
	{IPPROTO_TCP, TCP_LINGER2, 4, TCP | SYSCTL, 60},
	{IPPROTO_TCP, TCP_DEFER_ACCEPT, 4, TCP, 0},
	{IPPROTO_TCP, TCP_WINDOW_CLAMP, 4, TCP, 0},
	{IPPROTO_TCP, TCP_QUICKACK, 4, TCP, 1},
	{IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 4, TCP, 0},
	{IPPROTO_TCP, TCP_USER_TIMEOUT, 4, TCP, 0},
	{IPPROTO_TCP, TCP_FASTOPEN_KEY, LONG, TCP, 0},
	{IPPROTO_TCP, TCP_FASTOPEN, 4, TCP, 0},
	{IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 4, TCP, 0},
	{IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 4, TCP, 0},
	{IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4, TCP, 0},
	{IPPROTO_TCP, TCP_SAVE_SYN, 4, TCP, 0},
	{IPPROTO_TCP, TCP_INQ, 4, TCP, 0},
	{IPPROTO_TCP, TCP_TX_DELAY, 4, TCP, 0},
	{IPPROTO_TCP, OPT_TCP_RTO_MAX_MS, 4, TCP | SYSCTL, 120000},
	{IPPROTO_TCP, OPT_TCP_RTO_MIN_US, 4, TCP | SYSCTL, 200000},
	{IPPROTO_TCP, OPT_TCP_DELACK_MAX_US, 4, TCP | SYSCTL, 200000},

	{IPPROTO_UDP, UDP_CORK, 4, UDP, 0},
	{IPPROTO_UDP, UDP_ENCAP, 4, UDP, 0},
	{IPPROTO_UDP, UDP_NO_CHECK6_TX, 4, UDP, 0},
	{IPPROTO_UDP, UDP_NO_CHECK6_RX, 4, UDP, 0},
	{IPPROTO_UDP, UDP_SEGMENT, 4, UDP, 0},
	{IPPROTO_UDP, UDP_GRO, 4, UDP, 0},
	{IPPROTO_UDPLITE, OPT_UDPLITE_SEND_CSCOV, 4, UDP, 0},
	{IPPROTO_UDPLITE, OPT_UDPLITE_RECV_CSCOV, 4, UDP, 0},

	{SOL_RAW, ICMP_FILTER, 4, RAW | V4, 0},
	{IPPROTO_IPV6, IPV6_HDRINCL, 4, RAW | V6, 0},
	{SOL_RAW, IPV6_CHECKSUM, 4, RAW | V6, -1},
	{IPPROTO_ICMPV6, ICMP6_FILTER, 32, RAW | V6, 0},

	{SOL_NETLINK, NETLINK_PKTINFO, 4, NETLINK, 0},
	{SOL_NETLINK, NETLINK_BROADCAST_ERROR, 4, NETLINK, 0},
	{SOL_NETLINK, NETLINK_NO_ENOBUFS, 4, NETLINK, 0},
	{SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 4, NETLINK, 0},
	{SOL_NETLINK, NETLINK_CAP_ACK, 4, NETLINK, 0},
	{SOL_NETLINK, NETLINK_EXT_ACK, 4, NETLINK, 0},
	{SOL_NETLINK, NETLINK_GET_STRICT_CHK, 4, NETLINK, 0},

	{SOL_PACKET, PACKET_COPY_THRESH, 4, PACKET, 0},
	{SOL_PACKET, PACKET_AUXDATA, 4, PACKET, 0},
	{SOL_PACKET, PACKET_ORIGDEV, 4, PACKET, 0},
	{SOL_PACKET, PACKET_VERSION, 4, PACKET, 0},
	{SOL_PACKET, PACKET_RESERVE, 4, PACKET, 0},
	{SOL_PACKET, PACKET_LOSS, 4, PACKET, 0},
	{SOL_PACKET, PACKET_VNET_HDR, 4, PACKET, 0},
	{SOL_PACKET, OPT_PACKET_VNET_HDR_SZ, 4, PACKET, 0},
	{SOL_PACKET, PACKET_TIMESTAMP, 4, PACKET, 0},
	{SOL_PACKET, PACKET_TX_HAS_OFF, 4, PACKET, 0},
	{SOL_PACKET, PACKET_QDISC_BYPASS, 4, PACKET, 0},
	{SOL_PACKET, PACKET_IGNORE_OUTGOING, 4, PACKET, 0},

	{SOL_SOCKET, SO_PRIORITY, 4, ANY, 0}, /* behind IP_TOS, which sets it */
};
/* clang-format on */

/* Kinds of a family and protocol, as in the "where" of the table. */
static unsigned where_of(const St__Socket *m)
{
	unsigned w = m->family == AF_INET6 ? V6 : V4;

	switch (m->family) {
	case AF_UNIX:
		return UNIX;
	case AF_NETLINK:
		return NETLINK;
	case AF_PACKET:
		return PACKET;
	default:
		return w | (m->type == SOCK_STREAM ? TCP : m->type == SOCK_RAW ? RAW : UDP);
	}
}

static bool applies(const struct option *o, unsigned where)
{
	return (o->where & ANY & where) && (!(o->where & (V4 | V6)) || o->where & (V4 | V6) & where);
}

static bool is_initial(const struct option *o, const void *value, size_t len)
{
	static const char zeros[MAX_OPTION], ones[8] = {-1, -1, -1, -1, -1, -1, -1, -1};

	if (o->where & SYSCTL)
		return false;
	if (o->size == LONG)
		return len == 0;
	if (o->size == 4)
		return memcmp(value, &o->initial, 4) == 0;
	if (o->level == SOL_SOCKET && o->name == SO_MAX_PACING_RATE)
		return memcmp(value, ones, 8) == 0;
	return memcmp(value, zeros, o->size) == 0;
}

static int add_option(
	struct dump *d, St__Socket *m, int level, int name, const void *value, size_t len, struct error *e)
{
	enum { ROOM = ARRAY_SIZE(options) + 8 };
	St__SocketOption *o = pb_new(&d->arena, SocketOption, socket_option);

	if (!m->options)
		m->options = arena_array(&d->arena, ROOM, sizeof(*m->options));
	if (!o || !m->options || m->n_options == ROOM)
		return error_errno(e, -ENOMEM, "socket options");
	o->level = level;
	o->name = name;
	o->value.data = arena_memdup(&d->arena, value, len);
	o->value.len = len;
	if (!o->value.data)
		return error_errno(e, -ENOMEM, "socket options");
	m->options[m->n_options++] = o;
	return 0;
}

static int get_int(int fd, int name, int32_t *ret)
{
	return getsockopt(fd, SOL_SOCKET, name, ret, &(socklen_t){sizeof(*ret)}) < 0 ? -errno : 0;
}

static const int buffer_names[] = {SO_SNDBUF, SO_RCVBUF};

/* The sizes of buffers that no program has set: asked once, as making a socket and closing it costs more than all of its options. */
static void learn_usual_sizes(struct dump *d)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	for (size_t i = 0; i < ARRAY_SIZE(buffer_names); i++)
		if (fd < 0 || get_int(fd, buffer_names[i], &d->usual_buffers[i]) < 0)
			d->usual_buffers[i] = -1;
}

/* A buffer of TCP that the program did not set adapts itself; its present size says nothing. The kernel doubles
 * what is set. */
static int dump_buffers(struct dump *d, int fd, St__Socket *m, struct error *e)
{
	bool adapts = where_of(m) & TCP, unlocked = false;
	int locks, size, r = get_int(fd, OPT_SO_BUF_LOCK, &locks);

	if (r < 0) {
		if (m->protocol != IPPROTO_MPTCP)
			return error_errno(e, r, "SO_BUF_LOCK");
		locks = 0; /* it does not tell, and neither can a program set it */
	}
	if (d->usual_buffers[0] == 0)
		learn_usual_sizes(d);
	for (size_t i = 0; i < ARRAY_SIZE(buffer_names); i++) {
		bool locked = locks & (i == 0 ? LOCKED_SEND_BUFFER : LOCKED_RECEIVE_BUFFER);

		if (!locked && adapts)
			continue;
		r = get_int(fd, buffer_names[i], &size);
		if (r < 0)
			return error_errno(e, r, "size of socket buffer");
		if (!locked && size == d->usual_buffers[i])
			continue;
		unlocked |= !locked;
		size /= 2;
		r = add_option(d, m, SOL_SOCKET, buffer_names[i], &size, sizeof(size), e);
		if (r < 0)
			return r;
	}
	return unlocked ? add_option(d, m, SOL_SOCKET, OPT_SO_BUF_LOCK, &locks, sizeof(locks), e) : 0;
}

/* Options that are text: device and congestion control. */
static int dump_names(struct dump *d, int fd, St__Socket *m, struct error *e)
{
	char name[32];
	socklen_t len = sizeof(name);
	int r = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len) == 0 && len > 1)
		r = add_option(d, m, SOL_SOCKET, SO_BINDTODEVICE, name, strnlen(name, len), e);
	len = sizeof(name);
	if (r == 0 && where_of(m) & TCP && getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &len) == 0)
		r = add_option(d, m, IPPROTO_TCP, TCP_CONGESTION, name, strnlen(name, len), e);
	return r;
}

/* A classic BPF filter; asked for with length 0 the kernel tells the number of its instructions. */
static int dump_filter(struct dump *d, int fd, St__Socket *m, struct error *e)
{
	struct sock_filter *code;
	socklen_t n = 0;
	int locked = 0, r = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &n) < 0)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"the socket has an eBPF filter, which can not be read: take it away "
			"(SO_DETACH_FILTER)");
	if (n > 0) {
		code = arena_array(&d->arena, n, sizeof(*code));
		if (!code || getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, code, &n) < 0)
			return error_errno(e, -errno, "filter of a socket");
		r = add_option(d, m, SOL_SOCKET, SO_ATTACH_FILTER, code, n * sizeof(*code), e);
	}
	if (r == 0 && get_int(fd, SO_LOCK_FILTER, &locked) == 0 && locked)
		r = add_option(d, m, SOL_SOCKET, SO_LOCK_FILTER, &locked, sizeof(locked), e);
	return r;
}

static int dump_options(struct dump *d, int fd, St__Socket *m, struct error *e)
{
	bool has_tos = false; /* which has set SO_PRIORITY as well */
	unsigned where = where_of(m);
	char value[MAX_OPTION];
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];
		socklen_t len = sizeof(value);

		if (!applies(o, where))
			continue;
		/* An option that this kernel does not have was not set either. */
		if (getsockopt(fd, o->level, o->name, value, &len) < 0 || (o->size != LONG && len != o->size))
			continue;
		if (is_initial(o, value, len) && !(has_tos && o->name == SO_PRIORITY))
			continue;
		has_tos |= o->level == IPPROTO_IP && o->name == IP_TOS;
		r = add_option(d, m, o->level, o->name, value, len, e);
		if (r < 0)
			return r;
	}
	r = dump_buffers(d, fd, m, e);
	if (r == 0)
		r = dump_names(d, fd, m, e);
	if (r == 0)
		r = multicast_dump(d, fd, m, e);
	return r < 0 ? r : dump_filter(d, fd, m, e);
}

static int dump_address(struct dump *d, int fd, int (*get)(int, struct sockaddr *, socklen_t *),
	ProtobufCBinaryData *ret, struct error *e)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);

	if (get(fd, (struct sockaddr *)&a, &len) < 0)
		return errno == ENOTCONN || errno == EINVAL || errno == EOPNOTSUPP
			       ? 0
			       : error_errno(e, -errno, "address of a socket");
	if (len <= sizeof(sa_family_t) || len > sizeof(a))
		return 0; /* a unix socket without a name */
	ret->data = arena_memdup(&d->arena, &a, len);
	ret->len = len;
	return ret->data ? 0 : error_errno(e, -ENOMEM, "address of a socket");
}

/* getsockname() and getpeername() take a union of pointers under _GNU_SOURCE. */
static int local_name(int fd, struct sockaddr *a, socklen_t *len)
{
	return getsockname(fd, a, len);
}

static int peer_name(int fd, struct sockaddr *a, socklen_t *len)
{
	return getpeername(fd, a, len);
}

int socket_dump_common(struct dump *d, struct dump_file *f, St__Socket **ret, struct error *e)
{
	St__Socket *m = pb_new(&d->arena, Socket, socket);
	int r;

	if (!m)
		return error_errno(e, -ENOMEM, "socket");
	r = get_int(f->local, SO_DOMAIN, &m->family);
	if (r == 0)
		r = get_int(f->local, SO_TYPE, &m->type);
	if (r == 0)
		r = get_int(f->local, SO_PROTOCOL, &m->protocol);
	if (r < 0)
		return error_errno(e, r, "kind of a socket");
	r = dump_address(d, f->local, local_name, &m->local, e);
	if (r == 0)
		r = dump_address(d, f->local, peer_name, &m->remote, e);
	if (r == 0)
		r = dump_options(d, f->local, m, e);
	if (r < 0)
		return r;
	f->msg->kind_case = ST__FILE__KIND_SOCKET;
	f->msg->socket = m;
	*ret = m;
	return 0;
}

static bool has_size(const struct option *o, size_t len)
{
	return o->size == LONG ? len > 0 && len <= MAX_OPTION : len == o->size;
}

/* The stage and the size of an option of an image; -1: not one of ours. */
static int stage_of(const St__Socket *m, const St__SocketOption *o)
{
	unsigned where = where_of(m);

	if (o->level == SOL_SOCKET) {
		switch (o->name) {
		case SO_RCVBUF:
			return o->value.len == 4 ? SOCKET_EARLY : -1;
		case SO_SNDBUF:
		case SO_LOCK_FILTER:
		case OPT_SO_BUF_LOCK:
			return o->value.len == 4 ? SOCKET_LATE : -1;
		case SO_BINDTODEVICE:
			return o->value.len > 0 && o->value.len < 16 ? SOCKET_EARLY : -1;
		case SO_ATTACH_FILTER:
			return o->value.len > 0 && o->value.len % sizeof(struct sock_filter) == 0
				       ? SOCKET_LATE
				       : -1;
		}
	}
	if (o->level == IPPROTO_TCP && o->name == TCP_CONGESTION)
		return where & TCP && o->value.len > 0 && o->value.len < 16 ? SOCKET_LATE : -1;
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (options[i].level == o->level && options[i].name == o->name && applies(&options[i], where))
			return !has_size(&options[i], o->value.len) ? -1
			       : options[i].where & EARLY	    ? SOCKET_EARLY
								    : SOCKET_LATE;
	return -1;
}

static int set_filter(int fd, const ProtobufCBinaryData *v)
{
	struct sock_fprog p = {
		.len = v->len / sizeof(struct sock_filter), .filter = (struct sock_filter *)v->data};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &p, sizeof(p));
}

/* The default of another machine may be this one's default as well, even if the algorithm may not be
 * chosen. */
static bool is_congestion(int fd, const ProtobufCBinaryData *v)
{
	char now[32] = "";

	return getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, now, &(socklen_t){sizeof(now) - 1}) == 0 &&
	       strlen(now) == v->len && memcmp(now, v->data, v->len) == 0;
}

/* What follows a sysctl by itself is to go on doing so. */
static bool is_already(int fd, const St__SocketOption *o)
{
	char now[MAX_OPTION];
	socklen_t len = sizeof(now);

	return getsockopt(fd, o->level, o->name, now, &len) == 0 && len == o->value.len &&
	       memcmp(now, o->value.data, len) == 0;
}

/* The sizes were valid when they were set, whatever the limits are now. But in a user namespace nobody is above them. */
static int set_buffer(int fd, const St__SocketOption *o)
{
	int force = o->name == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE, want, have;
	socklen_t len = sizeof(have);

	if (setsockopt(fd, SOL_SOCKET, force, o->value.data, o->value.len) == 0)
		return 0;
	if (errno != EPERM || o->value.len != sizeof(want))
		return -1;
	memcpy(&want, o->value.data, sizeof(want));
	if (setsockopt(fd, SOL_SOCKET, o->name, &want, sizeof(want)) < 0 ||
		getsockopt(fd, SOL_SOCKET, o->name, &have, &len) < 0)
		return -1;
	errno = EPERM;
	return have / 2 < want ? -1 : 0; /* the kernel says twice what was asked for */
}

static int set_option(int fd, const St__SocketOption *o)
{
	if (o->level == SOL_SOCKET && o->name == SO_ATTACH_FILTER)
		return set_filter(fd, &o->value);
	if (o->level == SOL_SOCKET && (o->name == SO_SNDBUF || o->name == SO_RCVBUF))
		return set_buffer(fd, o);
	if (o->level == IPPROTO_TCP && o->name == TCP_CONGESTION ? is_congestion(fd, &o->value)
								 : is_already(fd, o))
		return 0;
	return setsockopt(fd, o->level, o->name, o->value.data, o->value.len);
}

int socket_restore_options(int fd, const St__Socket *m, enum socket_stage stage, struct error *e)
{
	for (size_t i = 0; i < m->n_options; i++) {
		const St__SocketOption *o = m->options[i];
		int s = stage_of(m, o);

		if (s < 0)
			return error_set(e, -EBADMSG, ERROR_CORRUPT,
				"socket option %d of level %d is not valid", o->name, o->level);
		if (s == (int)stage && set_option(fd, o) < 0)
			return error_errno(e, -errno, "set socket option %d of level %d", o->name, o->level);
	}
	return stage == SOCKET_LATE ? multicast_restore(fd, m, e) : 0;
}
