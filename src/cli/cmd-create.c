/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "cli/commands.h"
#include "cli/create-options.h"

struct options {
	struct create_options create;
};

static const struct cli_option table[] = {
	CREATE_OPTIONS(struct options, create),
	CONFIG_OPTION(struct options, create),
	{"no-subreaper", 0, CLI_IGNORED_FLAG, 0, NULL, NULL},
	{"detach", 'd', CLI_IGNORED_FLAG, 0, NULL, NULL},
	{NULL},
};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	_cleanup_(container_free_p) struct container *c = NULL;
	struct container_create_options create;
	int r = create_options_for(g, &o->create, args[0], &create, e);

	if (r == 0)
		r = container_create(&create, &c, e);
	if (r == 0)
		cli_supervise(c);
	return r;
}

const struct cli_command cmd_create = {
	.name = "create",
	.arguments = "ID",
	.summary = "make a container; its program waits for start",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.enters_container = true,
	.run = run,
};
