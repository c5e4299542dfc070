/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inotify(7): watches with their numbers and masks. The kernel tells a watch's inode, not its path: find-inode.c looks for
 * it, and an inode without a name is one that the container has open. Restore chooses the numbers by INOTIFY_IOC_SETNEXTWD
 * (CONFIG_CHECKPOINT_RESTORE), after all that it does to files. Events cannot be put back into the queue, so it has to be
 * empty, which is waited for (patience.h).
 */
#include "checkpoint/native/res/marks.h"

#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#define SET_NEXT_WD _IOW('I', 0, int32_t)
enum { USER_MASK = IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK };

static bool match(const struct dump *d, const struct dump_file *f)
{
	return link_is_anon_inode(f, "inotify");
}

static void watch_message(struct dump *d, struct dump_file *f, const struct proc_mark *m, St__InotifyWatch *w)
{
	struct mark_target target = {.path = ""};

	if (m->mask & ~(uint32_t)USER_MASK)
		dump_refuse(d, f->proc, f->fd, "inotify", "a mask that this version does not know",
			"remove the watch first", "watch %u", m->wd);
	else if (!mark_find(d, m, &target))
		dump_refuse(d, f->proc, f->fd, "inotify", "no path to what it watches was found",
			"remove the watch first", "watch %u on inode %llu", m->wd,
			(unsigned long long)m->ino);
	w->wd = m->wd;
	w->mask = m->mask;
	w->path = (char *)target.path;
	w->file = target.file;
	w->mode = target.mode;
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
	return m->n_watches > 0;
}

/* The message is made here: to look for paths may take long, and must not be done twice. */
static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	St__Inotify *m = pb_new(&d->arena, Inotify, inotify);

	if (!m || !(m->watches = arena_array(&d->arena, f->info.n_marks, sizeof(*m->watches))))
		return error_errno(e, -ENOMEM, "inotify");
	qsort(f->info.marks, f->info.n_marks, sizeof(*f->info.marks), compare);
	for (size_t i = 0; i < f->info.n_marks; i++) {
		St__InotifyWatch *w = pb_new(&d->arena, InotifyWatch, inotify_watch);

		if (!w)
			return error_errno(e, -ENOMEM, "inotify");
		m->watches[m->n_watches++] = w;
		watch_message(d, f, &f->info.marks[i], w);
	}
	f->msg->inotify = m;
	f->msg->kind_case = ST__FILE__KIND_INOTIFY;
	return only_of_cgroups(m) ? 0 : mark_check_queue(d, f, e);
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

static int add_watch(int fd, const St__InotifyWatch *w, const char *path, struct error *e)
{
	unsigned flags = IN_MASK_CREATE | (S_ISLNK(w->mode) ? IN_DONT_FOLLOW : 0);
	int32_t wd = w->wd;

	if (ioctl(fd, SET_NEXT_WD, wd) < 0)
		return error_set(e, -EOPNOTSUPP, ERROR_KERNEL,
			"inotify watches cannot get their numbers on a kernel without "
			"CONFIG_CHECKPOINT_RESTORE");
	if (inotify_add_watch(fd, path, w->mask | flags) != wd)
		return error_errno(e, -errno, "watch %s by inotify as number %d", path, wd);
	return 0;
}

static int connect_inotify(struct restore *r, const St__File *m, int fd, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < m->inotify->n_watches && result == 0; i++) {
		const St__InotifyWatch *w = m->inotify->watches[i];
		char buf[64];
		const char *path = mark_enter(r, w->file, w->path, w->mode, buf, e);

		result = path ? add_watch(fd, w, path, e) : e->code;
	}
	return result == 0 ? mark_leave(r, e) : result;
}

extern const struct resource resource_inotify;
const struct resource resource_inotify = {
	.kind = "inotify",
	.description = "inotify watches with their numbers, also of deleted files that are open; with events "
		       "that the program does not read within a second (--patience): refused",
	.kind_case = ST__FILE__KIND_INOTIFY,
	.match = match,
	.check = check,
	.dump = dump,
	.open = open_inotify,
	.connect = connect_inotify,
};
