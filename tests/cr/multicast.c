/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Multicast memberships: of IPv4 and IPv6, on two interfaces, with sources that are wanted or not, of UDP and raw sockets.
 * Checked by what the kernel says of them, and by datagrams that arrive or do not.
 *
 * cr: caps=NET_ADMIN ignore=interfaces,routes
 * What it ignores: a bridge without ports has no carrier once it has been given an address, which each has after a restore.
 */
#include "sockets.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>

enum { PORT = 7001, SOURCES = 8 };

static const struct membership {
	int socket;
	const char *interface, *group, *wanted, *unwanted;
} memberships[] = {
	{0, "lo", "239.1.2.3"}, {0, "br0", "239.1.2.3"}, {1, "br0", "239.1.2.4", .wanted = "10.9.9.1"},
	{2, "lo", "239.1.2.3", .unwanted = "127.0.0.2"}, {3, "br0", "ff15::77"},
	{3, "lo", "ff15::78", .wanted = "fe80::1"}, {3, "br0", "ff15::79", .wanted = "fd00::1"},
	{4, "lo", "239.1.2.6"}, /* of an IPv6 socket */
	{5, "lo", "239.1.2.5"}, /* raw */
};
enum { N = sizeof(memberships) / sizeof(*memberships), SOCKETS = 7 };
static int sockets[SOCKETS], before[SOCKETS][N];

static bool is_v6(const char *address)
{
	return strchr(address, ':');
}

static int level(const struct membership *m)
{
	return is_v6(m->group) ? IPPROTO_IPV6 : IPPROTO_IP;
}

static struct sockaddr_storage address(const char *text, int port)
{
	struct sockaddr_storage a = {.ss_family = is_v6(text) ? AF_INET6 : AF_INET};
	struct sockaddr_in *four = (struct sockaddr_in *)&a;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&a;

	check(inet_pton(a.ss_family, text,
		      a.ss_family == AF_INET ? (void *)&four->sin_addr : (void *)&six->sin6_addr) == 1,
		"%s", text);
	four->sin_port = htons(port); /* at the same place in both */
	return a;
}

static void make_bridge(void)
{
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct ifreq q = {.ifr_name = "br0"};
	struct sockaddr_storage a = address("10.9.9.1", 0);

	must(ioctl(fd, SIOCBRADDBR, "br0"));
	memcpy(&q.ifr_addr, &a, sizeof(q.ifr_addr));
	must(ioctl(fd, SIOCSIFADDR, &q));
	q.ifr_flags = IFF_UP | IFF_MULTICAST | IFF_BROADCAST;
	must(ioctl(fd, SIOCSIFFLAGS, &q));
	close(fd);
}

/* At once, without asking the link whether anybody has it. */
static void give_address6(const char *text)
{
	struct {
		struct nlmsghdr h;
		struct ifaddrmsg m;
		struct rtattr a;
		struct in6_addr address;
	} q = {{sizeof(q), RTM_NEWADDR, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK},
		{AF_INET6, 64, IFA_F_NODAD, 0, if_nametoindex("br0")},
		{sizeof(q.a) + sizeof(q.address), IFA_LOCAL}};
	int fd = must(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
	} answer;

	must(inet_pton(AF_INET6, text, &q.address));
	must(send(fd, &q, sizeof(q), 0));
	must(recv(fd, &answer, sizeof(answer), 0));
	check(answer.e.error == 0, "RTM_NEWADDR: %d", answer.e.error);
	close(fd);
}

static int receiver(int family)
{
	int fd = must(socket(family, SOCK_DGRAM, 0));
	struct sockaddr_storage a = address(family == AF_INET ? "0.0.0.0" : "::", PORT);

	sk_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	sk_set(fd, IPPROTO_IP, IP_MULTICAST_ALL, 0);
	if (family == AF_INET6)
		sk_set(fd, IPPROTO_IPV6, 29, 0); /* IPV6_MULTICAST_ALL */
	must(bind(fd, (struct sockaddr *)&a,
		family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)));
	return fd;
}

static void join(const struct membership *m)
{
	struct group_source_req s = {
		.gsr_interface = if_nametoindex(m->interface), .gsr_group = address(m->group, 0)};
	struct group_req g = {.gr_interface = s.gsr_interface, .gr_group = s.gsr_group};

	if (m->wanted || m->unwanted)
		s.gsr_source = address(m->wanted ? m->wanted : m->unwanted, 0);
	if (!m->wanted)
		must(setsockopt(sockets[m->socket], level(m), MCAST_JOIN_GROUP, &g, sizeof(g)));
	if (m->wanted)
		must(setsockopt(sockets[m->socket], level(m), MCAST_JOIN_SOURCE_GROUP, &s, sizeof(s)));
	else if (m->unwanted)
		must(setsockopt(sockets[m->socket], level(m), MCAST_BLOCK_SOURCE, &s, sizeof(s)));
}

