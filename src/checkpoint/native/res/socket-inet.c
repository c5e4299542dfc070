/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP and UDP sockets over IPv4 and IPv6: new, bound and listening TCP sockets, and UDP sockets of any
 * state.
 *
 * A TCP connection lives in the network as well. What becomes of it the user says: it is kept (--tcp-established,
 * socket-tcp.c) or forgotten (--tcp-close: the socket comes back unconnected). One that waits to be accepted has no
 * descriptor by which it could be looked at.
 *
 * Datagrams that wait in a UDP socket are sent to it again, with the sender's address where that can be
 * had.
 */
#include "checkpoint/native/res/socket.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/fd.h"
#include "base/log.h"
#include "linux/nflock.h"
#include "linux/sockdiag.h"

static bool match(const struct dump *d, const struct dump_file *f)
{
	const char *p = f->protocol;

	static const char *const names[] = {
		"TCP", "TCPv6", "MPTCP", "MPTCPv6", "UDP", "UDPv6", "UDP-Lite", "UDPLITE", "UDPLITEv6"};

	for (size_t i = 0; p && i < ARRAY_SIZE(names); i++)
		if (strcmp(p, names[i]) == 0)
			return true;
	return false;
}

static void socket_ip(const struct sockaddr_storage *of, struct in6_addr *ret, uint16_t *ret_port)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)of;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)of;
	bool is_v4 = of->ss_family == AF_INET;

	sockdiag_address(of->ss_family, is_v4 ? (const void *)&v4->sin_addr : &v6->sin6_addr, ret);
	*ret_port = is_v4 ? v4->sin_port : v6->sin6_port;
}

static int tcp_info(int fd, struct tcp_info *ret)
{
	socklen_t len = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret, &len) < 0 ? -errno : 0;
}

static int protocol_of(int fd)
{
	int protocol;

	return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &(socklen_t){sizeof(protocol)}) < 0
		       ? -errno
		       : protocol;
}

/* Also MPTCP, which differs only when it is connected; whom a listener accepts from a peer without it is plain TCP. */
static bool is_stream(int protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP;
}

/* Is or was it connected? */
static bool is_connection(const struct tcp_info *info)
{
	if (info->tcpi_state == STATE_LISTEN)
		return false;
	return info->tcpi_state != STATE_CLOSE || info->tcpi_segs_out > 0 || info->tcpi_segs_in > 0;
}

/* What cannot be kept; NULL: nothing. Of a listener the kernel tells the waiting connections as "unacked". */
static const char *refusal(const struct dump *d, int fd, const struct tcp_info *info, const char **remedy)
{
	const struct checkpoint_options *o = d->options;
	const char *reason;
	uint64_t ns;

	if (o->tcp_close)
		return NULL;
	if (info->tcpi_state == STATE_LISTEN && info->tcpi_unacked > 0 && !o->tcp_skip_in_flight) {
		*remedy = REMEDY_ACCEPT;
		return "connections wait to be accepted";
	}
	if (!is_connection(info))
		return NULL;
	*remedy = "let the program use TCP, or use --tcp-close";
	if (protocol_of(fd) != IPPROTO_TCP)
		return "it is an MPTCP connection, which the kernel can not make again";
	if (!o->tcp_established) {
		*remedy = "use --tcp-established to keep it, or --tcp-close (it is then closed after the "
			  "restore), "
			  "here and for the restore";
		return "it is a TCP connection";
	}
	*remedy = "close it, or use --tcp-close";
	if (dump_net_namespace(d, fd, &ns) != 0 || ns)
		return "it is a TCP connection in a network namespace that a process has made";
	reason = tcp_obstacle(fd, info, remedy);
	return reason ? reason : tcp_send_obstacle(d, fd, remedy);
}

/* Asked once for each look at the container. */
static bool can_hold_packets(struct dump *d)
{
	if (!d->holds_packets) {
		_cleanup_close_ int ns = -EBADF;
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/ns/net", d->procs[0].pid);
		ns = open(path, O_RDONLY | O_CLOEXEC);
		d->holds_packets = ns >= 0 && nflock_available(ns) ? 1 : -1;
	}
	return d->holds_packets > 0;
}

