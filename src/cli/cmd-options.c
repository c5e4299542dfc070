/* SPDX-License-Identifier: Apache-2.0 */
/* __options: "command<TAB>--option" lines, global options with an empty command; and, where an option has certain values,
 * "<TAB>one|other", with "=" before them if they must be in the same word. For the shells' completions and for the
 * test that holds the manual against the program. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"

/* "auto|yes|no" are words to be written as they are, "none|lz4|zstd[:LEVEL]" as well up to the bracket; DIR is not. */
static void print_values(const struct cli_option *o)
{
	size_t n = o->argument ? strcspn(o->argument, "[") : 0;

	if (n == 0 || strspn(o->argument, "abcdefghijklmnopqrstuvwxyz0123456789|") < n)
		return;
	printf("\t%s%.*s", o->kind == CLI_MODE ? "=" : "", (int)n, o->argument);
}

static void print(const char *command, const struct cli_option *options)
{
	for (const struct cli_option *o = options; o && o->name; o++) {
		printf("%s\t--%s", command, o->name);
		print_values(o);
		printf("\n");
	}
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
