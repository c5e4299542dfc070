/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,running,again,lazy,userns */
/*
 * A backlog with clients that have sent something, a little or a lot, before anybody accepted them; some have closed their end since, or have
 * ended. Each is accepted in its turn, with its credentials, its name, and what it had sent.
 */
#include "sockets.h"

#include <grp.h>

enum { BIG = 150000 };

static const char path[] = "/tmp/gone.sock", name[] = "/tmp/gone.client";
static char big[BIG];
static pid_t pids[2];

/* A client that sends and ends, as another user. */
static pid_t one_that_goes(uid_t user, const char *from, const char *text)
{
	pid_t pid = must(fork());

	if (pid == 0) {
		gid_t groups[] = {user, 4711};
		int fd = from ? un_bound(SOCK_STREAM, from) : must(socket(AF_UNIX, SOCK_STREAM, 0));

		if (user) {
			must(setgroups(2, groups));
			must(setresgid(user + 1, user + 1, user + 1));
			must(setresuid(user, user, user));
		}
		must(un_connect(fd, path));
		sk_send(fd, text);
		_exit(0);
	}
	must(waitpid(pid, NULL, 0));
	return pid;
}

static void send_big(int fd)
{
	for (int i = 0; i < BIG; i++)
		big[i] = (char)(i * 7 + i / 251);
	check(send(fd, big, BIG, 0) == BIG, "send: %m");
}

static void expect_big(int fd)
{
	static char got[BIG + 1];
	ssize_t n = recv(fd, got, sizeof(got), MSG_WAITALL | MSG_DONTWAIT);

	check(n == BIG && !memcmp(got, big, BIG), "%zd of %d bytes came", n, BIG);
}

/* What SO_PASSCRED adds. */
static void expect_from(int fd, const char *text, pid_t pid, uid_t uid)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred))] = {};
	char buf[64];
	struct iovec iov = {buf, sizeof(buf)};
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &h, MSG_DONTWAIT);
	struct ucred c = {};

	check(n == (ssize_t)strlen(text) && !memcmp(buf, text, n), "expected \"%s\", got %zd bytes", text, n);
	check(CMSG_FIRSTHDR(&h) != NULL, "there are no credentials");
	memcpy(&c, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(c));
	check(c.pid == pid && c.uid == uid, "sent by pid %d uid %u, not %d %u", c.pid, c.uid, pid, uid);
}

static void set_up(int packets, int *living, int *half)
{
	int fd;

	pids[0] = one_that_goes(1234, NULL, "from 1234");
	*living = un_connected(SOCK_STREAM, path);
	sk_send(*living, "hello");
	send_big(*living);
	unlink(name);
	pids[1] = one_that_goes(0, name, "from root");
	fd = un_connected(SOCK_STREAM, path); /* gone, but its process is not */
	send_big(fd);
	close(fd);
	*half = un_connected(SOCK_STREAM, path);
	sk_send(*half, "half");
	must(shutdown(*half, SHUT_WR));
	fd = un_connected(SOCK_SEQPACKET, "@gone");
	sk_send(fd, "one");
	sk_send(fd, "");
	sk_send(fd, "two");
	close(fd);
	(void)packets;
}

static int next(int listener)
{
	return must(accept(listener, NULL, NULL));
}

static void expect_end(int fd)
{
	check(recv(fd, &(char){0}, 1, MSG_DONTWAIT) == 0, "fd %d has not ended: %m", fd);
}

static void verify(int listener, int packets, int living, int half)
{
	struct ucred c;
	gid_t groups[8];
	socklen_t len = sizeof(groups);
	int s = next(listener);

	sk_credentials(s, pids[0], 1234, 1235);
	must(getsockopt(s, SOL_SOCKET, SO_PEERGROUPS, groups, &len));
	check(len == 2 * sizeof(gid_t) && groups[1] == 4711, "%zu groups", len / sizeof(gid_t));
	check(sk_int(s, SOL_SOCKET, SO_PASSCRED) == 1, "SO_PASSCRED is off");
	expect_from(s, "from 1234", pids[0], 1234);
	expect_end(s);
	check(send(s, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE, "sent to one that is gone: %m");
	close(s);
	s = next(listener);
	sk_set(s, SOL_SOCKET, SO_PASSCRED, 0);
	sk_credentials(s, getpid(), 0, 0);
	must(recv(s, big, 5, 0));
	check(!memcmp(big, "hello", 5), "no hello");
	memset(big, 0, 5);
	for (int i = 0; i < BIG; i++)
		big[i] = (char)(i * 7 + i / 251);
	expect_big(s);
	sk_expect_empty(s);
	sk_send(s, "answer");
	sk_expect(living, "answer");
	close(s);
	s = next(listener);
	un_has_name(s, 1, name);
	sk_credentials(s, pids[1], 0, 0);
	expect_from(s, "from root", pids[1], 0);
	expect_end(s);
	close(s);
	s = next(listener);
	un_has_name(s, 1, "");
	sk_set(s, SOL_SOCKET, SO_PASSCRED, 0);
	expect_big(s);
	expect_end(s);
	close(s);
	s = next(listener);
	expect_from(s, "half", getpid(), 0);
	expect_end(s);
	sk_send(s, "answer");
	sk_expect(half, "answer");
	close(s);
	check(accept(listener, NULL, NULL) == -1 && errno == EAGAIN, "there is one more");
	s = next(packets);
	check(sk_int(s, SOL_SOCKET, SO_PASSCRED) == 0, "SO_PASSCRED is on");
	sk_expect(s, "one");
	sk_expect(s, "");
	sk_expect(s, "two");
	expect_end(s);
	len = sizeof(c);
	must(getsockopt(s, SOL_SOCKET, SO_PEERCRED, &c, &len));
	check(c.pid == getpid(), "packets of %d", c.pid);
	close(s);
	close(living);
	close(half);
	check(access(name, F_OK) == 0, "the file of the client's name is gone");
}

int main(void)
{
	int listener = un_bound(SOCK_STREAM, path), packets = un_bound(SOCK_SEQPACKET, "@gone"), living, half;

	must(chmod("/tmp", 01777));
	must(chmod(path, 0777));
	must(fcntl(listener, F_SETFL, O_NONBLOCK));
	must(listen(listener, 8));
	must(listen(packets, 8));
	sk_set(listener, SOL_SOCKET, SO_PASSCRED, 1);
	set_up(packets, &living, &half);
	/* Since Linux 6.16 the listener's options are those of who connects afterwards. */
	while (cr_wait()) {
		verify(listener, packets, living, half);
		set_up(packets, &living, &half);
	}
	return 0;
}
