/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits on v2 (Documentation/admin-guide/cgroup-v2.rst). config.json speaks of v1's values, so shares become weights
 * and memory plus swap becomes swap, by the formulas of the runtime-spec.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cgroup/cgroup-priv.h"

void v2_enable_controllers(int dir)
{
	char available[512], *name, *rest = available;

	if (read_small_file_at(dir, "cgroup.controllers", available, sizeof(available)) < 0)
		return;
	/* One by one: the kernel takes all of a line or nothing. */
	while ((name = strsep(&rest, " \n"))) {
		char wanted[64];

		if (name[0] && (size_t)snprintf(wanted, sizeof(wanted), "+%s", name) < sizeof(wanted))
			(void)!write_string_at(dir, "cgroup.subtree_control", wanted);
	}
}

/* "max" for the -1 of config.json. */
static int v2_bytes(struct limits *l, int dir, const char *file, int64_t value)
{
	return value < 0 ? limits_write(l, dir, file, "max") : limits_write(l, dir, file, "%" PRId64, value);
}

/* v2 takes a limit below the usage, and reclaims or kills until it holds. v1 refuses it. */
static int v2_check_usage(struct limits *l, int dir, int64_t limit)
{
	char text[32];
	ssize_t n = read_small_file_at(dir, "memory.current", text, sizeof(text));
	unsigned long long used = n < 0 ? 0 : strtoull(text, NULL, 10);

	if (used <= (unsigned long long)limit)
		return 0;
	return error_set(l->e, -EBUSY, ERROR_SYSTEM,
		"linux.resources.memory.limit: %" PRId64
		" is less than the %llu bytes in use (checkBeforeUpdate)",
		limit, used);
}

static int v2_memory(struct limits *l, int dir, const struct spec_resources *res)
{
	int64_t limit = res->has_memory_limit ? res->memory_limit : 0;
	int64_t swap = res->has_memory_swap ? res->memory_swap : 0;
	int r;

	if (l->record && res->check_before_update && limit > 0) {
		r = v2_check_usage(l, dir, limit);
		if (r < 0)
			return r;
	}
	r = 0;
	if (swap > 0 && limit <= 0)
		return error_set(
			l->e, -EINVAL, ERROR_CONFIG, "linux.resources.memory.swap: needs a limit too");
	if (swap > 0 && swap < limit)
		return error_set(l->e, -EINVAL, ERROR_CONFIG,
			"linux.resources.memory.swap: is memory plus swap, so not less than limit");
	if (swap > 0)
		swap -= limit;
	else if (swap == 0 && limit == -1)
		swap = -1;
	else if (swap == 0)
		swap = INT64_MIN;
	/* A machine without swap has no memory.swap.max, and needs none. */
	if (swap != INT64_MIN && (swap > 0 || limits_has_file(dir, "memory.swap.max")))
		r = v2_bytes(l, dir, "memory.swap.max", swap);
	if (r == 0 && limit)
		r = v2_bytes(l, dir, "memory.max", limit);
	if (r == 0 && res->has_memory_reservation && res->memory_reservation)
		r = v2_bytes(l, dir, "memory.low", res->memory_reservation);
	return r;
}

/* v1's 2 to 262144 become v2's 1 to 10000 by a curve through the defaults, 1024 and 100 (runc since 1.3.2). */
unsigned v2_cpu_weight(uint64_t shares)
{
	double l;

	if (shares <= 2)
		return 1;
	if (shares >= 262144)
		return 10000;
	l = log2((double)shares);
	return (unsigned)ceil(pow(10, (l * l + 125 * l) / 612 - 7.0 / 34));
}

static int v2_cpu(struct limits *l, int dir, const struct spec_resources *res)
{
	bool quota = res->has_cpu_quota && res->cpu_quota, period = res->has_cpu_period && res->cpu_period;
	int r = 0;

	/* cpu.weight can't be written while cpu.idle is 1. */
	if (res->has_cpu_idle)
		r = limits_write(l, dir, "cpu.idle", "%" PRId64, res->cpu_idle);
	if (r == 0 && res->has_cpu_shares && res->cpu_shares && !(res->has_cpu_idle && res->cpu_idle)) {
		r = limits_write(l, dir, "cpu.weight", "%u", v2_cpu_weight(res->cpu_shares));
	}
	if (r == 0 && (quota || period)) {
		uint64_t us = period ? res->cpu_period : 100000;

		r = quota && res->cpu_quota > 0
			    ? limits_write(l, dir, "cpu.max", "%" PRId64 " %" PRIu64, res->cpu_quota, us)
			    : limits_write(l, dir, "cpu.max", "max %" PRIu64, us);
	}
	if (r == 0 && res->has_cpu_burst)
		r = limits_write(l, dir, "cpu.max.burst", "%" PRIu64, res->cpu_burst);
	return r;
}

