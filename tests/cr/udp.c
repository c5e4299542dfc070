/* SPDX-License-Identifier: Apache-2.0 */
/* UDP sockets: bound, connected, IPv4, IPv6 and both, with datagrams that wait and their senders, options. */
#include "sockets.h"

#include <arpa/inet.h>

static struct sockaddr_in local(int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int udp4(int port)
{
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

	must(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	return fd;
}

static void send_to(int fd, const char *text, int port)
{
	struct sockaddr_in a = local(port);

	must(sendto(fd, text, strlen(text), 0, (struct sockaddr *)&a, sizeof(a)));
}

static void expect_from(int fd, const char *text, int port)
{
	struct sockaddr_in6 a = {0};
	socklen_t len = sizeof(a);
	char buf[200];
	ssize_t n = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&a, &len);

	check(n == (ssize_t)strlen(text) && !memcmp(buf, text, n), "expected \"%s\", got %zd bytes: %m", text,
		n);
	check(ntohs(a.sin6_port) == port, "\"%s\" is from port %d, not %d", text, ntohs(a.sin6_port), port);
}

static void ghost(int port)
{
	int fd = udp4(8009);

	send_to(fd, "ghost", port);
	close(fd);
}

int main(void)
{
	int server = udp4(8001), client = udp4(8002),
	    unbound = must(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)), dual, own;
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(8003)};
	struct sockaddr_in a = local(8001);
	socklen_t len;

	must(connect(client, (struct sockaddr *)&a, sizeof(a)));
	dual = must(socket(AF_INET6, SOCK_DGRAM, 0));
	must(bind(dual, (struct sockaddr *)&six, sizeof(six)));
	own = must(socket(AF_INET, SOCK_DGRAM, 0)); /* its port is the kernel's choice */
	must(connect(own, (struct sockaddr *)&a, sizeof(a)));
	len = sizeof(a);
	must(getsockname(own, (struct sockaddr *)&a, &len));
	sk_set(server, SOL_SOCKET, SO_BROADCAST, 1);
	sk_set(server, IPPROTO_IP, IP_PKTINFO, 1);
	sk_set(server, IPPROTO_IP, IP_MULTICAST_TTL, 7);
	sk_set(dual, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	for (;;) {
		struct sockaddr_in b;

		sk_send(client, "from the client");
		sk_send(own, "from own");
		ghost(8001);
		send_to(client, "four to six", 8003);
		send_to(server, "to the client", 8002);
		if (!cr_wait())
			break;
		expect_from(server, "from the client", 8002);
		expect_from(server, "from own", ntohs(a.sin_port));
		expect_from(server, "ghost", 8009);
		sk_expect_empty(server);
		expect_from(dual, "four to six", 8002);
		expect_from(client, "to the client", 8001);
		sk_send(client, "again");
		expect_from(server, "again", 8002);
		len = sizeof(b);
		must(getsockname(own, (struct sockaddr *)&b, &len));
		check(b.sin_port == a.sin_port, "port %d became %d", ntohs(a.sin_port), ntohs(b.sin_port));
		check(sk_int(server, SOL_SOCKET, SO_BROADCAST) == 1 &&
				sk_int(server, IPPROTO_IP, IP_PKTINFO) == 1,
			"options");
		check(sk_int(server, IPPROTO_IP, IP_MULTICAST_TTL) == 7, "IP_MULTICAST_TTL");
		check(sk_int(dual, IPPROTO_IPV6, IPV6_RECVPKTINFO) == 1, "IPV6_RECVPKTINFO");
		check(fcntl(unbound, F_GETFL) & O_NONBLOCK, "O_NONBLOCK");
		len = sizeof(b);
		must(getsockname(unbound, (struct sockaddr *)&b, &len));
		check(b.sin_port == 0, "the unbound one is bound");
	}
	return 0;
}
