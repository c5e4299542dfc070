/* SPDX-License-Identifier: Apache-2.0 */
/* Locked memory: the same ranges stay locked (also on-fault ones) and count against the limit. */
#include "cr.h"

#define PAGE 4096UL

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

static long locked_kib(void)
{
	char text[8192], *p;

	must(cr_read("/proc/self/status", text, sizeof(text)));
	p = strstr(text, "VmLck:");
	return strtol(p + 6, NULL, 10);
}

int main(void)
{
	char *a = must(mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	char *b = must(mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	char *c = must(mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	long expected;

	cr_fill(a, 8 * PAGE, 51);
	must(mlock(a + 2 * PAGE, 3 * PAGE));
	must(syscall(SYS_mlock2, b, 4 * PAGE, MLOCK_ONFAULT));
	must(mlock(c, PAGE));
	expected = locked_kib();
	check(expected == 32, "locked: %ld KiB", expected);
	while (cr_wait()) {
		check(locked_kib() == expected, "locked were %ld KiB, are %ld", expected, locked_kib());
		check(cr_differs(a, 8 * PAGE, 51) < 0, "contents");
		must(munlock(a + 2 * PAGE, PAGE));
		check(locked_kib() == expected - 4, "after munlock of a page %ld KiB are locked",
			locked_kib());
		must(mlock(a + 2 * PAGE, PAGE));
	}
	return 0;
}
