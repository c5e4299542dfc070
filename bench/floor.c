// SPDX-License-Identifier: Apache-2.0
/*
 * floor IMAGES [RUNS [ONLY]]: what the kernel alone costs for the work that no runtime can leave out, so that a figure in the
 * tables can be read against what is possible. Prints one JSON object: a name, then [median, p10, p90] in us.
 *
 * Each case does in plain system calls, prepared as far as possible, what a checkpoint or restore of one workload must do
 * at the least. IMAGES is a directory for files. Runs in the bench's namespaces (`enter`): it makes and removes cgroups.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	MAX_RUNS = 100,
	PROCESSES = 50,
	PROCESS_BYTES = 72 << 12 /* private memory of each */,
	THREADS = 100,
	FDS = 1000,
	SOCKETS = 250, /* of them */
	OPTIONS = 34,  /* that a program can set on a unix socket, and what else is asked of one */
	BIG = 1 << 30,
	CHUNK = 1 << 20
};

#define ROOTFS "/cache/rootfs-min" /* see setup */

static const char *images;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static pid_t clone_with(uint64_t flags)
{
	struct clone_args a = {.flags = flags, .exit_signal = SIGCHLD};
	pid_t pid = (pid_t)syscall(SYS_clone3, &a, sizeof(a));

	if (pid < 0)
		die("clone3");
	return pid;
}

static void reap(pid_t pid)
{
	if (waitpid(pid, NULL, __WALL) < 0)
		die("waitpid");
}

/* Every case returns the microseconds of what it measures; setting up and tearing down is not in it. */

static double exec_true(void)
{
	double t = now_us();
	pid_t pid = vfork();

	if (pid == 0) {
		execl("/bin/busybox", "true", (char *)NULL);
		_exit(127);
	}
	reap(pid);
	return now_us() - t;
}

static double clone_namespaces(uint64_t more)
{
	double t = now_us();
	pid_t pid =
		clone_with(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | more);

	if (pid == 0)
		_exit(0);
	reap(pid);
	return now_us() - t;
}

static double namespaces_but_net(void)
{
	return clone_namespaces(0);
}

static double namespaces_all(void)
{
	return clone_namespaces(CLONE_NEWNET);
}

/* runs f in a child made with these flags, so that all it made ends with it */
static double in_child(uint64_t flags, double (*f)(void))
{
	double *took = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), us;
	pid_t pid;

	if (took == MAP_FAILED)
		die("mmap");
	pid = clone_with(flags);
	if (pid == 0) {
		*took = f();
		_exit(0);
	}
	reap(pid);
	us = *took;
	munmap(took, 4096);
	return us;
}

/* The mounts of `runc spec`: on one directory, or in a root for containers, which is the working directory. */
static void mount_seven(const char *one)
{
	static const struct {
		const char *type, *where, *data;
	} m[] = {
		{"proc", "proc", NULL},
		{"tmpfs", "dev", "mode=755"},
		{"devpts", "dev/pts", "newinstance,ptmxmode=0666"},
		{"tmpfs", "dev/shm", NULL},
		{"mqueue", "dev/mqueue", NULL},
		{"sysfs", "sys", NULL},
		{"tmpfs", "sys/fs/cgroup", "mode=755"},
	};

	for (size_t i = 0; i < sizeof(m) / sizeof(*m); i++) {
		if (!one && !strncmp(m[i].where, "dev/", 4) && mkdir(m[i].where, 0755) < 0)
			die(m[i].where);
		if (mount(m[i].type, one ? one : m[i].where, m[i].type, MS_NOSUID, m[i].data) < 0)
			die(m[i].type);
	}
}

static double mount_all(void)
{
	double t = now_us();

	mount_seven(images);
	return now_us() - t;
}

static double mounts(void)
{
	return in_child(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET, mount_all);
}

/* what `run true` can't do without: namespaces, mounts, a root of its own, exec; no cgroup, no state, nothing checked */
static double container(void)
{
	double t = now_us();
	pid_t pid = clone_with(
		CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNET);

	if (pid == 0) {
		char *const argv[] = {"true", NULL};

		if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
			mount(ROOTFS, ROOTFS, NULL, MS_BIND | MS_REC, NULL) < 0 || chdir(ROOTFS) < 0)
			die("root");
		mount_seven(NULL);
		if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
			die("pivot_root");
		execv("/bin/true", argv);
		die("/bin/true");
	}
	reap(pid);
	return now_us() - t;
}

