/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of processors and memory nodes as the kernel writes them ("0-3,7"): process.execCPUAffinity and linux.memoryPolicy. */
#include <ctype.h>
#include <linux/mempolicy.h>
#include <string.h>

#include "oci/spec-priv.h"

/* Younger than some linux/mempolicy.h. */
enum { WEIGHTED_INTERLEAVE = 6 }; /* 6.9 */

const struct name_number spec_memory_policy_modes[] = {
	{"MPOL_DEFAULT", MPOL_DEFAULT},
	{"MPOL_PREFERRED", MPOL_PREFERRED},
	{"MPOL_BIND", MPOL_BIND},
	{"MPOL_INTERLEAVE", MPOL_INTERLEAVE},
	{"MPOL_LOCAL", MPOL_LOCAL},
	{"MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY},
	{"MPOL_WEIGHTED_INTERLEAVE", WEIGHTED_INTERLEAVE},
	{NULL},
};

const struct name_number spec_memory_policy_flags[] = {
	{"MPOL_F_NUMA_BALANCING", MPOL_F_NUMA_BALANCING},
	{"MPOL_F_RELATIVE_NODES", MPOL_F_RELATIVE_NODES},
	{"MPOL_F_STATIC_NODES", MPOL_F_STATIC_NODES},
	{NULL},
};

/* A number below NUMBER_SET_MAX at *s, which is moved behind it; or -1. */
static int take_number(const char **s)
{
	int n = 0;

	if (!isdigit((unsigned char)**s))
		return -1;
	while (isdigit((unsigned char)**s) && n < NUMBER_SET_MAX)
		n = n * 10 + *(*s)++ - '0';
	return n < NUMBER_SET_MAX ? n : -1;
}

static int parse_number_set(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_number_set *set = dest;
	char quoted[80];
	const char *text, *s;
	int r = jv_borrow(p, v, &text);

	for (s = text; r == 0 && *s; s++) {
		int first = take_number(&s), last = first;

		if (first >= 0 && *s == '-') {
			s++;
			last = take_number(&s);
		}
		if (first < 0 || last < first || (*s && *s != ',') || (*s == ',' && !s[1]))
			return jv_fail(p, v, "must be numbers and ranges below %d, as \"0-3,7\", not %s",
				NUMBER_SET_MAX, jv_quote(text, quoted, sizeof(quoted)));
		for (int i = first; i <= last; i++)
			set->bits[i / 64] |= 1ULL << (i % 64);
		set->present = true;
		if (!*s)
			break;
	}
	return r;
}

static const struct json_field affinity_fields[] = {
	{"initial", JSON_CUSTOM, .offset = offsetof(struct spec_process, exec_initial_cpus),
		.parse = parse_number_set},
	{"final", JSON_CUSTOM, .offset = offsetof(struct spec_process, exec_final_cpus),
		.parse = parse_number_set},
	{NULL},
};

int spec_affinity_parse(struct parser *p, const struct jv *v, void *dest)
{
	return jv_fields(p, v, affinity_fields, dest);
}

static int parse_mode(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_memory_policy *policy = dest;
	uint64_t mode = 0;
	int r = spec_lookup(p, v, spec_memory_policy_modes, "memory policy", &mode);

	policy->mode |= (unsigned)mode;
	return r;
}

static int parse_flags(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_memory_policy *policy = dest;
	int r = jv_expect(p, v, json_type_array);

	for (size_t i = 0; r == 0 && i < json_object_array_length(v->o); i++) {
		struct jv item = jv_element(v, i);
		uint64_t flag = 0;

		r = spec_lookup(p, &item, spec_memory_policy_flags, "memory policy flag", &flag);
		policy->mode |= (unsigned)flag;
	}
	return r;
}

static const struct json_field policy_fields[] = {
	{"mode", JSON_CUSTOM, .required = true, .parse = parse_mode},
	{"flags", JSON_CUSTOM, .parse = parse_flags},
	{"nodes", JSON_CUSTOM, .offset = offsetof(struct spec_memory_policy, nodes),
		.parse = parse_number_set},
	{NULL},
};

int spec_memory_policy_parse(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_memory_policy *policy = arena_new(p->arena, struct spec_memory_policy);
	int r;

	if (!policy)
		return jv_no_memory(p);
	r = jv_fields(p, v, policy_fields, policy);
	*(struct spec_memory_policy **)dest = policy;
	return r;
}
