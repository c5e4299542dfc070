/* SPDX-License-Identifier: Apache-2.0 */
/* exec: the process is --process FILE, or the container's own with another command and what the options change. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/capability.h>
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

static int parse_user(const char *s, struct spec_process *p, struct error *e)
{
	_cleanup_free_ char *copy = strdup(s);
	char *colon = copy ? strchr(copy, ':') : NULL;
	uint64_t uid, gid = p->gid;

	if (colon)
		*colon++ = '\0';
	if (!copy || cli_parse_number(copy, UINT32_MAX - 1, &uid) < 0 ||
		(colon && cli_parse_number(colon, UINT32_MAX - 1, &gid) < 0))
		return error_set(
			e, -EINVAL, ERROR_USAGE, "invalid user \"%s\": UID[:GID] in numbers is needed", s);
	p->uid = uid;
	p->gid = gid;
	return 0;
}

static int add_groups(const struct cli_list *list, struct spec_process *p, struct arena *a, struct error *e)
{
	gid_t *all;

	if (list->n == 0)
		return 0;
	all = arena_array(a, p->n_additional_gids + list->n, sizeof(*all));
	if (!all)
		return error_errno(e, -ENOMEM, "groups");
	for (size_t i = 0; i < p->n_additional_gids; i++)
		all[i] = p->additional_gids[i];
	for (size_t i = 0; i < list->n; i++) {
		uint64_t gid;

		if (cli_parse_number(list->v[i], UINT32_MAX - 1, &gid) < 0)
			return error_set(e, -EINVAL, ERROR_USAGE, "invalid group \"%s\"", list->v[i]);
		all[p->n_additional_gids++] = gid;
	}
	p->additional_gids = all;
	return 0;
}

static int add_env(const struct cli_list *list, struct spec_process *p, struct arena *a, struct error *e)
{
	size_t n = 0;
	char **all;

	while (p->env && p->env[n])
		n++;
	all = arena_array(a, n + list->n + 1, sizeof(*all));
	if (!all)
		return error_errno(e, -ENOMEM, "environment");
	for (size_t i = 0; i < n; i++)
		all[i] = p->env[i];
	for (size_t i = 0; i < list->n; i++)
		all[n + i] = (char *)list->v[i];
	for (size_t i = 0; i < list->n; i++)
		if (list->v[i][0] == '=' || !strchr(list->v[i], '='))
			return error_set(e, -EINVAL, ERROR_USAGE,
				"invalid environment variable \"%s\": NAME=VALUE is needed", list->v[i]);
	p->env = all;
	return 0;
}

static void add_caps(const struct cli_list *list, struct spec_process *p)
{
	for (size_t i = 0; i < list->n; i++) {
		cap_value_t cap;

		if (strncasecmp(list->v[i], "CAP_", 4) != 0 || cap_from_name(list->v[i], &cap) < 0) {
			log_warning("ignoring unknown or unavailable capabilities: [%s]", list->v[i]);
			continue;
		}
		p->has_capabilities = true;
		p->capabilities.bounding |= 1ULL << cap;
		p->capabilities.effective |= 1ULL << cap;
		p->capabilities.permitted |= 1ULL << cap;
	}
}

/* The container's process with the options applied; lives in the arena. */
static int process_from_options(
	const struct options *o, char **args, struct spec *s, struct spec_process **ret, struct error *e)
{
	struct spec_process *p = arena_memdup(&s->arena, s->process, sizeof(*p));
	int r;

	if (!p)
		return error_errno(e, -ENOMEM, "process");
	p->args = args;
	p->terminal = o->tty;
	if (o->cwd)
		p->cwd = o->cwd;
	if (o->apparmor)
		p->apparmor_profile = o->apparmor;
	if (o->process_label)
		p->selinux_label = o->process_label;
	if (o->no_new_privs)
		p->no_new_privileges = true;
	if (p->cwd[0] != '/')
		return error_set(e, -EINVAL, ERROR_USAGE, "Cwd must be an absolute path: %s", p->cwd);
	r = o->user ? parse_user(o->user, p, e) : 0;
	if (r == 0)
		r = add_groups(&o->groups, p, &s->arena, e);
	if (r == 0)
		r = add_env(&o->env, p, &s->arena, e);
	add_caps(&o->caps, p);
	*ret = p;
	return r;
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
		r = process_from_options(o, args + 1, c->spec, &p, e);
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
