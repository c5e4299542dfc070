/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parent's side of a restore, once init runs: it waits until every thread has built itself, seizes them, gives
 * each its registers, takes the shared area away, and lets go. Stopped processes are stopped again first, and what that
 * tells their parents is taken back.
 */
#include "checkpoint/native/restore-finish.h"

#include <linux/futex.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/trace.h"
#include "checkpoint/meeting.h"
#include "checkpoint/native/filters.h"
#include "checkpoint/native/listeners.h"
#include "checkpoint/native/huge.h"
#include "checkpoint/native/restore-lazy.h"
#include "checkpoint/native/ia32.h"
#include "checkpoint/native/restore-nested.h"
#include "checkpoint/native/restore-outside.h"
#include "checkpoint/native/restore-time.h"
#include "checkpoint/native/states.h"
#include "checkpoint/native/tree.h"
#include "linux/procfs.h"

#define NS_GET_PID_FROM_PIDNS_OP _IOR(NSIO, 0x6, int) /* linux/nsfs.h of 6.11 */
enum { READY_TIMEOUT_S = 180 };

/* What it had may be more than the command that restores it could have. */
static int limit_failed(const struct restore *r, const St__Process *p, uint64_t resource, struct error *e)
{
	const char *name = spec_rlimit_name((int)resource);
	uint64_t had = p->rlimits[resource]->hard;
	char text[32] = "unlimited";
	struct rlimit now = {0};

	getrlimit((int)resource, &now);
	if (had != RLIM_INFINITY)
		snprintf(text, sizeof(text), "%llu", (unsigned long long)had);
	return error_errno(e, r->control->batch.failed_result,
		"process %d had the hard limit %s %s, and here it cannot be more than %llu: raise that for "
		"the command "
		"that "
		"restores (ulimit -H, LimitX= of systemd), or set it in process.rlimits of config.json",
		p->pid, name, text, (unsigned long long)now.rlim_max);
}

static int batch_failure(struct restore *r, struct error *e)
{
	const struct op *op = (const struct op *)r->control->batch.failed_op;
	const St__Process *p = NULL;
	char name[32];

	for (size_t i = 0; i < r->n_procs; i++)
		if ((uint64_t)op >= r->slots[i].address &&
			(uint64_t)op < r->slots[i].address + r->slots[i].size)
			p = r->procs[i];
	if (!p)
		return error_set(
			e, -EIO, ERROR_INTERNAL, "a process of the restore failed at an unknown step");
	if (r->control->batch.failed_result >= 0 && (op->flags & OP_EXPECT))
		return error_set(e, -EIO, ERROR_SYSTEM,
			"process %d: %s gave %lld, not %lld (is the image complete?)", p->pid,
			batch_syscall_name(op->nr, name), (long long)r->control->batch.failed_result,
			(long long)op->result);
	if (op->nr == SYS_flock || op->nr == SYS_fcntl)
		return error_errno(e, r->control->batch.failed_result,
			"process %d: take the lock on its descriptor %llu again (does somebody else have the "
			"file now?)",
			p->pid, (unsigned long long)op->args[0]);
	if (op->nr == SYS_mmap && (op->args[3] & MAP_HUGETLB))
		return error_errno(e, r->control->batch.failed_result,
			"process %d: map %llu bytes of huge pages: " HUGE_POOL_REMEDY, p->pid,
			(unsigned long long)op->args[1]);
	if (op->nr == SYS_io_setup)
		return error_errno(e, r->control->batch.failed_result,
			"process %d: make a ring of Linux AIO for %llu requests again (does the sysctl "
			"fs.aio-max-nr allow "
			"so many?)",
			p->pid, (unsigned long long)op->args[0]);
	if (op->nr == SYS_futex && (op->flags & OP_EXPECT))
		return error_set(e, -EOPNOTSUPP, ERROR_KERNEL,
			"process %d: this kernel makes a ring of Linux AIO of another size", p->pid);
	if (op->nr == SYS_sched_setattr)
		return error_errno(e, r->control->batch.failed_result,
			"process %d: scheduling policy (has this machine the time that SCHED_DEADLINE asks "
			"for, "
			"and the cgroup a budget "
			"for real-time tasks?)",
			p->pid);
	if (op->nr == SYS_prlimit64 && op->args[1] < p->n_rlimits)
		return limit_failed(r, p, op->args[1], e);
	return error_errno(e, r->control->batch.failed_result, "process %d: %s(%#llx, %#llx, %#llx)", p->pid,
		batch_syscall_name(op->nr, name), (unsigned long long)op->args[0],
		(unsigned long long)op->args[1], (unsigned long long)op->args[2]);
}