static int v2_cpuset(struct limits *l, int dir, const struct spec_resources *res)
{
	int r = 0;

	if (res->cpuset_cpus && res->cpuset_cpus[0])
		r = limits_write(l, dir, "cpuset.cpus", "%s", res->cpuset_cpus);
	if (r == 0 && res->cpuset_mems && res->cpuset_mems[0])
		r = limits_write(l, dir, "cpuset.mems", "%s", res->cpuset_mems);
	return r;
}

static int v2_pids(struct limits *l, int dir, const struct spec_resources *res)
{
	return res->has_pids_limit && res->pids_limit ? v2_bytes(l, dir, "pids.max", res->pids_limit) : 0;
}

static int v2_io_weights(struct limits *l, int dir, const struct spec_resources *res)
{
	/* BFQ takes 1-1000 as config.json has it; io.weight takes 1-10000 for v1's 10-1000. */
	bool bfq = limits_has_file(dir, "io.bfq.weight");
	int r = 0;

	if (res->has_blkio_weight && res->blkio_weight)
		r = bfq ? limits_write(l, dir, "io.bfq.weight", "%u", res->blkio_weight)
			: limits_write(l, dir, "io.weight", "default %u",
				  1 + (MAX(res->blkio_weight, 10U) - 10) * 9999 / 990);
	for (size_t i = 0; r == 0 && i < res->blkio_weight_device.n; i++) {
		const struct spec_blkio_device *d = &res->blkio_weight_device.devices[i];

		r = limits_write(
			l, dir, "io.bfq.weight", "%" PRId64 ":%" PRId64 " %u", d->major, d->minor, d->weight);
	}
	return r;
}

static int v2_io(struct limits *l, int dir, const struct spec_resources *res)
{
	static const char *const keys[BLKIO_THROTTLE_COUNT] = {
		[BLKIO_READ_BPS] = "rbps",
		[BLKIO_WRITE_BPS] = "wbps",
		[BLKIO_READ_IOPS] = "riops",
		[BLKIO_WRITE_IOPS] = "wiops",
	};
	int r = v2_io_weights(l, dir, res);

	for (size_t t = 0; t < BLKIO_THROTTLE_COUNT; t++)
		for (size_t i = 0; r == 0 && i < res->blkio_throttle[t].n; i++) {
			const struct spec_blkio_device *d = &res->blkio_throttle[t].devices[i];

			/* v1 lifts a limit with 0. */
			r = d->rate ? limits_write(l, dir, "io.max", "%" PRId64 ":%" PRId64 " %s=%" PRIu64,
					      d->major, d->minor, keys[t], d->rate)
				    : limits_write(l, dir, "io.max", "%" PRId64 ":%" PRId64 " %s=max",
					      d->major, d->minor, keys[t]);
		}
	return r;
}

static int v2_hugetlb(struct limits *l, int dir, const struct spec_resources *res)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < res->n_hugepage_limits; i++) {
		const struct spec_hugepage_limit *h = &res->hugepage_limits[i];
		char file[64];

		snprintf(file, sizeof(file), "hugetlb.%s.max", h->page_size);
		/* Kubernetes always writes a limit of 0: without the controller there is nothing to hold it against. */
		if (h->limit || limits_has_file(dir, file))
			r = limits_write(l, dir, file, "%" PRIu64, h->limit);
		snprintf(file, sizeof(file), "hugetlb.%s.rsvd.max", h->page_size);
		if (r == 0 && limits_has_file(dir, file))
			r = limits_write(l, dir, file, "%" PRIu64, h->limit);
	}
	return r;
}

/* v2 has no controllers for it: BPF programs and nftables see the cgroup itself. */
static int v2_network(struct limits *l, int dir, const struct spec_resources *res)
{
	if ((res->has_net_class_id && res->net_class_id) || res->n_net_priorities)
		return error_set(l->e, -ENOTSUP, ERROR_KERNEL,
			"linux.resources.network: classID and priorities need the net_cls and net_prio "
			"controllers of cgroup v1, and this machine has v2 (where nftables can match the "
			"cgroup: "
			"\"socket cgroupv2\")");
	return 0;
}

static int v2_rdma(struct limits *l, int dir, const struct spec_resources *res)
{
	return limits_write_rdma(l, dir, res);
}

static int v2_unified(struct limits *l, int dir, const struct spec_resources *res)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < res->n_unified; i++)
		r = limits_write(l, dir, res->unified[i].name, "%s", res->unified[i].value);
	return r;
}

int v2_apply(struct limits *l, int dir, const struct spec_resources *res)
{
	static int (*const all[])(struct limits * l, int dir, const struct spec_resources *res) = {
		v2_cpuset,
		v2_memory,
		v2_cpu,
		v2_pids,
		v2_io,
		v2_hugetlb,
		v2_network,
		v2_rdma,
		v2_unified,
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		int r = all[i](l, dir, res);

		if (r < 0)
			return r;
	}
	return 0;
}
