/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a descriptor is looked at: through a duplicate of our own (linux/fdview.h), or, where that is not allowed or would
 * change something, in /proc/PID.
 *
 * Not in /proc/locks: reading it stops all lockers of the machine and waits for an RCU grace period (10 ms).
 */
#include "checkpoint/native/dump.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/xattr.h>

#include "base/fd.h"
#include "linux/fdview.h"

/* A mount of the kernel's own, whose files differ in nothing that we ask for but their inode numbers. */
struct kernel_mount {
	const char *prefix; /* of the names of its files */
	const char *format; /* NULL: they are not made of the inode number */
	int mnt_id;	    /* 0: none of its files has been seen yet */
	struct stat st;	    /* of the first one */
};

struct dump_view {
	struct fdview view;
	size_t max_kept; /* so many files may keep their duplicate until they are dumped */
	struct kernel_mount mounts[3];
	int local_mount; /* the last one that is known to keep its locks itself */
};

static const struct kernel_mount mounts[] = {
	{"pipe:[", "pipe:[%ju]"}, {"socket:[", "socket:[%ju]"}, {"anon_inode:", NULL}};
static const struct fdview none = FDVIEW_NONE;

/* A socket that is duplicated takes our class (v1). Nobody has one where these hierarchies are not mounted. */
static bool classes_are_used(const struct cgroup *cg)
{
	for (size_t i = 0; i < cg->n_dirs; i++)
		if (strstr(cg->dirs[i].controllers, "net_cls") || strstr(cg->dirs[i].controllers, "net_prio"))
			return true;
	return false;
}

int dump_view_begin(struct dump *d, struct error *e)
{
	bool classes = classes_are_used(&d->c->cgroup);
	struct rlimit limit = {};

	d->view = arena_new(&d->arena, struct dump_view);
	if (!d->view)
		return error_errno(e, -ENOMEM, "descriptors");
	getrlimit(RLIMIT_NOFILE, &limit);
	d->view->view = none;
	memcpy(d->view->mounts, mounts, sizeof(mounts));
	d->view->max_kept = d->stopped ? limit.rlim_cur / 2 : 0;
	for (size_t i = 0; i < d->n_procs; i++)
		d->procs[i].by_proc = classes;
	return 0;
}

void dump_view_end(struct dump *d)
{
	if (d->view)
		fdview_done(&d->view->view);
}

static bool begins_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static struct kernel_mount *kernel_mount_of(struct dump_view *v, const struct proc_fdinfo *info)
{
	for (size_t i = 0; i < ARRAY_SIZE(v->mounts) && info->ino; i++)
		if (v->mounts[i].mnt_id && v->mounts[i].mnt_id == info->mnt_id)
			return &v->mounts[i];
	return NULL;
}

static int ask_stat_and_name(struct dump_view *v, struct dump_seen *l)
{
	ssize_t n;

	if (fstat(v->view.slot, &l->file.st) < 0)
		return -errno;
	n = fdview_link(&v->view, l->link, sizeof(l->link));
	for (size_t i = 0; i < ARRAY_SIZE(v->mounts) && n > 0; i++) {
		if (!begins_with(l->link, v->mounts[i].prefix))
			continue;
		v->mounts[i].mnt_id = l->file.info.mnt_id;
		v->mounts[i].st = l->file.st;
	}
	return MIN(n, (ssize_t)0);
}

/* What follows from the inode number need not be asked: that is half of the work. */
static int stat_and_name(struct dump_view *v, struct dump_seen *l)
{
	const struct kernel_mount *m = kernel_mount_of(v, &l->file.info);
	ssize_t n = 0;

	if (!m)
		return ask_stat_and_name(v, l);
	l->file.st = m->st;
	l->file.st.st_ino = l->file.info.ino;
	if (m->format)
		snprintf(l->link, sizeof(l->link), m->format, (uintmax_t)l->file.info.ino);
	else if (l->file.info.has_eventfd)
		snprintf(l->link, sizeof(l->link), "anon_inode:[eventfd]");
	else
		n = fdview_link(&v->view, l->link, sizeof(l->link));
	return MIN(n, (ssize_t)0);
}

