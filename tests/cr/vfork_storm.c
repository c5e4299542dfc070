/* SPDX-License-Identifier: Apache-2.0 */
/* cr: ignore=all */
/*
 * A process that is nearly always in vfork, waiting for a child that takes its time until it executes a program: a checkpoint
 * finds a moment between, and nothing of it goes wrong.
 */
#include "cr.h"

#include <sched.h>

static volatile int *done;

static void storm(void)
{
	for (;;) {
		int status;
		/* In turns with one that has a memory of its own. */
		pid_t pid = *done % 2 ? vfork() : syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);

		if (pid < 0)
			fail("vfork: %m");
		if (pid == 0) {
			usleep(1500);
			execl("/proc/self/exe", "vfork_storm", "7", NULL);
			_exit(99);
		}
		check(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7,
			"status %#x", status);
		++*done;
	}
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return atoi(argv[1]);
	done = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	if (must(fork()) == 0)
		storm();
	cr_msleep(20);
	while (cr_wait()) {
		int before = *done;

		for (int ms = 0; *done < before + 5; ms++) {
			check(ms < 5000, "nothing goes on");
			cr_msleep(1);
		}
	}
	_exit(0);
}
