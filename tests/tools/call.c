/* SPDX-License-Identifier: Apache-2.0 */
/*
 * call [-32] NUMBER [ARGUMENT...]: one system call by its number, of the 32-bit ABI with -32; prints its result, or the
 * name of its errno. For the tests of seccomp filters.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long call32(const long *a)
{
	long r = a[0];

	__asm__ volatile("int $0x80"
			 : "+a"(r)
			 : "b"(a[1]), "c"(a[2]), "d"(a[3])
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)r;
}

int main(int argc, char **argv)
{
	int first = argc > 1 && !strcmp(argv[1], "-32") ? 2 : 1;
	long a[7] = {0}, r;

	for (int i = first; i < argc && i - first < 7; i++)
		a[i - first] = strtol(argv[i], NULL, 0);
	if (first == 2) {
		r = call32(a);
	} else {
		r = syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
		r = r < 0 ? -errno : r;
	}
	if (r < 0 && r > -4096)
		puts(strerrorname_np(-r) ? strerrorname_np(-r) : "unknown errno");
	else
		printf("%ld\n", r);
	return 0;
}
