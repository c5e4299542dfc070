/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A proc shows the pid namespace of who mounts it, which does not exist when the mounts are made. So those of nested pid namespaces
 * are mounted by the stub of the first process there, on the tree that is ready but for them, and then what lies on them (a container
 * engine hides parts of proc). They come last in the list of mounts.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "base/fd.h"
#include "checkpoint/native/mounts-site.h"
#include "checkpoint/native/restore-nested.h"
#include "linux/mountfd.h"

static const St__Mount *origin(const struct restore *r, const St__Mount *m)
{
	for (size_t steps = 0; m->source && steps <= r->n_mounts; steps++)
		m = r->mounts[m->source - 1];
	return m;
}

/* The pid namespace whose first process makes it; 0: it is made with all others. */
static uint64_t pids_of(const struct restore *r, const St__Mount *m)
{
	for (size_t steps = 0; steps <= r->n_mounts; steps++, m = r->mounts[m->parent - 1]) {
		uint64_t pids = origin(r, m)->pid_namespace;

		if (pids || !m->parent)
			return pids;
	}
	return 0;
}

bool restore_mount_is_late(const struct restore *r, const St__Mount *m)
{
	return pids_of(r, m);
}

/* Is it mounted by p, in its mount namespace? */
static bool is_of(const struct restore *r, const St__Mount *m, const St__Process *p)
{
	const struct restore_nested *pids = restore_namespace_of(r, p, CLONE_NEWPID),
				    *mnt = restore_namespace_of(r, p, CLONE_NEWNS);

	return pids && mnt && restore_own_pid(p) == 1 && pids_of(r, m) == pids->msg->id &&
	       m->mount_namespace == mnt->msg->id;
}

bool restore_mounts_late(const struct restore *r, const St__Process *p)
{
	for (size_t i = 0; p && i < r->n_mounts; i++)
		if (is_of(r, r->mounts[i], p))
			return true;
	return false;
}

/* Where it lies, as its mount namespace has it. */
static int path_of(const struct restore *r, const St__Mount *m, char *path, size_t size)
{
	char rest[4096] = "";

	path[0] = 0;
	for (size_t steps = 0; m->parent && steps <= r->n_mounts; steps++, m = r->mounts[m->parent - 1]) {
		if ((size_t)snprintf(path, size, "%s%s", m->target, rest) >= size)
			return -ENAMETOOLONG;
		snprintf(rest, sizeof(rest), "%s", path);
	}
	return 0;
}

/* A part of a mount of create's, which are here. */
static int clone_of_base(const struct restore *r, const St__Mount *m)
{
	_cleanup_close_ int at = -EBADF;
	char path[4096], below[4096] = "";
	const St__Mount *from = m;

	for (size_t steps = 0; from->source && steps <= r->n_mounts; steps++) {
		if ((size_t)snprintf(path, sizeof(path), "%s%s", from->path, below) >= sizeof(path))
			return -ENAMETOOLONG;
		snprintf(below, sizeof(below), "%s", path);
		from = r->mounts[from->source - 1];
	}
	if (!from->created_at[0])
		return -EBADF; /* once that is there */
	if ((size_t)snprintf(path, sizeof(path), "%s%s", from->created_at, below) >= sizeof(path))
		return -ENAMETOOLONG;
	at = open_in_root(AT_FDCWD, path, O_PATH, 0);
	return at < 0 ? at : mount_clone(at, "", false);
}

static int make_new(struct restore *r, const St__Mount *m, int *ret, struct error *e)
{
	struct site s = {.r = r};
	int result = site_make_new(&s, m, ret, e);

	for (size_t i = 0; i < r->n_tmpfs && result == 0; i++) {
		int fd;

		if (r->tmpfs[i]->mount != m->id)
			continue;
		fd = openat(*ret, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		result = restore_tmpfs_at(r, r->tmpfs[i], fd < 0 ? -errno : fd, e);
	}
	if (result == 0 && site_is_read_only(m)) {
		result = mount_reconfigure(*ret, m->options);
		result = result < 0 ? site_failed(e, result, "set the options of", m) : 0;
	}
	return result;
}

static int make(struct restore *r, const St__Mount *m, int *ret, struct error *e)
{
	if (!m->source)
		return make_new(r, m, ret, e);
	*ret = clone_of_base(r, m);
	return *ret < 0 && *ret != -EBADF ? site_failed(e, *ret, "bind", m) : 0;
}

/* Of what is among the mounts that are there by now. */
static int clone_of_made(const struct restore *r, const St__Mount *m, const int *fds)
{
	_cleanup_close_ int whole = -EBADF, part = -EBADF;
	const St__Mount *from = r->mounts[m->source - 1];
	char path[4096];
	int result = fds[m->source - 1] < 0 ? path_of(r, from, path, sizeof(path)) : 0;

	if (result < 0)
		return result;
	if (fds[m->source - 1] < 0)
		whole = open_in_root(AT_FDCWD, path[0] ? path : "/", O_PATH, 0);
	else
		whole = fcntl(fds[m->source - 1], F_DUPFD_CLOEXEC, 3);
	part = whole < 0 ? whole : site_open_place(whole, m->path);
	return part < 0 ? part : mount_clone(part, "", false);
}

static int attach(struct restore *r, const St__Mount *m, const int *fds, int *fd)
{
	enum {
		ALL = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
		      MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR__ATIME
	};
	_cleanup_close_ int at = -EBADF;
	char path[4096];
	int result = path_of(r, m, path, sizeof(path));

	if (result == 0 && *fd < 0)
		result = *fd = clone_of_made(r, m, fds);
	if (result >= 0)
		result = mount_change(*fd, m->attributes, ALL & ~m->attributes, MS_PRIVATE, false);
	if (result < 0)
		return result;
	at = open_in_root(AT_FDCWD, path, O_PATH, 0);
	return at < 0 ? at : mount_attach(*fd, at);
}

static int make_all(struct restore *r, const St__Process *p, int *fds, struct error *e)
{
	for (size_t i = 0; i < r->n_mounts; i++) {
		int result = is_of(r, r->mounts[i], p) ? make(r, r->mounts[i], &fds[i], e) : 0;

		if (result < 0)
			return result;
	}
	return 0;
}

static int attach_all(struct restore *r, const St__Process *p, int *fds, struct error *e)
{
	for (size_t i = 0; i < r->n_mounts; i++) {
		int result = is_of(r, r->mounts[i], p) ? attach(r, r->mounts[i], fds, &fds[i]) : 0;

		if (result < 0)
			return site_failed(e, result, "attach", r->mounts[i]);
	}
	return 0;
}

int restore_late_mounts(struct restore *r, const St__Process *p, struct error *e)
{
	int *fds, result;

	if (!restore_mounts_late(r, p))
		return 0;
	fds = arena_array(&r->arena, r->n_mounts, sizeof(*fds));
	if (!fds)
		return error_errno(e, -ENOMEM, "mounts");
	for (size_t i = 0; i < r->n_mounts; i++)
		fds[i] = -EBADF;
	result = restore_where_proc_is_seen(r, e);
	if (result == 0)
		result = make_all(r, p, fds, e);
	if (result == 0)
		result = restore_enter_namespaces(r, p, e);
	if (result == 0 && chdir("/") < 0)
		result = error_errno(e, -errno, "enter /");
	if (result == 0)
		result = attach_all(r, p, fds, e);
	for (size_t i = 0; i < r->n_mounts; i++)
		close_p(&fds[i]);
	return result;
}
