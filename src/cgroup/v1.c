/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits on v1 controllers (Documentation/admin-guide/cgroup-v1). As runc has it, a limit of 0 means "not set" where 0
 * makes no sense, and -1 means "no limit".
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cgroup/cgroup-priv.h"

static int copy_from_parent(int dir, const char *file)
{
	char value[4096], parent[64];
	ssize_t n = read_small_file_at(dir, file, value, sizeof(value));

	if (n < 0)
		return (int)n;
	if (n > 0 && value[0] != '\n')
		return 0;
	snprintf(parent, sizeof(parent), "../%s", file);
	n = read_small_file_at(dir, parent, value, sizeof(value));
	if (n < 0)
		return (int)n;
	value[strcspn(value, "\n")] = 0;
	return write_string_at(dir, file, value);
}

int v1_cpuset_init(int dir)
{
	int r = copy_from_parent(dir, "cpuset.cpus");

	return r < 0 ? r : copy_from_parent(dir, "cpuset.mems");
}

/* memsw >= limit at every moment: raising goes from the top, lowering from the bottom. */
static int v1_memory_and_swap(struct limits *l, int dir, int64_t limit, int64_t swap)
{
	static const char limit_file[] = "memory.limit_in_bytes", swap_file[] = "memory.memsw.limit_in_bytes";
	char value[32];
	int r;

	if (!limit)
		return limits_write(l, dir, swap_file, "%" PRId64, swap);
	if (!swap)
		return limits_write(l, dir, limit_file, "%" PRId64, limit);
	snprintf(value, sizeof(value), "%" PRId64, limit);
	r = limits_try(l, dir, limit_file, value);
	if (r == 0)
		return limits_write(l, dir, swap_file, "%" PRId64, swap);
	r = limits_write(l, dir, swap_file, "%" PRId64, swap);
	return r < 0 ? r : limits_write(l, dir, limit_file, "%" PRId64, limit);
}

static int v1_memory(struct limits *l, const struct spec_resources *res)
{
	int64_t limit = res->has_memory_limit ? res->memory_limit : 0;
	int64_t swap = res->has_memory_swap ? res->memory_swap : 0;
	int64_t reservation = res->has_memory_reservation ? res->memory_reservation : 0;
	int dir, r = 0;

	if (!limit && !swap && !reservation && !res->has_memory_swappiness && !res->disable_oom_killer)
		return 0;
	r = limits_dir(l, "memory", "linux.resources.memory", &dir);
	if (r < 0)
		return r;
	if (limit > 0 && swap > 0 && swap < limit)
		return error_set(l->e, -EINVAL, ERROR_CONFIG,
			"linux.resources.memory.swap: is memory plus swap, so not less than limit");
	/* No memory limit would leave the old limit on memory plus swap standing. */
	if (limit == -1 && !swap && limits_has_file(dir, "memory.memsw.limit_in_bytes"))
		swap = -1;
	if (limit || swap)
		r = v1_memory_and_swap(l, dir, limit, swap);
	if (r == 0 && reservation)
		r = limits_write(l, dir, "memory.soft_limit_in_bytes", "%" PRId64, reservation);
	if (r == 0 && res->disable_oom_killer)
		r = limits_write(l, dir, "memory.oom_control", "1");
	if (r == 0 && res->has_memory_swappiness)
		r = limits_write(l, dir, "memory.swappiness", "%" PRIu64, res->memory_swappiness);
	return r;
}

/* The kernel checks quota against period and the parent's ratio at each write, so which one goes first depends on the
 * values that are there. */
static int v1_cpu_quota(struct limits *l, int dir, const struct spec_resources *res)
{
	bool period = res->has_cpu_period && res->cpu_period, quota = res->has_cpu_quota && res->cpu_quota;
	char value[32];
	int r = 0;

	if (period) {
		snprintf(value, sizeof(value), "%" PRIu64, res->cpu_period);
		r = limits_try(l, dir, "cpu.cfs_period_us", value);
		if (r == 0)
			period = false;
		else if (r != -EINVAL || !quota)
			return error_errno(l->e, r, "cgroup: write \"%s\" to cpu.cfs_period_us", value);
	}
	r = 0;
	if (quota)
		r = limits_write(l, dir, "cpu.cfs_quota_us", "%" PRId64, res->cpu_quota);
	if (r == 0 && period)
		r = limits_write(l, dir, "cpu.cfs_period_us", "%" PRIu64, res->cpu_period);
	return r;
}

