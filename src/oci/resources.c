/* SPDX-License-Identifier: Apache-2.0 */
/* "linux.resources" of config.json, and the document of the update command: cgroup limits as the user wrote them. */
#include <stdio.h>
#include <string.h>

#include "oci/spec-priv.h"

#define RES(member) .offset = offsetof(struct spec_resources, member)
#define RES_HAS(member) RES(member), .has_offset = offsetof(struct spec_resources, has_##member)

static int parse_rule_type(struct parser *p, const struct jv *v, void *dest)
{
	static const struct name_number types[] = {{"a", 'a'}, {"b", 'b'}, {"c", 'c'}, {"", 'a'}, {NULL}};
	uint64_t type = 0;
	int r = spec_lookup(p, v, types, "device type", &type);

	*(char *)dest = (char)type;
	return r;
}

static int parse_access(struct parser *p, const struct jv *v, void *dest)
{
	const char **access = dest;
	char quoted[40];
	int r = jv_string(p, v, access);

	if (r < 0)
		return r;
	if (strspn(*access, "rwm") != strlen(*access))
		return jv_fail(p, v, "must be made of r, w and m, not %s",
			jv_quote(*access, quoted, sizeof(quoted)));
	return 0;
}

static const struct json_field device_rule_fields[] = {
	{"allow", JSON_BOOL, .offset = offsetof(struct spec_device_rule, allow)},
	{"type", JSON_CUSTOM, .offset = offsetof(struct spec_device_rule, type), .parse = parse_rule_type},
	{"major", JSON_I64, .offset = offsetof(struct spec_device_rule, major), .min = -1, .max = UINT32_MAX},
	{"minor", JSON_I64, .offset = offsetof(struct spec_device_rule, minor), .min = -1, .max = UINT32_MAX},
	{"access", JSON_CUSTOM, .offset = offsetof(struct spec_device_rule, access), .parse = parse_access},
	{NULL},
};

static int parse_device_rule(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_device_rule *rule = dest;
	int r;

	*rule = (struct spec_device_rule){.type = 'a', .major = -1, .minor = -1, .access = ""};
	r = jv_fields(p, v, device_rule_fields, rule);
	/* Absent means all, as with runc and crun. */
	if (r == 0 && !rule->access[0])
		rule->access = "rwm";
	return r;
}

static int parse_device_rules(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_resources *res = dest;

	return jv_array(p, v, sizeof(*res->devices), parse_device_rule, &res->devices, &res->n_devices);
}

/* kernel, kernelTCP and useHierarchy are ignored: kernels since 5.16 have no such limits, or fixed the behaviour, and runc
 * ignores them too. */
static const struct json_field memory_fields[] = {
	{"limit", JSON_I64, RES_HAS(memory_limit), .min = -1, .max = INT64_MAX},
	{"swap", JSON_I64, RES_HAS(memory_swap), .min = -1, .max = INT64_MAX},
	{"reservation", JSON_I64, RES_HAS(memory_reservation), .min = -1, .max = INT64_MAX},
	{"swappiness", JSON_U64, RES_HAS(memory_swappiness), .max = 200},
	{"disableOOMKiller", JSON_BOOL, RES(disable_oom_killer)},
	{"checkBeforeUpdate", JSON_BOOL, RES(check_before_update)},
	{NULL},
};

static const struct json_field cpu_fields[] = {
	{"shares", JSON_U64, RES_HAS(cpu_shares)},
	{"quota", JSON_I64, RES_HAS(cpu_quota)},
	{"burst", JSON_U64, RES_HAS(cpu_burst)},
	{"period", JSON_U64, RES_HAS(cpu_period)},
	{"realtimeRuntime", JSON_I64, RES_HAS(cpu_rt_runtime)},
	{"realtimePeriod", JSON_U64, RES_HAS(cpu_rt_period)},
	{"cpus", JSON_STRING, RES(cpuset_cpus)},
	{"mems", JSON_STRING, RES(cpuset_mems)},
	{"idle", JSON_I64, RES_HAS(cpu_idle), .min = 0, .max = 1},
	{NULL},
};

static const struct json_field pids_fields[] = {
	{"limit", JSON_I64, RES_HAS(pids_limit)},
	{NULL},
};

static const struct json_field blkio_device_fields[] = {
	{"major", JSON_I64, .required = true, .offset = offsetof(struct spec_blkio_device, major),
		.max = UINT32_MAX},
	{"minor", JSON_I64, .required = true, .offset = offsetof(struct spec_blkio_device, minor),
		.max = UINT32_MAX},
	{"weight", JSON_U16, .offset = offsetof(struct spec_blkio_device, weight)},
	{"rate", JSON_U64, .offset = offsetof(struct spec_blkio_device, rate)},
	{NULL},
};

static int parse_blkio_device(struct parser *p, const struct jv *v, void *dest)
{
	return jv_fields(p, v, blkio_device_fields, dest);
}

static int parse_blkio_list(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_blkio_list *list = dest;

	return jv_array(p, v, sizeof(*list->devices), parse_blkio_device, &list->devices, &list->n);
}

#define BLKIO_LIST(key, member)                                                                              \
	{                                                                                                    \
		key, JSON_CUSTOM, RES(member), .parse = parse_blkio_list                                     \
	}
