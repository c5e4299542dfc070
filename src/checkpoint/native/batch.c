/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/batch.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

struct op *batch_op(struct batch *b, uint32_t flags, uint32_t nr, uint64_t a0, uint64_t a1, uint64_t a2,
	uint64_t a3, uint64_t a4, uint64_t a5)
{
	struct op *op;

	if (b->n_ops == b->max_ops) {
		b->overflow = true;
		op = &b->ops[0];
	} else {
		op = &b->ops[b->n_ops++];
	}
	*op = (struct op){.nr = nr, .flags = flags, .args = {a0, a1, a2, a3, a4, a5}};
	return op;
}

void *batch_data(struct batch *b, size_t n, uint64_t *ret_remote)
{
	size_t at = b->n_data, size = ALIGN_UP(n, (size_t)16);

	if (size > b->max_data || at > b->max_data - size) {
		b->overflow = true;
		*ret_remote = 0;
		return NULL;
	}
	b->n_data += size;
	memset(b->data + at, 0, size);
	*ret_remote = b->remote + at;
	return b->data + at;
}

uint64_t batch_bytes(struct batch *b, const void *p, size_t n)
{
	uint64_t remote;
	void *to = batch_data(b, n, &remote);

	if (to && n)
		memcpy(to, p, n);
	return remote;
}

void batch_fail_outside(struct batch *b)
{
	for (size_t i = 0; i < b->n_ops; i++)
		if (!(b->ops[i].flags & OP_MAY_FAIL))
			b->ops[i].flags |= OP_MAY_FAIL | OP_CHECK;
}

int batch_check(const struct batch *b, int pid, struct error *e)
{
	char name[32];

	for (size_t i = 0; i < b->n_ops; i++)
		if (b->ops[i].flags & OP_CHECK && (uint64_t)b->ops[i].result > -4096ull)
			return error_errno(e, (int)b->ops[i].result, "%s in pid %d",
				batch_syscall_name(b->ops[i].nr, name), pid);
	return 0;
}

const char *batch_syscall_name(uint32_t nr, char buf[32])
{
	static const struct {
		uint32_t nr;
		const char *name;
	} names[] = {
		{SYS_mmap, "mmap"},
		{SYS_munmap, "munmap"},
		{SYS_mremap, "mremap"},
		{SYS_mprotect, "mprotect"},
		{SYS_madvise, "madvise"},
		{SYS_pread64, "pread"},
		{SYS_prctl, "prctl"},
		{SYS_arch_prctl, "arch_prctl"},
		{SYS_rt_sigaction, "rt_sigaction"},
		{SYS_clone3, "clone3"},
		{SYS_setresuid, "setresuid"},
		{SYS_setresgid, "setresgid"},
		{SYS_setgroups, "setgroups"},
		{SYS_capset, "capset"},
		{SYS_prlimit64, "prlimit"},
		{SYS_timer_create, "timer_create"},
		{SYS_timer_settime, "timer_settime"},
		{SYS_setitimer, "setitimer"},
		{SYS_sigaltstack, "sigaltstack"},
		{SYS_rseq, "rseq"},
		{SYS_set_robust_list, "set_robust_list"},
		{SYS_seccomp, "seccomp"},
		{SYS_sched_setattr, "sched_setattr"},
		{SYS_rt_sigqueueinfo, "rt_sigqueueinfo"},
		{SYS_rt_tgsigqueueinfo, "rt_tgsigqueueinfo"},
		{SYS_mlock2, "mlock2"},
		{SYS_close_range, "close_range"},
		{SYS_chdir, "chdir"},
		{SYS_fchdir, "fchdir"},
		{SYS_sched_setaffinity, "sched_setaffinity"},
		{SYS_ioprio_set, "ioprio_set"},
		{SYS_futex, "futex"},
		{SYS_io_setup, "io_setup"},
		{SYS_io_submit, "io_submit"},
		{SYS_io_getevents, "io_getevents"},
		{SYS_process_vm_writev, "process_vm_writev"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].nr == nr)
			return names[i].name;
	snprintf(buf, 32, "syscall %u", nr);
	return buf;
}