static void write_pid(const char *dir, pid_t pid)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || dprintf(fd, "%d", pid) < 0)
		die(path);
	close(fd);
}

static size_t cgroups_make(char paths[][512], size_t max)
{
	DIR *d = opendir("/sys/fs/cgroup");
	struct dirent *e;
	char cmd[1200];
	size_t n = 0;

	if (!d)
		die("/sys/fs/cgroup");
	while (n < max && (e = readdir(d))) {
		if (e->d_name[0] == '.' || e->d_type != DT_DIR)
			continue;
		snprintf(paths[n], 512, "/sys/fs/cgroup/%.200s/bench-floor", e->d_name);
		if (mkdir(paths[n], 0755) < 0 && errno != EEXIST)
			die(paths[n]);
		if (!strcmp(e->d_name, "cpuset")) { /* takes no task before it has these */
			snprintf(cmd, sizeof(cmd),
				"cd %s && cat ../cpuset.cpus > cpuset.cpus && cat ../cpuset.mems > "
				"cpuset.mems",
				paths[n]);
			if (system(cmd))
				die(cmd);
		}
		n++;
	}
	closedir(d);
	return n;
}

/* one process into a new group of every v1 hierarchy in sight */
static double cgroup_move(unsigned int idle)
{
	char paths[32][512];
	size_t n = cgroups_make(paths, 32);
	double us;
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	sleep(idle);
	us = now_us();
	for (size_t i = 0; i < n; i++)
		write_pid(paths[i], pid);
	us = now_us() - us;
	kill(pid, SIGKILL);
	reap(pid);
	for (size_t i = 0; i < n; i++)
		for (int k = 0; rmdir(paths[i]) < 0 && errno == EBUSY && k < 100; k++)
			usleep(1000);
	return us;
}

static double cgroup_move_busy(void)
{
	return cgroup_move(0);
}

static double cgroup_move_idle(void)
{
	return cgroup_move(2);
}

static int started[2]; /* a pipe: each new task says so in it */

static void *task(void *arg)
{
	(void)arg;
	if (write(started[1], "", 1) != 1)
		die("write");
	for (;;)
		pause();
	return NULL;
}

static void tasks_wait(int n)
{
	char buf[THREADS];

	while (n > 0) {
		ssize_t r = read(started[0], buf, n);

		if (r <= 0)
			die("read");
		n -= (int)r;
	}
}

static void tasks_start(int n, bool threads)
{
	if (pipe2(started, O_CLOEXEC) < 0)
		die("pipe");
	for (int i = 0; i < n; i++) {
		pthread_t t;

		if (threads) {
			errno = pthread_create(&t, NULL, task, NULL);
			if (errno)
				die("pthread_create");
		} else if (fork() == 0) {
			task(NULL);
		}
	}
	tasks_wait(n);
}

static double processes_in(void)
{
	double t = now_us();

	tasks_start(PROCESSES, false);
	return now_us() - t;
}

/* in a PID namespace, so that they end with their parent */
static double processes_start(void)
{
	return in_child(CLONE_NEWPID, processes_in);
}

static double threads_in(void)
{
	double t = now_us();

	tasks_start(THREADS, true);
	return now_us() - t;
}

static double threads_start(void)
{
	return in_child(0, threads_in);
}

