/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look at a mount of the container that hides nothing: a copy of it alone, without what is mounted on it. Copies can
 * only be made by who is in the mount namespace, so a thread goes there for a moment. One that is covered is uncovered in a
 * copy of the whole namespace, which ends with the thread.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/mounts.h"
#include "linux/mountfd.h"

struct copying {
	const struct proc_mount *mounts; /* of the namespace, */
	size_t n;
	const struct proc_mount *view; /* and one of them */
	int ns, from;		       /* from: it is there, at its path; -EBADF: it is covered */
	int result;
};

/* What was mounted later, over it or over a directory above it, from the last one on. A descriptor of it then. */
static int uncover(const struct copying *c)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	for (size_t i = c->n; &c->mounts[--i] > c->view;)
		if (mounts_below(c->view->target, c->mounts[i].target) &&
			umount2(c->mounts[i].target, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return -errno;
	fd = open(c->view->target, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	/* A mount that has been moved is listed where it was made. */
	return major(st.st_dev) == c->view->dev_major && minor(st.st_dev) == c->view->dev_minor ? take_fd(&fd)
												: -EBUSY;
}

static void *copy(void *arg)
{
	struct copying *c = arg;
	_cleanup_close_ int uncovered = -EBADF;
	int r = 0;

	c->result = unshare(CLONE_FS) < 0 || setns(c->ns, CLONE_NEWNS) < 0 ? -errno : 0;
	if (c->result == 0 && c->from < 0)
		c->result = uncovered = uncover(c);
	if (c->result >= 0)
		c->result = mount_clone(c->from < 0 ? uncovered : c->from, "", false);
	if (c->result < 0)
		return NULL;
	/* reading leaves no trace */
	r = mount_change(c->result, MOUNT_ATTR_NOATIME, 0, 0, false);
	if (r < 0) {
		close(c->result);
		c->result = r;
	}
	return NULL;
}

int dump_bare_mount(struct dump *d, const struct dump_tmpfs_view *v)
{
	_cleanup_close_ int ns = -EBADF,
			    from = v->covered ? -EBADF
					      : open_in_root(v->nested ? v->nested->root_fd : d->root_fd,
							v->view->target, O_PATH, 0);
	_cleanup_close_ int bare = -EBADF;
	struct copying c;
	char path[64];
	pthread_t thread;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", v->nested ? v->nested->pid : d->c->init_pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		return -errno;
	if (!v->covered && (from < 0 || mount_id(from) != v->view->id))
		return from < 0 ? from : -EBUSY;
	c = (struct copying){.mounts = v->nested ? v->nested->mounts : d->mounts,
		.n = v->nested ? v->nested->n_mounts : d->n_mounts,
		.view = v->view,
		.ns = ns,
		.from = from,
		.result = -EIO};
	r = pthread_create(&thread, NULL, copy, &c);
	if (r != 0)
		return -r;
	pthread_join(thread, NULL);
	bare = c.result;
	if (bare < 0)
		return bare;
	r = openat(bare, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return r < 0 ? -errno : r;
}
