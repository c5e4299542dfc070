/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/states.h"

#include <linux/capability.h>
#include <linux/membarrier.h>
#include <linux/mempolicy.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "checkpoint/native/cpu.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65 /* 6.3 */
#define PR_GET_MDWE 66
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67 /* 6.4 */
#define PR_GET_MEMORY_MERGE 68
#endif
#define IO_FLUSHER 0x180000u /* PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE, in /proc/PID/stat */
/* Younger than some linux/membarrier.h. */
enum {
	MEMBARRIER_PRIVATE_EXPEDITED_RSEQ = 1 << 7, /* 5.10 */
	MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ = 1 << 8,
	MEMBARRIER_GET_REGISTRATIONS = 1 << 9, /* 6.3 */
};
#define ARCH_GET_CPUID_OP 0x1011
#define ARCH_SET_CPUID_OP 0x1012
#define PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG_OP 0x4210 /* 6.4 */
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG_OP 0x4211
#define PR_SET_IO_FLUSHER_OP 57

#define BEYOND_ALL_ADDRESSES 0x00fffffffffff000ull

/* Policies are of memory that is the process's own or shared: the text of a program is in the page cache. */
static bool may_have_policy(const St__Vma *v)
{
	return !v->special && (!v->file || (v->prot & PROT_WRITE) || !(v->flags & MAP_PRIVATE));
}

size_t state_count_mappings(const St__Memory *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n_vmas; i++)
		n += may_have_policy(m->vmas[i]);
	return n;
}

void state_ask_thread(struct batch *b, struct state_question *q)
{
	uint64_t at;

	q->thread = batch_data(b, sizeof(*q->thread), &at);
	batch_call(b, OP_MAY_FAIL, SYS_prctl, PR_GET_TSC, at + offsetof(struct thread_state_answers, tsc));
	q->cpuid = batch_call(b, OP_MAY_FAIL, SYS_arch_prctl, ARCH_GET_CPUID_OP, 0);
	for (int i = 0; i < 3; i++)
		q->speculation[i] = batch_call(b, OP_MAY_FAIL, SYS_prctl, PR_GET_SPECULATION_CTRL, i);
	q->mce = batch_call(b, OP_MAY_FAIL, SYS_prctl, PR_MCE_KILL_GET);
	if (!q->has_policies)
		return;
	q->policy = batch_call(b, OP_MAY_FAIL, SYS_get_mempolicy,
		at + offsetof(struct thread_state_answers, mode),
		at + offsetof(struct thread_state_answers, nodes), STATE_NODES + 1, 0, 0);
}

/* One that was not registered fails with EPERM; none is of consequence where all threads stand still. That for all processes is
 * told by Linux 6.3, which says of the others only that something like it was registered. */
static const struct {
	int ask, registration;
} barriers[] = {
	{MEMBARRIER_GET_REGISTRATIONS, 0},
	{MEMBARRIER_CMD_PRIVATE_EXPEDITED, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED},
	{MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE},
	{MEMBARRIER_PRIVATE_EXPEDITED_RSEQ, MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ},
};
#define BARRIERS                                                                                             \
	(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED |              \
		MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE |                                        \
		MEMBARRIER_REGISTER_PRIVATE_EXPEDITED_RSEQ)

static uint32_t answer_barriers(const struct op *asked)
{
	uint32_t found = 0;

	if (!asked)
		return 0;
	if (asked[0].result > 0)
		found = asked[0].result & MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED;
	for (size_t i = 1; i < ARRAY_SIZE(barriers); i++)
		found |= asked[i].result == 0 ? barriers[i].registration : 0;
	return found;
}

bool state_barriers_are_valid(const St__Memory *m)
{
	return (m->membarrier & ~(uint32_t)BARRIERS) == 0;
}

