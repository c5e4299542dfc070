/* SPDX-License-Identifier: Apache-2.0 */
/* run: create and start; in the foreground also wait, and delete at the end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/create-options.h"
#include "linux/pty.h"

struct options {
	struct create_options create;
	bool detach, keep, no_subreaper;
};

static const struct cli_option table[] = {
	CREATE_OPTIONS(struct options, create),
	{ "detach", 'd', CLI_FLAG, offsetof(struct options, detach), NULL, "do not wait for the container's end" },
	{ "keep", 0, CLI_FLAG, offsetof(struct options, keep), NULL, "do not delete the container at its end" },
	{ "no-subreaper", 0, CLI_FLAG, offsetof(struct options, no_subreaper), NULL,
		"do not become the parent of orphaned processes" },
	{ NULL },
};

static void delete_quietly(struct container *c)
{
	struct error e;

	if (container_delete(c, true, &e) < 0)
		log_error(&e);
}

static int start_and_wait(struct container *c, int console, int *ret_status, struct error *e)
{
	_cleanup_close_ int pidfd = container_init_pidfd(c), master = -EBADF;
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
	r = container_start(c, e);
	if (r == 0) {
		container_unlock(c);
		r = foreground_wait(&f, c->init_pid, pidfd, master, ret_status, e);
	}
	foreground_end(&f);
	return r;
}

static int run_foreground(struct container_create_options *create, const struct options *o, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	_cleanup_close_ int console = -EBADF, theirs = -EBADF;
	int pair[2], r, status = 0;

	if (!o->no_subreaper && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return error_errno(e, -errno, "become subreaper");
	if (!create->console_socket) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			return error_errno(e, -errno, "socketpair");
		console = pair[0];
		theirs = pair[1];
		create->console_fd = theirs;
	}
	r = container_create(create, &c, e);
	if (r < 0)
		return r;
	close_p(&theirs);
	r = start_and_wait(c, console, &status, e);
	if (r < 0 || !o->keep)
		delete_quietly(c);
	return r < 0 ? r : status;
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	struct container_create_options create = create_options_for(g, &o->create, args[0]);
	_cleanup_(container_free_p) struct container *c = NULL;
	int r;

	if (!o->detach)
		return run_foreground(&create, o, e);
	r = container_create(&create, &c, e);
	if (r < 0)
		return r;
	r = container_start(c, e);
	if (r < 0)
		delete_quietly(c);
	return r;
}

const struct cli_command cmd_run = {
	.name = "run",
	.arguments = "ID",
	.summary = "make a container and run its program",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
