/* SPDX-License-Identifier: Apache-2.0 */
/* image ACTION ...: what can be done with an image as a whole. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "checkpoint/confine.h"
#include "cli/commands.h"
#include "cli/image-actions.h"
#include "image/sandbox.h"

static const struct cli_option table[] = {
	{"json", 0, CLI_FLAG, offsetof(struct cli_image_options, json), NULL, "stats: as JSON, in bytes"},
	{"output", 'o', CLI_STRING, offsetof(struct cli_image_options, output), "DIR",
		"squash: where the new image is written (default: in the place of the old one)"},
	{"compress", 0, CLI_STRING, offsetof(struct cli_image_options, compress), "none|lz4|zstd[:LEVEL]",
		"pack: page data of the stream; unpack, squash: that of the directory"},
	{NULL},
};

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
	printf("}, \"codec\": \"%s\", \"pieces\": %llu, \"compressed_pieces\": %llu, \"pack_us\": %llu}",
		image_codec_name(s->codec), (unsigned long long)s->pieces,
		(unsigned long long)s->compressed_pieces, (unsigned long long)pack_us);
}

static const struct {
	const char *name, *text;
	size_t bytes;
	bool saved; /* all of it */
} sizes[] = {
#define SIZE(member) offsetof(struct image_sizes, member)
	{"memory", "of the container, with shared memory, and files that only the image has", SIZE(memory)},
	{"zero", "full of zeros: not stored", SIZE(zero), true},
	{"shared", "as after a fork: stored with a relative", SIZE(shared), true},
	{"duplicate", "with the contents of others: stored with the first", SIZE(duplicate), true},
	{"parent", "not written since an image before this one", SIZE(parent), true},
	{"repeated", "with contents that an image before this one has", SIZE(repeated), true},
	{"data", "what is left, in this image", SIZE(data)},
	{"stored", "what that takes in pages.img", SIZE(stored)},
	{"files", "all files of the image that a restore reads", SIZE(files)},
};

static uint64_t *size_at(const struct image_sizes *s, size_t i)
{
	return (uint64_t *)((char *)s + sizes[i].bytes);
}

static size_t get_lines(const struct image_sizes *s, struct line lines[ARRAY_SIZE(sizes)])
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t bytes = *size_at(s, i);

		lines[i] = (struct line){sizes[i].name, sizes[i].text, bytes, sizes[i].saved ? bytes : 0};
		if (sizes[i].bytes == SIZE(stored) && s->data > s->stored)
			lines[i].saved = s->data - s->stored;
	}
	return ARRAY_SIZE(sizes);
}

static void add_sizes(struct image_sizes *sum, const struct image_sizes *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		*size_at(sum, i) += *size_at(s, i);
	sum->pieces += s->pieces;
	sum->compressed_pieces += s->compressed_pieces;
	if (s->codec != IMAGE_CODEC_NONE)
		sum->codec = s->codec;
}

static uint64_t pack_time(const struct image *i)
{
	return image_manifest(i)->statistics.pack_us;
}

/* Each container in a line, then all of them. */
static void print_whole_text(const struct image_whole *w, const struct image_sizes *all,
	const struct image_sizes *sum, uint64_t pack_us)
{
	struct line lines[ARRAY_SIZE(sizes)] = {};

	printf("%-20s %10s %10s %10s %10s  MiB\n", "container", "memory", "data", "stored", "files");
	for (size_t i = 0; i < w->sandbox->n_members; i++)
		printf("%-20s %10.2f %10.2f %10.2f %10.2f\n", w->sandbox->members[i].name,
			(double)all[i].memory / (1 << 20), (double)all[i].data / (1 << 20),
			(double)all[i].stored / (1 << 20), (double)all[i].files / (1 << 20));
	printf("\n");
	print_text(lines, get_lines(sum, lines), sum, pack_us);
}

static void print_whole_json(const struct image_whole *w, const struct image_sizes *all,
	const struct image_sizes *sum, uint64_t pack_us)
{
	struct line lines[ARRAY_SIZE(sizes)] = {};

	printf("{\"sandbox\": \"%s\", \"total\": ", w->sandbox->id);
	print_json(lines, get_lines(sum, lines), sum, pack_us);
	printf(", \"containers\": {");
	for (size_t i = 0; i < w->sandbox->n_members; i++) {
		printf("%s\"%s\": ", i ? ", " : "", w->sandbox->members[i].name);
		print_json(lines, get_lines(&all[i], lines), &all[i], pack_time(w->images[i]));
	}
	printf("}}\n");
}

