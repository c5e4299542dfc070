/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File locks: flock(2), POSIX and open file description locks (fcntl(2)), leases. Each is noted with the process and the
 * descriptor through which restore takes it again: a POSIX lock belongs to the process; the others to the open file
 * description, and are taken by who took them if it still has a descriptor, so that /proc/locks names the same pid.
 *
 * While the container is not there anybody else may take a lock or change the file under it. So they are refused without
 * --file-locks, unless only the container can reach the file. Restore needs no leave: it takes them, or it fails. A task that
 * sleeps for a lock asks again by itself.
 */
#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"

#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>

#include "checkpoint/native/res/res.h"

static struct dump_lock *find_lock(struct dump *d, uint64_t file, const struct proc_lock *l)
{
	for (size_t i = 0; i < d->n_locks; i++) {
		const struct proc_lock *o = &d->locks[i].lock;

		if (d->locks[i].file == file && o->type == l->type && o->start == l->start &&
			o->end == l->end && o->write == l->write)
			return &d->locks[i];
	}
	return NULL;
}

static int add_lock(struct dump *d, const struct dump_lock *l)
{
	if (d->n_locks == d->max_locks) {
		size_t want = d->max_locks ? d->max_locks * 2 : 16;
		struct dump_lock *more = arena_array(&d->arena, want, sizeof(*more));

		if (!more)
			return -ENOMEM;
		if (d->n_locks)
			memcpy(more, d->locks, d->n_locks * sizeof(*more));
		d->locks = more;
		d->max_locks = want;
	}
	d->locks[d->n_locks++] = *l;
	return 0;
}

int dump_note_locks(struct dump *d, struct dump_proc *p, const St__Descriptor *m,
	const struct proc_fdinfo *info, struct error *e)
{
	for (size_t i = 0; i < info->n_locks; i++) {
		const struct proc_lock *l = &info->locks[i];
		struct dump_lock *known = find_lock(d, m->file, l);

		/* The same one by another descriptor; of several processes' equal read locks each has its own. */
		if (known && (l->type != PROC_LOCK_POSIX || known->proc == p)) {
			if (l->type != PROC_LOCK_POSIX && l->pid == p->pid && known->proc->pid != l->pid)
				known->proc = p, known->fd = m->fd;
			continue;
		}
		if (add_lock(d, &(struct dump_lock){p, m->fd, m->file, *l}) < 0)
			return error_errno(e, -ENOMEM, "file locks");
	}
	return 0;
}

/* On a tmpfs that config.json makes for the container: it goes with the container, and comes back with it. */
static bool on_own_tmpfs(const struct dump *d, const struct dump_file *f)
{
	const struct spec *s = d->c->spec;

	for (size_t i = 0; i < d->n_mounts; i++)
		for (size_t k = 0; d->mounts[i].id == f->info.mnt_id && k < s->n_mounts; k++)
			if (!s->mounts[k].is_bind && s->mounts[k].type &&
				!strcmp(s->mounts[k].type, "tmpfs") &&
				!strcmp(s->mounts[k].destination, d->mounts[i].target))
				return true;
	return false;
}

static void check_lock(struct dump *d, const struct dump_lock *l, const struct dump_file *f)
{
	bool lease = l->lock.type == PROC_LOCK_LEASE, own = on_own_tmpfs(d, f);
	bool copied = own || f->st.st_nlink == 0; /* the contents go into the image, and are read for it */

	switch (f->resource ? f->resource->kind_case : ST__FILE__KIND__NOT_SET) {
	case ST__FILE__KIND_REGULAR:
	case ST__FILE__KIND_PIPE:
	case ST__FILE__KIND_MEMFD:
		break;
	case ST__FILE__KIND_STDIO:
		return; /* the caller's, and so are its locks */
	default:
		dump_refuse(d, l->proc, l->fd, "file lock",
			"it is on something else than a regular file, a pipe or a memfd: not supported",
			"release the lock first", "%s", f->link);
		return;
	}
	if (l->proc < d->procs || l->proc >= d->procs + d->n_procs)
		dump_refuse(d, l->proc, l->fd, "file lock",
			"only a thread with a descriptor table of its own has it: not supported yet",
			"release the lock first", "%s", f->link);
	else if (l->lock.type == PROC_LOCK_POSIX && l->lock.pid != l->proc->pid)
		dump_refuse(d, l->proc, l->fd, "file lock",
			"another process that shares (or shared) its descriptor table has taken it",
			"release the lock first", "%s", f->link);
	else if (l->lock.type == PROC_LOCK_OTHER)
		dump_refuse(d, l->proc, l->fd, "file lock", "a kind of lock that this version does not know",
			"release the lock first", "%s", f->link);
	else if (l->lock.breaking)
		dump_refuse(d, l->proc, l->fd, "file lock",
			"somebody wants the file, and waits for its holder to give the lease up",
			REMEDY_LEASE, "%s", f->link);
	else if (lease && l->lock.write && copied)
		dump_refuse(d, l->proc, l->fd, "file lock",
			"to read the file for the image would break its lease", "release the lease first",
			"%s", f->link);
	else if (!copied && !d->options->file_locks)
		dump_refuse(d, l->proc, l->fd, "file lock",
			"somebody outside could take the lock or change the file while the container is not "
			"there",
			"give --file-locks if nobody does", "%s", f->link);
}

