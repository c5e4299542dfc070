/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/ia32.h"

#include <asm/ldt.h>
#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>

#include "checkpoint/native/task.h"

#define PTRACE_GET_THREAD_AREA_OP 25
#define PTRACE_SET_THREAD_AREA_OP 26
enum { PAGE = 4096, FIRST_ENTRY = 12, ENTRIES = 3 }; /* GDT_ENTRY_TLS_* of a 64-bit kernel */
_Static_assert(ENTRIES * sizeof(struct user_desc) == IA32_TLS_BYTES, "the image has all of them");

bool ia32_is_vdso(pid_t tid, uint64_t address)
{
	unsigned char head[EI_CLASS + 1];

	return task_read_memory(tid, address, head, sizeof(head)) >= 0 && !memcmp(head, ELFMAG, SELFMAG) &&
	       head[EI_CLASS] == ELFCLASS32;
}

uint64_t ia32_find_insn(pid_t tid, uint64_t start, uint64_t end, uint8_t first, uint8_t second)
{
	unsigned char page[PAGE];

	/* The code is at the end, what cannot be read before it. */
	for (uint64_t at = end; at >= start + PAGE; at -= PAGE) {
		if (task_read_memory(tid, at - PAGE, page, PAGE) < 0)
			continue;
		for (size_t k = 0; k + 1 < PAGE; k++)
			if (page[k] == first && page[k + 1] == second)
				return at - PAGE + k;
	}
	return 0;
}

/* A call of i386 by us: all that it gets lies below 4 GiB. */
static long call(long nr, uint64_t a, uint64_t b, uint64_t c)
{
	long result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(nr), "b"(a), "c"(b), "d"(c)
			 : "memory", "r8", "r9", "r10", "r11");
	return result;
}

static int robust_list(pid_t tid, St__Thread *m)
{
	uint32_t *low =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long r;

	if (low == MAP_FAILED)
		return -errno;
	r = call(IA32_get_robust_list, (uint64_t)tid, (uint64_t)&low[0], (uint64_t)&low[1]);
	if (r == 0) {
		m->robust_list = low[0];
		m->robust_list_len = low[0] ? low[1] : 0;
	}
	munmap(low, PAGE);
	return (int)r;
}

int ia32_collect_thread(struct arena *a, pid_t tid, St__Thread *m, struct error *e)
{
	struct user_desc *all = arena_array(a, ENTRIES, sizeof(*all));
	int r;

	if (!all)
		return error_errno(e, -ENOMEM, "registers of pid %d", tid);
	for (long i = 0; i < ENTRIES; i++)
		if (ptrace(PTRACE_GET_THREAD_AREA_OP, tid, (void *)(FIRST_ENTRY + i), &all[i]) < 0)
			return error_errno(e, -errno, "thread-local segments of pid %d", tid);
	m->tls.data = (uint8_t *)all;
	m->tls.len = IA32_TLS_BYTES;
	r = robust_list(tid, m);
	return r < 0 ? error_errno(e, r, "robust list of pid %d", tid) : 0;
}

int ia32_restore_thread(pid_t tid, const St__Thread *m, struct error *e)
{
	struct user_desc all[ENTRIES];

	if (m->tls.len != IA32_TLS_BYTES)
		return 0;
	memcpy(all, m->tls.data, IA32_TLS_BYTES);
	for (long i = 0; i < ENTRIES; i++)
		if (ptrace(PTRACE_SET_THREAD_AREA_OP, tid, (void *)(FIRST_ENTRY + i), &all[i]) < 0)
			return error_errno(e, -errno, "thread-local segments of thread %d", m->tid);
	return 0;
}
