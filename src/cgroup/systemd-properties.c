/* SPDX-License-Identifier: Apache-2.0 */
/* Limits, device rules and annotations as the properties of a unit (systemd.resource-control(5), org.freedesktop.systemd1(5)). */
#include "cgroup/systemd-priv.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CPUS_MAX = 8192 };

static void property_begin(struct bus_message *m, const char *name, const char *type)
{
	bus_align(m, 8);
	bus_put_string(m, name);
	bus_put_signature(m, type);
}

void property_string(struct bus_message *m, const char *name, const char *value)
{
	property_begin(m, name, "s");
	bus_put_string(m, value);
}

void property_bool(struct bus_message *m, const char *name, bool value)
{
	property_begin(m, name, "b");
	bus_put_u32(m, value);
}

void property_u64(struct bus_message *m, const char *name, uint64_t value)
{
	property_begin(m, name, "t");
	bus_put_u64(m, value);
}

/* -1: no limit. */
static void property_limit(struct bus_message *m, const char *name, int64_t value)
{
	property_u64(m, name, value < 0 ? UINT64_MAX : (uint64_t)value);
}

/* "0-3,7" as a bit set, least significant byte first. */
static int property_set(struct bus_message *m, const char *name, const char *list, struct error *e)
{
	uint8_t bits[CPUS_MAX / 8] = {0};
	struct bus_array a;
	size_t used = 0;

	for (const char *at = list; *at;) {
		char *end;
		unsigned long from = strtoul(at, &end, 10), to = from;

		if (end != at && *end == '-' && isdigit((unsigned char)end[1]))
			to = strtoul(end + 1, &end, 10);
		if (end == at || (*end && *end != ',' && *end != '\n') || from > to || to >= CPUS_MAX)
			return error_set(e, -EINVAL, ERROR_CONFIG,
				"linux.resources.cpu: \"%s\" is not a list like 0-3,7", list);
		for (unsigned long i = from; i <= to; i++)
			bits[i / 8] |= (uint8_t)(1U << (i % 8));
		used = MAX(used, to / 8 + 1);
		at = end + (*end != 0);
	}
	property_begin(m, name, "ay");
	a = bus_array_begin(m, 1);
	for (size_t i = 0; i < used; i++)
		bus_put_byte(m, bits[i]);
	bus_array_end(m, a);
	return 0;
}

static void put_memory(struct bus_message *m, const struct cgroup *cg, const struct spec_resources *res)
{
	int64_t limit = res->has_memory_limit ? res->memory_limit : 0;

	if (cg->mode != CGROUP_V2) {
		if (limit)
			property_limit(m, "MemoryLimit", limit);
		return;
	}
	if (limit)
		property_limit(m, "MemoryMax", limit);
	if (res->has_memory_reservation && res->memory_reservation)
		property_limit(m, "MemoryLow", res->memory_reservation);
	if (res->has_memory_swap && res->memory_swap)
		property_limit(m, "MemorySwapMax",
			res->memory_swap < 0 ? -1 : MAX(res->memory_swap - limit, (int64_t)0));
}

static void put_cpu(struct bus_message *m, const struct cgroup *cg, const struct spec_resources *res)
{
	uint64_t period = res->has_cpu_period && res->cpu_period ? res->cpu_period : 100000;

	if (res->has_cpu_shares && res->cpu_shares) {
		if (cg->mode == CGROUP_V2)
			property_u64(m, "CPUWeight", v2_cpu_weight(res->cpu_shares));
		else
			property_u64(m, "CPUShares", res->cpu_shares);
	}
	if (res->has_cpu_period && res->cpu_period)
		property_u64(m, "CPUQuotaPeriodUSec", period);
	if (res->has_cpu_quota && res->cpu_quota) {
		uint64_t us = res->cpu_quota < 0 ? UINT64_MAX : (uint64_t)res->cpu_quota * 1000000 / period;

		/* systemd counts in percent, and rounds down what is no multiple of that */
		if (res->cpu_quota > 0)
			us = (us + 9999) / 10000 * 10000;
		property_u64(m, "CPUQuotaPerSecUSec", us);
	}
}

static const char *unified_value(const struct spec_resources *res, const char *file)
{
	for (size_t i = 0; i < res->n_unified; i++)
		if (strcmp(res->unified[i].name, file) == 0)
			return res->unified[i].value;
	return NULL;
}

