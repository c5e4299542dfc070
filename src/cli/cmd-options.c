/* SPDX-License-Identifier: Apache-2.0 */
/* __options: "command<TAB>--option" lines, global options with an empty command. For the shells' completions and for the
 * test that holds the manual against the program. */
#include <stdio.h>

#include "cli/commands.h"

static void print(const char *command, const struct cli_option *options)
{
	for (const struct cli_option *o = options; o && o->name; o++)
		printf("%s\t--%s\n", command, o->name);
	printf("%s\t--help\n", command);
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	print("", cli_global_options);
	for (size_t i = 0; cli_commands[i]; i++)
		if (!cli_commands[i]->hidden)
			print(cli_commands[i]->name, cli_commands[i]->options);
	return 0;
}

static const struct cli_option none[] = {{NULL}};

const struct cli_command cmd_options = {
	.name = "__options",
	.arguments = "",
	.summary = "list every option",
	.options = none,
	.hidden = true,
	.run = run,
};
