/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pidfds of a living child (by pidfd_open and by clone), of oneself, of a zombie, of one that has been reaped; with
 * PIDFD_NONBLOCK and PIDFD_THREAD; shared with a child; watched by epoll.
 */
#include "cr.h"

#include <linux/sched.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

struct exit_info {
	uint64_t mask, cgroup;
	uint32_t pid, tgid, ppid, ids[8];
	int32_t exit_code;
	uint32_t room[8];
};

static pid_t living, cloned, zombie;
static int living_fd, cloned_fd, zombie_fd, gone_fd[2], self_fd, thread_fd, other_gone, ep;
static bool has_info;

static int open_pidfd(pid_t pid, unsigned flags)
{
	return syscall(SYS_pidfd_open, pid, flags);
}

/* The pid that fdinfo names. */
static int pid_of(int fd)
{
	char path[64], text[1024], *p;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	must(cr_read(path, text, sizeof(text)));
	p = strstr(text, "\nPid:");
	return p ? atoi(p + 5) : -2;
}

static int ready(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return must(poll(&p, 1, 0));
}

static int exit_code(int fd)
{
	struct exit_info info = {.mask = 1 << 3};

	if (ioctl(fd, _IOWR(0xff, 11, struct exit_info), &info) < 0 || !(info.mask & 1 << 3))
		return -1;
	return info.exit_code;
}

static pid_t fork_ended(int status)
{
	pid_t pid = must(fork());

	if (pid == 0)
		_exit(status);
	must(waitid(P_PID, pid, NULL, WEXITED | WNOWAIT));
	return pid;
}

static int reaped(int status, int *ret_second)
{
	pid_t pid = fork_ended(status);
	int fd = must(open_pidfd(pid, 0));

	if (ret_second)
		*ret_second = must(open_pidfd(pid, 0));
	must(waitpid(pid, NULL, 0));
	return fd;
}

static void idle(void)
{
	for (;;)
		pause();
}

static void watch(int fd, uint64_t data)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u64 = data};

	must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
}

static void set_up(void)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD, .pidfd = (uint64_t)&cloned_fd, .exit_signal = SIGCHLD};

	living = must(fork());
	if (living == 0)
		idle();
	living_fd = must(open_pidfd(living, O_NONBLOCK));
	cloned = must(syscall(SYS_clone3, &args, sizeof(args)));
	if (cloned == 0)
		idle();
	zombie = fork_ended(9);
	zombie_fd = must(open_pidfd(zombie, 0));
	gone_fd[0] = reaped(7, &gone_fd[1]);
	other_gone = reaped(8, NULL);
	has_info = exit_code(gone_fd[0]) == 7 << 8;
	self_fd = must(open_pidfd(getpid(), 0));
	thread_fd = open_pidfd(getpid(), O_EXCL /* PIDFD_THREAD, Linux 6.9 */);
	ep = must(epoll_create1(0));
	watch(living_fd, 1);
	watch(zombie_fd, 2);
	watch(gone_fd[1], 4);
}

static void check_gone(void)
{
	struct stat a, b, c;

	for (int i = 0; i < 2; i++)
		check(syscall(SYS_pidfd_send_signal, gone_fd[i], 0, NULL, 0) == -1 && errno == ESRCH &&
				ready(gone_fd[i]) == 1 && pid_of(gone_fd[i]) == -1,
			"the one that is gone: %m, pid %d", pid_of(gone_fd[i]));
	must(fstat(gone_fd[0], &a));
	must(fstat(gone_fd[1], &b));
	must(fstat(other_gone, &c));
	check(a.st_ino == b.st_ino, "two pidfds of one process are of two now");
	if (!has_info)
		return;
	check(a.st_ino != c.st_ino, "pidfds of two processes are of one now");
	check(exit_code(gone_fd[1]) == 7 << 8, "it ended with %x", exit_code(gone_fd[1]));
	check(exit_code(other_gone) == 8 << 8, "the other one ended with %x", exit_code(other_gone));
}

static void check_epoll(void)
{
	struct epoll_event e[4];
	uint64_t data = 0;
	int n = must(epoll_wait(ep, e, 4, 0));

	for (int i = 0; i < n; i++)
		data |= e[i].data.u64;
	check(n == 2 && data == 6, "epoll: %d, %lx", n, (long)data);
}

int main(void)
{
	siginfo_t info;

	set_up();
	if (cr_fork("sharer") == 0) {
		while (cr_wait())
			check(pid_of(living_fd) == living, "in the child: pid %d", pid_of(living_fd));
		return 0;
	}
	while (cr_wait()) {
		check(syscall(SYS_pidfd_send_signal, living_fd, 0, NULL, 0) == 0 && !ready(living_fd) &&
				pid_of(living_fd) == living,
			"the living child: %m, pid %d", pid_of(living_fd));
		check((must(fcntl(living_fd, F_GETFL)) & O_NONBLOCK) && !fcntl(living_fd, F_GETFD) == 0,
			"flags");
		check(waitid(3 /* P_PIDFD */, living_fd, &info, WEXITED) == -1 && errno == EAGAIN,
			"PIDFD_NONBLOCK: %m");
		check(pid_of(cloned_fd) == cloned && fcntl(cloned_fd, F_GETFD) == FD_CLOEXEC,
			"the one by clone: pid %d", pid_of(cloned_fd));
		check(ready(zombie_fd) == 1 && pid_of(zombie_fd) == zombie, "the zombie: pid %d",
			pid_of(zombie_fd));
		must(waitid(3, zombie_fd, &info, WEXITED | WNOWAIT));
		check(info.si_pid == zombie && info.si_status == 9, "it ended with %d", info.si_status);
		check_gone();
		check(pid_of(self_fd) == getpid(), "oneself: pid %d", pid_of(self_fd));
		check(thread_fd < 0 ||
				((fcntl(thread_fd, F_GETFL) & O_EXCL) && pid_of(thread_fd) == getpid()),
			"PIDFD_THREAD: pid %d", pid_of(thread_fd));
		check_epoll();
	}
	return 0;
}
