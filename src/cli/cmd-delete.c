/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>

#include "base/fd.h"
#include "base/log.h"
#include "cli/commands.h"

struct options {
	bool force, regex;
};

static const struct cli_option table[] = {
	{"force", 'f', CLI_FLAG, offsetof(struct options, force), NULL, "kill it first if it is running"},
	{"regex", 'r', CLI_FLAG, offsetof(struct options, regex), NULL,
		"every container whose id matches the regular expression"},
	{NULL},
};

/* Its record can't be read, so nothing else can be known of it; the id becomes free. */
static int remove_damaged(const char *root, const char *id, struct error *e)
{
	_cleanup_close_ int dir = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	log_warning("%s: only the state directory is removed", e->message);
	r = dir < 0 ? -errno : remove_tree_at(dir, id);
	return r < 0 ? error_errno(e, r, "remove %s/%s", root, id) : 0;
}

struct request {
	const char *root;
	bool force;
};

static int delete_one(const char *id, void *arg, struct error *e)
{
	const struct request *q = arg;
	_cleanup_(container_free_p) struct container *c = NULL;
	int r = container_load(q->root, id, true, &c, e);

	if (r == -ENOENT && q->force && e->kind == ERROR_STATE)
		return 0;
	if (r < 0 && e->kind == ERROR_CORRUPT && q->force)
		return remove_damaged(q->root, id, e);
	return r < 0 ? r : container_delete(c, q->force, e);
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	struct request q = {g->root, o->force};

	return o->regex ? cli_for_matching(g->root, args[0], delete_one, &q, e) : delete_one(args[0], &q, e);
}

const struct cli_command cmd_delete = {
	.name = "delete",
	.arguments = "ID",
	.summary = "remove a stopped container",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
