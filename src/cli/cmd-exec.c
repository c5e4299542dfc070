/* SPDX-License-Identifier: Apache-2.0 */
/* exec: the process is --process FILE, or the container's own with another command and what the options change. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "cli/commands.h"
#include "linux/pty.h"

struct options {
	const char *process, *cwd, *user, *pid_file, *console_socket, *pidfd_socket, *apparmor,
		*process_label;
	struct cli_list env, caps, groups, cgroups;
	int preserve_fds;
	bool tty, detach, no_new_privs, ignore_paused;
};

static const struct cli_option table[] = {
	{"process", 'p', CLI_STRING, offsetof(struct options, process), "FILE", "process.json"},
	{"cwd", 0, CLI_STRING, offsetof(struct options, cwd), "DIR", "working directory in the container"},
	{"env", 'e', CLI_LIST, offsetof(struct options, env), "NAME=VALUE",
		"add to the environment (may be repeated)"},
	{"tty", 't', CLI_FLAG, offsetof(struct options, tty), NULL, "with a terminal"},
	{"user", 'u', CLI_STRING, offsetof(struct options, user), "UID[:GID]", "as this user"},
	{"additional-gids", 'g', CLI_LIST, offsetof(struct options, groups), "GID",
		"in this group too (may be repeated)"},
	{"detach", 'd', CLI_FLAG, offsetof(struct options, detach), NULL, "do not wait for its end"},
	{"pid-file", 0, CLI_STRING, offsetof(struct options, pid_file), "FILE",
		"write the pid of the process there"},
	{"console-socket", 0, CLI_STRING, offsetof(struct options, console_socket), "SOCKET",
		"unix socket that gets the master of the terminal"},
	{"pidfd-socket", 0, CLI_STRING, offsetof(struct options, pidfd_socket), "SOCKET",
		"unix socket that gets a pidfd of the process"},
	{"process-label", 0, CLI_STRING, offsetof(struct options, process_label), "LABEL", "SELinux label"},
	{"apparmor", 0, CLI_STRING, offsetof(struct options, apparmor), "PROFILE", "AppArmor profile"},
	{"no-new-privs", 0, CLI_FLAG, offsetof(struct options, no_new_privs), NULL, "set no_new_privs"},
	{"cap", 'c', CLI_LIST, offsetof(struct options, caps), "CAP_NAME",
		"add a capability (may be repeated)"},
	{"preserve-fds", 0, CLI_NUMBER, offsetof(struct options, preserve_fds), "N",
		"pass N more descriptors than 0-2"},
	{"cgroup", 0, CLI_LIST, offsetof(struct options, cgroups), "[CONTROLLER:]PATH",
		"in this sub-cgroup of the container's (may be repeated)"},
	{"ignore-paused", 0, CLI_FLAG, offsetof(struct options, ignore_paused), NULL, "also if it is paused"},
	{"no-subreaper", 0, CLI_IGNORED_FLAG, 0, NULL, NULL},
	{NULL},
};

static int parse_groups(const struct cli_list *list, gid_t **ret, struct error *e)
{
	_cleanup_free_ gid_t *all = calloc(list->n + 1, sizeof(*all));
	uint64_t gid;

	if (!all)
		return error_errno(e, -ENOMEM, "groups");
	for (size_t i = 0; i < list->n; i++) {
		if (cli_parse_number(list->v[i], UINT32_MAX - 1, &gid) < 0)
			return error_set(e, -EINVAL, ERROR_USAGE, "invalid group \"%s\"", list->v[i]);
		all[i] = (gid_t)gid;
	}
	*ret = take_ptr(all);
	return 0;
}

/* The container's process with the options applied; lives with its spec. */
static int process_from_options(
	const struct options *o, char **args, struct container *c, struct spec_process **ret, struct error *e)
{
	_cleanup_free_ gid_t *groups = NULL;
	struct exec_change x = {
		.args = args,
		.cwd = o->cwd,
		.user = o->user,
		.apparmor = o->apparmor,
		.process_label = o->process_label,
		.env = o->env.v,
		.n_env = o->env.n,
		.capabilities = o->caps.v,
		.n_capabilities = o->caps.n,
		.n_groups = o->groups.n,
		.no_new_privileges = o->no_new_privs,
		.terminal = o->tty,
	};
	int r = parse_groups(&o->groups, &groups, e);

	x.groups = groups;
	return r < 0 ? r : container_exec_process(c, &x, ret, e);
}

