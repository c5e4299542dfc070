/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packet filters: the tables of nftables in the container's own network namespace (iptables-nft makes such, too). Each thing
 * in a table is recorded by the attributes that make it again. It has a handle, by which programs name rules: a table counts
 * these from 1, so a restore makes things in the order of their handles, and fills what is missing in between.
 *
 * Tables that are there already when a restore comes to them (hooks made them) are theirs and stay as they are.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "image.pb-c.h"
#include "linux/nfbatch.h"

/* Handles that a table may have used for things that are gone: each costs a restore about a microsecond. */
enum { NFT_HANDLES_UNUSED_MAX = 1 << 20 };

/* What lies in a table, by the NFT_MSG_NEW* that makes it. */
struct nft_kind {
	const char *text;
	int get, new;
	uint32_t kept; /* bit n: attribute n says what it is */
	int handle;    /* attribute; 0: it has none */
};
enum nft_kind_id { NFT_CHAIN, NFT_OBJECT, NFT_FLOWTABLE, NFT_SET, NFT_RULE, NFT_ELEMENTS, NFT_KINDS };
extern const struct nft_kind nft_kinds[NFT_KINDS];
const struct nft_kind *nft_kind_of(uint32_t type); /* NULL: none */

struct nft_table {
	St__PacketTable *msg;
	size_t max;
	const char *refused, *remedy; /* why it cannot be recorded; NULL: it can */
};
struct nft_tables {
	struct nft_table *tables;
	size_t n, max;
};
/* All of the namespace (that of a TCP lock is not there while a container runs). -EAGAIN: they change all the time. */
int nftables_read(int netns_fd, struct arena *a, struct nft_tables *ret) _must_check_;
/* Only which there are. */
int nftables_list(int netns_fd, struct arena *a, struct nft_tables *ret) _must_check_;

/* The attribute of that type among those of an item, or NULL. */
const struct nlattr *nft_attribute(const ProtobufCBinaryData *attributes, int type);
/* The same, if it is a string. */
const char *nft_name(const ProtobufCBinaryData *attributes, int type);

/* restore-nftables.c: makes the tables that are not there yet in the namespace of this thread. */
int restore_nftables(const St__PacketTable *const *tables, size_t n, bool may_make, bool indexes_differ,
	struct error *e) _must_check_;
/* Is it well-formed? Reason, or NULL. */
const char *nftables_wrong(const St__PacketTable *t);
