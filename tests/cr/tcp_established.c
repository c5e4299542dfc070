/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connections, both ends in the container, in every state that lasts: established on IPv4, IPv6 and IPv4 in IPv6
 * clothes; with data not read, not acknowledged, not sent; half closed, closing, closed; asking for a connection.
 *
 * A filter on a socket that drops all loses packets as a network would. It is gone before the checkpoint, but the other
 * end has learned by then to wait long before it tries again.
 *
 * cr: options=--tcp-established caps=NET_ADMIN ignore=sockets
 */
#include "sockets.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <poll.h>

enum { BIG = 3 << 20 };

struct pair {
	int c, s; /* client's and server's end */
};

static int listener4, listener6, deaf;
static char *big, *got;

static int listening(int family, int port)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = must(socket(family, SOCK_STREAM, 0));

	sk_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	must(family == AF_INET ? bind(fd, (struct sockaddr *)&four, sizeof(four))
			       : bind(fd, (struct sockaddr *)&six, sizeof(six)));
	must(listen(fd, 10));
	return fd;
}

static int start_connect(int family, int port, int flags)
{
	struct sockaddr_in four = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 six = {
		.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
	int fd = must(socket(family, SOCK_STREAM | flags, 0));
	int r = family == AF_INET ? connect(fd, (struct sockaddr *)&four, sizeof(four))
				  : connect(fd, (struct sockaddr *)&six, sizeof(six));

	check(r == 0 || (flags && errno == EINPROGRESS), "connect: %m");
	return fd;
}

static struct pair connected(int family, int listener, int port)
{
	struct pair p = {.c = start_connect(family, port, 0)};

	p.s = must(accept(listener, NULL, NULL));
	return p;
}

static void lose(int fd, bool on)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = {1, &drop};

	must(setsockopt(fd, SOL_SOCKET, on ? SO_ATTACH_FILTER : SO_DETACH_FILTER, &program, sizeof(program)));
}

