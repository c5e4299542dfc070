/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/netdev.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "linux/nlmsg.h"
#include "linux/sockdiag.h"

int netdev_open(int netns_fd)
{
	int fd;

	if (netns_fd >= 0)
		return netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	return fd < 0 ? -errno : fd;
}

static int take_index(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *m = NLMSG_DATA(h);

	if (h->nlmsg_type != RTM_NEWLINK || h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EBADMSG;
	*(int *)arg = m->ifi_index;
	return 0;
}

int netdev_index(int socket, const char *name)
{
	int index = -ENODEV, r;
	struct netlink_message q;

	(void)netlink_begin(&q, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	netlink_put(&q, IFLA_IFNAME, name, strnlen(name, IFNAMSIZ - 1) + 1);
	r = netlink_ask(socket, &q, take_index, &index);
	return r < 0 ? r : index;
}

static int take_listed(const struct nlmsghdr *h, void *arg)
{
	struct netdev_indexes *list = arg;
	int index, r = take_index(h, &index);

	if (r < 0)
		return r;
	if (list->n == ARRAY_SIZE(list->index))
		return -E2BIG;
	list->index[list->n++] = index;
	return 0;
}

int netdev_list(int socket, struct netdev_indexes *ret)
{
	struct netlink_message q;

	ret->n = 0;
	(void)netlink_begin(&q, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
	return netlink_ask(socket, &q, take_listed, ret);
}

struct wanted_addresses {
	int index;
	struct netdev_addresses *list;
};

static void copy_address(unsigned char to[16], const struct rtattr *a)
{
	memcpy(to, RTA_DATA(a), MIN(RTA_PAYLOAD(a), 16U));
}

static int take_address(const struct nlmsghdr *h, void *arg)
{
	const struct ifaddrmsg *m = NLMSG_DATA(h);
	struct wanted_addresses *wanted = arg;
	struct netdev_address found = {.family = m->ifa_family, .prefix_len = m->ifa_prefixlen};
	unsigned int flags = m->ifa_flags;
	bool has_local = false;
	int len;

	if (h->nlmsg_type != RTM_NEWADDR || h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EBADMSG;
	if ((int)m->ifa_index != wanted->index || m->ifa_scope != RT_SCOPE_UNIVERSE)
		return 0;
	len = IFA_PAYLOAD(h);
	for (const struct rtattr *a = IFA_RTA(m); RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		if (a->rta_type == IFA_FLAGS && RTA_PAYLOAD(a) >= sizeof(flags)) {
			memcpy(&flags, RTA_DATA(a), sizeof(flags));
		} else if (a->rta_type == IFA_LOCAL) {
			copy_address(found.local, a);
			has_local = true;
		} else if (a->rta_type == IFA_ADDRESS) {
			copy_address(found.peer, a);
			found.has_peer = true;
		} else if (a->rta_type == IFA_BROADCAST) {
			copy_address(found.broadcast, a);
			found.has_broadcast = true;
		}
	}
	if (!(flags & IFA_F_PERMANENT))
		return 0;
	if (!has_local) /* IPv6: the address is the local one unless there are both */
		memcpy(found.local, found.peer, sizeof(found.local));
	if (wanted->list->n == ARRAY_SIZE(wanted->list->address))
		return -E2BIG;
	wanted->list->address[wanted->list->n++] = found;
	return 0;
}

int netdev_get_addresses(int socket, int index, struct netdev_addresses *ret)
{
	struct wanted_addresses wanted = {index, ret};
	struct netlink_message q;

	ret->n = 0;
	(void)netlink_begin(&q, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
	return netlink_ask(socket, &q, take_address, &wanted);
}

int netdev_add_address(int socket, int index, const struct netdev_address *a)
{
	size_t len = a->family == AF_INET6 ? 16 : 4;
	struct ifaddrmsg *m;
	struct netlink_message q;

	m = netlink_begin(&q, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(*m));
	*m = (struct ifaddrmsg){
		.ifa_family = a->family, .ifa_prefixlen = a->prefix_len, .ifa_index = (unsigned int)index};
	netlink_put(&q, IFA_LOCAL, a->local, len);
	if (a->has_peer)
		netlink_put(&q, IFA_ADDRESS, a->peer, len);
	if (a->has_broadcast)
		netlink_put(&q, IFA_BROADCAST, a->broadcast, len);
	return netlink_ask(socket, &q, NULL, NULL);
}

int netdev_move(int socket, int index, int netns_fd, const char *name)
{
	struct ifinfomsg *m;
	struct netlink_message q;

	m = netlink_begin(&q, RTM_NEWLINK, NLM_F_ACK, sizeof(*m));
	m->ifi_index = index;
	netlink_put_u32(&q, IFLA_NET_NS_FD, netns_fd);
	netlink_put(&q, IFLA_IFNAME, name, strnlen(name, IFNAMSIZ - 1) + 1);
	return netlink_ask(socket, &q, NULL, NULL);
}

int netdev_up(int socket, int index)
{
	struct ifinfomsg *m;
	struct netlink_message q;

	m = netlink_begin(&q, RTM_NEWLINK, NLM_F_ACK, sizeof(*m));
	*m = (struct ifinfomsg){.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	return netlink_ask(socket, &q, NULL, NULL);
}

int netdev_is_up(int socket, const char *name)
{
	struct ifreq r = {0};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	return ioctl(socket, SIOCGIFFLAGS, &r) < 0 ? -errno : !!(r.ifr_flags & IFF_UP);
}
