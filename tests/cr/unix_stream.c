/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connected unix stream sockets: data on its way in both directions, between processes, a full queue, one
 * direction or one end closed, flags, options, and who made them.
 */
#include "sockets.h"

#include <poll.h>
#include <sys/epoll.h>

static int count(int fd)
{
	char buf[4096];
	ssize_t n;
	int total = 0;

	while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		total += n;
	return total;
}

static int fill(int fd)
{
	char buf[700] = "";
	int total = 0;
	ssize_t n;

	for (int i = 1; (n = send(fd, buf, 1 + i % 700, MSG_DONTWAIT)) > 0; i++)
		total += n;
	check(errno == EAGAIN, "fill: %m");
	return total;
}

int main(void)
{
	int both[2], child[2], full[2], half[2], closed[2], reset[2], total, ep;
	struct linger linger = {1, 9};
	struct timeval tv = {5, 0};
	struct epoll_event ev = {EPOLLIN, {.u64 = 77}};
	socklen_t len;
	char c;

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, both));
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, child));
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, full));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, half));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, closed));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, reset));
	if (cr_fork("child") == 0) {
		int own[2];

		close(child[0]);
		close(closed[1]);
		close(reset[1]);
		must(socketpair(AF_UNIX, SOCK_STREAM, 0, own));
		while (cr_wait()) {
			sk_expect(child[1], "question");
			sk_send(child[1], "answer");
			sk_credentials(child[1], getppid(), 0, 0);
			sk_credentials(own[0], getpid(), 0, 0);
			sk_credentials(own[1], getpid(), 0, 0);
		}
		return 0;
	}
	close(child[1]);
	sk_send(child[0], "question");
	sk_send(both[0], "hello ");
	sk_send(both[0], "world");
	sk_send(both[1], "and back");
	must(setsockopt(both[0], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	must(setsockopt(both[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)));
	sk_set(both[1], SOL_SOCKET, SO_PASSCRED, 1);
	sk_set(both[1], SOL_SOCKET, SO_RCVBUF, 50000);
	total = fill(full[0]);
	sk_send(half[0], "the end");
	must(shutdown(half[0], SHUT_WR));
	sk_send(closed[1], "last words");
	close(closed[1]);
	sk_send(reset[0], "never read");
	close(reset[1]);
	ep = must(epoll_create1(0));
	must(epoll_ctl(ep, EPOLL_CTL_ADD, both[1], &ev));
	for (int round = 0; cr_wait(); round++) {
		ev.data.u64 = 0;
		check(epoll_wait(ep, &ev, 1, 0) == 1 && ev.data.u64 == 77, "epoll does not see the data");
		sk_expect(both[1], "hello world");
		sk_expect(both[0], "and back");
		sk_expect_empty(both[0]);
		check(epoll_wait(ep, &ev, 1, 0) == 0, "epoll sees more than there is");
		sk_send(both[0], "hello ");
		sk_send(both[0], "world");
		check(epoll_wait(ep, &ev, 1, 0) == 1, "epoll does not see new data");
		sk_send(both[1], "and back");
		sk_credentials(both[0], getpid(), 0, 0);
		len = sizeof(linger);
		must(getsockopt(both[0], SOL_SOCKET, SO_LINGER, &linger, &len));
		check(linger.l_onoff == 1 && linger.l_linger == 9, "linger %d %d", linger.l_onoff,
			linger.l_linger);
		len = sizeof(tv);
		must(getsockopt(both[0], SOL_SOCKET, SO_SNDTIMEO, &tv, &len));
		check(tv.tv_sec == 5, "timeout %ld", (long)tv.tv_sec);
		check(sk_int(both[1], SOL_SOCKET, SO_PASSCRED) == 1, "SO_PASSCRED is gone");
		check(sk_int(both[1], SOL_SOCKET, SO_RCVBUF) == 100000, "SO_RCVBUF: %d",
			sk_int(both[1], SOL_SOCKET, SO_RCVBUF));
		check(fcntl(full[0], F_GETFL) & O_NONBLOCK && fcntl(full[1], F_GETFL) & O_NONBLOCK,
			"O_NONBLOCK is gone");
		check(!(fcntl(both[0], F_GETFL) & O_NONBLOCK), "O_NONBLOCK came from nowhere");
		check(fcntl(child[0], F_GETFD) == FD_CLOEXEC, "close-on-exec is gone");
		check(count(full[1]) == total, "the full queue has another length than %d", total);
		total = fill(full[0]);
		if (round == 0) {
			sk_expect(half[1], "the end");
			sk_expect(closed[0], "last words");
			check(recv(reset[0], &c, 1, MSG_DONTWAIT) == -1 && errno == ECONNRESET,
				"no reset: %m");
		}
		check(recv(half[1], &c, 1, MSG_DONTWAIT) == 0, "half closed: no end: %m");
		check(send(half[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE,
			"half closed: no EPIPE: %m");
		sk_send(half[1], "other way");
		sk_expect(half[0], "other way");
		check(recv(closed[0], &c, 1, MSG_DONTWAIT) == 0, "closed: no end: %m");
		check(recv(reset[0], &c, 1, MSG_DONTWAIT) == 0, "reset: no end: %m");
		while (recv(child[0], &c, 1, MSG_DONTWAIT | MSG_PEEK) != 1)
			cr_msleep(1);
		sk_expect(child[0], "answer");
		sk_send(child[0], "question");
	}
	return 0;
}
