/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes in memory: tmpfs mounts that somebody else has made, and bound into containers of a sandbox (its /dev/shm, emptyDir
 * of medium Memory). They are gone with the sandbox, so their contents are in its image, once: the owner is the first of
 * the containers that have it, but not the one that the sandbox begins with. A restore fills what is empty; a volume with
 * something in it is as its giver wants it. Those that the machine itself uses, or that the container may only read, are nobody's volumes.
 */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "base/log.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/exchange.h"
#include "checkpoint/native/peers.h"
#include "checkpoint/native/restore.h"
#include "linux/mountfd.h"

enum { TMPFS_MAGIC_NR = 0x01021994 };

/* ---- dump ---- */

static bool is_of_machine(dev_t dev)
{
	static const char *const paths[] = {"/", "/dev", "/dev/shm", "/run", "/run/lock", "/tmp"};
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (stat(paths[i], &st) == 0 && st.st_dev == dev)
			return true;
	return false;
}

/* All of a file system, for writing. */
static bool is_whole(const struct dump *d, const char *target)
{
	const struct proc_mount *m = NULL;

	for (size_t i = 0; i < d->n_mounts; i++)
		if (!strcmp(d->mounts[i].target, target))
			m = &d->mounts[i]; /* the last one covers the others */
	return m && !strcmp(m->root, "/") && strncmp(m->options, "ro", 2) != 0;
}

static bool has_device(struct dump *d, unsigned member, dev_t dev)
{
	struct proc_mount *mounts;
	size_t n;

	if (proc_read_mountinfo(d->options->together->containers[member]->init_pid, &d->arena, &mounts, &n) <
		0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (makedev(mounts[i].dev_major, mounts[i].dev_minor) == dev && !strcmp(mounts[i].root, "/"))
			return true;
	return false;
}

static unsigned owner_of(struct dump *d, dev_t dev)
{
	const struct together *t = d->options->together;
	unsigned owner = t->self;

	for (unsigned i = t->n; i-- > 0;)
		if (strcmp(t->containers[i]->name, CONTAINER_NAME_OF_ROOT) != 0 && has_device(d, i, dev))
			owner = i;
	return owner;
}

/* One volume may be mounted twice. */
static bool is_known(const struct dump *d, const char *key)
{
	for (size_t i = 0; i < d->n_tmpfs; i++)
		if (d->tmpfs[i]->volume && !strcmp(d->tmpfs[i]->volume->key, key))
			return true;
	return false;
}

static int dump_volume(struct dump *d, int fd, const char *target, dev_t dev, struct error *e)
{
	unsigned owner = owner_of(d, dev);
	St__Shared *shared = pb_new(&d->arena, Shared, shared);
	St__Tmpfs *m;
	int r = 0;

	if (!shared || !(shared->key = arena_printf(&d->arena, "volume-%llx", (unsigned long long)dev)))
		return error_errno(e, -ENOMEM, "volumes");
	if (is_known(d, shared->key))
		return 0;
	if (owner == d->options->together->self) {
		r = dump_tmpfs_at(d, fd, target, 0, &m, e);
	} else {
		m = d->tmpfs[d->n_tmpfs] = pb_new(&d->arena, Tmpfs, tmpfs);
		if (!m || !(m->target = arena_strdup(&d->arena, target)))
			return error_errno(e, -ENOMEM, "volumes");
		d->n_tmpfs++;
	}
	if (r < 0)
		return r;
	shared->owner = owner == d->options->together->self;
	shared->with = (char *)(shared->owner ? "" : peers_name(d, owner));
	m->volume = shared;
	d->shares = true;
	return 0;
}

int dump_volumes(struct dump *d, struct error *e)
{
	const struct spec *s = d->c->spec;
	int r = 0;

	for (size_t i = 0; i < s->n_mounts && r == 0 && d->options->together && d->options->together->n > 1;
		i++) {
		_cleanup_close_ int fd = -EBADF;
		struct statfs fs;
		struct stat st;

		if (!s->mounts[i].is_bind || !is_whole(d, s->mounts[i].destination))
			continue;
		fd = open_in_root(d->root_fd, s->mounts[i].destination, O_RDONLY | O_DIRECTORY, 0);
		if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC_NR || fstat(fd, &st) < 0 ||
			is_of_machine(st.st_dev))
			continue;
		r = dump_volume(d, fd, s->mounts[i].destination, st.st_dev, e);
	}
	return r;
}

/* ---- restore ---- */

static int is_empty(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), found = 0;
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *ent;

	if (!dir) {
		close_p(&copy);
		return -EIO;
	}
	while ((ent = readdir(dir)))
		found |= strcmp(ent->d_name, ".") != 0 && strcmp(ent->d_name, "..") != 0;
	closedir(dir);
	return !found;
}

static int fill(struct restore *r, const St__Tmpfs *m, struct error *e)
{
	_cleanup_close_ int fd = open(m->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int empty = fd < 0 ? -errno : is_empty(fd), result;

	if (empty < 0)
		return error_errno(e, empty, "open the volume at %s (is it in config.json?)", m->target);
	if (!empty)
		log_info("the volume at %s is not empty: it stays as it is", m->target);
	result = empty ? restore_tmpfs_at(r, m, fd, e) : 0;
	return result < 0 ? result : restore_offer(r, m->volume->key, "", fd, e);
}

static int await(struct restore *r, const St__Tmpfs *m, struct error *e)
{
	_cleanup_close_ int other = -EBADF;
	struct stat a, b;
	int result = restore_want(r, m->volume->key, "", &other, e);

	if (result < 0)
		return result;
	if (stat(m->target, &a) < 0 || fstat(other, &b) < 0)
		return error_errno(e, -errno, "the volume at %s (is it in config.json?)", m->target);
	if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return 0;
	return error_set(e, -ESTALE, ERROR_CONFIG,
		"%s was one volume with the container \"%s\", and is another one now: mount the same into "
		"both",
		m->target, m->volume->with);
}

int restore_volumes(struct restore *r, struct error *e)
{
	int result = 0;

	for (int others = 0; others < 2; others++)
		for (size_t i = 0; i < r->n_tmpfs && result == 0; i++)
			if (r->tmpfs[i]->volume && r->tmpfs[i]->volume->owner != others)
				result = others ? await(r, r->tmpfs[i], e) : fill(r, r->tmpfs[i], e);
	return result;
}
