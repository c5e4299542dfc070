/* SPDX-License-Identifier: Apache-2.0 */
/* image ACTION ...: what can be done with an image as a whole. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "cli/commands.h"
#include "image/image.h"

struct options {
	bool json;
};

static const struct cli_option table[] = {
	{"json", 0, CLI_FLAG, offsetof(struct options, json), NULL, "stats: as JSON, in bytes"},
	{NULL},
};

static int open_image(const char *path, struct image **ret, struct error *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return error_errno(e, -errno, "image %s", path);
	r = image_open(fd, ret, e);
	return r < 0 ? error_prefix(e, "image %s", path) : 0;
}

/* ---- stats ---- */

struct line {
	const char *name, *text;
	uint64_t bytes, saved;
};

static void print_text(const struct line *lines, size_t n, const struct image_sizes *s, uint64_t pack_us)
{
	printf("%-12s %10s %10s\n", "", "MiB", "saved");
	for (size_t i = 0; i < n; i++) {
		printf("%-12s %10.2f ", lines[i].name, (double)lines[i].bytes / (1 << 20));
		if (lines[i].saved)
			printf("%10.2f", (double)lines[i].saved / (1 << 20));
		else
			printf("%10s", "");
		printf("  %s\n", lines[i].text);
	}
	printf("compression: %s", s->codec == IMAGE_CODEC_NONE ? "none" : image_codec_name(s->codec));
	if (s->pieces)
		printf(", %llu of %llu pieces", (unsigned long long)s->compressed_pieces,
			(unsigned long long)s->pieces);
	if (pack_us)
		printf(", in %.1f ms", (double)pack_us / 1000);
	printf("\nratio: %.2f\n", s->files ? (double)s->memory / (double)s->files : 0);
}

static void print_json(const struct line *lines, size_t n, const struct image_sizes *s, uint64_t pack_us)
{
	printf("{");
	for (size_t i = 0; i < n; i++)
		printf("\"%s\": %llu, ", lines[i].name, (unsigned long long)lines[i].bytes);
	printf("\"saved\": {");
	for (size_t i = 0, k = 0; i < n; i++)
		if (lines[i].saved)
			printf("%s\"%s\": %llu", k++ ? ", " : "", lines[i].name,
				(unsigned long long)lines[i].saved);
	printf("}, \"codec\": \"%s\", \"pieces\": %llu, \"compressed_pieces\": %llu, \"pack_us\": %llu}\n",
		image_codec_name(s->codec), (unsigned long long)s->pieces,
		(unsigned long long)s->compressed_pieces, (unsigned long long)pack_us);
}

static int stats(const struct options *o, char **args, struct error *e)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	struct image_sizes s;
	int r = open_image(args[0], &i, e);

	if (r < 0)
		return r;
	image_sizes(i, &s);
	const struct line lines[] = {
		{"memory", "of the container, with shared memory, and files that only the image has",
			s.memory, 0},
		{"zero", "full of zeros: not stored", s.zero, s.zero},
		{"shared", "as after a fork: stored with a relative", s.shared, s.shared},
		{"duplicate", "with the contents of others: stored with the first", s.duplicate, s.duplicate},
		{"parent", "in an image before this one", s.parent, s.parent},
		{"data", "what is left, in this image", s.data, 0},
		{"stored", "what that takes in pages.img", s.stored,
			s.data > s.stored ? s.data - s.stored : 0},
		{"files", "all files of the image that a restore reads", s.files, 0},
	};
	(o->json ? print_json : print_text)(
		lines, ARRAY_SIZE(lines), &s, image_manifest(i)->statistics.pack_us);
	return 0;
}

static const struct {
	const char *name;
	int n_args;
	int (*run)(const struct options *o, char **args, struct error *e);
} actions[] = {
	{"stats", 1, stats},
};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (!strcmp(actions[i].name, args[0]) && actions[i].n_args == n_args - 1)
			return actions[i].run(options, args + 1, e);
	return error_set(e, -EINVAL, ERROR_USAGE, "unknown or incomplete: image %s (see stasis image --help)",
		args[0]);
}

const struct cli_command cmd_image = {
	.name = "image",
	.arguments = "stats DIR",
	.summary = "what an image saves, and where",
	.options = table,
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
