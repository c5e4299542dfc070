/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets the signals of a file: F_SETOWN of process, group and thread, F_SETSIG, O_ASYNC; and the signal comes. */
/* cr: ids=1 hidden=1 */
#include "cr.h"

#include <sys/socket.h>

static volatile int got, got_fd;

static void on_signal(int sig, siginfo_t *info, void *context CR_UNUSED)
{
	got = sig;
	got_fd = info->si_fd;
}

int main(void)
{
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
	struct f_owner_ex thread = {F_OWNER_TID, gettid()}, is;
	uid_t uids[2];
	int p[2], q[2], r[2], sig = SIGRTMIN + 6;
	char c;

	must(sigaction(sig, &sa, NULL));
	must(sigaction(SIGIO, &sa, NULL));
	must(pipe(p));
	must(pipe(q));
	must(pipe(r));
	must(fcntl(p[0], F_SETOWN, getpid()));
	must(fcntl(p[0], F_SETSIG, sig));
	must(fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK));
	must(fcntl(q[0], F_SETOWN, -getpgrp()));
	must(fcntl(r[0], F_SETOWN_EX, &thread));
	must(fcntl(r[0], F_SETSIG, sig));
	must(setresuid(5, 6, 0));
	must(fcntl(r[1], F_SETOWN, getpid()));
	must(setresuid(0, 0, 0));
	while (cr_wait()) {
		check(fcntl(r[1], 17 /* F_GETOWNER_UIDS */, uids) < 0 || (uids[0] == 5 && uids[1] == 6),
			"the owner was set by %d, %d", uids[0], uids[1]);
		check(fcntl(p[0], F_GETOWN) == getpid(), "owner is %d", fcntl(p[0], F_GETOWN));
		check(fcntl(p[0], F_GETSIG) == sig, "signal is %d", fcntl(p[0], F_GETSIG));
		check(fcntl(p[0], F_GETFL) & O_ASYNC, "O_ASYNC is gone");
		must(fcntl(q[0], F_GETOWN_EX, &is));
		check(is.type == F_OWNER_PGRP && is.pid == getpgrp(), "the owner that is a group: %d %d",
			is.type, is.pid);
		must(fcntl(r[0], F_GETOWN_EX, &is));
		check(is.type == F_OWNER_TID && is.pid == thread.pid, "the owner that is a thread: %d %d",
			is.type, is.pid);
		got = 0;
		must(write(p[1], "x", 1));
		for (int ms = 0; got == 0 && ms < 1000; ms++)
			cr_msleep(1);
		check(got == sig && got_fd == p[0], "signal %d for fd %d", got, got_fd);
		must(read(p[0], &c, 1));
	}
	return 0;
}
