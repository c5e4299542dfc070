/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of the native engine without a container around them: a child makes sockets in a network
 * namespace of its own and stops; they are dumped from outside; another child restores them in a new
 * namespace, where the same check is run on the same numbers.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/res/socket.h"
#include "linux/unixbacklog.h"
#include "tap.h"

enum { FIRST = 10, MAX_FDS = 64 };

struct scenario {
	const char *name;
	/* Makes sockets at FIRST and up; returns how many. */
	int (*make)(void);
	void (*check)(void);
	const char *refused; /* part of the reason, or NULL */
	bool tcp_close, tcp_established, ext_unix_sk;
	bool looks; /* by BPF: refused where a kernel does not let us */
};

static char dir[] = "/tmp/stasis-sockets-XXXXXX";

static _Noreturn __attribute__((format(printf, 2, 3))) void fail(int line, const char *format, ...)
{
	va_list ap;

	printf("# line %d: ", line);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf(" (%m)\n");
	fflush(stdout);
	_exit(1);
}

#define must(cond)                                                                                           \
	do {                                                                                                 \
		if (!(cond))                                                                                 \
			fail(__LINE__, "%s", #cond);                                                         \
	} while (0)

static int place(int fd, int n)
{
	must(fd >= 0 && dup2(fd, FIRST + n) == FIRST + n);
	close(fd);
	return FIRST + n;
}

static void new_network(void)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING};
	int fd;

	must(unshare(CLONE_NEWNET) == 0);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	must(ioctl(fd, SIOCSIFFLAGS, &ifr) == 0);
	close(fd);
}

static void pair_at(int type, int a, int b)
{
	int sv[2];

	must(socketpair(AF_UNIX, type, 0, sv) == 0);
	place(sv[0], a);
	place(sv[1], b);
}

static void expect(int fd, const char *text)
{
	char buf[256];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n != (ssize_t)strlen(text) || memcmp(buf, text, n) != 0)
		fail(__LINE__, "fd %d: got %zd bytes \"%.*s\", not \"%s\"", fd, n, (int)MAX(n, 0), buf, text);
}

