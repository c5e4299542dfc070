/* SPDX-License-Identifier: Apache-2.0 */
/* metrics: what all containers, or those of a sandbox, use, as OpenMetrics text. */
#include "cli/commands.h"
#include "sandbox/metrics.h"

struct options {
	const char *sandbox;
};

static const struct cli_option table[] = {
	{"sandbox", 0, CLI_STRING, offsetof(struct options, sandbox), "ID",
		"only the containers of this sandbox"},
	{NULL},
};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;

	return metrics_print(g->root, o->sandbox, stdout, e);
}

const struct cli_command cmd_metrics = {
	.name = "metrics",
	.arguments = "",
	.summary = "print what the containers use, as OpenMetrics text",
	.options = table,
	.max_args = 0,
	.run = run,
};
