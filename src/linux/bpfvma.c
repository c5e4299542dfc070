/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/bpfvma.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "linux/bpfwalk.h"

static int bpf(int command, union bpf_attr *attr)
{
	long r = syscall(SYS_bpf, command, attr, sizeof(*attr));

	return r < 0 ? -errno : (int)r;
}

#define INSN(c, d, s, o, i)                                                                                  \
	((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (int16_t)(o), .imm = (i)})
#define LOAD(to, from, offset) INSN(BPF_LDX | BPF_MEM | BPF_DW, to, from, offset, 0)
#define STORE(offset, from) INSN(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, from, offset, 0)
#define SET(to, value) INSN(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value)
#define COPY(to, from) INSN(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define ADD(to, value) INSN(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value)

int vma_bits_load(void)
{
	static const char *const members[] = {"vm_start", "vm_end", "vm_flags"};
	enum { N = 3, ROW = 8 * N, SIZE_AT = ROW };
	int at[N];
	uint32_t iterator;
	int r = bpf_places("bpf_iter_task_vma", "vm_area_struct", members, at, N, &iterator);
	/* The context: what begins with the seq_file, the task, the mapping (none: it is the end). */
	const struct bpf_insn code[] = {
		LOAD(BPF_REG_7, BPF_REG_1, 0),
		LOAD(BPF_REG_6, BPF_REG_1, 16),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_6, 0, 11, 0),
		LOAD(BPF_REG_1, BPF_REG_6, at[0]),
		STORE(-SIZE_AT, BPF_REG_1),
		LOAD(BPF_REG_1, BPF_REG_6, at[1]),
		STORE(-SIZE_AT + 8, BPF_REG_1),
		LOAD(BPF_REG_1, BPF_REG_6, at[2]),
		STORE(-SIZE_AT + 16, BPF_REG_1),
		LOAD(BPF_REG_1, BPF_REG_7, 0),
		COPY(BPF_REG_2, BPF_REG_10),
		ADD(BPF_REG_2, -SIZE_AT),
		SET(BPF_REG_3, ROW),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_seq_write),
		SET(BPF_REG_0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_TRACING,
		.expected_attach_type = BPF_TRACE_ITER,
		.attach_btf_id = r < 0 ? 0 : iterator,
		.insn_cnt = ARRAY_SIZE(code),
		.insns = (uint64_t)(uintptr_t)code,
		.license = (uint64_t)(uintptr_t) "GPL"};

	return r < 0 ? r : bpf(BPF_PROG_LOAD, &attr);
}

int vma_bits_begin(int program, int pid)
{
	union bpf_iter_link_info of = {.task = {.tid = (uint32_t)pid}};
	union bpf_attr attr = {.link_create = {.prog_fd = (uint32_t)program,
				       .attach_type = BPF_TRACE_ITER,
				       .iter_info = (uint64_t)(uintptr_t)&of,
				       .iter_info_len = sizeof(of)}};
	_cleanup_close_ int link = bpf(BPF_LINK_CREATE, &attr);

	if (link < 0)
		return link;
	attr = (union bpf_attr){.iter_create = {.link_fd = (uint32_t)link}};
	return bpf(BPF_ITER_CREATE, &attr);
}

/* With one read: where a second one goes on, the iterator of Linux 6.18 may begin at the same mappings again and again. The kernel's
 * buffer has room for 1365 of them. */
int vma_bits_read(int iterator, struct arena *a, struct vma_bits **ret, size_t *ret_n)
{
	enum { SIZE = 64 << 10 };
	char *all = arena_alloc(a, SIZE);
	ssize_t n = all ? read(iterator, all, SIZE) : 0;

	if (!all || n < 0)
		return all ? -errno : -ENOMEM;
	if (n % sizeof(struct vma_bits))
		return -EIO;
	*ret = (struct vma_bits *)all;
	*ret_n = n / sizeof(struct vma_bits);
	return 0;
}
