/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A proc shows the pid namespace of who mounts it, which does not exist when the mounts are made. So those of nested pid namespaces
 * are mounted by the stub of the first process there, on the tree that is ready but for them. They come last in the list of mounts.
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

bool restore_mount_is_late(const struct restore *r, const St__Mount *m)
{
	return origin(r, m)->pid_namespace;
}

/* Is it mounted by p, in its mount namespace? */
static bool is_of(const struct restore *r, const St__Mount *m, const St__Process *p)
{
	const struct restore_nested *pids = restore_namespace_of(r, p, CLONE_NEWPID),
				    *mnt = restore_namespace_of(r, p, CLONE_NEWNS);

	return pids && mnt && restore_own_pid(p) == 1 && origin(r, m)->pid_namespace == pids->msg->id &&
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

static int make(const St__Mount *m)
{
	return m->source ? -EBADF : mount_make(m->fstype, m->device, m->options, NULL, 0);
}

static int attach(struct restore *r, const St__Mount *m, const int *fds, int *fd)
{
	enum {
		ALL = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
		      MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_NOSYMFOLLOW | MOUNT_ATTR__ATIME
	};
	_cleanup_close_ int at = -EBADF, part = -EBADF;
	char path[4096];
	int result = path_of(r, m, path, sizeof(path));

	if (result == 0 && m->source) {
		part = site_open_place(fds[m->source - 1], m->path);
		result = *fd = part < 0 ? part : mount_clone(part, "", false);
	}
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
		fds[i] = is_of(r, r->mounts[i], p) ? make(r->mounts[i]) : -EBADF;
		if (fds[i] < 0 && fds[i] != -EBADF)
			return site_failed(e, fds[i], "make", r->mounts[i]);
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
