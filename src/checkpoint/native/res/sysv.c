/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System V IPC: segments of shared memory, semaphore sets and message queues, with their ids, keys, owners and modes.
 * They are looked at from within the container's ipc namespace. Not kept, as nobody can set them: times, and the pids of
 * who did what last.
 *
 * Segments are SharedMemory. One that is attached is read by its mapping, which leaves no trace; another is attached by us
 * for a moment. Messages are read with MSG_COPY, so that they stay in their queue.
 */
#include "checkpoint/native/res/ipc.h"

#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "checkpoint/native/huge.h"
#include "checkpoint/native/restore-nested.h"

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif
#ifndef SHM_HUGE_SHIFT
#define SHM_HUGE_SHIFT 26
#endif
#ifndef SEM_STAT_ANY
#define SEM_STAT_ANY 20
#endif
#ifndef MSG_STAT_ANY
#define MSG_STAT_ANY 13
#endif

union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
	struct seminfo *info;
};

static int no_memory(struct error *e)
{
	return error_errno(e, -ENOMEM, "System V IPC");
}

static St__SysvObject *object(struct dump *d, int id, const struct ipc_perm *p)
{
	St__SysvObject *o = pb_new(&d->arena, SysvObject, sysv_object);

	if (!o)
		return NULL;
	o->id = id;
	o->key = p->__key;
	o->mode = p->mode;
	o->uid = dump_uid(d, p->uid);
	o->gid = dump_gid(d, p->gid);
	o->cuid = dump_uid(d, p->cuid);
	o->cgid = dump_gid(d, p->cgid);
	return o;
}

St__Ipc *ipc_add(struct dump *d, const struct dump_nested *n)
{
	St__Ipc *m = pb_new(&d->arena, Ipc, ipc);

	if (d->n_ipc == d->max_ipc) {
		size_t want = MAX(d->max_ipc * 2, (size_t)32);
		void *more = arena_array(&d->arena, want, sizeof(*d->ipc));

		if (!more)
			return NULL;
		if (d->n_ipc)
			memcpy(more, d->ipc, d->n_ipc * sizeof(*d->ipc));
		d->ipc = more;
		d->max_ipc = want;
	}
	if (!m)
		return NULL;
	m->ipc_namespace = ipc_id(n);
	return d->ipc[d->n_ipc++] = m;
}

/* ---- segments ---- */

/* Segments live where memfds do, in file systems that nobody can mount. */
static bool is_device_of_memfd(const struct proc_vma *v, unsigned flags)
{
	_cleanup_close_ int fd = memfd_create("", MFD_CLOEXEC | flags);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == makedev(v->dev_major, v->dev_minor);
}

bool sysv_is_mapping(const struct proc_vma *v)
{
	static const char tail[] = " (deleted)";

	if (!v->shared || strncmp(v->name, "/SYSV", 5) != 0)
		return false;
	for (int i = 5; i < 13; i++)
		if (!isxdigit((unsigned char)v->name[i]))
			return false;
	return strcmp(v->name + 13, tail) == 0 &&
	       (is_device_of_memfd(v, 0) || is_device_of_memfd(v, MFD_HUGETLB));
}

#define UNPRIVILEGED_REASON "only a privileged user may open what a segment is made of"
#define UNPRIVILEGED_REMEDY "remove it (ipcrm), or make the checkpoint as root"

static int open_mapping(pid_t pid, uint64_t start, uint64_t end)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", pid, (unsigned long long)start,
		(unsigned long long)end);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int sysv_dump_mapping(
	struct dump *d, struct dump_proc *p, const struct proc_vma *v, uint64_t *ret_id, struct error *e)
{
	uint64_t ns = dump_namespace_of(d, p, CLONE_NEWIPC), key = SYSV_INODE(ns, v->inode);
	_cleanup_close_ int fd = -EBADF;
	struct stat st;

	for (size_t i = 0; i < d->n_shm; i++) {
		if (d->shm_inode[i] == key) {
			*ret_id = d->shm[i]->id;
			return 0;
		}
	}
	if (ns)
		dump_nested_by_id(d, ns)->ipc_is_used = true;
	*ret_id = 0;
	if (d->unprivileged)
		return 0; /* an obstacle: sysv_check() */
	fd = open_mapping(p->shown, v->start, v->end);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(e, fd < 0 ? fd : -errno, "open the segment at %llx of pid %d",
			(unsigned long long)v->start, p->pid);
	if (ipc_role(d) == IPC_ELSEWHERE && !ns)
		return dump_shm_elsewhere(d, key, st.st_size, false, fd, ret_id, e);
	return dump_shm(d, key, st.st_size, false, fd, ret_id, e);
}

