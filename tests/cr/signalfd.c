/* SPDX-License-Identifier: Apache-2.0 */
/* signalfd: its mask, flags, and the signals that are pending in it. */
#include "cr.h"

#include <sys/signalfd.h>

int main(void)
{
	struct signalfd_siginfo info;
	sigset_t set, one;
	int fd, second;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 7);
	sigaddset(&set, 64);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	fd = must(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
	sigemptyset(&one);
	sigaddset(&one, SIGUSR2);
	must(sigprocmask(SIG_BLOCK, &one, NULL));
	second = must(signalfd(-1, &one, 0));
	must(sigqueue(getpid(), SIGRTMIN + 7, (union sigval){.sival_int = 321}));
	while (cr_wait()) {
		check(read(fd, &info, sizeof(info)) == sizeof(info), "the pending signal: %m");
		check(info.ssi_signo == (unsigned)SIGRTMIN + 7 && info.ssi_int == 321 &&
				info.ssi_code == SI_QUEUE,
			"signal %u value %d", info.ssi_signo, info.ssi_int);
		check(read(fd, &info, sizeof(info)) == -1 && errno == EAGAIN, "it should be empty: %m");
		must(kill(getpid(), SIGUSR2));
		check(read(fd, &info, sizeof(info)) == -1 && errno == EAGAIN,
			"it takes a signal that is not in its mask");
		check(read(second, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR2,
			"the second one");
		must(kill(getpid(), SIGUSR1));
		check(read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR1, "SIGUSR1");
		must(kill(getpid(), 64));
		check(read(fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == 64, "signal 64");
		check(fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(second, F_GETFD) == 0, "close-on-exec");
		must(sigqueue(getpid(), SIGRTMIN + 7, (union sigval){.sival_int = 321}));
	}
	return 0;
}