static int v1_cpu(struct limits *l, const struct spec_resources *res)
{
	bool shares = res->has_cpu_shares && res->cpu_shares,
	     period = res->has_cpu_rt_period && res->cpu_rt_period;
	bool runtime = res->has_cpu_rt_runtime && res->cpu_rt_runtime;
	int dir, r;

	if (!shares && !period && !runtime && !(res->has_cpu_period && res->cpu_period) &&
		!res->has_cpu_idle && !(res->has_cpu_quota && res->cpu_quota) && !res->has_cpu_burst)
		return 0;
	r = limits_dir(l, "cpu", "linux.resources.cpu", &dir);
	if (r == 0 && shares)
		r = limits_write(l, dir, "cpu.shares", "%" PRIu64, res->cpu_shares);
	if (r == 0)
		r = v1_cpu_quota(l, dir, res);
	if (r == 0 && res->has_cpu_burst)
		r = limits_write(l, dir, "cpu.cfs_burst_us", "%" PRIu64, res->cpu_burst);
	if (r == 0 && period)
		r = limits_write(l, dir, "cpu.rt_period_us", "%" PRIu64, res->cpu_rt_period);
	if (r == 0 && runtime)
		r = limits_write(l, dir, "cpu.rt_runtime_us", "%" PRId64, res->cpu_rt_runtime);
	if (r == 0 && res->has_cpu_idle)
		r = limits_write(l, dir, "cpu.idle", "%" PRId64, res->cpu_idle);
	return r;
}

static int v1_cpuset(struct limits *l, const struct spec_resources *res)
{
	bool cpus = res->cpuset_cpus && res->cpuset_cpus[0], mems = res->cpuset_mems && res->cpuset_mems[0];
	int dir, r;

	if (!cpus && !mems)
		return 0;
	r = limits_dir(l, "cpuset", "linux.resources.cpu.cpus", &dir);
	if (r == 0 && cpus)
		r = limits_write(l, dir, "cpuset.cpus", "%s", res->cpuset_cpus);
	if (r == 0 && mems)
		r = limits_write(l, dir, "cpuset.mems", "%s", res->cpuset_mems);
	return r;
}

static int v1_pids(struct limits *l, const struct spec_resources *res)
{
	int dir, r;

	if (!res->has_pids_limit || !res->pids_limit)
		return 0;
	r = limits_dir(l, "pids", "linux.resources.pids", &dir);
	if (r < 0)
		return r;
	return res->pids_limit < 0 ? limits_write(l, dir, "pids.max", "max")
				   : limits_write(l, dir, "pids.max", "%" PRId64, res->pids_limit);
}

static int v1_blkio_weights(struct limits *l, int dir, const struct spec_resources *res)
{
	/* CFQ's files went with it in 5.0; BFQ has its own. */
	bool bfq = !limits_has_file(dir, "blkio.weight");
	int r = 0;

	if (res->has_blkio_weight && res->blkio_weight)
		r = limits_write(l, dir, bfq ? "blkio.bfq.weight" : "blkio.weight", "%u", res->blkio_weight);
	for (size_t i = 0; r == 0 && i < res->blkio_weight_device.n; i++) {
		const struct spec_blkio_device *d = &res->blkio_weight_device.devices[i];

		r = limits_write(l, dir, bfq ? "blkio.bfq.weight_device" : "blkio.weight_device",
			"%" PRId64 ":%" PRId64 " %u", d->major, d->minor, d->weight);
	}
	return r;
}