/* What the tasks have in memory so far: how far the stubs have come with it. */
static uint64_t resident_bytes(const struct container *c)
{
	_cleanup_free_ pid_t *pids = NULL;
	struct error ignored;
	uint64_t pages = 0;
	size_t n;

	if (container_pids(c, false, &pids, &n, &ignored) < 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		unsigned long long size, resident;
		char path[64], text[128];

		snprintf(path, sizeof(path), "/proc/%d/statm", pids[i]);
		if (read_small_file_at(AT_FDCWD, path, text, sizeof(text)) > 0 &&
			sscanf(text, "%llu %llu", &size, &resident) == 2)
			pages += resident;
	}
	return pages * IMAGE_PAGE_SIZE;
}

/* Held back since the container was made. */
static bool is_interrupted(void)
{
	sigset_t pending;

	return sigpending(&pending) == 0 &&
	       (sigismember(&pending, SIGINT) || sigismember(&pending, SIGTERM) ||
		       sigismember(&pending, SIGHUP) || sigismember(&pending, SIGQUIT));
}

static int interrupted(struct error *e)
{
	return error_set(
		e, -EINTR, ERROR_SYSTEM, "interrupted by a signal: everything that was made is removed");
}

/* 1: the image is still arriving. */
static int feed_state(const struct restore *r, struct error *e)
{
	int state = r->feed->feed ? image_feed_state(r->feed->feed, e) : 1;

	if (state == 0 && is_interrupted())
		return interrupted(e);
	return state < 0 ? state : !state;
}

/* For the end frame: without it, it is no checkpoint. */
static int wait_for_feed(struct restore *r, struct error *e)
{
	TRACE("wait for stream");
	int arriving;

	while ((arriving = feed_state(r, e)) > 0) {
		beat_go_on(&r->beat);
		image_feed_wait_change(r->feed->feed);
	}
	return arriving;
}

/* In a pid namespace of another container it dies with that. */
static int init_died(const struct restore *r, struct error *e)
{
	if (r->options->meeting && meeting_why_died(r->options->meeting, e) < 0)
		return e->code;
	return error_set(e, -ESRCH, ERROR_SYSTEM, "the container's init died during the restore");
}

