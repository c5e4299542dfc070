/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User and group ids. We see the host's, the image has those that the container sees: so it can be restored with other
 * mappings. An id without a mapping is in the image what it is in the container: nobody's.
 */
#include "checkpoint/native/dump.h"

enum { NOBODY = 65534 };

int dump_read_ids(struct dump *d, struct error *e)
{
	pid_t init = d->procs[0].pid;
	int r = idmap_read(init, "uid_map", &d->arena, &d->ids.uid, &d->ids.n_uid);

	if (r == 0)
		r = idmap_read(init, "gid_map", &d->arena, &d->ids.gid, &d->ids.n_gid);
	return r < 0 ? error_errno(e, r, "read the container's id mappings") : 0;
}

static uint32_t inside(const struct id_map *map, size_t n, uint32_t id)
{
	for (size_t i = 0; i < n; i++)
		if (id >= map[i].host_id && id - map[i].host_id < map[i].size)
			return map[i].container_id + (id - map[i].host_id);
	/* no id at all; or no container, but one process of ours (tests) */
	return id == UINT32_MAX || n == 0 ? id : NOBODY;
}

uint32_t dump_host_uid(const struct dump *d, uint32_t uid)
{
	return inside(d->ids.uid, d->ids.n_uid, uid);
}

uint32_t dump_host_gid(const struct dump *d, uint32_t gid)
{
	return inside(d->ids.gid, d->ids.n_gid, gid);
}

/* In the container's user namespace the kernel tells us its ids. */
uint32_t dump_uid(const struct dump *d, uint32_t uid)
{
	return d->unprivileged ? uid : dump_host_uid(d, uid);
}

uint32_t dump_gid(const struct dump *d, uint32_t gid)
{
	return d->unprivileged ? gid : dump_host_gid(d, gid);
}
