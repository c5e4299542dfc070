/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev: the default devices and links of the runtime-spec, and linux.devices. Where mknod is not permitted the host's
 * node is bind-mounted. A /dev that is itself a bind mount is the user's and left alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/mountfd.h"

static const struct spec_device default_devices[] = {
	{.path = "/dev/null", .type = 'c', .major = 1, .minor = 3, .has_mode = true, .mode = 0666},
	{.path = "/dev/zero", .type = 'c', .major = 1, .minor = 5, .has_mode = true, .mode = 0666},
	{.path = "/dev/full", .type = 'c', .major = 1, .minor = 7, .has_mode = true, .mode = 0666},
	{.path = "/dev/random", .type = 'c', .major = 1, .minor = 8, .has_mode = true, .mode = 0666},
	{.path = "/dev/urandom", .type = 'c', .major = 1, .minor = 9, .has_mode = true, .mode = 0666},
	{.path = "/dev/tty", .type = 'c', .major = 5, .minor = 0, .has_mode = true, .mode = 0666},
};

static const struct {
	const char *name, *target;
} links[] = {
	{"fd", "/proc/self/fd"},
	{"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"},
	{"core", "/proc/kcore"},
};

static int bind_device(const struct spec_device *d, int root)
{
	_cleanup_close_ int tree = mount_clone(AT_FDCWD, d->path, false), target = -EBADF;

	if (tree < 0)
		return tree;
	target = make_file_in_root(root, d->path);
	if (target < 0)
		return target;
	return rootfs_check_target(target, d->path, NULL) < 0 ? -EPERM : mount_attach(tree, target);
}

static bool same_device(int dir, const char *name, mode_t type, dev_t dev)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == type &&
	       (type == S_IFIFO || st.st_rdev == dev);
}

static int make_device(const struct spec_device *d, int root, int dev_fd)
{
	const char *slash = strrchr(d->path, '/'), *name = slash + 1;
	_cleanup_close_ int dir = -EBADF;
	char parent[4096];
	mode_t type = d->type == 'b' ? S_IFBLK : d->type == 'p' ? S_IFIFO : S_IFCHR;
	mode_t mode = d->has_mode ? d->mode & 07777 : 0666;
	dev_t dev = type == S_IFIFO ? 0 : makedev(d->major, d->minor);

	if (dev_fd < 0) {
		if ((size_t)snprintf(parent, sizeof(parent), "%.*s", (int)(slash - d->path), d->path) >=
			sizeof(parent))
			return -ENAMETOOLONG;
		dir = dev_fd = make_dirs_in_root(root, parent[0] ? parent : "/", 0755);
		if (dir < 0)
			return dir;
	}
	if (mknodat(dev_fd, name, type | mode, dev) < 0) {
		if (errno == EPERM)
			return bind_device(d, root);
		if (errno != EEXIST)
			return -errno;
		return same_device(dev_fd, name, type, dev) ? 0 : bind_device(d, root);
	}
	/* init's umask is 0: only ids are left */
	if ((d->uid || d->gid) && fchownat(dev_fd, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

static bool listed(const struct spec *s, const char *path)
{
	for (size_t i = 0; i < s->n_devices; i++)
		if (!strcmp(s->devices[i].path, path))
			return true;
	return false;
}

static int make_links(int dev_fd)
{
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		if (!strcmp(links[i].name, "core") && access("/proc/kcore", F_OK) < 0)
			continue;
		if (symlinkat(links[i].target, dev_fd, links[i].name) < 0 && errno != EEXIST)
			return -errno;
	}
	/* the container's own devpts instance, whatever node the image brought */
	if (unlinkat(dev_fd, "ptmx", 0) < 0 && errno != ENOENT)
		return -errno;
	return symlinkat("pts/ptmx", dev_fd, "ptmx") < 0 ? -errno : 0;
}

static bool dev_is_bind(const struct spec *s)
{
	for (size_t i = 0; i < s->n_mounts; i++)
		if (s->mounts[i].is_bind && !strcmp(s->mounts[i].destination, "/dev"))
			return true;
	return false;
}

int rootfs_devices(const struct spec *s, int root, struct error *e)
{
	_cleanup_close_ int dev = -EBADF;
	int r;

	if (dev_is_bind(s))
		return 0;
	dev = make_dirs_in_root(root, "/dev", 0755);
	if (dev < 0)
		return error_errno(e, dev, "make /dev");
	for (size_t i = 0; i < ARRAY_SIZE(default_devices); i++) {
		if (listed(s, default_devices[i].path))
			continue;
		r = make_device(&default_devices[i], root, dev);
		if (r < 0)
			return error_errno(e, r, "make device %s", default_devices[i].path);
	}
	for (size_t i = 0; i < s->n_devices; i++) {
		r = make_device(&s->devices[i], root, -EBADF);
		if (r < 0)
			return error_errno(e, r, "make device %s", s->devices[i].path);
	}
	r = make_links(dev);
	return r < 0 ? error_errno(e, r, "make the links in /dev") : 0;
}
