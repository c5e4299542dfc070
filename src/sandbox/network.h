/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links, addresses, routes and neighbours that a caller wants in a container's network namespace (io.stasis.Network): first
 * read as data, then made by rtnetlink, all or nothing.
 */
#pragma once

#include <json-c/json.h>
#include <net/if.h>

#include "base/arena.h"
#include "base/error.h"
#include "sandbox/idl.h"

/* Of an interface, with prefix_len; or of a host or network. */
struct net_address {
	unsigned char family; /* AF_INET, AF_INET6; 0: none */
	unsigned char prefix_len;
	unsigned char bytes[16];
};

enum net_link_kind {
	NET_EXISTING,
	NET_DUMMY,
	NET_BRIDGE,
	NET_VETH,
	NET_VLAN,
	NET_MACVLAN,
	NET_IPVLAN,
};

struct net_link {
	const char *name;
	enum net_link_kind kind;
	const char *peer, *parent, *bridge; /* NULL: none */
	bool parent_inside, has_mac, leave_down;
	uint16_t vlan;
	uint32_t mtu; /* 0: leave */
	unsigned char mac[6];
	struct net_address *addresses;
	size_t n_addresses;
};

struct net_route {
	struct net_address destination, gateway, source; /* destination.prefix_len 0: the default route */
	const char *device;				 /* NULL: the gateway's */
	bool has_metric;
	uint32_t metric, table;
	unsigned char scope;
};

struct net_neighbor {
	const char *device;
	struct net_address address;
	unsigned char mac[6];
};

struct net_plan {
	struct net_link *links;
	struct net_route *routes;
	struct net_neighbor *neighbors;
	size_t n_links, n_routes, n_neighbors;
};

/* The parameters of CreateLinksAndRoutes, which idl_check() has passed. Strings are borrowed from them, the rest lives in the
 * arena. -EINVAL with *fault (its message is without the path), -ENOMEM. */
int net_plan_parse(struct json_object *parameters, struct arena *a, struct net_plan *ret,
	struct idl_fault *fault) _must_check_;

struct net_sockets {
	int host, inside; /* rtnetlink, in our own namespace and in the container's */
	int netns;	  /* the container's */
};

enum { NET_ITEM_SIZE = 48 };
/* What takes back what has been done, in memory that stays shared over a fork. */
struct net_journal;
int net_journal_new(struct net_journal **ret, struct error *e) _must_check_;
void net_journal_free(struct net_journal *j);
void net_journal_undo(const struct net_sockets *s, struct net_journal *j);
static inline void net_journal_free_p(struct net_journal **j)
{
	net_journal_free(*j);
}
/* Makes all of it, or on failure nothing: "item" is then what failed ("links[1].addresses[0]"). */
int net_plan_apply(const struct net_sockets *s, const struct net_plan *p, struct net_journal *journal,
	char item[NET_ITEM_SIZE], struct error *e) _must_check_;
