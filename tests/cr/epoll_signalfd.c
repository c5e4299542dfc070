/* SPDX-License-Identifier: Apache-2.0 */
/* A signalfd in an epoll set of a process that is not init: the kernel tells the set of signals to the process that put
 * it there. */
#include "cr.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>

static void poke_later(pid_t pid)
{
	if (must(fork()) == 0) {
		cr_msleep(100);
		kill(pid, SIGUSR1);
		_exit(0);
	}
}

static void child(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	sigset_t set;
	int fd, low, epfd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	must(sigprocmask(SIG_BLOCK, &set, NULL));
	low = must(open("/dev/null", O_RDONLY));
	fd = must(signalfd(-1, &set, SFD_NONBLOCK));
	epfd = must(epoll_create1(0));
	ev.data.fd = fd;
	must(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev));
	/* Another file has the number by which the set knows it. */
	fd = must(dup(fd));
	must(dup2(low, ev.data.fd));
	while (cr_wait()) {
		struct epoll_event got;
		struct signalfd_siginfo info;

		poke_later(getpid());
		check(epoll_wait(epfd, &got, 1, 5000) == 1, "the signal does not wake the set");
		must(read(fd, &info, sizeof(info)));
		check(info.ssi_signo == SIGUSR1, "signal %u", info.ssi_signo);
		must(wait(NULL));
		check(must(fcntl(ev.data.fd, F_GETFD)) == 0, "another descriptor has become close-on-exec");
	}
	_exit(0);
}

int main(void)
{
	if (cr_fork("child") == 0)
		child();
	while (cr_wait())
		;
	return 0;
}
