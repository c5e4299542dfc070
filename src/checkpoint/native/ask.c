/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only a task itself can say: signal actions, alternate stack, interval timers, prctl states. A page is mapped
 * into each process (one call at the vdso's own syscall instruction: no text is modified), the batch loop and one
 * batch a thread are placed in it, and all threads of all processes run them at once.
 */
#include "checkpoint/native/dump.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/trace.h"
#include "checkpoint/native/batch.h"
#include "checkpoint/native/cpu.h"
#include "checkpoint/native/filters.h"
#include "checkpoint/native/keyrings.h"
#include "checkpoint/native/states.h"
#include "checkpoint/native/timens.h"

struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

/* Answers of a process; each thread has thread_answers. */
struct process_answers {
	struct kernel_sigaction actions[65];
	struct timespec clock; /* CLOCK_MONOTONIC when the timers are read */
	struct itimerval itimers[3];
	int32_t child_subreaper;
	int32_t pad;
};

struct thread_answers {
	stack_t altstack;
	uint64_t tid_address;
	int32_t pdeathsig, pad;
};

enum { MAX_TIMERS = 1024, PATIENCE_S = 5 };

/* One thread's part of the area, laid out locally, written to the task in one piece. */
struct question {
	struct batch b;
	struct thread_answers *thread;
	struct process_answers *process;
	uint64_t thread_at, process_at;
	struct keyring_question keyrings;
	struct op *securebits, *timerslack, *dumpable, *thp, *brk, *personality, *unlocked, *limits, *timers;
	struct op *descriptors;
	struct itimerspec *timer_values;
	struct state_question states;
	size_t ops_at, total;
};

static uint64_t find_syscall(const char *text, size_t len, uint64_t address)
{
	for (size_t k = 0; k + 1 < len; k++)
		if (text[k] == 0x0f && text[k + 1] == 0x05)
			return address + k;
	return 0;
}

/* Code of the program: any has a jump to itself somewhere. */
static bool find_park(struct dump_proc *p, struct park *ret)
{
	enum { SOME = 1 << 16, MOST = 1 << 20 };
	_cleanup_free_ char *text = malloc(SOME);

	for (size_t i = 0; i < p->n_vmas && text; i++) {
		const struct proc_vma *v = &p->vmas[i];

		if (!(v->prot & PROT_EXEC) || v->start > INT64_MAX)
			continue;
		for (uint64_t at = v->start; at < MIN(v->end, v->start + MOST); at += SOME) {
			size_t len = MIN(v->end - at, (uint64_t)SOME);

			if (task_read_memory(p->shown, at, text, len) == 0 && park_find(text, len, at, ret))
				return true;
		}
	}
	return false;
}

void dump_find_code(struct dump_proc *p)
{
	struct dump_thread *t = &p->threads[0];
	char text[16384];

	for (size_t i = 0; i < p->n_vmas && !p->syscall_insn; i++) {
		const struct proc_vma *v = &p->vmas[i];
		size_t len = MIN(v->end - v->start, sizeof(text));

		if (!(v->prot & PROT_EXEC) || strcmp(v->name, "[vdso]") != 0)
			continue;
		if (task_read_memory(p->shown, v->start, text, len) < 0)
			continue;
		p->syscall_insn = find_syscall(text, len, v->start);
		(void)!park_find(text, len, v->start, &t->task.park);
	}
	if (!t->task.park.loop)
		(void)!find_park(p, &t->task.park);
	t->task.park.nr = SYS_pause;
}

static size_t max_ops(const struct dump_proc *p, const struct dump_thread *t, bool leader)
{
	return 16 + STATE_THREAD_OPS + KEYRING_OPS + t->msg->n_descriptors +
	       (leader ? STATE_PROCESS_OPS + state_count_mappings(p->msg->memory) + 64 + 4 + 8 + 16 +
				       2 * p->msg->n_posix_timers + p->msg->n_descriptors
		       : 0);
}

static size_t question_size(const struct dump_proc *p, const struct dump_thread *t, bool leader)
{
	return max_ops(p, t, leader) * sizeof(struct op) + 512 + STATE_THREAD_DATA + KEYRING_NAME +
	       (leader ? 32 + state_count_mappings(p->msg->memory) * sizeof(int32_t) +
				       sizeof(struct process_answers) + 16 * 16 +
				       p->msg->n_posix_timers * sizeof(struct itimerspec)
		       : 0) +
	       ALIGN_UP(task_sigframe(&t->task, NULL, 0, 0, &(uint64_t){0}) + 64, (size_t)64);
}

static void ask_descriptors(struct question *q, St__Descriptor **list, size_t n)
{
	q->descriptors = &q->b.ops[q->b.n_ops];
	for (size_t i = 0; i < n; i++)
		batch_call(&q->b, 0, SYS_fcntl, list[i]->fd, F_GETFD);
}

static void answer_descriptors(const struct question *q, St__Descriptor **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		list[i]->cloexec = q->descriptors[i].result & FD_CLOEXEC;
}

static void ask_process(struct dump_proc *p, struct question *q)
{
	struct batch *b = &q->b;
	uint64_t values, at = 0;

	q->process = batch_data(b, sizeof(*q->process), &q->process_at);
	q->timer_values =
		batch_data(b, MAX(p->msg->n_posix_timers, (size_t)1) * sizeof(struct itimerspec), &values);
	batch_data(b, 16 * 16, &at);
	for (int sig = 1; sig <= 64; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			batch_call(b, 0, SYS_rt_sigaction, sig, 0,
				q->process_at + offsetof(struct process_answers, actions) +
					sig * sizeof(struct kernel_sigaction),
				8);
	for (int i = 0; i < 3; i++)
		batch_call(b, OP_MAY_FAIL, SYS_getitimer, i,
			q->process_at + offsetof(struct process_answers, itimers) +
				i * sizeof(struct itimerval));
	q->timers = &b->ops[b->n_ops];
	for (size_t i = 0; i < p->msg->n_posix_timers; i++) {
		batch_call(b, OP_MAY_FAIL, SYS_timer_gettime, p->msg->posix_timers[i]->id,
			values + i * sizeof(struct itimerspec));
		batch_call(b, OP_MAY_FAIL, SYS_timer_getoverrun, p->msg->posix_timers[i]->id);
	}
	/* The clock last: then no timer comes early. */
	batch_call(b, 0, SYS_clock_gettime, CLOCK_MONOTONIC,
		q->process_at + offsetof(struct process_answers, clock));
	batch_call(b, OP_MAY_FAIL, SYS_prctl, PR_GET_CHILD_SUBREAPER,
		q->process_at + offsetof(struct process_answers, child_subreaper));
	q->dumpable = batch_call(b, OP_MAY_FAIL, SYS_prctl, PR_GET_DUMPABLE);
	q->thp = batch_call(b, OP_MAY_FAIL, SYS_prctl, PR_GET_THP_DISABLE);
	q->brk = batch_call(b, OP_MAY_FAIL, SYS_brk, 0);
	q->personality = batch_call(b, 0, SYS_personality, 0xffffffff);
	/* Refused for locked memory, without effect else (on memory of ours). */
	q->unlocked = batch_call(b, OP_MAY_FAIL, SYS_madvise, p->area, 4096, MADV_COLD);
	q->limits = &b->ops[b->n_ops];
	for (int i = 0; i < PROC_LIMITS; i++)
		batch_call(b, OP_MAY_FAIL, SYS_prlimit64, 0, i, 0, at + i * 16);
	state_ask_process(b, p->msg->memory, &q->states);
	ask_descriptors(q, p->msg->descriptors, p->msg->n_descriptors);
}

void dump_end_batch(struct batch *b, const struct dump_proc *p, const struct dump_thread *t)
{
	batch_call(b, OP_MAY_FAIL, SYS_tgkill, p->own_pid, t->own_tid, t->task.end_signal);
	if (task_batch_waits(&t->task))
		batch_call(b, OP_MAY_FAIL, SYS_ppoll, 0, 0, t->patience, 0, 0);
}

/* Builds the batch of one thread at local memory "to", for address "remote". */
static int build_question(const struct dump *d, struct dump_proc *p, struct dump_thread *t,
	struct question *q, char *to, uint64_t remote, size_t size, struct error *e)
{
	bool leader = t == &p->threads[0];
	size_t n = max_ops(p, t, leader), frame_size;
	uint64_t sp;

	memset(q, 0, sizeof(*q));
	q->b.ops = (struct op *)to;
	q->b.max_ops = n;
	q->b.remote_ops = remote;
	q->b.data = to + n * sizeof(struct op);
	q->b.remote = remote + n * sizeof(struct op);
	q->b.max_data = size - n * sizeof(struct op);
	q->thread = batch_data(&q->b, sizeof(*q->thread), &q->thread_at);
	batch_call(&q->b, 0, SYS_sigaltstack, 0, q->thread_at + offsetof(struct thread_answers, altstack));
	batch_call(&q->b, OP_MAY_FAIL, SYS_prctl, PR_GET_TID_ADDRESS,
		q->thread_at + offsetof(struct thread_answers, tid_address));
	batch_call(&q->b, OP_MAY_FAIL, SYS_prctl, PR_GET_PDEATHSIG,
		q->thread_at + offsetof(struct thread_answers, pdeathsig));
	q->securebits = batch_call(&q->b, OP_MAY_FAIL, SYS_prctl, PR_GET_SECUREBITS);
	q->timerslack = batch_call(&q->b, OP_MAY_FAIL, SYS_prctl, PR_GET_TIMERSLACK);
	if (filters_may_let_through(&t->task, SYS_keyctl))
		keyring_ask(&q->b, d, &q->keyrings);
	q->states.has_keys = cpu_has_keys() && filters_may_let_through(&t->task, SYS_pkey_mprotect);
	q->states.has_ldt = filters_may_let_through(&t->task, SYS_modify_ldt);
	q->states.has_policies = filters_may_let_through(&t->task, SYS_get_mempolicy);
	q->states.has_barriers = filters_may_let_through(&t->task, SYS_membarrier);
	state_ask_thread(&q->b, &q->states);
	if (leader)
		ask_process(p, q);
	else
		ask_descriptors(q, t->msg->descriptors, t->msg->n_descriptors);
	t->patience = batch_bytes(&q->b, &(struct timespec){PATIENCE_S, 0}, sizeof(struct timespec));
	dump_end_batch(&q->b, p, t);
	batch_fail_outside(&q->b);
	/* The frame must lie 64-aligned: XRSTOR wants it. */
	frame_size = task_sigframe(&t->task, NULL, 0, 0, &sp);
	q->b.n_data = ALIGN_UP(q->b.remote + q->b.n_data, (uint64_t)64) - q->b.remote;
	if (q->b.overflow || q->b.n_data + frame_size > q->b.max_data)
		return error_set(e, -ENOSPC, ERROR_INTERNAL, "batch of pid %d is too small", p->pid);
	task_sigframe(&t->task, q->b.data + q->b.n_data, frame_size, q->b.remote + q->b.n_data, &t->frame);
	t->ops = remote;
	t->n_ops = q->b.n_ops;
	return filters_check_batch(&t->task, &q->b, e);
}

static void answer_thread(const struct question *q, St__Thread *m)
{
	m->altstack_sp = (uint64_t)q->thread->altstack.ss_sp;
	m->altstack_flags = q->thread->altstack.ss_flags;
	m->altstack_size = q->thread->altstack.ss_size;
	m->clear_child_tid = q->thread->tid_address;
	m->pdeathsig = q->thread->pdeathsig;
	m->credentials->securebits = q->securebits->result;
	m->timer_slack_ns = q->timerslack->result;
}

static int answer_actions(struct dump *d, const struct question *q, St__Process *m)
{
	m->actions = arena_array(&d->arena, 64, sizeof(*m->actions));
	if (!m->actions)
		return -ENOMEM;
	for (int sig = 1; sig <= 64; sig++) {
		const struct kernel_sigaction *from = &q->process->actions[sig];
		St__SigAction *to;

		if (!from->handler && !from->flags && !from->mask)
			continue;
		to = m->actions[m->n_actions++] = pb_new(&d->arena, SigAction, sig_action);
		if (!to)
			return -ENOMEM;
		to->signal = sig;
		to->handler = from->handler;
		to->flags = from->flags;
		to->restorer = from->restorer;
		to->mask = from->mask;
	}
	return 0;
}

static int answer_timers(struct dump *d, const struct question *q, St__Process *m)
{
	m->n_itimers = 3;
	m->itimers = arena_array(&d->arena, 3, sizeof(*m->itimers));
	if (!m->itimers)
		return -ENOMEM;
	for (int i = 0; i < 3; i++) {
		const struct itimerval *v = &q->process->itimers[i];

		m->itimers[i] = pb_new(&d->arena, ITimer, itimer);
		if (!m->itimers[i])
			return -ENOMEM;
		m->itimers[i]->value = pb_timespec(&d->arena, v->it_value.tv_sec, v->it_value.tv_usec * 1000);
		m->itimers[i]->interval =
			pb_timespec(&d->arena, v->it_interval.tv_sec, v->it_interval.tv_usec * 1000);
		if (!m->itimers[i]->value || !m->itimers[i]->interval)
			return -ENOMEM;
	}
	for (size_t i = 0; i < m->n_posix_timers; i++) {
		const struct itimerspec *v = &q->timer_values[i];

		m->posix_timers[i]->value = pb_timespec(&d->arena, v->it_value.tv_sec, v->it_value.tv_nsec);
		m->posix_timers[i]->interval =
			pb_timespec(&d->arena, v->it_interval.tv_sec, v->it_interval.tv_nsec);
		m->posix_timers[i]->overrun =
			q->timers[2 * i + 1].result > 0 ? q->timers[2 * i + 1].result : 0;
		if (!m->posix_timers[i]->value || !m->posix_timers[i]->interval)
			return -ENOMEM;
	}
	return 0;
}

/* mlockall(MCL_FUTURE) shows only in what is mapped afterwards, as our own area is. */
static int find_future_locks(struct dump *d, struct dump_proc *p, const struct question *q, struct error *e)
{
	struct proc_vma *vmas;
	size_t n;
	int r;

	if (q->unlocked->result == 0)
		return 0;
	r = proc_read_maps(p->shown, true, &d->arena, &vmas, &n);
	if (r < 0)
		return error_errno(e, r, "mappings of pid %d", p->pid);
	for (size_t i = 0; i < n; i++)
		if (p->area >= vmas[i].start && p->area < vmas[i].end && (vmas[i].flags & VMA_LO))
			p->msg->memory->lock_future = MCL_FUTURE | (vmas[i].flags & VMA_LF ? MCL_ONFAULT : 0);
	return 0;
}

static int answer_process(struct dump *d, struct dump_proc *p, const struct question *q)
{
	St__Process *m = p->msg;

	p->timers_read_at = q->process->clock;
	p->timers_read_at.tv_sec -= dump_timens_ahead(d, p) / 1000000000;
	p->timers_read_at.tv_nsec -= dump_timens_ahead(d, p) % 1000000000;
	m->child_subreaper = q->process->child_subreaper;
	m->personality = q->personality->result;
	m->memory->dumpable = q->dumpable->result;
	m->memory->thp_disable = q->thp->result > 0;
	m->memory->thp_flags = q->thp->result > 0 ? q->thp->result & ~1 : 0;
	m->memory->brk = q->brk->result;
	m->n_rlimits = PROC_LIMITS;
	m->rlimits = arena_array(&d->arena, PROC_LIMITS, sizeof(*m->rlimits));
	if (!m->rlimits)
		return -ENOMEM;
	for (int i = 0; i < PROC_LIMITS; i++) {
		uint64_t values[2];

		memcpy(values, q->b.data + (q->limits[i].args[3] - q->b.remote), sizeof(values));
		m->rlimits[i] = pb_new(&d->arena, Rlimit, rlimit);
		if (!m->rlimits[i])
			return -ENOMEM;
		m->rlimits[i]->soft = values[0];
		m->rlimits[i]->hard = values[1];
	}
	answer_descriptors(q, m->descriptors, m->n_descriptors);
	if (answer_actions(d, q, m) < 0)
		return -ENOMEM;
	return answer_timers(d, q, m);
}

struct asked {
	char *local;
	size_t len;
	struct question *questions;
};

static size_t area_size(const struct dump_proc *p)
{
	size_t len = ALIGN_UP(BATCH_LOOP_SIZE + sizeof(struct batch_control), (size_t)256);

	for (size_t k = 0; k < p->n_threads; k++)
		len += ALIGN_UP(question_size(p, &p->threads[k], k == 0), (size_t)64);
	return ALIGN_UP(len, (size_t)4096);
}

/* Above, a 32-bit program has nothing. */
static uint64_t low_memory(const struct dump_proc *p)
{
	return p->msg->memory->ia32 ? MAP_32BIT : 0;
}

static int prepare_mapping(struct dump *d, struct dump_proc *p, struct task_call *call, struct error *e)
{
	if (!p->syscall_insn)
		dump_find_code(p);
	p->threads[0].task.park.nr = filters_waiting_call(d, p, &p->threads[0]);
	if (!p->syscall_insn)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"process %d has no vdso, through which it would be asked for its state: end it, or "
			"boot the machine without vdso=0",
			p->ns_pid);
	p->area_len = area_size(p);
	p->area_head = ALIGN_UP(BATCH_LOOP_SIZE, (size_t)16);
	*call = (struct task_call){.task = &p->threads[0].task,
		.insn = p->syscall_insn,
		.nr = SYS_mmap,
		.args = {0, p->area_len, PROT_READ | PROT_WRITE | PROT_EXEC,
			MAP_PRIVATE | MAP_ANONYMOUS | low_memory(p), -1, 0}};
	return 0;
}

static void note_mapped(struct dump *d, struct dump_proc *p, uint64_t area)
{
	struct dump_journal *j = d->journal;

	p->area = area;
	j->mapped[j->n].pid = p->shown;
	j->mapped[j->n].area = p->area;
	j->mapped[j->n].len = p->area_len;
	j->mapped[j->n].syscall_insn = p->syscall_insn;
	j->n++;
}

/* PR_SET_MDWE: what can be written must not be executable. The loop gets a page that cannot be. */
static int map_apart(struct dump *d, struct dump_proc *p, int64_t *ret, struct error *e)
{
	uint64_t len = p->area_len + 4096,
		 map[6] = {0, len, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | low_memory(p), -1, 0},
		 protect[6] = {0, len - 4096, PROT_READ | PROT_WRITE}, unmap[6] = {0, len};
	int64_t result = 0;
	int r = task_syscall(&p->threads[0].task, p->syscall_insn, SYS_mmap, map, ret, e);

	if (r < 0 || *ret < 0)
		return r;
	p->area_len = len;
	p->area_head = 4096;
	note_mapped(d, p, *ret); /* the guard knows the last call only */
	protect[0] = *ret + 4096;
	unmap[0] = *ret;
	r = task_syscall(&p->threads[0].task, p->syscall_insn, SYS_mprotect, protect, &result, e);
	if (r == 0 && result < 0) {
		r = task_syscall(&p->threads[0].task, p->syscall_insn, SYS_munmap, unmap, ret, e);
		*ret = result;
		d->journal->n--;
		p->area = 0;
	}
	return r;
}

static int map_beyond_limits(struct dump *d, struct dump_proc *p, struct task_call *call, struct error *e)
{
	int r = dump_raise_limits(&d->journal->raised, p->shown);

	if (r < 0)
		return 0; /* the first answer stands */
	r = fault_point("checkpoint-raised", e);
	if (r == 0)
		r = task_syscall(
			&p->threads[0].task, p->syscall_insn, SYS_mmap, call->args, &call->result, e);
	dump_lower_limits(&d->journal->raised);
	return r;
}

/* The journal knows of every area before anything else can fail. */
static int note_area(struct dump *d, struct dump_proc *p, struct task_call *call, struct error *e)
{
	if (call->failed)
		return 0; /* reported already */
	if (call->result == -EACCES && map_apart(d, p, &call->result, e) < 0)
		return e ? e->code : -EIO;
	/* -EAGAIN: of memory that is locked as soon as it is there */
	if ((call->result == -ENOMEM || call->result == -EAGAIN) && map_beyond_limits(d, p, call, e) < 0)
		return e ? e->code : -EIO;
	if (call->result < 0 && call->result > -4096)
		return error_errno(e, call->result,
			"map %zu bytes into process %d (is its address space limited?)", (size_t)p->area_len,
			p->ns_pid);
	if (!p->area)
		note_mapped(d, p, call->result);
	return 0;
}

static int map_areas(struct dump *d, struct error *e)
{
	struct task_call *calls = d->calls = arena_array(&d->arena, d->n_procs, sizeof(*calls));
	size_t n = 0;
	int r = 0;

	if (!calls)
		return error_errno(e, -ENOMEM, "questions");
	if (d->n_procs > ARRAY_SIZE(d->journal->mapped))
		return error_set(
			e, -E2BIG, ERROR_REFUSED, "more than %zu processes", ARRAY_SIZE(d->journal->mapped));
	for (size_t i = 0; i < d->n_procs && r == 0; i++)
		if (!d->procs[i].zombie)
			r = prepare_mapping(d, &d->procs[i], &calls[n++], e);
	if (r < 0)
		return r;
	r = task_calls(calls, n, e);
	n = 0;
	for (size_t i = 0; i < d->n_procs; i++)
		if (!d->procs[i].zombie && note_area(d, &d->procs[i], &calls[n++], r < 0 ? NULL : e) < 0)
			r = r < 0 ? r : e->code;
	return r;
}

/* Through /proc, which may write also to what the task itself may not. */
static int place_loop(struct dump_proc *p, const char *loop)
{
	_cleanup_close_ int fd = -EBADF;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/mem", p->shown);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : pwrite_all(fd, loop, p->area_head, p->area);
}

static int place(struct dump *d, struct dump_proc *p, struct asked *asked, struct error *e)
{
	size_t at = ALIGN_UP(p->area_head + sizeof(struct batch_control), (size_t)256);
	int r;

	asked->len = p->area_len;
	asked->local = arena_alloc(&d->arena, asked->len);
	asked->questions = arena_array(&d->arena, p->n_threads, sizeof(*asked->questions));
	if (!asked->local || !asked->questions)
		return error_errno(e, -ENOMEM, "questions for pid %d", p->pid);
	memcpy(asked->local, batch_loop_start, BATCH_LOOP_SIZE);
	for (size_t k = 0; k < p->n_threads; k++) {
		struct dump_thread *t = &p->threads[k];
		size_t size = ALIGN_UP(question_size(p, t, k == 0), (size_t)64);

		t->task.end_signal =
			task_choose_end_signal(p->status.sig_cgt, t->status.sig_pnd | t->status.shd_pnd);
		if (!t->task.end_signal)
			return error_set(e, -EAGAIN, ERROR_REFUSED,
				"in process %d SIGURG, SIGWINCH and SIGCHLD all wait: try again", p->ns_pid);
		r = build_question(d, p, t, &asked->questions[k], asked->local + at, p->area + at, size, e);
		if (r < 0)
			return r;
		at += size;
	}
	at = p->area_head < 4096 ? 0 : p->area_head;
	r = at ? place_loop(p, asked->local) : 0;
	if (r == 0)
		r = task_write_memory(p->shown, p->area + at, asked->local + at, asked->len - at);
	return r < 0 ? error_errno(e, r, "write to the memory of pid %d", p->pid) : 0;
}

static int run_all(struct dump *d, struct error *e)
{
	struct error ignored;
	int r = 0, first = 0;

	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		for (size_t k = 0; k < p->n_threads && r == 0; k++)
			r = task_batch_start(&p->threads[k].task, p->area, p->threads[k].ops,
				p->threads[k].n_ops, p->area + p->area_head, p->threads[k].frame, e);
	}
	if (r < 0)
		return r;
	(void)!fault_point("call-batch", &ignored);
	for (size_t i = 0; i < d->n_procs; i++) {
		for (size_t k = 0; k < d->procs[i].n_threads; k++) {
			r = task_batch_wait(&d->procs[i].threads[k].task, first < 0 ? NULL : e);
			if (r < 0 && first == 0)
				first = r;
		}
	}
	return first;
}