/* Connections that only the kernel has. */
struct tcp_unowned {
	bool stopped; /* read when nothing could change any more */
	struct sockdiag_unowned *v;
	size_t n;
};

static int read_unowned(struct dump *d)
{
	_cleanup_close_ int ns = -EBADF;
	struct tcp_unowned *c;
	char path[64];
	int r;

	if (d->unowned && d->unowned->stopped == d->stopped)
		return 0;
	c = arena_new(&d->arena, struct tcp_unowned);
	if (!c)
		return -ENOMEM;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", d->procs[0].pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	r = ns < 0 ? -errno : sockdiag_tcp_unowned(ns, &d->arena, &c->v, &c->n);
	if (r < 0 && !d->stopped)
		return 0; /* it is read again */
	c->stopped = d->stopped;
	d->unowned = c;
	return r;
}

/* Of the other end, if that is one of these; NULL: it is not. */
static const struct sockdiag_unowned *find_peer(const struct tcp_unowned *u, int fd)
{
	struct sockaddr_storage local, remote;
	struct in6_addr local_address, remote_address;
	uint16_t local_port, remote_port;

	if (u->n == 0 || getsockname(fd, (struct sockaddr *)&local, &(socklen_t){sizeof(local)}) < 0 ||
		getpeername(fd, (struct sockaddr *)&remote, &(socklen_t){sizeof(remote)}) < 0)
		return NULL;
	socket_ip(&local, &local_address, &local_port);
	socket_ip(&remote, &remote_address, &remote_port);
	for (size_t i = 0; i < u->n; i++) {
		const struct sockdiag_unowned *c = &u->v[i];

		if (c->local_port == remote_port && c->remote_port == local_port &&
			IN6_ARE_ADDR_EQUAL(&c->local, &remote_address) &&
			IN6_ARE_ADDR_EQUAL(&c->remote, &local_address))
			return c;
	}
	return NULL;
}

/* What stands in the way at the other end; NULL: nothing. */
static const char *peer_refusal(struct dump *d, int fd, const char **remedy)
{
	const struct sockdiag_unowned *peer;

	*remedy = REMEDY_AGAIN;
	if (read_unowned(d) < 0)
		return "the connections without a descriptor cannot be listed";
	peer = d->unowned ? find_peer(d->unowned, fd) : NULL;
	if (!peer)
		return NULL;
	*remedy = REMEDY_READ;
	if (!peer->opening)
		return "its peer on this machine has closed the connection, and data for this end is still "
		       "with the "
		       "kernel";
	*remedy = REMEDY_ACCEPT;
	return d->options->tcp_skip_in_flight ? NULL
					      : "its peer on this machine has not taken the connection yet";
}

static bool has_loopback(int fd)
{
	struct ifreq q = {.ifr_name = "lo"};

	return ioctl(fd, SIOCGIFFLAGS, &q) == 0 && q.ifr_flags & IFF_UP;
}

/* Of a UDP socket. What is in its error queue can only be looked at by taking it, and so can data behind an error. */
static const char *datagram_refusal(struct dump *d, int fd, const char **remedy)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int outgoing = 0;

	*remedy = REMEDY_READ;
	if (poll(&p, 1, 0) > 0 && p.revents & POLLERR &&
		(protocol_of(fd) != IPPROTO_UDP || !udp_error_is_kept(d, fd)))
		return "an error waits in it, or a message in its error queue";
	if (p.revents & (POLLIN | POLLERR) && !has_loopback(fd))
		return "datagrams or an error wait in it, which are put back by the loopback device, and "
		       "that is "
		       "down";
	*remedy = REMEDY_CORK;
	if (ioctl(fd, SIOCOUTQ, &outgoing) == 0 && outgoing > 0)
		return "data that it is to send is held back, and cannot be read";
	return NULL;
}