void state_ask_process(struct batch *b, const St__Memory *m, struct state_question *q)
{
	uint64_t at, none = 0;
	size_t n = 0;

	q->permitted = batch_data(b, sizeof(*q->permitted), &at);
	batch_call(b, OP_MAY_FAIL, SYS_arch_prctl, CPU_GET_PERMISSIONS, at);
	q->mdwe = batch_call(b, OP_MAY_FAIL, SYS_prctl, PR_GET_MDWE);
	q->merge = batch_call(b, OP_MAY_FAIL, SYS_prctl, PR_GET_MEMORY_MERGE);
	q->barriers = q->has_barriers ? &b->ops[b->n_ops] : NULL;
	for (size_t i = 0; q->barriers && i < ARRAY_SIZE(barriers); i++)
		batch_call(b, OP_MAY_FAIL, SYS_membarrier, barriers[i].ask, 0, 0);
	/* Which keys are allocated is told by what mprotect finds wrong at an address that no process can have: EINVAL is about
	 * the key, ENOMEM about the address. */
	q->keys = q->has_keys ? &b->ops[b->n_ops] : NULL;
	for (int key = 1; q->keys && key <= STATE_KEYS; key++)
		batch_call(b, OP_MAY_FAIL, SYS_pkey_mprotect, BEYOND_ALL_ADDRESSES, 4096, PROT_READ, key);
	if (q->has_ldt)
		q->ldt = batch_call(b, OP_MAY_FAIL, SYS_modify_ldt, 0 /* read */,
			batch_bytes(b, &none, sizeof(none)), sizeof(none));
	q->modes = batch_data(b, MAX(state_count_mappings(m), (size_t)1) * sizeof(*q->modes), &at);
	for (size_t i = 0; i < m->n_vmas; i++)
		if (q->has_policies && may_have_policy(m->vmas[i]))
			batch_call(b, OP_MAY_FAIL, SYS_get_mempolicy, at + n++ * sizeof(*q->modes), 0, 0,
				m->vmas[i]->start, MPOL_F_ADDR);
}

/* The nodes, without the zeros behind them. */
static int set_nodes(struct arena *a, const uint64_t *nodes, ProtobufCBinaryData *ret)
{
	size_t n = STATE_NODES / 64;

	while (n > 0 && nodes[n - 1] == 0)
		n--;
	ret->len = n * sizeof(*nodes);
	ret->data = n ? arena_memdup(a, nodes, ret->len) : NULL;
	return n && !ret->data ? -ENOMEM : 0;
}

int state_answer_thread(struct arena *a, const struct state_question *q, St__Thread *m)
{
	uint32_t *speculation = arena_array(a, 3, sizeof(*speculation));

	if (!speculation)
		return -ENOMEM;
	m->no_tsc = q->thread->tsc == PR_TSC_SIGSEGV;
	m->no_cpuid = q->cpuid->result == 0;
	/* What the task itself has chosen, where the kernel lets tasks choose and ours is another. */
	for (int i = 0; i < 3; i++) {
		int64_t chosen = q->speculation[i]->result;

		if (chosen > 0 && (chosen & PR_SPEC_PRCTL) &&
			chosen != prctl(PR_GET_SPECULATION_CTRL, i, 0, 0, 0)) {
			speculation[i] = chosen & ~PR_SPEC_PRCTL;
			m->n_speculation = 3;
		}
	}
	m->speculation = speculation;
	if (q->mce->result >= 0 && q->mce->result != PR_MCE_KILL_DEFAULT)
		m->mce_policy = 1 + q->mce->result;
	if (!q->has_policies || q->policy->result < 0)
		return 0;
	m->numa_mode = q->thread->mode;
	return set_nodes(a, q->thread->nodes, &m->numa_nodes);
}

static int ask_nodes(struct dump *d, struct dump_proc *p, St__Vma *v, struct error *e)
{
	struct thread_state_answers answer;
	uint64_t at = p->area + p->area_len - sizeof(answer),
		 args[6] = {at + offsetof(struct thread_state_answers, mode),
			 at + offsetof(struct thread_state_answers, nodes), STATE_NODES + 1, v->start,
			 MPOL_F_ADDR};
	int64_t result = 0;
	int r = task_syscall(&p->threads[0].task, p->syscall_insn, SYS_get_mempolicy, args, &result, e);

	if (r < 0)
		return r;
	if (result == 0)
		result = task_read_memory(p->shown, at, &answer, sizeof(answer));
	if (result == 0)
		result = set_nodes(&d->arena, answer.nodes, &v->numa_nodes);
	return result < 0 ? error_errno(e, result, "memory policy of pid %d", p->pid) : 0;
}

