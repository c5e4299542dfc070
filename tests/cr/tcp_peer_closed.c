/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=all modes=cycles,running,userns options=--tcp-established */
/*
 * A server that closes its connection as soon as it has sent everything, and a client that takes its time to read: until then the rest is with
 * the kernel only, in a socket without a descriptor. And one that only accepts whom has something to say (TCP_DEFER_ACCEPT). The client gets every byte. Its server sees it as IPv6.
 */
#include "cr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

static int connect_to(int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int c = must(socket(AF_INET, SOCK_STREAM, 0)), size = 8192;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	must(setsockopt(c, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)));
	must(connect(c, (struct sockaddr *)&to, sizeof(to)));
	return c;
}

static void get_all(void)
{
	static char data[BYTES + 1];
	int c = connect_to(PORT);
	ssize_t n;

	cr_msleep(WAITING_MS);
	n = recv(c, data, sizeof(data), MSG_WAITALL);
	check(n == BYTES, "%zd bytes have come: %m", n);
	close(c);
	cr_msleep(EMPTY_MS);
}

static int listen_to(int port)
{
	int listener = must(socket(AF_INET6, SOCK_STREAM, 0)), on = 1;
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	must(bind(listener, (struct sockaddr *)&any, sizeof(any)));
	must(listen(listener, 8));
	return listener;
}

static void serve_deferred(int listener)
{
	int seconds = 60;
	char c;

	must(setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds)));
	for (;;) {
		int fd = must(accept(listener, NULL, NULL));

		check(recv(fd, &c, 1, 0) == 1 && send(fd, &c, 1, 0) == 1, "deferred: %m");
		close(fd);
	}
}

static void ask_deferred(void)
{
	int c = connect_to(PORT + 1);
	char said = 'a', reply = 0;

	cr_msleep(WAITING_MS);
	check(send(c, &said, 1, 0) == 1 && recv(c, &reply, 1, 0) == 1, "deferred client: %m");
	check(reply == said, "%d is answered by %d", said, reply);
	close(c);
	cr_msleep(EMPTY_MS);
}

int main(void)
{
	int listener = listen_to(PORT), deferred = listen_to(PORT + 1);

	served = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	if (must(fork()) == 0)
		serve(listener);
	if (must(fork()) == 0)
		serve_deferred(deferred);
	if (must(fork()) == 0)
		for (;; ++*served) {
			get_all();
			ask_deferred();
		}
	while (cr_wait()) {
		int before = *served;

		for (int ms = 0; *served < before + 2; ms++) {
			check(ms < 5000, "nobody is served");
			cr_msleep(1);
		}
	}
	_exit(0);
}
