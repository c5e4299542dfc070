/* SPDX-License-Identifier: Apache-2.0 */
/* cr: also=filtered,packed */
/* A process tree keeps its shape: pids and parents over three generations, with gaps, and an orphan taken by init. */
#include "cr.h"

static void watch(pid_t pid, pid_t parent)
{
	while (cr_wait()) {
		check(getpid() == pid, "pid was %d, is %d", pid, getpid());
		check(getppid() == parent, "parent was %d, is %d", parent, getppid());
		check(gettid() == pid && syscall(SYS_getpid) == pid, "ids by system calls");
	}
	_exit(0);
}

static void family(int depth)
{
	static const char *const names[] = {"a", "b", "c"};
	pid_t parent = getpid();

	for (int i = 0; i < (depth ? 2 : 3); i++) {
		pid_t gap = must(fork()); /* a pid that is free again */

		if (gap == 0)
			_exit(0);
		must(waitpid(gap, NULL, 0));
		if (cr_fork(names[i]) == 0) {
			if (depth < 2)
				family(depth + 1);
			watch(getpid(), parent);
		}
	}
}

int main(void)
{
	pid_t me = getpid(), middle;
	int status;

	family(0);
	middle = cr_fork("middle");
	if (middle == 0) {
		if (cr_fork("orphan") == 0) {
			while (getppid() != me)
				cr_msleep(1);
			watch(getpid(), me);
		}
		_exit(0);
	}
	must(waitpid(middle, &status, 0));
	cr_forget();
	cr_expect(".middle.orphan");
	while (cr_wait()) {
		pid_t next = must(fork());

		if (next == 0)
			_exit(3);
		check(getpid() == me, "pid of the first");
		check(waitpid(next, &status, 0) == next && WEXITSTATUS(status) == 3, "a new child: %x",
			status);
	}
	return 0;
}