int restore_wait_for_stubs(
	struct restore *r, struct container *c, uint32_t *word, uint32_t n, struct error *e)
{
	TRACE("wait for tasks");
	_cleanup_close_ int pidfd = pidfd_open(c->init_pid, 0);
	enum { ROUNDS = 20 }; /* of 5 ms, between two looks at the memory */
	struct timespec start, now;
	uint64_t bytes = 0;
	uint32_t have, seen = 0;
	int arriving;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (unsigned round = 1; (have = __atomic_load_n(word, __ATOMIC_SEQ_CST)) < n; round++) {
		struct timespec limit = {0, listeners_any(r) ? 200000 : 5000000};
		struct pollfd pfd = {.fd = pidfd, .events = POLLIN};
		bool ended;

		syscall(SYS_futex, word, FUTEX_WAIT, have, &limit, NULL, 0);
		/* Then nobody is left in its pid namespace either, and what they had to say is there. */
		ended = poll(&pfd, 1, 0) > 0;
		/* If it is the stream, that says more than what could not be read. */
		arriving = feed_state(r, e);
		if (arriving < 0)
			return arriving;
		if (listeners_any(r) && listeners_serve(r, c, e) < 0)
			return e->code;
		if (r->options->meeting && meeting_is_lost(r->options->meeting, e) < 0)
			return e->code;
		if (__atomic_load_n(&r->control->failed, __ATOMIC_SEQ_CST)) {
			*e = r->control->error;
			return e->code;
		}
		if (__atomic_load_n(&r->control->batch.failed_op, __ATOMIC_SEQ_CST))
			return batch_failure(r, e);
		if (ended && __atomic_load_n(word, __ATOMIC_SEQ_CST) < n)
			return init_died(r, e);
		if (have != seen) {
			beat_go_on(&r->beat);
			seen = have;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (round % ROUNDS == 0) {
			uint64_t before = bytes;

			bytes = resident_bytes(c);
			if (bytes != before) {
				progress_update(&r->progress, bytes);
				start = now;
			}
		}
		if (arriving) { /* a stream takes the time that it takes */
			beat_go_on(&r->beat);
			start = now;
		}
		if (now.tv_sec - start.tv_sec > READY_TIMEOUT_S)
			return error_set(e, -ETIMEDOUT, ERROR_SYSTEM,
				"the restore makes no progress: %u of %u threads after %d s", have, n,
				READY_TIMEOUT_S);
	}
	return 0;
}

static const St__Thread *find_thread(const struct restore *r, int tid, const St__Process **ret_proc)
{
	for (size_t i = 0; i < r->n_procs; i++) {
		for (size_t k = 0; k < r->procs[i]->n_threads; k++) {
			if (r->procs[i]->threads[k]->tid == tid) {
				*ret_proc = r->procs[i];
				return r->procs[i]->threads[k];
			}
		}
	}
	return NULL;
}

/* Told apart by their ids in the container's own namespace. */
static int look_for_threads(struct finish *f, const pid_t *pids, size_t n_pids, struct error *e)
{
	struct proc_status st;
	size_t level;

	if (proc_read_status(f->c->init_pid, 0, &f->r->arena, &st) < 0)
		return error_set(e, -ESRCH, ERROR_SYSTEM, "the container's init died during the restore");
	level = st.n_ns - 1;
	for (size_t i = 0; i < n_pids; i++) {
		pid_t *tids;
		size_t n;

		if (proc_read_tids(pids[i], &f->r->arena, &tids, &n) < 0)
			continue;
		for (size_t k = 0; k < n; k++) {
			struct live_thread *t = &f->threads[f->n];

			if (proc_read_status(pids[i], tids[k], &f->r->arena, &st) < 0 || st.state == 'Z' ||
				st.state == 'X')
				continue;
			if (f->n == f->r->n_threads)
				return error_set(e, -EBUSY, ERROR_STATE,
					"more tasks in the container than were restored");
			t->msg = level < st.n_ns ? find_thread(f->r, st.ns_pid[level], &t->proc) : NULL;
			if (!t->msg)
				return error_set(e, -EBUSY, ERROR_STATE,
					"an unknown task %d is in the container", tids[k]);
			t->task.tid = tids[k];
			t->pid = pids[i];
			t->leader = tids[k] == pids[i];
			f->n++;
		}
	}
	return 0;
}

/* In the container's pid namespace, that of init; 0: this kernel does not tell (it came with Linux 6.11). */
static pid_t host_id(int ns, int id, struct error *e)
{
	int host = ioctl(ns, NS_GET_PID_FROM_PIDNS_OP, (unsigned long)id);

	if (host < 0 && errno == ENOTTY)
		return 0;
	return host < 0 ? error_errno(e, -errno, "thread %d, which was made again", id) : host;
}

/* 1: the kernel does not tell. */
static int ask_for_threads(struct finish *f, struct error *e)
{
	_cleanup_close_ int ns = -EBADF;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", f->c->init_pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		return 1;
	for (size_t i = 0; i < f->r->n_procs; i++) {
		const St__Process *p = f->r->procs[i];
		pid_t pid = 0;

		for (size_t k = 0; p->state != 2 && k < p->n_threads; k++) {
			pid_t tid = host_id(ns, p->threads[k]->tid, e);

			if (tid <= 0)
				return tid < 0 ? tid : 1;
			pid = k == 0 ? tid : pid;
			f->threads[f->n++] = (struct live_thread){.task = {.tid = tid},
				.msg = p->threads[k],
				.proc = p,
				.pid = pid,
				.leader = k == 0};
		}
	}
	return 0;
}

static int refuse_strangers(const struct finish *f, const pid_t *pids, size_t n_pids, struct error *e)
{
	struct proc_stat st;

	for (size_t i = 0; i < n_pids; i++) {
		bool known = false;

		for (size_t k = 0; k < f->n && !known; k++)
			known = f->threads[k].pid == pids[i];
		if (!known && proc_read_stat(pids[i], &st) == 0 && st.state != 'Z' && st.state != 'X')
			return error_set(
				e, -EBUSY, ERROR_STATE, "an unknown task %d is in the container", pids[i]);
	}
	return 0;
}

/* Host ids of all threads: the container's tasks. */
static int find_threads(struct finish *f, struct error *e)
{
	TRACE("find threads");
	_cleanup_free_ pid_t *pids = NULL;
	size_t n_pids;
	int result;

	f->threads = arena_array(&f->r->arena, f->r->n_threads, sizeof(*f->threads));
	if (!f->threads)
		return error_errno(e, -ENOMEM, "restore");
	result = container_pids(f->c, false, &pids, &n_pids, e);
	if (result < 0)
		return result;
	result = ask_for_threads(f, e);
	result = result == 1   ? look_for_threads(f, pids, n_pids, e)
		 : result == 0 ? refuse_strangers(f, pids, n_pids, e)
			       : result;
	if (result == 0 && f->n != f->r->n_threads)
		result = error_set(e, -ESRCH, ERROR_STATE, "%zu of %zu threads of the container were found",
			f->n, f->r->n_threads);
	return result;
}

static int find_syscall_offset(struct finish *f, struct error *e)
{
	struct proc_vma *maps;
	const unsigned char *text = (const unsigned char *)getauxval(AT_SYSINFO_EHDR);
	uint64_t first = 0;
	size_t n;

	if (proc_read_maps(getpid(), false, &f->r->arena, &maps, &n) < 0 || !text)
		return error_set(e, -ENOENT, ERROR_KERNEL, "no vdso on this machine");
	for (size_t i = 0; i < n; i++) {
		if (strncmp(maps[i].name, "[v", 2) != 0 || !strcmp(maps[i].name, "[vsyscall]"))
			continue;
		if (!first)
			first = maps[i].start;
		if (maps[i].start != (uint64_t)text)
			continue;
		for (uint64_t k = 0; k + 1 < maps[i].end - maps[i].start; k++) {
			if (text[k] == 0x0f && text[k + 1] == 0x05) {
				f->syscall_offset = (uint64_t)text + k - first;
				return 0;
			}
		}
	}
	return error_set(e, -ENOENT, ERROR_KERNEL, "the vdso has no syscall instruction");
}

static bool has_seccomp(const St__Process *p)
{
	for (size_t i = 0; i < p->n_threads; i++)
		if (p->threads[i]->seccomp_mode != 0)
			return true;
	return false;
}

/* If this process is killed before all is done they must not run a single instruction: they die with their tracer. */
static int seize_all(struct finish *f, struct error *e)
{
	TRACE("seize");
	for (size_t i = 0; i < f->n; i++) {
		struct live_thread *t = &f->threads[i];
		int result = filters_seize_restored(f->r, t->proc, t->msg, &t->task, e);

		if (result < 0)
			return result;
	}
	return listeners_reap(f->r, e);
}

static void arm(struct restore *r)
{
	__atomic_store_n(&r->control->armed, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &r->control->armed, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/*
 * A call that the stop interrupted: the kernel restarts it itself, from rax and orig_rax, exactly as it would have
 * (signals that wait are then taken first). What it keeps in the task's restart block restore_waits() puts there again; what
 * that knows nothing of is made again from its arguments.
 */
static void fix_restart_block(const struct live_thread *t, struct user_regs_struct *regs)
{
	enum { ERESTART_RESTARTBLOCK = 516 };

	if ((long)regs->orig_rax < 0 || (long)regs->rax != -ERESTART_RESTARTBLOCK || t->msg->wait_left)
		return;
	regs->rip -= 2;
	regs->rax = regs->orig_rax;
	regs->orig_rax = -1;
}

uint64_t restore_syscall_insn_of(const struct finish *f, const struct live_thread *t)
{
	const St__Process *p = t->proc->memory_with ? restore_process(f->r, t->proc->memory_with) : t->proc;

	for (size_t i = 0; i < p->memory->n_vmas; i++) {
		const St__Vma *v = p->memory->vmas[i];

		if (v->special && p->memory->ia32)
			return ia32_find_insn(t->task.tid, v->start, v->end, 0x0f, 0x05);
		if (v->special)
			return v->start + f->syscall_offset;
	}
	return f->syscall_offset;
}

/* Where it makes its own calls: int $0x80 in a 32-bit program. */
static uint64_t own_insn_of(const struct finish *f, const struct live_thread *t, uint64_t insn)
{
	const St__Process *p = t->proc->memory_with ? restore_process(f->r, t->proc->memory_with) : t->proc;

	for (size_t i = 0; i < p->memory->n_vmas && p->memory->ia32; i++)
		if (p->memory->vmas[i]->special)
			return ia32_find_insn(
				t->task.tid, p->memory->vmas[i]->start, p->memory->vmas[i]->end, 0xcd, 0x80);
	return insn;
}

static bool state_becomes(pid_t pid, char state)
{
	struct proc_stat st;

	for (int i = 0; i < 2000; i++) {
		if (proc_read_stat(pid, &st) == 0 && st.state == state)
			return true;
		usleep(i < 100 ? 20 : 1000);
	}
	return false;
}

/* A leader that had ended: it lives as long as we need it, and then exits: the first thing that it is let do. */
static int prepare_to_end(const struct finish *f, struct live_thread *t, struct error *e)
{
	struct user_regs_struct *regs = &t->task.regs;
	int result = task_read_registers(&t->task, &f->r->arena, e);

	if (result < 0)
		return result;
	regs->rip = restore_syscall_insn_of(f, t);
	regs->rax = SYS_exit;
	regs->rdi = (uint64_t)t->msg->exit_code >> 8 & 0xff;
	regs->orig_rax = -1;
	return task_set_gpr(t->task.tid, regs, e);
}

/* Signals are blocked until none can come to it any more; then it gets the mask by which the kernel still judges. */
static int end_leader(struct live_thread *t, struct error *e)
{
	int result = task_exit(&t->task, e);

	if (result == 0)
		result = task_set_sigmask(t->task.tid, t->msg->sigmask, e);
	if (result == 0)
		result = task_detach(&t->task, e);
	return result < 0 || state_becomes(t->pid, 'Z')
		       ? result
		       : error_set(e, -ETIMEDOUT, ERROR_SYSTEM, "thread %d does not end", t->msg->tid);
}

static int end_leaders(struct finish *f, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < f->n && result == 0; i++)
		if (f->threads[i].msg->ended)
			result = end_leader(&f->threads[i], e);
	return result;
}

static int set_registers(const struct finish *f, struct live_thread *t, struct error *e)
{
	const void *xstate;
	size_t len;
	int result;

	result = task_wait_stop(&t->task, e);
	if (result != 0)
		return result < 0 ? result : error_set(e, -ESRCH, ERROR_STATE, "thread %d died", t->msg->tid);
	if (t->msg->ended)
		return prepare_to_end(f, t, e);
	memcpy(&t->task.regs, t->msg->gpr.data, sizeof(t->task.regs));
	fix_restart_block(t, &t->task.regs);
	t->task.sigmask = t->msg->sigmask;
	result = ia32_restore_thread(t->task.tid, t->msg, e);
	if (result == 0)
		result = task_set_gpr(t->task.tid, &t->task.regs, e);
	if (result == 0)
		result = restore_xstate(f->r, t->msg, &xstate, &len, e);
	if (result == 0)
		result = task_set_xstate(t->task.tid, xstate, len, e);
	if (result == 0)
		result = task_set_sigmask(t->task.tid, t->task.sigmask, e);
	return result;
}

static int set_all_registers(struct finish *f, struct error *e)
{
	TRACE("registers");
	int result = 0;

	for (size_t i = 0; i < f->n && result == 0; i++)
		result = task_interrupt(&f->threads[i].task, e);
	for (size_t i = 0; i < f->n && result == 0; i++)
		result = set_registers(f, &f->threads[i], e);
	return result;
}

static int restore_times(struct finish *f, struct error *e)
{
	TRACE("times");
	struct restore_sleeper *sleepers = arena_array(&f->r->arena, f->n, sizeof(*sleepers));
	size_t n = 0;
	int result = sleepers ? 0 : error_errno(e, -ENOMEM, "restore");

	for (size_t i = 0; i < f->n && result == 0; i++) {
		struct live_thread *t = &f->threads[i];
		uint64_t insn = restore_syscall_insn_of(f, t);

		if (t->leader)
			result = restore_late_timers(f->r, t->proc, &t->task, insn, e);
		if (!t->msg->ended)
			sleepers[n++] = (struct restore_sleeper){t->msg, &t->task, own_insn_of(f, t, insn)};
	}
	return result < 0 ? result : restore_waits(f->r, sleepers, n, e);
}

/* The area lasts as long as a process, and the wish that all die with the command as long as init: both end here. */
static int unmap_areas(struct finish *f, struct error *e)
{
	TRACE("unmap");
	struct task_call *calls = arena_array(&f->r->arena, f->n, sizeof(*calls));
	size_t n = 0;
	int r = 0;

	if (!calls)
		return error_errno(e, -ENOMEM, "restore");
	for (size_t i = 0; i < f->n && r == 0; i++) {
		struct live_thread *t = &f->threads[i];
		uint64_t death[6] = {PR_SET_PDEATHSIG, t->msg->pdeathsig}, hidden[6] = {PR_SET_DUMPABLE, 0},
			 insn = restore_syscall_insn_of(f, t);

		if (!t->leader)
			continue;
		if (t->proc == f->r->procs[0])
			r = task_syscall(&t->task, insn, SYS_prctl, death, &(int64_t){0}, e);
		if (r == 0 && f->r->own_user && t->proc->memory->dumpable != 1)
			r = task_syscall(&t->task, insn, SYS_prctl, hidden, &(int64_t){0}, e);
		calls[n++] = (struct task_call){.task = &t->task,
			.insn = insn,
			.nr = SYS_munmap,
			.args = {f->r->area, f->r->area_len}};
	}
	if (r == 0)
		r = task_calls(calls, n, e);
	for (size_t i = 0; i < n && r == 0; i++)
		if (calls[i].result != 0)
			r = error_errno(e, calls[i].result, "unmap the restore's area");
	return r < 0 ? r : task_settle(calls, n, e);
}

/* From here on its calls may become signals: none of ours. */
static int set_dispatch(const struct live_thread *t, struct error *e)
{
	const St__SyscallDispatch *m = t->msg->dispatch;
	struct state_dispatch dispatch;
	int result;

	if (!m)
		return 0;
	dispatch = (struct state_dispatch){m->mode, m->selector, m->offset, m->len};
	result = state_set_dispatch(t->task.tid, &dispatch);
	return result < 0
		       ? error_errno(e, result,
				 "syscall user dispatch of process %d (the kernel needs to be 6.4 or newer)",
				 t->proc->pid)
		       : 0;
}

static int let_go(struct live_thread *t, struct error *e)
{
	int result = t->task.seized ? set_dispatch(t, e) : 0;

	return result < 0 ? result : task_detach(&t->task, e);
}

struct live_thread *restore_leader_of(struct finish *f, int pid)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->threads[i].leader && f->threads[i].proc->pid == pid)
			return &f->threads[i];
	return NULL;
}

