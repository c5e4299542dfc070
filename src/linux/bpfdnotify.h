/* SPDX-License-Identifier: Apache-2.0 */
/* What a directory is watched for by dnotify (fcntl(2), F_NOTIFY): no file shows it, a BPF iterator of ours does. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/util.h"

/* By the thread's table of descriptors and with this number: *ret as F_NOTIFY takes it (DN_*); 0: it is not. -EOPNOTSUPP: this kernel does
 * not tell, or what it says is not known; -EPERM; -E2BIG: too many watch the directory. */
int bpf_dnotify_read(pid_t tid, int fd, uint32_t *ret) _must_check_;
