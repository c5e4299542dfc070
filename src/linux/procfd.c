/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/procfd.h"

#include <linux/magic.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "linux/procfs.h"

/* linux/pidfd.h of 6.15, newer than our headers */
struct pidfd_info {
	uint64_t mask, cgroupid;
	uint32_t pid, tgid, ppid, ids[8];
	int32_t exit_code;
};
_Static_assert(sizeof(struct pidfd_info) == 64, "PIDFD_INFO_SIZE_VER0");
#define PIDFD_GET_INFO _IOWR(0xFF, 11, struct pidfd_info)
#define PIDFD_INFO_EXIT (1 << 3)

int pidfd_open_process(pid_t pid)
{
	int fd = syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

int pidfd_kill(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

int pidfd_wait_exit(int pidfd, int timeout_ms)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n > 0;
}

int pidfd_reap(int pidfd, int *ret_status)
{
	siginfo_t si = {0};
	int r;

	do
		r = waitid(P_PIDFD, pidfd, &si, WEXITED);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	/* the encoding of wait(2): W_EXITCODE(status, signal) */
	*ret_status = si.si_code == CLD_EXITED ? (si.si_status & 0xff) << 8
					       : si.si_status | (si.si_code == CLD_DUMPED ? 0x80 : 0);
	return 0;
}

pid_t pidfd_pid(int pidfd)
{
	char path[40], buf[1024];
	const char *line;
	ssize_t n;
	long pid;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	n = read_small_file_at(AT_FDCWD, path, buf, sizeof(buf));
	if (n < 0)
		return n;
	line = strstr(buf, "\nPid:");
	pid = line ? strtol(line + 5, NULL, 10) : 0;
	return pid > 0 ? pid : -ESRCH;
}

int pidfd_exit_status(int pidfd, int *ret_status)
{
	struct pidfd_info info = {.mask = PIDFD_INFO_EXIT};
	char path[40], buf[1024];
	struct proc_stat stat;
	pid_t pid = pidfd_pid(pidfd);

	if (pid > 0) { /* not reaped yet */
		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		if (read_small_file_at(AT_FDCWD, path, buf, sizeof(buf)) > 0 && pidfd_pid(pidfd) == pid &&
			proc_parse_stat(buf, &stat) == 0 && (stat.state == 'Z' || stat.state == 'X')) {
			*ret_status = stat.exit_code;
			return 0;
		}
	}
	if (ioctl(pidfd, PIDFD_GET_INFO, &info) < 0 || !(info.mask & PIDFD_INFO_EXIT))
		return -ENODATA;
	*ret_status = info.exit_code;
	return 0;
}

static bool is_procfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

int procfs_open(void)
{
	_cleanup_close_ int fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return is_procfs(fd) ? take_fd(&fd) : -ENOTSUP;
}

int procfs_write(int proc, const char *path, const char *value)
{
	struct open_how how = {
		.flags = O_WRONLY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	_cleanup_close_ int fd = syscall(SYS_openat2, proc, path, &how, sizeof(how));

	if (fd < 0)
		return -errno;
	if (!is_procfs(fd))
		return -EXDEV;
	return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

int process_start_time(pid_t pid, uint64_t *ret)
{
	char path[40], buf[1024], *p;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	n = read_small_file_at(AT_FDCWD, path, buf, sizeof(buf));
	if (n < 0)
		return n == -ENOENT ? -ESRCH : n;
	p = strrchr(buf, ')'); /* the name may contain anything, but not after its last parenthesis */
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p)
		return -EBADMSG;
	*ret = strtoull(p + 1, NULL, 10);
	return *ret ? 0 : -EBADMSG;
}

bool process_awaits_others(pid_t pid)
{
	enum { FLAG_EXITING = 4 }; /* PF_EXITING */
	struct proc_stat st;

	/* Without memory: where it starts is told as 0. It sleeps in zap_pid_ns_processes() then, which comes after all that it gives back. */
	return proc_read_stat(pid, &st) == 0 && st.flags & FLAG_EXITING && st.state == 'S' &&
	       st.num_threads == 1 && st.start_code == 0;
}