/* The parent does not learn again of a stop that it has waited for. */
static int collect_stop(struct finish *f, struct live_thread *parent, const St__Process *p, struct error *e)
{
	struct task_call call = {.task = &parent->task,
		.insn = restore_syscall_insn_of(f, parent),
		.nr = SYS_wait4,
		.args = {restore_pid_seen(f->r, restore_process(f->r, p->ppid), p->pid), 0,
			WUNTRACED | WNOHANG | __WALL, 0}};
	int r = task_calls(&call, 1, e);

	return r < 0 ? r : task_settle(&call, 1, e);
}

bool restore_gets_sigchld(const St__Process *parent, bool stop)
{
	for (size_t i = 0; i < parent->n_actions; i++) {
		const St__SigAction *a = parent->actions[i];

		if (a->signal == SIGCHLD &&
			(a->handler == (uintptr_t)SIG_IGN || (stop && a->flags & SA_NOCLDSTOP)))
			return false;
	}
	for (size_t i = 0; i < parent->n_pending; i++)
		if (((const siginfo_t *)parent->pending[i]->siginfo.data)->si_signo == SIGCHLD)
			return false;
	return true;
}

/* It comes a moment after the stop can be seen. */
int restore_drop_sigchld(struct finish *f, struct live_thread *parent, struct error *e)
{
	for (int i = 0; i < 2000; i++) {
		struct proc_status status;

		if (proc_read_status(parent->pid, 0, &f->r->arena, &status) == 0 &&
			status.shd_pnd & 1ull << (SIGCHLD - 1))
			return task_drop_signal(&parent->task, SIGCHLD, e);
		usleep(i < 100 ? 20 : 1000);
	}
	return error_set(e, -ETIMEDOUT, ERROR_SYSTEM, "process %d gets no SIGCHLD for the stop of its child",
		parent->proc->pid);
}

