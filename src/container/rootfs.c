/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root of the container: the mount namespace's propagation, the root mount, what is masked and made read-only in
 * it, and pivot_root. Runs in init, in the new mount namespace, before the host's mounts are gone. Paths of config.json
 * are resolved below the root's descriptor (RESOLVE_IN_ROOT), never by name, so a symlink of the image leads nowhere
 * outside.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/mountfd.h"

/* pivot_root(2) refuses a new root whose parent mount is shared. It is only then, when config.json asks for shared or
 * rshared, that anything is left to do. */
static int make_parent_private(const char *rootfs)
{
	_cleanup_free_ char *path = strdup(rootfs);

	if (!path)
		return -ENOMEM;
	for (;;) {
		char *slash;

		if (mount(NULL, path, NULL, MS_PRIVATE, NULL) == 0)
			return 0;
		if (errno != EINVAL) /* EINVAL: not a mount point */
			return -errno;
		slash = strrchr(path, '/');
		if (!slash || slash == path)
			return mount(NULL, "/", NULL, MS_PRIVATE, NULL) < 0 ? -errno : 0;
		*slash = '\0';
	}
}

int rootfs_open(const struct init *in, int *ret_root, struct error *e)
{
	const struct spec *s = in->spec;
	unsigned long propagation = s->rootfs_propagation ? s->rootfs_propagation : MS_SLAVE | MS_REC;
	int r;

	/* what can't be bound comes last, in rootfs_pivot() */
	if (propagation & MS_UNBINDABLE)
		propagation ^= MS_UNBINDABLE | MS_PRIVATE;

	if (mount(NULL, "/", NULL, propagation, NULL) < 0)
		return error_errno(e, -errno, "set the propagation of the container's mounts");
	if (propagation & MS_SHARED) {
		r = make_parent_private(s->rootfs);
		if (r < 0)
			return error_errno(e, r, "make the mount of %s private", s->rootfs);
	}
	*ret_root = source_open(in, SOURCE_ROOT, e);
	return MIN(*ret_root, 0);
}

