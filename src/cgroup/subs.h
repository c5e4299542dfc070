/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sub-cgroups that a container has made below its own directories, with what is set in their files: read for a
 * checkpoint, made again by a restore. A sub-cgroup is named by its hierarchy (cgroup_dir.controllers) and its path below
 * the container's directory, "/a/b"; "" is the container's own.
 */
#pragma once

#include <sys/stat.h>

#include "cgroup/cgroup.h"

/* Cheap: whether there are any. "fds": of all its directories, by cgroup_open_dirs(), when there is even less time; else NULL. */
bool cgroup_has_subs(const struct cgroup *cg, const int *fds);
/* Of those that cannot be opened -EBADF. */
void cgroup_open_dirs(const struct cgroup *cg, int fds[CGROUP_MAX_DIRS]);

struct cgroup_sub {
	const struct cgroup_dir *dir;
	const char *path;
	int fd; /* of its directory */
};
/* Calls it for each, parents first, after the container's own of the hierarchy; an error ends it. */
int cgroup_subs_visit(const struct cgroup *cg, int (*visit)(const struct cgroup_sub *sub, void *arg),
	void *arg, struct error *e) _must_check_;

/* What is set in it: those files that we know how to write again, whose contents are not empty. */
int cgroup_sub_values(
	int fd, bool v2, int (*value)(const char *name, const char *text, void *arg), void *arg) _must_check_;
/* Whether this is one of them. */
bool cgroup_value_is_known(const char *name, bool v2);
/* Whether it is one that must be written before processes come: v1's cpuset, v2's types and controllers of children. */
bool cgroup_value_is_early(const char *name, bool v2);
/* Writes it, if it is not so already. */
int cgroup_value_write(int fd, const char *name, const char *text) _must_check_;

/* Its threads, as listed; malloc'ed. */
int cgroup_sub_threads(int fd, bool v2, char **ret) _must_check_;
/* 1: it has been frozen by whoever may write to it (not through one above). */
int cgroup_sub_is_frozen(int fd, bool v2) _must_check_;
/* 1: BPF programs are attached to it. */
int cgroup_sub_has_programs(int fd) _must_check_;

/* "controllers" as in cgroup_dir; NULL: the container has no such hierarchy. */
const struct cgroup_dir *cgroup_dir_of(const struct cgroup *cg, const char *controllers);
/* Makes one whose parent is there; path "/a/b" without "." and "..". Returns its directory. */
int cgroup_sub_make(
	const struct cgroup *cg, const struct cgroup_dir *d, const char *path, struct error *e) _must_check_;