/* The rest of "unified" systemd knows nothing of, and leaves alone. */
static void put_unified(struct bus_message *m, const struct spec_resources *res)
{
	static const struct {
		const char *file, *property;
	} known[] = {{"memory.max", "MemoryMax"}, {"memory.high", "MemoryHigh"}, {"memory.low", "MemoryLow"},
		{"memory.min", "MemoryMin"}, {"memory.swap.max", "MemorySwapMax"}, {"pids.max", "TasksMax"},
		{"cpu.weight", "CPUWeight"}};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		const char *value = unified_value(res, known[i].file);
		char *end;
		uint64_t n;

		if (!value)
			continue;
		n = strncmp(value, "max", 3) == 0 ? UINT64_MAX : strtoull(value, &end, 10);
		property_u64(m, known[i].property, n);
	}
}

int properties_put_limits(
	struct bus_message *m, const struct cgroup *cg, const struct spec_resources *res, struct error *e)
{
	int r = 0;

	put_memory(m, cg, res);
	put_cpu(m, cg, res);
	if (res->has_pids_limit && res->pids_limit)
		property_limit(m, "TasksMax", res->pids_limit);
	if (cg->mode != CGROUP_V2) {
		if (res->has_blkio_weight && res->blkio_weight)
			property_u64(m, "BlockIOWeight", res->blkio_weight);
		return 0;
	}
	if (res->cpuset_cpus && res->cpuset_cpus[0])
		r = property_set(m, "AllowedCPUs", res->cpuset_cpus, e);
	if (r == 0 && res->cpuset_mems && res->cpuset_mems[0])
		r = property_set(m, "AllowedMemoryNodes", res->cpuset_mems, e);
	if (r == 0)
		put_unified(m, res);
	return r;
}

/* systemd has no order of rules and no denials but of everything. What it could not say it is not told at all: the
 * rules in force are those that we put into the cgroup ourselves (devices.c). */
static bool expressible(const struct spec_resources *res)
{
	for (size_t i = 0; i < res->n_devices; i++) {
		const struct spec_device_rule *d = &res->devices[i];

		if (i == 0 ? d->allow || d->type != 'a' || d->major >= 0 || d->minor >= 0
			   : !d->allow || d->type == 'a' || d->major < 0 || d->minor < 0)
			return false;
	}
	return res->n_devices > 0;
}

static void put_device(struct bus_message *m, const char *name, const char *access)
{
	bus_align(m, 8);
	bus_put_string(m, name);
	bus_put_string(m, access);
}

void properties_put_devices(struct bus_message *m, const struct spec_resources *res)
{
	struct bus_array a;
	char name[64];

	if (!expressible(res))
		return;
	property_string(m, "DevicePolicy", "closed"); /* null, zero and the like are allowed */
	property_begin(m, "DeviceAllow", "a(ss)");
	a = bus_array_begin(m, 8);
	put_device(m, "char-*", "m");
	put_device(m, "block-*", "m");
	put_device(m, "char-pts", "rwm");
	for (size_t i = 1; i < res->n_devices; i++) {
		const struct spec_device_rule *d = &res->devices[i];

		snprintf(name, sizeof(name), "/dev/%s/%" PRId64 ":%" PRId64,
			d->type == 'b' ? "block" : "char", d->major, d->minor);
		put_device(m, name, d->access);
	}
	bus_array_end(m, a);
}

/* Annotations: GVariant's text, of which what units have: true, 5, uint64 5, 'text', ['a', 'b']. */

struct gvariant {
	const char *at;
	char type[3]; /* "b", "s", "as", "i", "t", ... */
	uint64_t number;
	char text[1024];
};

static bool skip(struct gvariant *g, const char *word)
{
	size_t n = strlen(word);

	if (strncmp(g->at, word, n) != 0)
		return false;
	g->at += n;
	g->at += strspn(g->at, " ");
	return true;
}

