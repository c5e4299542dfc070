/* SPDX-License-Identifier: Apache-2.0 */
/* Unix seqpacket sockets: boundaries of messages, half closed, an accepted connection, shutdown for
 * reading. */
#include "sockets.h"

int main(void)
{
	int pair[2], half[2], listener, client, server;
	char c;

	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, half));
	listener = un_bound(SOCK_SEQPACKET, "@seqpacket");
	must(listen(listener, 3));
	client = un_connected(SOCK_SEQPACKET, "@seqpacket");
	server = must(accept(listener, NULL, NULL));
	sk_send(half[0], "last");
	must(shutdown(half[0], SHUT_WR));
	for (int round = 0;; round++) {
		sk_send(pair[0], "a");
		sk_send(pair[0], "bc");
		sk_send(pair[1], "def");
		sk_send(client, "request");
		if (!cr_wait())
			break;
		sk_expect(pair[1], "a");
		sk_expect(pair[1], "bc");
		sk_expect_empty(pair[1]);
		sk_expect(pair[0], "def");
		sk_expect(server, "request");
		sk_send(server, "reply");
		sk_expect(client, "reply");
		un_has_name(server, 0, "@seqpacket");
		un_has_name(client, 1, "@seqpacket");
		if (round == 0)
			sk_expect(half[1], "last");
		check(recv(half[1], &c, 1, MSG_DONTWAIT) == 0, "no end: %m");
		check(send(half[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "no EPIPE: %m");
	}
	return 0;
}
