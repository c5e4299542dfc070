/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where tasks stand, as /proc tells it: for reports about what does not go on. Nothing here allocates or takes a lock, so that a
 * signal handler may call it.
 */
#pragma once

#include <sys/types.h>

#include "base/util.h"

/* All processes that descend from this one, without itself; as many as there is room for. */
size_t task_descendants(pid_t of, pid_t *ret, size_t max);

/* Of each thread of the process: its name and state, where it waits in the kernel, its system call, its kernel stack; on each of
 * the descriptors that is not negative. Threads beyond "max" are only counted. */
void task_report(pid_t pid, unsigned max, const int *fds, size_t n_fds);
