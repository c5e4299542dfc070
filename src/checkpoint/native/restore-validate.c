/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a well-formed image may still say wrongly: ids that ascend, arrays of the right length, addresses in order,
 * references that lead somewhere. Checked once, before anything is made, so that later code can rely on it.
 */
#include "checkpoint/native/listeners.h"
#include "checkpoint/native/huge.h"
#include "checkpoint/native/ia32.h"
#include "checkpoint/native/restore.h"
#include "checkpoint/native/restore-nested.h"
#include "checkpoint/native/network.h"
#include "checkpoint/native/nftables.h"
#include "checkpoint/native/shared-pids.h"
#include "checkpoint/native/states.h"

#include "checkpoint/native/ttys.h"

#include <signal.h>
#include <net/if.h>
#include <string.h>
#include <sys/user.h>

#include "checkpoint/native/res/aio.h"
#include "checkpoint/native/res/dnotify.h"
#include "checkpoint/native/res/ipc.h"
#include "checkpoint/native/res/res.h"

#define TASK_SIZE_MAX_X86 0x7ffffffff000ull

static int corrupt(struct error *e, const char *what, int pid)
{
	return error_set(e, -EBADMSG, ERROR_CORRUPT, "checkpoint.img: process %d: %s", pid, what);
}

/* What is left of a timer: the kernel counts up to INT64_MAX nanoseconds. */
static bool bad_duration(const St__TimeSpec *t)
{
	return t && (t->sec < 0 || t->sec >= INT64_MAX / 1000000000 || t->nsec < 0 || t->nsec >= 1000000000);
}

static bool known_file(const struct restore *r, uint64_t id)
{
	return id == 0 || restore_file(r, id);
}

static bool bad_queue(St__QueuedSignal **queue, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		siginfo_t info;

		if (queue[i]->siginfo.len != sizeof(info))
			return true;
		memcpy(&info, queue[i]->siginfo.data, sizeof(info));
		if (info.si_signo < 1 || info.si_signo > 64)
			return true;
	}
	return false;
}

static int validate_memory(const struct restore *r, const St__Process *p, struct error *e)
{
	const St__Memory *m = p->memory;
	struct aio_ids rings = {};
	const char *wrong = NULL;
	uint64_t last = 0;

	if (!m)
		return corrupt(e, "no memory", p->pid);
	for (size_t i = 0; i < m->n_vmas; i++) {
		const St__Vma *v = m->vmas[i];
		bool known = !v->shm;

		if (v->start < last || v->end <= v->start || v->end > TASK_SIZE_MAX_X86 ||
			((v->start | v->end | v->offset) & 4095))
			return corrupt(e, "mappings are not in order", p->pid);
		for (size_t k = 0; k < r->n_shm && !known; k++)
			known = r->shm[k].msg->id == v->shm && !r->shm[k].msg->memfd &&
				v->offset <= r->shm[k].msg->size;
		if (v->pkey > STATE_KEYS)
			return corrupt(e, "a protection key is out of range", p->pid);
		if (!huge_is_valid(v))
			return corrupt(e, "a mapping of huge pages is malformed", p->pid);
		if (!known || !known_file(r, v->file) || (v->read_only && !v->shm))
			return corrupt(e, "a mapping refers to nothing", p->pid);
		if (v->aio)
			wrong = aio_wrong(p, v, &rings);
		if (wrong)
			return corrupt(e, wrong, p->pid);
		for (size_t k = 0; k < v->n_guards; k++)
			if (v->guards[k] < v->start || v->guards[k] > v->end || (v->guards[k] & 4095))
				return corrupt(e, "a guard region lies outside of its mapping", p->pid);
		last = v->end;
	}
	if (p->memory_with) {
		const St__Process *first = restore_process(r, p->memory_with);

		if (m->n_vmas || p->label[0] || p->n_namespaces || !first || first->state == 2 ||
			first->memory_with || !first->memory)
			return corrupt(e, "it shares a memory that is not there", p->pid);
	}
	if (!state_barriers_are_valid(m))
		return corrupt(e, "an unknown memory barrier", p->pid);
	if (m->pkeys >> (STATE_KEYS + 1))
		return corrupt(e, "a protection key is out of range", p->pid);
	return known_file(r, m->exe_file) ? 0 : corrupt(e, "its program is missing", p->pid);
}

