/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ECONNREFUSED that waits in a connected UDP socket: nobody listened where it had sent to, which its next call will be told.
 * To ask the socket for it takes it away, so a walk over the kernel's sockets reads it. A restore makes it again by what has made it
 * the first time: the ICMP message, sent to the socket's own address over the loopback device.
 *
 * What of an error is in the socket's error queue (IP_RECVERR) can only be read by taking it out: refused.
 */
#include "checkpoint/native/res/socket.h"

#include <linux/sockios.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "base/fd.h"
#include "linux/bpfwalk.h"
#include "linux/clone.h"

enum { COOKIE, ERROR };

static bool is_set(int fd, int level, int name)
{
	char value[16] = {};
	socklen_t len = sizeof(value);
	static const char zeros[sizeof(value)];

	return getsockopt(fd, level, name, value, &len) == 0 && memcmp(value, zeros, sizeof(zeros)) != 0;
}

/* Something other than the error itself may be in its error queue, or be put there. */
static bool has_error_queue(int fd)
{
	enum { OPT_ZEROCOPY = 60, OPT_TXTIME = 61, OPT_TIMESTAMPING_NEW = 65 };

	return is_set(fd, IPPROTO_IP, IP_RECVERR) || is_set(fd, IPPROTO_IPV6, IPV6_RECVERR) ||
	       is_set(fd, SOL_SOCKET, SO_TIMESTAMPING) || is_set(fd, SOL_SOCKET, OPT_TIMESTAMPING_NEW) ||
	       is_set(fd, SOL_SOCKET, OPT_ZEROCOPY) || is_set(fd, SOL_SOCKET, OPT_TXTIME);
}

static int walk(struct dump *d, int ns)
{
	static const struct bpf_field fields[] = {
		[COOKIE] = {"sock_common", "skc_cookie", 8}, [ERROR] = {"sock", "sk_err", 4}};
	_cleanup_close_ int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int r, left;

	if (own < 0 || setns(ns, CLONE_NEWNET) < 0)
		return -errno;
	r = bpf_walk(&(struct bpf_objects){"udp"}, fields, ARRAY_SIZE(fields), &d->arena, &d->udp_errors,
		&d->n_udp_errors);
	left = ns_return(own, CLONE_NEWNET);
	return r < 0 ? r : left;
}

/* 0: none, or it is not known. The sockets of its namespace are looked at once. */
static int error_of(struct dump *d, int fd)
{
	_cleanup_close_ int ns = d->unprivileged ? -EBADF : ioctl(fd, SIOCGSKNS);
	socklen_t len = sizeof(uint64_t);
	uint64_t cookie;
	struct stat st;

	if (ns < 0 || fstat(ns, &st) < 0 || getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
		return 0;
	if (d->udp_errors_namespace != st.st_ino) {
		d->n_udp_errors = 0;
		d->udp_errors_namespace = st.st_ino;
		if (walk(d, ns) < 0)
			return 0;
	}
	for (size_t i = 0; i < d->n_udp_errors; i++)
		if (d->udp_errors[i].values[COOKIE] == cookie)
			return (int)d->udp_errors[i].values[ERROR];
	return 0;
}

bool udp_error_is_kept(struct dump *d, int fd)
{
	struct sockaddr_storage peer;
	char device[16];
	socklen_t len = sizeof(peer), name = sizeof(device);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && !(p.revents & POLLIN) && !has_error_queue(fd) &&
	       getpeername(fd, (struct sockaddr *)&peer, &len) == 0 &&
	       (getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &name) < 0 || name <= 1) &&
	       error_of(d, fd) == ECONNREFUSED;
}

int udp_dump_error(struct dump *d, int fd, St__Socket *m, struct error *e)
{
	struct pollfd p = {.fd = fd};

	if (poll(&p, 1, 0) <= 0 || !(p.revents & POLLERR))
		return 0;
	/* It may have come since the check. */
	if (!udp_error_is_kept(d, fd))
		return error_set(e, -EAGAIN, ERROR_REFUSED, "an error has just come to a UDP socket");
	m->pending_error = ECONNREFUSED;
	d->has_socket_errors = true;
	return 0;
}

/* --- restore --- */

