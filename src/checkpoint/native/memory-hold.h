/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that outlives its process. Who reads /proc/PID/mem holds a reference on the address space as long as the read takes: a
 * thread of ours reads one byte into a page that userfaultfd never gives it, and so sleeps in the middle of the read. The
 * process can die meanwhile, and its memory, which nobody can change any more, is still read through the same descriptor.
 * Should we die, the kernel ends the read, and the memory is gone.
 */
#pragma once

#include <stdint.h>

#include "base/util.h"

struct memory_holds;
/* Room for n at a time. Negative errno: not on this machine (no userfaultfd, or not for us). */
int memory_holds_new(unsigned n, struct memory_holds **ret) _must_check_;
/* Lets all go. */
void memory_holds_free(struct memory_holds *h);

/* Number i; address: of a byte that can be read there. mem_fd is borrowed. */
int memory_hold(struct memory_holds *h, unsigned i, int mem_fd, uint64_t address) _must_check_;
/* The kernel frees it then, in a thread of its own. */
void memory_let_go(struct memory_holds *h, unsigned i);