static bool bad_descriptors(const struct restore *r, St__Descriptor *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((i > 0 && list[i]->fd <= list[i - 1]->fd) || !list[i]->file ||
			!known_file(r, list[i]->file) || list[i]->fd > 1 << 20)
			return true;
	return false;
}

static int validate_thread(
	const struct restore *r, const St__Process *p, const St__Thread *t, struct error *e)
{
	const St__Credentials *c = t->credentials;

	if (!known_file(r, t->cwd_file))
		return corrupt(e, "a thread's directory is missing", p->pid);
	if ((t->n_descriptors && !t->own_files) || (t->own_files && t == p->threads[0]) ||
		bad_descriptors(r, t->descriptors, t->n_descriptors))
		return corrupt(e, "a thread's descriptor table is malformed", p->pid);
	if (bad_duration(t->wait_left))
		return corrupt(e, "the time of a call is malformed", p->pid);
	if (t->ended && (t != p->threads[0] || p->n_threads == 1 || p == r->procs[0] || p->state != 0))
		return corrupt(e, "a thread that has ended is not a leader", p->pid);
	if (!t->ended && (t->gpr.len != sizeof(struct user_regs_struct) || t->xstate.len < 576 ||
				 t->xstate.len > 16384))
		return corrupt(e, "registers are missing", p->pid);
	if (t->tls.len != 0 && t->tls.len != IA32_TLS_BYTES)
		return corrupt(e, "thread-local segments are malformed", p->pid);
	if (t->tid <= 0)
		return corrupt(e, "a thread has no id", p->pid);
	if (!c || c->n_uid != 4 || c->n_gid != 4 || c->n_groups > 65536 || !t->comm ||
		t->affinity.len > 65536)
		return corrupt(e, "credentials are missing", p->pid);
	if (bad_queue(t->pending, t->n_pending))
		return corrupt(e, "a pending signal is malformed", p->pid);
	for (size_t i = 0; i < t->n_seccomp_filters; i++) {
		bool known = false;

		for (size_t k = 0; k < p->n_seccomp_filters; k++)
			known |= p->seccomp_filters[k]->id == t->seccomp_filters[i] &&
				 p->seccomp_filters[k]->instructions.len % 8 == 0;
		if (!known)
			return corrupt(e, "a seccomp filter is missing", p->pid);
	}
	return 0;
}

/* Where the kernel does not give a timer the id that we want, ids are counted up to, in order. */
static int validate_timers(const St__Process *p, struct error *e)
{
	enum { COUNTED_TO = 4096 };

	for (size_t i = 0; i < p->n_itimers; i++)
		if (bad_duration(p->itimers[i]->value) || bad_duration(p->itimers[i]->interval))
			return corrupt(e, "a timer is malformed", p->pid);
	for (size_t i = 0; i < p->n_posix_timers; i++) {
		if (p->posix_timers[i]->id < 0 || bad_duration(p->posix_timers[i]->value) ||
			bad_duration(p->posix_timers[i]->interval) || !p->posix_timers[i]->value)
			return corrupt(e, "a timer is malformed", p->pid);
		if (!restore_kernel_gives_timer_ids() &&
			(p->posix_timers[i]->id > COUNTED_TO ||
				(i > 0 && p->posix_timers[i]->id >= p->posix_timers[i - 1]->id)))
			return error_set(e, -EOPNOTSUPP, ERROR_KERNEL,
				"process %d has a POSIX timer with the id %d: only Linux 6.15 and newer can "
				"give it "
				"again (others up to %d)",
				p->pid, p->posix_timers[i]->id, COUNTED_TO);
	}
	return 0;
}

