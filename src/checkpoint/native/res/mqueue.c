/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POSIX message queues: those of the container's ipc namespace, open or not, and descriptors of them, also of queues that
 * have no name any more. What waits in them is taken out for a moment (mqueue-messages.c). Who is to be notified:
 * mqueue-notify.c.
 */
#include "checkpoint/native/res/res.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <mqueue.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "checkpoint/native/peers.h"
#include "checkpoint/native/res/ipc.h"
#include "checkpoint/native/restore-nested.h"

#define MQUEUE_FS_MAGIC 0x19800202

static int get_attributes(int fd, struct mq_attr *ret)
{
	return syscall(SYS_mq_getsetattr, fd, NULL, ret) < 0 ? -errno : 0;
}

/* ---- obstacles ---- */

static int check_queue(
	struct dump *d, const struct dump_proc *p, int p_fd, int fd, const char *name, struct error *e)
{
	const char *reason = NULL;
	int r;

	struct mq_attr a;
	uint32_t bytes;
	bool notified;

	if (get_attributes(fd, &a) < 0 || queue_read_state(fd, &bytes, &notified) < 0)
		return 0;
	r = notified ? mqueue_check_notify(d, fd, a.mq_curmsgs, &reason, e) : 0;
	if (r < 0)
		return r;
	if (reason)
		dump_refuse(d, p, p_fd, "mqueue", reason,
			a.mq_curmsgs > 0 ? REMEDY_RECEIVE : "end the registration first", "%s", name);
	if (!queue_fits(a.mq_curmsgs, bytes, a.mq_msgsize))
		dump_refuse(d, p, p_fd, "mqueue", "more messages wait in it than can be kept safe meanwhile",
			REMEDY_RECEIVE, "%s with %ld messages", name, a.mq_curmsgs);
	return 0;
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	char path[64];

	const struct peer_file *other = peers_next(d, f->st.st_dev, f->st.st_ino, NULL);

	if (f->st.st_nlink == 0 && other) {
		dump_refuse(d, f->proc, f->fd, "mqueue",
			arena_printf(&d->arena,
				"it has no name any more, and the container \"%s\" has it open as well",
				peers_name(d, other->member)),
			"close it in one of them", "%s", f->link);
		return 0;
	}
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", f->proc->shown, f->fd);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? 0 : check_queue(d, f->proc, f->fd, fd, f->link, e);
}

/* ---- the namespace's queues ---- */

