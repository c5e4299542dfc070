/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a seccomp program. Thin: negative errno, no messages. Headers here may not be named as one of the
 * kernel's own in <linux/...>: the include path would find ours first. */
#pragma once

#include <linux/filter.h>

#include "base/util.h"

/* flags: SECCOMP_FILTER_FLAG_*. Returns the listener fd with FLAG_NEW_LISTENER, else 0. */
int seccomp_install(const struct sock_fprog *program, unsigned long flags) _must_check_;
