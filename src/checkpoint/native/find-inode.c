/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an inode to a path in the container: by its file handle, if the file system has them and still knows the name;
 * else by looking into all directories of the file system that the container sees, up to a limit. Only for what the kernel
 * tells no name of: inotify watches, fanotify marks, other names of a deleted file.
 *
 * Directories that are read get IN_OPEN and IN_ACCESS of their watchers, as by anybody who reads them.
 */
#include "checkpoint/native/dump.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/fd.h"

enum { MAX_ENTRIES = 1000000, MAX_DEPTH = 100 };

struct search {
	struct dump *d;
	uint32_t major, minor;
	uint64_t ino;
	dev_t dev; /* of the mount that is searched */
	size_t n_seen;
	const char *found;
	struct stat st;
};

static bool is_mount(const struct search *s, const struct proc_mount *m)
{
	return m->dev_major == s->major && m->dev_minor == s->minor;
}

static int open_mount(const struct search *s, const struct proc_mount *m)
{
	struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	int fd = syscall(SYS_openat2, s->d->root_fd, m->target, &how, sizeof(how));

	if (fd < 0 && errno == ENOTDIR) {
		how.flags &= ~(uint64_t)O_DIRECTORY;
		fd = syscall(SYS_openat2, s->d->root_fd, m->target, &how, sizeof(how));
	}
	return fd;
}

/* The path is taken only if it leads there from the container's root. */
static bool take(struct search *s, const char *path, const struct stat *st)
{
	if (!dump_path_is(s->d, NULL, path, st))
		return false;
	s->found = arena_strdup(&s->d->arena, path);
	s->st = *st;
	return s->found != NULL;
}

static bool find_by_handle(struct search *s, const struct proc_mark *m, int mount_fd)
{
	struct {
		struct file_handle head;
		uint8_t bytes[sizeof(m->handle)];
	} h = {.head = {.handle_bytes = m->handle_bytes, .handle_type = m->handle_type}};
	_cleanup_close_ int fd = -EBADF;
	char path[4200], link[64];
	struct stat st;
	ssize_t n;

	if (!m->handle_bytes)
		return false;
	memcpy(h.head.f_handle, m->handle, m->handle_bytes);
	fd = open_by_handle_at(mount_fd, &h.head, O_PATH | O_CLOEXEC);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = fd < 0 ? -1 : readlink(link, path, sizeof(path) - 1);
	if (n <= 0 || fstat(fd, &st) < 0 || st.st_ino != m->ino)
		return false;
	path[n] = '\0';
	return path[0] == '/' && take(s, path, &st);
}

/* Directories of the same file system, without crossing mounts. fd is ours to close. */
static void walk(struct search *s, int fd, const char *prefix, int depth)
{
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *ent;

	while (dir && !s->found && (ent = readdir(dir)) && s->n_seen++ < MAX_ENTRIES) {
		bool sub = ent->d_type == DT_DIR || ent->d_type == DT_UNKNOWN;
		char path[4200];
		struct stat st;
		int n;

		if (!strcmp(ent->d_name, ".") || !strcmp(ent->d_name, "..") || (!sub && ent->d_ino != s->ino))
			continue;
		n = snprintf(path, sizeof(path), "%s/%s", prefix, ent->d_name);
		if ((size_t)n >= sizeof(path) ||
			fstatat(dirfd(dir), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != s->dev)
			continue;
		if (st.st_ino == s->ino && take(s, path, &st))
			break;
		if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH)
			walk(s,
				openat(dirfd(dir), ent->d_name,
					O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
				path, depth + 1);
	}
	if (dir)
		closedir(dir);
	else
		close_p(&fd);
}

static void search_mount(struct search *s, const struct proc_mount *m, const struct proc_mark *mark)
{
	int fd = open_mount(s, m);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		goto out;
	if (mark) {
		if (st.st_ino != s->ino || !take(s, m->target, &st))
			find_by_handle(s, mark, fd);
		goto out;
	}
	s->dev = st.st_dev;
	if (S_ISDIR(st.st_mode)) {
		walk(s, fd, strcmp(m->target, "/") ? m->target : "", 0);
		return;
	}
out:
	close_p(&fd);
}

static const char *search(struct search *s, const struct proc_mark *mark, struct stat *ret_st)
{
	for (size_t i = 0; mark && i < s->d->n_mounts && !s->found; i++)
		if (is_mount(s, &s->d->mounts[i]))
			search_mount(s, &s->d->mounts[i], mark);
	for (size_t i = 0; i < s->d->n_mounts && !s->found; i++)
		if (is_mount(s, &s->d->mounts[i]))
			search_mount(s, &s->d->mounts[i], NULL);
	if (s->found)
		*ret_st = s->st;
	return s->found;
}

const char *dump_find_marked(struct dump *d, const struct proc_mark *m, struct stat *ret_st)
{
	struct search s = {.d = d, .major = m->sdev >> 20, .minor = m->sdev & 0xfffff, .ino = m->ino};

	return search(&s, m, ret_st);
}

/* In the directory where its other name was: files are renamed by link() and unlink(), and copies are made so. */
static void search_parent(struct search *s, const char *path)
{
	struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	const char *slash = strrchr(path, '/');
	char dir[4200];
	struct stat st;
	int fd;

	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	fd = syscall(SYS_openat2, s->d->root_fd, *dir ? dir : "/", &how, sizeof(how));
	if (fd < 0 || fstat(fd, &st) < 0) {
		close_p(&fd);
		return;
	}
	s->dev = st.st_dev;
	walk(s, fd, dir, MAX_DEPTH);
}

const char *dump_find_name(struct dump *d, int mnt_id, const char *near, const struct stat *st)
{
	struct search s = {.d = d, .major = major(st->st_dev), .minor = minor(st->st_dev), .ino = st->st_ino};
	struct stat found;

	/* Not all files say the device of their mount (btrfs, overlay). */
	for (size_t i = 0; i < d->n_mounts; i++)
		if (d->mounts[i].id == mnt_id)
			s.major = d->mounts[i].dev_major, s.minor = d->mounts[i].dev_minor;
	search_parent(&s, near);
	return s.found ? s.found : search(&s, NULL, &found);
}