/* Of others it would have to be asked somewhere else, perhaps of a task that is stopped. */
static bool keeps_locks_itself(struct dump *d, int mount)
{
	static const char *const types[] = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "overlay",
		"tmpfs", "devtmpfs", "ramfs", "squashfs", "erofs", "proc", "sysfs"};
	const char *type = "";

	if (mount == d->view->local_mount)
		return true;
	for (size_t i = 0; i < d->n_mounts; i++)
		if (d->mounts[i].id == mount)
			type = d->mounts[i].fstype;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (strcmp(type, types[i]) == 0) {
			d->view->local_mount = mount;
			return true;
		}
	}
	return false;
}

/* Whose lock it is, and through which descriptor, only the process's own fdinfo tells. */
static bool may_have_posix_lock(struct dump *d, const struct dump_seen *l)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	/* Nobody is known to lock what has no path. */
	if (l->link[0] != '/' || (l->file.info.flags & O_PATH))
		return false;
	return !keeps_locks_itself(d, l->file.info.mnt_id) || fcntl(d->view->view.slot, F_GETLK, &lock) < 0 ||
	       lock.l_type != F_UNLCK;
}

static void protocol_of(struct dump_seen *l, ssize_t n)
{
	l->protocol[MAX(n, (ssize_t)0)] = '\0';
	l->file.protocol = l->protocol;
}

static bool is_socket(const struct dump_seen *l)
{
	return S_ISSOCK(l->file.st.st_mode) && begins_with(l->link, "socket:[");
}

/* 1: it has been closed, as with look_in_proc(). */
static int look_through_view(struct dump *d, struct dump_proc *p, int fd, struct dump_seen *l)
{
	int pidfd = dump_pidfd(p), r = pidfd;
	struct fdview *v = &d->view->view;

	if (pidfd >= 0)
		r = fdview_open(v, pidfd, fd, d->n_files < d->view->max_kept ? &l->file.local : NULL);
	if (r == -EBADF || r == -ESRCH)
		return 1;
	if (r == 0)
		r = fdview_fdinfo(v, &d->arena, &l->file.info);
	if (r == 0)
		r = stat_and_name(d->view, l);
	if (r == 0 && may_have_posix_lock(d, l)) {
		r = proc_read_fdinfo(p->pid, fd, &d->arena, &l->file.info);
		if (r == -ENOENT || r == -ESRCH)
			return 1;
	}
	if (r == 0 && is_socket(l))
		protocol_of(
			l, fgetxattr(v->slot, "system.sockprotoname", l->protocol, sizeof(l->protocol) - 1));
	return r;
}

static int look_in_proc(struct dump *d, struct dump_proc *p, int fd, struct dump_seen *l)
{
	char path[64];
	ssize_t n;
	int r;

	snprintf(path, sizeof(path), "fd/%d", fd);
	n = proc_readlink(p->pid, path, l->link, sizeof(l->link));
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", p->pid, fd);
	r = n < 0 ? (int)n : stat(path, &l->file.st) < 0 ? -errno : 0;
	if (r == 0)
		r = proc_read_fdinfo(p->pid, fd, &d->arena, &l->file.info);
	if (r == -ENOENT || r == -ESRCH)
		return 1;
	if (r == 0 && is_socket(l))
		protocol_of(l, getxattr(path, "system.sockprotoname", l->protocol, sizeof(l->protocol) - 1));
	return r;
}

int dump_view_fd(struct dump *d, struct dump_proc *p, int fd, struct dump_seen *l, struct error *e)
{
	int r = -EPERM;

	l->file = (struct dump_file){.proc = p, .fd = fd, .local = -EBADF, .link = l->link};
	if (!p->by_proc)
		r = look_through_view(d, p, fd, l);
	if (r == -EPERM) {
		p->by_proc = true;
		r = look_in_proc(d, p, fd, l);
	}
	l->file.info.flags &= ~(unsigned)O_CLOEXEC;
	if (r != 0)
		close_p(&l->file.local);
	return r < 0 ? error_errno(e, r, "descriptor %d of pid %d", fd, p->pid) : r;
}
