/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new image in the place of an older one. The older one waits in a folder of its own below the image directory, and is
 * moved back if the new one fails.
 *
 * Invariant: an image's manifest is the first file that goes and the last that comes. So at every moment either the
 * directory or the folder has a whole image, and image_recover() can tell which, also after kill -9 of all that took part.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "image/image-priv.h"
#include "image/sandbox.h"

#define ASIDE ".replaced"

static int open_aside(int dirfd)
{
	int fd = openat(dirfd, ASIDE, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static bool has_manifest(int dirfd)
{
	return faccessat(dirfd, IMAGE_MANIFEST, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* 0 also for a file that is not there. */
static int move(int from, int to, const char *name)
{
	return renameat(from, name, to, name) < 0 && errno != ENOENT ? -errno : 0;
}

/* The images of a sandbox's containers are moved like a file, before all others are moved back. What is there then is the
 * new image's. */
static void move_back(int aside, int dirfd)
{
	if (image_is_sandbox(aside)) {
		image_sandbox_remove_all(dirfd);
		(void)!move(aside, dirfd, IMAGE_CONTAINERS);
	}
	for (unsigned i = 0; image_names[i]; i++)
		(void)!move(aside, dirfd, image_names[i]);
}

int image_set_aside(int dirfd, struct error *e)
{
	_cleanup_close_ int aside = -EBADF;
	int r = 0;
	size_t n = 0;

	image_recover(dirfd);
	if (!has_manifest(dirfd)) {
		image_remove(dirfd); /* what is left of an unfinished one */
		return 0;
	}
	if (mkdirat(dirfd, ASIDE, 0700) < 0)
		return error_errno(e, -errno, "move the older image out of the way");
	aside = open_aside(dirfd);
	if (aside < 0)
		return error_errno(e, aside, "move the older image out of the way");
	while (image_names[n])
		n++;
	while (n-- > 0 && r == 0)
		r = move(dirfd, aside, image_names[n]);
	if (r == 0)
		r = move(dirfd, aside, IMAGE_CONTAINERS);
	if (r < 0) {
		move_back(aside, dirfd);
		unlinkat(dirfd, ASIDE, AT_REMOVEDIR);
		return error_errno(e, r, "move the older image out of the way");
	}
	return 1;
}

void image_put_back(int dirfd)
{
	_cleanup_close_ int aside = open_aside(dirfd);

	if (aside < 0)
		return;
	/* Of the same kind it has the same files in the end: nothing else of the new one need be removed. */
	unlinkat(dirfd, IMAGE_MANIFEST, 0);
	if (image_is_sandbox(aside))
		for (unsigned i = 0; image_names[i]; i++)
			unlinkat(dirfd, image_names[i], 0);
	unlinkat(dirfd, IMAGE_PAGES_RAW, 0);
	unlinkat(dirfd, IMAGE_MANIFEST_TMP, 0);
	move_back(aside, dirfd);
	unlinkat(dirfd, ASIDE, AT_REMOVEDIR);
}

void image_drop_aside(int dirfd)
{
	_cleanup_close_ int aside = open_aside(dirfd);

	if (aside < 0)
		return;
	image_remove(aside);
	unlinkat(dirfd, ASIDE, AT_REMOVEDIR);
}

bool image_is_aside(int dirfd)
{
	return faccessat(dirfd, ASIDE, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool image_would_replace(int dirfd, int other)
{
	_cleanup_close_ int aside = open_aside(dirfd);
	struct stat it, here, there;

	return fstat(other, &it) == 0 && fstat(dirfd, &here) == 0 &&
	       ((it.st_dev == here.st_dev && it.st_ino == here.st_ino) ||
		       (aside >= 0 && fstat(aside, &there) == 0 && it.st_dev == there.st_dev &&
			       it.st_ino == there.st_ino));
}

void image_recover(int dirfd)
{
	_cleanup_close_ int aside = open_aside(dirfd);

	if (aside < 0)
		return;
	if (has_manifest(dirfd) || !has_manifest(aside))
		image_drop_aside(dirfd);
	else
		image_put_back(dirfd);
}

bool image_owns(const char *name)
{
	for (unsigned i = 0; image_names[i]; i++)
		if (!strcmp(image_names[i], name))
			return true;
	return !strcmp(ASIDE, name) || !strcmp(IMAGE_CONTAINERS, name);
}

void image_remove(int dirfd)
{
	size_t n = 0;

	while (image_names[n])
		n++;
	/* The manifest first: what is left at any moment must not look like a checkpoint. */
	while (n-- > 0)
		unlinkat(dirfd, image_names[n], 0);
	unlinkat(dirfd, IMAGE_WORKING_SET, 0);
	image_sandbox_remove_all(dirfd);
}
