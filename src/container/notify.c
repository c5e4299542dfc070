/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sd_notify(3): who started us wants to be told when the container's program is ready (NOTIFY_SOCKET; systemd's services of
 * Type=notify). As with runc the container gets a socket of its own, below /run/notify, and all that goes on from there
 * is the fact that it is ready, in our words, with the pid that its first process has on the host: what a container says
 * is not to be trusted.
 *
 * The directory is mounted when the container is created; the socket in it is bound by whoever starts the container.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/pty.h"

#define NOTIFY_DIR "notify"
#define NOTIFY_SOCKET "notify.sock"
enum { BARRIER_MS = 30000 };

static int add_mount(struct container *c, struct spec *s)
{
	struct spec_mount *all = arena_array(&s->arena, s->n_mounts + 1, sizeof(*all));
	const char *source = arena_printf(&s->arena, "%s/%s/" NOTIFY_DIR, c->root, c->id);

	if (!all || !source)
		return -ENOMEM;
	if (s->n_mounts)
		memcpy(all, s->mounts, s->n_mounts * sizeof(*all));
	all[s->n_mounts++] = (struct spec_mount){
		.destination = "/run/" NOTIFY_DIR,
		.source = source,
		.flags = MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
		.is_bind = true,
	};
	s->mounts = all;
	return 0;
}

static int add_variable(struct spec *s)
{
	size_t n = 0;
	char **env;

	while (s->process->env[n])
		n++;
	env = arena_array(&s->arena, n + 2, sizeof(*env));
	if (!env)
		return -ENOMEM;
	memcpy(env, s->process->env, n * sizeof(*env));
	env[n] = (char *)"NOTIFY_SOCKET=/run/" NOTIFY_DIR "/" NOTIFY_SOCKET;
	s->process->env = env;
	return 0;
}

int notify_prepare(struct container *c, struct spec *s, struct error *e)
{
	int r = mkdirat(c->dir_fd, NOTIFY_DIR, 0755) < 0 ? -errno : 0;

	if (r == 0)
		r = fchmodat(c->dir_fd, NOTIFY_DIR, 0755, 0) < 0 ? -errno : 0; /* whatever our umask is */
	if (r == 0)
		r = add_mount(c, s);
	if (r == 0)
		r = add_variable(s);
	return r < 0 ? error_errno(e, r, "NOTIFY_SOCKET for the container") : 0;
}

int container_notify_listen(struct container *c, struct error *e)
{
	_cleanup_close_ int dir =
		openat(c->dir_fd, NOTIFY_DIR, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_close_ int fd = -EBADF;
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (dir < 0) /* created without */
		return errno == ENOENT ? -EBADF : error_errno(e, -errno, "NOTIFY_SOCKET of the container");
	unlinkat(dir, NOTIFY_SOCKET, 0);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" NOTIFY_SOCKET, dir);
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || chmod(a.sun_path, 0777) < 0)
		return error_errno(e, -errno, "NOTIFY_SOCKET of the container");
	return take_fd(&fd);
}

bool container_notify_ready(int fd)
{
	char text[4096 + 1], *rest, *line;
	ssize_t n;

	while ((n = recv(fd, text, sizeof(text) - 1, 0)) >= 0) {
		text[n] = '\0';
		rest = text;
		while ((line = strsep(&rest, "\n")))
			if (!strcmp(line, "READY=1"))
				return true;
	}
	return false;
}

static int connect_host(const char *path, struct error *e)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	size_t n = strlen(path);

	if (n >= sizeof(a.sun_path))
		return error_errno(e, -ENAMETOOLONG, "NOTIFY_SOCKET %s", path);
	memcpy(a.sun_path, path, n);
	if (*path == '@') /* abstract */
		a.sun_path[0] = '\0';
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + n) < 0)
		return error_errno(e, -errno, "NOTIFY_SOCKET %s", path);
	return take_fd(&fd);
}

/* Our end of a pipe tells when the other has been taken out of the queue and closed: then what was sent before has been
 * worked on, though we may be gone by then, and with us what the sender is recognized by. */
static int wait_for_barrier(int socket)
{
	struct pollfd p = {.events = 0};
	int pair[2], r;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	r = socket_send_fd(socket, pair[1], "BARRIER=1");
	close(pair[1]);
	p.fd = pair[0];
	if (r == 0)
		(void)!poll(&p, 1, BARRIER_MS); /* an older systemd knows no barriers */
	close(pair[0]);
	return r;
}

int container_notify_host(const char *path, pid_t main_pid, struct error *e)
{
	_cleanup_close_ int fd = connect_host(path, e);
	char text[40];
	int r = 0;

	if (fd < 0)
		return fd;
	snprintf(text, sizeof(text), "MAINPID=%d\n", main_pid);
	if (send(fd, "READY=1\n", 8, MSG_NOSIGNAL) < 0 ||
		(main_pid && send(fd, text, strlen(text), MSG_NOSIGNAL) < 0))
		r = -errno;
	if (r == 0 && main_pid)
		r = wait_for_barrier(fd);
	return r < 0 ? error_errno(e, r, "tell NOTIFY_SOCKET %s", path) : 0;
}

int container_notify_relay(struct container *c, int fd, const char *path, struct error *e)
{
	_cleanup_close_ int pidfd = container_init_pidfd(c);
	struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};

	while (pidfd >= 0) {
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return error_errno(e, -errno, "poll");
		if (container_notify_ready(fd))
			return container_notify_host(path, c->init_pid, e);
		if (p[1].revents)
			break;
	}
	return 0; /* it has ended: whoever waits for the service sees that, too */
}
