/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages that go into the queue of a unix socket again: with the credentials of their sender, who may be gone, and the
 * descriptors that were passed with them.
 */
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/res/socket.h"

enum { OPT_SO_BUF_LOCK = 72, BIG_BUFFER = 512 << 20 };

pid_t unix_clone_sharing_files(pid_t pid)
{
	struct clone_args args = {.flags = CLONE_FILES};

	if (pid) {
		args.set_tid = (uint64_t)(uintptr_t)&pid;
		args.set_tid_size = 1;
	}

	return syscall(SYS_clone3, &args, sizeof(args));
}

/* What the sender's buffer does not hold: the queue may have been filled by several senders, or in other
 * pieces. */
static int grow_buffer(int fd, int *old_size, int *old_lock)
{
	int big = BIG_BUFFER;

	if (*old_size >= 0)
		return -ENOBUFS; /* is big already */
	if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, old_size, &(socklen_t){sizeof(int)}) < 0 ||
		getsockopt(fd, SOL_SOCKET, OPT_SO_BUF_LOCK, old_lock, &(socklen_t){sizeof(int)}) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big)) < 0)
		return -errno;
	return 0;
}

static void shrink_buffer(int fd, int old_size, int old_lock)
{
	int half = old_size / 2;

	if (old_size < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &half, sizeof(half));
	setsockopt(fd, SOL_SOCKET, OPT_SO_BUF_LOCK, &old_lock, sizeof(old_lock));
}

enum {
	PASSED_MAX = 253,
	CONTROL_SIZE = CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(PASSED_MAX * sizeof(int))
};

static void add_control(struct msghdr *h, char control[CONTROL_SIZE], int type, const void *data, size_t len)
{
	struct cmsghdr *cmsg = (struct cmsghdr *)(control + h->msg_controllen);

	h->msg_control = control;
	h->msg_controllen += CMSG_SPACE(len);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = type;
	cmsg->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(cmsg), data, len);
}

static void add_credentials(struct msghdr *h, char control[CONTROL_SIZE], const St__SocketCredentials *c)
{
	struct ucred cred = {.pid = c->pid ? c->pid : getpid(), .uid = c->uid, .gid = c->gid};

	add_control(h, control, SCM_CREDENTIALS, &cred, sizeof(cred));
}

static int add_files(const struct restore *r, struct msghdr *h, char control[CONTROL_SIZE],
	const St__SocketMessage *m, struct error *e)
{
	int fds[PASSED_MAX];

	for (size_t i = 0; i < m->n_files; i++) {
		fds[i < PASSED_MAX ? i : 0] = restore_fd(r, m->files[i]);
		if (i >= PASSED_MAX || fds[i] < 0)
			return error_set(e, -EBADMSG, ERROR_CORRUPT, "descriptors passed in a unix socket");
	}
	if (m->n_files)
		add_control(h, control, SCM_RIGHTS, fds, m->n_files * sizeof(int));
	return 0;
}

/* A process with that pid, which does nothing: the kernel accepts only credentials of a process that is
 * there. */
static pid_t summon_ghost(pid_t pid)
{
	pid_t ghost = unix_clone_sharing_files(pid);

	if (ghost == 0)
		for (;;)
			pause();
	return ghost;
}

static void banish_ghost(pid_t ghost)
{
	if (ghost <= 0)
		return;
	kill(ghost, SIGKILL);
	while (waitpid(ghost, NULL, __WALL) < 0 && errno == EINTR)
		;
}

/* One that was sent before anybody asked for credentials has nobody's. */
static bool has_credentials(const St__SocketMessage *m)
{
	enum { NOBODY = 65534 };
	const St__SocketCredentials *c = m->credentials;

	return c && (c->pid || c->uid != NOBODY || c->gid != NOBODY);
}

/* One message, whole. */
int unix_send_message(const struct restore *r, int fd, const struct sockaddr *to, socklen_t to_len,
	const St__SocketMessage *m, struct error *e)
{
	_Alignas(struct cmsghdr) char control[CONTROL_SIZE];
	St__SocketCredentials ours = ST__SOCKET_CREDENTIALS__INIT;
	int old_size = -1, old_lock = 0, result = 0;
	size_t done = 0;
	pid_t ghost = 0;

	if (m->credentials) {
		ours.pid = m->credentials->pid;
		ours.uid = m->credentials->uid;
		ours.gid = m->credentials->gid;
	}
	do {
		struct iovec iov = {m->data.data + done, m->data.len - done};
		struct msghdr h = {
			.msg_name = (void *)to, .msg_namelen = to_len, .msg_iov = &iov, .msg_iovlen = 1};
		ssize_t n;

		memset(control, 0, sizeof(control));
		if (has_credentials(m))
			add_credentials(&h, control, &ours);
		if (done == 0 && add_files(r, &h, control, m, e) < 0)
			return -EBADMSG;
		n = sendmsg(fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0)
			done += n;
		else if (errno == ESRCH && ours.pid && !ghost)
			ghost = summon_ghost(ours.pid);
		else if (errno == ESRCH && ours.pid)
			ours.pid = 0; /* that pid is not to be had: no pid namespace of its own */
		else if (errno != EAGAIN && errno != EMSGSIZE && errno != ENOBUFS)
			result = -errno;
		else
			result = grow_buffer(fd, &old_size, &old_lock);
	} while (result == 0 && done < m->data.len);
	shrink_buffer(fd, old_size, old_lock);
	banish_ghost(ghost);
	return result < 0
		       ? error_errno(e, result, "put %zu bytes into the queue of a unix socket", m->data.len)
		       : 0;
}
