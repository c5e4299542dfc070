/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading what a cgroup has used. A file that is not there leaves its number at zero: kernels differ in what they
 * count, and a container without a controller has nothing to tell. Only text that can't be understood is an error.
 */
#include "cgroup/stats.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "cgroup/cgroup-priv.h"

enum { STAT_FILE_MAX = 1024 * 1024 };

struct reader {
	struct cgroup_stats *s;
	struct error *e;
	int dir;
};

/* Text of a file below the directory: 1, 0 when there is none, or a negative errno. */
static int read_text(const struct reader *r, const char *file, char **ret)
{
	size_t len;
	int q = read_file_at(r->dir, file, STAT_FILE_MAX, ret, &len);

	if (q == -ENOENT || q == -EOPNOTSUPP || q == -EINVAL)
		return 0;
	return q < 0 ? error_errno(r->e, q, "cgroup: read %s", file) : 1;
}

static int bad_text(const struct reader *r, const char *file, const char *text)
{
	return error_set(r->e, -EBADMSG, ERROR_SYSTEM, "cgroup: %s: not understood: \"%.60s\"", file, text);
}

/* A number at *at, which then points behind it; "max" is UINT64_MAX. */
static bool take_number(const char **at, uint64_t *ret)
{
	char *end;

	if (strncmp(*at, "max", 3) == 0) {
		*ret = UINT64_MAX;
		*at += 3;
		return true;
	}
	if (**at < '0' || **at > '9')
		return false;
	errno = 0;
	*ret = strtoull(*at, &end, 10);
	*at = end;
	return errno == 0;
}

static int read_number(const struct reader *r, const char *file, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;
	const char *at;
	int q = read_text(r, file, &text);

	if (q <= 0)
		return q;
	at = text;
	return take_number(&at, ret) ? 1 : bad_text(r, file, text);
}

typedef int (*line_fn)(const struct reader *r, const char *key, const char *value);

/* Lines of "key value". */
static int read_pairs(const struct reader *r, const char *file, line_fn each)
{
	_cleanup_free_ char *text = NULL;
	char *rest, *line;
	int q = read_text(r, file, &text);

	rest = text;
	while (q > 0 && (line = strsep(&rest, "\n"))) {
		char *space = strchr(line, ' ');

		if (!line[0])
			continue;
		if (!space)
			return bad_text(r, file, line);
		*space = 0;
		q = each(r, line, space + 1);
		if (q < 0)
			return q;
		q = 1;
	}
	return q;
}

/* All numbers of a line of numbers, into the arena. */
static int read_row(const struct reader *r, const char *file, uint64_t **ret, size_t *ret_n)
{
	_cleanup_free_ char *text = NULL;
	const char *at;
	uint64_t *row;
	size_t n = 0;
	int q = read_text(r, file, &text);

	if (q <= 0)
		return q;
	row = arena_array(&r->s->arena, strlen(text) / 2 + 1, sizeof(*row));
	if (!row)
		return error_set(r->e, -ENOMEM, ERROR_SYSTEM, "out of memory while reading %s", file);
	for (at = text; *at && *at != '\n'; at += strspn(at, " "))
		if (!take_number(&at, &row[n++]))
			return bad_text(r, file, at);
	*ret = row;
	*ret_n = n;
	return 1;
}

static int cpu_stat_line(const struct reader *r, const char *key, const char *value)
{
	const struct {
		const char *key;
		uint64_t *to;
		uint64_t factor;
	} known[] = {
		{"usage_usec", &r->s->cpu_total, 1000},
		{"user_usec", &r->s->cpu_user, 1000},
		{"system_usec", &r->s->cpu_kernel, 1000},
		{"nr_periods", &r->s->periods, 1},
		{"nr_throttled", &r->s->throttled_periods, 1},
		{"throttled_usec", &r->s->throttled_time, 1000},
		{"throttled_time", &r->s->throttled_time, 1},
	};
	uint64_t n;

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(known[i].key, key) == 0) {
			if (!take_number(&value, &n))
				return bad_text(r, "cpu.stat", value);
			*known[i].to = n * known[i].factor;
		}
	return 0;
}

static int memory_stat_line(const struct reader *r, const char *key, const char *value)
{
	struct cgroup_stats *s = r->s;
	struct cgroup_number *entry;

	/* Grown in powers of two; old arrays stay in the arena. */
	if ((s->n_memory_stat & (s->n_memory_stat - 1)) == 0) {
		struct cgroup_number *more =
			arena_array(&s->arena, MAX(s->n_memory_stat * 2, (size_t)1), sizeof(*more));

		if (!more)
			return -ENOMEM;
		if (s->n_memory_stat)
			memcpy(more, s->memory_stat, s->n_memory_stat * sizeof(*more));
		s->memory_stat = more;
	}
	entry = &s->memory_stat[s->n_memory_stat];
	entry->name = arena_strdup(&s->arena, key);
	if (!entry->name)
		return -ENOMEM;
	if (!take_number(&value, &entry->value))
		return bad_text(r, "memory.stat", value);
	s->n_memory_stat++;
	if (strcmp(key, "cache") == 0 || strcmp(key, "file") == 0)
		s->cache = entry->value;
	return 0;
}

