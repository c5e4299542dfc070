/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors and the open file descriptions behind them. Two descriptors share a description if kcmp(2) says so; it
 * is asked only about those that look alike (inode, flags, offset, and what fdinfo says), which are found by a hash.
 */
#include "checkpoint/native/dump.h"

#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/trace.h"
#include "checkpoint/native/peers.h"
#include "checkpoint/native/res/res.h"
#include "checkpoint/native/shared-pids.h"

enum { BUCKETS = 1024, F_GETOWNER_UIDS_OP = 17 };

struct file_index {
	uint32_t heads[BUCKETS]; /* index + 1 into d->files */
	uint32_t inodes[BUCKETS];
	struct {
		uint32_t file, inode; /* the next one in the same bucket */
	} * next;		      /* by file; grows with d->files */
};

static uint64_t hash_mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ (h >> 29);
}

static uint64_t inode_hash(const struct dump_file *f)
{
	return hash_mix(hash_mix(0, f->st.st_dev), f->st.st_ino);
}

static uint64_t file_hash(const struct dump_file *f)
{
	uint64_t h = inode_hash(f);

	h = hash_mix(h, f->info.flags);
	h = hash_mix(h, f->info.pos);
	h = hash_mix(h, f->info.eventfd_id + 1);
	return hash_mix(h, f->fd < 0);
}

static int grow_files(struct dump *d)
{
	size_t want = d->max_files ? d->max_files * 2 : 256;
	struct dump_file *p;
	void *next;

	if (!d->file_index) {
		d->file_index = arena_new(&d->arena, struct file_index);
		if (!d->file_index)
			return -ENOMEM;
	}
	p = reallocarray(d->files, want, sizeof(*p));
	if (!p)
		return -ENOMEM;
	d->files = p;
	next = arena_array(&d->arena, want, sizeof(*d->file_index->next));
	if (!next)
		return -ENOMEM;
	if (d->n_files > 0)
		memcpy(next, d->file_index->next, d->n_files * sizeof(*d->file_index->next));
	d->file_index->next = next;
	d->max_files = want;
	return 0;
}

static bool same_file(const struct dump_file *a, const struct dump_file *b)
{
	if (a->st.st_ino != b->st.st_ino || a->st.st_dev != b->st.st_dev || a->info.flags != b->info.flags ||
		a->info.pos != b->info.pos || a->info.eventfd_id != b->info.eventfd_id ||
		(a->fd < 0) != (b->fd < 0))
		return false;
	if (a->fd < 0)
		return a->mnt_ns == b->mnt_ns && strcmp(a->link, b->link) == 0;
	return syscall(SYS_kcmp, a->proc->shown, b->proc->shown, 0 /* KCMP_FILE */, a->fd, b->fd) == 0;
}

static const struct resource *find_resource(const struct dump *d, const struct dump_file *f)
{
	for (size_t i = 0; i < resource_table_len; i++)
		if (resource_table[i]->match(d, f))
			return resource_table[i];
	return NULL;
}

static void note_refused(struct dump *d, struct dump_file *f)
{
	const struct resource *res = f->resource;

	if (!res)
		dump_refuse(d, f->proc, f->fd, "file", "a kind of file that this version does not know",
			"close it before the checkpoint", "%s", f->link);
	else
		dump_refuse(d, f->proc, f->fd, res->kind, res->refused_reason, res->refused_remedy, "%s",
			f->link);
}

