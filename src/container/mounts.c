/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mounts of config.json, in their order. Each is made detached, given its attributes, and attached to a descriptor
 * of its mount point below the root: at no time is there a mount in the container without its restrictions.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/mountfd.h"

/* The only places of /proc that may be covered (lxcfs does): elsewhere it could fake what LSMs and we read there. */
static const char *const proc_allowed[] = {
	"/proc/cpuinfo",
	"/proc/diskstats",
	"/proc/meminfo",
	"/proc/stat",
	"/proc/swaps",
	"/proc/uptime",
	"/proc/loadavg",
	"/proc/slabinfo",
	"/proc/net/dev",
	"/proc/sys/kernel/ns_last_pid",
	"/proc/sys/crypto/fips_enabled",
};

static bool on_procfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) < 0 || fs.f_type == PROC_SUPER_MAGIC;
}

static bool same_file(int a, int b)
{
	struct stat sa, sb;

	return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

int rootfs_check_target(int target, const char *name, struct error *e)
{
	if (!on_procfs(target))
		return 0;
	return error_set(
		e, -EPERM, ERROR_CONFIG, "\"%s\" cannot be mounted because it is inside /proc", name);
}

/* "source": what a bind mount brings; -EBADF: no bind mount. */
static int check_target(const struct spec_mount *m, int root, int target, int source, struct error *e)
{
	_cleanup_close_ int proc = -EBADF;

	if (m->type && !strcmp(m->type, "proc"))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(proc_allowed); i++)
		if (!strcmp(m->destination, proc_allowed[i]))
			return 0;
	/* /proc itself may come from elsewhere, but must be a procfs (CVE-2019-16884: a volume of the image's) */
	proc = open_in_root(root, "/proc", O_PATH, 0);
	if (proc < 0 || !same_file(proc, target))
		return rootfs_check_target(target, m->destination, e);
	if (source >= 0 && on_procfs(source))
		return 0;
	return error_set(e, -EPERM, ERROR_CONFIG, "\"%s\" cannot be mounted because it is not of type proc",
		m->destination);
}

static int open_target(const struct spec_mount *m, int root, bool directory, int source, struct error *e)
{
	_cleanup_close_ int target = directory ? make_dirs_in_root(root, m->destination, 0755)
					       : make_file_in_root(root, m->destination);
	int r;

	if (target < 0)
		return error_errno(e, target, "make mount point %s", m->destination);
	r = check_target(m, root, target, source, e);
	return r < 0 ? r : take_fd(&target);
}

/* proc and sysfs of an image whose /proc is a symlink would land elsewhere (CVE-2019-19921). By the descriptor that is
 * mounted on: the link may be put there while we look (CVE-2023-27561). */
static int check_no_symlink(const struct spec_mount *m, int root, int target, struct error *e)
{
	_cleanup_close_ int plain = open_in_root(root, m->destination, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);

	if (plain >= 0 && same_file(plain, target))
		return 0;
	return error_set(e, -ENOTDIR, ERROR_CONFIG,
		"filesystem \"%s\" must be mounted on ordinary directory %s", m->type, m->destination);
}

static int apply_attributes(const struct spec_mount *m, int fd, struct error *e)
{
	int r = 0;

	if (m->rec_flags || m->rec_clear)
		r = mount_change(fd, m->rec_flags, m->rec_clear, 0, true);
	if (r == 0 && m->propagation)
		r = mount_change(fd, 0, 0, m->propagation & ~MS_REC, m->propagation & MS_REC);
	return r < 0 ? error_errno(e, r, "set the attributes of mount %s", m->destination) : 0;
}

/* A mount that comes from outside of the user namespace keeps what restricts it. */
static int fail_flags(struct error *e, int r, const struct init *in, const struct spec_mount *m)
{
	if (r == -EPERM && in->spec->namespaces[NS_USER].present)
		return error_set(e, r, ERROR_CONFIG,
			"bind mount %s: the flags that it has on the host (ro, nodev, nosuid, noexec, atime) "
			"are locked "
			"in a user namespace and can't be lifted by its options",
			m->source);
	return error_errno(e, r, "set the flags of bind mount %s", m->source);
}