static int add_io(const struct reader *r, struct cgroup_io_list *list, uint64_t device[2], const char *op,
	uint64_t value)
{
	struct cgroup_io *entry;

	if ((list->n & (list->n - 1)) == 0) {
		struct cgroup_io *more =
			arena_array(&r->s->arena, MAX(list->n * 2, (size_t)1), sizeof(*more));

		if (!more)
			return -ENOMEM;
		if (list->n)
			memcpy(more, list->entries, list->n * sizeof(*more));
		list->entries = more;
	}
	entry = &list->entries[list->n];
	*entry = (struct cgroup_io){device[0], device[1], value, arena_strdup(&r->s->arena, op)};
	if (!entry->op)
		return -ENOMEM;
	list->n++;
	return 0;
}

static bool take_device(const char *key, uint64_t device[2])
{
	return take_number(&key, &device[0]) && *key == ':' && (key++, take_number(&key, &device[1])) &&
	       !*key;
}

/* "8:0 Read 4096", and a last line "Total 4096" that is no device. */
static int v1_io_line(const struct reader *r, struct cgroup_io_list *list, const char *key, const char *value)
{
	uint64_t device[2], n;
	char op[32];
	size_t len = strcspn(value, " ");

	if (!take_device(key, device))
		return strcmp(key, "Total") == 0 ? 0 : bad_text(r, "blkio", key);
	if (len >= sizeof(op) || value[len] != ' ')
		return bad_text(r, "blkio", value);
	memcpy(op, value, len);
	op[len] = 0;
	value += len + 1;
	return take_number(&value, &n) ? add_io(r, list, device, op, n) : bad_text(r, "blkio", value);
}

static int v1_io_bytes_line(const struct reader *r, const char *key, const char *value)
{
	return v1_io_line(r, &r->s->io_bytes, key, value);
}

static int v1_io_operations_line(const struct reader *r, const char *key, const char *value)
{
	return v1_io_line(r, &r->s->io_operations, key, value);
}

/* "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0" */
static int v2_io_line(const struct reader *r, const char *key, const char *value)
{
	static const struct {
		const char *key, *op;
		bool bytes;
	} known[] = {
		{"rbytes=", "Read", true},
		{"wbytes=", "Write", true},
		{"dbytes=", "Discard", true},
		{"rios=", "Read", false},
		{"wios=", "Write", false},
		{"dios=", "Discard", false},
	};
	uint64_t device[2], n;

	if (!take_device(key, device))
		return bad_text(r, "io.stat", key);
	for (const char *at = value; *at; at += strcspn(at, " "), at += strspn(at, " "))
		for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
			const char *number = at + strlen(known[i].key);
			int q;

			if (strncmp(at, known[i].key, strlen(known[i].key)) != 0)
				continue;
			if (!take_number(&number, &n))
				return bad_text(r, "io.stat", at);
			q = add_io(r, known[i].bytes ? &r->s->io_bytes : &r->s->io_operations, device,
				known[i].op, n);
			if (q < 0)
				return q;
		}
	return 0;
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=0". -EOPNOTSUPP: pressure is switched off. */
static int read_pressure(const struct reader *r, const char *file, struct cgroup_pressure *p)
{
	_cleanup_free_ char *text = NULL;
	char *rest, *line;
	int q = read_text(r, file, &text);

	rest = text;
	while (q > 0 && (line = strsep(&rest, "\n"))) {
		struct cgroup_stall *to = strncmp(line, "some ", 5) == 0   ? &p->some
					  : strncmp(line, "full ", 5) == 0 ? &p->full
									   : NULL;
		unsigned long long total;

		if (!to)
			continue;
		if (sscanf(line + 5, "avg10=%lf avg60=%lf avg300=%lf total=%llu", &to->avg10, &to->avg60,
			    &to->avg300, &total) != 4)
			return bad_text(r, file, line);
		to->total = total;
		p->present = true;
	}
	return q < 0 ? q : 0;
}

