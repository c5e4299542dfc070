/* SPDX-License-Identifier: Apache-2.0 */
/* run: create and start; in the foreground also wait, and delete at the end. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/create-options.h"

struct options {
	struct create_options create;
	bool detach, keep, no_subreaper;
};

static const struct cli_option table[] = {
	CREATE_OPTIONS(struct options, create),
	CONFIG_OPTION(struct options, create),
	{"detach", 'd', CLI_FLAG, offsetof(struct options, detach), NULL,
		"do not wait for the container's end"},
	{"keep", 0, CLI_FLAG, offsetof(struct options, keep), NULL, "do not delete the container at its end"},
	{"no-subreaper", 0, CLI_FLAG, offsetof(struct options, no_subreaper), NULL,
		"do not become the parent of orphaned processes"},
	{NULL},
};

static int make(
	void *arg, const struct container_create_options *create, struct container **ret, struct error *e)
{
	return container_create(create, ret, e);
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	_cleanup_(container_free_p) struct container *c = NULL;
	struct container_create_options create;
	sigset_t none;
	int r = create_options_for(g, &o->create, args[0], &create, e);

	if (r < 0)
		return r;
	create.start = true;
	if (!o->detach)
		return foreground_container(&create,
			&(struct foreground_container){.make = make,
				.start = container_start,
				.keep = o->keep,
				.no_subreaper = o->no_subreaper},
			e);
	r = container_create(&create, &c, e);
	if (r < 0)
		return r;
	r = container_start(c, e);
	if (r < 0)
		container_delete_quietly(c);
	if (r < 0)
		return r;
	container_unlock(c);
	cli_supervise(c);
	if (c->notify_fd < 0)
		return 0;
	/* what container_create() has blocked: it may be long until the program is ready */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return container_notify_relay(c, c->notify_fd, getenv("NOTIFY_SOCKET"), e);
}

const struct cli_command cmd_run = {
	.name = "run",
	.arguments = "ID",
	.summary = "make a container and run its program",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.enters_container = true,
	.run = run,
};