static const char *tcp_refusal(struct dump *d, const struct dump_file *f, int fd, const char **remedy)
{
	struct tcp_info info;
	const char *reason;

	if (tcp_info(fd, &info) < 0)
		return NULL; /* closed meanwhile */
	reason = refusal(d, fd, &info, remedy);
	if (reason || !is_connection(&info) || d->options->tcp_close)
		return reason;
	reason = peer_refusal(d, fd, remedy);
	if (reason)
		return reason;
	*remedy = REMEDY_RECEIVER;
	if (f->proc == d->self)
		return "it is a TCP connection on its way in a unix socket";
	*remedy = "load the kernel module nf_tables, or use --tcp-close";
	if (!d->stopped && !can_hold_packets(d))
		return "without nftables its packets cannot be held back until the restore";
	return NULL;
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	_cleanup_close_ int fd = dump_duplicate(f);
	const char *reason, *remedy;

	if (fd < 0)
		return 0; /* closed meanwhile */
	reason = is_stream(protocol_of(fd)) ? tcp_refusal(d, f, fd, &remedy)
					    : datagram_refusal(d, fd, &remedy);
	if (!reason && socket_is_elsewhere(d, fd)) {
		reason = "it belongs to another network namespace";
		remedy = "close it before the checkpoint";
	}
	if (!reason && socket_has_unseen(d, fd)) {
		reason = "it has options that the kernel does not show (an anycast address, TCP MD5 keys, "
			 "data of BPF programs)";
		remedy = "close the socket before the checkpoint";
	}
	if (reason)
		dump_refuse(d, f->proc, f->fd, "inet socket", reason, remedy, "%s", f->link);
	return 0;
}

static bool is_unbound(const ProtobufCBinaryData *local)
{
	static const char zeros[sizeof(struct sockaddr_storage)];

	return local->len <= sizeof(sa_family_t) || local->len > sizeof(zeros) ||
	       memcmp(local->data + sizeof(sa_family_t), zeros, local->len - sizeof(sa_family_t)) == 0;
}

static void drop_option(St__Socket *m, int name)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n_options; i++)
		if (m->options[i]->level != IPPROTO_TCP || m->options[i]->name != name)
			m->options[n++] = m->options[i];
	m->n_options = n;
}

/* What is left of a connection is a new socket with the program's options: without the address, which its
 * listener may have, and without what the connection had negotiated. */
static void forget_connection(St__Socket *m)
{
	m->local.len = m->remote.len = 0;
	drop_option(m, TCP_WINDOW_CLAMP);
	drop_option(m, TCP_QUICKACK);
}

static int dump_tcp(struct dump *d, struct dump_file *f, St__Socket *m, struct error *e)
{
	const char *reason, *remedy;
	struct tcp_info info;
	int r = tcp_info(f->local, &info);

	if (r < 0)
		return error_errno(e, r, "TCP_INFO");
	reason = refusal(d, f->local, &info, &remedy);
	if (reason)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED, "%s; %s", reason, remedy);
	if (info.tcpi_state == STATE_LISTEN) {
		m->state = SOCKET_LISTENING;
		m->backlog = info.tcpi_sacked;
		return 0;
	}
	if (!is_connection(&info))
		return 0;
	drop_option(m, TCP_MAXSEG);	      /* of the path, not of the program */
	drop_option(m, TCP_FASTOPEN_CONNECT); /* has done its work */
	if (!d->options->tcp_close) {
		reason = peer_refusal(d, f->local, &remedy);
		if (reason)
			return error_set(e, -EAGAIN, ERROR_REFUSED, "%s; %s", reason, remedy);
		return tcp_dump(d, f, m, e);
	}
	forget_connection(m);
	return 0;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__Socket *m;
	int r = socket_dump_common(d, f, &m, e);

	if (r == 0)
		r = socket_dump_namespace(d, f, e);
	if (r < 0)
		return r;
	if (is_unbound(&m->local))
		m->local.len = 0;
	if (is_stream(m->protocol))
		return dump_tcp(d, f, m, e);
	if (m->remote.len > 0)
		m->state = SOCKET_CONNECTED;
	r = m->protocol == IPPROTO_UDP ? udp_dump_error(d, f->local, m, e) : 0;
	return r < 0 ? r : socket_dump_queue(d, f->local, m, e);
}

/* --- restore --- */

void inet_undress(struct sockaddr_storage *a)
{
	struct sockaddr_in6 six = *(const struct sockaddr_in6 *)a;
	struct sockaddr_in *four = (struct sockaddr_in *)a;

	if (a->ss_family != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&six.sin6_addr))
		return;
	memset(a, 0, sizeof(*a));
	four->sin_family = AF_INET;
	four->sin_port = six.sin6_port;
	memcpy(&four->sin_addr, &six.sin6_addr.s6_addr[12], sizeof(four->sin_addr));
}

