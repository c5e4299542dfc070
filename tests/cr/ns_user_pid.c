/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ids=1 caps=SETUID,SETGID ignore=thread,memory,SigPnd,ShdPnd */
/*
 * Pid namespaces that belong to user namespaces of the container's processes, as unshare -Urpf, a sandbox of a browser and
 * containers in a container make them: their first processes, those below, with threads, in sessions of their own, in another
 * user namespace once more.
 */
#include "ns_pid.h"

#include <sys/ioctl.h>

#define NS_GET_USERNS _IO(0xb7, 1)

static void write_file(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY));

	check(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "write \"%s\" to %s: %m", text, path);
	close(fd);
}

static void map_ids(unsigned inside, unsigned outside)
{
	char text[64];

	prctl(PR_SET_DUMPABLE, 1);
	write_file("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1\n", inside, outside);
	write_file("/proc/self/uid_map", text);
	write_file("/proc/self/gid_map", text);
}

/* cr_fork() into new namespaces. */
static pid_t fork_into(const char *tag, unsigned long flags)
{
	pid_t pid;

	snprintf(cr_tags[cr_n_tags], sizeof(cr_tags[0]), "%.20s.%.40s", cr_tag, tag);
	pid = must((pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0));
	if (pid == 0) {
		memcpy(cr_tag, cr_tags[cr_n_tags], sizeof(cr_tag));
		cr_n_tags = 0;
	} else {
		cr_n_tags++;
	}
	return pid;
}

static ino_t inode_of(int fd)
{
	struct stat st;

	must(fstat(fd, &st));
	close(fd);
	return st.st_ino;
}

/* Whether our pid namespace belongs to our user namespace. */
static bool owns_pids(void)
{
	int pid = must(open("/proc/self/ns/pid", O_RDONLY)), own = must(open("/proc/self/ns/user", O_RDONLY));
	int owner = ioctl(pid, NS_GET_USERNS);

	check(owner >= 0 || errno == EPERM,
		"the owner of the pid namespace: %m"); /* EPERM: it is above ours */
	close(pid);
	return inode_of(own) == (owner < 0 ? 0 : inode_of(owner));
}

static void check_home(unsigned uid, bool owner)
{
	uint64_t eff = 0;
	char text[8192];

	must(cr_read("/proc/self/status", text, sizeof(text)));
	eff = strtoull(strstr(text, "CapEff:") + 7, NULL, 16);
	check(getuid() == uid && getgid() == uid, "uid %d gid %d", getuid(), getgid());
	check(owns_pids() == owner, "the pid namespace belongs to another user namespace");
	check(eff & 1, "capabilities are %llx", (unsigned long long)eff);
}

/* unshare --user --map-root-user --pid --fork */
static void shell(void)
{
	pid_t dead;

	must(unshare(CLONE_NEWUSER | CLONE_NEWPID));
	map_ids(0, 0);
	if (cr_fork("first") != 0) {
		while (cr_wait())
			check(getuid() == 0, "uid %d", getuid());
		_exit(0);
	}
	check(getpid() == 1, "the first process has pid %d", getpid());
	dead = must(fork());
	if (dead == 0)
		_exit(42);
	if (cr_fork("session") == 0) {
		must(setsid());
		rounds(getpid(), 0);
	}
	if (cr_fork("group") == 0) {
		must(setpgid(0, 0));
		if (cr_fork("member") == 0)
			rounds(getpid(), 0);
		while (cr_wait())
			check_home(0, true);
		_exit(0);
	}
	rounds(1, dead);
}

/* As a browser does: its zygote, and in it a pid namespace for each of its children. */
static void browser(void)
{
	if (fork_into("zygote", CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET) != 0)
		cr_idle();
	map_ids(77, 0);
	must(setsid());
	for (int i = 0; i < 2; i++) {
		char tag[16];

		snprintf(tag, sizeof(tag), "renderer%d", i);
		if (fork_into(tag, CLONE_NEWPID) == 0)
			rounds(1, 0);
	}
	if (cr_fork("same_session") == 0) {
		check(getsid(0) == 1, "session %d", getsid(0));
		while (cr_wait())
			check(getsid(0) == 1 && getpid() > 1, "session %d", getsid(0));
		_exit(0);
	}
	while (cr_wait())
		check_home(77, true);
	_exit(0);
}

