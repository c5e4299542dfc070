/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix datagram sockets: a pair; a named receiver with messages of nameless, named and vanished senders;
 * empty messages; a connection in one direction; credentials with a message.
 */
#include "sockets.h"

static void send_to(int fd, const char *text, const char *name)
{
	struct sockaddr_un a;
	socklen_t len = un_address(&a, name);

	must(sendto(fd, text, strlen(text), 0, (struct sockaddr *)&a, len));
}

static void expect_from(int fd, const char *text, const char *name)
{
	struct sockaddr_un a, want;
	socklen_t len = sizeof(a), want_len = name[0] ? un_address(&want, name) : 0;
	char buf[200];
	ssize_t n = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&a, &len);

	check(n == (ssize_t)strlen(text) && !memcmp(buf, text, n), "expected \"%s\", got %zd \"%.*s\"", text,
		n, n > 0 ? (int)n : 0, buf);
	check(len == want_len && (!name[0] || !memcmp(&a, &want, len)), "\"%s\" is not from \"%s\"", text,
		name);
}

static void expect_credentials(int fd, const char *text, pid_t pid)
{
	char buf[100], control[200];
	struct iovec iov = {buf, sizeof(buf)};
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(fd, &h, MSG_DONTWAIT);
	struct ucred c;

	check(n == (ssize_t)strlen(text), "%zd bytes for \"%s\"", n, text);
	check(CMSG_FIRSTHDR(&h) && CMSG_FIRSTHDR(&h)->cmsg_type == SCM_CREDENTIALS, "no credentials");
	memcpy(&c, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(c));
	check(c.pid == pid && c.uid == 0 && c.gid == 0, "credentials %d %u %u", c.pid, c.uid, c.gid);
}

static void ghost(void)
{
	int fd = un_bound(SOCK_DGRAM, "@ghost");

	send_to(fd, "from a ghost", "/tmp/log.sock");
	close(fd);
}

int main(void)
{
	int pair[2], log, sender, client, cred, mutual_a, mutual_b;
	char *big = malloc(60000);
	pid_t child;

	unlink("/tmp/log.sock");
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
	log = un_bound(SOCK_DGRAM, "/tmp/log.sock");
	sender = un_bound(SOCK_DGRAM, "@sender");
	client = un_connected(SOCK_DGRAM, "/tmp/log.sock");
	cred = un_bound(SOCK_DGRAM, "@cred");
	sk_set(cred, SOL_SOCKET, SO_PASSCRED, 1);
	mutual_a = un_bound(SOCK_DGRAM, "@a");
	mutual_b = un_bound(SOCK_DGRAM, "@b");
	must(un_connect(mutual_a, "@b"));
	must(un_connect(mutual_b, "@a"));
	cr_fill(big, 60000, 5);
	if ((child = cr_fork("child")) == 0) {
		send_to(sender, "from a child", "@cred");
		cr_idle();
	}
	cr_await("ready", 1, ".child");
	for (int round = 0;; round++) {
		sk_send(pair[0], "one");
		sk_send(pair[0], "three");
		must(send(pair[1], big, 60000, 0));
		sk_send(client, "nameless");
		send_to(sender, "named", "/tmp/log.sock");
		ghost();
		send_to(sender, "who", "@cred");
		sk_send(mutual_a, "a to b");
		if (!cr_wait())
			break;
		sk_expect(pair[1], "one");
		sk_expect(pair[1], "three");
		sk_expect_empty(pair[1]);
		check(recv(pair[0], big, 60000, MSG_DONTWAIT) == 60000 && cr_differs(big, 60000, 5) < 0,
			"the big one");
		expect_from(log, "nameless", "");
		expect_from(log, "named", "@sender");
		expect_from(log, "from a ghost", "@ghost");
		sk_expect_empty(log);
		if (round == 0)
			expect_credentials(cred, "from a child", child);
		expect_credentials(cred, "who", getpid());
		expect_from(mutual_b, "a to b", "@a");
		sk_send(client, "still connected");
		expect_from(log, "still connected", "");
		un_has_name(log, 0, "/tmp/log.sock");
		un_has_name(client, 1, "/tmp/log.sock");
	}
	return 0;
}
