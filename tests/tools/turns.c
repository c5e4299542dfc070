/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turns a|b FOLDER: two programs in two containers, which count by turns: a counts, then b, then a. What they tell each other is
 * in FOLDER/turns, a file that both map; how far they have come is in their own memory only. So at any moment a has
 * counted as often as b, or once more; two moments, even microseconds apart, show another difference.
 * When there is FOLDER/tell they write their number to FOLDER/a and FOLDER/b, and end.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct {
	_Atomic unsigned long a, b;
} * turns;

static volatile unsigned long counted;
static char path[4096];

static const char *in(const char *folder, const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static _Noreturn void tell(const char *folder, const char *name)
{
	FILE *f = fopen(in(folder, ".told"), "w");
	char from[4096];

	if (!f)
		_exit(1);
	fprintf(f, "%lu\n", counted);
	fclose(f);
	snprintf(from, sizeof(from), "%s", in(folder, ".told"));
	_exit(rename(from, in(folder, name)) != 0);
}

int main(int argc, char **argv)
{
	bool is_a = argv[1][0] == 'a';
	int fd = open(in(argv[2], "turns"), O_RDWR);

	if (argc != 3 || fd < 0)
		return 1;
	turns = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (turns == MAP_FAILED)
		return 1;
	close(fd);
	if (is_a)
		turns->a = ++counted;
	for (unsigned long n = 0;; n++) {
		if (is_a && turns->b == counted)
			turns->a = ++counted;
		else if (!is_a && turns->a == counted + 1)
			turns->b = ++counted;
		else if (n % 64 == 0)
			sched_yield();
		if (n % 65536 == 0 && access(in(argv[2], "tell"), F_OK) == 0)
			tell(argv[2], argv[1]);
	}
}