/* 1: done; 0: the source is no symlink. */
static int copy_link(const struct spec_mount *m, int root, struct error *e)
{
	_cleanup_close_ int parent = -EBADF;
	const char *name = strrchr(m->destination, '/');
	char target[4096], is[4096], up[4096];
	ssize_t n = readlink(m->source, target, sizeof(target) - 1);

	if (n < 0)
		return errno == EINVAL ? 0 : error_errno(e, -errno, "read link %s", m->source);
	target[n] = '\0';
	snprintf(up, sizeof(up), "%.*s/", (int)(name - m->destination), m->destination);
	parent = make_dirs_in_root(root, up, 0755);
	if (parent < 0)
		return error_errno(e, parent, "make the directory of %s", m->destination);
	if (symlinkat(target, parent, name + 1) == 0)
		return 1;
	if (errno != EEXIST)
		return error_errno(e, -errno, "make link %s", m->destination);
	n = readlinkat(parent, name + 1, is, sizeof(is) - 1);
	is[MAX(n, 0)] = '\0';
	return n > 0 && !strcmp(is, target)
		       ? 1
		       : error_set(e, -EEXIST, ERROR_CONFIG, "copy link %s: there is something else at %s",
				 m->source, m->destination);
}

static int mount_bind(const struct init *in, size_t index, int root, struct error *e)
{
	const struct spec_mount *m = &in->spec->mounts[index];
	uint64_t set = mount_attr_of_flags(m->flags), clear = mount_attr_of_flags(m->clear_flags) & ~set;
	_cleanup_close_ int tree = -EBADF, target = -EBADF;
	struct stat st;
	int r;

	if (m->source_link == SOURCE_LINK_COPY) {
		r = copy_link(m, root, e);
		if (r != 0)
			return MIN(r, 0);
	}
	tree = source_open(in, (int)index, e);
	if (tree < 0)
		return tree;
	if (fstat(tree, &st) < 0)
		return error_errno(e, -errno, "bind mount %s", m->source);
	if (set || clear) {
		r = mount_change(tree, set, clear, 0, false);
		if (r < 0)
			return fail_flags(e, r, in, m);
	}
	target = open_target(m, root, S_ISDIR(st.st_mode), tree, e);
	if (target < 0)
		return target;
	r = mount_attach(tree, target);
	if (r < 0)
		return error_errno(e, r, "attach bind mount %s to %s", m->source, m->destination);
	return apply_attributes(m, tree, e);
}

static bool is_one_of(const char *s, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(s, list[i]))
			return true;
	return false;
}

/* As runc: a tmpfs over a directory that is there starts with its mode. Before that is made: "" if it is not there. */
static void tmpfs_mode(const struct spec_mount *m, int root, char ret[static 16])
{
	_cleanup_close_ int there =
		strcmp(m->type, "tmpfs") != 0 ? -EBADF : open_in_root(root, m->destination, O_PATH, 0);
	struct stat st;

	*ret = '\0';
	if (there >= 0 && fstat(there, &st) == 0)
		snprintf(ret, 16, "mode=%04o,", st.st_mode & 07777);
}

/* What the superblock, not the mount, must know; the kernel's own filesystems are shared or have no disk to protect. */
static const char *superblock_options(const struct spec_mount *m, const char *mode, char *buf, size_t size)
{
	static const char *const kernels_own[] = {"proc", "sysfs", "mqueue", "devpts", "tmpfs", "cgroup",
		"cgroup2", "bpf", "debugfs", "tracefs", "securityfs", "devtmpfs"};
	bool ro = m->flags & MS_RDONLY && !is_one_of(m->type, kernels_own, ARRAY_SIZE(kernels_own));
	int n = snprintf(buf, size, "%s%s%s%s%s%s%s", mode, m->data ? m->data : "", ro ? ",ro" : "",
		m->flags & MS_SYNCHRONOUS ? ",sync" : "", m->flags & MS_DIRSYNC ? ",dirsync" : "",
		m->flags & MS_LAZYTIME ? ",lazytime" : "", m->flags & MS_MANDLOCK ? ",mand" : "");

	return (size_t)n < size ? buf : m->data;
}

