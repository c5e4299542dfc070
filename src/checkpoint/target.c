/* SPDX-License-Identifier: Apache-2.0 */
/* The directory that an image is written to: an older image in it is replaced, or comes back. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "checkpoint/engine-priv.h"
#include "image/sandbox.h"

static void closedir_p(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* What may be there: an earlier image, which is replaced (podman checkpoints into the same directory again and again), and
 * what we write beside it. */
static bool may_be_there(const char *name)
{
	/* "parent": podman links to the parent image. */
	static const char *const beside[] = {".", "..", "dump.log", "restore.log", "stats-restore", "parent"};

	for (size_t i = 0; i < ARRAY_SIZE(beside); i++)
		if (!strcmp(name, beside[i]))
			return true;
	return image_owns(name);
}

static int check_usable(int fd, const char *path, struct error *e)
{
	_cleanup_(closedir_p) DIR *d = NULL;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *ent;

	d = copy < 0 ? NULL : fdopendir(copy);
	if (!d)
		return error_errno(e, -errno, "read the image directory %s", path);
	while ((ent = readdir(d)))
		if (!may_be_there(ent->d_name))
			return error_set(e, -ENOTEMPTY, ERROR_USAGE,
				"the image directory %s is not empty (it holds \"%s\", which is not of an "
				"image): "
				"choose another --image-path, or remove it",
				path, ent->d_name);
	return 0;
}

/* One command at a time writes there. Some file systems cannot lock a directory. */
static int lock_directory(int fd, const char *path, struct error *e)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	return error_set(e, -EBUSY, ERROR_STATE, "another checkpoint is being written to %s", path);
}

int target_open(const char *path, struct target *t, struct error *e)
{
	int r;

	t->path = path;
	t->created = mkdir(path, 0700) == 0;
	if (!t->created && errno != EEXIST)
		return error_errno(e, -errno, "make the image directory %s", path);
	t->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->fd < 0)
		return error_errno(e, -errno, "open the image directory %s", path);
	r = check_usable(t->fd, path, e);
	if (r < 0)
		return r;
	if (faccessat(t->fd, ".", W_OK | X_OK, 0) < 0)
		return error_errno(e, -errno, "the image directory %s is not writable", path);
	r = lock_directory(t->fd, path, e);
	if (r == 0)
		r = image_set_aside(t->fd, e);
	t->claimed = r >= 0;
	t->had_older = r > 0;
	return r < 0 ? r : 0;
}

void target_remove(const struct target *t)
{
	if (t->fd < 0) /* a stream */
		return;
	if (t->sandbox)
		image_sandbox_remove_member(t->sandbox->fd, t->path);
	else if (t->had_older)
		image_put_back(t->fd);
	else
		image_remove(t->fd);
}

/* The end of it, well or ill. */
void target_close(struct target *t, int result)
{
	if (t->claimed && result == 0)
		image_drop_aside(t->fd);
	else if (t->claimed)
		target_remove(t);
	if (t->created && result < 0)
		rmdir(t->path);
	close_p(&t->fd);
}

/* A checkpoint over this image may have been killed with all that would have put it back. */
int target_recover(int fd, const char *path, struct error *e)
{
	int r;

	if (!image_is_aside(fd))
		return 0;
	r = lock_directory(fd, path, e);
	if (r < 0)
		return r;
	image_recover(fd);
	flock(fd, LOCK_UN);
	return 0;
}
