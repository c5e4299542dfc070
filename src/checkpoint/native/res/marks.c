/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/res/marks.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

static bool is_inode(const struct dump_file *f, const struct proc_mark *m)
{
	return f->st.st_ino == m->ino && major(f->st.st_dev) == m->sdev >> 20 &&
	       minor(f->st.st_dev) == (m->sdev & 0xfffff);
}

/* Something that the container has open or works in: a path that is still right, else the file itself. */
static bool find_among_files(struct dump *d, const struct proc_mark *m, struct mark_target *ret)
{
	for (size_t i = 0; i < d->n_files; i++) {
		struct dump_file *f = &d->files[i];

		if (!is_inode(f, m) || !f->resource || f->resource->kind_case != ST__FILE__KIND_REGULAR)
			continue;
		ret->mode = f->st.st_mode;
		if (dump_path_is(d, NULL, f->link, &f->st)) {
			ret->path = f->link;
			ret->file = 0;
			return true;
		}
		ret->file = f->id;
	}
	return ret->file != 0;
}

bool mark_find(struct dump *d, const struct proc_mark *m, struct mark_target *ret)
{
	struct stat st = {};

	*ret = (struct mark_target){.path = ""};
	if (find_among_files(d, m, ret))
		return true;
	ret->path = dump_find_marked(d, m, &st);
	ret->mode = st.st_mode;
	if (ret->path)
		return true;
	ret->path = "";
	return false;
}

int mark_check_queue(struct dump *d, struct dump_file *f, struct error *e)
{
	int fd = f->local >= 0 ? f->local : dump_duplicate(f), bytes = 0, r = 0;

	if (fd >= 0 && ioctl(fd, FIONREAD, &bytes) < 0)
		r = -errno;
	if (fd >= 0 && f->local < 0)
		close(fd);
	if (r < 0)
		return error_errno(e, r, "queue of events");
	if (bytes)
		dump_refuse(d, f->proc, f->fd, f->resource->kind,
			"events that have not been read cannot be put back", REMEDY_EVENTS,
			"%d bytes of events", bytes);
	return 0;
}

const char *mark_enter(
	struct restore *r, uint64_t file, const char *path, uint32_t mode, char buf[64], struct error *e)
{
	struct stat st;

	if (!file) {
		if (lstat(path, &st) == 0 && !((st.st_mode ^ mode) & S_IFMT))
			return path;
		error_set(e, -ESTALE, ERROR_REFUSED,
			"%s was watched, and is not there as it was: restore the bundle's files as they were",
			path);
		return NULL;
	}
	/* Through the descriptor; the container may have no /proc. */
	snprintf(buf, 64, "self/fd/%d", restore_fd(r, file));
	if (fchdir(r->proc_fd) == 0)
		return buf;
	error_errno(e, -errno, "/proc");
	return NULL;
}

int mark_leave(struct restore *r, struct error *e)
{
	return fchdir(r->root_fd) < 0 ? error_errno(e, -errno, "/") : 0;
}
