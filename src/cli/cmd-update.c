/* SPDX-License-Identifier: Apache-2.0 */
/* update: limits from a JSON document (-r FILE, "-": stdin), or one by one from the options. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "cli/commands.h"

enum { RESOURCES_MAX = 1024 * 1024 };

struct options {
	const char *resources, *blkio_weight, *cpu_period, *cpu_quota, *cpu_burst, *cpu_share, *cpu_rt_period,
		*cpu_rt_runtime, *cpuset_cpus, *cpuset_mems, *memory, *memory_reservation, *memory_swap,
		*pids_limit, *cpu_idle, *l3_cache_schema, *mem_bw_schema;
};

#define OPTION(name, letter, member, argument, help)                                                         \
	{                                                                                                    \
		name, letter, CLI_STRING, offsetof(struct options, member), argument, help                   \
	}
static const struct cli_option table[] = {
	OPTION("resources", 'r', resources, "FILE", "read the limits as JSON from a file, or - for stdin"),
	OPTION("blkio-weight", 0, blkio_weight, "N", "relative weight of block i/o (10-1000)"),
	OPTION("cpu-period", 0, cpu_period, "US", "period of the CPU quota"),
	OPTION("cpu-quota", 0, cpu_quota, "US", "CPU time in a period; -1: no limit"),
	OPTION("cpu-burst", 0, cpu_burst, "US", "CPU time that may be saved up"),
	OPTION("cpu-share", 0, cpu_share, "N", "relative weight of CPU time"),
	OPTION("cpu-rt-period", 0, cpu_rt_period, "US", "period of the realtime quota"),
	OPTION("cpu-rt-runtime", 0, cpu_rt_runtime, "US", "realtime CPU time in a period"),
	OPTION("cpuset-cpus", 0, cpuset_cpus, "LIST", "CPUs to use"),
	OPTION("cpuset-mems", 0, cpuset_mems, "LIST", "memory nodes to use"),
	OPTION("memory", 'm', memory, "SIZE", "memory limit (512m, 1g); -1: no limit"),
	OPTION("memory-reservation", 0, memory_reservation, "SIZE",
		"memory that is left when memory is short"),
	OPTION("memory-swap", 0, memory_swap, "SIZE", "memory plus swap; -1: no limit"),
	OPTION("pids-limit", 0, pids_limit, "N", "number of processes and threads; -1: no limit"),
	OPTION("cpu-idle", 0, cpu_idle, "0|1", "1: run only when nothing else wants to"),
	OPTION("l3-cache-schema", 0, l3_cache_schema, "SCHEMA", "Intel RDT: which parts of the L3 cache"),
	OPTION("mem-bw-schema", 0, mem_bw_schema, "SCHEMA", "Intel RDT: memory bandwidth"),
	{"kernel-memory", 0, CLI_IGNORED_STRING, 0, "SIZE", NULL},
	{"kernel-memory-tcp", 0, CLI_IGNORED_STRING, 0, "SIZE", NULL},
	{NULL},
};

enum number_kind { SIGNED, UNSIGNED, SIZE };

#define NUMBER(name, option, kind, member)                                                                   \
	{                                                                                                    \
		name, offsetof(struct options, option), kind, offsetof(struct spec_resources, member),       \
			offsetof(struct spec_resources, has_##member)                                        \
	}
static const struct {
	const char *name;
	size_t from;
	enum number_kind kind;
	size_t to, has;
} numbers[] = {
	NUMBER("cpu-period", cpu_period, UNSIGNED, cpu_period),
	NUMBER("cpu-quota", cpu_quota, SIGNED, cpu_quota),
	NUMBER("cpu-burst", cpu_burst, UNSIGNED, cpu_burst),
	NUMBER("cpu-share", cpu_share, UNSIGNED, cpu_shares),
	NUMBER("cpu-rt-period", cpu_rt_period, UNSIGNED, cpu_rt_period),
	NUMBER("cpu-rt-runtime", cpu_rt_runtime, SIGNED, cpu_rt_runtime),
	NUMBER("memory", memory, SIZE, memory_limit),
	NUMBER("memory-reservation", memory_reservation, SIZE, memory_reservation),
	NUMBER("memory-swap", memory_swap, SIZE, memory_swap),
	NUMBER("pids-limit", pids_limit, SIGNED, pids_limit),
	NUMBER("cpu-idle", cpu_idle, SIGNED, cpu_idle),
};

/* "512m", "1.5G", "64MiB", "1048576"; powers of 1024, at most up to "p". */
static int parse_size(const char *s, uint64_t *ret)
{
	static const char units[] = "bkmgtp";
	const char *unit;
	double n;
	char *end;

	if (!isdigit((unsigned char)*s) || cli_parse_number(s, INT64_MAX, ret) == 0)
		return isdigit((unsigned char)*s) ? 0 : -EINVAL;
	/* Only digits and a point: no hexadecimal, no exponent. */
	n = strtod(s, &end);
	if (strspn(s, "0123456789.") != (size_t)(end - s))
		return -EINVAL;
	unit = *end ? strchr(units, tolower((unsigned char)*end)) : units;
	if (!unit || (*end && strcasecmp(end + 1, "") != 0 && strcasecmp(end + 1, "b") != 0 &&
			     strcasecmp(end + 1, "ib") != 0))
		return -EINVAL;
	n *= (double)(1ULL << (10 * (unsigned)(unit - units)));
	if (n >= (double)INT64_MAX)
		return -ERANGE;
	*ret = (uint64_t)n;
	return 0;
}