void dump_check_locks(struct dump *d)
{
	for (size_t i = 0; i < d->n_locks; i++) {
		const struct dump_file *f = dump_file_by_id(d, d->locks[i].file);

		if (f)
			check_lock(d, &d->locks[i], f);
	}
}

static int add_message(struct dump *d, const struct dump_lock *l)
{
	St__Process *p = l->proc->msg;
	St__FileLock **list = arena_array(&d->arena, p->n_locks + 1, sizeof(*list)),
		     *m = pb_new(&d->arena, FileLock, file_lock);

	if (!list || !m)
		return -ENOMEM;
	if (p->n_locks)
		memcpy(list, p->locks, p->n_locks * sizeof(*list));
	m->fd = l->fd;
	m->type = l->lock.type;
	m->write = l->lock.write;
	m->start = l->lock.start;
	m->length = l->lock.end == INT64_MAX ? 0 : l->lock.end - l->lock.start + 1;
	list[p->n_locks++] = m;
	p->locks = list;
	return 0;
}

int dump_locks(struct dump *d, struct error *e)
{
	for (size_t i = 0; i < d->n_locks; i++) {
		const struct dump_file *f = dump_file_by_id(d, d->locks[i].file);

		if (f->resource->kind_case == ST__FILE__KIND_STDIO)
			continue;
		if (add_message(d, &d->locks[i]) < 0)
			return error_errno(e, -ENOMEM, "file locks");
	}
	return 0;
}

/* ---- restore ---- */

bool restore_lock_is_valid(const St__Process *p, const St__FileLock *l)
{
	bool known = false;

	for (size_t i = 0; i < p->n_descriptors && !known; i++)
		known = p->descriptors[i]->fd == l->fd;
	return known && l->type >= PROC_LOCK_POSIX && l->type <= PROC_LOCK_LEASE && l->start >= 0 &&
	       l->length <= (uint64_t)(INT64_MAX - l->start);
}

/* A lease is given to the owner of the file (or with CAP_LEASE, which a user namespace does not have). */
static void op_lease(struct restore *r, const St__Process *p, struct batch *b, const St__FileLock *l)
{
	uint32_t uid = 0;

	for (size_t i = 0; i < p->n_descriptors; i++) {
		const St__File *f =
			p->descriptors[i]->fd == l->fd ? restore_file(r, p->descriptors[i]->file) : NULL;

		if (f && f->kind_case == ST__FILE__KIND_REGULAR)
			uid = f->regular->uid;
	}
	if (r->here) /* it is among its own ids */
		uid = 0;
	if (uid)
		batch_call(b, 0, SYS_setfsuid, uid);
	batch_call(b, 0, SYS_fcntl, l->fd, F_SETLEASE, l->write ? F_WRLCK : F_RDLCK);
	if (uid)
		batch_call(b, 0, SYS_setfsuid, 0);
}

void restore_locks(struct restore *r, const St__Process *p, struct batch *b)
{
	for (size_t i = 0; i < p->n_locks; i++) {
		const St__FileLock *l = p->locks[i];
		struct flock range = {.l_type = l->write ? F_WRLCK : F_RDLCK,
			.l_whence = SEEK_SET,
			.l_start = l->start,
			.l_len = l->length};

		if (l->type == PROC_LOCK_LEASE)
			op_lease(r, p, b, l);
		else if (l->type == PROC_LOCK_FLOCK)
			batch_call(b, 0, SYS_flock, l->fd, (l->write ? LOCK_EX : LOCK_SH) | LOCK_NB);
		else
			batch_call(b, 0, SYS_fcntl, l->fd, l->type == PROC_LOCK_OFD ? F_OFD_SETLK : F_SETLK,
				batch_bytes(b, &range, sizeof(range)));
	}
}