static int owner(struct dump *d, struct dump_file *f, struct error *e)
{
	struct f_owner_ex o = {};
	const char *whose;
	uid_t uids[2];
	int sig;

	if (f->info.flags & O_PATH)
		return 0;
	sig = fcntl(f->local, F_GETSIG);
	if (fcntl(f->local, F_GETOWN_EX, &o) < 0)
		return error_errno(e, -errno, "owner of %s", f->link);
	if (sig <= 0 && o.pid == 0 && !(f->info.flags & O_ASYNC))
		return 0;
	f->msg->owner = pb_new(&d->arena, Owner, owner);
	if (!f->msg->owner)
		return error_errno(e, -ENOMEM, "files");
	f->msg->owner->signal = MAX(sig, 0);
	if (o.pid && fcntl(f->local, F_GETOWNER_UIDS_OP, uids) == 0) {
		f->msg->owner->uid = dump_uid(d, uids[0]);
		f->msg->owner->euid = dump_uid(d, uids[1]);
	}
	f->msg->owner->type = o.type;
	/* The kernel tells the id as this process's namespace sees it. */
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		if (o.type != F_OWNER_PGRP && dump_is_member(p) && dump_has_thread(p, o.pid))
			return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				"cannot checkpoint: process %d, which shares the memory of another one, gets "
				"the signals of %s "
				"(F_SETOWN): not supported; give them to another process",
				p->ns_pid, f->link);
		if (o.type == F_OWNER_TID && p->pid != o.pid && dump_has_thread(p, o.pid))
			return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				"cannot checkpoint: process %d: a thread of it that is not its first gets "
				"the "
				"signals of %s (F_SETOWN_EX): not supported; give them to the process",
				p->ns_pid, f->link);
		if (o.type == F_OWNER_PID && p->pid == o.pid)
			f->msg->owner->pid = p->ns_pid;
		if (o.type == F_OWNER_PGRP && p->stat.pgrp == o.pid)
			f->msg->owner->pid = p->msg->pgid;
		for (size_t k = 0; k < p->n_threads; k++)
			if (o.type == F_OWNER_TID && p->threads[k].tid == o.pid)
				f->msg->owner->pid = p->threads[k].ns_tid;
	}
	whose = f->msg->owner->pid ? NULL : shared_pids_whose(d, o.pid);
	return whose ? error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			       "cannot checkpoint: a process of the container \"%s\", whose pid namespace is "
			       "shared, "
			       "gets the "
			       "signals of %s (F_SETOWN): not supported; give them to another process",
			       whose, f->link)
		     : 0;
}

/* A description seen for the first time. */
static int add_file(struct dump *d, const struct dump_file *seen, struct dump_file **ret, struct error *e)
{
	uint64_t bucket = file_hash(seen) % BUCKETS, inode = inode_hash(seen) % BUCKETS;
	struct file_index *index = d->file_index;
	struct dump_file *f;

	if (d->n_files == d->max_files && grow_files(d) < 0)
		return error_errno(e, -ENOMEM, "files");
	f = &d->files[d->n_files];
	*f = *seen;
	f->id = dump_new_id(d);
	f->msg = pb_new(&d->arena, File, file);
	if (!f->msg)
		return error_errno(e, -ENOMEM, "files");
	index->next[d->n_files].file = index->heads[bucket];
	index->next[d->n_files].inode = index->inodes[inode];
	index->heads[bucket] = index->inodes[inode] = ++d->n_files;
	if (f->fd >= 0)
		(void)dump_mount_namespace(d, f->info.mnt_id, &f->mnt_ns);
	f->msg->id = f->id;
	f->msg->mount_namespace = f->mnt_ns;
	f->msg->flags = f->info.flags;
	f->msg->pos = f->info.pos;
	f->resource = find_resource(d, f);
	*ret = f;
	return 0;
}

int dump_check_files(struct dump *d, struct error *e)
{
	int r = 0;

	dump_check_locks(d);
	for (size_t i = 0; i < d->n_files && r == 0; i++) {
		struct dump_file *f = &d->files[i];
		const struct resource *res = f->resource;

		if (!res || res->refused_reason)
			note_refused(d, f);
		else if (res->check)
			r = res->check(d, f, e);
	}
	if (r == 0)
		peers_check(d);
	return r;
}

int dump_open_pidfd(pid_t tid)
{
	enum { THREAD = O_EXCL }; /* PIDFD_THREAD, since Linux 6.9 */
	int fd = pidfd_open(tid, 0);

	return fd < 0 && errno != ESRCH ? pidfd_open(tid, THREAD) : fd;
}

int dump_pidfd(struct dump_proc *p)
{
	if (p->pidfd < 0)
		p->pidfd = dump_open_pidfd(p->shown);
	return p->pidfd < 0 ? -errno : p->pidfd;
}

int dump_duplicate(const struct dump_file *f)
{
	int pidfd = dump_pidfd(f->proc), fd;

	fd = pidfd < 0 ? pidfd : (int)syscall(SYS_pidfd_getfd, pidfd, f->fd, 0);
	return pidfd < 0 || fd >= 0 ? fd : -errno;
}

