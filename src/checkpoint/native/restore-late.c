/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that can only be opened when all processes exist: pidfds, what is in /proc/PID, time namespaces, listeners of seccomp filters,
 * and epoll sets that watch them. Init opens them behind the last barrier of the tree; the others, which were forked before, fetch them from it, so
 * that all have the same open file description. Nobody goes on, and no zombie ends, before all have what they need.
 *
 * Who lives in another user namespace may not take anything from init: for them it sends the files to itself, in messages that all
 * of them look at and nobody takes out.
 */
#include "checkpoint/native/restore.h"

#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "checkpoint/native/res/res.h"

bool restore_waits_for_process(const St__File *m)
{
	if (m->kind_case == ST__FILE__KIND_REGULAR)
		return m->regular->process > 1 && !m->regular->process_gone;
	if (m->kind_case == ST__FILE__KIND_NS)
		return m->ns->id != 0;
	if (m->kind_case == ST__FILE__KIND_SECCOMP_LISTENER)
		return !m->seccomp_listener->ended;
	return m->kind_case == ST__FILE__KIND_PIDFD && m->pidfd->pid;
}

bool restore_is_late(const struct restore *r, const St__File *m)
{
	if (!r->has_late_files || m->kind_case != ST__FILE__KIND_EPOLL)
		return restore_waits_for_process(m);
	for (size_t i = 0; i < m->epoll->n_targets; i++) {
		int fd = restore_fd(r, m->epoll->targets[i]->file);

		if (fd >= 0 && restore_waits_for_process(r->files[fd - r->fd_base]))
			return true;
	}
	return false;
}

static int open_all(struct restore *r, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_files && result == 0; i++)
		if (restore_waits_for_process(r->files[i]))
			result = restore_open_file(r, i, e);
	for (size_t i = 0; i < r->n_files && result == 0; i++) {
		const struct resource *res = resource_find(r->files[i]->kind_case);

		if (res->connect && restore_is_late(r, r->files[i]))
			result = res->connect(r, r->files[i], r->fd_base + i, e);
	}
	return result;
}

enum { FILES_AT_ONCE = 250 /* SCM_MAX_FD is 253 */ };

struct late_message {
	struct msghdr head;
	struct iovec part;
	char byte;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FILES_AT_ONCE * sizeof(int))];
	} control;
};

static struct msghdr *empty_message(struct late_message *m)
{
	m->byte = 0;
	m->part = (struct iovec){&m->byte, 1};
	m->head = (struct msghdr){.msg_iov = &m->part,
		.msg_iovlen = 1,
		.msg_control = m->control.bytes,
		.msg_controllen = sizeof(m->control.bytes)};
	return &m->head;
}

/* Those of the message: their indices; how many. */
static size_t late_in(const struct restore *r, size_t message, size_t index[FILES_AT_ONCE])
{
	size_t n = 0, seen = 0;

	for (size_t i = 0; i < r->n_files; i++)
		if (restore_waits_for_process(r->files[i]) && seen++ / FILES_AT_ONCE == message)
			index[n++] = i;
	return n;
}

static bool is_wanted_elsewhere(const struct restore *r)
{
	for (size_t i = 0; i < r->n_procs && r->has_late_files; i++)
		if (r->homes.home[i])
			return true;
	return false;
}

int restore_late_begin(struct restore *r, struct error *e)
{
	size_t index[FILES_AT_ONCE];

	while (is_wanted_elsewhere(r) && late_in(r, r->n_late_sockets, index) > 0) {
		int *pair = r->late_sockets[r->n_late_sockets];

		if (r->n_late_sockets == ARRAY_SIZE(r->late_sockets))
			return error_set(e, -E2BIG, ERROR_REFUSED, "too many files of other processes");
		if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0 ||
			restore_move_fd(r, &pair[0]) < 0 || restore_move_fd(r, &pair[1]) < 0)
			return error_errno(e, -errno, "sockets for files of other processes");
		r->n_late_sockets++;
	}
	return 0;
}

static int send_all(struct restore *r, struct error *e)
{
	for (size_t k = 0; k < r->n_late_sockets; k++) {
		struct late_message m;
		struct msghdr *head = empty_message(&m);
		struct cmsghdr *c = CMSG_FIRSTHDR(head);
		size_t index[FILES_AT_ONCE], n = late_in(r, k, index);

		memset(&m.control, 0, sizeof(m.control));
		*c = (struct cmsghdr){CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		head->msg_controllen = CMSG_SPACE(n * sizeof(int));
		for (size_t i = 0; i < n; i++)
			((int *)CMSG_DATA(c))[i] = r->fd_base + (int)index[i];
		if (sendmsg(r->late_sockets[k][0], head, 0) < 0)
			return error_errno(e, -errno, "send files of other processes");
	}
	return 0;
}

static int look_at_all(struct restore *r, struct error *e)
{
	for (size_t k = 0; k < r->n_late_sockets; k++) {
		struct late_message m;
		struct msghdr *head = empty_message(&m);
		size_t index[FILES_AT_ONCE], n = late_in(r, k, index);
		const struct cmsghdr *c;

		if (recvmsg(r->late_sockets[k][1], head, MSG_PEEK | MSG_CMSG_CLOEXEC) < 0)
			return error_errno(e, -errno, "fetch files of other processes");
		c = CMSG_FIRSTHDR(head);
		if (!c || c->cmsg_len != CMSG_LEN(n * sizeof(int)))
			return error_errno(e, -EMFILE, "fetch files of other processes");
		for (size_t i = 0; i < n; i++) {
			int fd = ((const int *)CMSG_DATA(c))[i];

			if (dup3(fd, r->fd_base + (int)index[i], O_CLOEXEC) < 0)
				return error_errno(e, -errno, "fetch files of other processes");
			close(fd);
		}
	}
	return 0;
}

static int fetch_all(struct restore *r, struct error *e)
{
	for (size_t i = 0; i < r->n_files; i++) {
		int fd, want = r->fd_base + (int)i;

		if (!restore_waits_for_process(r->files[i]))
			continue;
		fd = syscall(SYS_pidfd_getfd, r->init_pidfd, want, 0);
		if (fd < 0 || dup3(fd, want, O_CLOEXEC) < 0)
			return error_errno(e, -errno, "fetch a file from init");
		close(fd);
	}
	return 0;
}

void restore_find_late_files(struct restore *r)
{
	for (size_t i = 0; i < r->n_files && !r->has_late_files; i++)
		r->has_late_files = restore_waits_for_process(r->files[i]);
}

int restore_late_files(struct restore *r, bool init, struct error *e)
{
	int result;

	if (!init)
		return r->here ? look_at_all(r, e) : fetch_all(r, e);
	result = open_all(r, e);
	return result < 0 ? result : send_all(r, e);
}
