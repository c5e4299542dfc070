/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a network namespace has been given besides sockets: interfaces, addresses, neighbours, rules, routes. It is
 * read and made by rtnetlink; but for the interfaces each thing is recorded as the kernel's own message, which is
 * also the request that makes it. A restore makes the new namespace's lists equal to the image's: what is too much goes,
 * what is missing comes.
 *
 * Interfaces keep their index. Those that somebody outside made (config.json's netDevices, hooks) are theirs: a restore
 * finds them there, by name, and leaves them and all that refers to them alone.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "checkpoint/engine.h"
#include "image.pb-c.h"
#include "linux/nlmsg.h"

enum { LOOPBACK_INDEX = 1 };

/* Kinds of things that are one message each. */
struct net_kind {
	const char *name;
	int get, new, del; /* RTM_* */
	size_t header;	   /* of what follows the netlink header */
	uint32_t kept;	   /* bit n: attribute n says what it is; others only count */
	uint32_t passing;  /* those of them that change by themselves: they make no difference */
	/* Is it one of those that somebody configured? Takes out of the header what is no part of it. */
	bool (*clean)(void *header, const struct rtattr *a, int len);
	/* Instead of that: what the kernel says of several in one message, as requests for each. */
	int (*split)(
		const struct nlmsghdr *h, int (*give)(const struct netlink_message *m, void *arg), void *arg);
};
enum net_kind_id {
	NET_ADDRESS,
	NET_NEIGHBOUR,
	NET_RULE,
	NET_ROUTE,
	NET_FORWARDING,
	NET_NEXTHOP,
	NET_VLAN,
	NET_GROUP,
	NET_LABEL,
	NET_KINDS
};
extern const struct net_kind net_kinds[NET_KINDS];

/* The list of that kind in a Network. */
struct net_list {
	ProtobufCBinaryData **items;
	size_t *n;
};
struct net_list network_list(St__Network *n, enum net_kind_id kind);

/* Everything in the namespace of this rtnetlink socket; in the arena. Negative errno. */
int network_read(int socket, struct arena *a, St__Network **ret) _must_check_;
/* The same thing, whatever passing attributes say? */
bool network_same(const struct net_kind *k, const ProtobufCBinaryData *a, const ProtobufCBinaryData *b);
/* The interfaces that a message refers to: calls "use" for each, until it says false. */
bool network_interfaces_of(
	enum net_kind_id kind, const ProtobufCBinaryData *m, bool (*use)(int index, void *arg), void *arg);

/* Does it say anything about things of that kind? Else they are as every namespace begins. */
bool network_says(const St__Network *n, enum net_kind_id kind);

/* network-bridge.c: VLANs and multicast groups of bridges; what all bridges begin with. */
int network_split_vlans(const struct nlmsghdr *h, int (*give)(const struct netlink_message *m, void *arg),
	void *arg) _must_check_;
int network_split_groups(const struct nlmsghdr *h, int (*give)(const struct netlink_message *m, void *arg),
	void *arg) _must_check_;
bool network_vlans_are_usual(const St__Network *n);
/* Those of IPv6 that every namespace begins with. */
bool network_labels_are_usual(const St__Network *n);
void network_forget_usual(St__Network *n);
/* Why a bridge, or any of the groups of the namespace, cannot be recorded; NULL: it can. */
const char *network_bridge_refused(const St__Link *l);
int network_groups_refused(int socket, const St__Network *n, const char **ret) _must_check_;

/* Kinds of interfaces that a restore can make; NULL: this one it cannot. */
struct link_kind {
	const char *name;
	uint64_t shown;	   /* bit n: attribute n of its IFLA_INFO_DATA is recorded ... */
	uint64_t data;	   /* ... and set */
	uint64_t flags;	   /* those that are shown as numbers, and set by being there */
	uint64_t external; /* that is refused */
	uint64_t asked;	   /* those that are only asked for if they are not 0: not every kernel knows them */
	bool has_lower;	   /* may lie on another interface ... */
	int lower;	   /* ... which is this attribute of its data; 0: IFLA_LINK says it, and it must */
};
/* Likewise what a bridge keeps for its ports (IFLA_INFO_SLAVE_DATA). */
extern const uint64_t network_port_data;
const struct link_kind *link_kind_find(const char *name);
const St__Link *network_link(const St__Network *n, int index);
const St__Link *network_link_named(const St__Network *n, const char *name);

/* network-sysctls.c: those of the namespace of this process. */
int network_read_sysctls(struct arena *a, St__Network *n) _must_check_;
bool network_is_sysctl(const char *name); /* of a network namespace, and nothing else */
/* "dir" is /proc/sys/net, the name what comes behind that. One that this kernel has not is left out, with a warning. */
int network_write_sysctl(int dir, const char *name, const char *value, struct error *e) _must_check_;
/* In this order. Those of interfaces only where is_ours(). */
enum network_sysctl_group { NETWORK_SYSCTLS_ALL, NETWORK_SYSCTLS_DEFAULT, NETWORK_SYSCTLS_LINK };
int network_write_sysctls(const St__Network *n, int proc_fd, enum network_sysctl_group group,
	bool (*is_ours)(const char *name, size_t len, void *arg), void *arg, struct error *e) _must_check_;

/* restore-network.c: makes the namespace of this process what the image says. proc_fd: a /proc. */
struct network_image {
	const St__Network *network;
	const St__PacketTable **tables; /* nftables.h */
	size_t n_tables;
	struct network_tun {
		const St__TunQueue *msg;
		int fd; /* restore_network() makes it, res/tun.c takes it; -EBADF */
	} * tuns;	/* each queue that processes hold */
	size_t n_tuns;
	const struct veth_pair *veth_pairs; /* made by the parent already (restore-veth.c) */
	size_t n_veth_pairs;
	bool may_filter; /* config.json lets the container make packet filters */
};
int restore_network(struct network_image *image, int proc_fd, struct error *e) _must_check_;
/* What an interface has from the first moment. */
void network_put_birth(struct netlink_message *m, const St__Link *l);
/* The other end of a veth, with what it has from the first moment, within a message that makes the first: a nest. */
size_t network_begin_peer(struct netlink_message *m, const St__Link *peer);
/* res/tun.c: makes an interface of the kind "tun", with all queues that processes hold. */
int restore_tun(struct network_image *image, int proc_fd, const St__Link *l, struct error *e) _must_check_;
/* Is it well-formed? Reason, or NULL. */
const char *network_wrong(const St__Network *n);
