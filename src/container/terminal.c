/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's terminal: a pty of its own devpts instance, made by init. The slave is fds 0-2 and the controlling
 * terminal; the master is sent, with its name, over a unix socket to whoever will read it (conmon, containerd's shim,
 * or our own foreground command).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/mountfd.h"
#include "linux/pty.h"

int terminal_connect(const char *path, struct error *e)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), file = -EBADF;
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (fd < 0)
		return error_errno(e, -errno, "socket");
	/* through an O_PATH descriptor: the path may be longer than sun_path */
	file = open(path, O_PATH | O_CLOEXEC);
	if (file < 0)
		return error_errno(e, -errno, "socket %s", path);
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d", file);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return error_errno(e, -errno, "connect to socket %s", path);
	return take_fd(&fd);
}

int send_pidfd(const char *path, int pidfd, struct error *e)
{
	_cleanup_close_ int socket = terminal_connect(path, e);
	int r;

	if (socket < 0)
		return error_prefix(e, "pidfd socket");
	r = socket_send_fd(socket, pidfd, "pidfd");
	return r < 0 ? error_errno(e, r, "send the pidfd to %s", path) : 0;
}

static int open_master(int root)
{
	/* /dev/ptmx is a link to pts/ptmx in a container; a bind-mounted /dev has the host's node */
	_cleanup_close_ int fd = open_in_root(root, "/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK, 0);
	struct stat st;

	if (fd == -ENOENT)
		fd = open_in_root(root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	/* the container may have put anything there */
	if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2))
		return -ENOTTY;
	return fcntl(fd, F_SETFL, O_RDWR) < 0 ? -errno : take_fd(&fd);
}

/* What is mounted is the slave itself, no path of the container's; where, a link of the image may say, but not in /proc
 * (CVE-2025-52565). */
static int bind_console(int root, int slave, struct error *e)
{
	_cleanup_close_ int tree = -EBADF, target = make_file_in_root(root, "/dev/console");
	int r;

	if (target < 0)
		return error_errno(e, target, "make /dev/console");
	r = rootfs_check_target(target, "/dev/console", e);
	if (r < 0)
		return r;
	tree = mount_clone(slave, "", false);
	r = tree < 0 ? tree : mount_attach(tree, target);
	return r < 0 ? error_errno(e, r, "mount the terminal on /dev/console") : 0;
}

void terminal_use_size(struct spec_process *p, struct console_size size)
{
	if (!size.height && !size.width)
		return;
	p->console_height = size.height;
	p->console_width = size.width;
}

static int use_slave(int slave, const struct spec_process *p)
{
	if (p->console_height || p->console_width) {
		int r = pty_set_size(slave, p->console_height, p->console_width);

		if (r < 0)
			return r;
	}
	if (fchown(slave, p->uid, -1) < 0 && errno != EPERM && errno != EINVAL)
		return -errno;
	for (int fd = 0; fd < 3; fd++)
		if (dup2(slave, fd) < 0)
			return -errno;
	return ioctl(0, TIOCSCTTY, 0) < 0 ? -errno : 0;
}

int terminal_set_up(
	int root, const struct spec_process *p, int socket, bool console, int *ret_master, struct error *e)
{
	_cleanup_close_ int master = open_master(root), slave = -EBADF;
	int r;

	if (master < 0)
		return error_errno(e, master, "open the container's /dev/ptmx");
	slave = pty_open_slave(master);
	if (slave < 0)
		return error_errno(e, slave, "open the terminal");
	if (console) {
		r = bind_console(root, slave, e);
		if (r < 0)
			return r;
	}
	r = socket_send_fd(socket, master, "/dev/ptmx");
	if (r < 0)
		return error_errno(e, r, "send the terminal to the console socket");
	r = use_slave(slave, p);
	if (r < 0)
		return error_errno(e, r, "take the terminal");
	if (ret_master)
		*ret_master = take_fd(&master);
	return 0;
}