int state_answer_process(struct dump *d, struct dump_proc *p, const struct state_question *q, struct error *e)
{
	St__Memory *m = p->msg->memory;
	size_t n = 0;

	if (q->ldt && q->ldt->result > 0)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"cannot checkpoint: process %d: segments: it has a local descriptor table "
			"(modify_ldt), which is not "
			"recorded: end the program that uses it",
			p->ns_pid);
	p->msg->register_permissions = *q->permitted & ~cpu_usual_xfeatures();
	d->has_permissions |= p->msg->register_permissions != 0;
	m->mdwe = q->mdwe->result > 0 ? q->mdwe->result : 0;
	m->merge = q->merge->result > 0;
	m->membarrier = answer_barriers(q->barriers);
	for (int key = 1; q->keys && key <= STATE_KEYS; key++)
		m->pkeys |= q->keys[key - 1].result == -ENOMEM ? 1u << key : 0;
	/* What may only be executed has one from the kernel, here and after a restore. */
	for (size_t i = 0; i < m->n_vmas; i++)
		if (m->vmas[i]->prot == PROT_EXEC && !(m->pkeys & 1u << m->vmas[i]->pkey))
			m->vmas[i]->pkey = 0;
	for (size_t i = 0; i < m->n_vmas; i++) {
		St__Vma *v = m->vmas[i];
		int r = 0;

		if (!may_have_policy(v))
			continue;
		v->numa_mode = q->modes[n++];
		if (v->numa_mode != MPOL_DEFAULT)
			r = ask_nodes(d, p, v, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- what is seen from outside ---- */

void state_check(struct dump *d, struct dump_proc *p, const struct dump_thread *t)
{
	uint64_t cookie = 0;

	if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, t->tid, PR_SCHED_CORE_SCOPE_THREAD, &cookie) == 0 &&
		cookie)
		dump_refuse(d, p, -1, "scheduling", "core scheduling groups are not recorded",
			"run it without core scheduling", "thread %d with a cookie", t->ns_tid);
}

/* The prctl() that tells takes a capability of the machine. Who never had that has not got the state, either. */
static bool is_io_flusher(const struct dump_proc *p, const struct dump_thread *t)
{
	struct proc_stat own;

	if (t->tid == p->pid)
		return (p->stat.flags & IO_FLUSHER) == IO_FLUSHER;
	return (t->status.cap_bnd & 1ull << CAP_SYS_RESOURCE) &&
	       proc_read_task_stat(p->pid, t->tid, &own) == 0 && (own.flags & IO_FLUSHER) == IO_FLUSHER;
}

int state_collect_thread(struct dump *d, const struct dump_proc *p, const struct dump_thread *t)
{
	St__SyscallDispatch *m = NULL;

	t->msg->io_flusher = is_io_flusher(p, t);
	for (unsigned i = 0; i < d->journal->n_dispatched && !m; i++) {
		const struct dump_dispatched *of = &d->journal->dispatched[i];

		if (of->tid != t->tid)
			continue;
		m = t->msg->dispatch = pb_new(&d->arena, SyscallDispatch, syscall_dispatch);
		if (!m)
			return -ENOMEM;
		m->mode = of->dispatch.mode;
		m->selector = of->dispatch.selector;
		m->offset = of->dispatch.offset;
		m->len = of->dispatch.len;
	}
	return 0;
}

int state_set_dispatch(pid_t tid, const struct state_dispatch *dispatch)
{
	return ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG_OP, tid, sizeof(*dispatch), dispatch) < 0
		       ? -errno
		       : 0;
}

static int suspend_dispatch(struct dump_journal *j, pid_t tid, struct error *e)
{
	struct dump_dispatched *of = &j->dispatched[j->n_dispatched];
	int r;

	if (j->n_dispatched == DUMP_DISPATCHED_MAX)
		return error_set(e, -E2BIG, ERROR_REFUSED,
			"more than %d threads with syscall user dispatch: not supported",
			DUMP_DISPATCHED_MAX);
	of->tid = tid;
	if (ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG_OP, tid, sizeof(of->dispatch), &of->dispatch) <
			0 ||
		!of->dispatch.mode)
		return 0;
	j->n_dispatched++;
	r = state_set_dispatch(tid, &(struct state_dispatch){});
	return r < 0 ? error_errno(e, r, "syscall user dispatch of pid %d", tid) : 0;
}

int state_suspend_dispatches(struct dump *d, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = 0; k < d->procs[i].n_threads && r == 0; k++)
			r = suspend_dispatch(d->journal, d->procs[i].threads[k].tid, e);
	return r;
}

void state_resume_dispatches(struct dump_journal *j)
{
	for (unsigned i = 0; i < j->n_dispatched; i++)
		(void)!state_set_dispatch(j->dispatched[i].tid, &j->dispatched[i].dispatch);
	j->n_dispatched = 0;
}

/* ---- restore ---- */

static void get_nodes(const ProtobufCBinaryData *from, uint64_t to[STATE_NODES / 64])
{
	memset(to, 0, STATE_NODES / 8);
	if (from->len)
		memcpy(to, from->data, MIN(from->len, (size_t)STATE_NODES / 8));
}

