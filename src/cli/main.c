/* SPDX-License-Identifier: Apache-2.0 */
/* stasis: global options, then a command. Errors are printed here, once, to stderr and the --log file. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/heap.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/commit.h"
#include "linux/idmap.h"

const struct cli_option cli_global_options[] = {
	{"root", 0, CLI_STRING, offsetof(struct cli_globals, root), "DIR",
		"where the containers' state is kept"},
	{"log", 0, CLI_STRING, offsetof(struct cli_globals, log), "FILE",
		"write the log there instead of to stderr"},
	{"log-format", 0, CLI_STRING, offsetof(struct cli_globals, log_format), "text|json",
		"format of the log"},
	{"log-level", 0, CLI_STRING, offsetof(struct cli_globals, log_level), "error|warning|info|debug",
		"what is logged (default: info)"},
	{"debug", 0, CLI_FLAG, offsetof(struct cli_globals, debug), NULL, "log what is done"},
	{"systemd-cgroup", 0, CLI_FLAG, offsetof(struct cli_globals, systemd_cgroup), NULL,
		"cgroup paths are slice:prefix:name"},
	{"cgroup-manager", 0, CLI_STRING, offsetof(struct cli_globals, cgroup_manager),
		"cgroupfs|systemd|disabled", "how cgroups are made"},
	{"rootless", 0, CLI_STRING, offsetof(struct cli_globals, rootless), "true|false|auto",
		"whether to do without root's privileges"},
	{"criu", 0, CLI_IGNORED_STRING, 0, "PATH", NULL},
	{"version", 'v', CLI_FLAG, offsetof(struct cli_globals, version), NULL, "print the version"},
	{NULL},
};

/* The table is the man page's and the completions' source as well. */
const struct cli_command *const cli_commands[] = {
	&cmd_check,
	&cmd_checkpoint,
	&cmd_create,
	&cmd_ctl,
	&cmd_delete,
	&cmd_events,
	&cmd_exec,
	&cmd_features,
	&cmd_image,
	&cmd_inspect,
	&cmd_kill,
	&cmd_list,
	&cmd_metrics,
	&cmd_mounts,
	&cmd_pause,
	&cmd_ps,
	&cmd_restore,
	&cmd_resume,
	&cmd_run,
	&cmd_sandbox,
	&cmd_spec,
	&cmd_start,
	&cmd_state,
	&cmd_options,
	&cmd_support,
	&cmd_update,
	&cmd_wait,
	NULL,
};

static const struct cli_command *find_command(const char *name)
{
	for (size_t i = 0; cli_commands[i]; i++)
		if (!strcmp(cli_commands[i]->name, name))
			return cli_commands[i];
	return NULL;
}

static void print_version(void)
{
	/* the lines that callers of runc look for */
	printf("stasis version " STASIS_VERSION "\ncommit: " STASIS_COMMIT "\nspec: " OCI_VERSION "\n");
}

/* Sets *ret_command to the index of the command's name in argv. */
static int parse_globals(int argc, char **argv, struct cli_globals *g, int *ret_command, struct error *e)
{
	_cleanup_free_ char **args = calloc(argc + 1, sizeof(char *));
	int n, r;

	if (!args)
		return error_errno(e, -ENOMEM, "arguments");
	r = cli_parse(cli_global_options, true, argc - 1, argv + 1, g, args, &n, e);
	if (r == 0)
		*ret_command = argc - n;
	return r;
}

static int log_level_from(const struct cli_globals *g, enum log_level *ret, struct error *e)
{
	static const char *const names[] = {"error", "warning", "info", "debug"}; /* enum log_level */

	*ret = g->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
	if (!g->log_level || g->debug)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(g->log_level, names[i])) {
			*ret = i;
			return 0;
		}
	return error_set(e, -EINVAL, ERROR_USAGE, "unknown log-level \"%s\": error, warning, info or debug",
		g->log_level);
}

static int set_up_log(const struct cli_globals *g, struct error *e)
{
	enum log_format format = LOG_FORMAT_TEXT;
	enum log_level level;
	int fd = -1, r = log_level_from(g, &level, e);

	if (r < 0)
		return r;

	if (g->log_format && !strcmp(g->log_format, "json"))
		format = LOG_FORMAT_JSON;
	else if (g->log_format && strcmp(g->log_format, "text") != 0)
		return error_set(
			e, -EINVAL, ERROR_USAGE, "unknown log-format \"%s\": text or json", g->log_format);
	if (g->log && *g->log) {
		fd = open(g->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (fd < 0)
			return error_errno(e, -errno, "open log %s", g->log);
	}
	log_setup(fd, format, level);
	return 0;
}

static int check_globals(const struct cli_globals *g, struct error *e)
{
	const char *m = g->cgroup_manager;
	bool rootless;

	if (g->rootless && strcmp(g->rootless, "auto") != 0 && cli_parse_bool(g->rootless, &rootless) < 0)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"invalid value \"%s\" for --rootless: true, false or auto", g->rootless);
	if (m && strcmp(m, "cgroupfs") != 0 && strcmp(m, "systemd") != 0 && strcmp(m, "disabled") != 0)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"unknown cgroup manager \"%s\": cgroupfs, systemd or disabled", m);
	return 0;
}

bool cli_is_rootless(const struct cli_globals *g)
{
	bool said;

	if (g->rootless && cli_parse_bool(g->rootless, &said) == 0)
		return said;
	return geteuid() != 0 || !idmap_is_initial();
}