static int refuse_four(const struct sockaddr_storage *own, const struct sockaddr_storage *peer)
{
	const struct sockaddr_in *from = (const struct sockaddr_in *)own,
				 *to = (const struct sockaddr_in *)peer;
	struct {
		struct iphdr ip;
		struct icmphdr icmp;
		struct iphdr sent;
		struct udphdr udp;
	} p = {
		.ip = {.version = 4,
			.ihl = 5,
			.tot_len = htons(sizeof(p)),
			.ttl = 64,
			.protocol = IPPROTO_ICMP,
			.saddr = from->sin_addr.s_addr,
			.daddr = from->sin_addr.s_addr},
		.icmp = {.type = ICMP_DEST_UNREACH, .code = ICMP_PORT_UNREACH},
		.sent = {.version = 4,
			.ihl = 5,
			.tot_len = htons(sizeof(p.sent) + sizeof(p.udp)),
			.ttl = 64,
			.protocol = IPPROTO_UDP,
			.saddr = from->sin_addr.s_addr,
			.daddr = to->sin_addr.s_addr},
		.udp = {.source = from->sin_port, .dest = to->sin_port, .len = htons(sizeof(p.udp))},
	};

	p.icmp.checksum = inet_checksum(0, &p.icmp, sizeof(p) - offsetof(typeof(p), icmp));
	return inet_send_raw(AF_INET, &p, sizeof(p), own);
}

static int refuse_six(const struct sockaddr_storage *own, const struct sockaddr_storage *peer)
{
	const struct sockaddr_in6 *from = (const struct sockaddr_in6 *)own,
				  *to = (const struct sockaddr_in6 *)peer;
	struct {
		struct ip6_hdr ip;
		struct icmp6_hdr icmp;
		struct ip6_hdr sent;
		struct udphdr udp;
	} p = {
		.ip = {.ip6_plen = htons(sizeof(p) - sizeof(p.ip)),
			.ip6_nxt = IPPROTO_ICMPV6,
			.ip6_hlim = 64,
			.ip6_src = from->sin6_addr,
			.ip6_dst = from->sin6_addr},
		.icmp = {.icmp6_type = ICMP6_DST_UNREACH, .icmp6_code = ICMP6_DST_UNREACH_NOPORT},
		.sent = {.ip6_plen = htons(sizeof(p.udp)),
			.ip6_nxt = IPPROTO_UDP,
			.ip6_hlim = 64,
			.ip6_src = from->sin6_addr,
			.ip6_dst = to->sin6_addr},
		.udp = {.source = from->sin6_port, .dest = to->sin6_port, .len = htons(sizeof(p.udp))},
	};
	const struct {
		struct in6_addr from, to;
		uint32_t length, next;
	} pseudo = {from->sin6_addr, from->sin6_addr, htonl(sizeof(p) - sizeof(p.ip)), htonl(IPPROTO_ICMPV6)};

	p.ip.ip6_vfc = p.sent.ip6_vfc = 6 << 4;
	p.icmp.icmp6_cksum =
		inet_checksum(inet_add_words(0, &pseudo, sizeof(pseudo)), &p.icmp, sizeof(p) - sizeof(p.ip));
	return inet_send_raw(AF_INET6, &p, sizeof(p), own);
}

static bool has_error(int fd)
{
	struct pollfd p = {.fd = fd};

	return poll(&p, 1, 0) > 0 && p.revents & POLLERR;
}

int udp_restore_error(const St__Socket *m, int fd, struct error *e)
{
	struct sockaddr_storage own = {}, peer = {};
	socklen_t len = sizeof(own), peer_len = sizeof(peer);
	int r = 0;

	if (m->pending_error == 0)
		return 0;
	if (m->pending_error != ECONNREFUSED || m->protocol != IPPROTO_UDP)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "the error of a UDP socket is malformed");
	if (getsockname(fd, (struct sockaddr *)&own, &len) < 0 ||
		getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
		return error_errno(e, -errno, "addresses of a UDP socket");
	inet_undress(&own);
	inet_undress(&peer);
	for (int i = 0; i < 1000 && !has_error(fd) && r == 0; i++) {
		if (i % 100 == 0)
			r = own.ss_family == AF_INET ? refuse_four(&own, &peer) : refuse_six(&own, &peer);
		if (r == 0 && !has_error(fd))
			nanosleep(&(struct timespec){0, i < 100 ? 10000 : 1000000}, NULL);
	}
	if (r < 0)
		return error_errno(e, r, "make the error of a UDP socket again");
	return has_error(fd) ? 0
			     : error_set(e, -ETIMEDOUT, ERROR_SYSTEM,
				       "the error (ECONNREFUSED) of a UDP socket does not come again: is the "
				       "loopback "
				       "device up, and do packet filters let ICMP pass?");
}
