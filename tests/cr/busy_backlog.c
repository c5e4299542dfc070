/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=all modes=cycles,running,userns options=--tcp-established */
/*
 * A server that takes its time to accept: connections wait in its backlog for two thirds of the time, and a checkpoint finds a moment
 * without one. Every connection is served.
 */
#include "cr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { WAITING_MS = 140, EMPTY_MS = 60 };

static const struct sockaddr_in address = {
	.sin_family = AF_INET, .sin_port = 0x6f1e /* 7791 */, .sin_addr.s_addr = 0x0100007f};
static volatile int *served;

static void serve(int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};

	for (;;) {
		int c, n;

		if (poll(&p, 1, -1) != 1)
			continue;
		cr_msleep(WAITING_MS);
		c = must(accept(listener, NULL, NULL));
		check(recv(c, &n, sizeof(n), MSG_WAITALL) == sizeof(n), "recv: %m");
		n++;
		check(send(c, &n, sizeof(n), 0) == sizeof(n), "send: %m");
		close(c);
	}
}

static void ask(void)
{
	for (int n = 0;; n += 5) {
		int c = must(socket(AF_INET, SOCK_STREAM, 0)), reply = 0;
		struct linger now = {1, 0};

		must(connect(c, (const struct sockaddr *)&address, sizeof(address)));
		check(send(c, &n, sizeof(n), 0) == sizeof(n), "send: %m");
		check(recv(c, &reply, sizeof(reply), MSG_WAITALL) == sizeof(reply), "recv: %m");
		check(reply == n + 1, "%d is answered by %d", n, reply);
		must(setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
		close(c);
		++*served;
		cr_msleep(EMPTY_MS);
	}
}

int main(void)
{
	int listener = must(socket(AF_INET, SOCK_STREAM, 0)), on = 1;

	served = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	must(bind(listener, (const struct sockaddr *)&address, sizeof(address)));
	must(listen(listener, 8));
	if (must(fork()) == 0)
		serve(listener);
	if (must(fork()) == 0)
		ask();
	while (cr_wait()) {
		int before = *served;

		for (int ms = 0; *served < before + 3; ms++) {
			check(ms < 5000, "nobody is served");
			cr_msleep(1);
		}
	}
	_exit(0);
}
