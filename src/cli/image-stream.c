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

int cli_image_pack(const void *options, char **args, struct error *e)
{
	_cleanup_close_ int dirfd = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(image_out_free_p) struct image_out *out = NULL;
	int r;

	if (dirfd < 0)
		return error_errno(e, -errno, "image %s", args[0]);
	if (isatty(STDOUT_FILENO))
		return error_set(e, -EINVAL, ERROR_USAGE,
			"standard output is a terminal: a stream goes into a pipe or a file");
	signal(SIGPIPE, SIG_IGN);
	if (image_is_sandbox(dirfd)) {
		r = image_sandbox_pack(confined_image_open, dirfd, STDOUT_FILENO, e);
		return r < 0 ? error_prefix(e, "image %s", args[0]) : 0;
	}
	r = image_out_new(STDOUT_FILENO, -EBADF, 0, &out, e);
	if (r == 0)
		r = image_stream_pack(confined_image_open, dirfd, out, e);
	return r < 0 ? error_prefix(e, "image %s", args[0]) : 0;
}

int cli_image_unpack(const void *options, char **args, struct error *e)
{
	bool made = mkdir(args[0], 0700) == 0;
	_cleanup_close_ int dirfd = -EBADF;
	int r;

	if (!made && errno != EEXIST)
		return error_errno(e, -errno, "make the directory %s", args[0]);
	dirfd = open(args[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return error_errno(e, -errno, "directory %s", args[0]);
	r = isatty(STDIN_FILENO)
		    ? error_set(e, -EINVAL, ERROR_USAGE,
			      "standard input is a terminal: a stream comes from a pipe or a file")
		    : image_unpack(confined_image_open, STDIN_FILENO, dirfd, e);
	if (r < 0 && made)
		rmdir(args[0]);
	return r < 0 ? error_prefix(e, "image %s", args[0]) : 0;
}
