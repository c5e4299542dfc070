/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's own mounts. What create makes of config.json is in the state directory (mountinfo). A container that
 * has changed nothing of it has no Mount records. Otherwise there is one for every mount, and restore makes the whole
 * tree anew out of the mounts that create has made: then moved, covered, remounted and missing ones need nothing special.
 *
 * Mounts of create are told by their mount point and by how many lie there below them, in the order of mountinfo.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "image.pb-c.h"
#include "linux/procfs.h"

enum mount_propagation { MOUNT_SLAVE = 1, MOUNT_SHARED = 2, MOUNT_UNBINDABLE = 4 };

/* Mount.attributes of what mountinfo shows; false: there is an option that we don't know. */
bool mounts_attributes(const struct proc_mount *m, uint64_t *ret);
/* "shared:7 master:3". */
struct mount_groups {
	uint32_t shared, master;
	bool unbindable;
};
struct mount_groups mounts_groups(const struct proc_mount *m);
/* "path" below (or at) "top": the rest of it, "" or "/a/b"; NULL: it is not. */
const char *mounts_below(const char *path, const char *top);
static inline bool mounts_same_fs(const struct proc_mount *a, const struct proc_mount *b)
{
	return a->dev_major == b->dev_major && a->dev_minor == b->dev_minor &&
	       (a->fstype == b->fstype || !__builtin_strcmp(a->fstype, b->fstype));
}
/* Index of the root's mount; -1: there is not exactly one. */
ssize_t mounts_root(const struct proc_mount *m, size_t n);
/* Index of the mount that a path leads to. */
size_t mounts_at(const struct proc_mount *m, size_t n, size_t root, const char *path);
/* How many mounts before m[i] have the same mount point. */
uint32_t mounts_level(const struct proc_mount *m, size_t i);
/* Index of the one with that mount point and level; -1: none. */
ssize_t mounts_find(const struct proc_mount *m, size_t n, const char *target, uint32_t level);

/* mounts-options.c: file systems that a container may mount by itself. */
bool mounts_can_make(const char *fstype);
/* Whether one may come back with these options: an image says so. */
bool mounts_options_are_good(const char *fstype, const char *options);
/* The part of what mountinfo shows that is an option for mount(2). */
struct dump;
struct id_maps;
/* maps: of the user namespace in which it was mounted; NULL: the container's. */
int mounts_options_of(const struct dump *d, struct arena *a, const struct proc_mount *m,
	const struct id_maps *maps, const char **ret) _must_check_;
/* The value of an option, in the arena; NULL: it is not there. */
char *mounts_option(struct arena *a, const char *options, const char *name);