/* 50 processes as those of the procs50 workload: where = the memory that each has to itself */
static void processes_make(pid_t *pids, void **where)
{
	*where = mmap(NULL, PROCESS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (*where == MAP_FAILED || pipe2(started, O_CLOEXEC) < 0)
		die("processes");
	for (int i = 0; i < PROCESSES; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			die("fork");
		if (pids[i] == 0) {
			memset(*where, i + 1, PROCESS_BYTES);
			task(NULL);
		}
	}
	tasks_wait(PROCESSES);
}

static double processes_end(pid_t *pids, void *where)
{
	double t = now_us();

	for (int i = 0; i < PROCESSES; i++)
		kill(pids[i], SIGKILL);
	for (int i = 0; i < PROCESSES; i++)
		reap(pids[i]);
	t = now_us() - t;
	munmap(where, PROCESS_BYTES);
	close(started[0]);
	close(started[1]);
	return t;
}

static double processes_kill(void)
{
	pid_t pids[PROCESSES];
	void *where;

	processes_make(pids, &where);
	return processes_end(pids, where);
}

static void read_files_of(pid_t pid)
{
	static const char *const files[] = {"stat", "status", "smaps"};
	static const char *const links[] = {"ns/mnt", "ns/net", "ns/ipc", "ns/uts", "ns/pid", "ns/user",
		"ns/cgroup", "ns/time", "ns/pid_for_children", "exe", "cwd", "root", "fd/0", "fd/1", "fd/2"};
	char path[64], buf[16384];

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/%s", pid, files[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		while (read(fd, buf, sizeof(buf)) > 0)
			;
		close(fd);
	}
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", pid, links[i]);
		if (readlink(path, buf, sizeof(buf)) < 0)
			die(path);
	}
}

/* once, on one CPU; a checkpoint asks more */
static double processes_read(void)
{
	pid_t pids[PROCESSES];
	void *where;
	double t;

	processes_make(pids, &where);
	t = now_us();
	for (int i = 0; i < PROCESSES; i++)
		read_files_of(pids[i]);
	t = now_us() - t;
	processes_end(pids, where);
	return t;
}

/* their own memory, into a new file in the page cache */
static double processes_copy(void)
{
	static char buf[PROCESS_BYTES];
	pid_t pids[PROCESSES];
	char path[4096];
	void *where;
	double t;
	int fd;

	processes_make(pids, &where);
	snprintf(path, sizeof(path), "%s/floor", images);
	unlink(path);
	fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		die(path);
	t = now_us();
	for (int i = 0; i < PROCESSES; i++) {
		struct iovec to = {buf, sizeof(buf)}, from = {where, sizeof(buf)};

		if (process_vm_readv(pids[i], &to, 1, &from, 1, 0) != sizeof(buf) ||
			write(fd, buf, sizeof(buf)) != sizeof(buf))
			die(path);
	}
	t = now_us() - t;
	close(fd);
	processes_end(pids, where);
	return t;
}

/* a process with THREADS threads besides its first one; n: their number, all in "tids" */
static pid_t threads_make(pid_t tids[THREADS + 1], int *n)
{
	struct dirent *e;
	char path[64];
	int ready[2];
	pid_t pid = 0;
	DIR *d;

	*n = 0;
	if (pipe(ready) < 0 || (pid = fork()) < 0)
		die("fork");
	if (pid == 0) {
		tasks_start(THREADS, true);
		if (write(ready[1], "", 1) != 1)
			die("write");
		for (;;)
			pause();
	}
	if (read(ready[0], path, 1) != 1)
		die("read");
	close(ready[0]);
	close(ready[1]);
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && *n <= THREADS && (e = readdir(d)))
		if (e->d_name[0] != '.')
			tids[(*n)++] = (pid_t)strtol(e->d_name, NULL, 10);
	closedir(d);
	return pid;
}

static void threads_seize(const pid_t *tids, int n)
{
	char regs[512];

	for (int i = 0; i < n; i++)
		if (ptrace(PTRACE_SEIZE, tids[i], 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, tids[i], 0, 0) < 0)
			die("seize");
	for (int i = 0; i < n; i++) {
		struct iovec iov = {regs, sizeof(regs)};

		reap(tids[i]);
		if (ptrace(PTRACE_GETREGSET, tids[i], 1 /* NT_PRSTATUS */, &iov) < 0)
			die("getregset");
	}
}

/* stop all threads of a process under ptrace, read the registers of each, let go */
static double threads_stop(void)
{
	pid_t tids[THREADS + 1], pid;
	double t;
	int n;

	pid = threads_make(tids, &n);
	t = now_us();
	threads_seize(tids, n);
	for (int i = 0; i < n; i++)
		if (ptrace(PTRACE_DETACH, tids[i], 0, 0) < 0)
			die("detach");
	t = now_us() - t;
	kill(pid, SIGKILL);
	reap(pid);
	return t;
}

