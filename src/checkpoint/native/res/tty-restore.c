/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pseudo terminals at restore. All pairs are made in init before any file is opened, each with the number that it had: the
 * kernel gives the lowest free one. Data, settings and size come before a session has the terminal, so that nobody is
 * signalled. Leaders then take their terminals while the tree is forked. What is kept open of a pair besides the
 * container's descriptors goes away when the stubs unmap themselves, which hangs up those that were hung up.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/res/res.h"
#include "checkpoint/native/restore-nested.h"
#include "checkpoint/native/ttys.h"

#define TCSETS2_NR 0x402c542b
enum { LARGEFILE_FLAG = 0100000 }; /* O_LARGEFILE, which is 0 for 64-bit programs' headers */

/* ---- validate ---- */

static bool is_malformed(const St__Pty *p, size_t i)
{
	uint64_t lines = 0;

	if (p->id != i + 1 || p->index < 0 || p->index > TTY_MAX_INDEX || p->ptmx[0] != '/' ||
		p->node[0] != '/' || p->stopped > TTY_STOPPED_BY_CALL)
		return true;
	if ((p->termios.len != TTY_TERMIOS && p->termios.len != 0) ||
		(p->winsize.len != sizeof(struct winsize) && p->winsize.len != 0) ||
		p->input.len > TTY_DISCIPLINE || p->raw.len > TTY_BUFFER || p->output.len > TTY_BUFFER ||
		p->n_lines > TTY_DISCIPLINE)
		return true;
	for (size_t k = 0; k < p->n_lines; k++)
		lines += p->lines[k];
	return lines > p->input.len;
}

static bool leads_a_session(const struct restore *r, int sid)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (r->procs[i]->pid == sid && r->procs[i]->sid == sid && r->procs[i]->state != 2)
			return true;
	return false;
}

int restore_validate_ttys(const struct restore *r, struct error *e)
{
	const St__Container *c = r->container;

	for (size_t i = 0; i < c->n_ptys; i++) {
		const St__Pty *p = c->ptys[i];
		bool taken = false;

		for (size_t k = 0; k < i; k++)
			taken |= p->session && c->ptys[k]->session == p->session;
		if (is_malformed(p, i) || taken || (p->session && !leads_a_session(r, p->session)))
			return error_set(e, -EBADMSG, ERROR_CORRUPT,
				"checkpoint.img: terminal %zu is malformed", i + 1);
	}
	for (size_t i = 0; i < r->n_files; i++) {
		const St__Tty *t = r->files[i]->kind_case == ST__FILE__KIND_TTY ? r->files[i]->tty : NULL;

		if (t && (t->pty < 1 || t->pty > c->n_ptys || t->path[0] != '/' || t->kind < TTY_MASTER ||
				 t->kind > TTY_CONTROLLING))
			return error_set(e, -EBADMSG, ERROR_CORRUPT,
				"checkpoint.img: file %llu belongs to no terminal",
				(unsigned long long)r->files[i]->id);
	}
	return 0;
}

/* ---- the pairs ---- */

/* The flags of the description that the container had of the master. */
static int master_flags(const struct restore *r, const St__Pty *p)
{
	for (size_t i = 0; i < r->n_files; i++) {
		const St__File *f = r->files[i];

		if (f->kind_case == ST__FILE__KIND_TTY && f->tty->kind == TTY_MASTER && f->tty->pty == p->id)
			return (int)(f->flags & O_ACCMODE);
	}
	return O_RDWR;
}

/* A terminal, and no other thing that an image may name. */
static int open_terminal(const struct restore *r, const char *path, int flags, dev_t want, struct error *e)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;
	int opened;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(e, -errno, "open %s", path);
	if (!S_ISCHR(st.st_mode) || st.st_rdev != want)
		return error_set(e, -ESTALE, ERROR_REFUSED,
			"%s is not the terminal that it was at the checkpoint: restore with the same mounts",
			path);
	opened = open(path, flags | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	return opened < 0 ? error_errno(e, -errno, "open %s", path) : opened;
}

/* Numbers below the wanted one are taken meanwhile. */
static int open_number(const struct restore *r, const St__Pty *p, struct error *e)
{
	_cleanup_free_ int *spare = calloc(p->index + 1, sizeof(*spare));
	int n = 0, fd, index = -1;

	if (!spare)
		return error_errno(e, -ENOMEM, "terminals");
	for (;;) {
		fd = open_terminal(r, p->ptmx, master_flags(r, p), makedev(5, 2), e);
		if (fd < 0 || (ioctl(fd, TIOCGPTN, &index) == 0 && index == p->index) || n > p->index)
			break;
		spare[n++] = fd;
	}
	while (n > 0)
		close(spare[--n]);
	if (fd >= 0 && index != p->index) {
		close(fd);
		return error_set(e, -EBUSY, ERROR_STATE,
			"the terminal %s is in use by somebody else, and the restored container needs its "
			"number",
			p->node);
	}
	return fd;
}

