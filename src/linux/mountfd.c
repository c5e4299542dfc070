/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/mountfd.h"

#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fd.h"

int open_in_root(int root, const char *path, uint64_t flags, mode_t mode)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	int fd;

	do /* EAGAIN: a rename ran beside us and the kernel could not prove that ".." stayed inside */
		fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
	while (fd < 0 && (errno == EAGAIN || errno == EINTR));
	return fd < 0 ? -errno : fd;
}

/* Opens the parent of the last component of path and copies that component to name. */
static int split_parent(int root, const char *path, char *name, size_t size, mode_t mode)
{
	size_t len = strlen(path), start;
	char parent[4096];

	while (len > 0 && path[len - 1] == '/')
		len--;
	for (start = len; start > 0 && path[start - 1] != '/'; start--)
		;
	if (len == start || len - start >= size || start >= sizeof(parent))
		return -ENAMETOOLONG;
	memcpy(name, path + start, len - start);
	name[len - start] = '\0';
	memcpy(parent, path, start);
	parent[start] = '\0';
	while (start > 0 && parent[start - 1] == '/')
		parent[--start] = '\0';
	return make_dirs_in_root(root, start ? parent : "/", mode);
}

int make_dirs_in_root(int root, const char *path, mode_t mode)
{
	_cleanup_close_ int parent = -EBADF;
	char name[256];
	int fd;

	fd = open_in_root(root, path, O_PATH | O_DIRECTORY, 0);
	if (fd != -ENOENT)
		return fd;
	parent = split_parent(root, path, name, sizeof(name), mode);
	if (parent < 0)
		return parent;
	if (mkdirat(parent, name, mode) < 0 && errno != EEXIST)
		return -errno;
	return open_in_root(root, path, O_PATH | O_DIRECTORY, 0);
}

int make_file_in_root(int root, const char *path)
{
	_cleanup_close_ int parent = -EBADF;
	char name[256];
	int fd;

	fd = open_in_root(root, path, O_PATH, 0);
	if (fd != -ENOENT)
		return fd;
	parent = split_parent(root, path, name, sizeof(name), 0755);
	if (parent < 0)
		return parent;
	fd = openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_RDONLY, 0644);
	if (fd < 0 && errno != EEXIST)
		return -errno;
	close_p(&fd);
	return open_in_root(root, path, O_PATH, 0);
}

int mount_clone(int dirfd, const char *path, bool recursive)
{
	int fd = open_tree(dirfd, path,
		OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0));

	return fd < 0 ? -errno : fd;
}

int mount_attach(int mount_fd, int target_fd)
{
	int r = move_mount(mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);

	return r < 0 ? -errno : 0;
}

int mount_change(int mount_fd, uint64_t set, uint64_t clear, uint64_t propagation, bool recursive)
{
	struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = propagation};

	/* the atime bits are one field: to set one of them the field must be cleared as a whole */
	if (set & MOUNT_ATTR__ATIME || clear & MOUNT_ATTR__ATIME)
		attr.attr_clr |= MOUNT_ATTR__ATIME;
	if (mount_setattr(mount_fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr, sizeof(attr)) <
		0)
		return -errno;
	return 0;
}

static int configure(int fs, const char *source, const char *options)
{
	_cleanup_free_ char *copy = NULL;
	char *rest, *one;

	if (source && fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		return -errno;
	if (!options || !*options)
		return 0;
	rest = copy = strdup(options);
	if (!copy)
		return -ENOMEM;
	while ((one = strsep(&rest, ","))) {
		char *value = strchr(one, '=');
		int r;

		if (!*one)
			continue;
		if (value)
			*value++ = '\0';
		r = value ? fsconfig(fs, FSCONFIG_SET_STRING, one, value, 0)
			  : fsconfig(fs, FSCONFIG_SET_FLAG, one, NULL, 0);
		if (r < 0)
			return -errno;
	}
	return 0;
}

int mount_make(const char *fstype, const char *source, const char *options, uint64_t attr)
{
	_cleanup_close_ int fs = fsopen(fstype, FSOPEN_CLOEXEC);
	int r, fd;

	if (fs < 0)
		return -errno;
	r = configure(fs, source, options);
	if (r < 0)
		return r;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = fsmount(fs, FSMOUNT_CLOEXEC, attr);
	return fd < 0 ? -errno : fd;
}

uint64_t mount_attr_of_flags(unsigned long ms_flags)
{
	static const struct {
		unsigned long ms;
		uint64_t attr;
	} map[] = {
		{MS_RDONLY, MOUNT_ATTR_RDONLY},
		{MS_NOSUID, MOUNT_ATTR_NOSUID},
		{MS_NODEV, MOUNT_ATTR_NODEV},
		{MS_NOEXEC, MOUNT_ATTR_NOEXEC},
		{MS_NOATIME, MOUNT_ATTR_NOATIME},
		{MS_STRICTATIME, MOUNT_ATTR_STRICTATIME},
		{MS_NODIRATIME, MOUNT_ATTR_NODIRATIME},
		{MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
	};
	uint64_t attr = 0;

	for (size_t i = 0; i < ARRAY_SIZE(map); i++)
		if (ms_flags & map[i].ms)
			attr |= map[i].attr;
	return attr;
}
