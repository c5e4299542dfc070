/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What smaps says of mappings beside maps, without walking through all of their pages (10 ms for 1 GiB): a BPF iterator reads
 * the kernel's own flags. What they mean is not assumed: it is learned from mappings of ours, of which smaps tells the same.
 */
#pragma once

#include "linux/procfs.h"

struct vma_flags;
/* Learns; best done beforehand. Negative errno: not on this kernel, or not for us. */
int vma_flags_new(struct vma_flags **ret) _must_check_;
void vma_flags_free(struct vma_flags *f);

/* Fills in flags and protection_key of what maps says of a process that stands still; tid: one of its threads. 1: it has a
 * mapping of a kind that has not been learned, or with pages of another size: smaps is to be read. */
int vma_flags_read(
	struct vma_flags *f, pid_t tid, struct arena *a, struct proc_vma *vmas, size_t n) _must_check_;
