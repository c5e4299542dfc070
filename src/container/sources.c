/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is mounted from the host: the root file system and the sources of bind mounts, as detached mounts.
 *
 * Init opens them itself. In a user namespace it may lack the permission to reach one; and how ids are mapped on a mount
 * takes the host's privileges and its pids. Then it asks the runtime, which lets a child of its own, with the host's
 * privileges and in init's mount namespace, open the source and send it. (In that namespace, not in ours, because the kernel keeps the
 * restrictions of the mounts in it, "ro" say, from being lifted in the container.)
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/clone.h"
#include "linux/mountfd.h"
#include "linux/procfd.h"
#include "linux/pty.h"

static int map_ids(const struct spec_mount *m, int tree, pid_t init, struct error *e)
{
	_cleanup_close_ int userns = -EBADF;
	char path[40];
	int r;

	if (m->ids.n_uid) {
		userns = idmap_make_userns(&m->ids);
	} else {
		snprintf(path, sizeof(path), "/proc/%d/ns/user", init);
		userns = open(path, O_RDONLY | O_CLOEXEC);
		userns = userns < 0 ? -errno : userns;
	}
	if (userns < 0)
		return error_errno(e, userns, "id mappings of mount %s", m->destination);
	r = mount_map_ids(tree, userns, m->idmap_recursive);
	if (r == -EINVAL)
		return error_set(e, r, ERROR_KERNEL,
			"mount %s: the file system of %s can't be mounted with id mappings", m->destination,
			m->source);
	return r < 0 ? error_errno(e, r, "map the ids of mount %s", m->destination) : 0;
}

/* The root file system is attached at its own place: pivot_root wants a mount point. */
static int open_root(const struct spec *s, struct error *e)
{
	_cleanup_close_ int tree = -EBADF, target = open(s->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (target < 0)
		return error_errno(e, -errno, "rootfs %s", s->rootfs);
	tree = mount_clone(target, "", true);
	if (tree < 0)
		return error_errno(e, tree, "bind rootfs %s", s->rootfs);
	r = mount_attach(tree, target);
	return r < 0 ? error_errno(e, r, "mount rootfs %s", s->rootfs) : take_fd(&tree);
}

int source_open_here(const struct spec *s, int index, pid_t init, struct error *e)
{
	const struct spec_mount *m = &s->mounts[index];
	_cleanup_close_ int tree = -EBADF;
	int r;

	if (index == SOURCE_ROOT)
		return open_root(s, e);
	tree = mount_clone_at(m->source, m->flags & MS_REC, m->source_link == SOURCE_LINK_FOLLOW);
	if (tree < 0)
		return error_errno(e, tree, "bind mount %s", m->source);
	r = m->idmap ? map_ids(m, tree, init, e) : 0;
	return r < 0 ? r : take_fd(&tree);
}

int source_open(const struct init *in, int index, struct error *e)
{
	bool idmap = index != SOURCE_ROOT && in->spec->mounts[index].idmap;
	int fd;

	if (in->sources) {
		fd = fcntl(in->sources[index], F_DUPFD_CLOEXEC, 3);
		return fd < 0 ? error_errno(e, -errno, "a mount's source") : fd;
	}
	if (!idmap) {
		fd = source_open_here(in->spec, index, -1, e);
		if (fd != -EACCES || !in->spec->namespaces[NS_USER].present)
			return fd;
	}
	fd = sync_send_number(in->sync, SYNC_SOURCE, index);
	if (fd == 0)
		fd = socket_receive_fd(in->sync);
	return fd < 0 ? error_errno(e, fd, "receive a mount's source from the runtime") : fd;
}

/* Our root may not be the namespace's. */
static int enter_mounts_of(pid_t init, int init_pidfd)
{
	_cleanup_close_ int root = -EBADF;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/root", init);
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || setns(init_pidfd, CLONE_NEWNS) < 0 || fchdir(root) < 0 || chroot(".") < 0)
		return -errno;
	return 0;
}

static int open_and_send(const struct init *in, int index, int init_pidfd, int sync, struct error *e)
{
	pid_t init = in->c->init_pid;
	_cleanup_close_ int fd = -EBADF;
	int r = enter_mounts_of(init, init_pidfd);

	if (r < 0)
		return error_errno(e, r, "enter the container's mount namespace");
	fd = source_open_here(in->spec, index, init, e);
	if (fd < 0)
		return fd;
	r = socket_send_fd(sync, fd, "source");
	return r < 0 ? error_errno(e, r, "send a mount's source") : 0;
}

int source_serve(const struct init *in, int index, int init_pidfd, int sync, struct error *e)
{
	struct error *shared =
		mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	_cleanup_close_ int pidfd = -EBADF;
	int r, status = 0;
	pid_t pid;

	if (index != SOURCE_ROOT && (index < 0 || (size_t)index >= in->spec->n_mounts))
		return error_set(
			e, -EPROTO, ERROR_INTERNAL, "init asks for mount %d, which is not there", index);
	if (shared == MAP_FAILED)
		return error_errno(e, -errno, "mount sources");
	pid = clone_fork(0, -EBADF, &pidfd);
	if (pid == 0)
		_exit(open_and_send(in, index, init_pidfd, sync, shared) < 0);
	r = pid < 0 ? pid : pidfd_reap(pidfd, &status);
	if (r < 0)
		error_errno(e, r, "fork for a mount's source");
	else if (shared->code < 0)
		r = (*e = *shared).code;
	else if (status)
		r = error_set(e, -EIO, ERROR_SYSTEM, "the process that opens a mount's source died");
	munmap(shared, sizeof(*shared));
	return r;
}
