/* SPDX-License-Identifier: Apache-2.0 */
/*
 * veth pairs with their ends in two network namespaces of the container, as those who run containers in it make them. The kernel
 * says of such an end its number in the other namespace, and a number by which the one namespace knows the other.
 *
 * A restore makes the pairs when all namespaces exist and before any of them is filled: each then finds its end there.
 */
#include "checkpoint/native/network-pairs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/restore-nested.h"
#include "linux/netdev.h"

/* A network namespace of the container's. */
struct place {
	uint64_t id; /* of its record; 0: the container's own */
	int fd;	     /* borrowed */
	const St__Network *network;
};
struct places {
	struct place *list;
	size_t n;
};

static const struct place *find_place(const struct places *all, uint64_t id)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->list[i].id == id)
			return &all->list[i];
	return NULL;
}

/* The other end, which says the same of this one. */
static const St__Link *other_end(const struct places *all, const struct place *from, const St__Link *l)
{
	const struct place *to = find_place(all, l->peer_namespace);
	const St__Link *peer = to && to != from ? network_link(to->network, l->lower) : NULL;

	return peer && strcmp(l->kind, "veth") == 0 && strcmp(peer->kind, "veth") == 0 && l->outside &&
			       peer->inside && peer->peer_namespace == from->id && peer->lower == l->index
		       ? peer
		       : NULL;
}

/* Looking ------------------------------------------------------------------------------------------------------------ */

static int take_nsid(const struct nlmsghdr *h, void *arg)
{
	int len;
	const struct rtattr *a = netlink_attributes(h, sizeof(struct rtgenmsg), &len);

	if (!a)
		return -EBADMSG;
	*(int *)arg = netlink_u32(netlink_find(a, len, NETNSA_NSID), -1);
	return 0;
}

/* By which number the namespace of the socket knows another one; -1: it does not. */
static int ask_nsid(int socket, int netns, int *ret)
{
	struct netlink_message q;

	*ret = -1;
	(void)netlink_begin(&q, RTM_GETNSID, 0, sizeof(struct rtgenmsg));
	netlink_put_u32(&q, NETNSA_FD, netns);
	return netlink_ask(socket, &q, take_nsid, ret);
}

static int find_peers(const struct places *all, const struct place *from)
{
	_cleanup_close_ int socket = netdev_open(from->fd);
	int r = socket < 0 ? socket : 0;

	for (size_t k = 0; k < all->n && r == 0; k++) {
		int nsid = -1;

		if (&all->list[k] == from)
			continue;
		r = ask_nsid(socket, all->list[k].fd, &nsid);
		for (size_t i = 0; i < from->network->n_links && r == 0 && nsid >= 0; i++) {
			St__Link *l = from->network->links[i];

			if (!l->outside || l->peer_nsid != nsid || strcmp(l->kind, "veth") != 0)
				continue;
			l->inside = true;
			l->peer_namespace = all->list[k].id;
		}
	}
	return r;
}

/* What only one end says was changed meanwhile; and of others nothing is kept. */
static void keep_pairs(const struct places *all)
{
	for (size_t i = 0; i < all->n; i++) {
		for (size_t k = 0; k < all->list[i].network->n_links; k++) {
			St__Link *l = all->list[i].network->links[k];

			if (l->inside && !other_end(all, &all->list[i], l))
				l->inside = false;
			if (!l->inside) {
				l->peer_namespace = 0;
				l->peer_nsid = 0;
			}
		}
	}
}

int dump_network_pairs(struct dump *d, int own)
{
	struct places all = {arena_array(&d->arena, d->n_nested + 1, sizeof(struct place)), 0};
	int r = 0;

	if (!all.list)
		return -ENOMEM;
	if (d->network)
		all.list[all.n++] = (struct place){0, own, d->network};
	for (size_t i = 0; i < d->n_nested; i++)
		if (d->nested[i].msg->network)
			all.list[all.n++] = (struct place){
				d->nested[i].msg->id, d->nested[i].fd, d->nested[i].msg->network};
	for (size_t i = 0; i < all.n && all.n > 1 && r == 0; i++)
		r = find_peers(&all, &all.list[i]);
	keep_pairs(&all);
	return r;
}

/* Making ------------------------------------------------------------------------------------------------------------- */

