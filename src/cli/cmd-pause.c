/* SPDX-License-Identifier: Apache-2.0 */
/* pause and resume. */
#include "cli/commands.h"

static const struct cli_option none[] = {{NULL}};

static int run_pause(
	const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	int r = container_load(g->root, args[0], true, &c, e);

	return r < 0 ? r : container_pause(c, e);
}

static int run_resume(
	const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	int r = container_load(g->root, args[0], true, &c, e);

	return r < 0 ? r : container_resume(c, e);
}

const struct cli_command cmd_pause = {
	.name = "pause",
	.arguments = "ID",
	.summary = "stop all processes of a container",
	.options = none,
	.min_args = 1,
	.max_args = 1,
	.run = run_pause,
};

const struct cli_command cmd_resume = {
	.name = "resume",
	.arguments = "ID",
	.summary = "let a paused container go on",
	.options = none,
	.min_args = 1,
	.max_args = 1,
	.run = run_resume,
};
