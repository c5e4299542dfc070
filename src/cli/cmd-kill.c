/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>

#include "cli/commands.h"

struct options {
	bool all;
};

static const struct cli_option table[] = {
	{"all", 'a', CLI_FLAG, offsetof(struct options, all), NULL, "signal every process of the container"},
	{NULL},
};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	_cleanup_(container_free_p) struct container *c = NULL;
	int sig = SIGTERM, r;

	if (n_args > 1) {
		sig = cli_parse_signal(args[1], e);
		if (sig < 0)
			return sig;
	}
	/* no lock: a signal must come through whatever another command is waiting for */
	r = container_load(g->root, args[0], false, &c, e);
	return r < 0 ? r : container_kill(c, sig, o->all, e);
}

const struct cli_command cmd_kill = {
	.name = "kill",
	.arguments = "ID [SIGNAL]",
	.summary = "send a signal (default: TERM) to a container's first process",
	.options = table,
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