/* Opens f->local where that was not kept, and lets the kind fill the message. */
static int dump_file(struct dump *d, struct dump_file *f, struct error *e)
{
	char path[64];
	int r;

	if (!f->resource || f->resource->refused_reason)
		return 0;
	if (f->fd >= 0 && f->local < 0)
		f->local = dump_duplicate(f);
	if (f->fd >= 0 && f->local < 0)
		return error_errno(e, f->local, "duplicate descriptor %d of pid %d", f->fd, f->proc->pid);
	if (f->fd >= 0) {
		r = owner(d, f, e);
		if (r < 0)
			return r;
	}
	snprintf(path, sizeof(path), "process %d fd %d", f->proc->ns_pid, f->fd);
	r = f->resource->dump(d, f, e);
	if (r == 0)
		r = peers_describe(d, f, e);
	if (r < 0)
		return error_prefix(e, "%s (%s)", path, f->resource->kind);
	if (!f->resource->link)
		close_p(&f->local);
	return 0;
}

static int find_or_add(struct dump *d, const struct dump_file *seen, uint64_t *ret_id, struct error *e)
{
	struct dump_file *f = NULL;
	int r;

	if (!d->file_index && grow_files(d) < 0)
		return error_errno(e, -ENOMEM, "files");
	for (uint32_t i = d->file_index->heads[file_hash(seen) % BUCKETS]; i;
		i = d->file_index->next[i - 1].file) {
		if (same_file(&d->files[i - 1], seen)) {
			*ret_id = d->files[i - 1].id;
			return 0;
		}
	}
	r = add_file(d, seen, &f, e);
	*ret_id = f ? f->id : 0;
	return r;
}

/* Most descriptors are inherited: what the parent has under the same number is likely the same. */
static struct dump_file *inherited_file(struct dump *d, struct dump_proc *p, int fd)
{
	for (size_t i = 0; i < d->n_procs; i++) {
		const St__Process *m = d->procs[i].msg;
		size_t lo = 0, hi = m ? m->n_descriptors : 0;

		if (d->procs[i].pid != p->stat.ppid)
			continue;
		if (!m)
			return NULL; /* the parent's turn comes later: pids have begun anew between them */
		while (lo < hi) {
			size_t mid = lo + (hi - lo) / 2;

			if (m->descriptors[mid]->fd < (unsigned)fd)
				lo = mid + 1;
			else
				hi = mid;
		}
		if (lo < m->n_descriptors && m->descriptors[lo]->fd == (unsigned)fd)
			return dump_file_by_id(d, m->descriptors[lo]->file);
	}
	return NULL;
}

int dump_descriptor(struct dump *d, struct dump_file *seen, St__Descriptor *m, struct error *e)
{
	struct dump_proc *p = seen->proc;
	struct dump_file *inherited = inherited_file(d, p, seen->fd);
	size_t before = d->n_files;
	int r = 0;

	m->fd = seen->fd;
	if (inherited && same_file(inherited, seen))
		m->file = inherited->id;
	else
		r = find_or_add(d, seen, &m->file, e);
	if (d->n_files == before)
		close_p(&seen->local);
	seen->local = -EBADF;
	if (r == 0 && seen->info.n_locks > 0)
		r = dump_note_locks(d, p, m, &seen->info, e);
	return r;
}

static struct dump_proc *self(struct dump *d)
{
	if (d->self)
		return d->self;
	d->self = arena_new(&d->arena, struct dump_proc);
	if (d->self)
		*d->self = (struct dump_proc){.pid = getpid(),
			.shown = getpid(),
			.pidfd = -EBADF,
			.by_proc = d->procs[0].by_proc,
			.status = d->procs[0].status};
	return d->self;
}

int dump_own_file(struct dump *d, int fd, uint64_t *ret_id, struct error *e)
{
	struct dump_proc *p = self(d);
	size_t before = d->n_files;
	struct dump_file seen;
	int r;

	if (!p)
		r = error_errno(e, -ENOMEM, "files");
	else if (dump_pidfd(p) < 0)
		r = error_errno(e, -errno, "our own pidfd");
	else
		r = dump_view_fd(d, p, fd, false, 0, &seen, e);
	if (r == 1)
		r = error_set(e, -EBADF, ERROR_INTERNAL, "descriptor %d of ours is closed", fd);
	if (r == 0)
		r = find_or_add(d, &seen, ret_id, e);
	if (r < 0 || d->n_files == before)
		close(fd);
	return r;
}

int dump_look_link(pid_t pid, const char *name, struct arena *a, struct dump_link *ret, struct error *e)
{
	char text[4200], path[96];
	ssize_t n;

	n = proc_readlink(pid, name, text, sizeof(text));
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	if (n >= 0 && stat(path, &ret->st) < 0)
		n = -errno;
	if (n < 0)
		return error_errno(e, n, "%s of pid %d", name, pid);
	ret->text = arena_strdup(a, text);
	if (ret->text)
		return 0;
	error_errno(e, -ENOMEM, "%s of pid %d", name, pid);
	return -ENOMEM;
}