/* The parent is told of the stop by SIGCHLD and wait(), as if it were new. */
static int forget_stop(struct finish *f, const St__Process *p, struct error *e)
{
	struct live_thread *parent = restore_leader_of(f, p->ppid);
	int r = 0;

	if (!parent)
		return 0;
	if (p->exit_code == 0)
		r = collect_stop(f, parent, p, e);
	return r == 0 && restore_gets_sigchld(parent->proc, true) ? restore_drop_sigchld(f, parent, e) : r;
}

/* With the signal that had stopped it, as WSTOPSIG() tells its parent: put in the place of a SIGSTOP on its way. */
static int stop_leader(struct live_thread *t, struct error *e)
{
	int status, sig = t->proc->stop_signal;

	if (kill(t->pid, SIGSTOP) < 0 || ptrace(PTRACE_CONT, t->task.tid, NULL, NULL) < 0)
		return error_errno(e, -errno, "stop process %d again", t->proc->pid);
	if (waitpid(t->task.tid, &status, __WALL) < 0 || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP ||
		status >> 16)
		return error_set(e, -EIO, ERROR_SYSTEM, "process %d does not stop again: status %#x",
			t->proc->pid, status);
	for (size_t i = 0; i < t->proc->n_actions; i++)
		if (t->proc->actions[i]->signal == (unsigned)sig && t->proc->actions[i]->handler)
			sig = SIGSTOP; /* it has a handler by now: a job control signal would run that */
	t->task.seized = false;
	if (ptrace(PTRACE_DETACH, t->task.tid, NULL, (void *)(long)(sig ? sig : SIGSTOP)) < 0)
		return error_errno(e, -errno, "stop process %d again", t->proc->pid);
	return 0;
}

