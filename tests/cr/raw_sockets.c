/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of the kernel and of devices: netlink with groups (also beyond the 32 of an address) and options, raw IPv4 and
 * IPv6 with their filters, packet sockets with a filter and memberships, UDP-Lite.
 *
 * cr: caps=NET_ADMIN
 */
#include "sockets.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/icmp.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <poll.h>

enum { SEND_COVERAGE = 10, GROUP_FAR = RTNLGRP_NEXTHOP < 33 ? 34 : RTNLGRP_NEXTHOP };

static int route, uevent, icmp, icmp6, packet, lite;
static struct sockaddr_nl route_name;

static void set_up_netlink(void)
{
	struct sockaddr_nl a = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR};
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, 0x40000)};
	struct sock_fprog filter = {1, code};
	socklen_t len = sizeof(route_name);

	route = must(socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE));
	must(bind(route, (struct sockaddr *)&a, sizeof(a)));
	sk_set(route, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, GROUP_FAR);
	sk_set(route, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	sk_set(route, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
	must(getsockname(route, (struct sockaddr *)&route_name, &len));
	uevent = must(socket(AF_NETLINK, SOCK_DGRAM, NETLINK_KOBJECT_UEVENT));
	a = (struct sockaddr_nl){.nl_family = AF_NETLINK, .nl_groups = 2};
	must(setsockopt(uevent, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)));
	must(bind(uevent, (struct sockaddr *)&a, sizeof(a)));
}

static void set_up_raw(void)
{
	struct icmp_filter only_replies = {.data = ~(1u << ICMP_ECHOREPLY)};
	struct icmp6_filter only6;

	icmp = must(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	must(setsockopt(icmp, SOL_RAW, ICMP_FILTER, &only_replies, sizeof(only_replies)));
	sk_set(icmp, IPPROTO_IP, IP_TTL, 9);
	icmp6 = must(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	ICMP6_FILTER_SETBLOCKALL(&only6);
	ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &only6);
	must(setsockopt(icmp6, IPPROTO_ICMPV6, ICMP6_FILTER, &only6, sizeof(only6)));
}

static void set_up_packet(void)
{
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = 1};
	struct packet_mreq all = {.mr_ifindex = 1, .mr_type = PACKET_MR_PROMISC};
	/* Only UDP to port 9999 (the packet begins at the IP header). */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 3),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 22),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 9999, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0x40000),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog filter = {6, code};

	packet = must(socket(AF_PACKET, SOCK_DGRAM, 0));
	must(setsockopt(packet, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)));
	must(bind(packet, (struct sockaddr *)&a, sizeof(a)));
	must(setsockopt(packet, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)));
	sk_set(packet, SOL_PACKET, PACKET_AUXDATA, 1);
}

static bool set_up_lite(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(9000), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	lite = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
	if (lite < 0)
		return false; /* newer kernels have it no more */
	must(bind(lite, (struct sockaddr *)&a, sizeof(a)));
	must(connect(lite, (struct sockaddr *)&a, sizeof(a)));
	sk_set(lite, IPPROTO_UDPLITE, SEND_COVERAGE, 12);
	return true;
}

/* Of a device that has become promiscuous the route socket hears. */
static void forget_news(void)
{
	char b[8192];

	while (recv(route, b, sizeof(b), MSG_DONTWAIT) > 0)
		;
}

