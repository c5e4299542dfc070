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

static int parse_one(struct parser *p, const struct jv *v, void *dest)
{
	const struct id_map *map = dest;
	int r = jv_fields(p, v, fields, dest);

	if (r < 0)
		return r;
	/* the last number is no id, it says "none" */
	if (map->size > UINT32_MAX - MAX(map->container_id, map->host_id))
		return jv_fail(p, v, "the range goes beyond the last id");
	return 0;
}

static bool overlap(uint32_t a, uint32_t a_size, uint32_t b, uint32_t b_size)
{
	return a < b ? b - a < a_size : a - b < b_size;
}

static int parse_all(struct parser *p, const struct jv *v, struct id_map **ret, size_t *ret_n)
{
	struct id_map *map;
	int r = jv_array(p, v, sizeof(*map), parse_one, ret, ret_n);

	if (r < 0)
		return r;
	if (*ret_n > ID_MAP_MAX)
		return jv_fail(p, v, "%zu mappings are too many (%d at most)", *ret_n, ID_MAP_MAX);
	map = *ret;
	for (size_t i = 0; i < *ret_n; i++)
		for (size_t k = 0; k < i; k++)
			if (overlap(map[i].container_id, map[i].size, map[k].container_id, map[k].size) ||
				overlap(map[i].host_id, map[i].size, map[k].host_id, map[k].size))
				return jv_fail(p, v, "mappings %zu and %zu overlap", k, i);
	return 0;
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
