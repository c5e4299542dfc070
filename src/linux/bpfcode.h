/* SPDX-License-Identifier: Apache-2.0 */
/* Programs for the kernel, written down instruction by instruction: there is no compiler for them here. */
#pragma once

#include <errno.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define INSN(c, d, s, o, i)                                                                                  \
	((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (int16_t)(o), .imm = (i)})
#define LOAD(size, to, from, offset) INSN(BPF_LDX | BPF_MEM | (size), to, from, offset, 0)
/* On the stack. */
#define STORE(offset, from) INSN(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, from, offset, 0)
#define SET(to, value) INSN(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value)
#define COPY(to, from) INSN(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define ADD(to, value) INSN(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value)
#define CALL(function) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, function)

/* bpf(2): a negative errno. */
static inline int bpf_command(int command, union bpf_attr *attr)
{
	long r = syscall(SYS_bpf, command, attr, sizeof(*attr));

	return r < 0 ? -errno : (int)r;
}

/* Loads an iterator's program; "function": the number of the iterator's type. Its descriptor. */
static inline int bpf_load_iterator(const struct bpf_insn *code, unsigned n, uint32_t function)
{
	union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_TRACING,
		.expected_attach_type = BPF_TRACE_ITER,
		.attach_btf_id = function,
		.insn_cnt = n,
		.insns = (uint64_t)(uintptr_t)code,
		.license = (uint64_t)(uintptr_t) "GPL"};

	return bpf_command(BPF_PROG_LOAD, &attr);
}

/* The iterator for one thread, as we see its id: what it has to say is there when the descriptor is read. */
static inline int bpf_iterate_thread(int program, int tid)
{
	union bpf_iter_link_info of = {.task = {.tid = (uint32_t)tid}};
	union bpf_attr attr = {.link_create = {.prog_fd = (uint32_t)program,
				       .attach_type = BPF_TRACE_ITER,
				       .iter_info = (uint64_t)(uintptr_t)&of,
				       .iter_info_len = sizeof(of)}};
	int link = bpf_command(BPF_LINK_CREATE, &attr), r;

	if (link < 0)
		return link;
	attr = (union bpf_attr){.iter_create = {.link_fd = (uint32_t)link}};
	r = bpf_command(BPF_ITER_CREATE, &attr);
	close(link);
	return r;
}
