/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look at a mount of the container that hides nothing: a copy of it alone, without what is mounted on it. Copies can
 * only be made by who is in the mount namespace, so a thread goes there for a moment.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>

#include "base/fd.h"
#include "checkpoint/native/dump.h"
#include "linux/mountfd.h"

struct copying {
	int ns, from;
	int result;
};

static void *copy(void *arg)
{
	struct copying *c = arg;
	int r;

	c->result = unshare(CLONE_FS) < 0 || setns(c->ns, CLONE_NEWNS) < 0 ? -errno
									   : mount_clone(c->from, "", false);
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
	_cleanup_close_ int ns = -EBADF, from = open_in_root(v->nested ? v->nested->root_fd : d->root_fd,
						 v->view->target, O_PATH, 0);
	_cleanup_close_ int bare = -EBADF;
	struct copying c;
	char path[64];
	pthread_t thread;
	int r;

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", v->nested ? v->nested->pid : d->c->init_pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (from < 0 || ns < 0)
		return from < 0 ? from : -errno;
	if (mount_id(from) != v->view->id)
		return -EBUSY;
	c = (struct copying){ns, from, -EIO};
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
