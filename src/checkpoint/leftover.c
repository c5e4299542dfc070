/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/leftover.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/native/states.h"
#include "linux/procfs.h"

/* As in a batch, also where a handler of the signal that ends it runs on top of that (Go catches all). */
static bool has_mask_of_batch(const struct task *t)
{
	const uint64_t other = 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1) | 1ull << (SIGURG - 1) |
			       1ull << (SIGWINCH - 1) | 1ull << (SIGCHLD - 1);

	return (t->sigmask | other) == ~0ull;
}

/* All threads, the first one first. 1: one of them is in the area, or there are others by now. */
static int stop_all(struct task *tasks, const pid_t *tids, size_t n, uint64_t area, uint64_t len, bool masks,
	struct arena *a)
{
	bool inside = false;

	for (size_t i = 0; i < n; i++) {
		int r = dump_stop_leftover(&tasks[i], tids[i], a);

		if (r < 0)
			return i == 0 ? r : 1;
		inside |= tasks[i].regs.rip - area < len || (masks && has_mask_of_batch(&tasks[i]));
	}
	return inside;
}

/* It may execute another program at any time before it is stopped. */
static bool is_there(pid_t pid, uint64_t area, uint64_t len, uint64_t syscall_insn, struct arena *a)
{
	static const uint8_t insn[] = {0x0f, 0x05};
	uint8_t found[sizeof(insn)];
	struct proc_vma *vmas;
	size_t n;

	if (task_read_memory(pid, syscall_insn, found, sizeof(found)) < 0 ||
		memcmp(found, insn, sizeof(insn)) != 0 || proc_read_maps(pid, false, a, &vmas, &n) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (vmas[i].start <= area && area + len <= vmas[i].end)
			return true;
	/* of two protections (ask.c) */
	for (size_t i = 0; i + 1 < n; i++)
		if (vmas[i].start <= area && vmas[i].end == vmas[i + 1].start &&
			area + len <= vmas[i + 1].end)
			return true;
	return false;
}

/* 1: try again. */
static int try_unmap(
	pid_t pid, uint64_t area, uint64_t len, uint64_t syscall_insn, bool masks, struct arena *a)
{
	struct error ignored;
	struct task *tasks;
	struct task_call unmap = {.insn = syscall_insn, .nr = SYS_munmap, .args = {area, len}};
	pid_t *tids;
	size_t n;
	int r = proc_read_tids(pid, a, &tids, &n);

	if (r < 0 || n == 0)
		return -ESRCH;
	tasks = arena_array(a, n, sizeof(*tasks));
	if (!tasks)
		return -ENOMEM;
	r = stop_all(tasks, tids, n, area, len, masks, a);
	unmap.task = &tasks[0];
	if (r == 0 && is_there(pid, area, len, syscall_insn, a) && task_calls(&unmap, 1, &ignored) == 0)
		(void)!task_settle(&unmap, 1, &ignored);
	for (size_t i = 0; i < n; i++)
		(void)!task_detach(&tasks[i], &ignored);
	return r;
}

void leftover_unmap(pid_t pid, uint64_t area, uint64_t len, uint64_t syscall_insn)
{
	/* A thread may have blocked all signals by itself. Handlers that began in a batch have ended before the first try. */
	enum { TRIES = 1000, OF_MASKS = 100, PAUSE_US = 1000, FIRST_US = 20000 };
	int r = 1;

	for (int i = 0; i < TRIES && r == 1; i++) {
		struct arena a = {};

		usleep(i > 0 ? PAUSE_US : FIRST_US);
		r = try_unmap(pid, area, len, syscall_insn, i < OF_MASKS, &a);
		arena_done(&a);
	}
}

void leftover_dispatch(const struct dump_dispatched *of)
{
	struct arena a = {};
	struct error ignored;
	struct task t = {};

	if (dump_stop_leftover(&t, of->tid, &a) == 0)
		(void)!state_set_dispatch(of->tid, &of->dispatch);
	(void)!task_detach(&t, &ignored);
	arena_done(&a);
}

void leftover_wake(const struct dump_asleep *of)
{
	struct arena a = {};
	struct error ignored;
	struct task t = {};

	/* Another one it has chosen by itself since. */
	if (dump_stop_leftover(&t, of->tid, &a) == 0 && t.sigmask == task_sleep_mask(of->sigmask))
		(void)!task_set_sigmask(of->tid, of->sigmask, &ignored);
	(void)!task_detach(&t, &ignored);
	arena_done(&a);
}
