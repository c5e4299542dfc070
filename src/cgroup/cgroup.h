/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroup of one container, on v1, hybrid or v2 machines. A cgroup is acted on only if it is provably ours: each
 * directory that cgroup_create() makes is recorded with its inode, and kill, freeze and delete check it before they
 * act (facts.md: crun once killed a whole machine through the root cgroup).
 *
 * Layout on v1 and hybrid: one directory in each mounted controller hierarchy, plus name=systemd and the v2 tree where
 * they are mounted, all called the same: config's cgroupsPath from the hierarchy's root if absolute, else below the
 * caller's own cgroup of that hierarchy; without a cgroupsPath "stasis-<id>" below the caller's own one. (On pure v2
 * beside the caller's own one: a v2 cgroup with processes can't have children with controllers.)
 *
 * How a process gets in, and what it costs (measured, docs/adr/0011-joining-a-cgroup.md; ms for ten hierarchies):
 *                                                        back to back   after idleness
 *     parent writes the pid to each cgroup.procs                  0.6             12.9
 *     the same from ten threads at once                           1.5             11.1
 *     child writes "0" to each cgroup.procs                       0.15            14.3
 *     CLONE_INTO_CGROUP, child writes "0" to each v1 "tasks"      0.16             0.4
 * So: clone3() with CLONE_INTO_CGROUP and cgroup_v2_fd(), and let the child, while it is single-threaded, call
 * cgroup_join(). cgroup_attach() is for those that are already there.
 */
#pragma once

#include <sys/types.h>

#include "base/arena.h"
#include "base/error.h"
#include "oci/spec.h"

enum cgroup_mode { CGROUP_NONE, CGROUP_V1, CGROUP_HYBRID, CGROUP_V2 };

/* Who makes the cgroup: we, nobody, or systemd (which then also is told of the limits). */
enum cgroup_manager { CGROUP_FS, CGROUP_DISABLED, CGROUP_SYSTEMD };

enum { CGROUP_MAX_DIRS = 24 };

struct cgroup_dir {
	char controllers[48]; /* "memory", "cpu,cpuacct", "name=systemd", "" for v2 */
	char path[512];	      /* absolute host path of the directory */
	uint64_t inode;	      /* of the directory we made or were given; 0: not made (yet) */
	bool created;	      /* we made it, so we delete it */
};

/* Plain data, so that state.json can hold it. */
struct cgroup {
	enum cgroup_mode mode;
	bool optional; /* not recorded: rootless, whoever may not make cgroups does without, unless there are limits */
	char path[512];	 /* "/stasis/abc": relative to each hierarchy's root */
	char unit[256];	 /* systemd: the scope or slice; "": not by systemd */
	char slice[256]; /* the unit is below that */
	bool user_unit;	 /* of the user's own systemd */
	bool started;	 /* the unit is to be stopped */
	pid_t holder;	 /* not stored: cgroup_release() */
	size_t n_dirs;
	struct cgroup_dir dirs[CGROUP_MAX_DIRS];
};

/* Finds the mounted hierarchies; makes nothing. A path that would be a hierarchy's root is refused. CGROUP_DISABLED: mode
 * CGROUP_NONE, all calls succeed and do nothing. CGROUP_SYSTEMD: the path is "slice:prefix:name". */
int cgroup_init(struct cgroup *cg, const char *cgroups_path, const char *id, enum cgroup_manager manager,
	struct error *e) _must_check_;
/* Makes the directories and writes the limits; undone by cgroup_delete(). An existing, non-empty one is an error. */
int cgroup_create(struct cgroup *cg, const struct spec_resources *res, struct error *e) _must_check_;
/* To be called when the container's init is in it: until then a process of ours keeps systemd's scope alive. */
void cgroup_release(struct cgroup *cg);
/* Writes the limits of an existing one (the update command). When one can't be written, those before it are put back.
 * Device rules are left as they are, as by runc: callers send the whole of linux.resources, and to write v1's list anew
 * would keep running programs from /dev/null for a moment. */
