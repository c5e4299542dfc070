/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=all modes=cycles,running,userns options=--tcp-established */
/*
 * A server that closes its connection as soon as it has sent everything, and a client that takes its time to read: until then the rest is with
 * the kernel only, in a socket without a descriptor. The client gets every byte. Its server sees it as IPv6.
 */
#include "cr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum { BYTES = 200000, WAITING_MS = 140, EMPTY_MS = 60, PORT = 7793 };

static volatile int *served;

static void serve(int listener)
{
	static char data[BYTES];
	int size = 4 * BYTES;

	memset(data, 'x', sizeof(data));
	for (;;) {
		int c = must(accept(listener, NULL, NULL));

		must(setsockopt(c, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)));
		for (size_t n = 0; n < sizeof(data);) {
			ssize_t k = send(c, data + n, sizeof(data) - n, 0);

			check(k > 0, "send: %m");
			n += k;
		}
		close(c);
	}
}

static void ask(int family)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(PORT), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int size = 8192;
	static char data[BYTES + 1];

	v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (;;) {
		int c = must(socket(family, SOCK_STREAM, 0));
		ssize_t n;

		must(setsockopt(c, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)));
		must(connect(c, family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6,
			family == AF_INET ? sizeof(v4) : sizeof(v6)));
		cr_msleep(WAITING_MS);
		n = recv(c, data, sizeof(data), MSG_WAITALL);
		check(n == BYTES, "%zd bytes have come: %m", n);
		close(c);
		++*served;
		cr_msleep(EMPTY_MS);
	}
}

int main(int argc, char **argv)
{
	int listener = must(socket(AF_INET6, SOCK_STREAM, 0)), on = 1;
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};

	(void)argc;
	(void)argv;
	served = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	must(bind(listener, (struct sockaddr *)&any, sizeof(any)));
	must(listen(listener, 8));
	if (must(fork()) == 0)
		serve(listener);
	if (must(fork()) == 0)
		ask(AF_INET);
	while (cr_wait()) {
		int before = *served;

		for (int ms = 0; *served < before + 3; ms++) {
			check(ms < 5000, "nobody is served");
			cr_msleep(1);
		}
	}
	_exit(0);
}