/* "prefix" + usage_in_bytes and so on. */
static int v1_usage(const struct reader *r, const char *prefix, struct cgroup_usage *u)
{
	const struct {
		const char *name;
		uint64_t *to;
	} files[] = {{"usage_in_bytes", &u->usage}, {"max_usage_in_bytes", &u->max},
		{"limit_in_bytes", &u->limit}, {"failcnt", &u->failcnt}};
	char name[64];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		int q;

		snprintf(name, sizeof(name), "%s%s", prefix, files[i].name);
		q = read_number(r, name, files[i].to);
		if (q < 0)
			return q;
		u->present |= q > 0;
	}
	/* v1's "no limit" is the largest multiple of a page. */
	if (u->limit >= (uint64_t)INT64_MAX - 65535)
		u->limit = UINT64_MAX;
	return 0;
}

static int v1_cpu(const struct reader *r)
{
	int q = read_pairs(r, "cpu.stat", cpu_stat_line);

	r->s->has_throttling |= q > 0;
	return q;
}

static int v1_cpuacct(const struct reader *r)
{
	struct cgroup_stats *s = r->s;
	int q = read_number(r, "cpuacct.usage", &s->cpu_total);

	s->has_cpu |= q > 0;
	if (q > 0)
		q = read_number(r, "cpuacct.usage_user", &s->cpu_user);
	if (q > 0)
		q = read_number(r, "cpuacct.usage_sys", &s->cpu_kernel);
	if (q > 0)
		q = read_row(r, "cpuacct.usage_percpu", &s->percpu, &s->n_cpus);
	if (q > 0)
		q = read_row(r, "cpuacct.usage_percpu_user", &s->percpu_user, &s->n_cpus);
	if (q > 0)
		q = read_row(r, "cpuacct.usage_percpu_sys", &s->percpu_kernel, &s->n_cpus);
	return q;
}

static int v1_memory(const struct reader *r)
{
	struct cgroup_stats *s = r->s;
	int q = read_pairs(r, "memory.stat", memory_stat_line);

	if (q >= 0)
		q = v1_usage(r, "memory.", &s->memory);
	if (q >= 0)
		q = v1_usage(r, "memory.memsw.", &s->swap);
	if (q >= 0)
		q = v1_usage(r, "memory.kmem.", &s->kernel);
	return q < 0 ? q : v1_usage(r, "memory.kmem.tcp.", &s->kernel_tcp);
}

static int read_pids(const struct reader *r)
{
	struct cgroup_stats *s = r->s;
	int q = read_number(r, "pids.current", &s->pids_current);

	s->has_pids |= q > 0;
	if (q > 0)
		q = read_number(r, "pids.max", &s->pids_limit);
	if (s->pids_limit == UINT64_MAX)
		s->pids_limit = 0;
	return q;
}

static int v1_blkio(const struct reader *r)
{
	int q = read_pairs(r, "blkio.throttle.io_service_bytes_recursive", v1_io_bytes_line);

	return q < 0 ? q : read_pairs(r, "blkio.throttle.io_serviced_recursive", v1_io_operations_line);
}

/* One page size, which "file" ("hugetlb.2MB.usage_in_bytes", "hugetlb.2MB.current") tells. */
static int read_hugetlb_size(const struct reader *r, const char *file, bool v2)
{
	struct cgroup_stats *s = r->s;
	size_t len = strcspn(file + 8, ".");
	struct cgroup_hugetlb *more = arena_array(&s->arena, s->n_hugetlb + 1, sizeof(*more)), *h;
	char name[128];
	int q;

	if (!more)
		return -ENOMEM;
	if (s->n_hugetlb)
		memcpy(more, s->hugetlb, s->n_hugetlb * sizeof(*more));
	s->hugetlb = more;
	h = &more[s->n_hugetlb];
	h->page_size = arena_strndup(&s->arena, file + 8, len);
	if (!h->page_size)
		return -ENOMEM;
	q = read_number(r, file, &h->usage);
	if (q >= 0 && !v2) {
		snprintf(name, sizeof(name), "hugetlb.%s.max_usage_in_bytes", h->page_size);
		q = read_number(r, name, &h->max);
	}
	if (q >= 0 && !v2) {
		snprintf(name, sizeof(name), "hugetlb.%s.failcnt", h->page_size);
		q = read_number(r, name, &h->failcnt);
	}
	s->n_hugetlb += q >= 0;
	return q;
}

static int read_hugetlb(const struct reader *r, bool v2)
{
	const char *suffix = v2 ? ".current" : ".usage_in_bytes";
	int copy = fcntl(r->dir, F_DUPFD_CLOEXEC, 0), q = 0;
	DIR *list = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	if (!list) {
		close_p(&copy);
		return error_errno(r->e, -ENOMEM, "cgroup: list the hugetlb files");
	}
	rewinddir(list);
	while (q >= 0 && (entry = readdir(list))) {
		const char *name = entry->d_name;
		size_t n = strlen(name), tail = strlen(suffix);

		if (strncmp(name, "hugetlb.", 8) == 0 && n > 8 + tail &&
			strcmp(name + n - tail, suffix) == 0 && !strstr(name, ".rsvd."))
			q = read_hugetlb_size(r, name, v2);
	}
	closedir(list);
	return q;
}