static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* For messages: "127.0.0.1" would need a lot of code; the port is what people look for. */
static unsigned port_of(const struct sockaddr_storage *a)
{
	return ntohs(a->ss_family == AF_INET ? ((const struct sockaddr_in *)a)->sin_port
					     : ((const struct sockaddr_in6 *)a)->sin6_port);
}

static void forget_address(struct sockaddr_storage *a)
{
	if (a->ss_family == AF_INET)
		((struct sockaddr_in *)a)->sin_addr.s_addr = 0;
	else
		memset(&((struct sockaddr_in6 *)a)->sin6_addr, 0, sizeof(struct in6_addr));
}

static int bind_local(int fd, const St__Socket *m, struct error *e)
{
	struct sockaddr_storage a;
	socklen_t len;

	if (!socket_address(&m->local, m->family, &a, &len))
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "address of an inet socket");
	if (bind(fd, (struct sockaddr *)&a, len) == 0)
		return 0;
	/* The address that the kernel had chosen for a connection is not this container's any more: let it
	 * choose again. */
	if (errno == EADDRNOTAVAIL && m->state == SOCKET_CONNECTED) {
		forget_address(&a);
		if (bind(fd, (struct sockaddr *)&a, len) == 0)
			return 0;
	}
	return error_errno(e, -errno, "bind a %s socket to port %u", is_stream(m->protocol) ? "TCP" : "UDP",
		port_of(&a));
}

static bool is_datagram(int protocol)
{
	return protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
}

int inet_open(struct restore *r, const St__File *f, int *ret_fd, struct error *e)
{
	const St__Socket *m = f->socket;
	_cleanup_close_ int fd = -EBADF;
	int result;

	if (!(m->type == SOCK_STREAM && is_stream(m->protocol)) &&
		!(m->type == SOCK_DGRAM && is_datagram(m->protocol)))
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "inet socket of type %d and protocol %d",
			m->type, m->protocol);
	fd = socket(m->family, m->type | SOCK_CLOEXEC, m->protocol);
	if (fd < 0)
		return error_errno(e, -errno, "make an inet socket");
	result = socket_restore_options(fd, m, SOCKET_EARLY, e);
	if (m->tcp) {
		if (result == 0 && restore_is_connection(r, f))
			result = tcp_open(m, fd, e);
		*ret_fd = result < 0 ? -EBADF : take_fd(&fd);
		return result;
	}
	/* Ended connections of the port linger in TIME_WAIT, and several sockets may be bound to it that
	 * did not listen then. */
	if (result == 0 && is_stream(m->protocol))
		result = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (result == 0 && m->local.len > 0)
		result = bind_local(fd, m, e);
	if (result < 0)
		return result;
	*ret_fd = take_fd(&fd);
	return 0;
}

/* The address at which a datagram of "family" reaches a socket: its own, or loopback if it is bound to
 * all. */
static bool reach(int family, struct sockaddr_storage *to)
{
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)to;
	struct sockaddr_in *four = (struct sockaddr_in *)to;

	if (to->ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr)) {
		if (family == AF_INET6)
			six->sin6_addr = in6addr_loopback;
		else
			*four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = six->sin6_port};
	}
	inet_undress(to);
	if (to->ss_family == AF_INET && four->sin_addr.s_addr == 0)
		four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return to->ss_family == family;
}

/* Would a datagram of this socket of ours come from that address? */
static bool sends_as(const St__Socket *m, int protocol, const struct sockaddr_storage *from)
{
	struct sockaddr_storage own;
	socklen_t len;

	if (m->protocol != protocol || m->family != from->ss_family ||
		!socket_address(&m->local, m->family, &own, &len) || port_of(&own) != port_of(from))
		return false;
	return reach(from->ss_family, &own);
}

/* A socket that sends as "from" does: whoever has that port among ours, or a new one with a borrowed
 * address. */
