/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that wait for a signal: pause, sigsuspend, sigwaitinfo, sigtimedwait, and waitid of a child. */
#include "cr.h"

static volatile int handled;

static void handler(int sig)
{
	handled = sig;
}

static void wait_in(const char *how)
{
	sigset_t block, open;
	struct timespec t = {1000, 0};
	siginfo_t info;
	int r = 0;

	signal(SIGUSR1, handler);
	sigemptyset(&block);
	sigemptyset(&open);
	sigaddset(&block, SIGUSR1);
	if (strcmp(how, "pause") != 0)
		must(sigprocmask(SIG_BLOCK, &block, NULL));
	if (!strcmp(how, "pause"))
		r = pause();
	else if (!strcmp(how, "sigsuspend"))
		r = sigsuspend(&open);
	else if (!strcmp(how, "sigwaitinfo"))
		r = sigwaitinfo(&block, &info);
	else if (!strcmp(how, "sigtimedwait"))
		r = sigtimedwait(&block, &info, &t);
	if (how[0] == 'p' || !strcmp(how, "sigsuspend")) {
		sigset_t now;

		check(r == -1 && errno == EINTR && handled == SIGUSR1, "%s: %d, %m, signal %d", how, r,
			handled);
		sigprocmask(SIG_SETMASK, NULL, &now);
		check(sigismember(&now, SIGUSR1) == (how[0] != 'p'), "%s: the mask after it", how);
	} else {
		check(r == SIGUSR1, "%s: %d, %m", how, r);
	}
	_exit(11);
}

static char state_of(pid_t pid)
{
	char path[64], text[512];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	must(cr_read(path, text, sizeof(text)));
	return strrchr(text, ')')[2];
}

int main(void)
{
	static const char *const ways[] = {"pause", "sigsuspend", "sigwaitinfo", "sigtimedwait"};
	pid_t pids[4];
	int status;

	for (;;) {
		for (int i = 0; i < 4; i++) {
			pids[i] = must(fork());
			if (pids[i] == 0)
				wait_in(ways[i]);
		}
		cr_msleep(20);
		for (int i = 0; i < 4; i++)
			while (state_of(pids[i]) != 'S')
				cr_msleep(1);
		if (!cr_wait())
			break;
		for (int i = 0; i < 4; i++) {
			check(waitpid(pids[i], &status, WNOHANG) == 0, "%s came back by itself: status %x",
				ways[i], status);
			must(kill(pids[i], SIGUSR1));
		}
		for (int i = 0; i < 4; i++)
			check(waitpid(pids[i], &status, 0) == pids[i] && WIFEXITED(status) &&
					WEXITSTATUS(status) == 11,
				"%s: status %x", ways[i], status);
	}
	return 0;
}