int cgroup_apply(const struct cgroup *cg, const struct spec_resources *res, struct error *e) _must_check_;
/* An O_DIRECTORY fd of the v2 directory for CLONE_INTO_CGROUP, or -EBADF when v1-only. Caller closes. */
int cgroup_v2_fd(const struct cgroup *cg);
/* Moves a process (all its threads) into every hierarchy; v2 too unless it was born there: skip_v2. Waits out an RCU
 * grace period after idleness, 11 ms: cgroup_join() does not. */
int cgroup_attach(const struct cgroup *cg, pid_t pid, bool skip_v2, struct error *e) _must_check_;

/* The cheap way in, for a child of ours: the parent opens (with its own privilege; the kernel judges by the opener, so
 * the child may be in a user namespace or without its mounts by then), the child, still single-threaded, joins. A cgroup
 * namespace is rooted where its maker is: unshare(CLONE_NEWCGROUP) after joining instead of cloning with it. */
struct cgroup_join_fds {
	int fds[CGROUP_MAX_DIRS];
	size_t n;
};
/* Which sub-cgroup, as exec's --cgroup says it: one "path" for all hierarchies, or "controller[,controller]:path"s. */
struct cgroup_subs {
	const char *const *paths;
	size_t n;
};
/* subs: NULL, or those that cgroup_v2_sub_fd() has checked. */
int cgroup_join_open(const struct cgroup *cg, bool skip_v2, const struct cgroup_subs *subs,
	struct cgroup_join_fds *ret, struct error *e) _must_check_;
/* Checks them, and opens v2's as cgroup_v2_fd() does; *ret stays untouched where there is no v2. */
int cgroup_v2_sub_fd(
	const struct cgroup *cg, const struct cgroup_subs *subs, int *ret, struct error *e) _must_check_;
/* The v2 sub-cgroup that a process of the container is in: where a further one can go when the container has given
 * controllers to its children, so that its own directory takes no processes (EBUSY). */
int cgroup_v2_fd_of(const struct cgroup *cg, pid_t pid);
/* Puts the calling thread into them. Only write(2): may be called after clone() in any state. 0 or a negative errno. */
int cgroup_join(const struct cgroup_join_fds *j) _must_check_;
void cgroup_join_close(struct cgroup_join_fds *j);

/* Freezer: v2's where there is a v2 tree (also on hybrid machines: ptrace works on its frozen tasks), else v1's.
 * freeze: returns when all tasks are frozen (reads in a loop; gives up after timeout_ms with -ETIMEDOUT and
 * thaws again). */
int cgroup_freeze(const struct cgroup *cg, int timeout_ms, struct error *e) _must_check_;
/* The same, but after -ETIMEDOUT what is frozen stays so. */
int cgroup_freeze_begin(const struct cgroup *cg, int timeout_ms, struct error *e) _must_check_;
int cgroup_thaw(const struct cgroup *cg, struct error *e) _must_check_;
/* After a SIGKILL: lets everything run that is frozen, since on v1 it would not die; also what the container has frozen
 * itself in sub-cgroups. */
int cgroup_thaw_killed(const struct cgroup *cg, struct error *e) _must_check_;
/* 1 frozen, 0 not, or negative errno. */
int cgroup_is_frozen(const struct cgroup *cg) _must_check_;

/* All pids (or threads) of the cgroup and its sub-cgroups, as seen by the caller's pid namespace; *ret is malloc'ed. */
int cgroup_pids(
	const struct cgroup *cg, bool threads, pid_t **ret, size_t *ret_n, struct error *e) _must_check_;
/* Signals all of them: cgroup.kill where there is one, else freeze-signal-thaw in a loop through pidfds. */
int cgroup_signal(const struct cgroup *cg, int sig, struct error *e) _must_check_;
/* Bytes that a process of the cgroup, or of one below it, can still be given: the least of all limits that hold for it, also
 * those of the directories above. UINT64_MAX: there is none; 0 also: it is not known. */
uint64_t cgroup_memory_room(const struct cgroup *cg, pid_t pid);
/* Removes the directories that we made (and sub-cgroups); retries while busy. Safe to repeat. */
int cgroup_delete(struct cgroup *cg, struct error *e) _must_check_;
