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
#include <unistd.h>

#define TCGETS2_NR 0x802c542a
#define TCSETS2_NR 0x402c542b

static bool is_terminal(const struct dump_file *f)
{
	unsigned m = major(f->st.st_rdev);

	return S_ISCHR(f->st.st_mode) && m >= 136 && m <= 143;
}

static bool mounted_in_container(const struct dump *d, int mnt_id)
{
	uint64_t any;

	return dump_mount_namespace(d, mnt_id, &any);
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
	if (f->link[0] != '/' || !mounted_in_container(d, f->info.mnt_id))
		return true;
	/* The console is the container's own, and what else opens it is another description (tty.c). */
	return is_terminal(f) && d->c->spec && d->c->spec->process && d->c->spec->process->terminal &&
	       f->proc == &d->procs[0] && f->fd <= 2;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__Stdio *m = pb_new(&d->arena, Stdio, stdio);
	char termios[TTY_TERMIOS];

	if (!m)
		return error_errno(e, -ENOMEM, "stdio");
	m->fd = which(d, f);
	/* The caller's own terminal, not a console of the container's: then its Pty has the settings. */
	if (is_terminal(f) && !mounted_in_container(d, f->info.mnt_id) &&
		ioctl(f->local, TCGETS2_NR, termios) == 0) {
		m->termios.data = arena_memdup(&d->arena, termios, sizeof(termios));
		m->termios.len = sizeof(termios);
		if (!m->termios.data)
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
	/* The size is that of the terminal where it goes on. */
	if (m->stdio->termios.len == TTY_TERMIOS && isatty(fd))
		(void)!ioctl(fd, TCSETS2_NR, m->stdio->termios.data);
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
