/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is mapped, without /proc/PID/map_files, whose links only a privileged reader may follow. A file is opened by its
 * path, or by a descriptor that a process of the container has of it, and is taken only if device and inode are those that
 * /proc/PID/maps tells. Shared anonymous memory has neither: its pages are read through the mappings.
 */
#include "checkpoint/native/dump.h"

#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/fd.h"

static bool is_mapped_inode(const struct proc_vma *v, const struct stat *st)
{
	return st->st_ino == v->inode && major(st->st_dev) == v->dev_major &&
	       minor(st->st_dev) == v->dev_minor;
}

static bool at_its_path(struct dump *d, const struct proc_vma *v, struct stat *ret)
{
	struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	_cleanup_close_ int fd = syscall(SYS_openat2, d->root_fd, v->name, &how, sizeof(how));

	return fd >= 0 && fstat(fd, ret) == 0 && is_mapped_inode(v, ret);
}

static bool has_descriptor(
	struct dump_proc *p, const struct proc_vma *v, struct arena *a, int *ret, struct stat *st)
{
	char path[64];
	int *fds;
	size_t n;

	if (proc_read_fds(p->shown, a, &fds, &n) < 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", p->shown, fds[i]);
		if (stat(path, st) == 0 && is_mapped_inode(v, st)) {
			*ret = fds[i];
			return true;
		}
	}
	return false;
}

int dump_mapped_file(struct dump *d, struct dump_proc *p, const struct proc_vma *v, unsigned flags,
	uint64_t *ret_id, struct error *e)
{
	struct dump_link link = {.text = v->name};
	char name[4200];
	int fd;

	if (is_mapped_inode(v, &p->exe.st) && !strcmp(p->exe.text, v->name)) {
		link.st = p->exe.st;
		return dump_file_by_looked(d, p, "exe", flags, &link, ret_id, e);
	}
	if (at_its_path(d, v, &link.st)) {
		if ((size_t)snprintf(name, sizeof(name), "root%s", v->name) >= sizeof(name))
			return error_errno(e, -ENAMETOOLONG, "%s", v->name);
		return dump_file_by_looked(d, p, name, flags, &link, ret_id, e);
	}
	for (size_t i = 0; i < d->n_procs; i++) {
		if (d->procs[i].zombie || !has_descriptor(&d->procs[i], v, &d->arena, &fd, &link.st))
			continue;
		snprintf(name, sizeof(name), "fd/%d", fd);
		return dump_file_by_looked(d, &d->procs[i], name, flags, &link, ret_id, e);
	}
	dump_refuse(d, p, -1, "mapping",
		"it is not at its path (deleted, replaced or mounted over), nor open, and only a privileged "
		"user can reach "
		"it then",
		"restart the program that has it mapped, or make the checkpoint as root", "%s at %llx-%llx",
		v->name, (unsigned long long)v->start, (unsigned long long)v->end);
	*ret_id = 0;
	return 0;
}

/* How far the object reaches, as far as it is mapped anywhere: what nobody maps any more nobody can see. */
static uint64_t mapped_size(const struct dump *d, uint64_t inode)
{
	uint64_t size = 0;

	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = 0; k < d->procs[i].n_vmas; k++) {
			const struct proc_vma *v = &d->procs[i].vmas[k];

			if (v->shared && v->inode == inode)
				size = MAX(size, v->offset + (v->end - v->start));
		}
	return size;
}

/* Zero pages stay holes. */
static int copy_mapping(const struct dump_proc *p, const struct proc_vma *v, int fd, char *buf, size_t max)
{
	static const char zero[4096];

	for (uint64_t at = v->start; at < v->end;) {
		size_t len = MIN(v->end - at, (uint64_t)max);
		int r = task_read_memory(p->shown, at, buf, len);

		for (size_t k = 0; r == 0 && k < len; k += sizeof(zero))
			if (memcmp(buf + k, zero, sizeof(zero)) != 0 &&
				pwrite(fd, buf + k, sizeof(zero), v->offset + (at - v->start) + k) !=
					(ssize_t)sizeof(zero))
				r = errno ? -errno : -EIO;
		if (r < 0)
			return r;
		at += len;
	}
	return 0;
}

/* A copy of a shared object, from one readable mapping of each piece. */
static int copy_object(struct dump *d, uint64_t inode, int fd)
{
	enum { CHUNK = 1 << 20 };
	_cleanup_free_ char *buf = malloc(CHUNK);
	int r = buf ? 0 : -ENOMEM;

	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = 0; k < d->procs[i].n_vmas && r == 0; k++) {
			const struct proc_vma *v = &d->procs[i].vmas[k];

			if (v->shared && v->inode == inode)
				r = copy_mapping(&d->procs[i], v, fd, buf, CHUNK);
		}
	return r;
}

int dump_mapped_object(struct dump *d, const struct proc_vma *v, uint64_t *ret_id, struct error *e)
{
	_cleanup_close_ int fd = memfd_create("stasis", MFD_CLOEXEC);
	uint64_t size = mapped_size(d, v->inode);
	int r = fd < 0 || ftruncate(fd, size) < 0 ? -errno : 0;

	if (r == 0 && d->stopped)
		r = copy_object(d, v->inode, fd);
	if (r < 0)
		return error_errno(e, r, "copy the shared memory %s", v->name);
	return dump_shm(d, v->inode, size, false, fd, ret_id, e);
}