static int stats_of_sandbox(const struct cli_image_options *o, int dirfd, struct error *e)
{
	struct image_sizes *all, sum = {};
	struct image_whole w;
	uint64_t pack_us = 0;
	int r = image_whole_open(confined_image_open, dirfd, &w, e);

	if (r < 0)
		return r;
	all = calloc(w.sandbox->n_members, sizeof(*all));
	for (size_t i = 0; all && i < w.sandbox->n_members; i++) {
		image_sizes(w.images[i], &all[i]);
		add_sizes(&sum, &all[i]);
		pack_us += pack_time(w.images[i]);
	}
	if (all)
		(o->json ? print_whole_json : print_whole_text)(&w, all, &sum, pack_us);
	r = all ? 0 : error_errno(e, -ENOMEM, "image");
	free(all);
	image_whole_done(&w);
	return r;
}

static int stats_of_container(const struct cli_image_options *o, int dirfd, struct error *e)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	struct line lines[ARRAY_SIZE(sizes)] = {};
	struct image_sizes s;
	int r = confined_image_open(dirfd, &i, e);

	if (r < 0)
		return r;
	image_sizes(i, &s);
	if (o->json)
		print_json(lines, get_lines(&s, lines), &s, pack_time(i));
	else
		print_text(lines, get_lines(&s, lines), &s, pack_time(i));
	if (o->json)
		printf("\n");
	return 0;
}

static int stats(const void *options, char **args, struct error *e)
{
	_cleanup_close_ int fd = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return error_errno(e, -errno, "image %s", args[0]);
	r = image_is_sandbox(fd) ? stats_of_sandbox(options, fd, e) : stats_of_container(options, fd, e);
	return r < 0 ? error_prefix(e, "image %s", args[0]) : 0;
}

/* ---- squash ---- */

/* A new directory, or an empty one. *ret_made: it is ours to remove. */
static int open_output(const char *path, bool *ret_made, struct error *e)
{
	int fd;

	*ret_made = mkdir(path, 0700) == 0;
	if (!*ret_made && errno != EEXIST)
		return error_errno(e, -errno, "make the image directory %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? error_errno(e, -errno, "open the image directory %s", path) : fd;
}

static int squash(const void *options, char **args, struct error *e)
{
	const struct cli_image_options *o = options;
	_cleanup_close_ int from = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC), to = -EBADF;
	struct image_packing packing = {};
	bool made = false;
	int r = cli_parse_compress(o->compress, &packing, e);

	if (r < 0)
		return r;
	if (from < 0)
		return error_errno(e, -errno, "image %s", args[0]);
	if (image_is_sandbox(from))
		return error_set(e, -EINVAL, ERROR_USAGE,
			"image %s: it is one of a sandbox, which never has parents: there is nothing to "
			"squash",
			args[0]);
	to = o->output ? open_output(o->output, &made, e) : fcntl(from, F_DUPFD_CLOEXEC, 3);
	if (to < 0)
		return to;
	if (flock(to, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return error_set(e, -EBUSY, ERROR_STATE, "a checkpoint is being written to %s",
			o->output ? o->output : args[0]);
	packing.dedup = packing.codec != IMAGE_CODEC_NONE;
	r = image_squash(confined_image_open, from, to, o->compress ? &packing : NULL, e);
	if (r < 0) {
		if (made)
			rmdir(o->output);
		error_prefix(e, "image %s", args[0]);
	}
	return r;
}

static const struct {
	const char *name;
	int n_args;
	int (*run)(const void *options, char **args, struct error *e);
} actions[] = {
	{"stats", 1, stats},
	{"squash", 1, squash},
	{"pack", 1, cli_image_pack},
	{"unpack", 1, cli_image_unpack},
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
	.arguments = "stats|squash|pack|unpack DIR",
	.summary =
		"what an image saves, and where; one image of it and its parents; a stream of it, and back",
	.options = table,
	.min_args = 1,
	.max_args = -1,
	.run = run,
};
