/* SPDX-License-Identifier: Apache-2.0 */
/* ps: the processes of the container's cgroup; as a table, those lines of the host's ps. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "cli/commands.h"

extern char **environ;

struct options {
	const char *format;
};

static const struct cli_option table[] = {
	{"format", 'f', CLI_STRING, offsetof(struct options, format), "table|json", "output format"},
	{NULL},
};

static void print_json(const pid_t *pids, size_t n)
{
	putchar('[');
	for (size_t i = 0; i < n; i++)
		printf("%s%d", i ? "," : "", pids[i]);
	puts("]");
}

/* Which word of ps's header is PID; -1: none. */
static int pid_column(const char *header)
{
	int column = 0;

	for (const char *p = header; *p; column++) {
		size_t n;

		p += strspn(p, " \n");
		n = strcspn(p, " \n");
		if (n == 3 && !strncmp(p, "PID", 3))
			return column;
		p += n;
	}
	return -1;
}

static bool line_is_of(const char *line, int column, const pid_t *pids, size_t n)
{
	const char *p = line + strspn(line, " ");
	unsigned long pid;

	for (int i = 0; i < column; i++) {
		p += strcspn(p, " ");
		p += strspn(p, " ");
	}
	pid = strtoul(p, NULL, 10);
	for (size_t i = 0; i < n; i++)
		if ((unsigned long)pids[i] == pid)
			return true;
	return false;
}

static int filter(FILE *f, const pid_t *pids, size_t n, struct error *e)
{
	char *line = NULL;
	size_t size = 0;
	int column;

	if (getline(&line, &size, f) < 0) {
		free(line);
		return error_set(e, -EIO, ERROR_SYSTEM, "ps printed nothing");
	}
	column = pid_column(line);
	if (column < 0) {
		free(line);
		return error_set(e, -EINVAL, ERROR_USAGE, "couldn't find PID field in ps output");
	}
	fputs(line, stdout);
	while (getline(&line, &size, f) >= 0)
		if (line_is_of(line, column, pids, n))
			fputs(line, stdout);
	free(line);
	return 0;
}

static int print_table(char **args, const pid_t *pids, size_t n, struct error *e)
{
	char *standard[] = {(char *)"ps", (char *)"-ef", NULL};
	posix_spawn_file_actions_t actions;
	int pair[2], r, status;
	FILE *f;
	pid_t pid;

	if (args[1])
		args[0] = (char *)"ps";
	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_errno(e, -errno, "pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pair[1], STDOUT_FILENO);
	r = posix_spawnp(&pid, "ps", &actions, NULL, args[1] ? args : standard, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(pair[1]);
	f = fdopen(pair[0], "r");
	if (r != 0 || !f) {
		close(pair[0]);
		return error_errno(e, r ? -r : -ENOMEM, "run ps");
	}
	r = filter(f, pids, n, e);
	fclose(f);
	waitpid(pid, &status, 0);
	return r;
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	_cleanup_(container_free_p) struct container *c = NULL;
	_cleanup_free_ pid_t *pids = NULL;
	size_t n = 0;
	int r;

	if (o->format && strcmp(o->format, "json") != 0 && strcmp(o->format, "table") != 0)
		return error_set(e, -EINVAL, ERROR_USAGE, "invalid format option \"%s\"", o->format);
	r = container_load(g->root, args[0], false, &c, e);
	if (r < 0)
		return r;
	if (container_status(c) != CONTAINER_STOPPED) {
		if (c->cgroup.mode == CGROUP_NONE)
			return error_set(e, -EOPNOTSUPP, ERROR_STATE,
				"cannot list the processes of a container without a cgroup");
		r = cgroup_pids(&c->cgroup, false, &pids, &n, e);
		if (r < 0)
			return r;
	}
	if (o->format && !strcmp(o->format, "json")) {
		print_json(pids, n);
		return 0;
	}
	return print_table(args, pids, n, e);
}

const struct cli_command cmd_ps = {
	.name = "ps",
	.arguments = "ID [PS OPTIONS]",
	.summary = "list the processes of a container",
	.options = table,
	.min_args = 1,
	.max_args = -1,
	.options_first = true,
	.run = run,
};