static St__SharedMemory *find_segment(const struct dump *d, uint64_t ns, int id)
{
	for (size_t i = 0; i < d->n_shm; i++)
		if (d->shm_inode[i] == SYSV_INODE(ns, id))
			return d->shm[i];
	return NULL;
}

/* Of one that we have attached; its length is a multiple of its pages. */
static int open_attached(const void *at, size_t size)
{
	static const size_t pages[] = {4096, 2 << 20, 1 << 30};
	int fd = -ENOENT;

	for (size_t i = 0; i < ARRAY_SIZE(pages) && fd == -ENOENT; i++)
		fd = open_mapping(getpid(), (uint64_t)at, (uint64_t)at + ALIGN_UP(size, pages[i]));
	return fd;
}

/* One that no process has attached. */
static int dump_detached(struct dump *d, uint64_t ns, int id, size_t size, struct error *e)
{
	char *at = shmat(id, NULL, SHM_RDONLY);
	uint64_t shm;
	int fd, r;

	if (at == (void *)-1)
		return error_errno(e, -errno, "attach segment %d", id);
	if (d->unprivileged) {
		shmdt(at);
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"cannot checkpoint: System V IPC: segment %d: " UNPRIVILEGED_REASON
			"; " UNPRIVILEGED_REMEDY,
			id);
	}
	fd = open_attached(at, size);
	if (fd < 0)
		r = error_errno(e, fd, "open segment %d", id);
	else
		r = dump_shm(d, SYSV_INODE(ns, id), size, false, fd, &shm, e);
	close_p(&fd);
	shmdt(at);
	return r;
}

/* A removed segment has no key any more, but its name in maps goes on to tell it. */
static int key_in_maps(const struct dump *d, uint64_t ns, int id)
{
	for (size_t i = 0; i < d->n_procs; i++) {
		const struct dump_proc *p = &d->procs[i];

		for (size_t k = 0; k < p->n_vmas; k++)
			if (p->vmas[k].inode == (uint64_t)id && sysv_is_mapping(&p->vmas[k]) &&
				dump_namespace_of(d, p, CLONE_NEWIPC) == ns)
				return (int)strtoul(p->vmas[k].name + 5, NULL, 16);
	}
	return IPC_PRIVATE;
}

static int dump_segments(struct dump *d, uint64_t ns, struct error *e)
{
	struct shm_info info;
	int highest = shmctl(0, SHM_INFO, (struct shmid_ds *)&info);

	for (int i = 0; highest >= 0 && info.used_ids > 0 && i <= highest; i++) {
		struct shmid_ds ds;
		St__SharedMemory *m;
		int id = shmctl(i, SHM_STAT_ANY, &ds), r;

		if (id < 0)
			continue;
		m = find_segment(d, ns, id);
		if (!m) {
			r = dump_detached(d, ns, id, ds.shm_segsz, e);
			if (r < 0)
				return r;
			m = find_segment(d, ns, id);
		}
		m->size = ds.shm_segsz;
		m->ipc_namespace = ns;
		m->sysv = object(d, id, &ds.shm_perm);
		if (!m->sysv)
			return no_memory(e);
		if (ds.shm_perm.mode & SHM_DEST)
			m->sysv->key = key_in_maps(d, ns, id);
	}
	return 0;
}

/* ---- semaphores ---- */

static int dump_set(struct dump *d, int id, const struct semid_ds *ds, St__Ipc *record,
	St__SysvSemaphores **ret, struct error *e)
{
	St__SysvSemaphores *m = pb_new(&d->arena, SysvSemaphores, sysv_semaphores);
	unsigned short *values = arena_array(&d->arena, ds->sem_nsems, sizeof(*values));

	if (!m || !values || !record)
		return no_memory(e);
	m->object = object(d, id, &ds->sem_perm);
	m->values = arena_array(&d->arena, ds->sem_nsems, sizeof(*m->values));
	if (!m->object || !m->values)
		return no_memory(e);
	if (semctl(id, 0, GETALL, (union semun){.array = values}) < 0)
		return error_errno(e, -errno, "values of semaphore set %d", id);
	for (size_t i = 0; i < ds->sem_nsems; i++)
		m->values[m->n_values++] = values[i];
	record->semaphores = *ret = m;
	return 0;
}