void op_thread_states(struct batch *b, const St__Thread *t)
{
	struct thread_state_answers own = {};
	uint64_t nodes[STATE_NODES / 64];

	if (t->no_tsc)
		batch_call(b, 0, SYS_prctl, PR_SET_TSC, PR_TSC_SIGSEGV);
	if (t->no_cpuid)
		batch_call(b, 0, SYS_arch_prctl, ARCH_SET_CPUID_OP, 0);
	for (size_t i = 0; i < t->n_speculation && i < 3; i++)
		if (t->speculation[i])
			batch_call(b, 0, SYS_prctl, PR_SET_SPECULATION_CTRL, i, t->speculation[i], 0, 0);
	if (t->mce_policy)
		batch_call(b, 0, SYS_prctl, PR_MCE_KILL, PR_MCE_KILL_SET, t->mce_policy - 1, 0, 0);
	if (t->io_flusher)
		batch_call(b, 0, SYS_prctl, PR_SET_IO_FLUSHER_OP, 1, 0, 0, 0);
	/* That of the stub is linux.memoryPolicy of config.json, and the threads are forks of it. */
	get_nodes(&t->numa_nodes, nodes);
	if (syscall(SYS_get_mempolicy, &own.mode, own.nodes, STATE_NODES + 1, 0, 0) == 0 &&
		(own.mode != t->numa_mode || memcmp(own.nodes, nodes, sizeof(nodes)) != 0))
		batch_call(b, 0, SYS_set_mempolicy, t->numa_mode, batch_bytes(b, nodes, sizeof(nodes)),
			STATE_NODES + 1);
}

void op_policy(struct batch *b, const St__Vma *v)
{
	uint64_t mask[STATE_NODES / 64];

	if (v->numa_mode == MPOL_DEFAULT)
		return;
	get_nodes(&v->numa_nodes, mask);
	batch_call(b, 0, SYS_mbind, v->start, v->end - v->start, v->numa_mode,
		batch_bytes(b, mask, sizeof(mask)), STATE_NODES + 1, 0);
}

/* Keys that mappings have, whether or not they are allocated any more. */
static uint32_t used_keys(const St__Memory *m)
{
	uint32_t keys = 0;

	for (size_t i = 0; i < m->n_vmas; i++)
		keys |= m->vmas[i]->pkey ? 1u << m->vmas[i]->pkey : 0;
	return keys;
}

static void op_free_keys(struct batch *b, uint32_t keys)
{
	for (int key = 1; key <= STATE_KEYS; key++)
		if (keys & 1u << key)
			batch_call(b, 0, SYS_pkey_free, key);
}

/* The kernel gives the lowest one that is free. */
void op_keys(struct batch *b, const St__Memory *m)
{
	uint32_t wanted = m->pkeys | used_keys(m), others = 0;

	for (int key = 1; wanted >> key; key++) {
		batch_call(b, OP_EXPECT, SYS_pkey_alloc, 0, 0)->result = key;
		others |= wanted & 1u << key ? 0 : 1u << key;
	}
	op_free_keys(b, others);
}

void op_key(struct batch *b, const St__Vma *v)
{
	if (v->pkey)
		batch_call(b, 0, SYS_pkey_mprotect, v->start, v->end - v->start, v->prot, v->pkey);
}

void op_keys_end(struct batch *b, const St__Memory *m)
{
	op_free_keys(b, used_keys(m) & ~m->pkeys);
}

/* One for each call; before anything that might want it, as all threads of the process have it. */
void op_permissions(struct batch *b, const St__Process *p)
{
	for (unsigned i = 0; i < 64; i++)
		if (p->register_permissions & 1ull << i)
			batch_call(b, 0, SYS_arch_prctl, CPU_REQUEST_PERMISSION, i);
}

void op_process_states(struct batch *b, const St__Memory *m)
{
	if (m->thp_disable)
		batch_call(b, 0, SYS_prctl, PR_SET_THP_DISABLE, 1, m->thp_flags, 0, 0);
	if (m->merge)
		batch_call(b, 0, SYS_prctl, PR_SET_MEMORY_MERGE, 1, 0, 0, 0);
	for (uint32_t bit = 1; bit && bit <= m->membarrier; bit <<= 1)
		if (m->membarrier & bit)
			batch_call(b, 0, SYS_membarrier, bit, 0, 0);
	/* Last: from here on nothing can be made executable that has been writable. */
	if (m->mdwe)
		batch_call(b, 0, SYS_prctl, PR_SET_MDWE, m->mdwe, 0, 0, 0);
}
