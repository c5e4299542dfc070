/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/sys/kernel/ns_last_pid is that of the namespace in which its reader lives, so a helper is born there: with a pid
 * that is asked for (clone3 with set_tid, Linux 5.5), as this leaves the cursor where it is.
 */
#include "checkpoint/native/pid-cursor.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "linux/clone.h"

/* The helper. Other threads of ours may be in the middle of anything: only system calls. */
static _Noreturn void keep(int end, int other)
{
	char text[32], done = 0;
	ssize_t n;
	int fd;

	close(other);
	fd = open("/proc/sys/kernel/ns_last_pid", O_RDWR | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	done = n > 0;
	if (write(end, &done, 1) == 1 && done) {
		while (read(end, &done, 1) < 0 && errno == EINTR)
			;
		done = pwrite(fd, text, n, 0) == n;
		(void)!write(end, &done, 1);
	}
	_exit(0);
}

/* With a pid that nobody has, from the far end. */
static pid_t fork_there(int ours, int its)
{
	pid_t pid = -1;

	for (int i = 0; i < 64; i++) {
		pid_t tid = i < 32 ? 32767 - i : 300 - i; /* where kernel.pid_max is low */
		struct clone_args args = {
			.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&tid, .set_tid_size = 1};

		pid = syscall(SYS_clone3, &args, sizeof(args));
		if (pid == 0)
			keep(its, ours);
		if (pid > 0 || (errno != EEXIST && errno != EINVAL))
			break;
	}
	return pid < 0 ? -errno : pid;
}

static pid_t fork_in(pid_t of, int ours, int its)
{
	_cleanup_close_ int there = -EBADF, here = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	char path[64];
	pid_t pid;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", of);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (here < 0 || there < 0 || setns(there, CLONE_NEWPID) < 0)
		return -errno;
	pid = fork_there(ours, its);
	return ns_return(here, CLONE_NEWPID) < 0 ? -EIO : pid;
}

static int answer(int end)
{
	char done = 0;
	ssize_t n;

	while ((n = read(end, &done, 1)) < 0 && errno == EINTR)
		;
	return n == 1 && done ? 0 : -EIO;
}

static void end_helper(struct pid_cursor *c)
{
	close_p(&c->end);
	while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
		;
	c->pid = 0;
}

int pid_cursor_hold(pid_t of, struct pid_cursor *ret)
{
	_cleanup_close_ int its = -EBADF;
	int ends[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	its = ends[1];
	*ret = (struct pid_cursor){.end = ends[0]};
	ret->pid = fork_in(of, ends[0], its);
	close_p(&its);
	if (ret->pid < 0) {
		r = ret->pid;
		*ret = (struct pid_cursor){.end = -EBADF};
		close(ends[0]);
		return r;
	}
	r = answer(ret->end);
	if (r < 0)
		end_helper(ret);
	return r;
}

int pid_cursor_release(struct pid_cursor *c)
{
	int r;

	if (!c->pid)
		return 0;
	r = write(c->end, "", 1) == 1 ? answer(c->end) : -EIO;
	end_helper(c);
	return r;
}
