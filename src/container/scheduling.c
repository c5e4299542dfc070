/* SPDX-License-Identifier: Apache-2.0 */
/* Which processors, how often, how urgently, from which memory: scheduler, i/o priority, affinity and NUMA policy. */
#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>

#include "container/container-priv.h"

int process_set_scheduling(const struct spec_process *p, struct error *e)
{
	if (p->scheduler) {
		struct {
			uint32_t size, policy;
			uint64_t flags;
			int32_t nice;
			uint32_t priority;
			uint64_t runtime, deadline, period;
		} attr = {
			.size = 48, /* SCHED_ATTR_SIZE_VER0 */
			.policy = p->scheduler->policy,
			.flags = p->scheduler->flags,
			.nice = p->scheduler->nice,
			.priority = p->scheduler->priority,
			.runtime = p->scheduler->runtime,
			.deadline = p->scheduler->deadline,
			.period = p->scheduler->period,
		};

		if (syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
			return error_errno(e, -errno, "set the scheduler");
	}
	/* 1: IOPRIO_WHO_PROCESS */
	if (p->has_io_priority && syscall(SYS_ioprio_set, 1, 0, p->io_priority) < 0)
		return error_errno(e, -errno, "set the io priority");
	return 0;
}

int process_set_memory_policy(const struct spec_memory_policy *policy, struct error *e)
{
	unsigned long max;

	if (!policy)
		return 0;
	/* counted with one too many: the kernel takes the last bit for the end */
	max = policy->nodes.present ? NUMBER_SET_MAX + 1 : 0;
	if (syscall(SYS_set_mempolicy, policy->mode, max ? policy->nodes.bits : NULL, max) < 0)
		return error_errno(e, -errno, "linux.memoryPolicy: set the memory policy");
	return 0;
}

static int set_cpus(const struct spec_number_set *cpus)
{
	return syscall(SYS_sched_setaffinity, 0, sizeof(cpus->bits), cpus->bits) < 0 ? -errno : 0;
}

int process_set_cpus(const struct spec_number_set *cpus, struct error *e)
{
	int r = cpus->present ? set_cpus(cpus) : 0;

	return r < 0 ? error_errno(e, r, "process.execCPUAffinity: set the processors") : 0;
}

int process_set_final_cpus(const struct spec_number_set *cpus, struct error *e)
{
	struct spec_number_set all;

	if (cpus && cpus->present)
		return process_set_cpus(cpus, e);
	/* Our caller's affinity is not the container's: all that its cpuset has. A kernel that forbids it leaves what is. */
	memset(&all, 0xff, sizeof(all));
	(void)!set_cpus(&all);
	return 0;
}