/* That with whom it shares is before it the planning of the tree finds. */
static bool shares_properly(const struct restore *r, const St__Process *p)
{
	const St__Process *files = restore_process(r, p->files_with), *fs = restore_process(r, p->fs_with);

	if (p->files_with && (!files || files->state == 2 || files->files_with || p->n_descriptors ||
				     p->n_locks || p->label[0] || p->n_namespaces))
		return false;
	return !p->fs_with || (fs && fs->state != 2 && !fs->fs_with && !p->n_namespaces);
}

static int validate_process(const struct restore *r, const St__Process *p, struct error *e)
{
	int result;

	if (p->pid <= 0 || p->state > 2 || !process_exit_signal_is_kept(p->exit_signal))
		return corrupt(e, "malformed", p->pid);
	if (p->state == 2)
		return p->memory_with ? corrupt(e, "it has ended, and shares a memory", p->pid) : 0;
	if (p->n_threads == 0 || p->threads[0]->tid != p->pid)
		return corrupt(e, "threads are missing", p->pid);
	for (size_t i = 0; i < p->n_threads; i++) {
		result = validate_thread(r, p, p->threads[i], e);
		if (result < 0)
			return result;
	}
	if (!shares_properly(r, p))
		return corrupt(e, "what it shares makes no sense", p->pid);
	if (bad_descriptors(r, p->descriptors, p->n_descriptors))
		return corrupt(e, "a descriptor refers to nothing", p->pid);
	for (size_t i = 0; i < p->n_descriptors; i++)
		if (!dnotify_is_valid(p->descriptors[i]))
			return corrupt(e, "what a directory is watched for is malformed", p->pid);
	for (size_t i = 0; i < p->n_mq_notify; i++)
		if (!mqueue_notify_is_valid(p->mq_notify[i]))
			return corrupt(e, "who is to be told of messages is malformed", p->pid);
	for (size_t i = 0; i < p->n_locks; i++)
		if (!restore_lock_is_valid(p, p->locks[i]))
			return corrupt(e, "a file lock is malformed", p->pid);
	if (!known_file(r, p->cwd_file) || !known_file(r, p->root_file) ||
		bad_queue(p->pending, p->n_pending))
		return corrupt(e, "a reference leads nowhere", p->pid);
	result = validate_timers(p, e);
	return result < 0 ? result : validate_memory(r, p, e);
}

static bool inotify_is_valid(const struct restore *r, const St__Inotify *m)
{
	int last = 0;

	for (size_t i = 0; i < m->n_watches; i++) {
		const St__InotifyWatch *w = m->watches[i];

		if (w->wd <= last || !known_file(r, w->file) || (!w->file && w->path[0] != '/'))
			return false;
		last = w->wd;
	}
	return true;
}

enum { PRIORITIES = 32768 }; /* MQ_PRIO_MAX of the kernel */

static bool bad_posix_queue(const St__PosixQueue *q)
{
	if (!q || !*q->name || strchr(q->name, '/') || strlen(q->name) > 255 || q->max_messages <= 0 ||
		q->message_size <= 0 || q->max_messages > 1 << 20 || q->message_size > 1 << 26 ||
		q->n_messages > (size_t)q->max_messages)
		return true;
	for (size_t i = 0; i < q->n_messages; i++)
		if (q->messages[i]->priority >= PRIORITIES ||
			q->messages[i]->data.len > (size_t)q->message_size)
			return true;
	return false;
}

/* Of ipc objects; 0: the container's. */
static bool bad_namespace(const struct restore *r, uint64_t ns)
{
	return ns && !restore_is_ipc_namespace(r, ns);
}

static bool fanotify_is_valid(const struct restore *r, const St__Fanotify *m)
{
	for (size_t i = 0; i < m->n_marks; i++) {
		const St__FanotifyMark *k = m->marks[i];

		if (k->kind < 0 || k->kind > 2 || !known_file(r, k->file) ||
			(!k->file && k->path[0] != '/') || (k->file && k->kind != 0))
			return false;
	}
	return true;
}

