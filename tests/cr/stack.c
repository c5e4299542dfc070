/* SPDX-License-Identifier: Apache-2.0 */
/* Stacks: the main one grows on after the restore, a deep one is kept, one made with MAP_GROWSDOWN still grows. */
#include "cr.h"

#define PAGE 4096UL

static char *growing;

static uint64_t recurse(int depth, uint64_t seed, void (*at_the_bottom)(void))
{
	volatile uint64_t frame[500];

	for (int i = 0; i < 500; i++)
		frame[i] = cr_mix(seed + i);
	if (depth > 0)
		recurse(depth - 1, seed + 1000, at_the_bottom);
	else
		at_the_bottom();
	for (int i = 0; i < 500; i++)
		check(frame[i] == cr_mix(seed + i), "the frame at depth %d", depth);
	return frame[0];
}

static void nothing(void)
{
}

static void rounds(void)
{
	for (int round = 1; cr_wait(); round++) {
		recurse(300 * round, 5, nothing); /* 1.2 MB and more of fresh stack */
		/* Below what was touched before: the mapping has to grow. */
		growing -= 3 * PAGE;
		*(volatile char *)growing = 1;
		check(growing[PAGE] == 0 && growing[2 * PAGE] == 0, "what grew is not zero");
	}
}

int main(void)
{
	char *area =
		must(mmap(NULL, 4UL << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));

	must(munmap(area, 4UL << 20));
	growing = must(mmap(area + (3UL << 20), 4 * PAGE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0));
	memset(growing, 0x55, 4 * PAGE);
	recurse(200, 77, rounds); /* the rounds are at the bottom of 800 KB of stack that is in use */
	for (size_t i = 0; i < 4 * PAGE; i++)
		check(area[(3UL << 20) + i] == 0x55, "the growing stack's old part at %zu", i);
	return 0;
}
