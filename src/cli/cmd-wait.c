/* SPDX-License-Identifier: Apache-2.0 */
/* wait: until what goes on behind a container that runs already has ended. */
#include "cli/commands.h"
#include "sandbox/wait.h"

struct options {
	bool restore, checkpoint;
	int timeout;
};

static const struct cli_option table[] = {
	{"restore", 0, CLI_FLAG, offsetof(struct options, restore), NULL,
		"until a restore of its sandbox, and of all memory of a container restored lazily, is "
		"complete"},
	{"checkpoint", 0, CLI_FLAG, offsetof(struct options, checkpoint), NULL,
		"until a checkpoint that is under way has ended"},
	{"timeout", 0, CLI_NUMBER, offsetof(struct options, timeout), "SECONDS", "fail after so long"},
	{NULL},
};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	_cleanup_(container_free_p) struct container *c = NULL;
	int r;

	if (o->restore == o->checkpoint)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"what to wait for is needed: either --restore or --checkpoint");
	if (o->checkpoint && o->timeout)
		return error_set(e, -EINVAL, ERROR_USAGE, "--timeout is of --restore only");
	r = container_load(g->root, args[0], false, &c, e);
	if (r == 0 && o->checkpoint)
		return sandbox_wait_checkpoint(g->root, c->sandbox, c, e);
	if (r == 0 && c->restoring && c->sandbox)
		r = sandbox_wait_restore(g->root, c->sandbox, e);
	return r < 0 ? r : container_filling_wait(c, o->timeout ? o->timeout * 1000 : -1, e);
}

const struct cli_command cmd_wait = {
	.name = "wait",
	.arguments = "ID",
	.summary = "wait until the checkpoint or restore of a container is complete",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
