/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "linux.intelRdt": the resctrl group of the container. What schemata mean is the kernel's business, which says what it
 * does not like; here is only what must not be in them.
 */
#include <limits.h>
#include <string.h>

#include "oci/spec-priv.h"

bool spec_rdt_name_valid(const char *name)
{
	static const char *const files[] = {".", "..", "info", "mon_groups", "mon_data"};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (!strcmp(name, files[i]))
			return false;
	return name[0] && strlen(name) <= NAME_MAX && !strpbrk(name, "/\n");
}

/* As for all of these, "" is as if absent: Go's callers leave it out. */
static int parse_string(struct parser *p, const struct jv *v, const char **ret)
{
	int r = jv_string(p, v, ret);

	if (r == 0 && !**ret)
		*ret = NULL;
	return r;
}

static int parse_clos(struct parser *p, const struct jv *v, void *dest)
{
	const char **name = dest;
	char quoted[40];
	int r = parse_string(p, v, name);

	if (r == 0 && *name && strcmp(*name, "/") != 0 && !spec_rdt_name_valid(*name))
		return jv_fail(p, v, "must be \"/\" or the name of a directory of resctrl, not %s",
			jv_quote(*name, quoted, sizeof(quoted)));
	return r;
}

static int parse_l3(struct parser *p, const struct jv *v, void *dest)
{
	return parse_string(p, v, dest);
}

static int parse_bandwidth(struct parser *p, const struct jv *v, void *dest)
{
	const char **schema = dest;
	int r = parse_string(p, v, schema);

	if (r == 0 && *schema && (strncmp(*schema, "MB:", 3) != 0 || strchr(*schema, '\n')))
		return jv_fail(p, v, "must be one line that begins with \"MB:\"");
	return r;
}

/* Lines into one text, each with its newline. */
static int parse_schemata(struct parser *p, const struct jv *v, void *dest)
{
	const char *text = NULL;
	char **lines;
	int r = jv_strv(p, v, &lines);

	for (size_t i = 0; r == 0 && lines[i]; i++) {
		struct jv line = jv_element(v, i);

		if (!lines[i][0] || strchr(lines[i], '\n'))
			return jv_fail(p, &line, "must be one line");
		text = arena_printf(p->arena, "%s%s\n", text ? text : "", lines[i]);
		if (!text)
			return jv_no_memory(p);
	}
	*(const char **)dest = text;
	return r;
}

#define RDT(member) .offset = offsetof(struct spec_intel_rdt, member)
static const struct json_field fields[] = {
	{"closID", JSON_CUSTOM, RDT(clos_id), .parse = parse_clos},
	{"l3CacheSchema", JSON_CUSTOM, RDT(l3_cache_schema), .parse = parse_l3},
	{"memBwSchema", JSON_CUSTOM, RDT(mem_bw_schema), .parse = parse_bandwidth},
	{"schemata", JSON_CUSTOM, RDT(schemata), .parse = parse_schemata},
	{"enableMonitoring", JSON_BOOL, RDT(monitoring)},
	/* the older version's */
	{"enableCMT", JSON_BOOL, RDT(cmt)},
	{"enableMBM", JSON_BOOL, RDT(mbm)},
	{NULL},
};

int spec_intel_rdt_parse(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_intel_rdt **ret = dest;

	*ret = arena_new(p->arena, struct spec_intel_rdt);
	return *ret ? jv_fields(p, v, fields, *ret) : jv_no_memory(p);
}
