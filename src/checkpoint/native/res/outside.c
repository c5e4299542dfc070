/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of the caller of an exec session: opened outside of the container, by paths that are not in it. The caller is gone
 * after a restore, and what it gave has hung up: an end of a pipe whose other end is closed. /dev/null is the container's own
 * then. (Pipes themselves are pipe.c's, terminals tty.c's.)
 */
#include "checkpoint/native/res/res.h"

#include <sys/sysmacros.h>

static bool mounted_in_container(const struct dump *d, int mnt_id)
{
	for (size_t i = 0; i < d->n_mounts; i++)
		if (d->mounts[i].id == mnt_id)
			return true;
	return false;
}

static bool is_null(const struct dump_file *f)
{
	return S_ISCHR(f->st.st_mode) && f->st.st_rdev == makedev(1, 3);
}

static bool match(const struct dump *d, const struct dump_file *f)
{
	return f->fd >= 0 && f->proc->by_exec && f->link[0] == '/' && !(f->info.flags & O_PATH) &&
	       (S_ISREG(f->st.st_mode) || S_ISFIFO(f->st.st_mode) || is_null(f)) &&
	       !mounted_in_container(d, f->info.mnt_id);
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	if (!is_null(f) && (f->info.flags & O_ACCMODE) == O_RDWR)
		dump_refuse(d, f->proc, f->fd, "exec session",
			"a file outside of the container, open for reading and writing, is nothing that "
			"could hang up",
			"give exec a pipe, or /dev/null, or end the session first", "%s", f->link);
	return 0;
}

static int dump_null(struct dump *d, struct dump_file *f, struct error *e)
{
	St__Regular *m = pb_new(&d->arena, Regular, regular);

	if (!m)
		return error_errno(e, -ENOMEM, "file");
	m->path = (char *)"/dev/null";
	m->mode = f->st.st_mode;
	m->rdev = f->st.st_rdev;
	f->msg->kind_case = ST__FILE__KIND_REGULAR;
	f->msg->regular = m;
	return 0;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	enum { KEPT = O_ACCMODE | O_NONBLOCK };
	St__Pipe *m;

	if (is_null(f))
		return dump_null(d, f, e);
	m = pb_new(&d->arena, Pipe, pipe);
	if (!m)
		return error_errno(e, -ENOMEM, "pipe");
	m->pipe = ~f->id; /* no inode has such a number */
	f->msg->flags &= KEPT;
	f->msg->kind_case = ST__FILE__KIND_PIPE;
	f->msg->pipe = m;
	return 0;
}

extern const struct resource resource_outside;
const struct resource resource_outside = {
	.kind = "file of exec's caller",
	.description = "an end of a pipe that has hung up is in their place after a restore",
	.kind_case = ST__FILE__KIND__NOT_SET, /* its records are those of other kinds */
	.match = match,
	.check = check,
	.dump = dump,
};
