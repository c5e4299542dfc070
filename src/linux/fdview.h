/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors of other processes, looked at one after another through duplicates (pidfd_getfd(2)). Against
 * /proc/PID/fd/N and fdinfo/N it takes a quarter of the time, and leaves no inodes of proc behind whose removal the
 * process waits for when it ends. It says the same, but for what is not the open file description's:
 *
 * - O_CLOEXEC belongs to the descriptor: fdinfo shows that of our own;
 * - POSIX locks belong to the process: fdinfo does not show them;
 * - a socket that is received takes the class of the receiver's net_cls and net_prio cgroups (v1).
 *
 * As long as a duplicate lives, a close(2) by the process is not the last one. So it is given up when the next
 * descriptor is looked at, a few microseconds later.
 */
#pragma once

#include "linux/procfs.h"

/* All -EBADF to begin with. The two files are those of the slot below /proc/self, opened once: they tell of whatever is in
 * the slot at the time. */
struct fdview {
	int slot; /* the descriptor that is looked at */
	int fdinfo, link;
};
#define FDVIEW_NONE                                                                                          \
	{                                                                                                    \
		-EBADF, -EBADF, -EBADF                                                                       \
	}

/* Puts descriptor fd of a process into the slot. ret_kept: gets another duplicate, the caller's; NULL: none is wanted.
 * -EBADF: it is not open (any more); -ESRCH: the process is gone; -EPERM: not allowed, use /proc. */
int fdview_open(struct fdview *v, int pidfd, int fd, int *ret_kept) _must_check_;
int fdview_fdinfo(const struct fdview *v, struct arena *a, struct proc_fdinfo *ret) _must_check_;
/* What /proc/PID/fd/N points to; the length, or -ENAMETOOLONG. */
ssize_t fdview_link(const struct fdview *v, char *buf, size_t size) _must_check_;
/* Lets go of the last one. */
void fdview_close(struct fdview *v);
void fdview_done(struct fdview *v);
