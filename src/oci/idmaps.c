/* SPDX-License-Identifier: Apache-2.0 */
/* uidMappings and gidMappings, of the container and of single mounts, within what the kernel takes. */
#include "oci/spec-priv.h"

static const struct json_field fields[] = {
	{"containerID", JSON_U32, .required = true, .offset = offsetof(struct id_map, container_id)},
	{"hostID", JSON_U32, .required = true, .offset = offsetof(struct id_map, host_id)},
	{"size", JSON_U32, .required = true, .offset = offsetof(struct id_map, size), .min = 1,
		.max = UINT32_MAX},
	{NULL},
};

/* NULL: it is one. The last number is no id, it says "none". */
static const char *check_one(const struct id_map *map)
{
	if (map->size == 0)
		return "a mapping of no id";
	return map->size > UINT32_MAX - MAX(map->container_id, map->host_id)
		       ? "the range goes beyond the last id"
		       : NULL;
}

static int parse_one(struct parser *p, const struct jv *v, void *dest)
{
	int r = jv_fields(p, v, fields, dest);
	const char *why = r < 0 ? NULL : check_one(dest);

	return why ? jv_fail(p, v, "%s", why) : r;
}

static bool overlap(uint32_t a, uint32_t a_size, uint32_t b, uint32_t b_size)
{
	return a < b ? b - a < a_size : a - b < b_size;
}

/* The first pair that overlaps, in *a and *b. */
static bool find_overlap(const struct id_map *map, size_t n, size_t *a, size_t *b)
{
	for (*b = 0; *b < n; ++*b)
		for (*a = 0; *a < *b; ++*a)
			if (overlap(map[*a].container_id, map[*a].size, map[*b].container_id, map[*b].size) ||
				overlap(map[*a].host_id, map[*a].size, map[*b].host_id, map[*b].size))
				return true;
	return false;
}

const char *spec_check_id_maps(const struct id_map *map, size_t n)
{
	const char *why = NULL;
	size_t a, b;

	for (size_t i = 0; i < n && !why; i++)
		why = check_one(&map[i]);
	return why ? why : find_overlap(map, n, &a, &b) ? "two mappings overlap" : NULL;
}

static int parse_all(struct parser *p, const struct jv *v, struct id_map **ret, size_t *ret_n)
{
	int r = jv_array(p, v, sizeof(**ret), parse_one, ret, ret_n);
	size_t a, b;

	if (r < 0)
		return r;
	if (*ret_n > ID_MAP_MAX)
		return jv_fail(p, v, "%zu mappings are too many (%d at most)", *ret_n, ID_MAP_MAX);
	return find_overlap(*ret, *ret_n, &a, &b) ? jv_fail(p, v, "mappings %zu and %zu overlap", a, b) : 0;
}

int spec_uid_maps_parse(struct parser *p, const struct jv *v, void *dest)
{
	struct id_maps *ids = dest;

	return parse_all(p, v, &ids->uid, &ids->n_uid);
}

int spec_gid_maps_parse(struct parser *p, const struct jv *v, void *dest)
{
	struct id_maps *ids = dest;

	return parse_all(p, v, &ids->gid, &ids->n_gid);
}