/* The part of each kind of file that the kind's code takes for granted. */
static bool file_is_complete(const struct restore *r, const St__File *f)
{
	switch (f->kind_case) {
	case ST__FILE__KIND_REGULAR:
		if (f->regular->process && !f->regular->process_gone &&
			!restore_process(r, f->regular->process))
			return false;
		return f->regular->path && f->regular->path[0] == '/';
	case ST__FILE__KIND_PIPE:
		return f->pipe->pipe != 0;
	case ST__FILE__KIND_TIMERFD:
		return !bad_duration(f->timerfd->value) && !bad_duration(f->timerfd->interval);
	case ST__FILE__KIND_PIDFD:
		return f->pidfd->pid ? restore_process(r, f->pidfd->pid) != NULL : f->pidfd->gone > 0;
	case ST__FILE__KIND_INOTIFY:
		return inotify_is_valid(r, f->inotify);
	case ST__FILE__KIND_FANOTIFY:
		return fanotify_is_valid(r, f->fanotify);
	case ST__FILE__KIND_NS:
		return f->ns->name != NULL;
	case ST__FILE__KIND_TUN:
		return f->tun->path[0] == '/' && strlen(f->tun->link) < IFNAMSIZ;
	case ST__FILE__KIND_SECCOMP_LISTENER:
		return f->seccomp_listener->flags <= 1; /* SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP */
	case ST__FILE__KIND_BPF_MAP:
		return bpf_map_is_valid(r, f);
	case ST__FILE__KIND_MQUEUE:
		return !bad_posix_queue(f->mqueue->queue) && !bad_namespace(r, f->mqueue->ipc_namespace);
	case ST__FILE__KIND_MEMFD:
		return f->memfd->name != NULL;
	default:
		return f->kind_case != ST__FILE__KIND__NOT_SET;
	}
}

/* Sizes are added up and become addresses: all together they must fit the address space. */
static int validate_shm(const struct restore *r, struct error *e)
{
	uint64_t total = 0;

	for (size_t i = 0; i < r->n_shm; i++) {
		const St__SharedMemory *s = r->shm[i].msg;

		total += MIN(s->size, TASK_SIZE_MAX_X86) + 4096;
		total += s->sysv ? MIN(s->size, TASK_SIZE_MAX_X86) : 0; /* it is attached twice */
		total += huge_shm_is_valid(s) ? 2 * huge_page_size(s) : 0;
		if (s->id == 0 || !huge_shm_is_valid(s) || (s->elsewhere && !s->memfd && !s->sysv) ||
			(s->sysv && (s->memfd || s->size == 0)) || s->size > TASK_SIZE_MAX_X86 ||
			(!s->memfd && total > TASK_SIZE_MAX_X86))
			return error_set(e, -EBADMSG, ERROR_CORRUPT,
				"checkpoint.img: shared memory %llu of %llu bytes", (unsigned long long)s->id,
				(unsigned long long)s->size);
	}
	return 0;
}

/* Within 272 years, so that it may be counted in nanoseconds. */
static bool bad_time(const St__TimeSpec *t)
{
	return t && (t->sec < 0 || t->sec > 1ll << 33 || t->nsec < 0 || t->nsec >= 1000000000);
}

static bool bad_object(const St__SysvObject *o)
{
	return !o || o->id < 0 || o->uid == UINT32_MAX || o->gid == UINT32_MAX || o->cuid == UINT32_MAX ||
	       o->cgid == UINT32_MAX;
}

static bool bad_ipc(const St__Ipc *m)
{
	const St__SysvSemaphores *s = m->semaphores;
	const St__SysvQueue *q = m->queue;
	bool bad = (s && (bad_object(s->object) || s->n_values == 0 || s->n_values > 65535)) ||
		   (q && bad_object(q->object)) || (m->posix && bad_posix_queue(m->posix));

	for (size_t i = 0; s && i < s->n_values; i++)
		bad |= s->values[i] > 32767;
	for (size_t i = 0; q && i < q->n_messages; i++)
		bad |= q->messages[i]->type <= 0;
	for (size_t i = 0; i < m->n_sysctls; i++)
		bad |= !ipc_sysctl_is_valid(m->sysctls[i]);
	return bad;
}

