/* SPDX-License-Identifier: Apache-2.0 */
/* The seccomp filters of a thread as the kernel has them, and which of them has a listener: told by a BPF iterator (bpfwalk.h). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/util.h"

enum { SECCOMP_FILTERS_MAX = 64 };

struct seccomp_filter_seen {
	uint64_t filter;    /* by which it is told from others; the same one in all who have inherited it */
	bool listened;	    /* its listener is open, somewhere */
	bool wait_killable; /* SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV */
};

/* Of one thread, as we see its id; the oldest first. -EOPNOTSUPP: this kernel does not tell; -EPERM. More than SECCOMP_FILTERS_MAX are not
 * told. */
int seccomp_filters_of(
	pid_t tid, struct arena *a, struct seccomp_filter_seen *ret, size_t *ret_n) _must_check_;

/* What a listener, open with us as that descriptor, listens to. */
struct seccomp_listener_seen {
	uint64_t filter;
	bool ended;	/* nobody has the filter any more */
	uint32_t flags; /* SECCOMP_IOCTL_NOTIF_SET_FLAGS */
};
int seccomp_listener_of(int fd, struct arena *a, struct seccomp_listener_seen *ret) _must_check_;
