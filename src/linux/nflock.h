/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds packets of TCP connections back while their sockets are not there: between the end of a container and its
 * restore the kernel would answer them with RST. A table of nftables of its own, in the network namespace, drops what
 * comes in for these connections and for no other. Source: linux/netfilter/nf_tables.h. Thin: negative errno.
 */
#pragma once

#include "base/util.h"

/* What has this mark (SO_MARK) passes. */
enum { NFLOCK_MARK = 0x57a515 };

struct nflock_flow {
	int family; /* AF_INET, AF_INET6: of the packets */
	unsigned char remote[16], local[16];
	uint16_t remote_port, local_port; /* network byte order */
};

/* Does this kernel have nftables (for that namespace)? */
bool nflock_available(int netns_fd);
/* Locks these flows, as table "stasis-lock-ID"; one of that name is replaced. */
int nflock_set(int netns_fd, uint64_t id, const struct nflock_flow *flows, size_t n) _must_check_;
/* -ENOENT: there was none. */
int nflock_clear(int netns_fd, uint64_t id) _must_check_;
