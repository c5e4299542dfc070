/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/clone.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "linux/idmap.h"

pid_t clone_fork_as(pid_t want, uint64_t flags, int cgroup_fd, int *ret_pidfd)
{
	int pidfd = -EBADF;
	struct clone_args args = {
		.flags = flags | CLONE_PIDFD,
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD, /* the parent's own, else */
		.set_tid = want ? (uintptr_t)&want : 0,
		.set_tid_size = want ? 1 : 0,
	};
	pid_t pid;

	if (cgroup_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP; /* 5.7 */
		args.cgroup = cgroup_fd;
	}
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return -errno;
	if (pid > 0)
		*ret_pidfd = pidfd;
	return pid;
}

pid_t clone_fork(uint64_t flags, int cgroup_fd, int *ret_pidfd)
{
	return clone_fork_as(0, flags, cgroup_fd, ret_pidfd);
}

int thread_setgroups(size_t n, const gid_t *groups)
{
	return syscall(SYS_setgroups, n, groups);
}

int thread_setresgid(gid_t id)
{
	return syscall(SYS_setresgid, id, id, id);
}

int thread_setresuid(uid_t id)
{
	return syscall(SYS_setresuid, id, id, id);
}

int ns_return(int fd, int flag)
{
	if (setns(fd, flag) == 0)
		return 0;
	return errno == EPERM && !idmap_is_initial() ? 0 : -errno;
}
