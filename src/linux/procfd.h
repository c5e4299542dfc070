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
/* Field 22 of /proc/PID/stat: with the pid it names a process for all time. */
int process_start_time(pid_t pid, uint64_t *ret) _must_check_;