static int v1_blkio(struct limits *l, const struct spec_resources *res)
{
	static const char *const files[BLKIO_THROTTLE_COUNT] = {
		[BLKIO_READ_BPS] = "blkio.throttle.read_bps_device",
		[BLKIO_WRITE_BPS] = "blkio.throttle.write_bps_device",
		[BLKIO_READ_IOPS] = "blkio.throttle.read_iops_device",
		[BLKIO_WRITE_IOPS] = "blkio.throttle.write_iops_device",
	};
	bool any = (res->has_blkio_weight && res->blkio_weight) || res->blkio_weight_device.n;
	int dir, r;

	for (size_t t = 0; t < BLKIO_THROTTLE_COUNT; t++)
		any |= res->blkio_throttle[t].n > 0;
	if (!any)
		return 0;
	r = limits_dir(l, "blkio", "linux.resources.blockIO", &dir);
	if (r == 0)
		r = v1_blkio_weights(l, dir, res);
	for (size_t t = 0; t < BLKIO_THROTTLE_COUNT; t++)
		for (size_t i = 0; r == 0 && i < res->blkio_throttle[t].n; i++) {
			const struct spec_blkio_device *d = &res->blkio_throttle[t].devices[i];

			r = limits_write(l, dir, files[t], "%" PRId64 ":%" PRId64 " %" PRIu64, d->major,
				d->minor, d->rate);
		}
	return r;
}

static int v1_hugetlb(struct limits *l, const struct spec_resources *res)
{
	int dir, r = 0;

	for (size_t i = 0; r == 0 && i < res->n_hugepage_limits; i++) {
		const struct spec_hugepage_limit *h = &res->hugepage_limits[i];
		char file[64];

		/* Kubernetes always writes a limit of 0: without the controller there is nothing to hold it against. */
		if (h->limit == 0 && !cgroup_v1_dir(l->cg, "hugetlb"))
			continue;
		r = limits_dir(l, "hugetlb", "linux.resources.hugepageLimits", &dir);
		if (r < 0)
			return r;
		snprintf(file, sizeof(file), "hugetlb.%s.limit_in_bytes", h->page_size);
		r = limits_write(l, dir, file, "%" PRIu64, h->limit);
		snprintf(file, sizeof(file), "hugetlb.%s.rsvd.limit_in_bytes", h->page_size);
		if (r == 0 && limits_has_file(dir, file))
			r = limits_write(l, dir, file, "%" PRIu64, h->limit);
	}
	return r;
}

static int v1_network(struct limits *l, const struct spec_resources *res)
{
	int dir, r = 0;

	if (res->has_net_class_id && res->net_class_id) {
		r = limits_dir(l, "net_cls", "linux.resources.network.classID", &dir);
		if (r == 0)
			r = limits_write(l, dir, "net_cls.classid", "%u", res->net_class_id);
	}
	for (size_t i = 0; r == 0 && i < res->n_net_priorities; i++) {
		r = limits_dir(l, "net_prio", "linux.resources.network.priorities", &dir);
		if (r == 0)
			r = limits_write(l, dir, "net_prio.ifpriomap", "%s %u", res->net_priorities[i].name,
				res->net_priorities[i].priority);
	}
	return r;
}

static int v1_rdma(struct limits *l, const struct spec_resources *res)
{
	int dir, r;

	if (!res->n_rdma)
		return 0;
	r = limits_dir(l, "rdma", "linux.resources.rdma", &dir);
	return r < 0 ? r : limits_write_rdma(l, dir, res);
}

static int v1_unified(struct limits *l, const struct spec_resources *res)
{
	int dir, r = 0;

	for (size_t i = 0; r == 0 && i < res->n_unified; i++) {
		r = limits_dir(l, "", "linux.resources.unified", &dir);
		if (r == 0)
			r = limits_write(l, dir, res->unified[i].name, "%s", res->unified[i].value);
	}
	return r;
}

int v1_apply(struct limits *l, const struct spec_resources *res)
{
	static int (*const all[])(struct limits * l, const struct spec_resources *res) = {
		v1_cpuset,
		v1_memory,
		v1_cpu,
		v1_pids,
		v1_blkio,
		v1_hugetlb,
		v1_network,
		v1_rdma,
		v1_unified,
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		int r = all[i](l, res);

		if (r < 0)
			return r;
	}
	return 0;
}
