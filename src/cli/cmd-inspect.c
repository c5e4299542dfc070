/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/confine.h"
#include "cli/commands.h"
#include "image/inspect.h"

struct options {
	const char *format;
	bool verify;
};

static const struct cli_option table[] = {
	{"format", 'f', CLI_STRING, offsetof(struct options, format), "text|json|html", "output format"},
	{"verify", 0, CLI_FLAG, offsetof(struct options, verify), NULL, "check all of the page data, too"},
	{NULL},
};

static int parse_format(const char *s, enum image_inspect_format *ret, struct error *e)
{
	static const char *const names[] = {"text", "json", "html"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(s, names[i])) {
			*ret = (enum image_inspect_format)i;
			return 0;
		}
	}
	return error_set(e, -EINVAL, ERROR_USAGE, "invalid format option \"%s\": text, json or html", s);
}

static int inspect_sandbox(int dirfd, bool verify, enum image_inspect_format format, struct error *e)
{
	struct image_whole w;
	int r = image_whole_open(confined_image_open, dirfd, &w, e);

	if (r < 0)
		return r;
	if (verify)
		r = image_whole_verify(&w, dirfd, e);
	if (r == 0)
		r = image_inspect_whole(&w, format, stdout, e);
	image_whole_done(&w);
	return r;
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	enum image_inspect_format format = IMAGE_INSPECT_TEXT;
	_cleanup_(image_free_p) struct image *i = NULL;
	_cleanup_close_ int dirfd = -EBADF;
	int r;

	r = parse_format(o->format ? o->format : "text", &format, e);
	if (r < 0)
		return r;
	dirfd = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return error_errno(e, -errno, "image %s", args[0]);
	if (image_is_sandbox(dirfd)) {
		r = inspect_sandbox(dirfd, o->verify, format, e);
		return r < 0 ? error_prefix(e, "image %s", args[0]) : 0;
	}
	r = confined_image_open(dirfd, &i, e);
	if (r == 0 && o->verify)
		r = image_verify_pages(i, e);
	if (r == 0)
		r = image_inspect(i, format, stdout, e);
	if (r < 0)
		error_prefix(e, "image %s", args[0]);
	return r;
}

const struct cli_command cmd_inspect = {
	.name = "inspect",
	.arguments = "IMAGE_DIR",
	.summary = "show what is in a checkpoint image: processes, memory, files and sockets; or a sandbox's "
		   "containers",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
