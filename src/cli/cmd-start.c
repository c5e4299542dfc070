/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

static const struct cli_option none[] = {{NULL}};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	int r = container_load(g->root, args[0], true, &c, e);

	return r < 0 ? r : container_start(c, e);
}

const struct cli_command cmd_start = {
	.name = "start",
	.arguments = "ID",
	.summary = "run the program of a created container",
	.options = none,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