/* Root of a user namespace has the user's directory, unless he says that he is root (as runc has it). */
static bool has_own_runtime_dir(void)
{
	const char *user = getenv("USER");

	return getenv("XDG_RUNTIME_DIR") &&
	       (geteuid() != 0 || (!(user && !strcmp(user, "root")) && !idmap_is_initial()));
}

/* An absolute state root: init and hooks have other working directories. */
static int set_root(struct cli_globals *g, char *buf, size_t size, struct error *e)
{
	char cwd[4096];
	int n;

	if (!g->root && has_own_runtime_dir())
		n = snprintf(buf, size, "%s/stasis", getenv("XDG_RUNTIME_DIR"));
	else if (!g->root)
		n = snprintf(buf, size, "/run/stasis");
	else if (g->root[0] == '/')
		n = snprintf(buf, size, "%s", g->root);
	else if (getcwd(cwd, sizeof(cwd)))
		n = snprintf(buf, size, "%s/%s", cwd, g->root);
	else
		return error_errno(e, -errno, "working directory");
	if ((size_t)n >= size)
		return error_errno(e, -ENAMETOOLONG, "--root");
	g->root = buf;
	return 0;
}

static int check_args(const struct cli_command *c, int n, struct error *e)
{
	if (n >= c->min_args && (c->max_args < 0 || n <= c->max_args))
		return 0;
	if (c->min_args == c->max_args)
		return error_set(e, -EINVAL, ERROR_USAGE, "\"%s\" requires exactly %d argument(s): %s",
			c->name, c->min_args, c->arguments);
	return error_set(e, -EINVAL, ERROR_USAGE, "\"%s\": %s: %s", c->name,
		n < c->min_args ? "arguments are missing" : "too many arguments", c->arguments);
}

static int run_command(
	const struct cli_command *c, const struct cli_globals *g, int argc, char **argv, struct error *e)
{
	_Alignas(16) char options[CLI_OPTIONS_SIZE] = {0};
	_cleanup_free_ char **args = calloc(argc + 1, sizeof(char *));
	int n, r;

	if (!args)
		return error_errno(e, -ENOMEM, "arguments");
	r = cli_parse(c->options, c->options_first, argc, argv, options, args, &n, e);
	if (r > 0) {
		cli_print_help(c);
		r = 0;
	} else if (r == 0) {
		r = check_args(c, n, e);
		if (r == 0)
			r = c->run(g, options, n, args, e);
	}
	cli_done(c->options, options);
	return r;
}

static int unknown_command(const char *name, struct error *e)
{
	return error_set(e, -EINVAL, ERROR_USAGE, "unknown command \"%s\" (see stasis --help)", name);
}

/* help [COMMAND] */
static int print_help_of(const char *name, struct error *e)
{
	const struct cli_command *c = name ? find_command(name) : NULL;

	if (name && !c)
		return unknown_command(name, e);
	if (c)
		cli_print_help(c);
	else
		cli_print_global_help();
	return 0;
}

static int dispatch(int argc, char **argv, struct error *e)
{
	struct cli_globals globals = {0}, *g = &globals;
	const struct cli_command *c;
	char root[4096];
	int at = argc, r;

	r = parse_globals(argc, argv, g, &at, e);
	if (r < 0)
		return r;
	if (r > 0 || (at == argc && !g->version)) {
		cli_print_global_help();
		return 0;
	}
	if (at < argc && (!strcmp(argv[at], "help") || !strcmp(argv[at], "h")))
		return print_help_of(argv[at + 1], e);
	if (g->version) {
		print_version();
		return 0;
	}
	r = set_up_log(g, e);
	if (r == 0)
		r = check_globals(g, e);
	if (r == 0)
		r = set_root(g, root, sizeof(root), e);
	if (r < 0)
		return r;
	c = find_command(argv[at]);
	if (!c)
		return unknown_command(argv[at], e);
	/* Without it no container is seen to run: it would be taken for stopped, and deleted. */
	if (access("/proc/self/stat", F_OK) < 0)
		return error_errno(e, -errno, "/proc/self/stat (is /proc mounted?)");
	r = stack_prepare(e);
	if (r == 0)
		r = c->enters_container ? container_protect_runtime(argv, e) : 0;
	if (r < 0)
		return r;
	return run_command(c, g, argc - at - 1, argv + at + 1, e);
}

/* A file of ours must not get a number below 3: what is printed would be written into it, and a container inherit it. */
static int open_standard_fds(struct error *e)
{
	int fd = 0;

	while (fd <= STDERR_FILENO && (fcntl(fd, F_GETFD) >= 0 || open("/dev/null", O_RDWR) == fd))
		fd++;
	return fd <= STDERR_FILENO ? error_errno(e, -errno, "open /dev/null") : 0;
}

int main(int argc, char **argv)
{
	struct error e = {0};
	int r;

	/* Beyond RLIMIT_FSIZE: an error with words. (What we execute in a container has the default again.) */
	signal(SIGXFSZ, SIG_IGN);
	r = open_standard_fds(&e);
	if (r == 0)
		r = dispatch(argc, argv, &e);
	if (r >= 0 && (fflush(stdout) < 0 || ferror(stdout)))
		r = error_errno(&e, -errno, "write to stdout");
	if (r >= 0)
		return r;
	log_error(&e);
	return 1; /* as runc: its callers know no other */
}