/* What only mount(2) can do: values of more than fsconfig(2)'s 256 bytes (overlay's lowerdir), flags that it has no word
 * for, and to change a mount that is there. On the descriptor. */
static bool needs_old_call(const struct spec_mount *m)
{
	for (const char *p = m->data; p && *p; p += strcspn(p, ","), p += *p == ',')
		if (strcspn(p, ",") > 250)
			return true;
	return m->flags & (MS_I_VERSION | MS_POSIXACL | MS_REMOUNT);
}

static int mount_by_old_call(const struct spec_mount *m, int root, int target, struct error *e)
{
	_cleanup_close_ int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;
	int r;

	/* not by /proc/self/fd: when mounts are added to a running container, /proc is its own */
	if (here < 0 || fchdir(target) < 0)
		return error_errno(e, -errno, "mount point %s", m->destination);
	r = mount(m->source, ".", m->type, m->flags & ~MS_REC, m->data) < 0 ? -errno : 0;
	if (fchdir(here) < 0 && r == 0)
		r = -errno;
	if (r < 0)
		return error_errno(e, r, "mount %s on %s", m->type, m->destination);
	fd = open_in_root(root, m->destination, O_PATH | O_DIRECTORY, 0);
	return fd < 0 ? error_errno(e, fd, "mount point %s", m->destination) : apply_attributes(m, fd, e);
}

/* The owner of the namespace that these show may mount them, nobody else: the container gets the host's. */
static int bind_instead(const struct spec_mount *m)
{
	static const char *const bound[][2] = {{"sysfs", "/sys"}, {"mqueue", "/dev/mqueue"}};
	uint64_t attr = mount_attr_of_flags(m->flags);

	for (size_t i = 0; i < ARRAY_SIZE(bound); i++) {
		_cleanup_close_ int tree = -EBADF;
		int r;

		if (strcmp(m->type, bound[i][0]) != 0)
			continue;
		tree = mount_clone(AT_FDCWD, bound[i][1], true);
		r = tree < 0 ? -EPERM : attr ? mount_change(tree, attr, 0, 0, true) : 0;
		return r < 0 ? r : take_fd(&tree);
	}
	return -EPERM;
}

/* The kernel's own have their labels from the policy. */
static const char *label_of(const struct spec *s, const struct spec_mount *m)
{
	static const char *const unlabelled[] = {"proc", "sysfs", "mqueue"};
	bool none = !s->mount_label || !s->mount_label[0];

	return none || is_one_of(m->type, unlabelled, ARRAY_SIZE(unlabelled)) ? NULL : s->mount_label;
}

static int mount_filesystem(const struct init *in, const struct spec_mount *m, int root, struct error *e)
{
	_cleanup_close_ int target = -EBADF, fd = -EBADF;
	char options[4200], mode[16];
	int r;

	tmpfs_mode(m, root, mode);
	target = open_target(m, root, true, -EBADF, e);
	if (target < 0)
		return target;
	if (!strcmp(m->type, "proc") || !strcmp(m->type, "sysfs")) {
		r = check_no_symlink(m, root, target, e);
		if (r < 0)
			return r;
	}
	if (needs_old_call(m))
		return mount_by_old_call(m, root, target, e);
	fd = mount_make(m->type, m->source ? m->source : m->type,
		superblock_options(m, mode, options, sizeof(options)), label_of(in->spec, m),
		mount_attr_of_flags(m->flags) & ~(m->tmpcopyup ? MOUNT_ATTR_RDONLY : 0));
	if (fd == -EPERM)
		fd = bind_instead(m);
	if (fd < 0)
		return error_errno(e, fd, "mount %s on %s (options \"%s\")", m->type, m->destination,
			m->data ? m->data : "");
	if (m->tmpcopyup) {
		r = rootfs_copy_up(target, fd, e);
		if (r == 0 && m->flags & MS_RDONLY)
			r = mount_change(fd, MOUNT_ATTR_RDONLY, 0, 0, false);
		if (r < 0)
			return error_prefix(e, "copy up %s", m->destination);
	}
	r = mount_attach(fd, target);
	if (r < 0)
		return error_errno(e, r, "attach %s to %s", m->type, m->destination);
	return apply_attributes(m, fd, e);
}