/* record: else only what processes of the container would give back to them is. */
static int dump_sets(struct dump *d, const struct dump_nested *nested, bool record, struct error *e)
{
	St__Ipc none;
	struct seminfo info;
	int highest = semctl(0, 0, SEM_INFO, (union semun){.info = &info});
	St__SysvSemaphores **sets;
	size_t n = 0;

	if (highest < 0 || info.semusz == 0)
		return 0;
	sets = arena_array(&d->arena, info.semusz, sizeof(*sets));
	if (!sets)
		return no_memory(e);
	for (int i = 0; i <= highest && n < (size_t)info.semusz; i++) {
		struct semid_ds ds;
		int id = semctl(i, 0, SEM_STAT_ANY, (union semun){.buf = &ds}), r;

		if (id < 0)
			continue;
		r = dump_set(d, id, &ds, record ? ipc_add(d, nested) : &none, &sets[n++], e);
		if (r < 0)
			return r;
	}
	return sem_undo_dump(d, ipc_id(nested), sets, n, e);
}

/* ---- messages ---- */

struct message {
	long type;
	char data[];
};

/* Without MSG_COPY (CONFIG_CHECKPOINT_RESTORE) nobody can look at a message and leave it. */
static int dump_message(struct dump *d, int id, int index, struct message *buffer, size_t size,
	St__SysvMessage **ret, struct error *e)
{
	ssize_t n = msgrcv(id, buffer, size, index, MSG_COPY | IPC_NOWAIT);

	if (n < 0)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"cannot checkpoint: System V IPC: message %d of queue %d cannot be looked at (%s%s): "
			"receive it first",
			index, id, strerror(errno),
			errno == EINVAL ? "; it may be longer than kernel.msgmax" : "");
	*ret = pb_new(&d->arena, SysvMessage, sysv_message);
	if (!*ret)
		return no_memory(e);
	(*ret)->type = buffer->type;
	(*ret)->data.len = n;
	(*ret)->data.data = arena_memdup(&d->arena, buffer->data, n);
	return (*ret)->data.data || n == 0 ? 0 : no_memory(e);
}

static int dump_queue(struct dump *d, const struct dump_nested *n, int id, const struct msqid_ds *ds,
	size_t longest, struct error *e)
{
	St__SysvQueue *m = pb_new(&d->arena, SysvQueue, sysv_queue);
	_cleanup_free_ struct message *buffer = ds->msg_qnum ? malloc(sizeof(*buffer) + longest) : NULL;
	St__Ipc *record = ipc_add(d, n);
	int r = 0;

	if (!m || !record || (ds->msg_qnum && !buffer))
		return no_memory(e);
	m->object = object(d, id, &ds->msg_perm);
	m->qbytes = ds->msg_qbytes;
	m->messages = arena_array(&d->arena, ds->msg_qnum, sizeof(*m->messages));
	if (!m->object || !m->messages)
		return no_memory(e);
	for (size_t i = 0; i < ds->msg_qnum && r == 0; i++)
		r = dump_message(d, id, i, buffer, longest, &m->messages[m->n_messages++], e);
	record->queue = m;
	return r;
}