static int places_of(const struct restore *r, struct arena *a, int own, struct places *ret)
{
	*ret = (struct places){arena_array(a, r->n_nested + 1, sizeof(struct place)), 0};
	if (!ret->list)
		return -ENOMEM;
	if (r->net.network)
		ret->list[ret->n++] = (struct place){0, own, r->net.network};
	for (size_t i = 0; i < r->n_nested; i++)
		if (r->nested[i].msg->network)
			ret->list[ret->n++] = (struct place){
				r->nested[i].msg->id, r->nested[i].fd, r->nested[i].msg->network};
	return 0;
}

/* The number is given before anything needs one. Where it is taken, the kernel gives another one. */
static int set_nsid(int socket, int netns, int nsid)
{
	struct netlink_message m;
	int r;

	(void)netlink_begin(&m, RTM_NEWNSID, NLM_F_ACK, sizeof(struct rtgenmsg));
	netlink_put_u32(&m, NETNSA_NSID, nsid);
	netlink_put_u32(&m, NETNSA_FD, netns);
	r = netlink_ask(socket, &m, NULL, NULL);
	return r == -EEXIST || r == -ENOSPC ? 0 : r;
}

static int make_pair(
	const struct place *from, const St__Link *l, const struct place *to, const St__Link *peer)
{
	_cleanup_close_ int here = netdev_open(from->fd), there = netdev_open(to->fd);
	struct netlink_message m;
	struct ifinfomsg *header;
	size_t kind, data, nest;
	int r = MIN(MIN(here, there), 0);

	if (r == 0)
		r = set_nsid(here, to->fd, l->peer_nsid);
	if (r == 0)
		r = set_nsid(there, from->fd, peer->peer_nsid);
	if (r < 0)
		return r;
	header = netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(*header));
	header->ifi_index = l->index;
	network_put_birth(&m, l);
	kind = netlink_nest(&m, IFLA_LINKINFO);
	netlink_put(&m, IFLA_INFO_KIND, l->kind, strlen(l->kind));
	data = netlink_nest(&m, IFLA_INFO_DATA);
	nest = network_begin_peer(&m, peer);
	netlink_put_u32(&m, IFLA_NET_NS_FD, to->fd);
	netlink_end_nest(&m, nest);
	netlink_end_nest(&m, data);
	netlink_end_nest(&m, kind);
	return netlink_ask(here, &m, NULL, NULL);
}

static int make_pairs_of(
	const struct restore *r, const struct places *all, const struct place *from, struct error *e)
{
	for (size_t i = 0; i < from->network->n_links; i++) {
		const St__Link *l = from->network->links[i];
		const struct place *to = l->inside ? find_place(all, l->peer_namespace) : NULL;
		int result;

		/* Each once. */
		if (!to || to < from)
			continue;
		if (from->id == 0 && (!r->own_net || r->options->empty_ns))
			return error_set(e, -EINVAL, ERROR_USAGE,
				"%s leads to a network namespace that a process of the container has made: "
				"restore needs a network namespace of the container's own, with what the "
				"image has",
				l->name);
		result = make_pair(from, l, to, other_end(all, from, l));
		if (result < 0)
			return error_errno(e, result, "make the network interface %s (veth, number %d)",
				l->name, l->index);
	}
	return 0;
}

int restore_network_pairs(const struct restore *r, struct error *e)
{
	_cleanup_close_ int own = openat(r->proc_fd, "thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	struct arena a = {};
	struct places all = {};
	int result = own < 0 ? -errno : places_of(r, &a, own, &all);

	if (result < 0)
		error_errno(e, result, "network namespaces");
	for (size_t i = 0; i < all.n && all.n > 1 && result == 0; i++)
		result = make_pairs_of(r, &all, &all.list[i], e);
	arena_done(&a);
	return result;
}

bool restore_network_pairs_are_whole(const struct restore *r)
{
	struct arena a = {};
	struct places all = {};
	bool whole = places_of(r, &a, -EBADF, &all) == 0;

	for (size_t i = 0; i < all.n; i++)
		for (size_t k = 0; k < all.list[i].network->n_links; k++)
			if (all.list[i].network->links[k]->inside)
				whole &= other_end(&all, &all.list[i], all.list[i].network->links[k]) != NULL;
	arena_done(&a);
	return whole;
}
