/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crun's mount option "idmap=uids=0-1-10#10-11-10;gids=@0-100-10": ids on disk, ids on the host, how many. With '@' the
 * second number is an id of the container, and the container's mappings say which one of the host that is. Mappings of
 * users or of groups that are left out are the container's own.
 */
#include <stdlib.h>
#include <string.h>

#include "oci/spec-priv.h"

struct option {
	struct parser *p;
	const struct spec *s;
	size_t mount;
	const char *text; /* what is left of it */
};

static int fail(const struct option *o, const char *why)
{
	return error_set(o->p->e, -EINVAL, ERROR_CONFIG, "mounts[%zu].options: idmap=%.60s: %s", o->mount,
		o->s->mounts[o->mount].idmap_option, why);
}

/* A number, and what has to be behind it (0: anything). */
static int parse_number(struct option *o, char behind, uint32_t *ret)
{
	char *end;
	unsigned long long n;

	if (*o->text < '0' || *o->text > '9')
		return fail(o, "a mapping is three numbers, \"0-1000-10\"");
	errno = 0;
	n = strtoull(o->text, &end, 10);
	if (errno || n > UINT32_MAX)
		return fail(o, "a number is too large");
	if (behind && *end++ != behind)
		return fail(o, "a mapping is three numbers, \"0-1000-10\"");
	*ret = n;
	o->text = end;
	return 0;
}

/* The host's id of one of the container's. */
static int resolve(const struct option *o, const struct id_map *of, size_t n, struct id_map *map)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t behind = map->host_id - of[i].container_id;

		if (map->host_id < of[i].container_id || behind >= of[i].size)
			continue;
		if (map->size > of[i].size - behind)
			return fail(
				o, "a mapping with '@' lies in more than one of the container's: split it");
		map->host_id = of[i].host_id + behind;
		return 0;
	}
	return fail(o, "an id with '@' is not mapped in the container's user namespace");
}

static int parse_map(struct option *o, const struct id_map *of, size_t n_of, struct id_map *map)
{
	bool relative = *o->text == '@';
	int r;

	o->text += relative;
	r = parse_number(o, '-', &map->container_id);
	if (r == 0)
		r = parse_number(o, '-', &map->host_id);
	if (r == 0)
		r = parse_number(o, '\0', &map->size);
	if (r == 0 && relative)
		r = resolve(o, of, n_of, map);
	return r;
}

static int parse_list(
	struct option *o, const struct id_map *of, size_t n_of, struct id_map **ret, size_t *ret_n)
{
	struct id_map *map = arena_array(o->p->arena, ID_MAP_MAX, sizeof(*map));
	const char *why;
	size_t n = 0;
	int r = 0;

	if (!map)
		return error_errno(o->p->e, -ENOMEM, "mounts[%zu].options", o->mount);
	if (*ret)
		return fail(o, "given twice");
	do {
		if (n == ID_MAP_MAX)
			return fail(o, "too many mappings");
		r = parse_map(o, of, n_of, &map[n++]);
	} while (r == 0 && *o->text == '#' && o->text++);
	if (r < 0)
		return r;
	why = spec_check_id_maps(map, n);
	if (why)
		return fail(o, why);
	*ret = map;
	*ret_n = n;
	return 0;
}

/* What is not given: the container's, or everything as it is. */
static int complete(
	struct option *o, const struct id_map *of, size_t n_of, struct id_map **ret, size_t *ret_n)
{
	struct id_map *all;

	if (*ret)
		return 0;
	*ret_n = n_of;
	*ret = (struct id_map *)of;
	if (n_of)
		return 0;
	all = arena_new(o->p->arena, struct id_map);
	if (!all)
		return error_errno(o->p->e, -ENOMEM, "mounts[%zu].options", o->mount);
	all->size = UINT32_MAX;
	*ret = all;
	*ret_n = 1;
	return 0;
}

int spec_idmap_option(struct parser *p, struct spec *s, size_t i)
{
	struct spec_mount *m = &s->mounts[i];
	struct option o = {.p = p, .s = s, .mount = i, .text = m->idmap_option};
	const struct id_maps *of = &s->ids;
	int r = 0;

	if (m->ids.n_uid || m->ids.n_gid)
		return fail(&o, "there are uidMappings, too");
	do {
		bool uid = !strncmp(o.text, "uids=", 5);

		if (!uid && strncmp(o.text, "gids=", 5) != 0)
			return fail(&o, "\"uids=\" and \"gids=\" are what it knows");
		o.text += 5;
		r = uid ? parse_list(&o, of->uid, of->n_uid, &m->ids.uid, &m->ids.n_uid)
			: parse_list(&o, of->gid, of->n_gid, &m->ids.gid, &m->ids.n_gid);
	} while (r == 0 && *o.text == ';' && o.text++);
	if (r == 0 && *o.text)
		r = fail(&o, "there is something behind the mappings");
	if (r == 0)
		r = complete(&o, of->uid, of->n_uid, &m->ids.uid, &m->ids.n_uid);
	return r < 0 ? r : complete(&o, of->gid, of->n_gid, &m->ids.gid, &m->ids.n_gid);
}
