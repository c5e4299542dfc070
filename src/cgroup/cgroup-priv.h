/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of src/cgroup. Invariant of all: a directory is opened by cgroup_dir_open() before it is acted on. */
#pragma once

#include "base/arena.h"
#include "base/fd.h"
#include "cgroup/cgroup.h"

/* Fills mode, path and dirs[].{controllers,path} (hierarchy.c). */
int cgroup_discover(
	struct cgroup *cg, const char *cgroups_path, const char *id, struct error *e) _must_check_;
/* True: v2's directory. */
static inline bool cgroup_dir_is_v2(const struct cgroup_dir *d)
{
	return d->controllers[0] == 0;
}
/* Whether "list" ("cpu,cpuacct") has this controller. */
bool cgroup_has_controller(const char *list, const char *controller);
/* The directory of a v1 controller, or NULL; the v2 directory, or NULL. */
const struct cgroup_dir *cgroup_v1_dir(const struct cgroup *cg, const char *controller);
const struct cgroup_dir *cgroup_v2_dir(const struct cgroup *cg);
/* Where all tasks can be listed: v2 if there is one, else the freezer, devices, pids, or the first. NULL: mode NONE. */
const struct cgroup_dir *cgroup_main_dir(const struct cgroup *cg);

/* An O_DIRECTORY fd, after proof that it is the directory of ours: inode as recorded, not a hierarchy's root, on a
 * cgroup filesystem, called as cg->path says. -ESTALE: it is another one now; -ENOENT: gone. */
int cgroup_dir_open(const struct cgroup *cg, const struct cgroup_dir *d, struct error *e) _must_check_;

/* The same of the sub-cgroup that is asked for. subs: NULL or checked by cgroup_v2_sub_fd(). */
int cgroup_sub_open(const struct cgroup *cg, const struct cgroup_dir *d, const struct cgroup_subs *subs,
	struct error *e) _must_check_;

/* The parts that systemd does (systemd.c): what cgroup_init(), _create(), _apply() and _delete() call for it. */
int systemd_init(struct cgroup *cg, const char *cgroups_path, const char *id, struct error *e) _must_check_;
int systemd_start(struct cgroup *cg, const struct spec_resources *res, struct error *e) _must_check_;
int systemd_set(const struct cgroup *cg, const struct spec_resources *res, struct error *e) _must_check_;
int systemd_stop(struct cgroup *cg, struct error *e) _must_check_;

/* Limits: one write after the other, each undone when a later one fails (limits.c). */
struct limits_undo;
struct limits {
	const struct cgroup *cg;
	struct error *e;
	bool record; /* keep old values */
	struct arena arena;
	struct limits_undo *undo;  /* newest first */
	int dirs[CGROUP_MAX_DIRS]; /* opened when first needed, -EBADF before */
};
void limits_init(struct limits *l, const struct cgroup *cg, bool record, struct error *e);
/* Closes; "failed": first writes the old values back. */
void limits_done(struct limits *l, bool failed);
/* The directory of a controller (v1), or of v2 for "". Error naming "what" if it is not mounted. Borrowed. */
int limits_dir(struct limits *l, const char *controller, const char *what, int *ret) _must_check_;
/* One value into one file. */
int limits_write(struct limits *l, int dir, const char *file, const char *format, ...)
	_printf_(4, 5) _must_check_;
/* The same without an error message, for writes that may be refused and tried another way. */
int limits_try(struct limits *l, int dir, const char *file, const char *value) _must_check_;
bool limits_has_file(int dir, const char *file);
/* rdma.max is the same on v1 and v2. */
int limits_write_rdma(struct limits *l, int dir, const struct spec_resources *res) _must_check_;

int v1_apply(struct limits *l, const struct spec_resources *res) _must_check_;
/* Limits of v2 into a directory fd, split so that tests can use any directory. */
int v2_apply(struct limits *l, int dir, const struct spec_resources *res) _must_check_;
/* A new v1 cpuset takes no task before it has cpus and mems: copies them from the parent. */
int v1_cpuset_init(int dir) _must_check_;
/* Lets the children of a directory have the controllers that it has; failures show when limits are written. */
void v2_enable_controllers(int dir);
/* cpu.shares of v1 as cpu.weight. */
unsigned v2_cpu_weight(uint64_t shares);

/* Statistics of a v2 directory, split like v2_apply(). s is empty. */
struct cgroup_stats;
int stats_read_v2(int dir, struct cgroup_stats *s, struct error *e) _must_check_;

/* The device rules: config's, then the devices every container has (devices.c). */
int devices_apply_v1(struct limits *l, int dir, const struct spec_resources *res) _must_check_;
int devices_apply_v2(int dir, const struct spec_resources *res, struct error *e) _must_check_;
