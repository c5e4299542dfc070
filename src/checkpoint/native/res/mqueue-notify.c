/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mq_notify(3): who wants to be told when a message comes to an empty queue. The queue's file shows who and by which signal; the value
 * that goes with it is read where the kernel has it (linux/bpfwalk.h). The registration is the process's, and any close of
 * a descriptor of the queue ends it, so it is made again in the process, when its descriptors are in their places.
 *
 * A message that comes to the empty queue uses it up: so would one that is put back. Hence it is kept of an empty queue only.
 */
#include "checkpoint/native/res/ipc.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "linux/bpfwalk.h"

/* "QSIZE:0          NOTIFY:0     SIGNO:10    NOTIFY_PID:1234": as we see its pid. */
static pid_t owner_of(int fd)
{
	char text[128] = "";
	const char *at;

	if (pread(fd, text, sizeof(text) - 1, 0) < 0 || !(at = strstr(text, "NOTIFY_PID:")))
		return 0;
	return (pid_t)strtol(at + strlen("NOTIFY_PID:"), NULL, 10);
}

static struct dump_proc *find_owner(struct dump *d, int queue)
{
	pid_t pid = owner_of(queue);

	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].pid == pid && d->procs[i].msg)
			return &d->procs[i];
	return NULL;
}

/* A descriptor of the queue that the process has; -1: none. */
static int descriptor_of(struct dump *d, const struct dump_proc *p, const struct stat *queue)
{
	for (size_t i = 0; i < p->msg->n_descriptors; i++) {
		const struct dump_file *f = dump_file_by_id(d, p->msg->descriptors[i]->file);

		if (f && f->st.st_ino == queue->st_ino && f->st.st_dev == queue->st_dev)
			return (int)p->msg->descriptors[i]->fd;
	}
	return -1;
}

/* 1: it is one that cannot be made again. */
static int walk(struct dump *d, const struct dump_proc *p, int fd, St__MqNotify *m)
{
	enum { INODE, VALUE, HOW, EXEC, OWN_EXEC };
	static const struct bpf_field fields[] = {
		[INODE] = {"file", "f_inode", 8},
		[VALUE] = {"mqueue_inode_info", "notify", 8, INODE + 1, "vfs_inode", 0},
		[HOW] = {"mqueue_inode_info", "notify", 8, INODE + 1, "vfs_inode", 8},
		[EXEC] = {"mqueue_inode_info", "notify_self_exec_id", 4, INODE + 1, "vfs_inode", 0},
		[OWN_EXEC] = {"task_struct", "self_exec_id", 8, BPF_FROM_TASK},
	};
	const uint64_t *v;
	struct bpf_row *row;
	size_t n;
	int r = bpf_walk(&(struct bpf_objects){"task_file", p->shown, fd}, fields, ARRAY_SIZE(fields),
		&d->arena, &row, &n);

	if (r < 0 || n != 1)
		return r == -ENOMEM ? r : 1;
	v = row->values; /* struct sigevent: value, signal, kind */
	m->fd = fd;
	m->kind = (int)(v[HOW] >> 32);
	if (m->kind == SIGEV_NONE)
		return 0; /* the rest is left over from somebody else's */
	m->value = v[VALUE];
	m->signal = (int)(uint32_t)v[HOW];
	/* Who has executed another program since is not told any more. */
	return !mqueue_notify_is_valid(m) || (uint32_t)v[OWN_EXEC] != v[EXEC];
}

bool mqueue_notify_is_valid(const St__MqNotify *m)
{
	return (m->kind == SIGEV_NONE || m->kind == SIGEV_SIGNAL) && m->signal >= 0 && m->signal <= 64;
}

int mqueue_check_notify(struct dump *d, int queue, long messages, const char **ret_reason, struct error *e)
{
	struct dump_proc *p = find_owner(d, queue);
	St__MqNotify *m = pb_new(&d->arena, MqNotify, mq_notify), **more;
	struct stat st;
	int fd, r;

	*ret_reason = "what is to be told by mq_notify cannot be seen";
	if (!m)
		return error_errno(e, -ENOMEM, "mq_notify");
	if (!p || d->unprivileged || fstat(queue, &st) < 0 || (fd = descriptor_of(d, p, &st)) < 0)
		return 0;
	if (messages > 0) {
		*ret_reason =
			"messages wait in it, and mq_notify would be told of them when they are put back";
		return 0;
	}
	for (size_t i = 0; i < p->msg->n_mq_notify; i++) {
		if (p->msg->mq_notify[i]->fd == (uint32_t)fd) {
			*ret_reason = NULL; /* met by its name, too */
			return 0;
		}
	}
	r = p->other_namespaces ? 1 : walk(d, p, fd, m);
	if (r != 0)
		return r < 0 ? error_errno(e, r, "mq_notify") : 0;
	more = arena_array(&d->arena, p->msg->n_mq_notify + 1, sizeof(*more));
	if (!more)
		return error_errno(e, -ENOMEM, "mq_notify");
	if (p->msg->n_mq_notify > 0)
		memcpy(more, p->msg->mq_notify, p->msg->n_mq_notify * sizeof(*more));
	more[p->msg->n_mq_notify++] = m;
	p->msg->mq_notify = more;
	d->has_mq_notify = true;
	*ret_reason = NULL;
	return 0;
}

void mqueue_restore_notify(const St__Process *p, struct batch *b)
{
	for (size_t i = 0; i < p->n_mq_notify; i++) {
		const St__MqNotify *m = p->mq_notify[i];
		struct sigevent how = {.sigev_value = {.sival_ptr = (void *)(uintptr_t)m->value},
			.sigev_signo = m->signal,
			.sigev_notify = m->kind};

		batch_call(b, 0, SYS_mq_notify, m->fd, batch_bytes(b, &how, sizeof(how)));
	}
}
