/* SPDX-License-Identifier: Apache-2.0 */
/* mounts: as crun's. FILE is the "mounts" of a config.json; remove looks at the destinations only. */
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "cli/commands.h"

static const struct cli_option none[] = {{NULL}};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	_cleanup_(spec_free_p) struct spec *mounts = NULL;
	_cleanup_free_ char *text = NULL;
	bool add = !strcmp(args[0], "add");
	size_t len;
	int r;

	if (!add && strcmp(args[0], "remove") != 0)
		return error_set(e, -EINVAL, ERROR_USAGE, "mounts %s: add or remove is needed", args[0]);
	r = read_file_at(AT_FDCWD, args[2], 1 << 20, &text, &len);
	if (r < 0)
		return error_errno(e, r, "open %s", args[2]);
	r = container_load(g->root, args[1], true, &c, e);
	if (r == 0)
		r = spec_parse_mounts(c->bundle, text, len, &mounts, e);
	return r < 0 ? r : container_mounts(c, mounts, add, e);
}

const struct cli_command cmd_mounts = {
	.name = "mounts",
	.arguments = "add|remove ID FILE",
	.summary = "add mounts to a running container, or remove them",
	.options = none,
	.min_args = 3,
	.max_args = 3,
	.run = run,
};
