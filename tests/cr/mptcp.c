/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MPTCP sockets as servers have them (Go's net package makes all its listeners so): listening, with clients that speak plain
 * TCP; bound and new ones.
 *
 * cr: options=--tcp-established
 */
#include "sockets.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>

enum { PORT = 7001 };

static int bound(int port)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = must(socket(AF_INET6, SOCK_STREAM, IPPROTO_MPTCP));

	sk_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	must(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	return fd;
}

static void has_protocol(int fd, int want)
{
	check(sk_int(fd, SOL_SOCKET, SO_PROTOCOL) == want, "fd %d: protocol %d", fd,
		sk_int(fd, SOL_SOCKET, SO_PROTOCOL));
}

/* The server's end; the client's is *c. */
static int serve(int listener, int protocol, int *c)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	*c = must(socket(AF_INET, SOCK_STREAM, protocol));
	must(connect(*c, (struct sockaddr *)&a, sizeof(a)));
	return must(accept(listener, NULL, NULL));
}

static void talk(int from, int to)
{
	char b[16];

	sk_send(from, "hello");
	check(recv(to, b, 5, MSG_WAITALL) == 5, "%m");
}

int main(void)
{
	int listener, fresh, old, c, s, client, server;
	struct sockaddr_in6 a;
	socklen_t len;

	fresh = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
	if (fresh < 0) { /* not on this kernel */
		while (cr_wait())
			;
		return 0;
	}
	listener = bound(PORT);
	old = bound(PORT + 1);
	sk_set(listener, IPPROTO_TCP, TCP_KEEPIDLE, 33);
	sk_set(listener, SOL_SOCKET, SO_KEEPALIVE, 1);
	sk_set(fresh, IPPROTO_TCP, TCP_NODELAY, 1);
	sk_set(fresh, SOL_SOCKET, SO_PRIORITY, 3);
	must(listen(listener, 33));
	server = serve(listener, IPPROTO_TCP, &client);
	has_protocol(server, IPPROTO_TCP);
	while (cr_wait()) {
		struct linger now = {1, 0};

		has_protocol(listener, IPPROTO_MPTCP);
		has_protocol(old, IPPROTO_MPTCP);
		has_protocol(fresh, IPPROTO_MPTCP);
		talk(client, server);
		talk(server, client);
		s = serve(listener, IPPROTO_MPTCP, &c);
		has_protocol(s, IPPROTO_MPTCP);
		check(sk_int(s, IPPROTO_TCP, TCP_KEEPIDLE) == 33, "TCP_KEEPIDLE of who was accepted");
		talk(c, s);
		must(setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
		close(c);
		close(s);
		check(sk_int(listener, IPPROTO_TCP, TCP_KEEPIDLE) == 33 &&
				sk_int(listener, SOL_SOCKET, SO_KEEPALIVE) == 1 &&
				sk_int(fresh, IPPROTO_TCP, TCP_NODELAY) == 1 &&
				sk_int(fresh, SOL_SOCKET, SO_PRIORITY) == 3,
			"options");
		len = sizeof(a);
		must(getsockname(old, (struct sockaddr *)&a, &len));
		check(ntohs(a.sin6_port) == PORT + 1, "port %d", ntohs(a.sin6_port));
	}
	return 0;
}
