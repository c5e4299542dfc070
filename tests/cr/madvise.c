/* SPDX-License-Identifier: Apache-2.0 */
/* The flags of mappings that madvise and mmap set, as smaps shows them, and what those about fork do. */
#include "cr.h"

#define PAGE 4096UL
#define SIZE (4UL << 20)

static struct area {
	const char *name;
	int advice, map_flags;
	const char *flag;
	char *at;
	bool absent; /* this kernel does not have it */
	char flags[256];
} areas[] = {
	{"hugepage", MADV_HUGEPAGE, 0, "hg"},
	{"nohugepage", MADV_NOHUGEPAGE, 0, "nh"},
	{"dontfork", MADV_DONTFORK, 0, "dc"},
	{"wipeonfork", MADV_WIPEONFORK, 0, "wf"},
	{"dontdump", MADV_DONTDUMP, 0, "dd"},
	{"mergeable", MADV_MERGEABLE, 0, "mg"},
	{"sequential", MADV_SEQUENTIAL, 0, "sr"},
	{"random", MADV_RANDOM, 0, "rr"},
	{"noreserve", 0, MAP_NORESERVE, "nr"},
	{"plain", 0, 0, ""},
};

enum { N = sizeof(areas) / sizeof(areas[0]) };

static void flags_of(const char *at, char *ret, size_t size)
{
	static char smaps[1 << 20];
	char head[64], *p;

	must(cr_read("/proc/self/smaps", smaps, sizeof(smaps)));
	snprintf(head, sizeof(head), "%lx-", (unsigned long)at);
	p = strstr(smaps, head);
	check(p && (p == smaps || p[-1] == '\n'), "no mapping starts at %p", at);
	p = strstr(p, "VmFlags: ");
	snprintf(ret, size, "%.*s", (int)strcspn(p, "\n"), p);
}

int main(void)
{
	for (int i = 0; i < N; i++) {
		struct area *a = &areas[i];
		/* With unmapped room on both sides, so that none merges with its neighbour. */
		char *room = must(mmap(NULL, 3 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

		a->at = (char *)(((unsigned long)room + SIZE - 1) & ~(SIZE - 1));
		must(munmap(room, 3 * SIZE));
		must(mmap(a->at, SIZE / 2, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | a->map_flags, -1, 0));
		if (a->advice && madvise(a->at, SIZE / 2, a->advice) < 0) {
			check(errno == EINVAL, "madvise %s: %m", a->name);
			a->absent = true;
		}
		cr_fill(a->at, 8 * PAGE, i);
		flags_of(a->at, a->flags, sizeof(a->flags));
		check(a->absent || strstr(a->flags, a->flag), "%s has no flag %s: %s", a->name, a->flag,
			a->flags);
	}
	while (cr_wait()) {
		char now[256];
		int status;
		pid_t pid;

		for (int i = 0; i < N; i++) {
			flags_of(areas[i].at, now, sizeof(now));
			check(areas[i].absent || strstr(now, areas[i].flag),
				"%s lost its flag: had %s, has %s", areas[i].name, areas[i].flags, now);
			check(!strcmp(now, areas[i].flags), "%s had %s, has %s", areas[i].name,
				areas[i].flags, now);
			check(cr_differs(areas[i].at, 8 * PAGE, i) < 0, "contents of %s", areas[i].name);
		}
		pid = must(fork());
		if (pid == 0) {
			int p[2];

			must(pipe(p));
			if (write(p[1], areas[2].at, 1) != -1 || errno != EFAULT)
				_exit(1); /* dontfork */
			for (size_t k = 0; k < 8 * PAGE; k++)
				if (areas[3].at[k])
					_exit(2); /* wipeonfork */
			_exit(cr_differs(areas[9].at, 8 * PAGE, 9) < 0 ? 0 : 3);
		}
		must(waitpid(pid, &status, 0));
		check(status == 0, "in a child, status %x", status);
	}
	return 0;
}
