/* SPDX-License-Identifier: Apache-2.0 */
/* 96 MiB with transparent huge pages, incompressible: every byte comes back; a hole punched into it stays one. */
#include "cr.h"

#define SIZE (96UL << 20)
#define HUGE (2UL << 20)

int main(void)
{
	char *room =
		must(mmap(NULL, SIZE + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	char *p = (char *)(((unsigned long)room + HUGE - 1) & ~(HUGE - 1));

	madvise(p, SIZE, MADV_HUGEPAGE); /* EINVAL on kernels without it */
	cr_fill(p, SIZE, 71);
	must(madvise(p + 10 * HUGE + 4096 * 5, 4096 * 3, MADV_DONTNEED));
	while (cr_wait()) {
		ssize_t at = cr_differs(p, 10 * HUGE + 4096 * 5, 71);

		check(at < 0, "it differs at %zx", at);
		for (size_t i = 0; i < 4096 * 3; i++)
			check(p[10 * HUGE + 4096 * 5 + i] == 0, "the hole is filled");
		at = cr_differs(p + 10 * HUGE + 4096 * 8, SIZE - 10 * HUGE - 4096 * 8,
			71 + (10 * HUGE + 4096 * 8) / 8);
		check(at < 0, "behind the hole it differs at %zx", at);
	}
	return 0;
}
