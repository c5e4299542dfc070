/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs about sockets share. A name that begins with "@" is abstract. */
#pragma once

#include "cr.h"
#include <sys/socket.h>
#include <sys/un.h>

static CR_UNUSED socklen_t un_address(struct sockaddr_un *a, const char *name)
{
	memset(a, 0, sizeof(*a));
	a->sun_family = AF_UNIX;
	snprintf(a->sun_path, sizeof(a->sun_path), "%s", name);
	if (name[0] == '@')
		a->sun_path[0] = 0;
	return offsetof(struct sockaddr_un, sun_path) + strlen(name) + (name[0] == '@' ? 0 : 1);
}

static CR_UNUSED int un_bound(int type, const char *name)
{
	int fd = must(socket(AF_UNIX, type, 0));
	struct sockaddr_un a;
	socklen_t len = un_address(&a, name);

	must(bind(fd, (struct sockaddr *)&a, len));
	return fd;
}

static CR_UNUSED int un_connect(int fd, const char *name)
{
	struct sockaddr_un a;
	socklen_t len = un_address(&a, name);

	return connect(fd, (struct sockaddr *)&a, len);
}

static CR_UNUSED int un_connected(int type, const char *name)
{
	int fd = must(socket(AF_UNIX, type, 0));

	must(un_connect(fd, name));
	return fd;
}

static CR_UNUSED void un_has_name(int fd, int peer, const char *name)
{
	struct sockaddr_un a, want;
	socklen_t len = sizeof(a), want_len = name[0] ? un_address(&want, name) : sizeof(sa_family_t);

	must(peer ? getpeername(fd, (struct sockaddr *)&a, &len)
		  : getsockname(fd, (struct sockaddr *)&a, &len));
	check(len == want_len && (!name[0] || !memcmp(&a, &want, len)),
		"fd %d: %s name is \"%.*s\", not \"%s\"", fd, peer ? "peer's" : "own", (int)len - 2,
		a.sun_path, name);
}

static CR_UNUSED void sk_send(int fd, const char *text)
{
	ssize_t n = send(fd, text, strlen(text), MSG_NOSIGNAL);

	check(n == (ssize_t)strlen(text), "send \"%s\" to fd %d: %m", text, fd);
}

static CR_UNUSED void sk_expect(int fd, const char *text)
{
	char buf[512];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

	check(n == (ssize_t)strlen(text) && !memcmp(buf, text, n),
		"fd %d: expected \"%s\", got %zd bytes \"%.*s\": %m", fd, text, n, n > 0 ? (int)n : 0, buf);
}

static CR_UNUSED void sk_expect_empty(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK);

	check(n == -1 && errno == EAGAIN, "fd %d: expected nothing, got %zd: %m", fd, n);
}

static CR_UNUSED int sk_int(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	must(getsockopt(fd, level, name, &v, &len));
	return v;
}

static CR_UNUSED void sk_set(int fd, int level, int name, int v)
{
	must(setsockopt(fd, level, name, &v, sizeof(v)));
}

static CR_UNUSED void sk_credentials(int fd, pid_t pid, uid_t uid, gid_t gid)
{
	struct ucred c;
	socklen_t len = sizeof(c);

	must(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &len));
	check(c.pid == pid && c.uid == uid && c.gid == gid,
		"fd %d: peer's credentials are pid %d uid %u gid %u", fd, c.pid, c.uid, c.gid);
}
