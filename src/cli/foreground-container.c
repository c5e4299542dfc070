/* SPDX-License-Identifier: Apache-2.0 */
/* A container in the foreground, made by run or restore: with its terminal relayed, waited for, deleted at its end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "cli/cli.h"
#include "linux/procfd.h"
#include "linux/pty.h"
#include "sandbox/sandbox.h"

void container_delete_quietly(struct container *c)
{
	struct error e;
	int r = container_lock(c, &e);

	if (r == -ENOENT)
		return; /* somebody else's delete --force was its end */
	if (r == 0)
		r = container_delete(c, true, &e);
	if (r < 0)
		log_error(&e);
}

void cli_supervise(const struct container *c)
{
	struct error e;

	if (c->sandbox && sandbox_ensure(c->root, c->sandbox, &e) < 0)
		log_warning("%s", e.message);
}

static int start_and_wait(const struct foreground_container *how, struct container *c, int console,
	int *ret_status, struct error *e)
{
	/* our own child, not reaped yet: its pid is its own, even if it has ended already */
	_cleanup_close_ int pidfd = pidfd_open_process(c->init_pid), master = -EBADF;
	struct foreground f;
	int r;

	if (pidfd < 0)
		return error_errno(e, pidfd, "container %s", c->id);
	if (c->spec->process->terminal && console >= 0) {
		master = socket_receive_fd(console);
		if (master < 0)
			return error_errno(e, master, "receive the terminal");
	}
	r = foreground_begin(&f, e);
	if (r < 0)
		return r;
	f.notify = c->notify_fd;
	r = how->start ? how->start(c, e) : 0;
	if (r == 0) {
		container_unlock(c);
		r = foreground_wait(&f, c->init_pid, pidfd, master, ret_status, e);
	}
	foreground_end(&f);
	return r;
}

int foreground_container(
	struct container_create_options *create, const struct foreground_container *how, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	_cleanup_close_ int console = -EBADF, theirs = -EBADF;
	int pair[2], r, status = 0;

	if (!how->no_subreaper && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return error_errno(e, -errno, "become subreaper");
	if (!create->console_socket) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			return error_errno(e, -errno, "socketpair");
		console = pair[0];
		theirs = pair[1];
		create->console_fd = theirs;
		create->console_size = foreground_size();
	}
	r = how->make(how->arg, create, &c, e);
	if (r < 0)
		return r;
	close_p(&theirs);
	cli_supervise(c);
	r = start_and_wait(how, c, console, &status, e);
	if (r < 0 || !how->keep)
		container_delete_quietly(c);
	return r < 0 ? r : status;
}
