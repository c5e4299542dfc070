/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes the messages out of a POSIX queue and puts them back (queues.h). Whoever does so may be killed between any two
 * instructions: what he has not written down any more the queue itself tells, by the number of its messages and bytes.
 *
 * Messages come out by priority, and in the order they came in among those of one priority: sent again in this order they
 * are as they were. Nobody waits for them or for room, as the tasks are stopped.
 */
#include "checkpoint/native/queues.h"

#include <fcntl.h>
#include <mqueue.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/fd.h"

static int get_attributes(int fd, struct mq_attr *ret)
{
	return syscall(SYS_mq_getsetattr, fd, NULL, ret) < 0 ? -errno : 0;
}

/* "QSIZE:0          NOTIFY:0     SIGNO:10    NOTIFY_PID:1     " */
int queue_read_state(int fd, uint32_t *ret_bytes, bool *ret_notified)
{
	char text[128] = "";
	const char *at;

	if (pread(fd, text, sizeof(text) - 1, 0) < 0)
		return -errno;
	if (strncmp(text, "QSIZE:", 6) != 0 || !(at = strstr(text, "NOTIFY_PID:")))
		return -EBADMSG;
	*ret_bytes = strtoul(text + 6, NULL, 10);
	*ret_notified = strtol(at + 11, NULL, 10) != 0;
	return 0;
}

bool queue_fits(uint64_t messages, uint64_t bytes, uint64_t message_size)
{
	return messages <= QUEUE_MESSAGES && bytes <= QUEUE_BYTES && message_size <= QUEUE_BYTES - bytes;
}

static void note(struct dump_queue_journal *j, uint32_t length)
{
	j->lengths[j->n] = length;
	j->used += length;
	__atomic_store_n(&j->n, j->n + 1, __ATOMIC_SEQ_CST);
}

/* One that has been taken, but not noted: the rest of the bytes tells its length. */
static int note_last(int fd, struct dump_queue_journal *j, uint32_t messages)
{
	uint32_t bytes;
	bool notified;
	int r;

	if (j->total != messages + j->n + 1)
		return 0;
	r = queue_read_state(fd, &bytes, &notified);
	if (r == 0 && j->used + bytes <= j->bytes)
		note(j, j->bytes - bytes - j->used);
	return r;
}

/* All of it, whatever happens: what is put back goes behind what is still there. */
static int take_rest(int fd, struct dump_queue_journal *j, uint32_t size, struct error *e)
{
	static const struct timespec now;
	int faulty = 0;

	while (j->n < j->total) {
		char *to = j->data + j->used;
		ssize_t r;

		/* Pages that are there: a process that is being killed gets no others. */
		memset(to, 0, size);
		j->priorities[j->n] = 0;
		r = syscall(SYS_mq_timedreceive, fd, to, size, &j->priorities[j->n], &now);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (j->n == 1 && faulty == 0)
			faulty = fault_point("checkpoint-queue-taking", e); /* one noted, one not */
		note(j, r);
	}
	return faulty;
}

int queue_take(int fd, struct dump_queue_journal *j, struct error *e)
{
	struct mq_attr a;
	bool notified;
	int r = get_attributes(fd, &a);

	if (r == 0)
		r = queue_read_state(fd, &j->bytes, &notified);
	if (r == 0 && (notified || !queue_fits(a.mq_curmsgs, j->bytes, a.mq_msgsize)))
		r = -EBUSY;
	if (r < 0)
		return error_errno(e, r, "messages of a queue");
	j->n = j->sent = j->used = 0;
	j->putting = false;
	j->total = a.mq_curmsgs;
	__atomic_store_n(&j->taken, true, __ATOMIC_SEQ_CST);
	r = take_rest(fd, j, a.mq_msgsize, e);
	return r < 0 && e->code != r ? error_errno(e, r, "take the messages of a queue") : r;
}

static int put_rest(int fd, struct dump_queue_journal *j, struct error *e)
{
	static const struct timespec now;
	uint64_t at = 0;
	int faulty = 0;

	__atomic_store_n(&j->putting, true, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < j->n; at += j->lengths[i++]) {
		int r;

		if (i < j->sent)
			continue;
		do {
			r = syscall(
				SYS_mq_timedsend, fd, j->data + at, j->lengths[i], j->priorities[i], &now);
		} while (r < 0 && errno == EINTR);
		if (r < 0)
			return -errno;
		if (i == 1 && faulty == 0)
			faulty = fault_point("checkpoint-queue-putting", e);
		__atomic_store_n(&j->sent, i + 1, __ATOMIC_SEQ_CST);
	}
	return faulty;
}

int queue_put(int fd, struct dump_queue_journal *j, struct error *e)
{
	int r = put_rest(fd, j, e);

	__atomic_store_n(&j->taken, false, __ATOMIC_SEQ_CST);
	return r < 0 && e->code != r ? error_errno(e, r, "put back the messages of a queue") : r;
}

/* For good: who left his user namespace for the container's could not go back. */
static int open_named(pid_t pid, const char *name)
{
	_cleanup_close_ int ns = -EBADF;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/ipc", pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWIPC) < 0)
		return -errno;
	return syscall(SYS_mq_open, name, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0, NULL);
}

static int open_again(const struct dump_queue_journal *j)
{
	char path[64];

	if (j->fd < 0)
		return open_named(j->pid, j->name);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", j->pid, j->fd);
	return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

/* The tasks run on by themselves; they may have been at it meanwhile. */
void dump_undo_queue(struct dump_queue_journal *j)
{
	_cleanup_close_ int fd = j->taken ? open_again(j) : -EBADF;
	struct error ignored = {};
	struct mq_attr a;

	if (fd < 0 || get_attributes(fd, &a) < 0)
		return;
	if (j->putting && a.mq_curmsgs == j->sent + 1)
		j->sent++;
	if (!j->putting && note_last(fd, j, a.mq_curmsgs) == 0)
		(void)!take_rest(fd, j, a.mq_msgsize, &ignored);
	(void)!put_rest(fd, j, &ignored);
}
