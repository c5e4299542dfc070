/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP segments that look as if a peer had sent them: how a restored socket learns that its FIN was acknowledged, or that
 * the peer has sent one. They leave through a raw socket and, as their destination is an address of this network
 * namespace, come in again over its loopback device. Their mark lets them pass where others are held back.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/res/socket.h"
#include "linux/nflock.h"

uint32_t inet_add_words(uint32_t sum, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += p[i] << 8 | p[i + 1];
	return sum;
}

uint16_t inet_checksum(uint32_t sum, const void *data, size_t len)
{
	sum = inet_add_words(sum, data, len);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons(~sum & 0xffff);
}

static struct tcphdr header_of(const struct tcp_segment *s, uint16_t from_port, uint16_t to_port)
{
	return (struct tcphdr){
		.source = from_port,
		.dest = to_port,
		.seq = htonl(s->seq),
		.ack_seq = htonl(s->ack),
		.doff = sizeof(struct tcphdr) / 4,
		.ack = 1,
		.fin = s->fin,
		.window = htons(s->window),
	};
}

int inet_send_raw(int family, const void *packet, size_t len, const struct sockaddr_storage *to)
{
	_cleanup_close_ int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	struct sockaddr_storage raw = *to;
	socklen_t to_len = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
	int mark = NFLOCK_MARK;

	if (family == AF_INET6) /* for raw sockets that is a protocol */
		((struct sockaddr_in6 *)&raw)->sin6_port = 0;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0 ||
		sendto(fd, packet, len, 0, (const struct sockaddr *)&raw, to_len) < 0)
		return -errno;
	return 0;
}

static int send_four(const struct tcp_segment *s)
{
	const struct sockaddr_in *from = (const struct sockaddr_in *)&s->from,
				 *to = (const struct sockaddr_in *)&s->to;
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
	} p = {
		.ip = {.version = 4,
			.ihl = 5,
			.tot_len = htons(sizeof(p)),
			.ttl = 64,
			.protocol = IPPROTO_TCP,
			.saddr = from->sin_addr.s_addr,
			.daddr = to->sin_addr.s_addr},
		.tcp = header_of(s, from->sin_port, to->sin_port),
	};
	uint32_t sum = IPPROTO_TCP + sizeof(p.tcp);

	sum = inet_add_words(sum, &p.ip.saddr, 8);
	p.tcp.check = inet_checksum(sum, &p.tcp, sizeof(p.tcp));
	return inet_send_raw(AF_INET, &p, sizeof(p), &s->to);
}

static int send_six(const struct tcp_segment *s)
{
	const struct sockaddr_in6 *from = (const struct sockaddr_in6 *)&s->from,
				  *to = (const struct sockaddr_in6 *)&s->to;
	struct {
		struct ip6_hdr ip;
		struct tcphdr tcp;
	} p = {
		.ip = {.ip6_plen = htons(sizeof(p.tcp)),
			.ip6_nxt = IPPROTO_TCP,
			.ip6_hlim = 64,
			.ip6_src = from->sin6_addr,
			.ip6_dst = to->sin6_addr},
		.tcp = header_of(s, from->sin6_port, to->sin6_port),
	};
	uint32_t sum = IPPROTO_TCP + sizeof(p.tcp);

	p.ip.ip6_vfc = 6 << 4;
	sum = inet_add_words(sum, &p.ip.ip6_src, 32);
	p.tcp.check = inet_checksum(sum, &p.tcp, sizeof(p.tcp));
	return inet_send_raw(AF_INET6, &p, sizeof(p), &s->to);
}

int tcp_send_segment(const struct tcp_segment *s)
{
	struct tcp_segment plain = *s;

	inet_undress(&plain.from);
	inet_undress(&plain.to);
	if (plain.from.ss_family != plain.to.ss_family)
		return -EAFNOSUPPORT;
	return plain.from.ss_family == AF_INET ? send_four(&plain) : send_six(&plain);
}
