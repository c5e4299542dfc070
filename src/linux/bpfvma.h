/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flags of mappings as the kernel has them, without its page tables being walked as for /proc/PID/smaps: by a BPF iterator. What
 * the bits mean differs between kernels, so they are only good for being compared.
 */
#pragma once

#include "base/arena.h"

struct vma_bits {
	uint64_t start, end, flags;
};

/* Loads the program that looks: its descriptor. -EOPNOTSUPP: this kernel does not have the iterator, or does not say where the flags
 * are; -EPERM. */
int vma_bits_load(void) _must_check_;
/* For one process, which is looked at when the descriptor returned is read by the next function, once. */
int vma_bits_begin(int program, int pid) _must_check_;
/* Of more mappings than 1365 there are only the first ones: compare with /proc/PID/maps. */
int vma_bits_read(int iterator, struct arena *a, struct vma_bits **ret, size_t *ret_n) _must_check_;
