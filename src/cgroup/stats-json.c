/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics as runc's `events --stats` prints them: containerd and others parse these very names. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cgroup/stats.h"

static void put_row(FILE *f, const char *name, const uint64_t *row, size_t n)
{
	if (!row)
		return;
	fprintf(f, "\"%s\":[", name);
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%s%" PRIu64, i ? "," : "", row[i]);
	fputs("],", f);
}

static void put_stall(FILE *f, const char *name, const struct cgroup_stall *s)
{
	fprintf(f, "\"%s\":{\"avg10\":%.2f,\"avg60\":%.2f,\"avg300\":%.2f,\"total\":%" PRIu64 "}", name,
		s->avg10, s->avg60, s->avg300, s->total);
}

static void put_pressure(FILE *f, const struct cgroup_pressure *p)
{
	if (!p->present)
		return;
	fputs(",\"psi\":{", f);
	put_stall(f, "some", &p->some);
	fputc(',', f);
	put_stall(f, "full", &p->full);
	fputc('}', f);
}

static void put_cpu(FILE *f, const struct cgroup_stats *s)
{
	fprintf(f, "\"cpu\":{\"usage\":{\"total\":%" PRIu64 ",", s->cpu_total);
	put_row(f, "percpu", s->percpu, s->n_cpus);
	put_row(f, "percpu_kernel", s->percpu_kernel, s->n_cpus);
	put_row(f, "percpu_user", s->percpu_user, s->n_cpus);
	fprintf(f, "\"kernel\":%" PRIu64 ",\"user\":%" PRIu64 "},", s->cpu_kernel, s->cpu_user);
	fprintf(f,
		"\"throttling\":{\"periods\":%" PRIu64 ",\"throttledPeriods\":%" PRIu64
		",\"throttledTime\":%" PRIu64 "}",
		s->periods, s->throttled_periods, s->throttled_time);
	put_pressure(f, &s->cpu_pressure);
	fputs("},\"cpuset\":{},", f);
}

static void put_usage(FILE *f, const char *name, const struct cgroup_usage *u)
{
	fprintf(f,
		"\"%s\":{\"limit\":%" PRIu64 ",\"usage\":%" PRIu64 ",\"max\":%" PRIu64 ",\"failcnt\":%" PRIu64
		"},",
		name, u->limit, u->usage, u->max, u->failcnt);
}

static void put_memory(FILE *f, const struct cgroup_stats *s)
{
	fprintf(f, "\"memory\":{\"cache\":%" PRIu64 ",", s->cache);
	put_usage(f, "usage", &s->memory);
	put_usage(f, "swap", &s->swap);
	put_usage(f, "kernel", &s->kernel);
	put_usage(f, "kernelTCP", &s->kernel_tcp);
	fputs("\"raw\":{", f);
	for (size_t i = 0; i < s->n_memory_stat; i++)
		fprintf(f, "%s\"%s\":%" PRIu64, i ? "," : "", s->memory_stat[i].name,
			s->memory_stat[i].value);
	fputc('}', f);
	put_pressure(f, &s->memory_pressure);
	fputs("},", f);
}

static void put_io(FILE *f, const char *name, const struct cgroup_io_list *list)
{
	if (!list->n)
		return;
	fprintf(f, "\"%s\":[", name);
	for (size_t i = 0; i < list->n; i++)
		fprintf(f,
			"%s{\"major\":%" PRIu64 ",\"minor\":%" PRIu64 ",\"op\":\"%s\",\"value\":%" PRIu64 "}",
			i ? "," : "", list->entries[i].major, list->entries[i].minor, list->entries[i].op,
			list->entries[i].value);
	fputs("],", f);
}

static void put_blkio(FILE *f, const struct cgroup_stats *s)
{
	fputs("\"blkio\":{", f);
	put_io(f, "ioServiceBytesRecursive", &s->io_bytes);
	put_io(f, "ioServicedRecursive", &s->io_operations);
	/* runc's readers know these, all empty since CFQ is gone; "sectorsRecursive" also ends the list of members. */
	fputs("\"sectorsRecursive\":[]", f);
	put_pressure(f, &s->io_pressure);
	fputs("},", f);
}

static void put_hugetlb(FILE *f, const struct cgroup_stats *s)
{
	fputs("\"hugetlb\":{", f);
	for (size_t i = 0; i < s->n_hugetlb; i++)
		fprintf(f, "%s\"%s\":{\"usage\":%" PRIu64 ",\"max\":%" PRIu64 ",\"failcnt\":%" PRIu64 "}",
			i ? "," : "", s->hugetlb[i].page_size, s->hugetlb[i].usage, s->hugetlb[i].max,
			s->hugetlb[i].failcnt);
	fputs("},", f);
}

int cgroup_stats_json(const struct cgroup_stats *s, const char *rdt, const char *interfaces, char **ret)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	bool failed;

	if (!f)
		return -ENOMEM;
	fputc('{', f);
	put_cpu(f, s);
	put_memory(f, s);
	fprintf(f, "\"pids\":{\"current\":%" PRIu64 ",\"limit\":%" PRIu64 "},", s->pids_current,
		s->pids_limit);
	put_blkio(f, s);
	put_hugetlb(f, s);
	fprintf(f, "\"intel_rdt\":%s,\"network_interfaces\":%s}", rdt ? rdt : "{}",
		interfaces ? interfaces : "null");
	failed = ferror(f);
	if (fclose(f) != 0 || failed)
		return -ENOMEM;
	*ret = take_ptr(text);
	return 0;
}