/* The container's own directory of one hierarchy: with a cgroup namespace it is the namespace's root anyway. */
static int bind_cgroup(const struct cgroup_dir *d, int target, uint64_t attr)
{
	_cleanup_close_ int tree = mount_clone(AT_FDCWD, d->path, true);
	int r;

	if (tree < 0)
		return tree;
	r = attr ? mount_change(tree, attr, 0, 0, false) : 0;
	return r < 0 ? r : mount_attach(tree, target);
}

/* "cpu,cpuacct" is found as cpu and as cpuacct too. */
static int link_controllers(int dir, const char *controllers)
{
	const char *p = controllers;

	if (!strchr(controllers, ','))
		return 0;
	while (*p) {
		size_t n = strcspn(p, ",");
		char name[48];

		snprintf(name, sizeof(name), "%.*s", (int)n, p);
		if (symlinkat(controllers, dir, name) < 0 && errno != EEXIST)
			return -errno;
		p += n + (p[n] == ',');
	}
	return 0;
}

static int mount_cgroup_v1_dir(const struct cgroup_dir *d, int top, uint64_t attr)
{
	const char *name = d->controllers[0] ? d->controllers : "unified";
	_cleanup_close_ int target = -EBADF;
	int r;

	if (!strncmp(name, "name=", 5))
		name += 5;
	if (mkdirat(top, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	target = openat(top, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (target < 0)
		return -errno;
	r = bind_cgroup(d, target, attr);
	return r < 0 ? r : link_controllers(top, name);
}

static int mount_cgroup(const struct spec_mount *m, const struct cgroup *cg, int root, struct error *e)
{
	_cleanup_close_ int target = open_target(m, root, true, -EBADF, e), top = -EBADF;
	uint64_t attr = mount_attr_of_flags(m->flags);
	int r;

	if (target < 0)
		return target;
	/* without one of its own: nothing, also where a recursive bind of /sys has brought the caller's (CVE-2023-25809) */
	if (cg->mode == CGROUP_NONE) {
		top = mount_make("tmpfs", "tmpfs", "size=0k,nr_inodes=2", NULL, attr | MOUNT_ATTR_RDONLY);
		r = top < 0 ? top : mount_attach(top, target);
		return r < 0 ? error_errno(e, r, "mount an empty %s", m->destination) : 0;
	}
	if (cg->mode == CGROUP_V2) {
		r = cg->n_dirs ? bind_cgroup(&cg->dirs[0], target, attr) : 0;
		return r < 0 ? error_errno(e, r, "mount cgroup2 on %s", m->destination) : 0;
	}
	top = mount_make("tmpfs", "tmpfs", "mode=755", NULL, attr & ~MOUNT_ATTR_RDONLY);
	if (top < 0)
		return error_errno(e, top, "mount cgroup on %s", m->destination);
	/* attached first: mounts can only be attached to what is in the namespace */
	r = mount_attach(top, target);
	for (size_t i = 0; r == 0 && i < cg->n_dirs; i++)
		r = mount_cgroup_v1_dir(&cg->dirs[i], top, attr);
	if (r == 0 && attr & MOUNT_ATTR_RDONLY)
		r = mount_change(top, MOUNT_ATTR_RDONLY, 0, 0, false);
	return r < 0 ? error_errno(e, r, "mount cgroups on %s", m->destination) : apply_attributes(m, top, e);
}

int rootfs_mount(const struct init *in, size_t index, int root, struct error *e)
{
	const struct spec_mount *m = &in->spec->mounts[index];

	if (m->is_bind)
		return mount_bind(in, index, root, e);
	if (!m->type)
		return error_set(e, -EINVAL, ERROR_CONFIG, "mount %s has no type", m->destination);
	if (!strcmp(m->type, "cgroup") || !strcmp(m->type, "cgroup2"))
		return mount_cgroup(m, &in->c->cgroup, root, e);
	return mount_filesystem(in, m, root, e);
}

int rootfs_mounts(const struct init *in, int root, struct error *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < in->spec->n_mounts; i++)
		r = rootfs_mount(in, i, root, e);
	return r;
}