/* Mode and number of sources in one number; -1: it is no member. */
static int filter_of(int fd, const struct membership *m)
{
	struct {
		struct group_filter f;
		struct sockaddr_storage more[SOURCES];
	} q = {.f = {.gf_interface = if_nametoindex(m->interface),
		       .gf_group = address(m->group, 0),
		       .gf_numsrc = SOURCES}};
	socklen_t len = sizeof(q);
	struct sockaddr_storage s;

	if (getsockopt(fd, level(m), MCAST_MSFILTER, &q, &len) < 0)
		return -1;
	if (q.f.gf_numsrc && (m->wanted || m->unwanted)) {
		s = address(m->wanted ? m->wanted : m->unwanted, 0);
		check(q.f.gf_numsrc == 1 && memcmp((char *)&q.f.gf_slist[0] + 4, (char *)&s + 4,
						    is_v6(m->group) ? 20 : 4) == 0,
			"another source of %s", m->group);
	}
	return q.f.gf_fmode * 100 + q.f.gf_numsrc;
}

static void send_from(const char *source, const char *interface, const char *group)
{
	struct sockaddr_storage from = address(source, 0), to = address(group, PORT);
	int fd = must(socket(from.ss_family, SOCK_DGRAM, 0));
	struct ip_mreqn q = {.imr_ifindex = if_nametoindex(interface)};

	if (from.ss_family == AF_INET)
		must(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &q, sizeof(q)));
	else
		sk_set(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, q.imr_ifindex);
	must(bind(fd, (struct sockaddr *)&from,
		from.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)));
	must(sendto(fd, source, strlen(source), 0, (struct sockaddr *)&to,
		from.ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)));
	close(fd);
}

static void expect(int n, const char *text)
{
	struct pollfd p = {.fd = sockets[n], .events = POLLIN};

	check(poll(&p, 1, 5000) == 1, "socket %d does not hear \"%s\"", n, text);
	sk_expect(sockets[n], text);
}

static void check_datagrams(void)
{
	send_from("127.0.0.2", "lo", "239.1.2.3");
	send_from("127.0.0.1", "lo", "239.1.2.3");
	send_from("10.9.9.1", "br0", "239.1.2.4");
	send_from("10.9.9.1", "br0", "239.1.2.3");
	send_from("fd00::1", "br0", "ff15::77");
	send_from("fd00::1", "br0", "ff15::78");
	send_from("fd00::1", "br0", "ff15::79");
	send_from("127.0.0.1", "lo", "239.1.2.6");
	expect(0, "127.0.0.2");
	expect(0, "127.0.0.1");
	expect(0, "10.9.9.1");
	expect(1, "10.9.9.1");
	expect(2, "127.0.0.1");
	expect(3, "fd00::1");
	expect(3, "fd00::1");
	expect(4, "127.0.0.1");
	for (int i = 0; i < SOCKETS; i++)
		sk_expect_empty(sockets[i]);
}

int main(void)
{
	make_bridge();
	give_address6("fd00::1");
	for (int i = 0; i < SOCKETS; i++)
		sockets[i] = i == 5 ? must(socket(AF_INET, SOCK_RAW, 253))
				    : receiver(i == 3 || i == 4 ? AF_INET6 : AF_INET);
	for (int i = 0; i < N; i++)
		join(&memberships[i]);
	for (int s = 0; s < SOCKETS; s++)
		for (int i = 0; i < N; i++)
			before[s][i] = filter_of(sockets[s], &memberships[i]);
	check(before[6][0] == -1 && before[1][2] == MCAST_INCLUDE * 100 + 1 &&
			before[2][3] == MCAST_EXCLUDE * 100 + 1,
		"the test");
	check_datagrams();
	while (cr_wait()) {
		for (int s = 0; s < SOCKETS; s++)
			for (int i = 0; i < N; i++)
				check(filter_of(sockets[s], &memberships[i]) == before[s][i],
					"socket %d, %s on %s: %d became %d", s, memberships[i].group,
					memberships[i].interface, before[s][i],
					filter_of(sockets[s], &memberships[i]));
		check_datagrams();
	}
	return 0;
}
