/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents of the container's own tmpfs mounts (those of config.json, /dev and /dev/shm among them). Restore makes the
 * fresh mount equal to the record: what create has put there stays if it is the same, what the container had removed
 * is removed. Directories on which something else is mounted are left alone.
 */
#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "base/trace.h"
#include "linux/mountfd.h"

enum { MAX_DEPTH = 64 };

struct walk {
	struct dump *d;
	St__Tmpfs *m;
	size_t max;
	dev_t dev;
	struct {
		ino_t ino;
		uint64_t number;
	} * links; /* inodes with several names */
	size_t n_links, max_links;
};

static void closedir_p(DIR **d)
{
	if (*d)
		closedir(*d);
}

static St__TmpfsEntry *new_entry(struct walk *w)
{
	struct arena *a = &w->d->arena;
	St__TmpfsEntry *entry = pb_new(a, TmpfsEntry, tmpfs_entry);

	if (w->m->n_entries == w->max) {
		size_t want = w->max ? w->max * 2 : 32;
		void *more = arena_array(a, want, sizeof(*w->m->entries));

		if (!more)
			return NULL;
		if (w->max)
			memcpy(more, w->m->entries, w->m->n_entries * sizeof(*w->m->entries));
		w->m->entries = more;
		w->max = want;
	}
	if (entry)
		w->m->entries[w->m->n_entries++] = entry;
	return entry;
}

/* A number for an inode with several names; *ret_first: its contents are still to be dumped. */
static int link_number(struct walk *w, ino_t ino, uint64_t *ret, bool *ret_first)
{
	*ret_first = false;
	for (size_t i = 0; i < w->n_links; i++) {
		if (w->links[i].ino == ino) {
			*ret = w->links[i].number;
			return 0;
		}
	}
	if (w->n_links == w->max_links) {
		size_t want = w->max_links ? w->max_links * 2 : 16;
		void *more = reallocarray(w->links, want, sizeof(*w->links));

		if (!more)
			return -ENOMEM;
		w->links = more;
		w->max_links = want;
	}
	w->links[w->n_links].ino = ino;
	*ret = w->links[w->n_links].number = w->n_links + 1;
	w->n_links++;
	*ret_first = true;
	return 0;
}

static int fill_entry(struct walk *w, int dirfd, const char *name, const struct stat *st, St__TmpfsEntry *m,
	struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	bool first = true;
	char target[4097];
	ssize_t n;

	m->mode = st->st_mode;
	m->uid = dump_uid(w->d, st->st_uid);
	m->gid = dump_gid(w->d, st->st_gid);
	m->rdev = st->st_rdev;
	m->mtime = pb_timespec(&w->d->arena, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	m->atime = pb_timespec(&w->d->arena, st->st_atim.tv_sec, st->st_atim.tv_nsec);
	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1 && link_number(w, st->st_ino, &m->link, &first) < 0)
		return error_errno(e, -ENOMEM, "tmpfs");
	if (S_ISLNK(st->st_mode)) {
		n = readlinkat(dirfd, name, target, sizeof(target) - 1);
		if (n < 0)
			return error_errno(e, -errno, "read the link %s", m->path);
		m->target = arena_strndup(&w->d->arena, target, n);
		return m->target ? 0 : error_errno(e, -ENOMEM, "tmpfs");
	}
	if (!S_ISREG(st->st_mode) || !first)
		return 0;
	m->size = st->st_size;
	m->space = dump_new_id(w->d);
	fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_errno(e, -errno, "open %s", m->path);
	n = dump_xattrs(&w->d->arena, fd, m->path, &m->xattrs, &m->n_xattrs, e);
	return n < 0 ? n : dump_contents(w->d, m->space, fd, st->st_size, e);
}