/* A mount of the file system of the queues that nobody sees. We are in the namespace. */
static int mount_folder(void)
{
	_cleanup_close_ int fs = fsopen("mqueue", FSOPEN_CLOEXEC), mount = -EBADF;
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	mount = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (mount < 0)
		return -errno;
	fd = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The namespace of the container's processes whose queues are in that file system; NULL: none. */
static struct dump_nested *nested_of(struct dump *d, dev_t device)
{
	struct stat st;

	for (size_t i = 0; i < d->n_nested; i++)
		if (d->nested[i].mqueue_folder >= 0 && fstat(d->nested[i].mqueue_folder, &st) == 0 &&
			st.st_dev == device)
			return &d->nested[i];
	return NULL;
}

/* Where the container has it, else a mount of our own. It is closed at the very end: the kernel takes its time to
 * unmount. */
static int open_folder(struct dump *d)
{
	struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	struct statfs st;

	for (size_t i = 0; i < d->n_mounts; i++) {
		int fd;

		if (strcmp(d->mounts[i].fstype, "mqueue") != 0 ||
			nested_of(d, makedev(d->mounts[i].dev_major, d->mounts[i].dev_minor)))
			continue;
		fd = syscall(SYS_openat2, d->root_fd, d->mounts[i].target, &how, sizeof(how));
		if (fd >= 0 && fstatfs(fd, &st) == 0 && st.f_type == MQUEUE_FS_MAGIC)
			return fd;
		close_p(&fd);
	}
	return mount_folder();
}

int mqueue_look_at_nested(struct dump_nested *n)
{
	int folder = mount_folder(), fd = folder < 0 ? folder : fcntl(folder, F_DUPFD_CLOEXEC, 3);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *ent;

	n->mqueue_folder = folder;
	if (!list) {
		int r = folder < 0 ? folder : -errno;

		close_p(&fd);
		return r == -ENODEV ? 0 : r;
	}
	while ((ent = readdir(list)))
		n->ipc_is_used |= ent->d_name[0] != '.' || (ent->d_name[1] && strcmp(ent->d_name, "..") != 0);
	closedir(list);
	return 0;
}

typedef int queue_t(struct dump *d, struct dump_nested *n, int fd, const char *name, struct error *e);

static int for_queues(struct dump *d, struct dump_nested *n, queue_t *f, struct error *e)
{
	int folder, fd, r = 0;
	struct dirent *ent;
	DIR *list;

	if (!n && d->mqueue_folder < 0)
		d->mqueue_folder = open_folder(d);
	folder = n ? n->mqueue_folder : d->mqueue_folder;
	if (folder == -ENODEV)
		return 0; /* a kernel without queues */
	fd = folder < 0 ? folder : openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	list = fd < 0 ? NULL : fdopendir(fd);
	if (!list)
		return error_errno(e, folder < 0 ? folder : -errno, "list the message queues");
	while (r == 0 && (ent = readdir(list))) {
		_cleanup_close_ int queue = -EBADF;

		if (ent->d_name[0] == '.' && (!ent->d_name[1] || !strcmp(ent->d_name, "..")))
			continue;
		queue = openat(folder, ent->d_name, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
		if (queue >= 0)
			r = f(d, n, queue, ent->d_name, e);
		else if (errno != ENOENT)
			r = error_errno(e, -errno, "open the message queue %s", ent->d_name);
	}
	closedir(list);
	return r;
}

static int check_named(struct dump *d, struct dump_nested *n, int fd, const char *name, struct error *e)
{
	struct mq_attr a;

	if (!n)
		d->has_queues = true;
	/* The guard would have to find it by a process, to put them back. */
	else if (!n->pid && get_attributes(fd, &a) == 0 && a.mq_curmsgs > 0)
		preflight_add(d->report, 0, -1, "mqueue",
			"messages wait in it, and in its ipc namespace is no process", REMEDY_RECEIVE, "%s",
			name);
	return check_queue(d, NULL, -1, fd, name, e);
}

/* Queues of a namespace in which nobody is any more are not recorded. */
static void check_descriptor(struct dump *d, const struct dump_file *f)
{
	struct stat own;

	if (nested_of(d, f->st.st_dev))
		return;
	if (!ipc_is_kept(d))
		dump_refuse(d, f->proc, f->fd, "mqueue", "its ipc namespace is not the container's own",
			"give the container an ipc namespace of its own", "%s", f->link);
	else if (ipc_is_recorded(d) && (fstat(d->mqueue_folder, &own) < 0 || own.st_dev != f->st.st_dev))
		dump_refuse(d, f->proc, f->fd, "mqueue",
			"it is in an ipc namespace in which no process of the container is",
			"close it before the checkpoint", "%s", f->link);
}

void mqueue_check_descriptors(struct dump *d)
{
	for (size_t i = 0; i < d->n_files; i++)
		if (d->files[i].resource && d->files[i].resource->kind_case == ST__FILE__KIND_MQUEUE)
			check_descriptor(d, &d->files[i]);
}

int mqueue_check(struct dump *d, struct dump_nested *n, struct error *e)
{
	return for_queues(d, n, check_named, e);
}

/* The folder of the container's own namespace is wanted in a child, as only there one may mount. */
struct folder_visit {
	int ipc, mnt, folder;
};

static int open_folder_there(void *arg)
{
	struct folder_visit *v = arg;

	v->folder =
		setns(v->ipc, CLONE_NEWIPC) < 0 || setns(v->mnt, CLONE_NEWNS) < 0 ? -errno : mount_folder();
	return 0;
}

static int own_folder(struct dump *d)
{
	struct folder_visit v = {-EBADF, -EBADF, -ENOMEM};
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/ipc", d->c->init_pid);
	v.ipc = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", d->c->init_pid);
	v.mnt = open(path, O_RDONLY | O_CLOEXEC);
	dump_in_child(open_folder_there, &v);
	close_p(&v.ipc);
	close_p(&v.mnt);
	return v.folder;
}

int mqueue_namespace_of_mount(struct dump *d, const struct proc_mount *m, uint64_t *ret, struct error *e)
{
	dev_t device = makedev(m->dev_major, m->dev_minor);
	struct dump_nested *n = nested_of(d, device);
	struct stat st;

	*ret = ipc_id(n);
	if (n) {
		n->ipc_is_used = true;
		return 0;
	}
	if (d->mqueue_folder < 0)
		d->mqueue_folder = own_folder(d);
	if (d->mqueue_folder < 0 || fstat(d->mqueue_folder, &st) < 0)
		return error_errno(e, d->mqueue_folder < 0 ? d->mqueue_folder : -errno,
			"find the queues of the container");
	return st.st_dev != device;
}

static int keep(struct dump *d, const struct dump_queue_journal *j, St__PosixQueue *m)
{
	const char *at = j->data;

	m->messages = arena_array(&d->arena, j->n, sizeof(*m->messages));
	if (!m->messages)
		return -ENOMEM;
	for (uint32_t i = 0; i < j->n; at += j->lengths[i++]) {
		St__PosixMessage *s = pb_new(&d->arena, PosixMessage, posix_message);

		if (!s)
			return -ENOMEM;
		s->priority = j->priorities[i];
		s->data.len = j->lengths[i];
		s->data.data = arena_memdup(&d->arena, at, s->data.len);
		if (!s->data.data)
			return -ENOMEM;
		m->messages[m->n_messages++] = s;
	}
	return 0;
}

/* fd: open for both, and not blocking. The times that others see are as before, but for the last change. */
static int dump_messages(struct dump *d, int fd, const struct stat *st, St__PosixQueue *m, struct error *e)
{
	struct dump_queue_journal *j = d->journal->queue;
	struct timespec times[] = {st->st_atim, st->st_mtim};
	struct error second = {};
	int r = queue_take(fd, j, e), kept = 0, back = 0;

	if (r == 0)
		kept = keep(d, j, m);
	if (j->taken)
		back = queue_put(fd, j, r < 0 ? &second : e);
	if (futimens(fd, times) < 0 && r == 0 && back == 0)
		back = error_errno(e, -errno, "times of a message queue");
	if (r < 0 || back < 0)
		return r < 0 ? r : back;
	return kept < 0 ? error_errno(e, kept, "messages of a queue") : 0;
}

/* How the guard would reach it: by a descriptor of a process, or (NULL) by its name. */
static void tell_guard(
	struct dump *d, const struct dump_nested *n, const struct dump_file *f, const char *name)
{
	struct dump_queue_journal *j = d->journal->queue;

	j->pid = f ? f->proc->shown : n ? n->pid : d->c->init_pid;
	j->fd = f ? f->fd : -1;
	snprintf(j->name, sizeof(j->name), "%s", name);
}

static int describe(struct dump *d, int fd, const char *name, St__PosixQueue **ret, struct error *e)
{
	St__PosixQueue *m = pb_new(&d->arena, PosixQueue, posix_queue);
	struct mq_attr a;
	struct stat st;
	int r = get_attributes(fd, &a);

	if (r < 0 || fstat(fd, &st) < 0)
		return error_errno(e, r < 0 ? r : -errno, "message queue %s", name);
	if (m)
		m->name = arena_strdup(&d->arena, name);
	if (!m || !m->name)
		return error_errno(e, -ENOMEM, "message queues");
	m->max_messages = a.mq_maxmsg;
	m->message_size = a.mq_msgsize;
	m->mode = st.st_mode & 07777;
	m->uid = dump_uid(d, st.st_uid);
	m->gid = dump_gid(d, st.st_gid);
	*ret = m;
	return 0;
}

static int describe_with_messages(struct dump *d, const struct dump_nested *n, const struct dump_file *f,
	int fd, const char *name, St__PosixQueue **ret, struct error *e)
{
	struct mq_attr a;
	struct stat st;
	int r = describe(d, fd, name, ret, e);

	if (r < 0 || get_attributes(fd, &a) < 0 || a.mq_curmsgs == 0)
		return r;
	if (fstat(fd, &st) < 0)
		return error_errno(e, -errno, "message queue %s", name);
	tell_guard(d, n, f, name);
	return dump_messages(d, fd, &st, *ret, e);
}

static int dump_named(struct dump *d, struct dump_nested *n, int fd, const char *name, struct error *e)
{
	St__Ipc *record = ipc_add(d, n);

	return record ? describe_with_messages(d, n, NULL, fd, name, &record->posix, e)
		      : error_errno(e, -ENOMEM, "message queues");
}

int mqueue_dump(struct dump *d, struct dump_nested *n, struct error *e)
{
	return for_queues(d, n, dump_named, e);
}

/* ---- descriptors ---- */

/* mq_open(3) does not go by a mount of the container. */
static bool match(const struct dump *d, const struct dump_file *f)
{
	struct statfs fs;
	char path[64];

	if (!S_ISREG(f->st.st_mode) || f->fd < 0 || f->link[0] != '/')
		return false;
	for (size_t i = 0; i < d->n_mounts; i++)
		if (d->mounts[i].id == f->info.mnt_id)
			return strcmp(d->mounts[i].fstype, "mqueue") == 0;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", f->proc->shown, f->fd);
	return statfs(path, &fs) == 0 && fs.f_type == MQUEUE_FS_MAGIC;
}

/* The descriptor may be open for one of both only, and is not ours to change. */
static int dump_unlinked(
	struct dump *d, const struct dump_file *f, const char *name, St__MessageQueue *m, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", f->proc->shown, f->fd);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? error_errno(e, -errno, "message queue %s", name)
		      : describe_with_messages(d, NULL, f, fd, name, &m->queue, e);
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__MessageQueue *m = pb_new(&d->arena, MessageQueue, message_queue);
	const char *slash = strrchr(f->link, '/');
	char *name = arena_strdup(&d->arena, slash ? slash + 1 : f->link);
	int r;

	if (!m || !name)
		return error_errno(e, -ENOMEM, "message queues");
	m->ipc_namespace = ipc_id(nested_of(d, f->st.st_dev));
	if (f->st.st_nlink == 0) {
		m->unlinked = f->st.st_ino;
		if (strlen(name) > 10 && !strcmp(name + strlen(name) - 10, " (deleted)"))
			name[strlen(name) - 10] = '\0';
	} else if (slash != f->link) {
		m->path = (char *)f->link;
	}
	r = m->unlinked ? dump_unlinked(d, f, name, m, e) : describe(d, f->local, name, &m->queue, e);
	f->msg->kind_case = ST__FILE__KIND_MQUEUE;
	f->msg->mqueue = m;
	return r;
}

/* ---- restore ---- */

static int create(const St__PosixQueue *m, const char *name, int *ret_fd, struct error *e)
{
	struct mq_attr a = {.mq_maxmsg = m->max_messages, .mq_msgsize = m->message_size};
	_cleanup_close_ int fd = -EBADF;
	struct ipc_creator c;
	int r = ipc_begin_as(&c, m->uid, m->gid, e), error;

	if (r < 0)
		return r;
	fd = syscall(SYS_mq_open, name, O_RDWR | O_NONBLOCK | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &a);
	error = -errno;
	r = ipc_end_as(&c, e);
	if (r < 0)
		return r;
	if (fd < 0)
		return error_errno(e, error,
			"make the message queue %s of %lld messages (see RLIMIT_MSGQUEUE)", name,
			(long long)m->max_messages);
	for (size_t i = 0; i < m->n_messages; i++)
		if (syscall(SYS_mq_timedsend, fd, m->messages[i]->data.data, m->messages[i]->data.len,
			    m->messages[i]->priority, NULL) < 0)
			return error_errno(e, -errno, "message %zu of the message queue %s", i, name);
	if (fchown(fd, m->uid, m->gid) < 0 || fchmod(fd, m->mode) < 0)
		return error_errno(e, -errno, "owner and mode of the message queue %s", name);
	*ret_fd = take_fd(&fd);
	return 0;
}

int mqueue_restore(struct restore *r, uint64_t ns, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_ipc && result == 0; i++) {
		_cleanup_close_ int fd = -EBADF;

		if (r->ipc[i]->posix && r->ipc[i]->ipc_namespace == ns)
			result = create(r->ipc[i]->posix, r->ipc[i]->posix->name, &fd, e);
	}
	return result;
}

/* Is there another record of this queue without a name, before m or behind it? */
static bool has_other(const struct restore *r, const St__File *m, bool before)
{
	bool passed = false;

	for (size_t i = 0; i < r->n_files; i++) {
		if (r->files[i] == m)
			passed = true;
		else if (passed != before && r->files[i]->kind_case == ST__FILE__KIND_MQUEUE &&
			 r->files[i]->mqueue->unlinked == m->mqueue->unlinked &&
			 r->files[i]->mqueue->ipc_namespace == m->mqueue->ipc_namespace)
			return true;
	}
	return false;
}

/* By a mount of the container, which is there by now. */
static int open_by_path(const St__File *m, int *ret_fd, struct error *e)
{
	_cleanup_close_ int fd = open(m->mqueue->path, (m->flags & O_ACCMODE) | O_NONBLOCK | O_CLOEXEC);
	struct statfs fs;

	if (fd < 0 || fstatfs(fd, &fs) < 0)
		return error_errno(e, -errno, "open the message queue %s", m->mqueue->path);
	if (fs.f_type != MQUEUE_FS_MAGIC)
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "%s is no message queue", m->mqueue->path);
	*ret_fd = take_fd(&fd);
	return 0;
}

