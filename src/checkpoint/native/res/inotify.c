/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inotify(7): watches with their numbers and masks. The kernel tells a watch's inode, not its path: find-inode.c looks for
 * it, and an inode without a name is one that the container has open. Restore chooses the numbers by INOTIFY_IOC_SETNEXTWD
 * (CONFIG_CHECKPOINT_RESTORE), after all that it does to files. Events cannot be put back into the queue, so it has to be
 * empty.
 */
#include "checkpoint/native/res/res.h"

#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "base/fd.h"

#define SET_NEXT_WD _IOW('I', 0, int32_t)
enum { USER_MASK = IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK };

static bool match(const struct dump *d, const struct dump_file *f)
{
	return link_is_anon_inode(f, "inotify");
}

static bool is_inode(const struct dump_file *f, const struct proc_mark *m)
{
	return f->st.st_ino == m->ino && major(f->st.st_dev) == m->sdev >> 20 &&
	       minor(f->st.st_dev) == (m->sdev & 0xfffff);
}

/* Something that the container has open or works in: a path that is still right, else the file itself. */
static bool find_among_files(struct dump *d, const struct proc_mark *m, St__InotifyWatch *w)
{
	for (size_t i = 0; i < d->n_files; i++) {
		struct dump_file *f = &d->files[i];

		if (!is_inode(f, m) || !f->resource || f->resource->kind_case != ST__FILE__KIND_REGULAR)
			continue;
		w->mode = f->st.st_mode;
		if (dump_path_is(d, f, f->link, &f->st)) {
			w->path = (char *)f->link;
			return true;
		}
		w->file = f->id;
	}
	return w->file != 0;
}

static int watch_message(
	struct dump *d, struct dump_file *f, const struct proc_mark *m, St__InotifyWatch *w, struct error *e)
{
	struct stat st = {};

	w->wd = m->wd;
	w->mask = m->mask;
	if (m->mask & ~(uint32_t)USER_MASK) {
		dump_refuse(d, f->proc, f->fd, "inotify", "a mask that this version does not know",
			"remove the watch first", "watch %u", m->wd);
	} else if (!find_among_files(d, m, w)) {
		w->path = (char *)dump_find_marked(d, m, &st);
		w->mode = st.st_mode;
		if (!w->path) {
			w->path = (char *)"";
			dump_refuse(d, f->proc, f->fd, "inotify", "no path to what it watches was found",
				"remove the watch first", "watch %u on inode %llu", m->wd,
				(unsigned long long)m->ino);
		}
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct proc_mark *x = a, *y = b;

	return x->wd < y->wd ? -1 : x->wd > y->wd;
}

/* "Look again", which our own freezing says, too, and which a restore says of each cgroup (cgroups.c). */
static bool only_of_cgroups(const St__Inotify *m)
{
	for (size_t i = 0; i < m->n_watches; i++) {
		const char *name = strrchr(m->watches[i]->path, '/');

		if (!name || strcmp(name, "/cgroup.events") != 0)
			return false;
	}
	return true;
}

/* Obstacle if events wait. */
static int check_queue(struct dump *d, struct dump_file *f, const St__Inotify *m, struct error *e)
{
	int fd = f->local >= 0 ? f->local : dump_duplicate(f), bytes = 0, r = 0;

	if (fd >= 0 && ioctl(fd, FIONREAD, &bytes) < 0)
		r = -errno;
	if (fd >= 0 && f->local < 0)
		close(fd);
	if (r < 0)
		return error_errno(e, r, "queue of an inotify descriptor");
	if (bytes && !only_of_cgroups(m))
		dump_refuse(d, f->proc, f->fd, "inotify", "events that have not been read cannot be put back",
			"let the program read them, then try again", "%d bytes of events", bytes);
	return 0;
}

/* The message is made here: to look for paths may take long, and must not be done twice. */
static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	St__Inotify *m = pb_new(&d->arena, Inotify, inotify);
	int r = 0;

	if (!m || !(m->watches = arena_array(&d->arena, f->info.n_marks, sizeof(*m->watches))))
		return error_errno(e, -ENOMEM, "inotify");
	qsort(f->info.marks, f->info.n_marks, sizeof(*f->info.marks), compare);
	for (size_t i = 0; i < f->info.n_marks && r == 0; i++) {
		St__InotifyWatch *w = pb_new(&d->arena, InotifyWatch, inotify_watch);

		if (!w)
			return error_errno(e, -ENOMEM, "inotify");
		m->watches[m->n_watches++] = w;
		r = watch_message(d, f, &f->info.marks[i], w, e);
	}
	f->msg->inotify = m;
	f->msg->kind_case = ST__FILE__KIND_INOTIFY;
	return r < 0 ? r : check_queue(d, f, m, e);
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	return 0;
}

static int open_inotify(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	*ret_fd = inotify_init1(IN_CLOEXEC);
	return *ret_fd < 0 ? error_errno(e, -errno,
				     "make an inotify descriptor (see "
				     "/proc/sys/fs/inotify/max_user_instances)")
			   : 0;
}

static int add_watch(struct restore *r, int fd, const St__InotifyWatch *w, const char *path, struct error *e)
{
	int32_t wd = w->wd;
	struct stat st;

	if (!w->file && (lstat(path, &st) < 0 || ((st.st_mode ^ w->mode) & S_IFMT)))
		return error_set(e, -ESTALE, ERROR_REFUSED,
			"%s was watched by inotify, and is not there as it was: restore the bundle's files "
			"as they were",
			path);
	if (ioctl(fd, SET_NEXT_WD, wd) < 0)
		return error_set(e, -EOPNOTSUPP, ERROR_KERNEL,
			"inotify watches cannot get their numbers on a kernel without "
			"CONFIG_CHECKPOINT_RESTORE");
	if (inotify_add_watch(fd, path, w->mask | IN_MASK_CREATE | (S_ISLNK(w->mode) ? IN_DONT_FOLLOW : 0)) !=
		wd)
		return error_errno(e, -errno, "watch %s by inotify as number %d", path, wd);
	return 0;
}

static int connect_inotify(struct restore *r, const St__File *m, int fd, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < m->inotify->n_watches && result == 0; i++) {
		const St__InotifyWatch *w = m->inotify->watches[i];
		char link[64];

		if (!w->file) {
			result = add_watch(r, fd, w, w->path, e);
			continue;
		}
		/* Through the descriptor, as it has no name; the container may have no /proc. */
		snprintf(link, sizeof(link), "self/fd/%d", restore_fd(r, w->file));
		if (fchdir(r->proc_fd) < 0)
			return error_errno(e, -errno, "/proc");
		result = add_watch(r, fd, w, link, e);
		if (fchdir(r->root_fd) < 0 && result == 0)
			result = error_errno(e, -errno, "/");
	}
	return result;
}

extern const struct resource resource_inotify;
const struct resource resource_inotify = {
	.kind = "inotify",
	.description = "inotify watches with their numbers, also of deleted files that are open; with events "
		       "that have "
		       "not been read: refused",
	.kind_case = ST__FILE__KIND_INOTIFY,
	.match = match,
	.check = check,
	.dump = dump,
	.open = open_inotify,
	.connect = connect_inotify,
};
