/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests/integration/attacks.sh: a container's process that waits for the runtime's. Every process that it sees and
 * that has this name it tries to look into: its descriptors, its working directory, its memory, its program. What it got
 * it says on stdout. "snoop NAME": the name of the runtime's processes.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_runtime(int pid, const char *name)
{
	char path[64], comm[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, comm, sizeof(comm) - 1) < 0)
		comm[0] = '\0';
	close(fd);
	comm[strcspn(comm, "\n")] = '\0';
	return !strcmp(comm, name);
}

/* It may have executed its program meanwhile, which is the container's own. */
static void got(int pid, const char *name, const char *what)
{
	if (is_runtime(pid, name))
		printf("GOT %s of %d\n", what, pid);
}

static void try_link(int pid, const char *name, const char *what)
{
	char path[64], target[512];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	if (readlink(path, target, sizeof(target)) > 0)
		got(pid, name, what);
}

/* "mem" asks for the same rights as ptrace(2). */
static void try_open(int pid, const char *name, const char *what, int flags)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return;
	got(pid, name, what);
	close(fd);
}

int main(int argc, char **argv)
{
	unsigned seen = 0;

	if (argc < 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("ready\n");
	for (;;) {
		/* pids are given out in turn: what comes next is just above us */
		for (int pid = getpid() + 1; pid < getpid() + 400; pid++) {
			if (!is_runtime(pid, argv[1]))
				continue;
			if (seen++ == 0)
				printf("seen\n");
			try_link(pid, argv[1], "cwd");
			try_link(pid, argv[1], "root");
			try_link(pid, argv[1], "exe");
			try_link(pid, argv[1], "fd/0");
			try_link(pid, argv[1], "fd/3");
			try_open(pid, argv[1], "mem", O_RDWR);
			try_open(pid, argv[1], "environ", O_RDONLY);
		}
	}
}
