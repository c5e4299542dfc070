/* SPDX-License-Identifier: Apache-2.0 */
/* What the native engine does with each kind of kernel object; docs/support.md is made from it. */
#include "checkpoint/engine.h"
#include "cli/commands.h"

static const struct cli_option none[] = {{NULL}};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	support_print(stdout);
	return 0;
}

const struct cli_command cmd_support = {
	.name = "__support",
	.arguments = "",
	.summary = "list the kinds of kernel objects, for the manual",
	.options = none,
	.hidden = true,
	.run = run,
};
