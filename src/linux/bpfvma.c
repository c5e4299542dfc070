/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/bpfvma.h"

#include <string.h>

#include "linux/bpfcode.h"
#include "linux/bpfwalk.h"

int vma_bits_load(void)
{
	enum { START, END, FLAGS, FUNCTION, N = FUNCTION, ROW = 8 * N };
	struct bpf_place at[] = {
		[START] = {"vm_area_struct", "vm_start", 0},
		[END] = {"vm_area_struct", "vm_end", 0},
		[FLAGS] = {"vm_area_struct", "vm_flags", 0},
		[FUNCTION] = {"bpf_iter_task_vma", NULL, 0},
	};
	int r = bpf_places(at, ARRAY_SIZE(at));
	/* The context: what begins with the seq_file, the task, the mapping (none: it is the end). */
	const struct bpf_insn code[] = {
		LOAD(BPF_DW, BPF_REG_7, BPF_REG_1, 0),
		LOAD(BPF_DW, BPF_REG_6, BPF_REG_1, 16),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_6, 0, 11, 0),
		LOAD(BPF_DW, BPF_REG_1, BPF_REG_6, at[START].at),
		STORE(-ROW, BPF_REG_1),
		LOAD(BPF_DW, BPF_REG_1, BPF_REG_6, at[END].at),
		STORE(-ROW + 8, BPF_REG_1),
		LOAD(BPF_DW, BPF_REG_1, BPF_REG_6, at[FLAGS].at),
		STORE(-ROW + 16, BPF_REG_1),
		LOAD(BPF_DW, BPF_REG_1, BPF_REG_7, 0),
		COPY(BPF_REG_2, BPF_REG_10),
		ADD(BPF_REG_2, -ROW),
		SET(BPF_REG_3, ROW),
		CALL(BPF_FUNC_seq_write),
		SET(BPF_REG_0, 0),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};

	return r < 0 ? r : bpf_load_iterator(code, ARRAY_SIZE(code), (uint32_t)at[FUNCTION].at);
}

int vma_bits_begin(int program, int pid)
{
	return bpf_iterate_thread(program, pid);
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