static int own_node(const St__Pty *p, struct error *e)
{
	if (chown(p->node, p->uid, p->gid) < 0 || chmod(p->node, p->mode) < 0)
		return error_errno(e, -errno, "owner and mode of %s", p->node);
	return 0;
}

static void to_data(const St__Pty *p, struct tty_data *t)
{
	*t = (struct tty_data){.stop = p->stopped,
		.n_lines = p->n_lines,
		.n_input = p->input.len,
		.n_raw = p->raw.len,
		.n_output = p->output.len};
	memcpy(t->termios, p->termios.data, TTY_TERMIOS);
	for (size_t i = 0; i < p->n_lines; i++)
		t->lines[i] = p->lines[i];
	memcpy(t->input, p->input.data, p->input.len);
	memcpy(t->raw, p->raw.data, p->raw.len);
	memcpy(t->output, p->output.data, p->output.len);
}

/* The settings are the pair's, by either end. */
static int fill(const struct restore_pty *p, struct error *e)
{
	int fd = p->slave >= 0 ? p->slave : p->master, result = 0;
	struct tty_data *t;

	if (p->msg->termios.len == 0 || fd < 0)
		return 0;
	/* Of a console as well: if the caller's is another, it is then told, and so is the program. */
	if (p->msg->winsize.len && ioctl(fd, TIOCSWINSZ, p->msg->winsize.data) < 0)
		return error_errno(e, -errno, "size of %s", p->msg->node);
	if (ioctl(fd, TCSETS2_NR, p->msg->termios.data) < 0)
		return error_errno(e, -errno, "settings of %s", p->msg->node);
	if (p->slave < 0 || (p->msg->input.len == 0 && p->msg->n_lines == 0 && p->msg->raw.len == 0 &&
				    p->msg->output.len == 0 && p->msg->stopped == TTY_FLOWS))
		return 0;
	t = malloc(sizeof(*t));
	if (!t)
		return error_errno(e, -ENOMEM, "terminals");
	to_data(p->msg, t);
	result = tty_put(p->slave, p->master, t);
	free(t);
	return result < 0 ? error_errno(e, result, "what waits in %s", p->msg->node) : 0;
}

static int make_pair(struct restore *r, struct restore_pty *p, struct error *e)
{
	const St__Pty *m = p->msg;
	int result = 0;

	p->master = m->console ? r->console_master : open_number(r, m, e);
	if (p->master < 0)
		return m->console ? 0 : p->master; /* without a console now: as the caller wants it */
	if (restore_move_fd(r, &p->master) < 0 || ioctl(p->master, TIOCSPTLCK, &(int){0}) < 0)
		return error_errno(e, -errno, "terminals");
	if (!m->unused) {
		p->slave = tty_open_slave_of(p->master, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (p->slave < 0 || restore_move_fd(r, &p->slave) < 0)
			return error_errno(e, p->slave < 0 ? p->slave : -errno, "open %s", m->node);
	}
	if (m->termios.len)
		result = own_node(m, e);
	return result < 0 ? result : fill(p, e);
}

int restore_make_ttys(struct restore *r, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_ptys && result == 0; i++)
		result = make_pair(r, &r->ptys[i], e);
	return result;
}

/* What came because of the console's size, and of letting it go, is not for the program. */
static void forget_signals(void)
{
	struct timespec none = {};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCONT);
	while (sigtimedwait(&set, NULL, &none) > 0)
		;
}

static int finish(struct restore_pty *p, struct error *e)
{
	int on = 1, locked = p->msg->locked;

	if (p->master < 0 || p->msg->console)
		return 0;
	if (p->msg->hung_up) {
		close_p(&p->master);
		return 0;
	}
	if (ioctl(p->master, TIOCSPTLCK, &locked) < 0 ||
		(p->msg->packet && ioctl(p->master, TIOCPKT, &on) < 0) ||
		(p->msg->exclusive && p->slave >= 0 && ioctl(p->slave, TIOCEXCL) < 0) ||
		(p->msg->exclusive_master && ioctl(p->master, TIOCEXCL) < 0))
		return error_errno(e, -errno, "state of %s", p->msg->node);
	return 0;
}

/* Create has made the console init's controlling terminal. */
static int let_go_of_console(const struct restore *r, const struct restore_pty *p, struct error *e)
{
	if (!p->msg->console || p->slave < 0 || p->msg->session == r->procs[0]->pid)
		return 0;
	return ioctl(p->slave, TIOCNOTTY) < 0 && errno != ENOTTY
		       ? error_errno(e, -errno, "let go of the console")
		       : 0;
}

int restore_finish_ttys(struct restore *r, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_ptys && result == 0; i++) {
		result = finish(&r->ptys[i], e);
		if (result == 0)
			result = let_go_of_console(r, &r->ptys[i], e);
	}
	if (r->n_ptys)
		forget_signals();
	return result;
}