static bool parse_quoted(struct gvariant *g)
{
	char quote = *g->at;
	size_t n = 0;

	if (quote != '\'' && quote != '"')
		return false;
	for (g->at++; *g->at && *g->at != quote; g->at++) {
		if (*g->at == '\\' && g->at[1])
			g->at++;
		if (n == sizeof(g->text) - 1)
			return false;
		g->text[n++] = *g->at;
	}
	g->text[n] = 0;
	if (*g->at != quote)
		return false;
	g->at++;
	g->at += strspn(g->at, " ");
	return true;
}

static bool parse_integer(struct gvariant *g)
{
	static const struct {
		const char *word, *type;
	} types[] = {{"uint64 ", "t"}, {"int64 ", "x"}, {"uint32 ", "u"}, {"int32 ", "i"}};
	char *end;

	memcpy(g->type, "i", 2);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (skip(g, types[i].word)) {
			memcpy(g->type, types[i].type, 2);
			break;
		}
	if (!isdigit((unsigned char)*g->at) && *g->at != '-')
		return false;
	errno = 0;
	g->number = *g->at == '-' ? (uint64_t)strtoll(g->at, &end, 0) : strtoull(g->at, &end, 0);
	if (errno || end == g->at || (strchr("ui", g->type[0]) && *g->at != '-' && g->number > UINT32_MAX))
		return false;
	g->at = end + strspn(end, " ");
	return true;
}

static bool put_strings(struct bus_message *m, struct gvariant *g, const char *name)
{
	struct bus_array a;
	bool more = false;

	property_begin(m, name, "as");
	a = bus_array_begin(m, 4);
	while (*g->at && !skip(g, "]")) {
		if ((more && !skip(g, ",")) || !parse_quoted(g))
			return false;
		bus_put_string(m, g->text);
		more = true;
	}
	bus_array_end(m, a);
	return g->at[-1] == ']' || g->at[-1] == ' ';
}

static bool put_value(struct bus_message *m, const char *name, struct gvariant *g)
{
	bool yes = skip(g, "true");

	if (yes || skip(g, "false")) {
		property_bool(m, name, yes);
	} else if (*g->at == '\'' || *g->at == '"') {
		if (!parse_quoted(g))
			return false;
		property_string(m, name, g->text);
	} else if (skip(g, "@as [") || skip(g, "[")) {
		if (!put_strings(m, g, name))
			return false;
	} else {
		if (!parse_integer(g))
			return false;
		property_begin(m, name, g->type);
		if (g->type[0] == 't' || g->type[0] == 'x')
			bus_put_u64(m, g->number);
		else
			bus_put_u32(m, (uint32_t)g->number);
	}
	return *g->at == 0;
}

/* "TimeoutStopSec" stands for "TimeoutStopUSec", in seconds (as with runc). */
static bool put_seconds(struct bus_message *m, const char *name, size_t len, struct gvariant *g)
{
	char usec[128];
	char *end;
	double seconds;

	if (len + 2 > sizeof(usec))
		return false;
	snprintf(usec, sizeof(usec), "%.*sUSec", (int)(len - 3), name);
	if (isalpha((unsigned char)*g->at) && !parse_integer(g))
		return false;
	seconds = *g->at ? strtod(g->at, &end) : (double)g->number;
	if ((*g->at && *end) || seconds < 0 || seconds > 1e12)
		return false;
	property_u64(m, usec, (uint64_t)(seconds * 1e6));
	return true;
}

int properties_put_annotations(struct bus_message *m, const struct spec_resources *res, struct error *e)
{
	for (size_t i = 0; i < res->n_unit_properties; i++) {
		const struct spec_sysctl *p = &res->unit_properties[i];
		struct gvariant g = {.at = p->value + strspn(p->value, " ")};
		size_t len = strlen(p->name);
		bool seconds = len > 3 && strcmp(p->name + len - 3, "Sec") == 0 &&
			       (len == 4 || p->name[len - 4] != 'U');

		if (strspn(p->name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != len || len < 3)
			return error_set(e, -EINVAL, ERROR_CONFIG,
				"annotations: org.systemd.property.%s is not the name of a property",
				p->name);
		if (!(seconds ? put_seconds(m, p->name, len, &g) : put_value(m, p->name, &g)))
			return error_set(e, -EINVAL, ERROR_CONFIG,
				"annotations: org.systemd.property.%s: \"%s\" is not understood (true, 5, "
				"uint64 5, 'text' or ['a', 'b'])",
				p->name, p->value);
	}
	return 0;
}
