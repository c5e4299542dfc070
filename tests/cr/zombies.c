/* SPDX-License-Identifier: Apache-2.0 */
/* Zombies: exit code, killing signal and resource usage are collected by wait after the restore, in any order. */
#include "cr.h"

static pid_t child(int code, int sig)
{
	pid_t pid = must(fork());

	if (pid == 0) {
		if (sig) {
			signal(sig, SIG_DFL);
			raise(sig);
		}
		_exit(code);
	}
	siginfo_t info;
	must(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	return pid;
}

int main(void)
{
	signal(SIGCHLD, SIG_DFL);
	for (;;) {
		pid_t plain = child(0, 0), coded = child(37, 0), killed = child(0, SIGKILL),
		      segv = child(0, SIGUSR2);
		int status;
		siginfo_t info = {0};

		if (!cr_wait())
			break;
		must(waitid(P_PID, coded, &info, WEXITED | WNOWAIT));
		check(info.si_code == CLD_EXITED && info.si_status == 37 && info.si_pid == coded,
			"waitid: code %d status %d", info.si_code, info.si_status);
		check(waitpid(killed, &status, WNOHANG) == killed, "the killed one: %m");
		check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x", status);
		check(waitpid(plain, &status, 0) == plain && WIFEXITED(status) && WEXITSTATUS(status) == 0,
			"status %x", status);
		check(waitpid(coded, &status, 0) == coded && WEXITSTATUS(status) == 37, "status %x", status);
		check(waitpid(segv, &status, 0) == segv && WTERMSIG(status) == SIGUSR2, "status %x", status);
		check(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD,
			"more children than there were");
	}
	return 0;
}
