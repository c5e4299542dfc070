/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,running,again,userns */
/*
 * UDP sockets that have sent to nobody: ECONNREFUSED waits in them, over IPv4, IPv6, and IPv4 in an IPv6 socket, and is
 * told once. Beside them one without an error.
 */
#include "sockets.h"

#include <arpa/inet.h>
#include <poll.h>

enum { PORT = 8765, SOCKETS = 4 };

static int connected(int family, const char *address)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
	int fd = must(socket(family, SOCK_DGRAM, 0));

	if (family == AF_INET) {
		inet_pton(AF_INET, address, &four.sin_addr);
		must(connect(fd, (struct sockaddr *)&four, sizeof(four)));
	} else {
		inet_pton(AF_INET6, address, &six.sin6_addr);
		must(connect(fd, (struct sockaddr *)&six, sizeof(six)));
	}
	return fd;
}

static bool has_error(int fd)
{
	struct pollfd p = {.fd = fd};

	return poll(&p, 1, 0) > 0 && p.revents & POLLERR;
}

static void expect_error(int fd, const char *name)
{
	char b[16];

	check(has_error(fd), "%s: no error waits", name);
	check(recv(fd, b, sizeof(b), MSG_DONTWAIT) == -1 && errno == ECONNREFUSED, "%s: %m", name);
	check(!has_error(fd), "%s: another error waits", name);
	check(recv(fd, b, sizeof(b), MSG_DONTWAIT) == -1 && errno == EAGAIN, "%s: then %m", name);
}

static void refuse(int fd)
{
	must(send(fd, "anybody?", 8, 0));
	for (int i = 0; i < 10000 && !has_error(fd); i++)
		usleep(1000);
	check(has_error(fd), "sending to nobody makes no error");
}

int main(void)
{
	static const char *const names[SOCKETS] = {"IPv4", "IPv6", "IPv4 in IPv6", "bound"};
	int fd[SOCKETS] = {connected(AF_INET, "127.0.0.1"), connected(AF_INET6, "::1"),
		connected(AF_INET6, "::ffff:127.0.0.2"), connected(AF_INET, "127.0.0.3")},
	    quiet = connected(AF_INET, "127.0.0.1");

	for (;;) {
		for (int i = 0; i < SOCKETS; i++)
			refuse(fd[i]);
		if (!cr_wait())
			break;
		for (int i = 0; i < SOCKETS; i++)
			expect_error(fd[i], names[i]);
		check(!has_error(quiet), "an error in the socket that had none");
	}
	return 0;
}
