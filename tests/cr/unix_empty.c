/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Empty datagrams among others. Once they have been seen by a checkpoint that left the container running, the kernel
 * hides them from the next one (docs/support.md), hence not in every mode.
 * cr: modes=once,cycles,running
 */
#include "sockets.h"

int main(void)
{
	int pair[2];

	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	for (;;) {
		sk_send(pair[0], "");
		sk_send(pair[0], "one");
		sk_send(pair[0], "");
		sk_send(pair[0], "");
		sk_send(pair[0], "two");
		sk_send(pair[0], "");
		if (!cr_wait())
			break;
		sk_expect(pair[1], "");
		sk_expect(pair[1], "one");
		sk_expect(pair[1], "");
		sk_expect(pair[1], "");
		sk_expect(pair[1], "two");
		sk_expect(pair[1], "");
		sk_expect_empty(pair[1]);
	}
	return 0;
}
