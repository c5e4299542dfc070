/* SPDX-License-Identifier: Apache-2.0 */
/*
 * halfway PID: the process, which sleeps in a call, is brought to where a stop may find it on its way back into that call: about to
 * make restart_syscall(2). It stays there until a line comes on stdin.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { ERESTART_RESTARTBLOCK = 516 };

int main(int argc, char **argv)
{
	pid_t pid = argc > 1 ? atoi(argv[1]) : 0;
	struct user_regs_struct regs;
	int status;

	if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 ||
		waitpid(pid, &status, __WALL) != pid || ptrace(PTRACE_GETREGS, pid, 0, &regs) < 0) {
		perror("stop");
		return 1;
	}
	if ((long)regs.rax != -ERESTART_RESTARTBLOCK) {
		fprintf(stderr, "it does not sleep: rax is %ld\n", (long)regs.rax);
		return 1;
	}
	regs.rax = SYS_restart_syscall;
	regs.rip -= 2;
	regs.orig_rax = -1;
	if (ptrace(PTRACE_SETREGS, pid, 0, &regs) < 0) {
		perror("registers");
		return 1;
	}
	puts("there");
	fflush(stdout);
	if (getchar() == EOF || ptrace(PTRACE_DETACH, pid, 0, 0) < 0)
		return 1;
	return 0;
}
