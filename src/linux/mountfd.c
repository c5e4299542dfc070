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
	int fd, tries = 100000;

	/* EAGAIN: a rename ran beside us and the kernel could not prove that ".." stayed inside. Not for ever: whoever
	 * shares a file system with us may do nothing but rename. */
	do
		fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
	while (fd < 0 && (errno == EAGAIN || errno == EINTR) && --tries > 0);
	return fd < 0 ? -errno : fd;
}

struct place {
	char path[4096]; /* below the root */
	size_t done;	 /* what is there already: path[0..done) */
	bool directory;
	mode_t mode;
};

/* path[done..end) is a symlink to nothing yet: its target takes its place, and we begin anew (0); or it is none (1). */
static int follow_link(struct place *p, int parent, const char *name, size_t end)
{
	char link[4096], to[sizeof(p->path)];
	ssize_t n = readlinkat(parent, name, link, sizeof(link) - 1);
	int len;

	if (n < 0)
		return errno == EINVAL ? 1 : -errno;
	len = snprintf(to, sizeof(to), "%.*s/%.*s%s", link[0] == '/' ? 0 : (int)p->done, p->path, (int)n,
		link, p->path + end);
	if ((size_t)len >= sizeof(to))
		return -ENAMETOOLONG;
	memcpy(p->path, to, len + 1);
	p->done = 0;
	return 0;
}

/* The next component, in the directory *parent, takes its place; or 1 when it was a link that leads on. */
static int make_component(struct place *p, int root, int *parent)
{
	size_t start = p->done + strspn(p->path + p->done, "/"), end = start + strcspn(p->path + start, "/");
	bool last = p->path[end + strspn(p->path + end, "/")] == '\0';
	uint64_t flags = last && !p->directory ? O_PATH : O_PATH | O_DIRECTORY;
	char name[256], prefix[sizeof(p->path)];
	int fd, r;

	if (end - start >= sizeof(name))
		return -ENAMETOOLONG;
	snprintf(name, sizeof(name), "%.*s", (int)(end - start), p->path + start);
	snprintf(prefix, sizeof(prefix), "%.*s", (int)end, p->path);
	fd = open_in_root(root, prefix, flags, 0);
	if (fd == -ENOENT) {
		if (flags & O_DIRECTORY)
			r = mkdirat(*parent, name, p->mode) < 0 ? -errno : 0;
		else
			r = mknodat(*parent, name, S_IFREG | 0644, 0) < 0 ? -errno : 0;
		if (r == -EEXIST) {
			r = follow_link(p, *parent, name, end);
			if (r == 0)
				return 1;
		}
		if (r < 0)
			return r;
		fd = open_in_root(root, prefix, flags, 0);
	}
	if (fd < 0)
		return fd;
	close_p(parent);
	*parent = fd;
	p->done = last ? strlen(p->path) : end;
	return 0;
}

/* Makes what is missing of path. An image may bring symlinks that lead nowhere yet (/etc/resolv.conf to /run/...): then
 * what they name is made, below the root like all else. */
static int make_in_root(int root, const char *path, bool directory, mode_t mode)
{
	struct place p = {.directory = directory, .mode = mode};
	_cleanup_close_ int parent = -EBADF;
	int fd = open_in_root(root, path, directory ? O_PATH | O_DIRECTORY : O_PATH, 0), links = 0, r;

	if (fd != -ENOENT)
		return fd;
	if ((size_t)snprintf(p.path, sizeof(p.path), "%s", path) >= sizeof(p.path))
		return -ENAMETOOLONG;
	while (p.path[p.done]) {
		if (p.done == 0) {
			close_p(&parent);
			parent = open_in_root(root, "/", O_PATH | O_DIRECTORY, 0);
			if (parent < 0)
				return parent;
		}
		r = make_component(&p, root, &parent);
		if (r < 0)
			return r;
		links += r;
		if (links > 40) /* as many as the kernel follows */
			return -ELOOP;
	}
	return take_fd(&parent);
}

int make_dirs_in_root(int root, const char *path, mode_t mode)
{
	return make_in_root(root, path, true, mode);
}

int make_file_in_root(int root, const char *path)
{
	return make_in_root(root, path, false, 0755);
}

int mount_clone(int dirfd, const char *path, bool recursive)
{
	int fd = open_tree(dirfd, path,
		OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0));

	return fd < 0 ? -errno : fd;
}

int mount_clone_at(const char *path, bool recursive, bool follow)
{
	int fd = open_tree(AT_FDCWD, path,
		OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0) |
			(follow ? 0 : AT_SYMLINK_NOFOLLOW));

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

int mount_map_ids(int mount_fd, int userns_fd, bool recursive)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = userns_fd};
	unsigned flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);

	return mount_setattr(mount_fd, "", flags, &attr, sizeof(attr)) < 0 ? -errno : 0;
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

int mount_make(const char *fstype, const char *source, const char *options, const char *label, uint64_t attr)
{
	_cleanup_close_ int fs = fsopen(fstype, FSOPEN_CLOEXEC);
	int r, fd;

	if (fs < 0)
		return -errno;
	r = configure(fs, source, options);
	if (r < 0)
		return r;
	/* (has commas in it) */
	if (label && fsconfig(fs, FSCONFIG_SET_STRING, "context", label, 0) < 0)
		return -errno;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = fsmount(fs, FSMOUNT_CLOEXEC, attr);
	return fd < 0 ? -errno : fd;
}

int mount_reconfigure(int mount_fd, const char *options)
{
	_cleanup_close_ int fs = fspick(mount_fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
	int r;

	if (fs < 0)
		return -errno;
	r = configure(fs, NULL, options);
	return r < 0 ? r : fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0 ? -errno : 0;
}

int mount_set_group(int from_fd, int to_fd)
{
	int r = move_mount(from_fd, "", to_fd, "",
		MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH | MOVE_MOUNT_SET_GROUP);

	return r < 0 ? -errno : 0;
}

int mount_id(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_MNT_ID, &st) < 0)
		return -errno;
	return st.stx_mask & STATX_MNT_ID ? (int)st.stx_mnt_id : -EOPNOTSUPP;
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
