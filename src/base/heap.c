/* SPDX-License-Identifier: Apache-2.0 */
#include "base/heap.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum { BLOCK = 64 << 10, BLOCKS_MAX = 128, PAGE = 4096, LARGE = 1 << 20 };

/* Those that malloc() does not get by mmap; they become one with the top of the heap when they are freed. */
void heap_prepare(size_t size)
{
	void *blocks[BLOCKS_MAX];
	size_t n = 0;

	mallopt(M_MMAP_THRESHOLD, LARGE);
	mallopt(M_TRIM_THRESHOLD, 2 * BLOCKS_MAX * BLOCK);
	while (n < BLOCKS_MAX && n < size / BLOCK && (blocks[n] = malloc(BLOCK - 64))) {
		uintptr_t begin = (uintptr_t)blocks[n] & ~(uintptr_t)(PAGE - 1);

		(void)!madvise((void *)begin, BLOCK, MADV_POPULATE_WRITE);
		n++;
	}
	while (n > 0)
		free(blocks[--n]);
}
