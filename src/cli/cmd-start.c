/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/fd.h"
#include "cli/commands.h"

static const struct cli_option none[] = {{NULL}};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	const char *notify = getenv("NOTIFY_SOCKET");
	_cleanup_close_ int fd = -EBADF;
	int r = container_load(g->root, args[0], true, &c, e);

	if (r == 0 && notify) {
		fd = container_notify_listen(c, e);
		r = fd == -EBADF ? 0 : MIN(fd, 0);
	}
	if (r == 0)
		r = container_start(c, e);
	if (r < 0 || fd < 0)
		return r;
	container_unlock(c);
	return container_notify_relay(c, fd, notify, e);
}

const struct cli_command cmd_start = {
	.name = "start",
	.arguments = "ID",
	.summary = "run the program of a created container",
	.options = none,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