static int dump_queues(struct dump *d, const struct dump_nested *n, struct error *e)
{
	struct msginfo info, limits;
	int highest = msgctl(0, MSG_INFO, (struct msqid_ds *)&info);

	if (highest < 0 || info.msgpool == 0 || msgctl(0, IPC_INFO, (struct msqid_ds *)&limits) < 0)
		return 0;
	for (int i = 0; i <= highest; i++) {
		struct msqid_ds ds;
		int id = msgctl(i, MSG_STAT_ANY, &ds), r;

		if (id < 0)
			continue;
		r = dump_queue(d, n, id, &ds, limits.msgmax, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int sysv_dump(struct dump *d, struct dump_nested *n, struct error *e)
{
	int r = dump_segments(d, ipc_id(n), e);

	if (r == 0)
		r = dump_sets(d, n, true, e);
	return r < 0 ? r : dump_queues(d, n, e);
}

int sysv_dump_elsewhere(struct dump *d, struct error *e)
{
	for (size_t i = 0; i < d->n_shm; i++) {
		int id = (int)(uint32_t)d->shm_inode[i];
		struct shmid_ds ds;

		if (d->shm_inode[i] != SYSV_INODE(0, id))
			continue;
		if (shmctl(id, IPC_STAT, &ds) < 0)
			return error_errno(e, -errno, "System V segment %d", id);
		d->shm[i]->size = ds.shm_segsz;
		d->shm[i]->sysv = object(d, id, &ds.shm_perm);
		if (!d->shm[i]->sysv)
			return no_memory(e);
	}
	return dump_sets(d, NULL, false, e);
}

bool sysv_is_used(void)
{
	struct shm_info shm = {};
	struct seminfo sem = {};
	struct msginfo msg = {};

	return shmctl(0, SHM_INFO, (struct shmid_ds *)&shm) < 0 || shm.used_ids > 0 ||
	       semctl(0, 0, SEM_INFO, (union semun){.info = &sem}) < 0 || sem.semusz > 0 ||
	       msgctl(0, MSG_INFO, (struct msqid_ds *)&msg) < 0 || msg.msgpool > 0;
}

/* ---- obstacles ---- */

/* In a namespace of others sets are not recorded, so what a process would give back to them cannot be, either. */
static void check_undo(struct dump *d)
{
	struct seminfo info;

	if (ipc_is_kept(d) || semctl(0, 0, SEM_INFO, (union semun){.info = &info}) < 0 || info.semusz == 0)
		return;
	for (size_t i = 0; i < d->n_procs; i++)
		if (!d->procs[i].zombie && !dump_namespace_of(d, &d->procs[i], CLONE_NEWIPC) &&
			sem_undo_is_used(&d->procs[i]))
			dump_refuse(d, &d->procs[i], -1, "System V IPC",
				"the ipc namespace is not the container's own, so its semaphores are not "
				"recorded",
				"give the container an ipc namespace of its own",
				"semaphores used with SEM_UNDO");
}

/* Segments of different namespaces may have one id, but each has locks of its own. (Nobody else locks one.) */
static bool is_same_file(int a, int b)
{
	bool same;

	if (flock(a, LOCK_EX | LOCK_NB) < 0)
		return false;
	same = flock(b, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
	flock(b, LOCK_UN);
	flock(a, LOCK_UN);
	return same;
}

/* Is what is mapped there the segment that has its id in the namespace in which we are? */
static bool is_of_this_namespace(pid_t pid, const struct proc_vma *v, const struct shmid_ds *ds)
{
	_cleanup_close_ int theirs = open_mapping(pid, v->start, v->end), ours = -EBADF;
	void *at = shmat((int)v->inode, NULL, SHM_RDONLY);

	if (at == (void *)-1)
		return false;
	ours = open_attached(at, ds->shm_segsz);
	shmdt(at);
	return theirs >= 0 && ours >= 0 && is_same_file(theirs, ours);
}

/* A segment can stay attached while the process goes into another namespace. */
static void check_mapping(
	struct dump *d, const struct dump_nested *n, struct dump_proc *p, const struct proc_vma *v)
{
	const char *reason = NULL, *remedy = "detach it first";
	_cleanup_close_ int fd = -EBADF;
	struct shmid_ds ds;
	uint64_t page;

	if (!n && !ipc_is_kept(d)) {
		reason = "the ipc namespace is not the container's own, so its segments are not recorded";
		remedy = "give the container an ipc namespace of its own";
	} else if (d->unprivileged) {
		reason = UNPRIVILEGED_REASON;
		remedy = UNPRIVILEGED_REMEDY;
	} else if (shmctl((int)v->inode, IPC_STAT, &ds) < 0 ||
		   (dump_has_nested(d, CLONE_NEWIPC) && !is_of_this_namespace(p->shown, v, &ds))) {
		reason = "it is not in the ipc namespace in which the process is";
	} else {
		fd = open_mapping(p->shown, v->start, v->end);
		page = huge_shift_of(fd) ? 1ull << huge_shift_of(fd) : 0;
		if (page && v->end - v->start != ALIGN_UP((uint64_t)ds.shm_segsz, page))
			reason =
				"it has huge pages (SHM_HUGETLB), and only a part of it is attached, or with "
				"another "
				"protection";
	}
	if (reason)
		dump_refuse(d, p, -1, "System V IPC", reason, remedy, "segment %d at %llx", (int)v->inode,
			(unsigned long long)v->start);
}

int sysv_check(struct dump *d, struct dump_nested *n, struct error *e _unused_)
{
	if (!n)
		check_undo(d);
	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = 0; k < d->procs[i].n_vmas; k++)
			if (sysv_is_mapping(&d->procs[i].vmas[k]) &&
				dump_namespace_of(d, &d->procs[i], CLONE_NEWIPC) == ipc_id(n))
				check_mapping(d, n, &d->procs[i], &d->procs[i].vmas[k]);
	return 0;
}

/* ---- restore ---- */

static int set_next_id(struct restore *r, const char *name, int id, struct error *e)
{
	char path[64], text[32];
	int result;

	snprintf(path, sizeof(path), "sys/kernel/%s_next_id", name);
	snprintf(text, sizeof(text), "%d", id);
	result = write_string_at(r->proc_fd, path, text);
	return result < 0 ? error_errno(e, result, "%s_next_id (the kernel needs CONFIG_CHECKPOINT_RESTORE)",
				    name)
			  : 0;
}

uint64_t ipc_namespace_of(const struct restore *r, const St__Process *p)
{
	const struct restore_nested *n = restore_namespace_of(r, p, CLONE_NEWIPC);

	return n ? n->msg->id : 0;
}

int ipc_begin_as(struct ipc_creator *c, uint32_t uid, uint32_t gid, struct error *e)
{
	*c = (struct ipc_creator){.other = uid != geteuid() || gid != getegid()};
	if (!c->other)
		return 0;
	c->dumpable = prctl(PR_GET_DUMPABLE);
	prctl(PR_GET_PDEATHSIG, &c->death);
	if (syscall(SYS_setresgid, -1, gid, -1) < 0 || syscall(SYS_setresuid, -1, uid, -1) < 0)
		return error_errno(e, -errno, "become user %u, group %u", uid, gid);
	return 0;
}

int ipc_end_as(const struct ipc_creator *c, struct error *e)
{
	if (!c->other)
		return 0;
	/* capabilities come back with the user id */
	if (syscall(SYS_setresuid, -1, 0, -1) < 0 || syscall(SYS_setresgid, -1, 0, -1) < 0 ||
		prctl(PR_SET_PDEATHSIG, c->death) < 0 || prctl(PR_SET_DUMPABLE, c->dumpable) < 0)
		return error_errno(e, -errno, "become root again");
	return 0;
}

enum kind { SHM, SEM, MSG };

/* Makes one with the id that it had. "size": of a segment, or of a set. */
static int create(
	struct restore *r, enum kind kind, const St__SysvObject *o, size_t size, int flags, struct error *e)
{
	static const char *const names[] = {"shm", "sem", "msg"};
	int id = -1, result, error;
	struct ipc_creator c;

	flags |= IPC_CREAT | IPC_EXCL | (o->mode & 0777);
	result = set_next_id(r, names[kind], o->id, e);
	/* As who had created it, the only moment at which that is told. */
	if (result == 0)
		result = ipc_begin_as(&c, o->cuid, o->cgid, e);
	if (result < 0)
		return result;
	if (kind == SHM)
		id = shmget(o->key, size, flags);
	else if (kind == SEM)
		id = semget(o->key, size, flags);
	else
		id = msgget(o->key, flags);
	error = -errno;
	result = ipc_end_as(&c, e);
	if (result < 0)
		return result;
	if (id < 0)
		return error_errno(e, error, "create the System V object %s %d", names[kind], o->id);
	return id == o->id ? 0
			   : error_set(e, -EEXIST, ERROR_STATE, "the System V object %s %d got the id %d",
				     names[kind], o->id, id);
}

static void own(struct ipc_perm *p, const St__SysvObject *o)
{
	p->uid = o->uid;
	p->gid = o->gid;
	p->mode = o->mode & 0777;
}

/* It stays attached in the area, which every process has: once for those that may write, once for those that may not. */
static int attach_elsewhere(const struct restore_shm *s, struct error *e)
{
	const St__SysvObject *o = s->msg->sysv;
	struct shmid_ds ds;

	if (shmctl(o->id, IPC_STAT, &ds) < 0 || ds.shm_segsz != s->msg->size)
		return error_set(e, -ESTALE, ERROR_STATE,
			"the System V segment %d, which another container of the sandbox brings back, is not "
			"in the "
			"ipc "
			"namespace of this one",
			o->id);
	if (shmat(o->id, (void *)s->address, SHM_REMAP) == (void *)-1 ||
		(s->read_only && shmat(o->id, (void *)s->read_only, SHM_REMAP | SHM_RDONLY) == (void *)-1))
		return error_errno(e, -errno, "attach System V segment %d", o->id);
	return 0;
}

static int restore_segment(struct restore *r, const struct restore_shm *s, struct error *e)
{
	const St__SysvObject *o = s->msg->sysv;
	struct shmid_ds ds = {};
	unsigned shift = s->msg->huge_shift;
	int result =
		create(r, SHM, o, s->msg->size, shift ? SHM_HUGETLB | (int)(shift << SHM_HUGE_SHIFT) : 0, e);

	if (result < 0)
		return result;
	own(&ds.shm_perm, o);
	if (shmat(o->id, (void *)s->address, SHM_REMAP) == (void *)-1 ||
		(s->read_only && shmat(o->id, (void *)s->read_only, SHM_REMAP | SHM_RDONLY) == (void *)-1) ||
		shmctl(o->id, IPC_SET, &ds) < 0 ||
		((o->mode & SHM_LOCKED) && shmctl(o->id, SHM_LOCK, NULL) < 0) ||
		((o->mode & SHM_DEST) && shmctl(o->id, IPC_RMID, NULL) < 0))
		return error_errno(e, -errno, "System V segment %d", o->id);
	return 0;
}

static int restore_set(struct restore *r, const St__SysvSemaphores *m, struct error *e)
{
	unsigned short *values = arena_array(&r->arena, m->n_values, sizeof(*values));
	struct semid_ds ds = {};
	int result = create(r, SEM, m->object, m->n_values, 0, e);

	if (result < 0 || !values)
		return result < 0 ? result : no_memory(e);
	for (size_t i = 0; i < m->n_values; i++)
		values[i] = m->values[i];
	own(&ds.sem_perm, m->object);
	if (semctl(m->object->id, 0, SETALL, (union semun){.array = values}) < 0 ||
		semctl(m->object->id, 0, IPC_SET, (union semun){.buf = &ds}) < 0)
		return error_errno(e, -errno, "System V semaphore set %d", m->object->id);
	return 0;
}

static int send_message(int queue, const St__SysvMessage *m, struct error *e)
{
	_cleanup_free_ struct message *buffer = malloc(sizeof(*buffer) + m->data.len);

	if (!buffer)
		return no_memory(e);
	buffer->type = m->type;
	memcpy(buffer->data, m->data.data, m->data.len);
	return msgsnd(queue, buffer, m->data.len, IPC_NOWAIT) < 0
		       ? error_errno(e, -errno, "send a message to System V queue %d", queue)
		       : 0;
}

static int restore_queue(struct restore *r, const St__SysvQueue *m, struct error *e)
{
	struct msqid_ds ds = {.msg_qbytes = m->qbytes};
	int result = create(r, MSG, m->object, 0, 0, e);

	for (size_t i = 0; i < m->n_messages && result == 0; i++)
		result = send_message(m->object->id, m->messages[i], e);
	if (result < 0)
		return result;
	own(&ds.msg_perm, m->object);
	return msgctl(m->object->id, IPC_SET, &ds) < 0
		       ? error_errno(e, -errno, "System V message queue %d", m->object->id)
		       : 0;
}

int sysv_restore(struct restore *r, uint64_t ns, struct error *e)
{
	int result = 0;

	/* Removed ones first: they give their key back, which another may have by now. */
	for (int removed = 1; removed >= 0; removed--)
		for (size_t i = 0; i < r->n_shm && result == 0; i++)
			if (r->shm[i].msg->sysv && r->shm[i].msg->ipc_namespace == ns &&
				!!(r->shm[i].msg->sysv->mode & SHM_DEST) == removed)
				result = r->shm[i].msg->elsewhere ? attach_elsewhere(&r->shm[i], e)
								  : restore_segment(r, &r->shm[i], e);
	for (size_t i = 0; i < r->n_ipc && result == 0; i++) {
		if (r->ipc[i]->ipc_namespace != ns)
			continue;
		if (r->ipc[i]->semaphores)
			result = restore_set(r, r->ipc[i]->semaphores, e);
		else if (r->ipc[i]->queue)
			result = restore_queue(r, r->ipc[i]->queue, e);
	}
	return result;
}
