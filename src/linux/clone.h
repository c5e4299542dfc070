/* SPDX-License-Identifier: Apache-2.0 */
/* clone3(2) as a fork that can say more. Thin: negative errno, no messages. */
#pragma once

#include <sys/types.h>

#include "base/util.h"

/*
 * A fork into new namespaces ("flags", CLONE_NEW*), born in the v2 cgroup of cgroup_fd (-EBADF: the caller's).
 * CLONE_PARENT: the new process is a sibling of the caller.
 * Returns the pid in the parent, 0 in the child, or a negative errno. *ret_pidfd is close-on-exec. The caller must be
 * single-threaded: the child runs on in a copy of the caller's memory, and libc's fork handlers are not called. (Threads
 * that take no locks do no harm.)
 */
pid_t clone_fork(uint64_t flags, int cgroup_fd, int *ret_pidfd) _must_check_;
/* The same with that pid in the pid namespace of the caller's children (0: any). -EEXIST: somebody has it. */
pid_t clone_fork_as(pid_t pid, uint64_t flags, int cgroup_fd, int *ret_pidfd) _must_check_;

/* Ids of the calling thread, -1 and errno. For such a child: libc's functions do it in all threads that it knows of,
 * which are the parent's. */
int thread_setgroups(size_t n, const gid_t *groups) _must_check_;
int thread_setresgid(gid_t id) _must_check_;
int thread_setresuid(uid_t id) _must_check_;

/* setns(2) back to where we were. Who has entered another user namespace for good has no right to, and stays. */
int ns_return(int fd, int flag) _must_check_;
