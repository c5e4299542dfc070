/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between two commands somebody must hold the descriptors by which memory is watched. It is a process of ours without any
 * work: it sleeps until the container ends, or until somebody connects to its socket in the state directory. It gives what it
 * has, or ends, if it is told to. What it has never changes: a new round has a new holder.
 *
 * If it is killed, the kernel ends the watching. Then the next checkpoint copies everything.
 */
#include "checkpoint/native/track.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/fd.h"

#define HOLD_SOCKET "watch"

/* One message; with "descriptor", that is of one memory. */
struct held {
	uint64_t n, image; /* of all */
	uint64_t pid, start_time, space;
};

enum { ASK_GIVE = 'g', ASK_END = 'e', PATIENCE_MS = 5000 };

static int hold_socket(const struct container *c, struct sockaddr_un *a)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	/* by descriptor: the state root's path may be longer than sun_path */
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/" HOLD_SOCKET, c->dir_fd);
	return fd < 0 ? -errno : fd;
}

static int send_held(int fd, const struct held *h, int descriptor)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct iovec v = {(void *)h, sizeof(*h)};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

	if (descriptor >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control.room);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &descriptor, sizeof(int));
	}
	return sendmsg(fd, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int receive_held(int fd, struct held *ret, int *ret_descriptor)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct iovec v = {ret, sizeof(*ret)};
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	struct cmsghdr *h;
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);

	*ret_descriptor = -EBADF;
	h = n < 0 ? NULL : CMSG_FIRSTHDR(&m);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
		memcpy(ret_descriptor, CMSG_DATA(h), sizeof(int));
	if (n == sizeof(*ret))
		return 0;
	close_p(ret_descriptor);
	return -EBADMSG;
}

/* ---- the holder ---- */

static void give_all(int fd, const struct track *t)
{
	struct held h = {.n = t->n, .image = t->image};

	if (send_held(fd, &h, -1) < 0)
		return;
	for (size_t i = 0; i < t->n; i++) {
		h.pid = t->mms[i].pid;
		h.start_time = t->mms[i].start_time;
		h.space = t->mms[i].space;
		if (send_held(fd, &h, t->mms[i].uffd) < 0)
			return;
	}
}

static bool is_ours(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

static void be_patient(int fd)
{
	struct timeval limit = {.tv_sec = PATIENCE_MS / 1000};

	(void)!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)!setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

/* Those who are asked to end close the descriptors before the caller notices that they have. */
static void serve(int listening, struct track *t)
{
	_cleanup_close_ int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	char ask;

	if (fd < 0 || !is_ours(fd))
		return;
	be_patient(fd);
	while (recv(fd, &ask, 1, 0) == 1) {
		if (ask == ASK_GIVE) {
			give_all(fd, t);
		} else if (ask == ASK_END) {
			track_done(t);
			_exit(0);
		}
	}
}

/* Keeps the listed descriptors and no others. */
static void close_others(int pidfd, int listening, const struct track *t)
{
	for (int fd = 0; fd < 1 << 16; fd++) {
		bool kept = fd == pidfd || fd == listening;

		for (size_t i = 0; i < t->n && !kept; i++)
			kept = t->mms[i].uffd == fd;
		if (!kept)
			close(fd);
	}
	close_range(1 << 16, ~0U, 0);
	/* what is printed by mistake goes nowhere */
	for (int fd = open("/dev/null", O_RDWR); fd >= 0 && fd < 2; fd = dup(fd))
		;
}

static _Noreturn void hold(int pidfd, int listening, struct track *t)
{
	struct pollfd fds[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = listening, .events = POLLIN}};

	setsid();
	prctl(PR_SET_NAME, "stasis-watch");
	signal(SIGTERM, SIG_DFL);
	(void)!chdir("/");
	close_others(pidfd, listening, t);
	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			_exit(1);
		if (fds[0].revents)
			_exit(0);
		if (fds[1].revents)
			serve(listening, t);
	}
}

int track_hold(struct container *c, const struct track *t, struct error *e)
{
	_cleanup_close_ int listening = -EBADF, pidfd = container_init_pidfd(c);
	struct sockaddr_un a;
	pid_t pid;

	if (pidfd < 0)
		return error_errno(e, pidfd, "find the container's init process");
	listening = hold_socket(c, &a);
	if (listening < 0)
		return error_errno(e, listening, "make the socket of who watches memory");
	unlinkat(c->dir_fd, HOLD_SOCKET, 0);
	if (bind(listening, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listening, 8) < 0)
		return error_errno(e, -errno, "make the socket of who watches memory");
	pid = fork();
	if (pid < 0) {
		unlinkat(c->dir_fd, HOLD_SOCKET, 0);
		return error_errno(e, -errno, "fork");
	}
	if (pid == 0)
		hold(pidfd, listening, &(struct track){t->mms, t->n, t->allocated, t->image, TRACK_INIT});
	return 0;
}

/* ---- who asks ---- */

static int receive_all(int fd, struct track *ret)
{
	struct held h;
	int none, r = receive_held(fd, &h, &none);

	close_p(&none);
	if (r < 0 || h.n > 1 << 20)
		return -EBADMSG;
	ret->image = h.image;
	ret->mms = calloc(MAX(h.n, UINT64_C(1)), sizeof(*ret->mms));
	if (!ret->mms)
		return -ENOMEM;
	ret->allocated = h.n;
	while (ret->n < ret->allocated) {
		struct track_mm *mm = &ret->mms[ret->n];

		r = receive_held(fd, &h, &mm->uffd);
		if (r < 0)
			return r;
		mm->pid = h.pid;
		mm->start_time = h.start_time;
		mm->space = h.space;
		ret->n++;
		if (mm->uffd < 0)
			return -EBADMSG;
	}
	return 0;
}

void track_fetch(struct container *c, bool drop, struct track *ret)
{
	struct sockaddr_un a;
	_cleanup_close_ int fd = hold_socket(c, &a);
	char ask = ASK_GIVE;

	*ret = (struct track){TRACK_INIT};
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return;
	be_patient(fd);
	if (send(fd, &ask, 1, MSG_NOSIGNAL) != 1 || receive_all(fd, ret) < 0)
		track_done(ret);
	ask = ASK_END;
	/* It ends: then we are told so by the end of the connection. */
	if (drop && send(fd, &ask, 1, MSG_NOSIGNAL) == 1)
		(void)!recv(fd, &ask, 1, 0);
}
