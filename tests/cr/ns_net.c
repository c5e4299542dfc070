/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN,NET_ADMIN,NET_RAW rw=/proc/sys */
/*
 * Processes with a network, ipc or cgroup namespace of their own, as services with PrivateNetwork: lo up with another
 * address, sysctls, sockets of all kinds; sockets made before, which are the container's. A name of an abstract socket is
 * taken in both namespaces.
 */
#include "cr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { PORT = 7777 };

static void put(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY));

	must(write(fd, text, strlen(text)));
	close(fd);
}

static void expect(const char *path, const char *text)
{
	char b[256];

	must(cr_read(path, b, sizeof(b)));
	check(!strcmp(b, text), "%s holds \"%s\", not \"%s\"", path, b, text);
}

static int lo_flags(void)
{
	struct ifreq r = {.ifr_name = "lo"};
	int s = must(socket(AF_INET, SOCK_DGRAM, 0));

	must(ioctl(s, SIOCGIFFLAGS, &r));
	close(s);
	return r.ifr_flags;
}

static void lo_up(const char *address)
{
	struct ifreq r = {.ifr_name = "lo"};
	struct sockaddr_in a = {.sin_family = AF_INET};
	int s = must(socket(AF_INET, SOCK_DGRAM, 0));

	r.ifr_flags = IFF_UP;
	must(ioctl(s, SIOCSIFFLAGS, &r));
	must(inet_pton(AF_INET, address, &a.sin_addr));
	snprintf(r.ifr_name, sizeof(r.ifr_name), "lo:1");
	memcpy(&r.ifr_addr, &a, sizeof(a));
	must(ioctl(s, SIOCSIFADDR, &r));
	close(s);
}

static struct sockaddr_in at(const char *address, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};

	must(inet_pton(AF_INET, address, &a.sin_addr));
	return a;
}

static int bound(int type, const char *address)
{
	struct sockaddr_in a = at(address, PORT);
	int s = must(socket(AF_INET, type, 0));

	must(bind(s, (struct sockaddr *)&a, sizeof(a)));
	if (type == SOCK_STREAM)
		must(listen(s, 5));
	return s;
}

static int abstract_listener(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0ns_net"};
	int s = must(socket(AF_UNIX, SOCK_STREAM, 0));

	must(bind(s, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + 7));
	must(listen(s, 5));
	return s;
}

static int abstract_client(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0ns_net"};
	int s = must(socket(AF_UNIX, SOCK_STREAM, 0));

	must(connect(s, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + 7));
	return s;
}

/* The listener hears those of its own namespace. */
static void answers(int listener)
{
	int client = abstract_client(), server = must(accept(listener, NULL, NULL));
	char c = 0;

	must(write(client, "x", 1));
	must(read(server, &c, 1));
	check(c == 'x', "the accepted socket");
	close(client);
	close(server);
}

static void tcp_answers(int listener, const char *address)
{
	struct sockaddr_in a = at(address, PORT);
	int client = must(socket(AF_INET, SOCK_STREAM, 0)), server;
	struct linger now = {1, 0};

	must(connect(client, (struct sockaddr *)&a, sizeof(a)));
	server = must(accept(listener, NULL, NULL));
	must(setsockopt(server, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
	must(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
	close(client);
	close(server);
}

static void network(void)
{
	struct sockaddr_in here = at("127.9.9.9", PORT);
	struct ip_mreqn group = {.imr_multiaddr.s_addr = htonl(0xef090909), .imr_ifindex = 1};
	int before[2], pair[2], outer, udp, tcp, listener, client, server, raw;
	char b[64] = "";

	outer = abstract_listener();
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, before));
	must(unshare(CLONE_NEWNET));
	check(!(lo_flags() & IFF_UP), "lo is up in a new namespace");
	lo_up("127.9.9.9");
	put("/proc/sys/net/ipv4/ip_default_ttl", "99");
	udp = bound(SOCK_DGRAM, "127.9.9.9");
	must(setsockopt(udp, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)));
	tcp = bound(SOCK_STREAM, "127.9.9.9");
	listener = abstract_listener();
	client = abstract_client();
	server = must(accept(listener, NULL, NULL));
	raw = must(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	must(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	must(sendto(udp, "waits", 5, 0, (struct sockaddr *)&here, sizeof(here)));
	must(write(client, "in the queue", 12));
	cr_fork("child");
	while (cr_wait()) {
		check(lo_flags() & IFF_UP, "lo is down");
		expect("/proc/sys/net/ipv4/ip_default_ttl", "99\n");
		if (strstr(cr_tag, "child"))
			continue;
		memset(b, 0, sizeof(b));
		check(must(recv(udp, b, sizeof(b), MSG_DONTWAIT)) == 5 && !strcmp(b, "waits"),
			"datagram \"%s\"", b);
		must(sendto(udp, "waits", 5, 0, (struct sockaddr *)&here, sizeof(here)));
		memset(b, 0, sizeof(b));
		check(must(recv(server, b, sizeof(b), MSG_DONTWAIT)) == 12,
			"the queue of a unix socket: \"%s\"", b);
		must(write(client, "in the queue", 12));
		must(write(before[0], "ab", 2));
		check(must(read(before[1], b, 2)) == 2, "the pair of before");
		must(write(pair[0], "cd", 2));
		check(must(read(pair[1], b, 2)) == 2, "the pair");
		answers(listener);
		tcp_answers(tcp, "127.9.9.9");
		check(recv(raw, b, sizeof(b), MSG_DONTWAIT) == -1 && errno == EAGAIN, "a raw socket: %m");
		/* Only a member can leave. */
		must(setsockopt(udp, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof(group)));
		must(setsockopt(udp, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)));
		close(must(accept(outer, NULL, NULL))); /* main's, and nobody else's */
	}
	_exit(0);
}

static ino_t namespace(int pid, const char *name)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	must(stat(path, &st));
	return st.st_ino;
}

static void others(void)
{
	must(unshare(CLONE_NEWIPC | CLONE_NEWCGROUP));
	while (cr_wait()) {
		char text[4096];

		check(namespace(getpid(), "ipc") != namespace(1, "ipc"), "the ipc namespace is init's");
		check(namespace(getpid(), "cgroup") != namespace(1, "cgroup"),
			"the cgroup namespace is init's");
		must(cr_read("/proc/self/cgroup", text, sizeof(text)));
		for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
			check(strstr(line, ":/") && !strstr(line, ":/")[2], "its cgroup is %s", line);
		check(msgget(0x5678, 0) == -1 && errno == ENOENT, "it has the container's message queue");
	}
	_exit(0);
}

int main(void)
{
	int queue = must(msgget(0x5678, IPC_CREAT | 0600));

	if (cr_fork("network") == 0)
		network();
	if (cr_fork("others") == 0)
		others();
	while (cr_wait()) {
		check(msgget(0x5678, 0) == queue, "the message queue is gone");
		expect("/proc/sys/net/ipv4/ip_default_ttl", "64\n");
		close(abstract_client());
	}
	return 0;
}
