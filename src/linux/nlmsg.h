/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Netlink messages: building one, sending it, walking through what comes back. Source: netlink(7), rtnetlink(7).
 * Thin: negative errno, no texts. What the kernel says is checked for lengths like anything from outside.
 */
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include "base/util.h"

enum { NETLINK_MESSAGE_MAX = 16384 };

struct netlink_message {
	struct nlmsghdr h;
	char body[NETLINK_MESSAGE_MAX - sizeof(struct nlmsghdr)];
};

/* Begins a request; the family's own header of that size (zeros) follows, and is returned. */
void *netlink_begin(struct netlink_message *m, int type, int flags, size_t header);
/* Adds an attribute. Once one has not fit the message is marked, and netlink_ask() says -EMSGSIZE. */
void netlink_put(struct netlink_message *m, int type, const void *data, size_t len);
void netlink_put_u32(struct netlink_message *m, int type, uint32_t value);
/* What is put between begin and end lies within an attribute of that type. */
size_t netlink_nest(struct netlink_message *m, int type);
void netlink_end_nest(struct netlink_message *m, size_t nest);

/* One message of the answer to a dump or a question; negative ends it. */
typedef int (*netlink_answer_fn)(const struct nlmsghdr *h, void *arg);
/* Sends it and takes the answer up to its end; what the kernel refuses is its error. -EAGAIN: a dump during which
 * something changed, to be asked for once more. */
int netlink_ask(
	int socket, const struct netlink_message *m, netlink_answer_fn answer, void *arg) _must_check_;

/* The attributes behind the family's header; *len is what is left. NULL: the message is too short for the header. */
const struct rtattr *netlink_attributes(const struct nlmsghdr *h, size_t header, int *len);
/* The first attribute of that type among those of len bytes, or NULL. */
const struct rtattr *netlink_find(const struct rtattr *a, int len, int type);
/* Its number, if it has one. */
uint32_t netlink_u32(const struct rtattr *a, uint32_t otherwise);
/* Through the attributes "a" of "len" bytes (an int, which counts down). */
#define netlink_for(a, len) for (; (a) && RTA_OK(a, len); (a) = RTA_NEXT(a, len))