/* leafWeight went away with CFQ (Linux 5.0) and is ignored. */
static const struct json_field blkio_fields[] = {
	{"weight", JSON_U16, RES_HAS(blkio_weight)},
	BLKIO_LIST("weightDevice", blkio_weight_device),
	BLKIO_LIST("throttleReadBpsDevice", blkio_throttle[BLKIO_READ_BPS]),
	BLKIO_LIST("throttleWriteBpsDevice", blkio_throttle[BLKIO_WRITE_BPS]),
	BLKIO_LIST("throttleReadIOPSDevice", blkio_throttle[BLKIO_READ_IOPS]),
	BLKIO_LIST("throttleWriteIOPSDevice", blkio_throttle[BLKIO_WRITE_IOPS]),
	{NULL},
};

/* The name becomes part of a file name below the cgroup. */
static int parse_page_size(struct parser *p, const struct jv *v, void *dest)
{
	const char **size = dest;
	int r = jv_string(p, v, size);

	if (r < 0)
		return r;
	if (!(*size)[0] || strspn(*size, "0123456789KMGTB") != strlen(*size))
		return jv_fail(p, v, "must be a size like 2MB or 1GB");
	return 0;
}

static const struct json_field hugepage_fields[] = {
	{"pageSize", JSON_CUSTOM, .required = true, .offset = offsetof(struct spec_hugepage_limit, page_size),
		.parse = parse_page_size},
	{"limit", JSON_U64, .required = true, .offset = offsetof(struct spec_hugepage_limit, limit)},
	{NULL},
};

static int parse_hugepage_limit(struct parser *p, const struct jv *v, void *dest)
{
	return jv_fields(p, v, hugepage_fields, dest);
}

static int parse_hugepage_limits(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_resources *res = dest;

	return jv_array(p, v, sizeof(*res->hugepage_limits), parse_hugepage_limit, &res->hugepage_limits,
		&res->n_hugepage_limits);
}

/* It stands for a word of a line that is written to a cgroup file. */
static int check_word(struct parser *p, const struct jv *v, const char *name)
{
	if (!name[0] || strpbrk(name, " \t\n\v\f\r"))
		return jv_fail(p, v, "must be one word");
	return 0;
}

static int parse_name(struct parser *p, const struct jv *v, void *dest)
{
	const char **name = dest;
	int r = jv_string(p, v, name);

	return r < 0 ? r : check_word(p, v, *name);
}

static const struct json_field net_priority_fields[] = {
	{"name", JSON_CUSTOM, .required = true, .offset = offsetof(struct spec_net_priority, name),
		.parse = parse_name},
	{"priority", JSON_U32, .required = true, .offset = offsetof(struct spec_net_priority, priority)},
	{NULL},
};

static int parse_net_priority(struct parser *p, const struct jv *v, void *dest)
{
	return jv_fields(p, v, net_priority_fields, dest);
}

static int parse_net_priorities(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_resources *res = dest;

	return jv_array(p, v, sizeof(*res->net_priorities), parse_net_priority, &res->net_priorities,
		&res->n_net_priorities);
}

static const struct json_field network_fields[] = {
	{"classID", JSON_U32, RES_HAS(net_class_id)},
	{"priorities", JSON_CUSTOM, .parse = parse_net_priorities},
	{NULL},
};

static const struct json_field rdma_fields[] = {
	{"hcaHandles", JSON_U32, .offset = offsetof(struct spec_rdma_limit, handles),
		.has_offset = offsetof(struct spec_rdma_limit, has_handles)},
	{"hcaObjects", JSON_U32, .offset = offsetof(struct spec_rdma_limit, objects),
		.has_offset = offsetof(struct spec_rdma_limit, has_objects)},
	{NULL},
};

static int parse_rdma_device(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_rdma_limit *limit = dest;
	int r = check_word(p, v, v->key);

	if (r < 0)
		return r;
	limit->device = arena_strdup(p->arena, v->key);
	return limit->device ? jv_fields(p, v, rdma_fields, limit) : jv_no_memory(p);
}

static int parse_rdma(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_resources *res = dest;

	return jv_map(p, v, sizeof(*res->rdma), parse_rdma_device, &res->rdma, &res->n_rdma);
}

static int parse_unified_entry(struct parser *p, const struct jv *v, void *dest)
{
	if (!v->key[0] || v->key[0] == '.' || strchr(v->key, '/'))
		return jv_fail(p, v, "not the name of a cgroup file");
	return spec_name_value_parse(p, v, dest);
}

static int parse_unified(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_resources *res = dest;

	return jv_map(p, v, sizeof(*res->unified), parse_unified_entry, &res->unified, &res->n_unified);
}

static const struct json_field resource_fields[] = {
	{"devices", JSON_CUSTOM, .parse = parse_device_rules},
	{"memory", JSON_SUB, .sub = memory_fields},
	{"cpu", JSON_SUB, .sub = cpu_fields},
	{"pids", JSON_SUB, .sub = pids_fields},
	{"blockIO", JSON_SUB, .sub = blkio_fields},
	{"hugepageLimits", JSON_CUSTOM, .parse = parse_hugepage_limits},
	{"network", JSON_SUB, .sub = network_fields},
	{"rdma", JSON_CUSTOM, .parse = parse_rdma},
	{"unified", JSON_CUSTOM, .parse = parse_unified},
	{NULL},
};

int spec_resources_parse(struct parser *p, const struct jv *v, void *dest)
{
	return jv_fields(p, v, resource_fields, dest);
}
