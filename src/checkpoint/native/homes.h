/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where processes have to be born. A pid namespace belongs to the user namespace of who made it, so that its first process
 * can be made again only by one who is in that user namespace (its "home") for good, and so are all below it in the tree.
 * Who is there may set fewer ids than one outside, may enter fewer namespaces, and may not choose pids in the pid namespaces
 * of others. Pure data, the same question for a dump and for a restore.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "image.pb-c.h"

struct homes {
	const St__Process *const *procs; /* parents before children, init first */
	size_t n_procs;
	const St__Namespace *const *spaces;
	size_t n_spaces;
	uint64_t *
		home; /* by process: Namespace.id of the user namespace in which it is born; 0: the container's */
};

/* h->procs and h->spaces are given. 1: cannot be made again: *ret_wrong is the index of the process, *ret_reason says why. */
int homes_find(struct homes *h, struct arena *a, size_t *ret_wrong, const char **ret_reason) _must_check_;

const St__Namespace *homes_namespace(const struct homes *h, uint64_t id);
/* The namespace of that kind that the process is in; NULL: the container's. */
const St__Namespace *homes_namespace_of(const struct homes *h, const St__Process *p, uint32_t type);
/* Where its threads are made: who has some enters his user namespace before. */
uint64_t homes_of_threads(const struct homes *h, size_t proc);
/* Of a process's pids, how many (the outer ones) one in that user namespace may not choose. */
size_t homes_foreign_pids(const struct homes *h, const St__Process *p, uint64_t home);
/* The ids of the container as a user namespace has them; false: it does not map it. */
bool homes_map_uid(const struct homes *h, uint64_t home, uint32_t id, uint32_t *ret);
bool homes_map_gid(const struct homes *h, uint64_t home, uint32_t id, uint32_t *ret);