static int walk_directory(struct walk *w, int fd, const char *prefix, int depth, struct error *e)
{
	_cleanup_(closedir_p) DIR *dir = NULL;
	struct dirent *ent;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir || depth > MAX_DEPTH) {
		if (copy >= 0 && !dir)
			close(copy);
		return error_errno(
			e, dir ? -ELOOP : -errno, "read the directory %s/%s", w->m->target, prefix);
	}
	while ((ent = readdir(dir))) {
		St__TmpfsEntry *m;
		struct stat st;
		int r, sub;

		if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, ".."))
			continue;
		if (fstatat(fd, ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return error_errno(e, -errno, "%s/%s%s", w->m->target, prefix, ent->d_name);
		if (st.st_dev != w->dev)
			continue;
		m = new_entry(w);
		if (!m || !(m->path = arena_printf(&w->d->arena, "%s%s", prefix, ent->d_name)))
			return error_errno(e, -ENOMEM, "tmpfs");
		r = fill_entry(w, fd, ent->d_name, &st, m, e);
		if (r < 0)
			return r;
		if (!S_ISDIR(st.st_mode))
			continue;
		sub = openat(fd, ent->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0)
			return error_errno(e, -errno, "open %s", m->path);
		r = dump_xattrs(&w->d->arena, sub, m->path, &m->xattrs, &m->n_xattrs, e);
		if (r == 0)
			r = walk_directory(w, sub, arena_printf(&w->d->arena, "%s/", m->path), depth + 1, e);
		close(sub);
		if (r < 0)
			return r;
	}
	return 0;
}

int dump_tmpfs_at(
	struct dump *d, int fd, const char *target, uint32_t mount, St__Tmpfs **ret, struct error *e)
{
	struct walk w = {.d = d};
	St__TmpfsEntry *top;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(e, fd < 0 ? fd : -errno, "open the tmpfs at %s", target);
	w.m = pb_new(&d->arena, Tmpfs, tmpfs);
	if (!w.m || !(w.m->target = arena_strdup(&d->arena, target)))
		return error_errno(e, -ENOMEM, "tmpfs");
	w.m->mount = mount;
	w.dev = st.st_dev;
	top = new_entry(&w);
	if (!top)
		return error_errno(e, -ENOMEM, "tmpfs");
	top->path = (char *)"";
	r = fill_entry(&w, fd, "", &st, top, e);
	if (r == 0)
		r = walk_directory(&w, fd, "", 0, e);
	free(w.links);
	if (r == 0)
		*ret = d->tmpfs[d->n_tmpfs++] = w.m;
	return r;
}

/* Where the container has changed mounts: each by a copy of the mount, on which nothing else is mounted. */
static int dump_listed(struct dump *d, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < d->n_contents && r == 0; i++) {
		const struct dump_tmpfs_view *v = &d->contents[i];
		_cleanup_close_ int fd = dump_bare_mount(d, v);
		St__Tmpfs *m;

		r = dump_tmpfs_at(d, fd, v->view->target, v->mount, &m, e);
	}
	return r;
}

int dump_tmpfs(struct dump *d, struct error *e)
{
	TRACE("tmpfs");
	const struct spec *s = d->c->spec;
	int r = 0;

	d->tmpfs = arena_array(&d->arena, s->n_mounts + d->n_contents, sizeof(*d->tmpfs));
	if (!d->tmpfs)
		return error_errno(e, -ENOMEM, "tmpfs");
	r = dump_listed(d, e);
	if (r == 0)
		r = dump_volumes(d, e);
	if (d->n_mount_msgs && !d->mount_msgs[0]->mount_namespace)
		return r;
	for (size_t i = 0; i < s->n_mounts && r == 0; i++) {
		_cleanup_close_ int fd = -EBADF;
		St__Tmpfs *m;

		if (s->mounts[i].is_bind || !s->mounts[i].type || strcmp(s->mounts[i].type, "tmpfs") != 0)
			continue;
		fd = open_in_root(d->root_fd, s->mounts[i].destination, O_RDONLY | O_DIRECTORY, 0);
		r = dump_tmpfs_at(d, fd, s->mounts[i].destination, 0, &m, e);
	}
	return r;
}

/* ---- restore ---- */