static void check_netlink(void)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
	} ask = {{.nlmsg_len = sizeof(ask), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST},
		{.ifi_index = 1}};
	unsigned groups[4] = {0};
	socklen_t len = sizeof(groups);
	struct sockaddr_nl a;
	char b[8192];

	must(getsockopt(route, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &len));
	check(groups[0] == (RTMGRP_LINK | RTMGRP_IPV4_IFADDR) &&
			groups[(GROUP_FAR - 1) / 32] & 1u << (GROUP_FAR - 1) % 32,
		"groups %x %x", groups[0], groups[1]);
	check(sk_int(route, SOL_NETLINK, NETLINK_EXT_ACK) == 1 &&
			sk_int(route, SOL_NETLINK, NETLINK_GET_STRICT_CHK) == 1,
		"options");
	len = sizeof(a);
	must(getsockname(route, (struct sockaddr *)&a, &len));
	check(a.nl_pid == route_name.nl_pid, "port %u became %u", route_name.nl_pid, a.nl_pid);
	sk_expect_empty(route);
	must(send(route, &ask, sizeof(ask), 0));
	check(recv(route, b, sizeof(b), 0) > (ssize_t)sizeof(ask), "no answer: %m");
	len = sizeof(a);
	must(getsockname(uevent, (struct sockaddr *)&a, &len));
	check(a.nl_groups == 2, "groups %x of uevents", a.nl_groups);
	len = 0;
	must(getsockopt(uevent, SOL_SOCKET, SO_GET_FILTER, NULL, &len));
	check(len == 1, "filter of %u instructions", len);
}

static void ping(int fd, int family)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	unsigned char request[8] = {ICMP_ECHO}, answer[200];
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int at = family == AF_INET ? 20 : 0;

	if (family == AF_INET) {
		request[2] = 0xf7; /* the checksum */
		request[3] = 0xff;
		must(sendto(fd, request, 8, 0, (struct sockaddr *)&four, sizeof(four)));
	} else {
		request[0] = ICMP6_ECHO_REQUEST;
		must(sendto(fd, request, 8, 0, (struct sockaddr *)&six, sizeof(six)));
	}
	check(poll(&p, 1, 5000) == 1, "family %d: no echo", family);
	must(recv(fd, answer, sizeof(answer), 0));
	check(answer[at] == (family == AF_INET ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY),
		"the filter passes type %d", answer[at]);
	check(recv(fd, answer, sizeof(answer), MSG_DONTWAIT) == -1, "the filter passes more");
	check(family == AF_INET6 || answer[8] == 64 || answer[8] == 9, "ttl %d", answer[8]);
}

static void check_packet(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct pollfd p = {.fd = packet, .events = POLLIN};
	int fd = must(socket(AF_INET, SOCK_DGRAM, 0));
	char b[200];

	to.sin_port = htons(9998);
	must(sendto(fd, "other", 5, 0, (struct sockaddr *)&to, sizeof(to)));
	to.sin_port = htons(9999);
	must(sendto(fd, "mine", 4, 0, (struct sockaddr *)&to, sizeof(to)));
	check(poll(&p, 1, 5000) == 1, "no packet");
	check(recv(packet, b, sizeof(b), 0) == 32 && !memcmp(b + 28, "mine", 4), "another packet");
	while (recv(packet, b, sizeof(b), MSG_DONTWAIT) > 0)
		check(!memcmp(b + 28, "mine", 4), "the filter lets others pass");
	check(sk_int(packet, SOL_PACKET, PACKET_AUXDATA) == 1, "PACKET_AUXDATA");
	close(fd);
}

static void check_promiscuous(void)
{
	struct packet_mreq all = {.mr_ifindex = 1, .mr_type = PACKET_MR_PROMISC};

	/* Only who is a member can leave. */
	must(setsockopt(packet, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &all, sizeof(all)));
	must(setsockopt(packet, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)));
	forget_news();
}

int main(void)
{
	bool has_lite;

	set_up_netlink();
	set_up_raw();
	set_up_packet();
	has_lite = set_up_lite();
	forget_news();
	while (cr_wait()) {
		check_netlink();
		check(sk_int(icmp, IPPROTO_IP, IP_TTL) == 9, "IP_TTL");
		ping(icmp, AF_INET);
		ping(icmp6, AF_INET6);
		check_packet();
		check_promiscuous();
		if (has_lite) {
			sk_send(lite, "partly covered");
			sk_expect(lite, "partly covered");
			check(sk_int(lite, IPPROTO_UDPLITE, SEND_COVERAGE) == 12, "coverage");
		}
	}
	return 0;
}
