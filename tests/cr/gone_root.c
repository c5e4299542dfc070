/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,running,again,lazy caps=SYS_CHROOT,SETUID,SETGID,SYS_PTRACE */
/*
 * Processes whose root directory is that of the descriptors of a process which has ended, as a browser's: empty, for ever. One in the container's
 * namespaces; one in user and pid namespaces of its own, with a child; and one that has only its working directory there.
 */
#include "cr.h"

static int proc;

/* A child that shares our directories goes there, and ends. */
static void go_nowhere(const char *how)
{
	pid_t pid = must(syscall(SYS_clone, CLONE_FS | SIGCHLD, NULL, NULL, NULL, NULL));
	int status;

	if (pid == 0) {
		int r = strcmp(how, "root") ? chdir("/proc/self/fdinfo")
					    : chroot("/proc/self/fdinfo") || chdir("/");

		_exit(r ? errno : 0);
	}
	must(waitpid(pid, &status, 0));
	check(status == 0, "%s: %s", how, strerror(status >> 8));
}

/* How the process with this number (as the container sees it) has it. */
static void is_nowhere(const char *pid, const char *what)
{
	char path[64], link[128] = "";

	snprintf(path, sizeof(path), "%s/%s", pid, what);
	must(readlinkat(proc, path, link, sizeof(link) - 1));
	check(!strncmp(link, "/proc/", 6) && strstr(link, "/fdinfo"), "%s is %s", path, link);
}

/* Ends if anything is at its root. */
static void live_nowhere(int pid)
{
	for (;;) {
		if (access("/cr", F_OK) != -1 || errno != ESRCH || (pid && getpid() != pid))
			_exit(1);
		usleep(20000);
	}
}

static void put(const char *path, const char *text)
{
	int file = must(open(path, O_WRONLY));

	check(write(file, text, strlen(text)) == (ssize_t)strlen(text), "%s: %m", path);
	close(file);
}

/* As a browser: the pid namespace of the children belongs to the inner one of two user namespaces, its own to the outer one. */
static void nested(void)
{
	if (must(fork()) > 0)
		return;
	must(setresgid(1234, 1234, 1234));
	must(setresuid(1234, 1234, 1234));
	must(prctl(PR_SET_DUMPABLE, 1));
	if (must(syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL)) == 0) {
		put("/proc/self/setgroups", "deny");
		put("/proc/self/uid_map", "1234 1234 1");
		put("/proc/self/gid_map", "1234 1234 1");
		must(unshare(CLONE_NEWUSER));
		go_nowhere("root");
		must(syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL));
		live_nowhere(1);
	}
	wait(NULL); /* for ever, if all goes well */
	_exit(1);
}

/* The number of the nth child. */
static void child_of(const char *parent, int n, char child[16])
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/task/%s/children", parent, parent);
	f = fopen(path, "r");
	for (; f && n >= 0; n--)
		check(fscanf(f, "%15s", child) == 1, "no child in %s", path);
	check(f != NULL, "%s: %m", path);
	fclose(f);
}

int main(void)
{
	char self[16], child[5][16] = {};

	proc = must(open("/proc", O_RDONLY | O_DIRECTORY));
	nested();
	if (must(fork()) == 0) {
		go_nowhere("root");
		live_nowhere(0);
	}
	if (must(fork()) == 0) {
		go_nowhere("cwd");
		for (;;)
			pause();
	}
	cr_msleep(200);
	snprintf(self, sizeof(self), "%d", getpid());
	child_of(self, 0, child[3]);
	child_of(child[3], 0, child[0]);
	child_of(child[0], 0, child[4]);
	child_of(self, 1, child[1]);
	child_of(self, 2, child[2]);
	while (cr_wait()) {
		is_nowhere(child[0], "root");
		is_nowhere(child[0], "cwd");
		is_nowhere(child[4], "root");
		is_nowhere(child[1], "root");
		is_nowhere(child[2], "cwd");
		check(waitpid(-1, NULL, WNOHANG) == 0, "one has ended");
	}
	return 0;
}
