/* SPDX-License-Identifier: Apache-2.0 */
/* wait: until what goes on behind a container that runs already has ended. */
#include "cli/commands.h"

struct options {
	bool restore;
	int timeout;
};

static const struct cli_option table[] = {
	{"restore", 0, CLI_FLAG, offsetof(struct options, restore), NULL,
		"until all memory of a lazily restored container is there"},
	{"timeout", 0, CLI_NUMBER, offsetof(struct options, timeout), "SECONDS", "fail after so long"},
	{NULL},
};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	_cleanup_(container_free_p) struct container *c = NULL;
	int r;

	if (!o->restore)
		return error_set(e, -EINVAL, ERROR_USAGE, "what to wait for is needed: --restore");
	r = container_load(g->root, args[0], false, &c, e);
	return r < 0 ? r : container_filling_wait(c, o->timeout ? o->timeout * 1000 : -1, e);
}

const struct cli_command cmd_wait = {
	.name = "wait",
	.arguments = "ID",
	.summary = "wait until the memory of a lazily restored container is complete",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
