/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP sockets without a connection: new, bound, listening on IPv4, IPv6 and both, several on one port,
 * with their backlog and options; they serve after each restore.
 */
#include "sockets.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>

static int inet_bound(int family, int type, int port, const char *address, int reuse_port)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = must(socket(family, type, 0));

	check(inet_pton(family, address,
		      family == AF_INET ? (void *)&four.sin_addr : (void *)&six.sin6_addr) == 1,
		"address");
	sk_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (reuse_port)
		sk_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (family == AF_INET6)
		sk_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, reuse_port);
	must(family == AF_INET ? bind(fd, (struct sockaddr *)&four, sizeof(four))
			       : bind(fd, (struct sockaddr *)&six, sizeof(six)));
	return fd;
}

static void serves(int listener, int family, int port)
{
	struct sockaddr_in four = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 six = {
		.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
	struct linger now = {1, 0};
	int c = must(socket(family, SOCK_STREAM, 0)), s;

	must(family == AF_INET ? connect(c, (struct sockaddr *)&four, sizeof(four))
			       : connect(c, (struct sockaddr *)&six, sizeof(six)));
	sk_send(c, "hello");
	s = must(accept(listener, NULL, NULL));
	for (int i = 0; i < 1000 && recv(s, &(char){0}, 1, MSG_DONTWAIT | MSG_PEEK) != 1; i++)
		cr_msleep(1);
	sk_expect(s, "hello");
	must(setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
	close(c);
	close(s);
}

static void has_backlog(int fd, unsigned backlog)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	must(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	check(info.tcpi_state == TCP_LISTEN && info.tcpi_sacked == backlog, "state %d, backlog %u, not %u",
		info.tcpi_state, info.tcpi_sacked, backlog);
}

int main(void)
{
	int four = inet_bound(AF_INET, SOCK_STREAM, 7001, "127.0.0.1", 0);
	int dual = inet_bound(AF_INET6, SOCK_STREAM, 7002, "::", 0);
	int six = inet_bound(
		AF_INET6, SOCK_STREAM, 7003, "::", 1); /* IPv6 only, beside IPv4 on the same port */
	int beside = inet_bound(AF_INET, SOCK_STREAM, 7003, "0.0.0.0", 0);
	int one = inet_bound(AF_INET, SOCK_STREAM, 7004, "0.0.0.0", 1);
	int other = inet_bound(AF_INET, SOCK_STREAM, 7004, "0.0.0.0", 1);
	int bound = inet_bound(AF_INET, SOCK_STREAM, 7005, "0.0.0.0", 0);
	int fresh = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	int all[] = {four, dual, six, beside, one, other};
	struct sockaddr_in a;
	socklen_t len;

	for (int i = 0; i < 6; i++)
		must(listen(all[i], 20 + i));
	sk_set(four, SOL_SOCKET, SO_REUSEADDR, 0);
	sk_set(four, IPPROTO_TCP, TCP_NODELAY, 1);
	sk_set(four, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
	sk_set(four, IPPROTO_TCP, TCP_KEEPIDLE, 33);
	sk_set(four, SOL_SOCKET, SO_KEEPALIVE, 1);
	sk_set(four, IPPROTO_IP, IP_TOS, 16);
	sk_set(four, SOL_SOCKET, SO_RCVBUF, 70000);
	sk_set(fresh, IPPROTO_TCP, TCP_USER_TIMEOUT, 1234);
	while (cr_wait()) {
		for (unsigned i = 0; i < 6; i++)
			has_backlog(all[i], 20 + i);
		serves(four, AF_INET, 7001);
		serves(dual, AF_INET, 7002);
		serves(dual, AF_INET6, 7002);
		serves(six, AF_INET6, 7003);
		serves(beside, AF_INET, 7003);
		check(sk_int(four, SOL_SOCKET, SO_REUSEADDR) == 0 &&
				sk_int(dual, SOL_SOCKET, SO_REUSEADDR) == 1,
			"SO_REUSEADDR");
		check(sk_int(four, IPPROTO_TCP, TCP_NODELAY) == 1, "TCP_NODELAY");
		check(sk_int(four, IPPROTO_TCP, TCP_DEFER_ACCEPT) == 7,
			"TCP_DEFER_ACCEPT"); /* rounded by the kernel */
		check(sk_int(four, IPPROTO_TCP, TCP_KEEPIDLE) == 33 &&
				sk_int(four, SOL_SOCKET, SO_KEEPALIVE) == 1,
			"keepalive");
		check(sk_int(four, IPPROTO_IP, IP_TOS) == 16, "IP_TOS");
		check(sk_int(four, SOL_SOCKET, SO_RCVBUF) == 140000, "SO_RCVBUF");
		check(sk_int(six, IPPROTO_IPV6, IPV6_V6ONLY) == 1 &&
				sk_int(dual, IPPROTO_IPV6, IPV6_V6ONLY) == 0,
			"IPV6_V6ONLY");
		check(sk_int(other, SOL_SOCKET, SO_REUSEPORT) == 1, "SO_REUSEPORT");
		check(sk_int(fresh, IPPROTO_TCP, TCP_USER_TIMEOUT) == 1234, "TCP_USER_TIMEOUT");
		check(fcntl(fresh, F_GETFL) & O_NONBLOCK, "O_NONBLOCK");
		len = sizeof(a);
		must(getsockname(bound, (struct sockaddr *)&a, &len));
		check(ntohs(a.sin_port) == 7005 && sk_int(bound, SOL_SOCKET, SO_ACCEPTCONN) == 0,
			"the bound one");
	}
	return 0;
}
