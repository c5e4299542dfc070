/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"
#include "cli/commands.h"

struct options {
	const char *bundle, *file;
	bool rootless;
};

static const struct cli_option table[] = {
	{"bundle", 'b', CLI_STRING, offsetof(struct options, bundle), "DIR",
		"where to write it (default: .)"},
	{"file", 'f', CLI_STRING, offsetof(struct options, file), "FILE",
		"where to write it, instead of config.json in the bundle"},
	{"rootless", 0, CLI_FLAG, offsetof(struct options, rootless), NULL, "for a user without privileges"},
	{NULL},
};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	const char *bundle = o->bundle ? o->bundle : ".", *file = o->file ? o->file : "config.json";
	_cleanup_close_ int dir = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;
	_cleanup_free_ char *json = NULL;
	int r;

	if (dir < 0)
		return error_errno(e, -errno, "bundle %s", bundle);
	r = spec_default_json(o->rootless, &json);
	if (r < 0)
		return error_errno(e, r, "config.json");
	fd = openat(dir, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0 && errno == EEXIST)
		return error_set(e, -EEXIST, ERROR_USAGE, "file %s exists. Remove it first", file);
	if (fd < 0)
		return error_errno(e, -errno, "write %s", file);
	r = write_all(fd, json, strlen(json));
	return r < 0 ? error_errno(e, r, "write %s", file) : 0;
}

const struct cli_command cmd_spec = {
	.name = "spec",
	.arguments = "",
	.summary = "write a config.json to start from",
	.options = table,
	.max_args = 0,
	.run = run,
};