static bool same_node(const St__TmpfsEntry *m, const struct stat *st)
{
	return (m->mode & S_IFMT) == (st->st_mode & S_IFMT) && !S_ISREG(m->mode) && !S_ISLNK(m->mode) &&
	       m->rdev == st->st_rdev;
}

static const St__TmpfsEntry *find_entry(const St__Tmpfs *m, const char *path)
{
	for (size_t i = 0; i < m->n_entries; i++)
		if (!strcmp(m->entries[i]->path, path))
			return m->entries[i];
	return NULL;
}

/* Removes what the record does not have. */
static int prune(const St__Tmpfs *m, int fd, const char *prefix, dev_t dev, int depth, struct error *e)
{
	_cleanup_(closedir_p) DIR *dir = NULL;
	struct dirent *ent;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	dir = copy < 0 ? NULL : fdopendir(copy);
	if (!dir || depth > MAX_DEPTH)
		return error_errno(e, -EIO, "read the directory %s/%s", m->target, prefix);
	while ((ent = readdir(dir))) {
		const St__TmpfsEntry *entry;
		struct stat st;
		char path[4096];
		int r = 0, sub;

		if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, ".."))
			continue;
		if ((size_t)snprintf(path, sizeof(path), "%s%s", prefix, ent->d_name) >= sizeof(path) ||
			fstatat(fd, ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return error_errno(e, -errno, "%s/%s%s", m->target, prefix, ent->d_name);
		if (st.st_dev != dev)
			continue;
		entry = find_entry(m, path);
		if (!entry || (!same_node(entry, &st) && !S_ISDIR(st.st_mode)))
			r = remove_tree_at(fd, ent->d_name);
		/* A mount point below keeps a directory busy: it was there at the checkpoint too, as another device. */
		if (r < 0 && r != -EBUSY)
			return error_errno(e, r, "remove %s/%s", m->target, path);
		if (!entry || !S_ISDIR(st.st_mode))
			continue;
		sub = openat(fd, ent->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0)
			return error_errno(e, -errno, "open %s/%s", m->target, path);
		(void)!snprintf(path, sizeof(path), "%s%s/", prefix, ent->d_name);
		r = prune(m, sub, path, dev, depth + 1, e);
		close(sub);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A file that is there is a mount point of create's, which could not be removed. */
static int open_file(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;

	if (fd >= 0 || errno != EEXIST)
		return fd < 0 ? -errno : fd;
	fd = openat(dirfd, path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close_p(&fd);
	return -EEXIST;
}

static int make_file(struct restore *r, int dirfd, const St__TmpfsEntry *m, struct error *e)
{
	_cleanup_close_ int fd = open_file(dirfd, m->path);

	return fd < 0 ? fd : restore_contents(r, m->space, fd, m->size, e);
}

static int make_node(
	struct restore *r, const St__Tmpfs *t, int dirfd, const St__TmpfsEntry *m, struct error *e)
{
	struct stat st;
	int result = 0;

	for (size_t i = 0; m->link && i < t->n_entries && t->entries[i] != m; i++)
		if (t->entries[i]->link == m->link)
			return linkat(dirfd, t->entries[i]->path, dirfd, m->path, 0) < 0
				       ? error_errno(e, -errno, "link %s", m->path)
				       : 0;
	if (fstatat(dirfd, *m->path ? m->path : ".", &st, AT_SYMLINK_NOFOLLOW) == 0 && same_node(m, &st))
		return 0;
	if ((S_ISCHR(m->mode) || S_ISBLK(m->mode)) && m->rdev && !r->may_make_devices)
		return error_set(e, -EPERM, ERROR_REFUSED,
			"the image brings the device node %s (%u:%u), and the bundle's config.json does not "
			"allow "
			"the container to make any: add it to linux.devices, or CAP_MKNOD to "
			"process.capabilities.bounding, if it is wanted",
			m->path, major(m->rdev), minor(m->rdev));
	if (S_ISREG(m->mode))
		result = make_file(r, dirfd, m, e);
	else if (S_ISDIR(m->mode))
		result = mkdirat(dirfd, m->path, 0700) < 0 ? -errno : 0;
	else if (S_ISLNK(m->mode))
		result = symlinkat(m->target ? m->target : "", dirfd, m->path) < 0 ? -errno : 0;
	else
		result = mknodat(dirfd, m->path, m->mode & (S_IFMT | 07777), m->rdev) < 0 ? -errno : 0;
	return result < 0 ? error_errno(e, result, "make %s", m->path) : 0;
}

static int set_attributes(int dirfd, const St__TmpfsEntry *m, struct error *e)
{
	const char *path = *m->path ? m->path : ".";
	struct timespec times[2] = {{m->atime ? m->atime->sec : 0, m->atime ? m->atime->nsec : UTIME_OMIT},
		{m->mtime ? m->mtime->sec : 0, m->mtime ? m->mtime->nsec : UTIME_OMIT}};

	if (fchownat(dirfd, path, m->uid, m->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(e, -errno, "owner of %s", path);
	if (!S_ISLNK(m->mode) && fchmodat(dirfd, path, m->mode & 07777, 0) < 0)
		return error_errno(e, -errno, "mode of %s", path);
	if (m->n_xattrs) {
		_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

		int result = restore_xattrs(m->xattrs, m->n_xattrs, fd, path, e);

		if (result < 0)
			return result;
	}
	if (utimensat(dirfd, path, times, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(e, -errno, "times of %s", path);
	return 0;
}

int restore_tmpfs_at(struct restore *r, const St__Tmpfs *m, int fd, struct error *e)
{
	struct stat st;
	int result;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(
			e, fd < 0 ? fd : -errno, "open the tmpfs at %s (is it in config.json?)", m->target);
	result = prune(m, fd, "", st.st_dev, 0, e);
	for (size_t i = 1; i < m->n_entries && result == 0; i++)
		result = make_node(r, m, fd, m->entries[i], e);
	/* Times of a directory last, behind those of what is in it. */
	for (size_t i = m->n_entries; i-- > 0 && result == 0;)
		result = set_attributes(fd, m->entries[i], e);
	return result < 0 ? error_prefix(e, "tmpfs %s", m->target) : 0;
}

static const char *shown_source(const struct spec_mount *m)
{
	return m->source ? m->source : m->type ? m->type : "";
}

static const struct spec_mount *last_mount_at(const struct spec *s, const char *target)
{
	for (size_t i = s->n_mounts; i-- > 0;)
		if (!strcmp(s->mounts[i].destination, target))
			return &s->mounts[i];
	return NULL;
}

/* What is there is made equal to the image, and what the image does not have is removed: it must be a tmpfs that create makes. */
int restore_check_tmpfs(const struct restore *r, const struct spec *s, struct error *e)
{
	for (size_t i = 0; i < r->n_tmpfs; i++) {
		const char *target = r->tmpfs[i]->target;
		const struct spec_mount *m = last_mount_at(s, target);

		if (r->tmpfs[i]->mount || r->tmpfs[i]->volume ||
			(m && !m->is_bind && m->type && !strcmp(m->type, "tmpfs")))
			continue;
		return error_set(e, -EINVAL, ERROR_REFUSED,
			"the container had a tmpfs of its own at %.200s, and the bundle's config.json "
			"%s%.200s: the image's "
			"files "
			"would be written there; let config.json mount a tmpfs at %.200s, as it was",
			target,
			!m	     ? "mounts nothing there"
			: m->is_bind ? "mounts another directory there, "
				     : "mounts another file system there, ",
			m ? shown_source(m) : "", target);
	}
	return 0;
}

int restore_tmpfs(struct restore *r, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_tmpfs && result == 0; i++) {
		_cleanup_close_ int fd = -EBADF;

		if (r->tmpfs[i]->mount || r->tmpfs[i]->volume)
			continue; /* filled when it was mounted; volumes.c */
		fd = open(r->tmpfs[i]->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		result = restore_tmpfs_at(r, r->tmpfs[i], fd < 0 ? -errno : fd, e);
	}
	return result < 0 ? result : restore_volumes(r, e);
}