static void read_whole(const char *path)
{
	char buf[16384];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die(path);
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
}

/* what only /proc says of a thread: before it is stopped in which call it sleeps, then whose it is and its children */
static double threads_read(void)
{
	static const char *const files[] = {"syscall", "status", "children"};
	pid_t tids[THREADS + 1], pid;
	char path[64];
	double t;
	int n;

	pid = threads_make(tids, &n);
	t = now_us();
	for (int k = 0; k < 3; k++) {
		for (int i = 0; i < n; i++) {
			snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, tids[i], files[k]);
			read_whole(path);
		}
	}
	t = now_us() - t;
	kill(pid, SIGKILL);
	reap(pid);
	return t;
}

/* who traces threads has to wait for each of them */
static double threads_kill(void)
{
	pid_t tids[THREADS + 1], pid;
	double t;
	int n;

	pid = threads_make(tids, &n);
	threads_seize(tids, n);
	t = now_us();
	kill(pid, SIGKILL);
	while (waitpid(-1, NULL, __WALL) > 0)
		;
	return now_us() - t;
}

/* what the fds workload has, without contents */
static double fds_in(void)
{
	double t = now_us();
	int p[2];

	for (int i = 0; i < FDS / 8; i++)
		if (pipe(p) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, p) < 0 || eventfd(0, 0) < 0 ||
			eventfd(0, 0) < 0 || open("/dev/null", O_RDWR) < 0 || open("/dev/null", O_RDWR) < 0)
			die("fds");
	return now_us() - t;
}

static double fds_make(void)
{
	return in_child(0, fds_in);
}

/* a process that has them; *ret: its pidfd */
static pid_t fds_process(int *ret)
{
	int ready[2];
	pid_t pid = 0;
	char c;

	if (pipe(ready) < 0 || (pid = fork()) < 0)
		die("fork");
	if (pid == 0) {
		fds_in();
		if (write(ready[1], "", 1) != 1)
			die("write");
		for (;;)
			pause();
	}
	if (read(ready[0], &c, 1) != 1)
		die("read");
	close(ready[0]);
	close(ready[1]);
	*ret = (int)syscall(SYS_pidfd_open, pid, 0);
	if (*ret < 0)
		die("pidfd_open");
	return pid;
}

/* each once, by way of a duplicate: what it is, how it is open and where it stands */
static double fds_look(void)
{
	char path[64], buf[1024];
	int pidfd, info, slot = open("/dev/null", O_RDONLY | O_CLOEXEC);
	pid_t pid = fds_process(&pidfd);
	double t;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", slot);
	info = open(path, O_RDONLY | O_CLOEXEC);
	t = now_us();
	for (int i = 3; i < 3 + FDS; i++) {
		int fd = (int)syscall(SYS_pidfd_getfd, pidfd, i, 0);

		if (fd < 0)
			continue;
		if (dup3(fd, slot, O_CLOEXEC) < 0 || pread(info, buf, sizeof(buf), 0) <= 0)
			die("fdinfo");
		close(fd);
	}
	t = now_us() - t;
	kill(pid, SIGKILL);
	reap(pid);
	close(pidfd);
	close(info);
	close(slot);
	return t;
}

static double sockets_ask(void)
{
	int p[2], value[4];
	double t;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, p) < 0)
		die("socketpair");
	t = now_us();
	for (int i = 0; i < SOCKETS * OPTIONS; i++) {
		socklen_t len = sizeof(value);

		if (getsockopt(p[0], SOL_SOCKET, SO_REUSEADDR, value, &len) < 0)
			die("getsockopt");
	}
	t = now_us() - t;
	close(p[0]);
	close(p[1]);
	return t;
}

static double fds_kill(void)
{
	int pidfd;
	pid_t pid = fds_process(&pidfd);
	double t = now_us();

	kill(pid, SIGKILL);
	reap(pid);
	t = now_us() - t;
	close(pidfd);
	return t;
}

/* filled on first use: what is forked before must not have it to copy */
static char *big_memory(void)
{
	static char *big;

	if (!big) {
		big = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (big == MAP_FAILED)
			die("mmap");
		memset(big, 1, BIG);
	}
	return big;
}