/* Children before their parents, who are still ours then to make calls in. */
static int stop_again(struct finish *f, struct error *e)
{
	for (size_t i = f->r->n_procs; i-- > 0;) {
		struct live_thread *t =
			f->r->procs[i]->state == 1 ? restore_leader_of(f, f->r->procs[i]->pid) : NULL;
		int result;

		if (!t)
			continue;
		for (size_t k = 0; k < f->n; k++)
			if (f->threads[k].pid == t->pid && !f->threads[k].leader &&
				let_go(&f->threads[k], e) < 0)
				return e->code;
		result = set_dispatch(t, e);
		if (result == 0)
			result = stop_leader(t, e);
		if (result < 0)
			return result;
		if (!state_becomes(t->pid, 'T'))
			return error_set(
				e, -ETIMEDOUT, ERROR_SYSTEM, "process %d does not stop again", t->proc->pid);
		result = forget_stop(f, t->proc, e);
		if (result < 0)
			return result;
	}
	return 0;
}

static int wait_for_zombies(struct finish *f, struct error *e)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t want = 0, n = 0;

	for (size_t i = 0; i < f->r->n_procs; i++)
		want += f->r->procs[i]->state == 2;
	for (int tries = 0; want > 0 && tries < 2000; tries++) {
		size_t have = 0;

		if (listeners_any(f->r) && listeners_serve(f->r, f->c, e) < 0)
			return e->code;
		free(take_ptr(pids));
		if (container_pids(f->c, false, &pids, &n, e) < 0)
			return e->code;
		/* v1 lists zombies no more: what is left are the living. */
		for (size_t i = 0; i < n; i++) {
			struct proc_stat st;

			have += proc_read_stat(pids[i], &st) == 0 && st.state != 'Z';
		}
		if (have <= f->r->n_procs - want)
			return 0;
		usleep(200);
	}
	return want > 0 ? error_set(e, -ETIMEDOUT, ERROR_SYSTEM, "a zombie process does not end") : 0;
}

