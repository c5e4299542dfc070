/* SPDX-License-Identifier: Apache-2.0 */
/* Unix connections that wait to be accepted: their order, who they are, and the length of the backlog. */
#include "sockets.h"

int main(void)
{
	int listener = un_bound(SOCK_STREAM, "/tmp/backlog.sock"), clients[3], own, full, extra, s;

	must(listen(listener, 7));
	own = un_bound(SOCK_SEQPACKET, "@full");
	must(listen(own, 1));
	if (cr_fork("client") == 0) {
		int c = un_connected(SOCK_STREAM, "/tmp/backlog.sock"), round = 0;

		while (cr_wait()) {
			if (round++ == 0) {
				sk_send(c, "I am the child");
				sk_credentials(c, getppid(), 0, 0);
			}
		}
		return 0;
	}
	cr_await("ready", 1, ".client");
	for (int i = 0; i < 3; i++)
		clients[i] = un_connected(SOCK_STREAM, "/tmp/backlog.sock");
	full = un_connected(SOCK_SEQPACKET, "@full");
	extra = un_connected(SOCK_SEQPACKET, "@full");
	for (int round = 0; cr_wait(); round++) {
		int more = must(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0));

		check(un_connect(more, "@full") == -1 && errno == EAGAIN, "the backlog should be full: %m");
		close(more);
		if (round > 0)
			continue;
		s = must(accept(listener, NULL, NULL));
		{
			struct ucred c;
			socklen_t len = sizeof(c);

			must(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &c, &len));
			check(c.pid != getpid() && c.pid > 0, "the first client is not the child, but %d",
				c.pid);
		}
		while (recv(s, &(char){0}, 1, MSG_DONTWAIT | MSG_PEEK) != 1)
			cr_msleep(1);
		sk_expect(s, "I am the child");
		for (int i = 0; i < 3; i++) {
			char text[20];

			snprintf(text, sizeof(text), "client %d", i);
			s = must(accept(listener, NULL, NULL));
			sk_send(clients[i], text);
			sk_expect(s, text);
			sk_credentials(s, getpid(), 0, 0);
		}
	}
	s = must(accept(own, NULL, NULL));
	sk_send(full, "first");
	sk_expect(s, "first");
	s = must(accept(own, NULL, NULL));
	sk_send(extra, "second");
	sk_expect(s, "second");
	return 0;
}
