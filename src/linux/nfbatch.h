/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to nftables that take effect together or not at all. Source: linux/netfilter/{nfnetlink,nf_tables}.h.
 * Thin: negative errno, no texts.
 */
#pragma once

#include <linux/netlink.h>

#include "base/util.h"

/* In a network namespace (-EBADF: that of this thread). */
int nf_socket(int netns_fd) _must_check_;

/* Messages on their way; begins as {}. What did not fit for want of memory shows in "failed". */
struct nf_batch {
	char *data;
	size_t len, size, message; /* message: where the last one begins */
	uint32_t seq;		   /* of the last message */
	bool failed;
};

/* Begins a request: NFT_MSG_*, NLM_F_*, NFPROTO_*. What is put from here on is its. */
void nf_batch_message(struct nf_batch *b, int type, int flags, uint8_t family);
/* An attribute; or many that are laid out already. */
void nf_batch_put(struct nf_batch *b, int type, const void *value, size_t len);
void nf_batch_put_text(struct nf_batch *b, int type, const char *text);
void nf_batch_put_number(struct nf_batch *b, int type, uint32_t value); /* in the network's order */
void nf_batch_put_all(struct nf_batch *b, const void *attributes, size_t len);
/* What is put between begin and end lies within an attribute of that type. */
size_t nf_batch_nest(struct nf_batch *b, int type);
void nf_batch_end_nest(struct nf_batch *b, size_t nest);

/* Sends it to a network namespace (-EBADF: that of this thread), and empties it. *ret_failed: seq of the message that the
 * kernel refused, 0: of none; may be NULL. */
int nf_batch_commit(struct nf_batch *b, int netns_fd, uint32_t *ret_failed) _must_check_;
void nf_batch_done(struct nf_batch *b);