static int v1_hugetlb(const struct reader *r)
{
	return read_hugetlb(r, false);
}

static int v2_memory_event(const struct reader *r, const char *key, const char *value)
{
	if (strcmp(key, "max") == 0 && !take_number(&value, &r->s->memory.failcnt))
		return bad_text(r, "memory.events", value);
	return 0;
}

static int v2_memory(const struct reader *r)
{
	struct cgroup_stats *s = r->s;
	int q = read_number(r, "memory.current", &s->memory.usage);

	if (q <= 0)
		return q;
	s->memory.present = true;
	q = read_number(r, "memory.max", &s->memory.limit);
	if (q >= 0)
		q = read_number(r, "memory.peak", &s->memory.max);
	if (q >= 0)
		q = read_pairs(r, "memory.events", v2_memory_event);
	if (q >= 0)
		q = read_pairs(r, "memory.stat", memory_stat_line);
	if (q >= 0)
		q = read_number(r, "memory.swap.current", &s->swap.usage);
	if (q <= 0)
		return q;
	/* v1 counted memory in it, and so do the readers of this. */
	s->swap.present = true;
	s->swap.usage += s->memory.usage;
	q = read_number(r, "memory.swap.max", &s->swap.limit);
	if (q > 0 && __builtin_add_overflow(s->swap.limit, s->memory.limit, &s->swap.limit))
		s->swap.limit = UINT64_MAX;
	return q;
}

static int v2_all(const struct reader *r)
{
	struct cgroup_stats *s = r->s;
	int q = read_pairs(r, "cpu.stat", cpu_stat_line);

	s->has_cpu |= q > 0;
	s->has_throttling |= q > 0;
	if (q >= 0)
		q = v2_memory(r);
	if (q >= 0)
		q = read_pids(r);
	if (q >= 0)
		q = read_pairs(r, "io.stat", v2_io_line);
	return q < 0 ? q : read_hugetlb(r, true);
}

/* On hybrid machines the v2 tree has no controllers, but it does have pressure. */
static int read_pressures(const struct reader *r)
{
	int q = read_pressure(r, "cpu.pressure", &r->s->cpu_pressure);

	if (q >= 0)
		q = read_pressure(r, "memory.pressure", &r->s->memory_pressure);
	return q < 0 ? q : read_pressure(r, "io.pressure", &r->s->io_pressure);
}

int stats_read_v2(int dir, struct cgroup_stats *s, struct error *e)
{
	struct reader r = {.s = s, .e = e, .dir = dir};
	int q = v2_all(&r);

	return q < 0 ? q : read_pressures(&r);
}

/* Reads from one directory, if the machine has it. */
static int read_from(const struct cgroup *cg, const struct cgroup_dir *d, struct reader *r,
	int (*parse)(const struct reader *r))
{
	int q;

	if (!d)
		return 0;
	r->dir = cgroup_dir_open(cg, d, r->e);
	if (r->dir < 0)
		return r->dir;
	q = parse(r);
	close_p(&r->dir);
	if (q == -ENOMEM)
		return error_set(r->e, q, ERROR_SYSTEM, "out of memory while reading %s", d->path);
	return q < 0 ? q : 0;
}

int cgroup_stats_read(const struct cgroup *cg, struct cgroup_stats *s, struct error *e)
{
	static const struct {
		const char *controller;
		int (*parse)(const struct reader *r);
	} v1[] = {
		{"cpu", v1_cpu},
		{"cpuacct", v1_cpuacct},
		{"memory", v1_memory},
		{"pids", read_pids},
		{"blkio", v1_blkio},
		{"hugetlb", v1_hugetlb},
	};
	struct reader r = {.s = s, .e = e, .dir = -EBADF};
	int q = 0;

	memset(s, 0, sizeof(*s));
	if (cg->mode == CGROUP_NONE)
		return 0;
	if (cg->mode == CGROUP_V2)
		q = read_from(cg, cgroup_v2_dir(cg), &r, v2_all);
	else
		for (size_t i = 0; q == 0 && i < ARRAY_SIZE(v1); i++)
			q = read_from(cg, cgroup_v1_dir(cg, v1[i].controller), &r, v1[i].parse);
	return q < 0 ? q : read_from(cg, cgroup_v2_dir(cg), &r, read_pressures);
}

void cgroup_stats_done(struct cgroup_stats *s)
{
	arena_done(&s->arena);
	memset(s, 0, sizeof(*s));
}
