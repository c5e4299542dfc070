/* SPDX-License-Identifier: Apache-2.0 */
#include "base/heap.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum { BLOCK = 64 << 10, BLOCKS_MAX = 128, PAGE = 4096, LARGE = 1 << 20, STACK = 384 << 10 };

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

/* The lowest of the pages: all between are there then, as addresses, and cost nothing. */
static __attribute__((noinline)) void touch_stack(void)
{
	volatile char pages[STACK];

	pages[0] = 0;
	(void)pages[0];
}

int stack_prepare(struct error *e)
{
	struct rlimit space, stack;
	void *probe;

	if (getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur < STACK + STACK / 4)
		return error_set(e, -ENOMEM, ERROR_SYSTEM,
			"the stack of this process is limited to %llu KiB, and may need %u: raise "
			"RLIMIT_STACK, ulimit -s",
			(unsigned long long)stack.rlim_cur >> 10, (STACK + STACK / 4) >> 10);
	if (getrlimit(RLIMIT_AS, &space) < 0 || space.rlim_cur == RLIM_INFINITY)
		return 0;
	probe = mmap(NULL, STACK + LARGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (probe == MAP_FAILED)
		return error_errno(e, -errno, "stack of the command");
	munmap(probe, STACK + LARGE);
	touch_stack();
	return 0;
}