static int process_from_file(const char *path, struct spec **ret, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = read_file_at(AT_FDCWD, path, 1 << 20, &text, &len);

	if (r < 0)
		return error_errno(e, r, "open %s", path);
	r = spec_parse_process(text, len, ret, e);
	return r < 0 ? error_prefix(e, "%s", path) : 0;
}

static int wait_for(pid_t pid, int pidfd, int console, bool terminal, struct foreground *f, struct error *e)
{
	_cleanup_close_ int master = -EBADF;
	int r, status = 255;

	if (terminal && console >= 0) {
		master = socket_receive_fd(console);
		if (master < 0)
			return error_errno(e, master, "receive the terminal");
	}
	r = foreground_wait(f, pid, pidfd, master, &status, e);
	return r < 0 ? r : status;
}

static int exec_and_wait(
	struct container *c, const struct options *o, const struct spec_process *p, struct error *e)
{
	_cleanup_close_ int pidfd = -EBADF, console = -EBADF, theirs = -EBADF;
	struct exec_options x = {
		.process = p,
		.pid_file = o->pid_file,
		.console_socket = o->console_socket && *o->console_socket ? o->console_socket : NULL,
		.pidfd_socket = o->pidfd_socket && *o->pidfd_socket ? o->pidfd_socket : NULL,
		.detach = o->detach,
		.preserve_fds = o->preserve_fds,
		.cgroups = {o->cgroups.v, o->cgroups.n},
		.ignore_paused = o->ignore_paused,
	};
	struct foreground f;
	int pair[2], r;
	pid_t pid;

	if (!o->detach && !x.console_socket && p->terminal) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			return error_errno(e, -errno, "socketpair");
		console = pair[0];
		theirs = x.console_fd = pair[1];
		x.console_size = foreground_size();
	}
	if (o->detach)
		return container_exec(c, &x, &pid, &pidfd, e);
	r = foreground_begin(&f, e);
	if (r < 0)
		return r;
	r = container_exec(c, &x, &pid, &pidfd, e);
	close_p(&theirs);
	if (r == 0)
		r = wait_for(pid, pidfd, console, p->terminal, &f, e);
	foreground_end(&f);
	return r;
}

static int run_exec(
	const struct cli_globals *g, const struct options *o, int n_args, char **args, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	_cleanup_(spec_free_p) struct spec *file = NULL;
	struct spec_process *p = NULL;
	int r;

	r = cli_check_preserved(3, o->preserve_fds, e);
	if (r == 0)
		r = container_load(g->root, args[0], false, &c, e);
	if (r == 0)
		r = container_load_spec(c, e);
	if (r < 0)
		return r;
	if (o->process) {
		r = process_from_file(o->process, &file, e);
		p = file ? file->process : NULL;
		if (r == 0 && o->tty)
			p->terminal = true;
	} else if (n_args < 2) {
		return error_set(e, -EINVAL, ERROR_USAGE, "process args cannot be empty");
	} else {
		r = process_from_options(o, args + 1, c, &p, e);
	}
	return r < 0 ? r : exec_and_wait(c, o, p, e);
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	int r = run_exec(g, options, n_args, args, e);

	if (r >= 0)
		return r;
	error_prefix(e, "exec failed");
	log_error(e);
	return 255; /* any other could be the program's own */
}

const struct cli_command cmd_exec = {
	.name = "exec",
	.arguments = "ID [COMMAND [ARGUMENT...]]",
	.summary = "run a further process in a container",
	.options = table,
	.min_args = 1,
	.max_args = -1,
	.options_first = true,
	.enters_container = true,
	.run = run,
};
