/* SPDX-License-Identifier: Apache-2.0 */
/* tmpcopyup: a new tmpfs starts with what lies at its mount point. Regular files, directories and symlinks, with modes
 * and owners; other kinds of file are left behind, as runc does. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "container/container-priv.h"

static int copy_file(int from, int to, const char *name, const struct stat *st)
{
	_cleanup_close_ int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), out = -EBADF;
	ssize_t n;

	if (in < 0)
		return -errno;
	out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	do
		n = sendfile(out, in, NULL, 1 << 30);
	while (n > 0 || (n < 0 && errno == EINTR));
	if (n < 0 || fchown(out, st->st_uid, st->st_gid) < 0 || fchmod(out, st->st_mode & 07777) < 0)
		return -errno;
	return 0;
}

static int copy_link(int from, int to, const char *name, const struct stat *st)
{
	char target[4096];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	if (symlinkat(target, to, name) < 0 ||
		fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

static void closedir_p(DIR **d)
{
	if (*d)
		closedir(*d);
}

static int copy_directory(int from, int to, int depth);

static int copy_subdirectory(int from, int to, const char *name, const struct stat *st, int depth)
{
	_cleanup_close_ int in = openat(from, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
			    out = -EBADF;
	int r;

	if (in < 0 || mkdirat(to, name, 0700) < 0)
		return -errno;
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0)
		return -errno;
	r = copy_directory(in, out, depth + 1);
	if (r == 0 && (fchown(out, st->st_uid, st->st_gid) < 0 || fchmod(out, st->st_mode & 07777) < 0))
		r = -errno;
	return r;
}

static int copy_directory(int from, int to, int depth)
{
	int fd = depth > 100 ? -1 : openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	_cleanup_(closedir_p) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *ent;

	if (!d)
		return depth > 100 ? -ELOOP : -errno;
	while (r == 0 && (ent = readdir(d))) {
		struct stat st;

		if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, ".."))
			continue;
		if (fstatat(from, ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (S_ISREG(st.st_mode))
			r = copy_file(from, to, ent->d_name, &st);
		else if (S_ISLNK(st.st_mode))
			r = copy_link(from, to, ent->d_name, &st);
		else if (S_ISDIR(st.st_mode))
			r = copy_subdirectory(from, to, ent->d_name, &st, depth);
	}
	return r;
}

int rootfs_copy_up(int from, int to, struct error *e)
{
	struct stat st;
	int r = fstat(from, &st) < 0 ? -errno : 0;

	/* "to" is an O_PATH-like mount descriptor: all goes through names below it */
	if (r == 0)
		r = copy_directory(from, to, 0);
	if (r == 0 && fchownat(to, ".", st.st_uid, st.st_gid, 0) < 0)
		r = -errno;
	return r < 0 ? error_errno(e, r, "tmpcopyup") : 0;
}
