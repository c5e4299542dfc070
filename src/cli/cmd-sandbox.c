/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox: the supervisor of one, which other commands start when it is needed. */
#include <unistd.h>

#include "cli/commands.h"
#include "sandbox/supervisor.h"

struct options {
	bool detached;
};

static const struct cli_option table[] = {
	{"detached", 0, CLI_FLAG, offsetof(struct options, detached), NULL, NULL},
	{NULL},
};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct supervisor_options s = {.root = g->root, .id = args[0]};

	unsetenv("NOTIFY_SOCKET");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
	if (chdir("/") < 0)
		return error_errno(e, -errno, "/");
	return supervisor_main(&s, e);
}

const struct cli_command cmd_sandbox = {
	.name = "sandbox",
	.arguments = "SANDBOX",
	.summary = "supervise a sandbox: keep exit statuses, serve its control socket",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.enters_container = true, /* its workers do */
	.run = run,
};