/* ---- files ---- */

static int open_slave(struct restore *r, const St__File *m, const struct restore_pty *p, struct error *e)
{
	int flags = (int)(m->flags & (O_ACCMODE | O_CLOEXEC)) | O_NONBLOCK, fd;

	if (m->flags & LARGEFILE_FLAG)
		return open_terminal(r, m->tty->path, flags, makedev(136, p->msg->index), e);
	fd = tty_open_slave_of(p->master, flags);
	return fd < 0 ? error_errno(e, fd, "open %s", p->msg->node) : fd;
}

/* /dev/tty is the terminal of who opens it: a child with our descriptors and a session of its own, for a moment. */
static int open_as_leader(const struct restore_pty *p, const char *path, int flags, int place)
{
	struct clone_args {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
	pid_t pid = syscall(SYS_clone3, &args, sizeof(args));
	int status = 1, fd;

	if (pid == 0) {
		if (setsid() < 0 || ioctl(p->slave, TIOCSCTTY, 0) < 0 ||
			(fd = open(path, flags | O_CLOEXEC)) < 0 || dup3(fd, place, O_CLOEXEC) < 0)
			_exit(1);
		close(fd);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0 ? 0 : -ENXIO;
}

static int open_controlling(const St__File *m, const struct restore_pty *p, struct error *e)
{
	int flags = (int)(m->flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY, fd;

	if (p->msg->console)
		fd = open(m->tty->path, flags | O_CLOEXEC);
	else
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(e, -errno, "open %s", m->tty->path);
	if (!p->msg->console && open_as_leader(p, m->tty->path, flags, fd) < 0) {
		close(fd);
		return error_errno(e, -ENXIO, "open %s as the terminal %s", m->tty->path, p->msg->node);
	}
	return fd;
}

int restore_open_tty(struct restore *r, const St__File *m, int *ret_fd, struct error *e);
int restore_open_tty(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	const struct restore_pty *p = &r->ptys[m->tty->pty - 1];

	if (p->master < 0)
		return error_set(e, -ENXIO, ERROR_REFUSED,
			"the container needs a terminal: restore it with process.terminal in config.json");
	if (m->tty->kind == TTY_MASTER) {
		*ret_fd = fcntl(p->master, F_DUPFD_CLOEXEC, 3);
		return *ret_fd < 0 ? error_errno(e, -errno, "terminals") : 0;
	}
	if (p->slave < 0)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "an unused terminal is open");
	*ret_fd = m->tty->kind == TTY_SLAVE ? open_slave(r, m, p, e) : open_controlling(m, p, e);
	return *ret_fd < 0 ? *ret_fd : 0;
}

/* ---- sessions ---- */

static const struct restore_pty *terminal_of(const struct restore *r, int sid)
{
	for (size_t i = 0; i < r->n_ptys; i++)
		if (r->ptys[i].msg->session == sid && r->ptys[i].slave >= 0)
			return &r->ptys[i];
	return NULL;
}

int restore_take_terminal(struct restore *r, int sid, struct error *e)
{
	const struct restore_pty *p = terminal_of(r, sid);

	/* no force: an image does not get what another session has */
	return p && ioctl(p->slave, TIOCSCTTY, 0) < 0
		       ? error_errno(e, -errno, "session %d: take the terminal %s", sid, p->msg->node)
		       : 0;
}

/* A group that nobody is in any more: it begins with a process that ends. */
static int foreground_of_nobody(const struct restore_pty *p)
{
	struct clone_args {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
			set_tid_size;
	} args = {.exit_signal = SIGCHLD};
	pid_t pid, own;

	if (p->foreground != RESTORE_ANY_GROUP) {
		args.set_tid = (uint64_t)&p->foreground;
		args.set_tid_size = 1;
	}
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0) {
		own = getpid();
		_exit(setpgid(0, 0) < 0 || ioctl(p->slave, TIOCSPGRP, &own) < 0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return pid < 0 ? -errno : 0;
}

int restore_set_foreground(struct restore *r, const St__Process *p, struct error *e)
{
	const struct restore_pty *t = terminal_of(r, p->sid);
	int result = 0, group;

	if (!t || p->state == 2)
		return 0;
	group = restore_pid_seen(r, p, t->msg->foreground);
	if (p->pid == p->sid && t->foreground)
		result = foreground_of_nobody(t);
	else if (p->pid == p->sid && t->msg->foreground > 0 && ioctl(t->slave, TIOCSPGRP, &group) < 0)
		result = -errno;
	else if (p->no_terminal && ioctl(t->slave, TIOCNOTTY) < 0)
		result = -errno;
	return result < 0 ? error_errno(e, result, "foreground group of %s", t->msg->node) : 0;
}
