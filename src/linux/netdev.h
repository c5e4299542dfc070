/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network devices by rtnetlink: what it takes to move one into another network namespace. Source: rtnetlink(7),
 * linux/if_link.h. Thin: negative errno, no messages.
 */
#pragma once

#include <net/if.h>

#include "base/util.h"

enum { NETDEV_ADDRESSES_MAX = 64, NETDEV_INDEXES_MAX = 1024 };

/* An address of its own, of global scope, that nothing renews or takes away: what a caller has configured. */
struct netdev_address {
	unsigned char family, prefix_len;
	unsigned char local[16], peer[16], broadcast[16];
	bool has_peer, has_broadcast;
};

struct netdev_addresses {
	struct netdev_address address[NETDEV_ADDRESSES_MAX];
	size_t n;
};

struct netdev_indexes {
	int index[NETDEV_INDEXES_MAX];
	size_t n;
};

/* A rtnetlink socket in that network namespace (-EBADF: our own); the caller closes it. */
int netdev_open(int netns_fd) _must_check_;
/* The index of the device of that name, -ENODEV. */
int netdev_index(int socket, const char *name) _must_check_;
int netdev_list(int socket, struct netdev_indexes *ret) _must_check_;
/* -E2BIG: more than fit. */
int netdev_get_addresses(int socket, int index, struct netdev_addresses *ret) _must_check_;
int netdev_add_address(int socket, int index, const struct netdev_address *a) _must_check_;
/* Into another namespace, under this name ("eth%d": the first that is free). The kernel takes it down and forgets its
 * addresses. */
int netdev_move(int socket, int index, int netns_fd, const char *name) _must_check_;
int netdev_up(int socket, int index) _must_check_;
/* 1: it is. */
int netdev_is_up(int socket, const char *name) _must_check_;