/* Filters, which have to be suspended first, and zombies, of which their parents are told: then threads go on from "ready"
 * to "finished" only when we let them. */
static bool has_to_arm(const struct restore *r)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (r->procs[i]->state == 2 || has_seccomp(r->procs[i]))
			return true;
	return false;
}

/* Who has this file, in a process that lives. */
static bool find_holder(struct finish *f, const St__File *file, struct restore_connection *ret)
{
	for (size_t i = 0; i < f->n; i++) {
		const struct live_thread *t = &f->threads[i];
		size_t n = t->leader ? t->proc->n_descriptors : t->msg->n_descriptors;
		St__Descriptor **list = t->leader ? t->proc->descriptors : t->msg->descriptors;

		for (size_t k = 0; k < n; k++) {
			if (list[k]->file != file->id)
				continue;
			*ret = (struct restore_connection){file, t->task.tid, list[k]->fd};
			return true;
		}
	}
	return false;
}

static int seal(const struct restore_connection *holder, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	char path[64];
	int have;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", holder->pid, holder->fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	have = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);
	if (have < 0 || (holder->file->memfd->seals & ~have &&
				fcntl(fd, F_ADD_SEALS, holder->file->memfd->seals & ~have) < 0))
		return error_errno(e, -errno, "seal memfd %s", holder->file->memfd->name);
	return 0;
}

/* F_SEAL_FUTURE_WRITE: who has it mapped may go on writing, but nobody could map it any more. By now all have. */
static int seal_memfds(struct finish *f, struct error *e)
{
	struct restore_connection holder;
	int result = 0;

	for (size_t i = 0; i < f->r->n_files && result == 0; i++) {
		const St__File *file = f->r->files[i];

		/* what is only mapped is open as another file */
		if (restore_seals_late(file) && find_holder(f, file, &holder))
			result = seal(&holder, e);
	}
	return result;
}

static int release_network(struct finish *f, struct error *e)
{
	TRACE("let packets in");
	struct restore_connection *all = NULL;
	const struct restore *r = f->r;
	size_t n = 0;

	for (size_t i = 0; i < r->n_files; i++) {
		if (!restore_is_connection(r, r->files[i]))
			continue;
		if (!all)
			all = arena_array(&f->r->arena, r->n_files - i, sizeof(*all));
		if (!all)
			return error_errno(e, -ENOMEM, "restore");
		if (!find_holder(f, r->files[i], &all[n++]))
			return error_set(e, -EBADMSG, ERROR_CORRUPT, "a TCP connection that no process has");
	}
	return restore_release_network(r, all, n, f->c->init_pid, e);
}

/* Who has memory of its own. */
static uint32_t count_mapping(const struct restore *r)
{
	uint32_t n = 0;

	for (size_t i = 0; i < r->n_procs; i++)
		n += r->procs[i]->state != 2 && r->tree->nodes[i].kind != TREE_MEMBER;
	return n;
}

static int fill_from_outside(struct restore *r, struct container *c, struct error *e)
{
	int result;

	if (!r->fills_outside)
		return 0;
	result = restore_wait_for_stubs(r, c, &r->control->n_mapped, count_mapping(r), e);
	return result < 0 ? result : restore_outside_fill(r, e);
}

