/* SPDX-License-Identifier: Apache-2.0 */
/* Memory and files with huge pages of their own: hugetlb. */
#pragma once

#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"

/* Of a file on a hugetlbfs: log2 of the size of its pages. 0: it is another file. */
unsigned huge_shift_of(int fd);
/* What the size of mappings of the memory is a multiple of. */
uint64_t huge_page_size(const St__SharedMemory *m);
/* As dump_contents() and restore_contents(), of such a file: it can be read, but not be written to. */
int huge_dump_contents(struct dump *d, uint64_t space, int fd, uint64_t size, struct error *e) _must_check_;
int huge_restore_contents(
	struct restore *r, uint64_t space, int fd, unsigned shift, struct error *e) _must_check_;
/* Obstacles: files on a hugetlbfs that create mounts anew. */
int huge_check_mounts(struct dump *d, struct error *e) _must_check_;

/* In the parent, before anything is made: whether flags and sizes make sense; whether the machine has the pages; the file
 * of shared anonymous memory. */
bool huge_is_valid(const St__Vma *v);
bool huge_shm_is_valid(const St__SharedMemory *m);
int huge_check_pool(const struct restore *r, struct error *e) _must_check_;
int huge_make_anonymous(struct restore_shm *s, struct error *e) _must_check_;
/* Its own mapping of memory that is shared. */
void op_map_huge(struct batch *b, const struct restore_shm *s, const St__Vma *v);
#define HUGE_POOL_REMEDY                                                                                     \
	"see HugePages_Free and HugePages_Rsvd of /proc/meminfo, and raise vm.nr_hugepages (or "             \
	"nr_overcommit_hugepages)"
