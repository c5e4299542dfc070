/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/netdev.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "linux/sockdiag.h"

enum { ANSWER_SIZE = 32 * 1024 };

/* One message to the kernel; all that we send fits. */
struct request {
	struct nlmsghdr h;
	char body[256];
};

/* What comes back of a dump or a question, one message at a time; negative ends it. */
typedef int (*answer_fn)(const struct nlmsghdr *h, void *arg);

static void *begin(struct request *q, int type, int flags, size_t body)
{
	memset(q, 0, sizeof(*q));
	q->h = (struct nlmsghdr){
		.nlmsg_len = NLMSG_LENGTH(body), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags};
	return NLMSG_DATA(&q->h);
}

static void put(struct request *q, int type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)q + NLMSG_ALIGN(q->h.nlmsg_len));

	*a = (struct rtattr){.rta_type = type, .rta_len = RTA_LENGTH(len)};
	memcpy(RTA_DATA(a), data, len);
	q->h.nlmsg_len = NLMSG_ALIGN(q->h.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

/* 1: that was all, 0: there is more. */
static int take(const char *buf, size_t len, answer_fn answer, void *arg)
{
	for (const struct nlmsghdr *h = (const struct nlmsghdr *)buf; NLMSG_OK(h, len);
		h = NLMSG_NEXT(h, len)) {
		const struct nlmsgerr *err = NLMSG_DATA(h);
		int r;

		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR)
			return h->nlmsg_len < NLMSG_LENGTH(sizeof(*err)) ? -EBADMSG
			       : err->error < 0				 ? err->error
									 : 1;
		r = answer ? answer(h, arg) : 0;
		if (r < 0)
			return r;
		if (!(h->nlmsg_flags & NLM_F_MULTI))
			return 1; /* the answer to a question */
	}
	return 0;
}

static int ask(int socket, const struct request *q, answer_fn answer, void *arg)
{
	_cleanup_free_ char *buf = malloc(ANSWER_SIZE);
	ssize_t n;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	if (send(socket, q, q->h.nlmsg_len, 0) < 0)
		return -errno;
	while (r == 0) {
		n = recv(socket, buf, ANSWER_SIZE, MSG_TRUNC);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || n > ANSWER_SIZE)
			return n < 0 ? -errno : -EMSGSIZE;
		r = take(buf, n, answer, arg);
	}
	return MIN(r, 0);
}

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
	struct request q;

	(void)begin(&q, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	put(&q, IFLA_IFNAME, name, strnlen(name, IFNAMSIZ - 1) + 1);
	r = ask(socket, &q, take_index, &index);
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
	struct request q;

	ret->n = 0;
	(void)begin(&q, RTM_GETLINK, NLM_F_DUMP, sizeof(struct ifinfomsg));
	return ask(socket, &q, take_listed, ret);
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
	struct request q;

	ret->n = 0;
	(void)begin(&q, RTM_GETADDR, NLM_F_DUMP, sizeof(struct ifaddrmsg));
	return ask(socket, &q, take_address, &wanted);
}

int netdev_add_address(int socket, int index, const struct netdev_address *a)
{
	size_t len = a->family == AF_INET6 ? 16 : 4;
	struct ifaddrmsg *m;
	struct request q;

	m = begin(&q, RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, sizeof(*m));
	*m = (struct ifaddrmsg){
		.ifa_family = a->family, .ifa_prefixlen = a->prefix_len, .ifa_index = (unsigned int)index};
	put(&q, IFA_LOCAL, a->local, len);
	if (a->has_peer)
		put(&q, IFA_ADDRESS, a->peer, len);
	if (a->has_broadcast)
		put(&q, IFA_BROADCAST, a->broadcast, len);
	return ask(socket, &q, NULL, NULL);
}

int netdev_move(int socket, int index, int netns_fd, const char *name)
{
	struct ifinfomsg *m;
	struct request q;

	m = begin(&q, RTM_NEWLINK, NLM_F_ACK, sizeof(*m));
	m->ifi_index = index;
	put(&q, IFLA_NET_NS_FD, &netns_fd, sizeof(netns_fd));
	put(&q, IFLA_IFNAME, name, strnlen(name, IFNAMSIZ - 1) + 1);
	return ask(socket, &q, NULL, NULL);
}

int netdev_up(int socket, int index)
{
	struct ifinfomsg *m;
	struct request q;

	m = begin(&q, RTM_NEWLINK, NLM_F_ACK, sizeof(*m));
	*m = (struct ifinfomsg){.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
	return ask(socket, &q, NULL, NULL);
}

int netdev_is_up(int socket, const char *name)
{
	struct ifreq r = {0};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	return ioctl(socket, SIOCGIFFLAGS, &r) < 0 ? -errno : !!(r.ifr_flags & IFF_UP);
}