static bool bad_undo(const struct restore *r, const St__Process *p, const St__SemUndo *u)
{
	uint64_t ns = ipc_namespace_of(r, p);

	if (u->adjustment == 0 || u->adjustment > 32767 || u->adjustment < -32768)
		return true;
	for (size_t i = 0; i < r->n_ipc; i++) {
		const St__SysvSemaphores *s = r->ipc[i]->semaphores;

		if (s && r->ipc[i]->ipc_namespace == ns && s->object->id == u->set && u->number < s->n_values)
			return false;
	}
	/* The set may be in the image of the container that owns the namespace. */
	return ns || !r->container->ipc || r->container->ipc->owner;
}

static int validate_ipc(const struct restore *r, struct error *e)
{
	for (size_t i = 0; i < r->n_shm; i++)
		if ((r->shm[i].msg->sysv && bad_object(r->shm[i].msg->sysv)) ||
			bad_namespace(r, r->shm[i].msg->ipc_namespace) ||
			(r->shm[i].msg->ipc_namespace && (!r->shm[i].msg->sysv || r->shm[i].msg->elsewhere)))
			return error_set(e, -EBADMSG, ERROR_CORRUPT,
				"checkpoint.img: a System V segment is malformed");
	for (size_t i = 0; i < r->n_ipc; i++)
		if (bad_ipc(r->ipc[i]) || bad_namespace(r, r->ipc[i]->ipc_namespace))
			return error_set(
				e, -EBADMSG, ERROR_CORRUPT, "checkpoint.img: a System V object is malformed");
	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; k < r->procs[i]->n_sem_undos; k++)
			if (bad_undo(r, r->procs[i], r->procs[i]->sem_undos[k]))
				return corrupt(
					e, "SEM_UNDO of a semaphore that does not exist", r->procs[i]->pid);
	return 0;
}

int restore_validate(const struct restore *r, struct error *e)
{
	uint64_t last = 0;
	int result = validate_shm(r, e);

	if (result == 0)
		result = validate_ipc(r, e);

	if (result < 0)
		return result;
	if (!r->container->monotonic || !r->container->boottime || !r->container->realtime ||
		bad_time(r->container->monotonic) || bad_time(r->container->boottime) ||
		bad_time(r->container->realtime))
		return error_set(
			e, -EBADMSG, ERROR_CORRUPT, "checkpoint.img: the container's clocks are malformed");

	if (r->net.network && network_wrong(r->net.network))
		return error_set(
			e, -EBADMSG, ERROR_CORRUPT, "checkpoint.img: %s", network_wrong(r->net.network));
	for (size_t i = 0; i < r->net.n_tables; i++)
		if (nftables_wrong(r->net.tables[i]))
			return error_set(e, -EBADMSG, ERROR_CORRUPT, "checkpoint.img: %s",
				nftables_wrong(r->net.tables[i]));
	for (size_t i = 0; i < r->n_files; i++) {
		if (r->files[i]->id <= last || !file_is_complete(r, r->files[i]))
			return error_set(e, -EBADMSG, ERROR_CORRUPT, "checkpoint.img: file %llu is malformed",
				(unsigned long long)r->files[i]->id);
		last = r->files[i]->id;
	}
	if (restore_joins_pids(r) && restore_process(r, SHARED_PIDS_REAPER))
		return corrupt(e, "it is the first of a pid namespace that another container has begun",
			SHARED_PIDS_REAPER);
	result = restore_validate_mounts(r, e);
	if (result == 0)
		result = restore_validate_cgroups(r, e);
	for (size_t i = 0; i < r->n_procs && result == 0; i++)
		result = validate_process(r, r->procs[i], e);
	if (result == 0)
		result = listeners_validate(r, e);
	if (result == 0)
		result = restore_validate_ttys(r, e);
	if (result == 0 && (r->procs[0]->ppid != 0 || r->procs[0]->state == 2))
		result = corrupt(e, "the first process is not init", r->procs[0]->pid);
	return result;
}
