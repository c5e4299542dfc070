/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>

#include "cli/commands.h"

struct options {
	bool all, regex;
};

static const struct cli_option table[] = {
	{"all", 'a', CLI_FLAG, offsetof(struct options, all), NULL, "signal every process of the container"},
	{"regex", 'r', CLI_FLAG, offsetof(struct options, regex), NULL,
		"every container whose id matches the regular expression"},
	{NULL},
};

struct request {
	const char *root;
	int signal;
	bool all;
};

static int kill_one(const char *id, void *arg, struct error *e)
{
	const struct request *q = arg;
	_cleanup_(container_free_p) struct container *c = NULL;
	/* no lock: a signal must come through whatever another command is waiting for */
	int r = container_load(q->root, id, false, &c, e);

	return r < 0 ? r : container_kill(c, q->signal, q->all, e);
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	struct request q = {g->root, SIGTERM, o->all};

	if (n_args > 1) {
		q.signal = cli_parse_signal(args[1], e);
		if (q.signal < 0)
			return q.signal;
	}
	return o->regex ? cli_for_matching(g->root, args[0], kill_one, &q, e) : kill_one(args[0], &q, e);
}

const struct cli_command cmd_kill = {
	.name = "kill",
	.arguments = "ID [SIGNAL]",
	.summary = "send a signal (default: TERM) to a container's first process",
	.options = table,
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
