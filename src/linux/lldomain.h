/* SPDX-License-Identifier: Apache-2.0 */
/* Which threads have a Landlock domain, which the kernel shows in no file. */
#pragma once

#include <sys/types.h>

#include "base/arena.h"
#include "base/util.h"

/*
 * Looks at all threads of the machine at once; *ret: the ids of those that have a domain. 0 also where the kernel has no Landlock.
 * -EOPNOTSUPP: it is not known (this kernel does not let us look, or we are in a pid namespace of our own); -EPERM.
 * The first look of a process takes a millisecond or two, later ones (also of its forks) some ten microseconds: landlock_begin()
 * lets a thread prepare it, landlock_learn() returns when it is done.
 */
void landlock_begin(void);
void landlock_learn(void);
int landlock_find(struct arena *a, pid_t **ret, size_t *ret_n) _must_check_;
