/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target of the /proc parsers. The first byte chooses the parser (by its letter, so that the corpus can be read),
 * the rest is the text. Beyond not crashing, what a parser accepts has to keep the promises of procfs.h.
 */
#include "linux/procfs.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void fuzz_maps(const char *text, struct arena *a)
{
	struct proc_vma *v;
	size_t n;

	if (proc_parse_maps(text, a, &v, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		check(v[i].start < v[i].end && (i == 0 || v[i - 1].end <= v[i].start));
		check(strlen(v[i].name) <= strlen(text));
	}
}

static void fuzz_mountinfo(const char *text, struct arena *a)
{
	struct proc_mount *m;
	size_t n;

	if (proc_parse_mountinfo(text, a, &m, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		check(strlen(m[i].root) + strlen(m[i].target) + strlen(m[i].options) + strlen(m[i].optional) +
				strlen(m[i].fstype) + strlen(m[i].source) + strlen(m[i].super_options) <=
			strlen(text));
}

static void fuzz_status(const char *text, struct arena *a)
{
	struct proc_status s;

	if (proc_parse_status(text, a, &s) < 0)
		return;
	check(s.n_ns >= 1 && s.n_ns <= ARRAY_SIZE(s.ns_pid) && strlen(s.name) < sizeof(s.name));
}

static void fuzz_fdinfo(const char *text, struct arena *a)
{
	struct proc_fdinfo f;

	if (proc_parse_fdinfo(text, a, &f) < 0)
		return;
	check(f.has_epoll == (f.n_epoll > 0));
	for (size_t i = 0; i < f.n_marks; i++)
		check(f.marks[i].handle_bytes <= sizeof(f.marks[i].handle));
	for (size_t i = 0; i < f.n_locks; i++)
		check(f.locks[i].start >= 0 && f.locks[i].end >= f.locks[i].start);
	check(f.it_value.nsec < 1000000000 && f.it_interval.nsec < 1000000000);
}

static void fuzz_text(char which, const char *text, struct arena *a)
{
	struct proc_limit limits[PROC_LIMITS];
	struct proc_posix_timer *timers;
	struct proc_group *groups;
	struct proc_sleep *sleeps;
	struct proc_stat stat;
	size_t n;

	switch (which) {
	case 'm':
		fuzz_maps(text, a);
		break;
	case 'i':
		fuzz_mountinfo(text, a);
		break;
	case 's':
		fuzz_status(text, a);
		break;
	case 'f':
		fuzz_fdinfo(text, a);
		break;
	case 't':
		if (proc_parse_timers(text, a, &timers, &n) == 0)
			check(n <= strlen(text));
		break;
	case 'h':
		if (proc_parse_timer_list(text, a, &sleeps, &n) == 0)
			check(n <= strlen(text));
		break;
	case 'g':
		if (proc_parse_igmp(text, a, &groups, &n) == 0)
			for (size_t i = 0; i < n; i++)
				check(groups[i].device[0] && strlen(groups[i].device) < PROC_DEVICE_SIZE);
		break;
	case 'G':
		if (proc_parse_igmp6(text, a, &groups, &n) == 0)
			for (size_t i = 0; i < n; i++)
				check(groups[i].device[0] && strlen(groups[i].device) < PROC_DEVICE_SIZE);
		break;
	case 'l':
		(void)!proc_parse_limits(text, limits);
		break;
	default:
		if (proc_parse_stat(text, &stat) == 0)
			check(strlen(stat.comm) < sizeof(stat.comm));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena a = {0};
	char *text;

	if (size == 0)
		return 0;
	text = strndup((const char *)data + 1, size - 1);
	check(text);
	fuzz_text((char)data[0], text, &a);
	arena_done(&a);
	free(text);
	return 0;
}
