/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,running,again,userns cgroup=1 */
/*
 * Files of /proc, /sys and the cgroup held open: of oneself, a child, a zombie, a process that is gone; a directory of
 * /proc, also as a working directory; and the container's own namespaces.
 */
#include "cr.h"

static pid_t child, zombie, gone;
static int self_maps, child_stat, child_mem, child_dir, child_fds, own_fds, zombie_stat, gone_stat, gone_dir,
	mounts, sys, net, mnt, path_ns, cgroup;
static volatile long value = 0x1234567890;

static int open_of(pid_t pid, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return must(open(path, flags));
}

static void check_stat(int fd, pid_t pid, const char *what)
{
	char text[1024] = "";

	must(lseek(fd, 0, SEEK_SET));
	check(read(fd, text, sizeof(text) - 1) > 0, "stat of %s: %m", what);
	check(atoi(text) == pid, "stat of %s is of %s", what, text);
}

static void check_namespace(int fd, const char *name)
{
	char path[64], own[64] = "", held[64] = "";

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	must(readlink(path, own, sizeof(own) - 1));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	must(readlink(path, held, sizeof(held) - 1));
	check(!strcmp(own, held), "namespace %s is held, ours is %s", held, own);
}

/* Any cgroup hierarchy that the container sees. */
static int open_cgroup(void)
{
	static const char *const paths[] = {"/sys/fs/cgroup/cgroup.procs",
		"/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/pids/cgroup.procs",
		"/sys/fs/cgroup/cpu/cgroup.procs"};

	for (size_t i = 0; i < 4; i++) {
		int fd = open(paths[i], O_RDONLY);

		if (fd >= 0)
			return fd;
	}
	fail("no cgroup is seen");
}

static void check_cgroup(void)
{
	char text[4096] = "";

	must(lseek(cgroup, 0, SEEK_SET));
	check(read(cgroup, text, sizeof(text) - 1) > 0 && strstr(text, "1\n"), "the cgroup's processes: %s",
		text);
}

static void set_up(void)
{
	child = must(fork());
	if (child == 0)
		for (;;)
			pause();
	zombie = must(fork());
	if (zombie == 0)
		_exit(3);
	must(waitid(P_PID, zombie, NULL, WEXITED | WNOWAIT));
	gone = must(fork());
	if (gone == 0)
		for (;;)
			pause();
	self_maps = must(open("/proc/self/maps", O_RDONLY));
	child_stat = open_of(child, "stat", O_RDONLY);
	child_mem = open_of(child, "mem", O_RDWR);
	child_dir = open_of(child, "task", O_RDONLY | O_DIRECTORY);
	child_fds = open_of(child, "fd", O_RDONLY | O_DIRECTORY); /* it has a size since Linux 6.2 */
	own_fds = must(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
	zombie_stat = open_of(zombie, "stat", O_RDONLY);
	gone_stat = open_of(gone, "stat", O_RDONLY);
	gone_dir = open_of(gone, "", O_RDONLY | O_DIRECTORY);
	must(kill(gone, SIGKILL));
	must(waitpid(gone, NULL, 0));
	mounts = must(open("/proc/self/mountinfo", O_RDONLY));
	sys = must(open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY));
	net = must(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
	mnt = must(open("/proc/self/ns/mnt", O_RDONLY));
	path_ns = must(open("/proc/self/ns/pid", O_PATH));
	cgroup = open_cgroup();
}

int main(void)
{
	char text[4096];
	long seen = 0;

	set_up();
	if (cr_fork("cwd") == 0) {
		snprintf(text, sizeof(text), "/proc/%d/task", child);
		must(chdir(text));
		while (cr_wait()) {
			snprintf(text, sizeof(text), "%d/stat", child);
			check(access(text, F_OK) == 0, "the working directory in /proc: %m");
			check_stat(child_stat, child, "the sibling");
		}
		return 0;
	}
	while (cr_wait()) {
		check(read(self_maps, text, 100) == 100, "maps: %m");
		must(lseek(self_maps, 0, SEEK_SET));
		check_stat(child_stat, child, "the child");
		check(pread(child_mem, &seen, 8, (off_t)&value) == 8 && seen == value,
			"the child's memory: %m");
		check(faccessat(child_dir, "..", F_OK, 0) == 0, "the child's directory: %m");
		check(faccessat(child_fds, "0", F_OK, 0) == 0, "the child's descriptors: %m");
		snprintf(text, sizeof(text), "%d", own_fds);
		check(faccessat(own_fds, text, F_OK, 0) == 0, "my descriptors: %m");
		check_stat(zombie_stat, zombie, "the zombie");
		check(read(gone_stat, text, 10) == -1 && errno == ESRCH, "stat of who is gone: %m");
		check(openat(gone_dir, "stat", O_RDONLY) == -1, "the directory of who is gone lives");
		check(pread(mounts, text, 100, 0) == 100, "mountinfo: %m");
		check(pread(sys, text, 10, 0) == 10, "sysfs: %m");
		check_namespace(net, "net");
		check_namespace(mnt, "mnt");
		check_namespace(path_ns, "pid");
		check_cgroup();
	}
	return 0;
}
