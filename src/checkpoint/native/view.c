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
	struct kernel_mount mounts[3];
	int local_mount; /* the last one that is known to keep its locks itself */
};

/* One descriptor while it is looked at. */
struct look {
	struct dump *d;
	struct dump_view *view; /* the worker's */
	struct arena *arena;	/* the worker's */
	struct dump_file *file;
	char link[4200], protocol[32];
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

	d->views = arena_array(&d->arena, 1 + CREW_HELPERS, sizeof(*d->views));
	if (!d->views)
		return error_errno(e, -ENOMEM, "descriptors");
	for (size_t i = 0; i < 1 + CREW_HELPERS; i++) {
		d->views[i].view = none;
		memcpy(d->views[i].mounts, mounts, sizeof(mounts));
	}
	for (size_t i = 0; i < d->n_procs; i++)
		d->procs[i].by_proc = classes;
	return 0;
}

void dump_view_end(struct dump *d)
{
	for (size_t i = 0; d->views && i < 1 + CREW_HELPERS; i++)
		fdview_done(&d->views[i].view);
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

static int ask_stat_and_name(struct look *l)
{
	struct dump_view *v = l->view;
	ssize_t n;

	if (fstat(v->view.slot, &l->file->st) < 0)
		return -errno;
	n = fdview_link(&v->view, l->link, sizeof(l->link));
	for (size_t i = 0; i < ARRAY_SIZE(v->mounts) && n > 0; i++) {
		if (!begins_with(l->link, v->mounts[i].prefix))
			continue;
		v->mounts[i].mnt_id = l->file->info.mnt_id;
		v->mounts[i].st = l->file->st;
	}
	return MIN(n, (ssize_t)0);
}

/* What follows from the inode number need not be asked: that is half of the work. */
static int stat_and_name(struct look *l)
{
	const struct kernel_mount *m = kernel_mount_of(l->view, &l->file->info);
	ssize_t n = 0;

	if (!m)
		return ask_stat_and_name(l);
	l->file->st = m->st;
	l->file->st.st_ino = l->file->info.ino;
	if (m->format)
		snprintf(l->link, sizeof(l->link), m->format, (uintmax_t)l->file->info.ino);
	else if (l->file->info.has_eventfd)
		snprintf(l->link, sizeof(l->link), "anon_inode:[eventfd]");
	else
		n = fdview_link(&l->view->view, l->link, sizeof(l->link));
	return MIN(n, (ssize_t)0);
}

/* Of others it would have to be asked somewhere else, perhaps of a task that is stopped. */
static bool keeps_locks_itself(const struct dump *d, struct dump_view *v, int mount)
{
	static const char *const types[] = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "overlay",
		"tmpfs", "devtmpfs", "ramfs", "squashfs", "erofs", "proc", "sysfs"};
	const char *type = "";

	if (mount == v->local_mount)
		return true;
	for (size_t i = 0; i < d->n_mounts; i++)
		if (d->mounts[i].id == mount)
			type = d->mounts[i].fstype;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (strcmp(type, types[i]) == 0) {
			v->local_mount = mount;
			return true;
		}
	}
	return false;
}

/* Whose lock it is, and through which descriptor, only the process's own fdinfo tells. */
static bool may_have_posix_lock(const struct look *l)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	/* Nobody is known to lock what has no path. */
	if (l->link[0] != '/' || (l->file->info.flags & O_PATH))
		return false;
	return !keeps_locks_itself(l->d, l->view, l->file->info.mnt_id) ||
	       fcntl(l->view->view.slot, F_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

static void protocol_of(struct look *l, ssize_t n)
{
	l->protocol[MAX(n, (ssize_t)0)] = '\0';
	l->file->protocol = l->protocol;
}

static bool is_socket(const struct look *l)
{
	return S_ISSOCK(l->file->st.st_mode) && begins_with(l->link, "socket:[");
}

/* 1: it has been closed, as with look_in_proc(). */
static int look_through_view(struct look *l, bool keep)
{
	struct dump_file *f = l->file;
	struct fdview *v = &l->view->view;
	int pidfd = f->proc->pidfd, r = pidfd; /* opened by dump_collect_descriptors() */

	if (pidfd >= 0)
		r = fdview_open(v, pidfd, f->fd, keep ? &f->local : NULL);
	if (r == -EBADF || r == -ESRCH)
		return 1;
	if (r == 0)
		r = fdview_fdinfo(v, l->arena, &f->info);
	if (r == 0)
		r = stat_and_name(l);
	if (r == 0 && may_have_posix_lock(l)) {
		r = proc_read_fdinfo(f->proc->shown, f->fd, l->arena, &f->info);
		if (r == -ENOENT || r == -ESRCH)
			return 1;
	}
	if (r == 0 && is_socket(l))
		protocol_of(
			l, fgetxattr(v->slot, "system.sockprotoname", l->protocol, sizeof(l->protocol) - 1));
	return r;
}

static int look_in_proc(struct look *l)
{
	struct dump_file *f = l->file;
	pid_t pid = f->proc->shown;
	char path[64];
	ssize_t n;
	int r;

	snprintf(path, sizeof(path), "fd/%d", f->fd);
	n = proc_readlink(pid, path, l->link, sizeof(l->link));
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, f->fd);
	r = n < 0 ? (int)n : stat(path, &f->st) < 0 ? -errno : 0;
	if (r == 0)
		r = proc_read_fdinfo(pid, f->fd, l->arena, &f->info);
	if (r == -ENOENT || r == -ESRCH)
		return 1;
	if (r == 0 && is_socket(l))
		protocol_of(l, getxattr(path, "system.sockprotoname", l->protocol, sizeof(l->protocol) - 1));
	return r;
}

static int keep_names(struct look *l)
{
	struct dump_file *f = l->file;

	f->link = arena_strdup(l->arena, l->link);
	if (f->protocol)
		f->protocol = arena_strdup(l->arena, l->protocol);
	return f->link && (f->protocol || !is_socket(l)) ? 0 : -ENOMEM;
}

int dump_view_fd(struct dump *d, struct dump_proc *p, int fd, bool keep, unsigned worker,
	struct dump_file *ret, struct error *e)
{
	struct look l;
	int r = -EPERM;

	l.d = d;
	l.view = &d->views[worker];
	l.arena = dump_arena(d, worker);
	l.file = ret;
	*ret = (struct dump_file){.proc = p, .fd = fd, .local = -EBADF};
	if (!p->by_proc)
		r = look_through_view(&l, keep);
	if (r == -EPERM)
		r = look_in_proc(&l);
	if (r == 0)
		r = keep_names(&l);
	ret->info.flags &= ~(unsigned)O_CLOEXEC;
	if (r != 0)
		close_p(&ret->local);
	return r < 0 ? error_errno(e, r, "descriptor %d of pid %d", fd, p->pid) : r;
}
