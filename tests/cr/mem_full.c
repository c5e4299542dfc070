/* SPDX-License-Identifier: Apache-2.0 */
/* cr: also=packed_chain */
/* Private memory that a restore may fill with huge pages, though nobody has asked for them: contents, neighbours that were
 * never touched, memory that is to have none, and no new advice. */
#include "cr.h"

#define HUGE (2UL << 20)
#define SIZE (8 * HUGE)
#define PAGE 4096UL

static char *area(size_t size)
{
	char *room =
		must(mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	return (char *)(((unsigned long)room + HUGE - 1) & ~(HUGE - 1));
}

/* Pages that are there. */
static size_t resident(const char *p, size_t size)
{
	static uint64_t entries[SIZE / PAGE];
	int fd = must(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	size_t n = size / PAGE, found = 0;

	check(pread(fd, entries, n * 8, (unsigned long)p / PAGE * 8) == (ssize_t)(n * 8), "page map");
	close(fd);
	for (size_t i = 0; i < n; i++)
		found += entries[i] >> 62 != 0;
	return found;
}

/* Of the mapping that begins at or before p: a number of smaps, or whether VmFlags has a flag. */
static long smaps_of(const char *p, const char *key, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	bool here = false;
	long result = -1;

	check(f != NULL, "smaps");
	while (fgets(line, sizeof(line), f)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && strchr(line, '-') < strchr(line, ' '))
			here = start <= (unsigned long)p && (unsigned long)p < end;
		else if (here && !strncmp(line, key, strlen(key)))
			result = flag ? strstr(line, flag) != NULL : strtol(line + strlen(key), NULL, 10);
	}
	fclose(f);
	return result;
}

int main(void)
{
	char *full = area(SIZE), *holes = area(SIZE), *none = area(SIZE), *text = area(SIZE);

	cr_fill(full, SIZE, 1);
	for (size_t at = 0; at < SIZE; at += 4 * PAGE) /* every fourth page */
		cr_fill(holes + at, PAGE, 2 + at);
	must(madvise(none, SIZE, MADV_NOHUGEPAGE));
	cr_fill(none, SIZE, 3);
	for (size_t at = 0; at < SIZE; at += 64)
		*(uint64_t *)(text + at) = cr_mix(at);
	must(mprotect(text, SIZE, PROT_READ));
	while (cr_wait()) {
		check(cr_differs(full, SIZE, 1) < 0, "what was full");
		for (size_t at = 0; at < SIZE; at += 4 * PAGE)
			check(cr_differs(holes + at, PAGE, 2 + at) < 0, "between holes, at %zx", at);
		check(cr_differs(none, SIZE, 3) < 0, "what has no huge pages");
		for (size_t at = 0; at < SIZE; at += 64)
			check(*(uint64_t *)(text + at) == cr_mix(at), "what can only be read, at %zx", at);
		check(resident(holes, SIZE) == SIZE / PAGE / 4, "%zu pages between holes",
			resident(holes, SIZE));
		check(smaps_of(none, "AnonHugePages:", NULL) == 0, "huge pages where there were to be none");
		check(smaps_of(full, "VmFlags:", " hg") == 0 && smaps_of(full, "VmFlags:", " nh") == 0 &&
				smaps_of(none, "VmFlags:", " nh") == 1,
			"advice that it did not have");
	}
	return 0;
}