static void expect_empty(int fd)
{
	char c;

	must(recv(fd, &c, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

static socklen_t unix_address(struct sockaddr_un *a, const char *name)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	if (name[0] == '@') {
		memcpy(a->sun_path + 1, name + 1, strlen(name) - 1);
		return offsetof(struct sockaddr_un, sun_path) + strlen(name);
	}
	snprintf(a->sun_path, sizeof(a->sun_path), "%s", name);
	return sizeof(*a);
}

static int named(int type, const char *name, int n)
{
	int fd = place(socket(AF_UNIX, type, 0), n);
	struct sockaddr_un a;
	socklen_t len = unix_address(&a, name);

	must(bind(fd, (struct sockaddr *)&a, len) == 0);
	return fd;
}

static int connected(int type, const char *name, int n)
{
	int fd = place(socket(AF_UNIX, type, 0), n);
	struct sockaddr_un a;
	socklen_t len = unix_address(&a, name);

	must(connect(fd, (struct sockaddr *)&a, len) == 0);
	return fd;
}

static void has_name(int fd, bool peer, const char *name)
{
	struct sockaddr_un a, b;
	socklen_t len = sizeof(a), want = unix_address(&b, name);

	must((peer ? getpeername(fd, (struct sockaddr *)&a, &len)
		   : getsockname(fd, (struct sockaddr *)&a, &len)) == 0);
	if (name[0] != '@')
		want = offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1;
	if (len != want || memcmp(&a, &b, len) != 0)
		fail(__LINE__, "fd %d: name of %u bytes %s", fd, len, a.sun_path + (name[0] == '@'));
}

/* --- unix --- */

static int make_pairs(void)
{
	pair_at(SOCK_STREAM, 0, 1);
	must(send(FIRST, "hello ", 6, 0) == 6 && send(FIRST, "world", 5, 0) == 5 &&
		send(FIRST + 1, "back", 4, 0) == 4);
	pair_at(SOCK_DGRAM, 2, 3);
	must(send(FIRST + 2, "one", 3, 0) == 3 && send(FIRST + 2, "", 0, 0) == 0 &&
		send(FIRST + 2, "three", 5, 0) == 5);
	pair_at(SOCK_SEQPACKET, 4, 5);
	must(send(FIRST + 4, "a", 1, 0) == 1 && send(FIRST + 4, "bc", 2, 0) == 2 &&
		shutdown(FIRST + 4, SHUT_WR) == 0);
	return 6;
}

static void check_pairs(void)
{
	struct ucred cred;

	expect(FIRST + 1, "hello world");
	expect(FIRST, "back");
	expect_empty(FIRST);
	expect(FIRST + 3, "one");
	expect(FIRST + 3, "");
	expect(FIRST + 3, "three");
	expect_empty(FIRST + 3);
	expect(FIRST + 5, "a");
	expect(FIRST + 5, "bc");
	expect(FIRST + 5, ""); /* shut down */
	must(send(FIRST + 4, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
	must(send(FIRST + 5, "y", 1, 0) == 1);
	expect(FIRST + 4, "y");
	must(getsockopt(FIRST, SOL_SOCKET, SO_PEERCRED, &cred, &(socklen_t){sizeof(cred)}) == 0);
	must(cred.uid == 0 && cred.pid > 0);
}

static int make_big(void)
{
	char buf[8192];

	pair_at(SOCK_STREAM, 0, 1);
	fcntl(FIRST, F_SETFL, O_NONBLOCK);
	memset(buf, 'x', sizeof(buf));
	for (int i = 0; send(FIRST, buf, 1 + i % 700, MSG_DONTWAIT) > 0; i++)
		;
	must(errno == EAGAIN);
	return 2;
}

static void check_big(void)
{
	char buf[8192];
	size_t total = 0;
	ssize_t n;

	while ((n = recv(FIRST + 1, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		total += n;
	if (total < 10000)
		fail(__LINE__, "only %zu bytes", total);
	must(fcntl(FIRST, F_GETFL) & O_NONBLOCK && !(fcntl(FIRST + 1, F_GETFL) & O_NONBLOCK));
}

static int make_closed(void)
{
	pair_at(SOCK_STREAM, 0, 1);
	must(send(FIRST + 1, "last words", 10, 0) == 10);
	close(FIRST + 1);
	pair_at(SOCK_STREAM, 1, 2);
	must(send(FIRST + 1, "never read", 10, 0) == 10);
	close(FIRST + 2);
	pair_at(SOCK_DGRAM, 2, 3);
	must(send(FIRST + 3, "bye", 3, 0) == 3);
	close(FIRST + 3);
	return 3;
}

static void check_closed(void)
{
	char c;

	expect(FIRST, "last words");
	must(recv(FIRST, &c, 1, MSG_DONTWAIT) == 0);
	must(recv(FIRST + 1, &c, 1, MSG_DONTWAIT) == -1 && errno == ECONNRESET);
	must(recv(FIRST + 1, &c, 1, MSG_DONTWAIT) == 0);
	expect(FIRST + 2, "bye");
	must(send(FIRST + 2, "x", 1, MSG_NOSIGNAL) == -1 && errno == ECONNREFUSED);
}

static int make_server(void)
{
	struct sockaddr_un a;
	socklen_t len;

	must(chdir(dir) == 0);
	must(listen(named(SOCK_STREAM, "server.sock", 0), 5) == 0);
	must(chmod("server.sock", 0640) == 0);
	/* 1 -> 2: an accepted connection, with a named client */
	place(socket(AF_UNIX, SOCK_STREAM, 0), 1);
	len = unix_address(&a, "@client-name");
	must(bind(FIRST + 1, (struct sockaddr *)&a, len) == 0);
	unix_address(&a, "server.sock");
	must(connect(FIRST + 1, (struct sockaddr *)&a, sizeof(a)) == 0);
	place(accept(FIRST, NULL, NULL), 2);
	must(send(FIRST + 1, "ping", 4, 0) == 4 && send(FIRST + 2, "pong", 4, 0) == 4);
	/* 3, 4: in the backlog, in this order */
	connected(SOCK_STREAM, "server.sock", 3);
	connected(SOCK_STREAM, "server.sock", 4);
	/* 5: abstract listener; 6, 7: a connection whose listener is gone */
	must(listen(named(SOCK_SEQPACKET, "@abstract", 5), 3) == 0);
	must(listen(named(SOCK_STREAM, "@gone", 8), 3) == 0);
	connected(SOCK_STREAM, "@gone", 6);
	place(accept(FIRST + 8, NULL, NULL), 7);
	close(FIRST + 8);
	/* 8: a listener whose file is removed, with an accepted connection 9, 10 */
	must(listen(named(SOCK_STREAM, "lost.sock", 8), 3) == 0);
	connected(SOCK_STREAM, "lost.sock", 9);
	place(accept(FIRST + 8, NULL, NULL), 10);
	must(unlink("lost.sock") == 0);
	/* 11: has the same name now; 12: bound elsewhere and renamed */
	must(listen(named(SOCK_STREAM, "lost.sock", 11), 3) == 0);
	must(listen(named(SOCK_STREAM, "tmp.sock", 12), 3) == 0);
	must(rename("tmp.sock", "final.sock") == 0);
	return 13;
}

static void check_server(void)
{
	struct sockaddr_un a;
	struct stat st;
	int fd, c;

	must(chdir(dir) == 0);
	has_name(FIRST, false, "server.sock");
	must(stat("server.sock", &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0640);
	expect(FIRST + 2, "ping");
	expect(FIRST + 1, "pong");
	has_name(FIRST + 1, false, "@client-name");
	has_name(FIRST + 2, true, "@client-name");
	has_name(FIRST + 1, true, "server.sock");
	has_name(FIRST + 2, false, "server.sock");
	must(send(FIRST + 3, "first", 5, 0) == 5 && send(FIRST + 4, "second", 6, 0) == 6);
	must((fd = accept(FIRST, NULL, NULL)) >= 0);
	expect(fd, "first");
	must((fd = accept(FIRST, NULL, NULL)) >= 0);
	expect(fd, "second");
	must(accept4(FIRST, NULL, NULL, 0) == -1 || !"a third client"); /* non-blocking, see below */
	must((c = socket(AF_UNIX, SOCK_SEQPACKET, 0)) >= 0);
	must(connect(c, (struct sockaddr *)&a, unix_address(&a, "@abstract")) == 0);
	must(send(FIRST + 6, "x", 1, 0) == 1);
	expect(FIRST + 7, "x");
	has_name(FIRST + 7, false, "@gone");
	has_name(FIRST + 6, true, "@gone");
	must(send(FIRST + 9, "y", 1, 0) == 1);
	expect(FIRST + 10, "y");
	has_name(FIRST + 9, true, "lost.sock");
	/* whoever connects now reaches the new one, and no temporary file is left */
	must((c = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
	must(connect(c, (struct sockaddr *)&a, unix_address(&a, "lost.sock")) == 0);
	must((fd = accept(FIRST + 11, NULL, NULL)) >= 0);
	must((c = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
	must(connect(c, (struct sockaddr *)&a, unix_address(&a, "final.sock")) == 0);
	must((fd = accept(FIRST + 12, NULL, NULL)) >= 0);
	must(access("tmp.sock", F_OK) < 0);
	must(system("[ $(ls -A | wc -l) = 3 ]") == 0);
}

static int make_server_nonblocking(void)
{
	int n = make_server();

	fcntl(FIRST, F_SETFL, O_NONBLOCK);
	return n;
}

static int make_datagrams(void)
{
	int fd, on = 1;
	struct sockaddr_un a;

	must(chdir(dir) == 0);
	named(SOCK_DGRAM, "log.sock", 0);
	connected(SOCK_DGRAM, "log.sock", 1);
	must(send(FIRST + 1, "nameless", 8, 0) == 8);
	named(SOCK_DGRAM, "@sender", 2);
	must(sendto(FIRST + 2, "named", 5, 0, (struct sockaddr *)&a, unix_address(&a, "log.sock")) == 5);
	fd = named(SOCK_DGRAM, "@ghost", 3);
	must(sendto(fd, "gone", 4, 0, (struct sockaddr *)&a, unix_address(&a, "log.sock")) == 4);
	close(fd);
	/* with credentials */
	named(SOCK_DGRAM, "@cred", 3);
	must(setsockopt(FIRST + 3, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
	must(sendto(FIRST + 2, "who", 3, 0, (struct sockaddr *)&a, unix_address(&a, "@cred")) == 3);
	return 4;
}

static void from(int fd, const char *text, const char *name)
{
	struct sockaddr_un a, b;
	socklen_t len = sizeof(a), want = name ? unix_address(&b, name) : 0;
	char buf[100];
	ssize_t n = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&a, &len);

	if (n != (ssize_t)strlen(text) || memcmp(buf, text, n) || len != want ||
		(name && memcmp(&a, &b, len)))
		fail(__LINE__, "datagram \"%s\": %zd bytes from a name of %u", text, n, len);
}

static void check_datagrams(void)
{
	char buf[100], control[100];
	struct iovec iov = {buf, sizeof(buf)};
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct ucred *cred;

	must(chdir(dir) == 0);
	from(FIRST, "nameless", NULL);
	from(FIRST, "named", "@sender");
	from(FIRST, "gone", "@ghost");
	expect_empty(FIRST);
	must(send(FIRST + 1, "still", 5, 0) == 5);
	from(FIRST, "still", NULL);
	must(recvmsg(FIRST + 3, &h, MSG_DONTWAIT) == 3 && CMSG_FIRSTHDR(&h));
	cred = (struct ucred *)CMSG_DATA(CMSG_FIRSTHDR(&h));
	must(cred->uid == 0 && cred->pid > 0);
}

static int make_identity(void)
{
	pid_t pid;

	must(chdir(dir) == 0 && chmod(dir, 0777) == 0);
	must(setresgid(1234, 1234, 1234) == 0 && seteuid(4321) == 0);
	must(listen(named(SOCK_STREAM, "@owned", 0), 5) == 0);
	pair_at(SOCK_STREAM, 1, 2);
	must(seteuid(0) == 0);
	connected(SOCK_STREAM, "@owned", 3);
	place(accept(FIRST, NULL, NULL), 4);
	pid = fork(); /* the client is another process, which is gone at the dump */
	if (pid == 0) {
		must(seteuid(77) == 0);
		connected(SOCK_STREAM, "@owned", 5);
		_exit(0);
	}
	must(waitpid(pid, NULL, 0) == pid);
	place(accept(FIRST, NULL, NULL), 5);
	return 6;
}

static void has_cred(int fd, uid_t uid, bool pid)
{
	struct ucred cred;

	must(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &(socklen_t){sizeof(cred)}) == 0);
	if (cred.uid != uid || cred.gid != 1234 || (pid && cred.pid == getpid()))
		fail(__LINE__, "fd %d: credentials %d %u %u", fd, cred.pid, cred.uid, cred.gid);
}

static void check_identity(void)
{
	has_cred(FIRST + 1, 4321, true);
	has_cred(FIRST + 2, 4321, true);
	has_cred(FIRST + 3, 4321, true);
	has_cred(FIRST + 4, 0, true);
	has_cred(FIRST + 5, 77, false);
}

static int make_options(void)
{
	struct linger linger = {1, 7};
	struct timeval tv = {3, 250000};
	int one = 1, size = 300000, low = 17, off = 2;

	pair_at(SOCK_STREAM, 0, 1);
	must(setsockopt(FIRST, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
	must(setsockopt(FIRST, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
	must(setsockopt(FIRST, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) == 0);
	must(setsockopt(FIRST, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)) == 0);
	must(setsockopt(FIRST, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)) == 0);
	must(setsockopt(FIRST + 1, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) == 0);
	must(send(FIRST + 1, "abcdef", 6, 0) == 6);
	return 2;
}

static void check_options(void)
{
	struct linger linger;
	struct timeval tv;
	int value;
	char buf[10];

	must(getsockopt(FIRST, SOL_SOCKET, SO_LINGER, &linger, &(socklen_t){sizeof(linger)}) == 0 &&
		linger.l_onoff && linger.l_linger == 7);
	must(getsockopt(FIRST, SOL_SOCKET, SO_RCVTIMEO, &tv, &(socklen_t){sizeof(tv)}) == 0 &&
		tv.tv_sec == 3 && tv.tv_usec > 200000);
	must(getsockopt(FIRST, SOL_SOCKET, SO_SNDBUF, &value, &(socklen_t){4}) == 0 && value == 600000);
	must(getsockopt(FIRST, SOL_SOCKET, SO_RCVLOWAT, &value, &(socklen_t){4}) == 0 && value == 17);
	must(getsockopt(FIRST + 1, SOL_SOCKET, SO_PASSCRED, &value, &(socklen_t){4}) == 0 && value == 1);
	must(recv(FIRST, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT) == 4 && !memcmp(buf, "cdef", 4));
}

/* --- refused --- */

static int make_outside(void)
{
	pair_at(SOCK_STREAM, 0, MAX_FDS + 5); /* the other end is not among those that are dumped */
	return 1;
}

static int make_waiting_data(void)
{
	must(listen(named(SOCK_STREAM, "@l", 0), 5) == 0);
	connected(SOCK_STREAM, "@l", 1);
	must(send(FIRST + 1, "x", 1, 0) == 1);
	return 2;
}

static void check_waiting_data(void)
{
	int fd = accept(FIRST, NULL, NULL);

	must(fd >= 0);
	expect(fd, "x");
	must(send(fd, "y", 1, 0) == 1);
	expect(FIRST + 1, "y");
}

static int make_waiting_closed(void)
{
	must(listen(named(SOCK_STREAM, "@l", 0), 5) == 0);
	must(send(connected(SOCK_STREAM, "@l", 1), "gone", 4, 0) == 4);
	close(FIRST + 1);
	return 1;
}

static void check_waiting_closed(void)
{
	int fd = accept(FIRST, NULL, NULL);
	char c;

	must(fd >= 0);
	expect(fd, "gone");
	must(recv(fd, &c, 1, MSG_DONTWAIT) == 0);
}

static int inet(int family, int type, int port, int n)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	int fd = place(socket(family, type, 0), n);

	if (port)
		must(bind(fd, family == AF_INET ? (struct sockaddr *)&four : (struct sockaddr *)&six,
			     family == AF_INET ? sizeof(four) : sizeof(six)) == 0);
	return fd;
}

static int reach_port(int fd, int port)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

static int make_established(void)
{
	must(listen(inet(AF_INET, SOCK_STREAM, 4000, 0), 5) == 0);
	must(reach_port(inet(AF_INET, SOCK_STREAM, 0, 1), 4000) == 0);
	place(accept(FIRST, NULL, NULL), 2);
	return 3;
}

static int make_unaccepted(void)
{
	must(listen(inet(AF_INET, SOCK_STREAM, 4000, 0), 5) == 0);
	must(reach_port(inet(AF_INET, SOCK_STREAM, 0, MAX_FDS + 5), 4000) == 0);
	return 1;
}

static int make_netlink(void)
{
	struct {
		struct nlmsghdr h;
		struct rtgenmsg g;
	} ask = {{sizeof(ask), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_UNSPEC}};

	must(send(place(socket(AF_NETLINK, SOCK_RAW, 0), 0), &ask, sizeof(ask), 0) == sizeof(ask));
	return 1;
}

/* --- inet --- */

static int make_inet(void)
{
	int one = 1, zero = 0, five = 5;

	must(listen(inet(AF_INET, SOCK_STREAM, 5001, 0), 77) == 0);
	must(setsockopt(FIRST, IPPROTO_TCP, TCP_NODELAY, &one, 4) == 0);
	must(setsockopt(FIRST, IPPROTO_TCP, TCP_DEFER_ACCEPT, &five, 4) == 0);
	must(setsockopt(FIRST, IPPROTO_TCP, TCP_FASTOPEN, &five, 4) == 0);
	place(socket(AF_INET6, SOCK_STREAM, 0), 1);
	must(setsockopt(FIRST + 1, IPPROTO_IPV6, IPV6_V6ONLY, &one, 4) == 0);
	must(setsockopt(FIRST + 1, SOL_SOCKET, SO_REUSEADDR, &one, 4) == 0);
	{
		struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(5001)};

		must(bind(FIRST + 1, (struct sockaddr *)&six, sizeof(six)) == 0 && listen(FIRST + 1, 5) == 0);
	}
	inet(AF_INET6, SOCK_STREAM, 5002, 2); /* bound, both families */
	must(listen(FIRST + 2, 5) == 0);
	inet(AF_INET, SOCK_STREAM, 5003, 3); /* bound only */
	inet(AF_INET, SOCK_STREAM, 0, 4);    /* fresh */
	must(setsockopt(FIRST + 4, SOL_SOCKET, SO_KEEPALIVE, &one, 4) == 0);
	for (int i = 5; i < 7; i++) { /* two that share a port */
		place(socket(AF_INET, SOCK_STREAM, 0), i);
		must(setsockopt(FIRST + i, SOL_SOCKET, SO_REUSEPORT, &one, 4) == 0);
		struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(5004)};

		must(bind(FIRST + i, (struct sockaddr *)&four, sizeof(four)) == 0 &&
			listen(FIRST + i, 5) == 0);
	}
	must(setsockopt(FIRST + 1, SOL_SOCKET, SO_REUSEADDR, &zero, 4) == 0);
	return 7;
}

static void check_inet(void)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);
	int v, fd;

	must(getsockopt(FIRST, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_state == TCP_LISTEN &&
		info.tcpi_sacked == 77);
	must(getsockopt(FIRST, IPPROTO_TCP, TCP_NODELAY, &v, &(socklen_t){4}) == 0 && v == 1);
	must(getsockopt(FIRST, IPPROTO_TCP, TCP_DEFER_ACCEPT, &v, &(socklen_t){4}) == 0 && v == 7);
	must(getsockopt(FIRST, IPPROTO_TCP, TCP_FASTOPEN, &v, &(socklen_t){4}) == 0 && v == 5);
	must(getsockopt(FIRST, SOL_SOCKET, SO_REUSEADDR, &v, &(socklen_t){4}) == 0 && v == 0);
	must(getsockopt(FIRST + 1, IPPROTO_IPV6, IPV6_V6ONLY, &v, &(socklen_t){4}) == 0 && v == 1);
	must(getsockopt(FIRST + 4, SOL_SOCKET, SO_KEEPALIVE, &v, &(socklen_t){4}) == 0 && v == 1);
	must((fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && reach_port(fd, 5001) == 0);
	must((fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && reach_port(fd, 5002) == 0);
	must((fd = accept(FIRST + 2, NULL, NULL)) >= 0);
	must((fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && reach_port(fd, 5003) == -1 &&
		errno == ECONNREFUSED);
	must(listen(FIRST + 3, 1) == 0);
	must((fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && reach_port(fd, 5003) == 0);
	must((fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && reach_port(fd, 5004) == 0);
}

static int make_udp(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(6001), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 six = {
		.sin6_family = AF_INET6, .sin6_port = htons(6003), .sin6_addr = in6addr_loopback};
	int fd;

	inet(AF_INET, SOCK_DGRAM, 6001, 0);
	must(reach_port(inet(AF_INET, SOCK_DGRAM, 6002, 1), 6001) == 0);
	must(send(FIRST + 1, "one", 3, 0) == 3);
	fd = inet(AF_INET, SOCK_DGRAM, 6009, 2);
	must(sendto(fd, "ghost", 5, 0, (struct sockaddr *)&a, sizeof(a)) == 5);
	close(fd);
	inet(AF_INET6, SOCK_DGRAM, 6003, 2);
	fd = inet(AF_INET6, SOCK_DGRAM, 6010, 3);
	must(sendto(fd, "six", 3, 0, (struct sockaddr *)&six, sizeof(six)) == 3);
	close(fd);
	a.sin_port = htons(6003);
	must(sendto(FIRST, "four to six", 11, 0, (struct sockaddr *)&a, sizeof(a)) == 11);
	inet(AF_INET, SOCK_DGRAM, 0, 3);
	return 4;
}

static void expect_udp(int fd, const char *text, int port)
{
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);
	char buf[100];
	ssize_t n = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&a, &len);

	if (n != (ssize_t)strlen(text) || memcmp(buf, text, n) || ntohs(a.sin6_port) != port)
		fail(__LINE__, "fd %d: %zd bytes from port %d, not \"%s\"", fd, n, ntohs(a.sin6_port), text);
}

static void check_udp(void)
{
	expect_udp(FIRST, "one", 6002);
	expect_udp(FIRST, "ghost", 6009);
	expect_udp(FIRST + 2, "six", 6010);
	expect_udp(FIRST + 2, "four to six", 6001);
	must(send(FIRST + 1, "two", 3, 0) == 3);
	expect_udp(FIRST, "two", 6002);
	expect_empty(FIRST);
	expect_empty(FIRST + 2);
	must(reach_port(FIRST + 3, 6001) == 0 && send(FIRST + 3, "x", 1, 0) == 1);
	expect(FIRST, "x");
}

/* --- options --- */

static void check_tcp_closed(void)
{
	struct tcp_info info;
	char c;
	int fd;

	must(getsockopt(FIRST, IPPROTO_TCP, TCP_INFO, &info, &(socklen_t){sizeof(info)}) == 0);
	must(info.tcpi_state == TCP_LISTEN && info.tcpi_unacked == 0);
	for (int i = 1; i < 3; i++)
		must(recv(FIRST + i, &c, 1, MSG_DONTWAIT) == -1 && errno == ENOTCONN);
	must((fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && reach_port(fd, 4000) == 0);
}

static const char *syslog_path(void)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/syslog.sock", dir);
	return path;
}

/* The namespace of the machine: a datagram socket of somebody else, by its path. */
static int make_external(void)
{
	must(chdir(dir) == 0);
	named(SOCK_DGRAM, syslog_path(), MAX_FDS + 5);
	connected(SOCK_DGRAM, syslog_path(), 0);
	return 1;
}

static void check_external(void)
{
	must(chdir(dir) == 0);
	has_name(FIRST, true, syslog_path());
}

/* --- the machinery --- */

static const struct scenario scenarios[] = {
	{"unix pairs with data and half closed", make_pairs, check_pairs, NULL},
	{"unix pair with a full queue", make_big, check_big, NULL},
	{"unix pairs of which one end is closed", make_closed, check_closed, NULL},
	{"unix servers, accepted and waiting clients", make_server_nonblocking, check_server, NULL},
	{"unix datagrams", make_datagrams, check_datagrams, NULL},
	{"unix credentials", make_identity, check_identity, NULL},
	{"socket options", make_options, check_options, NULL},
	{"TCP", make_inet, check_inet, NULL},
	{"UDP", make_udp, check_udp, NULL},
	{"refused: peer outside", make_outside, NULL, "outside"},
	{"data before accept", make_waiting_data, check_waiting_data, NULL, .looks = true},
	{"client left before accept", make_waiting_closed, check_waiting_closed, NULL, .looks = true},
	{"refused: TCP connection", make_established, NULL, "a TCP connection"},
	{"refused: TCP connection that waits", make_unaccepted, NULL, "wait to be accepted"},
	{"refused: netlink with an answer", make_netlink, NULL, "messages wait"},
	{"--tcp-close", make_established, check_tcp_closed, NULL, .tcp_close = true},
	{"refused: datagrams to the outside", make_external, NULL, "outside"},
	{"--ext-unix-sk needs the peer at restore", make_external, check_external, NULL, .ext_unix_sk = true},
};

/* Makes the sockets, says how many, and waits to be killed. */
static pid_t start(const struct scenario *s, int *ret_n)
{
	int p[2];
	pid_t pid;

	must(pipe2(p, O_CLOEXEC) == 0);
	pid = fork();
	if (pid == 0) {
		int n;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		new_network();
		n = s->make();
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* changing ids has reset it */
		must(write(p[1], &n, sizeof(n)) == sizeof(n));
		for (;;)
			pause();
	}
	close(p[1]);
	if (read(p[0], ret_n, sizeof(*ret_n)) != sizeof(*ret_n))
		*ret_n = -1;
	close(p[0]);
	return pid;
}

/* The two ways to look at a descriptor tell the same. */
static void compare_looks(const struct dump_file *a, const struct dump_file *b)
{
	must(a->st.st_dev == b->st.st_dev && a->st.st_ino == b->st.st_ino && a->st.st_mode == b->st.st_mode);
	must(strcmp(a->link, b->link) == 0);
	must(!a->protocol == !b->protocol && (!a->protocol || strcmp(a->protocol, b->protocol) == 0));
	must(a->info.flags == b->info.flags && a->info.pos == b->info.pos &&
		a->info.scm_fds == b->info.scm_fds);
}

static void describe(struct dump *d, struct dump_proc *p, int fd)
{
	struct dump_file *f = &d->files[d->n_files++];
	struct dump_file in_proc;
	struct error e;

	must(dump_view_fd(d, p, fd, false, 0, f, &e) == 0);
	p->by_proc = true;
	must(dump_view_fd(d, p, fd, false, 0, &in_proc, &e) == 0);
	p->by_proc = false;
	compare_looks(f, &in_proc);
	f->id = dump_new_id(d);
	f->msg = pb_new(&d->arena, File, file);
	f->msg->id = f->id;
	f->msg->flags = f->info.flags;
	for (size_t i = 0; i < resource_table_len && !f->resource; i++)
		if (resource_table[i]->match(d, f))
			f->resource = resource_table[i];
}

static bool dump_all(struct dump *d, struct error *e)
{
	int r = 0;

	d->stopped = true;
	for (size_t i = 0; i < d->n_files && r == 0; i++) {
		struct dump_file *f = &d->files[i];

		f->local = syscall(SYS_pidfd_getfd, f->proc->pidfd, f->fd, 0);
		r = f->resource->dump(d, f, e);
	}
	for (size_t i = 0; i < d->n_files && r == 0; i++)
		if (d->files[i].resource->link)
			r = d->files[i].resource->link(d, &d->files[i], e);
	for (size_t i = 0; i < d->n_files; i++)
		close_p(&d->files[i].local);
	return r == 0;
}

static _Noreturn void restore_and_check(const struct scenario *s, struct dump *d)
{
	const St__File *files[MAX_FDS];
	struct restore_options options = {.tcp_close = s->tcp_close};
	struct restore r = {.files = files, .n_files = d->n_files, .fd_base = 200, .options = &options};
	struct error e;

	new_network();
	if (s->make == make_external) { /* its server is there again */
		must(chdir(dir) == 0 && unlink("syslog.sock") == 0);
		named(SOCK_DGRAM, syslog_path(), MAX_FDS + 5);
	}
	must(chdir("/") == 0);
	for (size_t i = 0; i < r.n_files; i++)
		files[i] = d->files[i].msg;
	for (size_t i = 0; i < r.n_files; i++) {
		int fd;

		if (resource_find(files[i]->kind_case)->open(&r, files[i], &fd, &e) < 0)
			fail(__LINE__, "open: %s", e.message);
		fcntl(fd, F_SETFL, files[i]->flags & (O_NONBLOCK | O_APPEND));
		must(dup3(fd, r.fd_base + i, O_CLOEXEC) >= 0);
		close(fd);
	}
	for (size_t i = 0; i < r.n_files; i++)
		if (resource_find(files[i]->kind_case)->connect(&r, files[i], r.fd_base + i, &e) < 0)
			fail(__LINE__, "connect: %s", e.message);
	for (size_t i = 0; i < r.n_files; i++)
		must(dup2(r.fd_base + i, d->files[i].fd) >= 0 && close(r.fd_base + i) == 0);
	s->check();
	_exit(0);
}

static const char *refusal_of(struct dump *d)
{
	struct error e;

	for (size_t i = 0; i < d->n_files; i++) {
		const struct resource *res = d->files[i].resource;

		if (res->refused_reason)
			return res->refused_reason;
		if (res->check && res->check(d, &d->files[i], &e) < 0)
			return "the check failed";
	}
	return d->report->n ? d->report->obstacles[0].reason : NULL;
}

/* The container goes on after a checkpoint: all must be as before there as well. Runs in its namespaces. */
static _Noreturn void check_original(const struct scenario *s, struct dump *d)
{
	char path[64];
	int ns;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", d->procs[0].pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	must(ns >= 0 && setns(ns, CLONE_NEWNET) == 0);
	for (size_t i = 0; i < d->n_files; i++)
		must(place(syscall(SYS_pidfd_getfd, d->procs[0].pidfd, d->files[i].fd, 0),
			     d->files[i].fd - FIRST) >= 0);
	s->check();
	_exit(0);
}

static void run_child(const char *what, const struct scenario *s, struct dump *d,
	void (*run)(const struct scenario *, struct dump *))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		run(s, d);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "%s: %s: status %x", s->name, what, status);
}

/* Ours only: the test may run several times at once. */
static int remove_directory(void)
{
	char command[100];

	if (strstr(dir, "XXXXXX"))
		return 0;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static void run(const struct scenario *s)
{
	struct checkpoint_options options = {.tcp_close = s->tcp_close, .ext_unix_sk = s->ext_unix_sk};
	struct preflight_report report = {0};
	struct dump_proc proc = {.pidfd = -EBADF};
	struct dump_file files[MAX_FDS];
	struct spec spec = {0};
	struct container container = {.spec = &spec};
	struct dump d = {.c = &container,
		.options = &options,
		.report = &report,
		.procs = &proc,
		.n_procs = 1,
		.stopped = true,
		.files = files,
		DUMP_INIT};
	const char *reason;
	const char *refused = s->looks && !unix_backlog_is_readable() ? "accepted" : s->refused;
	struct error e = {.message = ""};
	int n, status;

	if (remove_directory() != 0 || (memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6), !mkdtemp(dir)))
		abort();
	proc.pid = proc.shown = proc.ns_pid = start(s, &n);
	proc.pidfd = syscall(SYS_pidfd_open, proc.pid, 0);
	if (CHECK(n > 0, "%s: could not be made", s->name) &&
		CHECK(proc_read_status(proc.pid, proc.pid, &d.arena, &proc.status) == 0)) {
		d.root_fd = open("/", O_PATH | O_DIRECTORY);
		must(proc_readlink(proc.pid, "ns/net", d.namespaces[0], sizeof(d.namespaces[0])) > 0);
		must(dump_view_begin(&d, &e) == 0);
		for (int i = 0; i < n; i++)
			describe(&d, &proc, FIRST + i);
		dump_view_end(&d);
		reason = refusal_of(&d);
		CHECK(refused ? reason && strstr(reason, refused) : !reason, "%s: %s", s->name,
			reason ? reason : "not refused");
		if (!refused && CHECK(dump_all(&d, &e), "%s: %s", s->name, e.message)) {
			if (s->make == make_identity || s->make == make_udp || s->make == make_pairs)
				run_child("the original", s, &d, check_original);
		}
	}
	kill(proc.pid, SIGKILL);
	waitpid(proc.pid, &status, 0);
	if (!refused && d.n_files && d.files[d.n_files - 1].msg->kind_case)
		run_child("restored", s, &d, restore_and_check);
	close_p(&proc.pidfd);
	close_p(&d.root_fd);
	close_p(&d.parent.fd);
	free(d.message);
	arena_done(&d.arena);
	preflight_report_done(&report);
}

#define SCENARIO(i)                                                                                          \
	static void run_##i(void)                                                                            \
	{                                                                                                    \
		run(&scenarios[i]);                                                                          \
	}
SCENARIO(0)
SCENARIO(1)
SCENARIO(2)
SCENARIO(3)
SCENARIO(4)
SCENARIO(5)
SCENARIO(6)
SCENARIO(7)
SCENARIO(8)
SCENARIO(9)
SCENARIO(10)
SCENARIO(11)
SCENARIO(12)
SCENARIO(13)
SCENARIO(14)
SCENARIO(15)
SCENARIO(16)
SCENARIO(17)

int main(void)
{
	static void (*const runs[])(void) = {run_0, run_1, run_2, run_3, run_4, run_5, run_6, run_7, run_8,
		run_9, run_10, run_11, run_12, run_13, run_14, run_15, run_16, run_17};
	struct tap_test tests[ARRAY_SIZE(scenarios)];
	int r;

	if (geteuid() != 0) {
		printf("1..0 # SKIP needs root\n");
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		tests[i] = (struct tap_test){scenarios[i].name, runs[i]};
	r = tap_main(tests, ARRAY_SIZE(tests));
	if (remove_directory() != 0)
		r = 1;
	return r;
}