static int state(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	must(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	return info.tcpi_state;
}

static void has_state(int fd, int want)
{
	check(state(fd) == want, "fd %d is in state %d, not %d", fd, state(fd), want);
}

static void wait_for(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	check(poll(&p, 1, 20000) == 1, "fd %d does not become ready: state %d", fd, state(fd));
}

static void reads(int fd, const char *text)
{
	wait_for(fd, POLLIN);
	sk_expect(fd, text);
}

static void reads_end(int fd)
{
	char c;

	wait_for(fd, POLLIN);
	check(recv(fd, &c, 1, 0) == 0, "fd %d: no end: %m", fd);
}

static void talk(struct pair p, const char *what)
{
	char text[64];

	snprintf(text, sizeof(text), "%s to the server", what);
	sk_send(p.c, text);
	reads(p.s, text);
	snprintf(text, sizeof(text), "%s to the client", what);
	sk_send(p.s, text);
	reads(p.c, text);
}

static void close_pair(struct pair p)
{
	struct linger now = {1, 0}; /* no TIME_WAIT */

	setsockopt(p.c, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(p.c);
	close(p.s);
}

/* As much as goes in, and a little more when there is room. */
static size_t fill(int fd)
{
	size_t n = 0;

	while (n < BIG) {
		ssize_t k = send(fd, big + n, BIG - n, MSG_DONTWAIT);

		if (k < 0)
			break;
		n += k;
	}
	return n;
}

static void reads_big(int fd, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t k;

		wait_for(fd, POLLIN);
		k = recv(fd, got + done, n - done, 0);
		check(k > 0, "after %zu of %zu bytes: %zd, %m", done, n, k);
		done += k;
	}
	check(memcmp(got, big, n) == 0, "%zu bytes came, but others", n);
}

static struct pair idle4, idle6, mapped, unread, full, half, lost_data, lost_fin, both_fins, last_ack,
	reading, ended, fast;
static struct pair grown;
static size_t full_bytes, half_bytes, grown_bytes;
static int asking, reset;
static struct sockaddr_in idle_name;
static struct tcp_info idle_info;

static void set_up_plain(void)
{
	socklen_t len = sizeof(idle_name);

	idle4 = connected(AF_INET, listener4, 7001);
	must(getsockname(idle4.c, (struct sockaddr *)&idle_name, &len));
	talk(idle4, "first");
	len = sizeof(idle_info);
	must(getsockopt(idle4.c, IPPROTO_TCP, TCP_INFO, &idle_info, &len));
	idle6 = connected(AF_INET6, listener6, 7002);
	mapped = connected(AF_INET, listener6, 7002);
	unread = connected(AF_INET, listener4, 7001);
	sk_send(unread.c, "not read yet");
	sk_send(unread.s, "neither this");
	fast = connected(AF_INET, listener4, 7001);
	sk_set(fast.c, IPPROTO_TCP, TCP_NODELAY, 1);
	sk_set(fast.c, IPPROTO_TCP, TCP_KEEPIDLE, 40);
	sk_set(fast.c, SOL_SOCKET, SO_KEEPALIVE, 1);
	sk_set(fast.c, IPPROTO_TCP, TCP_USER_TIMEOUT, 54321);
	must(setsockopt(fast.c, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	sk_set(fast.s, IPPROTO_TCP, TCP_CORK, 1);
	sk_send(fast.s, "corked ");
}

static void set_up_closing(void)
{
	full = connected(AF_INET, listener4, 7001);
	full_bytes = fill(full.c);
	check(full_bytes > 1 << 17, "only %zu bytes fit", full_bytes);
	/* More unread than anybody may ask room for who is not root of the machine. */
	grown = connected(AF_INET, listener4, 7001);
	sk_set(grown.s, SOL_SOCKET, SO_RCVLOWAT, 1 << 20);
	grown_bytes = 0;
	for (int i = 0; i < 2000 && grown_bytes < 1 << 20; i++) {
		ssize_t n = send(grown.c, big + grown_bytes, (1 << 20) - grown_bytes, MSG_DONTWAIT);

		grown_bytes += n > 0 ? n : 0;
		cr_msleep(n > 0 ? 0 : 5);
	}
	check(grown_bytes == 1 << 20, "only %zu bytes fit", grown_bytes);
	wait_for(grown.s, POLLIN);
	sk_set(grown.s, SOL_SOCKET, SO_RCVLOWAT, 1);
	half = connected(AF_INET6, listener6, 7002);
	sk_send(half.s, "after this the end");
	must(shutdown(half.s, SHUT_WR));
	half_bytes = fill(half.c);
	must(shutdown(half.c, SHUT_WR)); /* the FIN waits behind the data */
	reading = connected(AF_INET, listener4, 7001);
	must(shutdown(reading.c, SHUT_WR));
	must(shutdown(reading.s, SHUT_RD));
	ended = connected(AF_INET, listener4, 7001);
	sk_send(ended.c, "last words");
	must(shutdown(ended.c, SHUT_WR));
	reads(ended.s, "last words");
	sk_send(ended.s, "answer to them");
	must(shutdown(ended.s, SHUT_WR));
	for (int i = 0; i < 1000 && (state(ended.c) != TCP_CLOSE || state(ended.s) != TCP_CLOSE); i++)
		cr_msleep(1);
}

static void set_up_lost(void)
{
	struct pair p = connected(AF_INET, listener4, 7001);

	sk_send(p.c, "never read"); /* closing with it makes a reset */
	wait_for(p.s, POLLIN);
	close(p.s);
	reset = p.c;
	wait_for(reset, POLLIN);
	check(recv(reset, &(char){0}, 1, 0) == -1 && errno == ECONNRESET, "no reset: %m");
	lost_data = connected(AF_INET, listener4, 7001);
	lose(lost_data.s, true);
	sk_send(lost_data.c, "on its way");
	lost_fin = connected(AF_INET6, listener6, 7002);
	lose(lost_fin.s, true);
	must(shutdown(lost_fin.c, SHUT_WR));
	both_fins = connected(AF_INET, listener4, 7001);
	lose(both_fins.s, true);
	must(shutdown(both_fins.c, SHUT_WR));
	must(shutdown(both_fins.s, SHUT_WR));
	last_ack = connected(AF_INET, listener4, 7001);
	must(shutdown(last_ack.s, SHUT_WR));
	for (int i = 0; i < 1000 && state(last_ack.s) != TCP_FIN_WAIT2; i++)
		cr_msleep(1);
	lose(last_ack.s, true);
	must(shutdown(last_ack.c, SHUT_WR));
	lose(deaf, true);
	asking = start_connect(AF_INET, 7003, SOCK_NONBLOCK);
	cr_msleep(cr_emulated() ? 6000 : 1300);
	lose(lost_data.s, false);
	lose(lost_fin.s, false);
	lose(both_fins.s, false);
	lose(last_ack.s, false);
	has_state(lost_data.c, TCP_ESTABLISHED);
	has_state(lost_fin.c, TCP_FIN_WAIT1);
	has_state(both_fins.c, TCP_CLOSING);
	has_state(both_fins.s, TCP_FIN_WAIT1);
	has_state(last_ack.c, TCP_LAST_ACK);
	has_state(last_ack.s, TCP_FIN_WAIT2);
	has_state(asking, TCP_SYN_SENT);
}

static void check_plain(void)
{
	char congestion[32] = "";
	struct sockaddr_in name;
	struct tcp_info info;
	socklen_t len = sizeof(name);

	must(getsockname(idle4.c, (struct sockaddr *)&name, &len));
	check(!memcmp(&name, &idle_name, len), "the address has changed");
	must(getpeername(idle4.s, (struct sockaddr *)&name, &len));
	check(!memcmp(&name, &idle_name, len), "the peer's address has changed");
	len = sizeof(info);
	must(getsockopt(idle4.c, IPPROTO_TCP, TCP_INFO, &info, &len));
	check(info.tcpi_options == idle_info.tcpi_options &&
			info.tcpi_snd_wscale == idle_info.tcpi_snd_wscale &&
			info.tcpi_rcv_wscale == idle_info.tcpi_rcv_wscale,
		"options %x became %x", idle_info.tcpi_options, info.tcpi_options);
	check(info.tcpi_snd_mss >= (idle_info.tcpi_snd_mss < 32000 ? idle_info.tcpi_snd_mss : 32000),
		"mss %u became %u", idle_info.tcpi_snd_mss, info.tcpi_snd_mss);
	talk(idle4, "IPv4");
	talk(idle6, "IPv6");
	talk(mapped, "mapped");
	reads(unread.s, "not read yet");
	reads(unread.c, "neither this");
	talk(unread, "then");
	check(sk_int(fast.c, IPPROTO_TCP, TCP_NODELAY) == 1 &&
			sk_int(fast.c, IPPROTO_TCP, TCP_KEEPIDLE) == 40 &&
			sk_int(fast.c, SOL_SOCKET, SO_KEEPALIVE) == 1 &&
			sk_int(fast.c, IPPROTO_TCP, TCP_USER_TIMEOUT) == 54321,
		"options of the program");
	len = sizeof(congestion);
	must(getsockopt(fast.c, IPPROTO_TCP, TCP_CONGESTION, congestion, &len));
	check(!strcmp(congestion, "reno"), "congestion control %s", congestion);
	check(sk_int(fast.s, IPPROTO_TCP, TCP_CORK) == 1, "TCP_CORK");
	check(sk_int(fast.s, SOL_SOCKET, SO_REUSEADDR) == 1 && sk_int(fast.c, SOL_SOCKET, SO_REUSEADDR) == 0,
		"SO_REUSEADDR");
	sk_send(fast.s, "together");
	sk_set(fast.s, IPPROTO_TCP, TCP_CORK, 0);
	wait_for(fast.c, POLLIN);
	for (int i = 0; i < 1000 && recv(fast.c, got, 100, MSG_PEEK | MSG_DONTWAIT) != 15; i++)
		cr_msleep(1);
	reads(fast.c, "corked together");
	talk(fast, "fast");
}

static void check_closing(void)
{
	reads_big(full.s, full_bytes);
	talk(full, "full");
	reads_big(grown.s, grown_bytes);
	talk(grown, "grown");
	reads(half.c, "after this the end");
	reads_end(half.c);
	reads_big(half.s, half_bytes);
	reads_end(half.s);
	check(send(half.c, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "the closed half sends: %m");
	check(state(reading.c) == TCP_FIN_WAIT2 && state(reading.s) == TCP_CLOSE_WAIT, "states %d and %d",
		state(reading.c), state(reading.s));
	reads_end(reading.s);
	sk_send(reading.s, "the other way");
	reads(reading.c, "the other way");
	reads(ended.c, "answer to them");
	reads_end(ended.c);
	reads_end(ended.s);
	check(send(ended.s, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "the ended one sends: %m");
	check(state(ended.c) == TCP_CLOSE && state(ended.s) == TCP_CLOSE, "the ended one is in state %d",
		state(ended.c));
}

static void check_lost(void)
{
	reads_end(reset);
	reads(lost_data.s, "on its way");
	talk(lost_data, "lost");
	reads_end(lost_fin.s);
	sk_send(lost_fin.s, "back");
	reads(lost_fin.c, "back");
	reads_end(both_fins.c);
	reads_end(both_fins.s);
	reads_end(last_ack.c);
	reads_end(last_ack.s);
}

static void check_asking(void)
{
	struct pair p = {.c = asking};

	check(state(asking) == TCP_SYN_SENT, "the one that asks is in state %d", state(asking));
	lose(deaf, false);
	wait_for(deaf, POLLIN);
	p.s = must(accept(deaf, NULL, NULL));
	wait_for(asking, POLLOUT);
	check(sk_int(asking, SOL_SOCKET, SO_ERROR) == 0, "it failed");
	must(fcntl(asking, F_SETFL, 0));
	talk(p, "asked");
	close_pair(p);
}

int main(void)
{
	big = malloc(BIG);
	got = malloc(BIG);
	cr_fill(big, BIG, 7);
	listener4 = listening(AF_INET, 7001);
	listener6 = listening(AF_INET6, 7002);
	deaf = listening(AF_INET, 7003);
	for (;;) {
		struct pair *all[] = {&idle4, &idle6, &mapped, &unread, &full, &half, &lost_data, &lost_fin,
			&both_fins, &last_ack, &reading, &ended, &fast, &grown};

		set_up_plain();
		set_up_closing();
		set_up_lost();
		if (!cr_wait())
			break;
		check_plain();
		check_closing();
		check_lost();
		check_asking();
		close(reset);
		for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
			close_pair(*all[i]);
		/* The listeners serve on. */
		idle4 = connected(AF_INET, listener4, 7001);
		talk(idle4, "new");
		close_pair(idle4);
	}
	return 0;
}