/* Memory that is filled as in a lazy restore, and not late: while all threads wait for their registers. */
static int wait_until_filled(struct restore *r, struct container *c, struct error *e)
{
	TRACE("wait for memory");
	enum { LOOK_MS = 100 };
	uint64_t start = restore_now_us(), bytes = 0;
	struct error why;
	int result;

	if (!restore_lazy_is_waited_for(r))
		return 0;
	result = restore_lazy_end(r, e);
	while (result == 0 && (result = container_filling_wait(c, LOOK_MS, e)) == -ETIMEDOUT) {
		uint64_t now = resident_bytes(c);

		if (now != bytes)
			progress_update(&r->progress, now);
		bytes = now;
		result = is_interrupted() ? interrupted(e) : 0;
	}
	r->stats->memory_us += restore_now_us() - start;
	/* The reason alone: of the container nobody has heard yet. */
	if (result < 0 && result != -EINTR && container_filling_failure(c, &why) < 0)
		*e = why;
	return result;
}

/* Of a sandbox: one with much memory takes its time. */
static int meet_others(struct restore *r, struct container *c, struct error *e)
{
	int result;

	if (!r->options->meeting)
		return 0;
	watchdog_pause(&r->watchdog, true);
	result = meeting_all_built(r->options->meeting, c, e);
	watchdog_pause(&r->watchdog, false);
	return result;
}

/* It has only to read, but that may take its time. */
static int verify_end(struct restore *r, struct error *e)
{
	int result;

	watchdog_pause(&r->watchdog, true);
	result = image_verify_end(take_ptr(r->verification), e);
	watchdog_pause(&r->watchdog, false);
	return result;
}

int restore_coordinate(struct restore *r, struct container *c, struct error *e)
{
	TRACE("coordinate");
	struct finish f = {.r = r, .c = c};
	uint32_t total = r->n_threads;
	bool late = has_to_arm(r);
	uint64_t start = restore_now_us();
	int result;

	progress_start(&r->progress, "memory", "Restoring memory",
		(r->stats->pages_data + r->stats->pages_parent + r->stats->pages_repeated) * IMAGE_PAGE_SIZE);
	if (!late)
		arm(r);
	if (r->n_cgroups) {
		result = restore_wait_for_stubs(r, c, &r->control->n_joined,
			r->tree->n_processes - r->tree->n_members + r->tree->n_group_leaders, e);
		if (result == 0)
			result = restore_place_cgroups(r, c, e);
		if (result < 0)
			return result;
	}
	result = fill_from_outside(r, c, e);
	if (result < 0)
		return result;
	result =
		restore_wait_for_stubs(r, c, late ? &r->control->n_ready : &r->control->n_finished, total, e);
	/* Until now it is only memory: not one instruction of theirs has run. */
	if (result == 0)
		result = verify_end(r, e);
	r->stats->memory_us = restore_now_us() - start;
	start = restore_now_us();
	progress_start(&r->progress, "resume", NULL, 0);
	/* The handler of a lazy restore waits for it then. */
	if (result == 0 && r->lazy.n == 0)
		result = wait_for_feed(r, e);
	if (result == 0)
		result = fault_point("restore-threads", e);
	if (result == 0)
		result = find_syscall_offset(&f, e);
	if (result == 0)
		result = wait_for_zombies(&f, e);
	if (result == 0)
		result = find_threads(&f, e);
	if (result == 0)
		result = seize_all(&f, e);
	if (result == 0 && late) {
		arm(r);
		result = restore_wait_for_stubs(r, c, &r->control->n_finished, total, e);
	}
	if (result == 0)
		result = restore_lazy_begin(r, c, e);
	if (result == 0)
		result = wait_until_filled(r, c, e);
	if (result == 0)
		result = set_all_registers(&f, e);
	if (result == 0)
		result = fault_point("restore-registers", e);
	if (result == 0)
		result = seal_memfds(&f, e);
	if (result == 0)
		result = restore_times(&f, e);
	if (result == 0)
		result = unmap_areas(&f, e);
	if (result == 0)
		result = meet_others(r, c, e);
	if (result == 0)
		result = stop_again(&f, e);
	if (result == 0)
		result = release_network(&f, e);
	if (result == 0)
		result = end_leaders(&f, e);
	if (result == 0)
		result = restore_end_exec(&f, e);
	for (size_t i = 0; i < f.n && result == 0; i++)
		result = let_go(&f.threads[i], e);
	if (result == 0)
		result = restore_lazy_end(r, e);
	r->stats->resume_us = restore_now_us() - start;
	return result < 0 ? restore_lazy_failed(r, c, e) : 0;
}
