/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore --veth-pair: an interface of the container whose other end was outside is made again by the runtime, from outside,
 * as nobody in the container may make anything there. It gets the number that it had; the container's init then gives it
 * the rest, as it does with interfaces that it makes itself. If the restore fails both ends go, with the container's namespace.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/restore.h"
#include "linux/netdev.h"

int restore_check_veths(const struct restore *r, struct error *e)
{
	for (size_t i = 0; i < r->options->n_veth_pairs; i++) {
		const struct veth_pair *p = &r->options->veth_pairs[i];
		const St__Link *l = r->net.network ? network_link_named(r->net.network, p->in) : NULL;

		if (!r->own_net || r->options->empty_ns)
			return error_set(e, -EINVAL, ERROR_USAGE,
				"--veth-pair %s: the container gets no network namespace of its own with "
				"what the image "
				"has",
				p->in);
		if (!l || strcmp(l->kind, "veth") != 0 || !l->outside)
			return error_set(e, -EINVAL, ERROR_USAGE,
				"--veth-pair %s: the image has no interface of this name with its other end "
				"in another "
				"network namespace",
				p->in);
		for (size_t k = 0; k < i; k++)
			if (strcmp(r->options->veth_pairs[k].in, p->in) == 0)
				return error_set(
					e, -EINVAL, ERROR_USAGE, "--veth-pair %s: said twice", p->in);
	}
	return 0;
}

/* Asked for in the container's namespace, where the number has to be free. */
static int make_pair(int inside, int outside_ns, const struct veth_pair *p, const St__Link *l)
{
	St__Link out = ST__LINK__INIT;
	struct netlink_message m;
	struct ifinfomsg *header = netlink_begin(
		&m, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	size_t kind, data, peer;

	out.name = (char *)p->out;
	header->ifi_index = l->index;
	network_put_birth(&m, l);
	netlink_put_u32(&m, IFLA_MTU, l->mtu);
	kind = netlink_nest(&m, IFLA_LINKINFO);
	netlink_put(&m, IFLA_INFO_KIND, l->kind, strlen(l->kind));
	data = netlink_nest(&m, IFLA_INFO_DATA);
	peer = network_begin_peer(&m, &out);
	netlink_put_u32(&m, IFLA_MTU, l->mtu);
	netlink_put_u32(&m, IFLA_NET_NS_FD, outside_ns);
	netlink_end_nest(&m, peer);
	netlink_end_nest(&m, data);
	netlink_end_nest(&m, kind);
	return netlink_ask(inside, &m, NULL, NULL);
}

/* Up, and a port of its bridge. */
static int connect_out(int socket, const struct veth_pair *p)
{
	int index = netdev_index(socket, p->out), bridge = p->bridge ? netdev_index(socket, p->bridge) : 0;
	struct netlink_message m;
	struct ifinfomsg *header = netlink_begin(&m, RTM_NEWLINK, NLM_F_ACK, sizeof(*header));

	if (index < 0 || bridge < 0)
		return MIN(index, bridge);
	header->ifi_index = index;
	header->ifi_flags = header->ifi_change = IFF_UP;
	if (bridge)
		netlink_put_u32(&m, IFLA_MASTER, bridge);
	return netlink_ask(socket, &m, NULL, NULL);
}

int restore_make_veths(struct restore *r, pid_t init_pid, struct error *e)
{
	_cleanup_close_ int ns = -EBADF, own = -EBADF, inside = -EBADF, outside = -EBADF;
	int result = 0;
	char path[64];

	if (r->options->n_veth_pairs == 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/net", init_pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (ns < 0 || own < 0)
		return error_errno(e, -errno, "network namespace of the container");
	inside = netdev_open(ns);
	outside = netdev_open(-EBADF);
	if (inside < 0 || outside < 0)
		return error_errno(e, MIN(inside, outside), "open a netlink socket");
	for (size_t i = 0; i < r->options->n_veth_pairs && result == 0; i++) {
		const struct veth_pair *p = &r->options->veth_pairs[i];

		result = make_pair(inside, own, p, network_link_named(r->net.network, p->in));
		if (result < 0)
			return error_errno(e, result,
				"make the network interface %s (veth) with its other end %s", p->in, p->out);
		result = connect_out(outside, p);
		if (result < 0)
			return error_errno(e, result, "set %s up%s%s", p->out,
				p->bridge ? ", as a port of " : "", p->bridge ? p->bridge : "");
	}
	restore_tell(&r->control->veths_made);
	return 0;
}
