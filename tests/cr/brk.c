/* SPDX-License-Identifier: Apache-2.0 */
/* The heap by brk: contents, the break where it was, and it grows and shrinks on; malloc works on. */
#include "cr.h"

int main(void)
{
	char *start = sbrk(0), *now;
	void *blocks[100];
	size_t size = 1 << 20;

	check(sbrk(size) == start, "sbrk: %m");
	cr_fill(start, size, 41);
	for (int i = 0; i < 100; i++) {
		blocks[i] = malloc(1000 + i * 8);
		cr_fill(blocks[i], 1000 + i * 8, i);
	}
	now = sbrk(0);
	while (cr_wait()) {
		check(sbrk(0) == now, "the break was %p, is %p", now, sbrk(0));
		check(cr_differs(start, size, 41) < 0, "the heap differs at %zd",
			cr_differs(start, size, 41));
		for (int i = 0; i < 100; i++) {
			check(cr_differs(blocks[i], 1000 + i * 8, i) < 0, "block %d", i);
			free(blocks[i]);
		}
		for (int i = 0; i < 100; i++) {
			blocks[i] = malloc(1000 + i * 8);
			cr_fill(blocks[i], 1000 + i * 8, i);
		}
		now = sbrk(0);
		check(sbrk(64 << 10) == now, "the heap does not grow: %m");
		memset(now, 1, 64 << 10);
		must(sbrk(-(32 << 10)));
		now = sbrk(0);
	}
	return 0;
}