/* 1 GiB into a new file in the page cache */
static double memory_write(void)
{
	char *big = big_memory();
	char path[4096];
	double t;
	int fd;

	snprintf(path, sizeof(path), "%s/floor", images);
	unlink(path);
	fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		die(path);
	t = now_us();
	for (off_t at = 0; at < BIG; at += CHUNK)
		if (pwrite(fd, big + at, CHUNK, at) != CHUNK)
			die(path);
	t = now_us() - t;
	close(fd);
	return t;
}

/* and back into new anonymous memory, with huge pages */
static double memory_read(void)
{
	char path[4096], *p, *at;
	double t;
	int fd;

	snprintf(path, sizeof(path), "%s/floor", images);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	t = now_us();
	p = mmap(NULL, BIG + (2 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fd < 0 || p == MAP_FAILED)
		die(path);
	at = (char *)(((uintptr_t)p + (2 << 20) - 1) & -(uintptr_t)(2 << 20));
	madvise(at, BIG, MADV_HUGEPAGE);
	for (off_t o = 0; o < BIG; o += CHUNK)
		if (pread(fd, at + o, CHUNK, o) != CHUNK)
			die(path);
	t = now_us() - t;
	munmap(p, BIG + (2 << 20));
	close(fd);
	return t;
}

/* in pieces that the CPU's caches do not hold */
static double memory_copy(void)
{
	static char *to;
	char *big = big_memory();
	double t;

	if (!to) {
		to = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (to == MAP_FAILED)
			die("mmap");
		memset(to, 1, BIG);
	}
	t = now_us();
	memcpy(to, big, BIG);
	return now_us() - t;
}

static const struct {
	const char *name;
	double (*run)(void);
} cases[] = {
	{"fork and exec a static true, wait", exec_true},
	{"clone with pid, mnt, ipc, uts, cgroup namespaces, exit, wait", namespaces_but_net},
	{"the same and a network namespace", namespaces_all},
	{"the 7 mounts of `runc spec`", mounts},
	{"namespaces, these mounts, pivot_root, exec true, exit", container},
	{"a process into a new cgroup of each v1 hierarchy, back to back", cgroup_move_busy},
	{"the same after 2 idle seconds", cgroup_move_idle},
	{"fork 50 processes until all run", processes_start},
	{"read of each of 50 processes in /proc: stat, status, smaps, 15 links", processes_read},
	{"copy 288 KiB of each of 50 processes to a new file (page cache)", processes_copy},
	{"kill 50 such processes and reap them", processes_kill},
	{"start 100 threads until all run", threads_start},
	{"stop 101 threads by ptrace, read registers, let go", threads_stop},
	{"read of each of 101 threads in /proc: syscall, status, children", threads_read},
	{"kill 101 threads that are traced and reap them", threads_kill},
	{"make 1000 fds", fds_make},
	{"look at each of 1000 fds once: pidfd_getfd, dup3, fdinfo, close", fds_look},
	{"34 getsockopt of each of 250 sockets", sockets_ask},
	{"kill a process with 1000 fds and reap it", fds_kill},
	{"write 1 GiB to a new file (page cache)", memory_write},
	{"read 1 GiB from it into new memory (huge pages)", memory_read},
	{"copy 1 GiB in memory (memcpy, touched before)", memory_copy},
};

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int runs = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 10;
	const char *before = "", *only = argc > 3 ? argv[3] : "";
	char path[4096];

	if (argc < 2 || runs < 1 || runs > MAX_RUNS) {
		fprintf(stderr, "usage: floor IMAGES [RUNS [ONLY]]\n");
		return 2;
	}
	images = argv[1];
	printf("{");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		double v[MAX_RUNS];

		if (!strstr(cases[i].name, only))
			continue;
		cases[i].run(); /* the first one is not counted */
		for (int k = 0; k < runs; k++)
			v[k] = cases[i].run();
		qsort(v, runs, sizeof(*v), compare);
		printf("%s\"%s\": [%.0f, %.0f, %.0f]", before, cases[i].name, v[runs / 2], v[runs / 10],
			v[runs - 1 - runs / 10]);
		before = ", ";
	}
	printf("}\n");
	snprintf(path, sizeof(path), "%s/floor", images);
	unlink(path);
	return 0;
}
