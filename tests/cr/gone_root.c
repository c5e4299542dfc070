/* SPDX-License-Identifier: Apache-2.0 */
/* cr: modes=once,cycles,running,again,lazy caps=SYS_CHROOT */
/*
 * Processes whose root directory is that of the descriptors of a process which has ended, as a browser's: empty, for ever. One in the container's
 * namespaces; one that is the first in a user and a pid namespace of its own, with a child; and one that has only its working directory there.
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

static void nested(void)
{
	pid_t pid = must(syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL));

	if (pid == 0) {
		go_nowhere("root");
		live_nowhere(must(fork()) ? 1 : 3);
	}
}

int main(void)
{
	char child[3][16] = {};
	FILE *f;

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
	f = fopen("/proc/self/task/1/children", "r");
	check(f && fscanf(f, "%15s %15s %15s", child[0], child[1], child[2]) == 3, "children");
	fclose(f);
	cr_msleep(100);
	while (cr_wait()) {
		is_nowhere(child[0], "root");
		is_nowhere(child[0], "cwd");
		is_nowhere(child[1], "root");
		is_nowhere(child[2], "cwd");
		check(waitpid(-1, NULL, WNOHANG) == 0, "one has ended");
	}
	return 0;
}
