/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts that come and go while the container runs (mounts add, mounts remove). A child of ours opens the sources with
 * the host's mounts, enters the container's mount namespace and root, and there does what init does with config.json's
 * mounts. A checkpoint compares the mounts with those that config.json made, and refuses to leave out any others.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/clone.h"
#include "linux/mountfd.h"
#include "linux/procfd.h"

struct live {
	struct container *c;
	struct init init; /* for rootfs_mount() */
	int init_pidfd, root, descriptors;
};

/* These show what their mounter's namespaces or cgroup have, and we have the host's. */
static int check_types(const struct spec *s, struct error *e)
{
	static const char *const ours[] = {
		"proc", "sysfs", "mqueue", "cgroup", "cgroup2", "nfsd", "rpc_pipefs", "binfmt_misc"};

	for (size_t i = 0; i < s->n_mounts; i++)
		for (size_t k = 0; k < ARRAY_SIZE(ours); k++)
			if (s->mounts[i].type && !strcmp(s->mounts[i].type, ours[k]))
				return error_set(e, -EOPNOTSUPP, ERROR_CONFIG,
					"a %s cannot be added to a running container: it would be the host's",
					ours[k]);
	return 0;
}

static int open_sources(struct live *l, int *sources, struct error *e)
{
	const struct spec *s = l->init.spec;

	for (size_t i = 0; i < s->n_mounts; i++) {
		if (!s->mounts[i].is_bind)
			continue;
		sources[i] = source_open_here(s, (int)i, l->c->init_pid, e);
		if (sources[i] < 0)
			return sources[i];
	}
	l->init.sources = sources;
	return 0;
}

static int enter(struct live *l, struct error *e)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/root", l->c->init_pid);
	l->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* nobody in there may look into us (CVE-2016-9962) */
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return error_errno(e, -errno, "prctl");
	/* the host's procfs: the container's may show anything */
	l->descriptors = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (l->root < 0 || l->descriptors < 0 || setns(l->init_pidfd, CLONE_NEWNS) < 0 ||
		fchdir(l->root) < 0 || chroot(".") < 0)
		return error_errno(e, -errno, "enter the container's mount namespace");
	umask(0);
	return 0;
}

/* By a descriptor of the mount, as its path may lead elsewhere by then. */
static int remove_one(const struct live *l, const struct spec_mount *m, struct error *e)
{
	_cleanup_close_ int target = open_in_root(l->root, m->destination, O_PATH | O_NOFOLLOW, 0);
	char name[16];

	if (target < 0)
		return error_errno(e, target, "mount point %s", m->destination);
	if (!strcmp(m->destination + strspn(m->destination, "/"), ""))
		return error_set(e, -EBUSY, ERROR_USAGE, "the container's root cannot be removed");
	snprintf(name, sizeof(name), "%d", target);
	if (fchdir(l->descriptors) < 0 || umount2(name, MNT_DETACH) < 0)
		return errno == EINVAL ? error_set(e, -EINVAL, ERROR_USAGE,
						 "%s is not a mount point in the container", m->destination)
				       : error_errno(e, -errno, "unmount %s", m->destination);
	return 0;
}

static int add_all(struct live *l, struct error *e)
{
	const struct spec *s = l->init.spec;
	_cleanup_free_ int *sources = calloc(s->n_mounts + 1, sizeof(*sources));
	int r = sources ? open_sources(l, sources, e) : error_errno(e, -ENOMEM, "mounts");

	if (r == 0)
		r = enter(l, e);
	for (size_t i = 0; r == 0 && i < s->n_mounts; i++) {
		r = rootfs_mount(&l->init, i, l->root, e);
		while (r < 0 && i-- > 0) /* all or none */
			(void)!remove_one(l, &s->mounts[i], NULL);
		if (r < 0)
			break;
	}
	return r;
}

/* The last one first, as it may lie on another. */
static int remove_all(struct live *l, struct error *e)
{
	const struct spec *s = l->init.spec;
	int r = enter(l, e);

	for (size_t i = s->n_mounts; r == 0 && i-- > 0;)
		r = remove_one(l, &s->mounts[i], e);
	return r;
}

static int run_child(struct live *l, int (*work)(struct live *l, struct error *e), struct error *e)
{
	_cleanup_close_ int pidfd = -EBADF, sync = -EBADF, child_sync = -EBADF;
	int pair[2], r, status;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(e, -errno, "socketpair");
	sync = pair[0];
	child_sync = pair[1];
	pid = clone_fork(0, -EBADF, &pidfd);
	if (pid < 0)
		return error_errno(e, pid, "fork");
	if (pid == 0) {
		struct error own = {0};

		r = work(l, &own);
		if (r < 0)
			sync_send_error(child_sync, &own);
		else
			r = sync_send(child_sync, SYNC_READY);
		_exit(r < 0);
	}
	close_p(&child_sync);
	r = sync_expect(sync, SYNC_READY, e);
	(void)!pidfd_reap(pidfd, &status);
	return r;
}

int container_mounts(struct container *c, const struct spec *mounts, bool add, struct error *e)
{
	struct live l = {.c = c,
		.init = {.c = c, .spec = mounts, .sync = -EBADF},
		.root = -EBADF,
		.descriptors = -EBADF};
	_cleanup_close_ int pidfd = container_init_pidfd(c);
	int r;

	if (pidfd < 0 || container_status(c) == CONTAINER_STOPPED)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running");
	r = container_load_spec(c, e);
	if (r == 0 && (!c->spec->namespaces[NS_MNT].present || c->spec->namespaces[NS_MNT].path))
		r = error_set(e, -EINVAL, ERROR_STATE, "the container has no mount namespace of its own");
	if (r == 0 && add)
		r = check_types(mounts, e);
	if (r < 0)
		return r;
	l.init_pidfd = pidfd;
	return run_child(&l, add ? add_all : remove_all, e);
}