/* A user namespace in another one, which the pids do not belong to. */
static void twice(void)
{
	if (fork_into("first", CLONE_NEWUSER | CLONE_NEWPID) != 0)
		cr_idle();
	map_ids(0, 0);
	must(unshare(CLONE_NEWUSER));
	map_ids(1000, 0);
	if (cr_fork("threads") == 0)
		rounds(getpid(), 0);
	while (cr_wait())
		check_home(1000, false);
	_exit(0);
}

static void deep(void)
{
	if (fork_into("first", CLONE_NEWUSER | CLONE_NEWPID) != 0)
		cr_idle();
	map_ids(0, 0);
	if (fork_into("inner", CLONE_NEWUSER | CLONE_NEWPID) == 0) {
		map_ids(5, 0);
		if (cr_fork("threads") == 0)
			rounds(getpid(), 0);
		while (cr_wait())
			check_home(5, true);
		_exit(0);
	}
	while (cr_wait())
		check_home(0, true);
	_exit(0);
}

/* Only a user namespace, and threads in it. */
static void threads(void)
{
	must(unshare(CLONE_NEWUSER));
	map_ids(3, 0);
	rounds(getpid(), 0);
}

static volatile int got, got_fd;

static void on_signal(int sig, siginfo_t *info, void *context CR_UNUSED)
{
	got = sig;
	got_fd = info->si_fd;
}

static void await_signal(int fd, int to, int sig)
{
	char c;

	got = 0;
	must(write(to, "x", 1));
	for (int ms = 0; got == 0 && ms < 2000; ms++)
		cr_msleep(1);
	check(got == sig && got_fd == fd, "signal %d for fd %d", got, got_fd);
	must(read(fd, &c, 1));
}

/* Gets the signals of its own file, and of one of which somebody outside has said so, who was another user. */
static void gets_signals(const int given[2])
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
	int sig = SIGRTMIN + 6, own[2], group[2], status, pidfd;
	struct f_owner_ex is;
	char text[64];
	pid_t child;

	/* A browser's processes have files of their own in /proc open. */
	status = must(open("/proc/self/statm", O_RDONLY | O_CLOEXEC));
	must(setpgid(0, 0)); /* a group from outside is for those whose parents are in it, too */
	child = must(fork());
	if (child == 0)
		for (;;)
			pause();
	pidfd = must((int)syscall(SYS_pidfd_open, child, 0));
	must(sigaction(sig, &sa, NULL));
	must(pipe(own));
	must(pipe(group));
	must(fcntl(own[0], F_SETOWN, getpid()));
	must(fcntl(own[0], F_SETSIG, sig));
	must(fcntl(own[0], F_SETFL, O_ASYNC | O_NONBLOCK));
	must(fcntl(given[0], F_SETSIG, sig));
	must(fcntl(given[0], F_SETFL, O_ASYNC | O_NONBLOCK));
	must(fcntl(group[0], F_SETOWN, -getpgrp()));
	while (cr_wait()) {
		check(pread(status, text, sizeof(text), 0) > 3, "its file in /proc: %m");
		must((int)syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
		must(fcntl(own[0], F_GETOWN_EX, &is));
		check(is.type == F_OWNER_PID && is.pid == 1, "owner is %d", is.pid);
		must(fcntl(group[0], F_GETOWN_EX, &is));
		check(is.type == F_OWNER_PGRP && is.pid == 1, "the group that is owner: %d", is.pid);
		must(fcntl(given[0], F_GETOWN_EX, &is));
		check(is.type == F_OWNER_PID && is.pid == 1, "owner by the other user is %d", is.pid);
		await_signal(own[0], own[1], sig);
		await_signal(given[0], given[1], sig);
	}
	_exit(0);
}

static void signals(void)
{
	volatile pid_t *first =
		must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	int given[2];
	pid_t pid;

	must(pipe(given));
	if (cr_fork("above") == 0) {
		must(unshare(CLONE_NEWUSER | CLONE_NEWPID));
		map_ids(0, 0);
		pid = cr_fork("first");
		if (pid == 0)
			gets_signals(given);
		*first = pid;
		cr_idle();
	}
	while (!*first)
		cr_msleep(1);
	must(setresuid(0, 6, 0));
	must(fcntl(given[0], F_SETOWN, *first));
	must(setresuid(0, 0, 0));
	prctl(PR_SET_DUMPABLE, 1);
	cr_idle();
}

int main(void)
{
	static const struct {
		const char *tag;
		void (*f)(void);
	} kinds[] = {{"shell", shell}, {"browser", browser}, {"twice", twice}, {"deep", deep},
		{"threads", threads}, {"signals", signals}};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (cr_fork(kinds[i].tag) == 0)
			kinds[i].f();
	cr_idle();
	return 0;
}
