/* SPDX-License-Identifier: Apache-2.0 */
/* The id maps of user namespaces (user_namespaces(7)). Thin: negative errno, no messages. */
#pragma once

#include <sys/types.h>

#include "base/arena.h"
#include "base/util.h"

/* "size" ids from container_id on are those from host_id on in the namespace's parent. */
struct id_map {
	uint32_t container_id, host_id, size;
};

struct id_maps {
	struct id_map *uid, *gid;
	size_t n_uid, n_gid;
};

enum { ID_MAP_MAX = 340 }; /* lines that the kernel takes */

/* One file of a process whose user namespace has none yet: "uid_map" or "gid_map". -E2BIG: too many lines. */
int idmap_write(pid_t pid, const char *file, const struct id_map *map, size_t n) _must_check_;
/* Of a process, seen from our user namespace; *ret in the arena. */
int idmap_read(pid_t pid, const char *file, struct arena *a, struct id_map **ret, size_t *ret_n) _must_check_;
/* Is this id of the namespace mapped? */
bool idmap_contains(const struct id_map *map, size_t n, uint32_t container_id);
/* Are we in the user namespace of the machine, or one that maps all its ids to themselves? */
bool idmap_is_initial(void);
/* A descriptor of a new user namespace with these maps, for idmapped mounts; nobody lives in it. Needs privileges over
 * the ids. */
int idmap_make_userns(const struct id_maps *maps) _must_check_;
