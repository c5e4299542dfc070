/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/commands.h"

static const struct cli_option none[] = {{NULL}};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	_cleanup_free_ char *json = NULL;
	int r;

	r = container_load(g->root, args[0], false, &c, e);
	if (r == 0)
		r = container_state_json(c, &json, e);
	if (r < 0)
		return r;
	puts(json);
	return 0;
}

const struct cli_command cmd_state = {
	.name = "state",
	.arguments = "ID",
	.summary = "print the state of a container as JSON",
	.options = none,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
