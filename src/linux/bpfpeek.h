/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's own memory, read by address: for what hangs on several pointers, of which an iterator would need a program each. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/util.h"

/* -EOPNOTSUPP, -EPERM: this kernel does not let us; -EFAULT: there is nothing. What is read may be changing. A process that has been
 * forked reads by a program of its own. */
int bpf_peek(uint64_t address, void *buf, size_t len) _must_check_;
/* The struct file of one of our own descriptors. */
int bpf_peek_file(int fd, uint64_t *ret) _must_check_;
