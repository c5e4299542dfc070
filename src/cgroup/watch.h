/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Being told when a cgroup runs out of memory, or is short of it. A watch is one fd for poll(2): POLLIN on v1 (an
 * eventfd) and for v2's memory.events (inotify), POLLPRI for v2's pressure triggers.
 */
#pragma once

#include "cgroup/cgroup.h"

enum cgroup_pressure_level { CGROUP_PRESSURE_LOW, CGROUP_PRESSURE_MEDIUM, CGROUP_PRESSURE_CRITICAL };

struct cgroup_watch {
	int fd;	      /* poll this one */
	int keep;     /* has to stay open as long; -EBADF: nothing */
	short events; /* POLLIN or POLLPRI */
	int dir;      /* oom: of the memory cgroup */
	bool v2;
	uint64_t seen; /* oom: kills that were reported */
};

/* After the kernel's OOM killer acts in the cgroup, cgroup_oom_kills() tells of how many. */
int cgroup_watch_oom(const struct cgroup *cg, struct cgroup_watch *ret, struct error *e) _must_check_;
/* To be called when the fd is ready: how many tasks were killed since the last call (0: something else happened), or a
 * negative errno; -ENODEV: the cgroup is gone. */
int cgroup_oom_kills(struct cgroup_watch *w) _must_check_;
/* How many tasks the OOM killer has killed in the cgroup, and how much memory it may have (UINT64_MAX: no limit of its own). */
int cgroup_read_oom(const struct cgroup *cg, uint64_t *ret_kills, uint64_t *ret_limit) _must_check_;
/* Ready when memory is short: v1's levels; on v2 "some" tasks waited for memory for 5, 10 or 30 % of a second. */
int cgroup_watch_pressure(const struct cgroup *cg, enum cgroup_pressure_level level, struct cgroup_watch *ret,
	struct error *e) _must_check_;
/* Consumes what made it ready. */
void cgroup_watch_drain(struct cgroup_watch *w);
void cgroup_watch_done(struct cgroup_watch *w);