/* An empty, read-only directory to lay over masked ones. One instance serves all of them. */
static int mask_directory(int target, int *empty)
{
	_cleanup_close_ int copy = -EBADF;

	if (*empty < 0) {
		*empty = mount_make("tmpfs", "tmpfs", "size=0k,nr_inodes=2", NULL,
			MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		if (*empty < 0)
			return *empty;
		return mount_attach(*empty, target);
	}
	copy = mount_clone(*empty, "", false);
	return copy < 0 ? copy : mount_attach(copy, target);
}

/* The host's /dev/null, and nothing that somebody put there (CVE-2025-31133 did in a container's). */
static int mask_file(int target)
{
	_cleanup_close_ int null = mount_clone(AT_FDCWD, "/dev/null", false);
	struct stat st;

	if (null < 0)
		return null;
	if (fstat(null, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return -ENODEV;
	return mount_attach(null, target);
}

/* What is masked and made read-only in /proc and /sys is looked up in the mounts that are there, which must be those of
 * config.json: whoever shares the root with us could move a mount point away, and bare everything. */
struct kernel_mounts {
	int fd[2]; /* by kernel_dirs; -EBADF: config.json does not mount it */
};

static const struct {
	const char *path, *type;
	long magic;
} kernel_dirs[] = {{"/proc", "proc", PROC_SUPER_MAGIC}, {"/sys", "sysfs", SYSFS_MAGIC}};

static void kernel_mounts_close(struct kernel_mounts *k)
{
	for (size_t i = 0; i < ARRAY_SIZE(k->fd); i++)
		close_p(&k->fd[i]);
}

static bool is_mounted(const struct spec *s, const char *type, const char *path)
{
	const struct spec_mount *last = NULL;

	for (size_t i = 0; i < s->n_mounts; i++)
		if (!strcmp(s->mounts[i].destination, path))
			last = &s->mounts[i];
	return last && last->type && !strcmp(last->type, type);
}

static int kernel_mounts_open(const struct spec *s, int root, struct kernel_mounts *k, struct error *e)
{
	struct statfs fs;

	for (size_t i = 0; i < ARRAY_SIZE(k->fd); i++) {
		if (!is_mounted(s, kernel_dirs[i].type, kernel_dirs[i].path))
			continue;
		k->fd[i] = open_in_root(root, kernel_dirs[i].path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
		if (k->fd[i] < 0 || fstatfs(k->fd[i], &fs) < 0 || fs.f_type != kernel_dirs[i].magic)
			return error_set(e, -EPERM, ERROR_CONFIG,
				"%s is not what was mounted there: something changes the root filesystem %s",
				kernel_dirs[i].path, s->rootfs);
	}
	return 0;
}

static int open_protected(int root, const struct kernel_mounts *k, const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(k->fd); i++) {
		size_t n = strlen(kernel_dirs[i].path);

		if (k->fd[i] >= 0 && !strncmp(path, kernel_dirs[i].path, n) && path[n] == '/')
			return open_in_root(k->fd[i], path + n, O_PATH, 0);
	}
	return open_in_root(root, path, O_PATH, 0);
}

static int mask_paths(const struct spec *s, int root, const struct kernel_mounts *k, struct error *e)
{
	_cleanup_close_ int empty = -EBADF;

	for (char **p = s->masked_paths; p && *p; p++) {
		_cleanup_close_ int target = open_protected(root, k, *p);
		struct stat st;
		int r;

		if (target == -ENOENT || target == -ENOTDIR)
			continue;
		if (target < 0)
			return error_errno(e, target, "mask path %s", *p);
		if (fstat(target, &st) < 0)
			return error_errno(e, -errno, "mask path %s", *p);
		r = S_ISDIR(st.st_mode) ? mask_directory(target, &empty) : mask_file(target);
		if (r < 0)
			return error_errno(e, r, "mask path %s%s", *p,
				S_ISDIR(st.st_mode) ? "" : " with the machine's /dev/null");
	}
	return 0;
}

static int readonly_path(int root, const struct kernel_mounts *k, const char *path)
{
	_cleanup_close_ int target = open_protected(root, k, path), tree = -EBADF;
	int r;

	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	if (target < 0)
		return target;
	tree = mount_clone(target, "", true);
	if (tree < 0)
		return tree;
	r = mount_change(tree, MOUNT_ATTR_RDONLY, 0, 0, false);
	return r < 0 ? r : mount_attach(tree, target);
}

int rootfs_protect(const struct spec *s, int root, struct error *e)
{
	_cleanup_(kernel_mounts_close) struct kernel_mounts k = {{-EBADF, -EBADF}};
	int r;

	r = kernel_mounts_open(s, root, &k, e);
	if (r < 0)
		return r;
	for (char **p = s->readonly_paths; p && *p; p++) {
		r = readonly_path(root, &k, *p);
		if (r < 0)
			return error_errno(e, r, "make %s read-only", *p);
	}
	r = mask_paths(s, root, &k, e);
	if (r < 0)
		return r;
	if (s->rootfs_readonly) {
		r = mount_change(root, MOUNT_ATTR_RDONLY, 0, 0, false);
		if (r < 0)
			return error_errno(e, r, "make the root read-only");
	}
	return 0;
}

/* Without pivot_root (the host's root is a ramfs, which can't be pivoted away): the new root is moved over the old. */
static int move_root(void)
{
	if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
		return -errno;
	return 0;
}

int rootfs_pivot(const struct spec *s, int root, bool no_pivot, struct error *e)
{
	_cleanup_close_ int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (old < 0 || fchdir(root) < 0)
		return error_errno(e, -errno, "enter the new root");
	if (no_pivot) {
		r = move_root();
		if (r < 0)
			return error_errno(e, r, "move the new root to /");
	} else {
		/* old and new root at one place: the old one lies on top, and is detached from there */
		if (syscall(SYS_pivot_root, ".", ".") < 0)
			return error_errno(e, -errno, "pivot_root to %s", s->rootfs);
		if (fchdir(old) < 0)
			return error_errno(e, -errno, "enter the old root");
		/* the detaching must not propagate to the host */
		if (s->rootfs_propagation & MS_SHARED && mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL) < 0)
			return error_errno(e, -errno, "make the old root a slave");
		if (umount2(".", MNT_DETACH) < 0)
			return error_errno(e, -errno, "detach the old root");
	}
	if (chdir("/") < 0)
		return error_errno(e, -errno, "enter /");
	if (s->rootfs_propagation && mount(NULL, "/", NULL, s->rootfs_propagation, NULL) < 0)
		return error_errno(e, -errno, "set the propagation of /");
	return 0;
}
