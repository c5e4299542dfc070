/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dnotify: fcntl(F_NOTIFY) on a directory's descriptor has a signal sent when something happens in it. Who calls it becomes the owner of
 * the descriptor's signals, if it has none: only such descriptors are looked at. What it waits for only the kernel knows
 * (linux/bpfdnotify.h). The watch is of a table of descriptors and a number in it, so each descriptor of the description is asked about,
 * and a restored process calls it again itself, when nothing of the restore can be an event any more.
 */
#include "checkpoint/native/res/dnotify.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "linux/bpfdnotify.h"

#define KNOWN (DN_ACCESS | DN_MODIFY | DN_CREATE | DN_DELETE | DN_RENAME | DN_ATTRIB | DN_MULTISHOT)

static bool may_notify(const struct dump_file *f)
{
	struct f_owner_ex o = {};
	bool found;
	int fd;

	if (!S_ISDIR(f->st.st_mode) || f->fd < 0 || (f->info.flags & O_PATH))
		return false;
	fd = f->local >= 0 ? f->local : dump_duplicate(f);
	found = fd >= 0 && fcntl(fd, F_GETOWN_EX, &o) == 0 && o.pid != 0;
	if (fd >= 0 && f->local < 0)
		close(fd);
	return found;
}

static void refuse(struct dump *d, const struct dump_file *f, const struct dump_proc *p, int fd, int problem)
{
	dump_refuse(d, p, fd, "dnotify",
		problem == -EPERM ? "what is watched by F_NOTIFY an ordinary user may not read"
				  : "what is watched by F_NOTIFY this kernel does not let us read",
		"close it first", "%s", f->link);
}

/* Of one process, or of a thread with a table of its own, to which no restore gives watches. */
static void ask_table(struct dump *d, const struct dump_file *f, struct dump_proc *p, bool is_thread)
{
	for (size_t i = 0; i < p->msg->n_descriptors; i++) {
		St__Descriptor *m = p->msg->descriptors[i];
		uint32_t what;
		int r;

		if (m->file != f->id)
			continue;
		r = d->unprivileged ? -EPERM : bpf_dnotify_read(p->shown, (int)m->fd, &what);
		if (r < 0) {
			refuse(d, f, p, (int)m->fd, r);
			return;
		}
		if (what && is_thread)
			dump_refuse(d, p, (int)m->fd, "dnotify",
				"a thread with a table of its own watches it by F_NOTIFY: not supported",
				"let the thread end", "%s", f->link);
		else
			m->dnotify = what;
		d->has_dnotify |= what != 0;
	}
}

int dnotify_check(struct dump *d, struct dump_file *f, struct error *e)
{
	if (!may_notify(f))
		return 0;
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].msg && !d->procs[i].zombie)
			ask_table(d, f, &d->procs[i], false);
	for (struct dump_table *t = d->tables; t; t = t->next)
		ask_table(d, f, &t->as, true);
	return 0;
}

bool dnotify_is_valid(const St__Descriptor *m)
{
	return !(m->dnotify & ~(uint32_t)KNOWN) && m->dnotify != DN_MULTISHOT;
}

size_t dnotify_count(const St__Process *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_descriptors; i++)
		n += p->descriptors[i]->dnotify != 0;
	return n;
}

/* Who is told (Owner) is known already, and stays. */
void dnotify_restore(const St__Process *p, struct batch *b)
{
	for (size_t i = 0; i < p->n_descriptors; i++)
		if (p->descriptors[i]->dnotify)
			batch_call(
				b, 0, SYS_fcntl, p->descriptors[i]->fd, F_NOTIFY, p->descriptors[i]->dnotify);
}
