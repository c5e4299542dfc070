/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount namespace that belongs to a user namespace of its own began as a copy of another one, whose mounts are locked in it:
 * nobody in there may unmount them one by one. No file shows which they are. So a child of ours enters both, copies the
 * mount namespace, which keeps the locks, and tries there.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "checkpoint/native/dump.h"
#include "checkpoint/native/mounts.h"

enum { UNKNOWN, LOCKED, FREE };

struct trial {
	const struct proc_mount *mounts;
	size_t n;
	char *found; /* by mount; shared with the child */
};

/* Whether what is at the mount's path is that mount, as far as one can tell in a copy. */
static bool is_on_top(const struct proc_mount *m)
{
	struct statx st;

	return statx(AT_FDCWD, m->target, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &st) ==
		       0 &&
	       st.stx_attributes & STATX_ATTR_MOUNT_ROOT && st.stx_dev_major == m->dev_major &&
	       st.stx_dev_minor == m->dev_minor;
}

/* From the last one on, so that nothing covers what is tried. A first MNT_EXPIRE only leaves a mark; a locked one is EINVAL. */
static void try_all(const struct trial *t)
{
	for (size_t i = t->n; i-- > 0;) {
		const struct proc_mount *m = &t->mounts[i];

		if (!m->target[1])
			t->found[i] = FREE; /* the root, which nobody can unmount */
		if (!m->target[1] || !is_on_top(m))
			continue;
		t->found[i] = umount2(m->target, MNT_EXPIRE | UMOUNT_NOFOLLOW) < 0 && errno == EINVAL ? LOCKED
												      : FREE;
		if (t->found[i] == FREE)
			umount2(m->target, MNT_DETACH | UMOUNT_NOFOLLOW);
	}
}

/* Other threads of ours may be in the middle of anything: only system calls. */
static pid_t start(const struct trial *t, int user, int mnt)
{
	pid_t child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (child != 0)
		return child;
	if (setns(user, CLONE_NEWUSER) < 0 || setns(mnt, CLONE_NEWNS) < 0 || unshare(CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		_exit(1);
	try_all(t);
	_exit(0);
}

int dump_find_locked_mounts(struct dump *d, struct dump_nested *n, int user, struct error *e)
{
	struct trial t = {.mounts = n->mounts, .n = n->n_mounts};
	int status = 0;
	pid_t child;

	n->locked = arena_array(&d->arena, n->n_mounts, sizeof(*n->locked));
	t.found = mmap(NULL, n->n_mounts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!n->locked || t.found == MAP_FAILED)
		return error_errno(e, -ENOMEM, "mounts of a nested namespace");
	child = start(&t, user, n->fd);
	while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	/* What lies below a locked one came with it. */
	for (size_t i = 0; i < n->n_mounts; i++)
		n->locked[i] = t.found[i] != FREE;
	munmap(t.found, n->n_mounts);
	return child < 0 || status ? 1 : 0;
}
