/* SPDX-License-Identifier: Apache-2.0 */
/* What a seccomp program answers, without a kernel. Thin, as seccomp-load.h. */
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "base/util.h"

/* SECCOMP_RET_* and its data. A program that the kernel would not load answers SECCOMP_RET_KILL_PROCESS. */
uint32_t seccomp_run(const struct sock_fprog *p, const struct seccomp_data *d);

/* Whether all n filters let this system call of a native program through. */
bool seccomp_lets_through(const struct sock_fprog *filters, size_t n, long nr, const uint64_t args[6]);
/* Whether they may let it through, with some arguments at all; true, if that is too hard to say. */
bool seccomp_may_let_through(const struct sock_fprog *filters, size_t n, long nr);
