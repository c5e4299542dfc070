/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a cgroup has used, in one shape for v1 and v2: times in nanoseconds, memory in bytes, UINT64_MAX for "no limit".
 * A part whose controller is not there is not present. Nothing is cached: each call reads the files.
 */
#pragma once

#include "cgroup/cgroup.h"

struct cgroup_usage {
	bool present;
	uint64_t usage, max, limit, failcnt;
};

struct cgroup_number {
	const char *name;
	uint64_t value;
};

struct cgroup_io {
	uint64_t major, minor, value;
	const char *op; /* "Read", "Write", ... */
};

struct cgroup_io_list {
	struct cgroup_io *entries;
	size_t n;
};

/* Pressure stall information: shares of time in percent, total in microseconds. */
struct cgroup_stall {
	double avg10, avg60, avg300;
	uint64_t total;
};

struct cgroup_pressure {
	bool present;
	struct cgroup_stall some, full;
};

struct cgroup_hugetlb {
	const char *page_size; /* "2MB" */
	uint64_t usage, max, failcnt;
};

struct cgroup_stats {
	struct arena arena; /* all pointers below */
	bool has_cpu, has_throttling, has_pids;
	uint64_t cpu_total, cpu_user, cpu_kernel;
	uint64_t *percpu, *percpu_user, *percpu_kernel; /* v1 only, else NULL */
	size_t n_cpus;
	uint64_t periods, throttled_periods, throttled_time;
	struct cgroup_usage memory, swap, kernel, kernel_tcp; /* swap: memory plus swap, as v1 counts */
	uint64_t cache;
	struct cgroup_number *memory_stat; /* memory.stat as it is */
	size_t n_memory_stat;
	uint64_t pids_current, pids_limit; /* limit 0: none */
	struct cgroup_io_list io_bytes, io_operations;
	struct cgroup_hugetlb *hugetlb;
	size_t n_hugetlb;
	struct cgroup_pressure cpu_pressure, memory_pressure, io_pressure;
};

/* Fills *s; cgroup_stats_done() frees it, also after a failure. */
int cgroup_stats_read(const struct cgroup *cg, struct cgroup_stats *s, struct error *e) _must_check_;
void cgroup_stats_done(struct cgroup_stats *s);
/* The "data" object of runc's `events --stats`, on one line; "rdt" and "interfaces" are the values of its members intel_rdt
 * and network_interfaces, NULL: {} and null. Caller frees *ret. 0 or -ENOMEM. */
int cgroup_stats_json(
	const struct cgroup_stats *s, const char *rdt, const char *interfaces, char **ret) _must_check_;