static int sender(struct restore *r, int protocol, const struct sockaddr_storage *from, bool *ret_borrowed)
{
	_cleanup_close_ int fd = -EBADF;
	socklen_t len = from->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

	*ret_borrowed = false;
	for (size_t i = 0; i < r->n_files; i++)
		if (r->files[i]->kind_case == ST__FILE__KIND_SOCKET &&
			sends_as(r->files[i]->socket, protocol, from))
			return restore_fd(r, r->files[i]->id);
	fd = socket(from->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		return -errno;
	*ret_borrowed = true;
	set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
	if (from->ss_family == AF_INET6)
		set_int(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1);
	return bind(fd, (const struct sockaddr *)from, len) < 0 ? -errno : take_fd(&fd);
}

static int send_again(struct restore *r, const St__Socket *m, const St__SocketMessage *message, int fd)
{
	struct sockaddr_storage from, to = {0};
	socklen_t from_len, to_len = sizeof(to);
	bool borrowed;
	int out, result = 0;

	if (!socket_address(&message->address, m->family, &from, &from_len))
		return -EBADMSG;
	if (getsockname(fd, (struct sockaddr *)&to, &to_len) < 0)
		return -errno;
	inet_undress(&from);
	if (!reach(from.ss_family, &to))
		return -EAFNOSUPPORT;
	out = sender(r, m->protocol, &from, &borrowed);
	if (out < 0)
		return out;
	to_len = to.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	if (sendto(out, message->data.data, message->data.len, MSG_DONTWAIT, (struct sockaddr *)&to, to_len) <
		0)
		result = -errno;
	if (borrowed)
		close(out);
	return result;
}

static void fill_queue(struct restore *r, const St__Socket *m, int fd)
{
	for (size_t i = 0; i < m->n_queue; i++) {
		int result = send_again(r, m, m->queue[i], fd);

		if (result < 0)
			log_debug("a datagram of %zu bytes for a UDP socket is lost: %s",
				m->queue[i]->data.len, strerror(-result));
	}
}

int inet_connect(struct restore *r, const St__File *f, int fd, struct error *e)
{
	const St__Socket *m = f->socket;
	struct sockaddr_storage a;
	socklen_t len;
	int result;

	if (m->tcp) {
		result = restore_is_connection(r, f) ? tcp_connect(m, fd, e) : 0;
		return result < 0 ? result : socket_restore_options(fd, m, SOCKET_LATE, e);
	}
	if (m->state == SOCKET_LISTENING && is_stream(m->protocol) && listen(fd, m->backlog) < 0)
		return error_errno(e, -errno, "listen on a TCP socket");
	if (is_datagram(m->protocol))
		fill_queue(r, m, fd);
	if (m->state == SOCKET_CONNECTED) {
		if (!is_datagram(m->protocol) || !socket_address(&m->remote, m->family, &a, &len))
			return error_set(e, -EBADMSG, ERROR_CORRUPT, "peer of an inet socket");
		if (connect(fd, (struct sockaddr *)&a, len) < 0)
			return error_errno(e, -errno, "connect a UDP socket to port %u", port_of(&a));
	}
	/* Only now the program's own value, which inet_open() had overridden. */
	if (is_stream(m->protocol)) {
		int reuse = 0;

		for (size_t i = 0; i < m->n_options; i++)
			if (m->options[i]->level == SOL_SOCKET && m->options[i]->name == SO_REUSEADDR)
				reuse = 1;
		if (!reuse && set_int(fd, SOL_SOCKET, SO_REUSEADDR, 0) < 0)
			return error_errno(e, -errno, "SO_REUSEADDR");
	}
	result = socket_restore_options(fd, m, SOCKET_LATE, e);
	return result < 0 ? result : udp_restore_error(m, fd, e);
}

extern const struct resource resource_inet;
const struct resource resource_inet = {
	.kind = "inet socket",
	.description =
		"TCP: unconnected, bound, listening, connected (--tcp-established). MPTCP, unless connected. "
		"UDP and UDP-Lite: bound, "
		"connected, with queued datagrams, or with ECONNREFUSED that waits. Multicast memberships. "
		"Refused, after a second in which they might pass (--patience): TCP connections that wait to "
		"be "
		"accepted (--tcp-skip-in-flight), other pending errors, data held "
		"back by UDP_CORK. Refused: pending errors on a kernel without BTF, queued datagrams while "
		"lo is down, TCP MD5 keys, anycast addresses",
	.kind_case = ST__FILE__KIND_SOCKET,
	.match = match,
	.check = check,
	.dump = dump,
	.open = socket_open,
	.connect = socket_connect,
};
