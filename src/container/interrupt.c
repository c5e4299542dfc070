/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGINT, SIGTERM, SIGHUP and SIGQUIT while a container is made: they are held back and read where we wait, so that what
 * was made can be undone. After a success they stay held back: the container is there, and its command says so, or passes
 * them on to it (run in the foreground).
 */
#include <errno.h>
#include <poll.h>
#include <sys/signalfd.h>

#include "base/fd.h"
#include "container/container-priv.h"

int interrupt_begin(struct interrupt *i, struct error *e)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction act;
	sigset_t set;

	sigemptyset(&set);
	/* one that our caller ignores (nohup) would be delivered once it is blocked */
	for (size_t n = 0; n < ARRAY_SIZE(signals); n++)
		if (sigaction(signals[n], NULL, &act) == 0 && act.sa_handler != SIG_IGN)
			sigaddset(&set, signals[n]);
	if (sigprocmask(SIG_BLOCK, &set, &i->old_mask) < 0)
		return error_errno(e, -errno, "block signals");
	i->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (i->fd >= 0)
		return 0;
	sigprocmask(SIG_SETMASK, &i->old_mask, NULL);
	return error_errno(e, -errno, "signalfd");
}

void interrupt_end(struct interrupt *i)
{
	close_p(&i->fd);
	sigprocmask(SIG_SETMASK, &i->old_mask, NULL);
}

int interrupt_wait(int interrupt_fd, int fd, int timeout_ms)
{
	struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = interrupt_fd, .events = POLLIN}};
	int n;

	do
		n = poll(p, ARRAY_SIZE(p), timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return p[1].revents ? -EINTR : n > 0;
}

int interrupt_error(struct error *e)
{
	return error_set(
		e, -EINTR, ERROR_SYSTEM, "interrupted by a signal: everything that was made is removed");
}
