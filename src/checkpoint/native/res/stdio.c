/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standard input, output and error of the container's init as its creator gave them. They belong to whoever restores
 * (row E1): descriptor 0-2 of the restored container are those of the restoring caller, and every process that shares
 * one shares it again.
 */
#include "checkpoint/native/res/res.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>

static bool is_terminal(const struct dump_file *f)
{
	unsigned m = major(f->st.st_rdev);

	return S_ISCHR(f->st.st_mode) && m >= 136 && m <= 143;
}

static bool mounted_in_container(const struct dump *d, int mnt_id)
{
	for (size_t i = 0; i < d->n_mounts; i++)
		if (d->mounts[i].id == mnt_id)
			return true;
	return false;
}

static int which(const struct dump *d, const struct dump_file *f)
{
	int found = -1;

	if (f->fd < 0)
		return -1;
	for (int i = 0; i < 3; i++) {
		if (!d->c->stdio[i] || strcmp(d->c->stdio[i], f->link) != 0)
			continue;
		if (found < 0 || (f->proc == &d->procs[0] && f->fd == i))
			found = i;
	}
	return found;
}

static bool match(const struct dump *d, const struct dump_file *f)
{
	if (which(d, f) < 0)
		return false;
	/* A pipe's or socket's name is unique; a path could also be a file of the container's own. */
	return f->link[0] != '/' || is_terminal(f) || !mounted_in_container(d, f->info.mnt_id);
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__Stdio *m = pb_new(&d->arena, Stdio, stdio);
	struct termios2_bytes {
		char bytes[64];
	} t;
	struct winsize ws;

	if (!m)
		return error_errno(e, -ENOMEM, "stdio");
	m->fd = which(d, f);
	if (is_terminal(f) && ioctl(f->local, 0x802c542a /* TCGETS2 */, &t) == 0 &&
		ioctl(f->local, TIOCGWINSZ, &ws) == 0) {
		m->termios.data = arena_memdup(&d->arena, &t, 44);
		m->termios.len = 44;
		m->winsize.data = arena_memdup(&d->arena, &ws, sizeof(ws));
		m->winsize.len = sizeof(ws);
		if (!m->termios.data || !m->winsize.data)
			return error_errno(e, -ENOMEM, "stdio");
	}
	f->msg->kind_case = ST__FILE__KIND_STDIO;
	f->msg->stdio = m;
	return 0;
}

static int open_stdio(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	int fd = fcntl(m->stdio->fd, F_DUPFD_CLOEXEC, 3);

	if (m->stdio->fd > 2)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "stdio descriptor %u", m->stdio->fd);
	if (fd < 0)
		return error_errno(e, -errno, "descriptor %u of the caller", m->stdio->fd);
	if (m->stdio->termios.len == 44 && isatty(fd)) {
		ioctl(fd, 0x402c542b /* TCSETS2 */, m->stdio->termios.data);
		if (m->stdio->winsize.len == sizeof(struct winsize))
			ioctl(fd, TIOCSWINSZ, m->stdio->winsize.data);
	}
	*ret_fd = fd;
	return 0;
}

extern const struct resource resource_stdio;
const struct resource resource_stdio = {
	.kind = "stdio",
	.description = "stdin, stdout and stderr given by the caller; the container's console",
	.kind_case = ST__FILE__KIND_STDIO,
	.match = match,
	.dump = dump,
	.open = open_stdio,
};
