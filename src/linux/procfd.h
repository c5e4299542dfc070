/* SPDX-License-Identifier: Apache-2.0 */
/* pidfds: the only handle through which this project signals or waits for a process. Thin: negative errno. */
#pragma once

#include <sys/types.h>

#include "base/util.h"

int pidfd_open_process(pid_t pid) _must_check_;
int pidfd_kill(int pidfd, int sig) _must_check_;
/* 1: has exited (zombie or reaped), 0: not within timeout_ms (-1: wait for ever), or negative errno. */
int pidfd_wait_exit(int pidfd, int timeout_ms) _must_check_;
/* Reaps a child: *ret_status in the form of wait(2). -ECHILD: not our child. */
int pidfd_reap(int pidfd, int *ret_status) _must_check_;
/* The same for a process that has exited and is anybody's child, from the kernel's memory of it (Linux 6.15) or, until it is
 * reaped, /proc. -ENODATA: not known. */
int pidfd_exit_status(int pidfd, int *ret_status) _must_check_;
/* Its pid in our pid namespace, or -ESRCH: it has been reaped, or is of another one. */
pid_t pidfd_pid(int pidfd) _must_check_;
/* The root of /proc, O_PATH, when it is a procfs; else -ENOTSUP. Opened while we are still in a mount namespace that no
 * container can change, it stays good whatever is mounted over /proc where we go (CVE-2025-52881). */
int procfs_open(void) _must_check_;
/* One write(2) to a file below it: never outside of it, never through a magic link, and only to a procfs. */
int procfs_write(int proc, const char *path, const char *value) _must_check_;
/* Field 22 of /proc/PID/stat: with the pid it names a process for all time. */
int process_start_time(pid_t pid, uint64_t *ret) _must_check_;
/* The first process of a pid namespace that has ended, and holds nothing any more, but is there until others of its namespace, who
 * have ended as well, have been waited for by their parents outside. */
bool process_awaits_others(pid_t pid);