static int open_queue(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	const St__PosixQueue *q = m->mqueue->queue;
	_cleanup_close_ int made = -EBADF, fd = -EBADF;
	const char *name = q->name;
	char temporary[64];
	int result = 0;

	if (*m->mqueue->path)
		return open_by_path(m, ret_fd, e);
	result = restore_enter_ipc(r, m->mqueue->ipc_namespace, e);
	if (result < 0)
		return result;
	/* Its name may be another's by now: it has one of ours until all its descriptors are there. */
	if (m->mqueue->unlinked) {
		snprintf(
			temporary, sizeof(temporary), "stasis.%llu", (unsigned long long)m->mqueue->unlinked);
		name = temporary;
		if (!has_other(r, m, true))
			result = create(q, name, &made, e);
	}
	if (result < 0)
		return result;
	fd = syscall(SYS_mq_open, name, (m->flags & O_ACCMODE) | O_CLOEXEC, 0, NULL);
	if (fd < 0)
		return error_errno(e, -errno, "open the message queue %s", q->name);
	if (m->mqueue->unlinked && !has_other(r, m, false) && syscall(SYS_mq_unlink, name) < 0)
		return error_errno(e, -errno, "unlink the message queue %s", q->name);
	*ret_fd = take_fd(&fd);
	return 0;
}

extern const struct resource resource_mqueue;
const struct resource resource_mqueue = {
	.kind = "mqueue",
	.description = "POSIX message queues with their messages, also unlinked ones; mq_notify on an empty "
		       "one. Refused: mq_notify by a thread (SIGEV_THREAD), with messages in the queue, or "
		       "on a kernel without BTF",
	.kind_case = ST__FILE__KIND_MQUEUE,
	.match = match,
	.check = check,
	.dump = dump,
	.open = open_queue,
};