static int parse_number(const char *s, enum number_kind kind, uint64_t *ret)
{
	if (kind != UNSIGNED && strcmp(s, "-1") == 0) {
		*ret = UINT64_MAX;
		return 0;
	}
	return kind == SIZE ? parse_size(s, ret)
			    : cli_parse_number(s, kind == SIGNED ? INT64_MAX : UINT64_MAX, ret);
}

static int resources_from_options(const struct options *o, struct spec_resources *res, struct error *e)
{
	uint64_t n;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		const char *value = *(const char *const *)((const char *)o + numbers[i].from);

		if (!value)
			continue;
		if (parse_number(value, numbers[i].kind, &n) < 0)
			return error_set(e, -EINVAL, ERROR_USAGE, "invalid value \"%s\" for %s", value,
				numbers[i].name);
		memcpy((char *)res + numbers[i].to, &n, sizeof(n)); /* all are 64 bits wide */
		*(bool *)((char *)res + numbers[i].has) = true;
	}
	if (o->blkio_weight) {
		if (cli_parse_number(o->blkio_weight, 1000, &n) < 0)
			return error_set(e, -EINVAL, ERROR_USAGE, "invalid value \"%s\" for blkio-weight",
				o->blkio_weight);
		res->has_blkio_weight = true;
		res->blkio_weight = (uint16_t)n;
	}
	res->cpuset_cpus = o->cpuset_cpus;
	res->cpuset_mems = o->cpuset_mems;
	return 0;
}

static int read_document(const char *path, char **ret, size_t *ret_len, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	size_t n = 0;
	ssize_t got;
	int r;

	if (strcmp(path, "-") != 0) {
		r = read_file_at(AT_FDCWD, path, RESOURCES_MAX, ret, ret_len);
		return r < 0 ? error_errno(e, r, "read %s", path) : 0;
	}
	text = malloc(RESOURCES_MAX);
	if (!text)
		return error_errno(e, -ENOMEM, "read stdin");
	while ((got = read(STDIN_FILENO, text + n, RESOURCES_MAX - n)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return error_errno(e, -errno, "read stdin");
		n += (size_t)got;
		if (n == RESOURCES_MAX)
			return error_set(e, -EFBIG, ERROR_USAGE, "the resources are larger than 1 MiB");
	}
	*ret = take_ptr(text);
	*ret_len = n;
	return 0;
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	_cleanup_(container_free_p) struct container *c = NULL;
	_cleanup_(spec_free_p) struct spec *document = NULL;
	_cleanup_free_ char *text = NULL;
	struct spec_resources from_options = {0};
	const struct spec_intel_rdt rdt = {
		.l3_cache_schema = o->l3_cache_schema, .mem_bw_schema = o->mem_bw_schema};
	size_t len;
	int r;

	if (o->resources) {
		r = read_document(o->resources, &text, &len, e);
		if (r == 0)
			r = spec_parse_resources(text, len, &document, e);
	} else {
		r = resources_from_options(o, &from_options, e);
	}
	if (r == 0)
		r = container_load(g->root, args[0], true, &c, e);
	return r < 0 ? r
		     : container_update(c, document ? &document->resources : &from_options,
			       rdt.l3_cache_schema || rdt.mem_bw_schema ? &rdt : NULL, e);
}

const struct cli_command cmd_update = {
	.name = "update",
	.arguments = "ID",
	.summary = "change the limits of a running container",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
