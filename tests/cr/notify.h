/* SPDX-License-Identifier: Apache-2.0 */
/* Filters with a listener, and those who answer: for seccomp_notify*.c. */
#pragma once

#include "cr.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static CR_UNUSED void load_error(int nr, int e)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | e),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

/* Of getpgid, and of much that nobody here calls. */
static CR_UNUSED int load_notify(unsigned flags)
{
	static const int calls[] = {SYS_getpgid, SYS_personality, SYS_getitimer, SYS_sigaltstack,
		SYS_setresuid, SYS_setresgid, SYS_capset, SYS_setsid, SYS_setpgid, SYS_arch_prctl,
		SYS_timer_create, SYS_setns, SYS_unshare, SYS_pidfd_open, SYS_pidfd_getfd, SYS_sched_setattr,
		SYS_mremap, SYS_fchdir, SYS_umask};
	enum { N = sizeof(calls) / sizeof(calls[0]) };
	struct sock_filter code[2 * N + 2] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	struct sock_fprog program = {2 * N + 2, code};

	for (int i = 0; i < N; i++) {
		code[1 + 2 * i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1);
		code[2 + 2 * i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	}
	code[1 + 2 * N] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	return must(syscall(
		SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | flags, &program));
}

static CR_UNUSED void give(int socket, int fd)
{
	char space[CMSG_SPACE(sizeof(int))] = {}, c = 'x';
	struct iovec v = {&c, 1};
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);

	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	must(sendmsg(socket, &m, 0));
	close(fd);
	close(socket);
}

/* As that number. */
static CR_UNUSED int take(int socket, int as)
{
	char space[CMSG_SPACE(sizeof(int))], c;
	struct iovec v = {&c, 1};
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
	int fd;

	must(recvmsg(socket, &m, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	must(dup2(fd, as));
	close(fd);
	close(socket);
	return as;
}

static CR_UNUSED void ask(const char *who, int n)
{
	long r = syscall(SYS_getpgid, n);

	check(r == 2 * n + 1, "%s: getpgid(%d) gives %ld, %m", who, n, r);
}

static CR_UNUSED struct seccomp_notif receive(int listener)
{
	struct seccomp_notif n = {};

	must(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n));
	check(n.data.nr == SYS_getpgid, "notified of call %d", n.data.nr);
	return n;
}

static CR_UNUSED int answer(int listener, const struct seccomp_notif *n)
{
	struct seccomp_notif_resp r = {.id = n->id, .val = 2 * (int64_t)n->data.args[0] + 1};

	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

static CR_UNUSED int events_of(int fd, int timeout)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return must(poll(&p, 1, timeout)) ? p.revents : 0;
}

/* What others wait for is answered as long as one of them is to come. */
static CR_UNUSED void serve(int listener, int n)
{
	for (; n > 0; n--) {
		struct seccomp_notif got;

		check(events_of(listener, 10000) == POLLIN, "nobody asks: %d more to come", n);
		got = receive(listener);
		check(answer(listener, &got) == 0, "answer: %m");
	}
}

static CR_UNUSED void make_pair(int pair[2])
{
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}
