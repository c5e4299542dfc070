/* SPDX-License-Identifier: Apache-2.0 */
/* cr: caps=SYS_ADMIN ignore=thread,memory,SigPnd,ShdPnd */
/*
 * Pid namespaces that processes have made for themselves, one in another: every process has its pids at each level, adopted
 * and dead ones too; threads, timers and signals go by them. Who made one stays outside of it, and its next child does not.
 */
#include "ns_pid.h"

static void deep(void)
{
	must(unshare(CLONE_NEWPID));
	if (cr_fork("deep") == 0)
		rounds(1, 0);
	cr_idle();
}

static void first(void)
{
	pid_t pid, dead;

	check(getpid() == 1, "the first process has pid %d", getpid());
	pid = cr_fork("second");
	if (pid == 0) {
		setsid();
		rounds(getpid(), 0);
	}
	dead = must(fork());
	if (dead == 0)
		_exit(42);
	pid = cr_fork("maker");
	if (pid == 0)
		deep();
	rounds(1, dead);
}

int main(void)
{
	pid_t outer = cr_fork("outer"), pid;

	if (outer) {
		cr_idle();
		return 0;
	}
	must(setpgid(0, 0));
	must(unshare(CLONE_NEWPID));
	pid = cr_fork("first");
	if (pid == 0)
		first();
	pid = cr_fork("beside");
	if (pid == 0)
		rounds(getpid(), 0);
	while (cr_wait()) {
		int status;

		check(kill(pid, 0) == 0, "the process beside it: %m");
		/* Another child is in there as well. */
		pid_t one = must(fork());

		if (one == 0)
			_exit(getpid());
		check(waitpid(one, &status, 0) == one, "waitpid: %m");
		check(WEXITSTATUS(status) != (one & 0xff), "a new child is outside of the pid namespace");
	}
	_exit(0);
}