/* When the leader ends once more, after the restore, its children would get their PR_SET_PDEATHSIG once more. */
static int check_ended_leaders(struct dump *d, struct error *e)
{
	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = i + 1; k < d->n_procs && d->procs[i].ended_leader; k++)
			for (size_t t = 0; t < d->procs[k].n_threads; t++)
				if (d->procs[k].stat.ppid == d->procs[i].pid &&
					d->procs[k].threads[t].msg->pdeathsig)
					return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
						"cannot checkpoint: process %d: a child has "
						"PR_SET_PDEATHSIG, "
						"and its own leader thread has ended: let either end first",
						d->procs[i].ns_pid);
	return 0;
}

int dump_ask(struct dump *d, struct error *e)
{
	TRACE("ask tasks");
	struct asked *asked = arena_array(&d->arena, d->n_procs, sizeof(*asked));
	int r;

	if (!asked)
		return error_errno(e, -ENOMEM, "questions");
	r = map_areas(d, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < d->n_procs; i++) {
		if (d->procs[i].zombie)
			continue;
		r = place(d, &d->procs[i], &asked[i], e);
		if (r < 0)
			return r;
	}
	r = fault_point("checkpoint-injected", e);
	if (r == 0)
		r = run_all(d, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		if (p->zombie)
			continue;
		r = task_read_memory(p->shown, p->area, asked[i].local, asked[i].len);
		if (r < 0)
			return error_errno(e, r, "read the memory of pid %d", p->pid);
		for (size_t k = 0; k < p->n_threads; k++) {
			const struct question *q = &asked[i].questions[k];

			r = batch_check(&q->b, p->ns_pid, e);
			if (r < 0)
				return r;
			answer_thread(q, p->threads[k].msg);
			if (k > 0)
				answer_descriptors(
					q, p->threads[k].msg->descriptors, p->threads[k].msg->n_descriptors);
			if (state_answer_thread(&d->arena, &q->states, p->threads[k].msg) < 0)
				return error_errno(e, -ENOMEM, "answers of pid %d", p->pid);
			r = keyring_check(d, p, &q->keyrings, e);
			if (r < 0)
				return r;
		}
		r = answer_process(d, p, &asked[i].questions[0]);
		if (r < 0)
			return error_errno(e, r, "answers of pid %d", p->pid);
		r = find_future_locks(d, p, &asked[i].questions[0], e);
		if (r == 0)
			r = state_answer_process(d, p, &asked[i].questions[0].states, e);
		if (r < 0)
			return r;
	}
	return check_ended_leaders(d, e);
}

int dump_unmap(struct dump *d, struct error *e)
{
	TRACE("unmap");
	size_t n = 0;
	int r, settled;

	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];

		if (p->area)
			d->calls[n++] = (struct task_call){.task = &p->threads[0].task,
				.insn = p->syscall_insn,
				.nr = SYS_munmap,
				.args = {p->area, p->area_len}};
		p->area = 0;
	}
	r = task_calls(d->calls, n, e);
	settled = task_settle(d->calls, n, r < 0 ? NULL : e);
	d->journal->n = 0;
	return r < 0 ? r : settled;
}
