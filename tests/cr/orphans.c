/* SPDX-License-Identifier: Apache-2.0 */
/* A process that init has adopted and that is still in the session of a leader that lives, besides one
 * whose leader died. */
#include "cr.h"

static int *pids; /* shared: leader, orphan of a living leader, orphan of a dead one */

static void wait_adopted(void)
{
	while (getppid() != 1)
		cr_msleep(1);
}

static void orphan(int slot)
{
	pid_t middle = fork();

	check(middle >= 0, "fork: %m");
	if (middle > 0) {
		must(waitpid(middle, NULL, 0));
		return;
	}
	if (fork() == 0) {
		wait_adopted();
		pids[slot] = getpid();
		for (;;)
			pause();
	}
	_exit(0);
}

static int parent_of(pid_t pid)
{
	char path[64], text[1024];
	int ppid = -1;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	check(cr_read(path, text, sizeof(text)) > 0, "%s: %m", path);
	sscanf(strrchr(text, ')') + 1, " %*c %d", &ppid);
	return ppid;
}

int main(void)
{
	pid_t dead_leader;

	pids = must(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	if (cr_fork("leader") == 0) {
		must(setsid());
		pids[0] = getpid();
		orphan(1);
		cr_idle();
	}
	dead_leader = fork();
	if (dead_leader == 0) {
		must(setsid());
		orphan(2);
		_exit(0);
	}
	must(waitpid(dead_leader, NULL, 0));
	while (!pids[1] || !pids[2])
		cr_msleep(1);
	while (cr_wait()) {
		check(parent_of(pids[1]) == 1 && getsid(pids[1]) == pids[0], "parent %d, session %d",
			parent_of(pids[1]), getsid(pids[1]));
		check(parent_of(pids[2]) == 1 && getsid(pids[2]) == dead_leader, "parent %d, session %d",
			parent_of(pids[2]), getsid(pids[2]));
		check(kill(pids[1], 0) == 0 && parent_of(pids[0]) == getpid(), "the leader");
	}
	return 0;
}
