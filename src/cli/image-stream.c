/* SPDX-License-Identifier: Apache-2.0 */
/* image pack and unpack: between directories and streams. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "checkpoint/confine.h"
#include "cli/image-actions.h"
#include "image/sandbox.h"
#include "image/stream.h"

int cli_parse_compress(const char *text, struct image_packing *ret, struct error *e)
{
	int r = text ? image_codec_parse(text, &ret->codec, &ret->level) : 0;

	if (r < 0)
		return error_set(e, -EINVAL, ERROR_USAGE,
			r == -ERANGE ? "no such level: --compress %s: zstd has levels from 1 to 19"
				     : "unknown --compress %s: none, lz4, zstd or zstd:LEVEL",
			text);
	return 0;
}

int cli_image_pack(const void *options, char **args, struct error *e)
{
	const struct cli_image_options *o = options;
	_cleanup_close_ int dirfd = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(image_out_free_p) struct image_out *out = NULL;
	struct image_packing packing = {};
	int r = cli_parse_compress(o->compress, &packing, e);

	if (r < 0)
		return r;
	if (dirfd < 0)
		return error_errno(e, -errno, "image %s", args[0]);
	if (isatty(STDOUT_FILENO))
		return error_set(e, -EINVAL, ERROR_USAGE,
			"standard output is a terminal: a stream goes into a pipe or a file");
	signal(SIGPIPE, SIG_IGN);
	if (image_is_sandbox(dirfd)) {
		r = image_sandbox_pack(confined_image_open, dirfd,
			&(struct image_sandbox_out){
				.fd = STDOUT_FILENO, .cancel_fd = -EBADF, .packing = packing},
			e);
		return r < 0 ? error_prefix(e, "image %s", args[0]) : 0;
	}
	r = image_out_new(STDOUT_FILENO, -EBADF, 0, &out, e);
	if (r == 0)
		r = image_out_compress(out, &packing, e);
	if (r == 0)
		r = image_stream_pack(confined_image_open, dirfd, out, e);
	return r < 0 ? error_prefix(e, "image %s", args[0]) : 0;
}

static int unpack(int dirfd, struct image_packing *packing, struct error *e)
{
	int r;

	if (isatty(STDIN_FILENO))
		return error_set(e, -EINVAL, ERROR_USAGE,
			"standard input is a terminal: a stream comes from a pipe or a file");
	r = image_unpack(confined_image_open, STDIN_FILENO, dirfd, e);
	if (r < 0 || packing->codec == IMAGE_CODEC_NONE)
		return r;
	packing->dedup = true;
	if (image_is_sandbox(dirfd))
		r = error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"it is one of a sandbox, which is unpacked as it is: leave --compress out");
	else
		r = image_squash(confined_image_open, dirfd, dirfd, packing, e);
	if (r < 0)
		image_remove(dirfd);
	return r;
}

int cli_image_unpack(const void *options, char **args, struct error *e)
{
	const struct cli_image_options *o = options;
	struct image_packing packing = {};
	_cleanup_close_ int dirfd = -EBADF;
	int r = cli_parse_compress(o->compress, &packing, e);
	bool made = r == 0 && mkdir(args[0], 0700) == 0;

	if (r < 0)
		return r;
	if (!made && errno != EEXIST)
		return error_errno(e, -errno, "make the directory %s", args[0]);
	dirfd = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return error_errno(e, -errno, "directory %s", args[0]);
	r = unpack(dirfd, &packing, e);
	if (r < 0 && made)
		rmdir(args[0]);
	return r < 0 ? error_prefix(e, "image %s", args[0]) : 0;
}