/* Does its path lead to it in that mount namespace, and not in the container's own? */
static bool is_only_in(struct dump *d, struct dump_file *f, uint64_t ns)
{
	bool is;

	f->mnt_ns = 0;
	is = dump_path_is(d, f, f->link, &f->st);
	f->mnt_ns = ns;
	return !is && dump_path_is(d, f, f->link, &f->st);
}

int dump_file_by_looked(struct dump *d, struct dump_proc *p, const char *name, unsigned flags,
	const struct dump_link *link, uint64_t *ret_id, struct error *e)
{
	struct dump_file f = {.proc = p,
		.fd = -1,
		.local = -EBADF,
		.info = {.flags = flags, .mnt_id = -1},
		.link = link->text,
		.st = link->st};

	f.mnt_ns = dump_mount_namespace_of(d, p);
	/* Programs and what is mapped come by the container's own mounts, if their path is there. */
	if (f.mnt_ns && strcmp(name, "cwd") != 0 && strcmp(name, "root") != 0 && !is_only_in(d, &f, f.mnt_ns))
		f.mnt_ns = 0;
	f.by_name = arena_strdup(&d->arena, name);
	return f.by_name ? find_or_add(d, &f, ret_id, e) : error_errno(e, -ENOMEM, "files");
}

int dump_file_by_link(struct dump *d, struct dump_proc *p, const char *name, unsigned flags, uint64_t *ret_id,
	struct error *e)
{
	struct dump_link link;
	int r = dump_look_link(p->shown, name, &d->arena, &link, e);

	return r < 0 ? r : dump_file_by_looked(d, p, name, flags, &link, ret_id, e);
}

int dump_files(struct dump *d, struct error *e)
{
	TRACE("files");
	int r = dump_locks(d, e);

	for (size_t i = 0; i < d->n_files && r == 0; i++)
		r = dump_file(d, &d->files[i], e);
	for (size_t i = 0; i < d->n_files && r == 0; i++)
		if (d->files[i].resource && d->files[i].resource->link && d->files[i].local >= 0)
			r = d->files[i].resource->link(d, &d->files[i], e);
	/* Before the tasks run on: what they close then must be closed. */
	for (size_t i = 0; i < d->n_files; i++) {
		close_p(&d->files[i].local);
		if (d->files[i].proc == d->self && d->self && d->files[i].fd >= 0)
			close(d->files[i].fd);
	}
	close_p(&d->parent.fd);
	return r;
}

/* The directory of the one looked at before is kept: files that are open together often lie together. "name": what is
 * behind the last slash. */
static int open_parent(struct dump *d, int root, const char *path, const char *name)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	size_t len = name - path;

	if (d->parent.fd >= 0 && d->parent.root == root && strlen(d->parent.path) == len &&
		!memcmp(d->parent.path, path, len))
		return d->parent.fd;
	close_p(&d->parent.fd);
	d->parent.root = root;
	d->parent.path = arena_strndup(&d->arena, path, len);
	if (d->parent.path)
		d->parent.fd = syscall(SYS_openat2, root, d->parent.path, &how, sizeof(how));
	return d->parent.fd;
}

bool dump_path_is(struct dump *d, const struct dump_file *f, const char *path, const struct stat *st)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	struct stat now;
	int fd;

	/* What does not name a thing in its directory is as well the directory. */
	if (!slash || !*name || !strcmp(name, ".") || !strcmp(name, ".."))
		name = path + strlen(path);
	fd = open_parent(d, dump_root_of(d, f), path, name);
	return fd >= 0 && fstatat(fd, name, &now, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0 &&
	       now.st_dev == st->st_dev && now.st_ino == st->st_ino;
}

struct dump_file *dump_file_by_id(struct dump *d, uint64_t id)
{
	size_t lo = 0, hi = d->n_files; /* ids ascend */

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (d->files[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < d->n_files && d->files[lo].id == id ? &d->files[lo] : NULL;
}

struct dump_file *dump_same_inode(
	const struct dump *d, const struct dump_file *f, const struct dump_file *after)
{
	uint32_t i = after ? d->file_index->next[after - d->files].inode
			   : d->file_index->inodes[inode_hash(f) % BUCKETS];

	for (; i; i = d->file_index->next[i - 1].inode) {
		struct dump_file *o = &d->files[i - 1];

		if (o->st.st_ino == f->st.st_ino && o->st.st_dev == f->st.st_dev)
			return o;
	}
	return NULL;
}
