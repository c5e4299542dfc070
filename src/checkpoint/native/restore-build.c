/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last thing a stub does in C: it writes down, as one list of system calls, how its memory goes away and the
 * process's own comes into being, with threads, handlers, timers and credentials, and jumps into the loop that executes
 * it. Threads run lists of their own. All end parked, for the parent to set their registers.
 */
#include "checkpoint/native/restore.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "checkpoint/native/filters.h"
#include "checkpoint/native/huge.h"
#include "checkpoint/native/restore-home.h"
#include "checkpoint/native/restore-lazy.h"
#include "checkpoint/native/ia32.h"
#include "checkpoint/native/restore-outside.h"
#include "checkpoint/native/restore-share.h"
#include "checkpoint/native/restore-thp.h"
#include "checkpoint/native/restore-nested.h"
#include "checkpoint/native/restore-time.h"
#include "checkpoint/native/res/aio.h"
#include "checkpoint/native/res/dnotify.h"
#include "checkpoint/native/res/ipc.h"
#include "checkpoint/native/sched-attr.h"
#include "checkpoint/native/states.h"
#include "checkpoint/native/timens.h"
#include "checkpoint/native/tree.h"
#include "linux/procfs.h"

#define TASK_SIZE_MAX_X86 0x7ffffffff000ull
#define ARCH_MAP_VDSO_32_OP 0x2002
#define ARCH_MAP_VDSO_64_OP 0x2003
#define PR_TIMER_CREATE_RESTORE_IDS_OP 77
#define MSEAL_NR 462
#define MADV_GUARD_INSTALL_OP 102
enum { PAGE = 4096, CAPS = 41 };
#define RUN_BYTES (1ull << 30)
enum { POPULATE_MIN = 8 * PAGE, POPULATE_MAX = 256 * PAGE };

struct builder {
	struct restore *r;
	const St__Process *p;
	size_t index; /* of p */
	struct batch b;
	uint64_t all_caps;	       /* what this stub has */
	int label_fd;		       /* -EBADF: it keeps the label that it has */
	struct restore_stretch *lacks; /* pages that the parent fills */
	size_t n_lacks;
	uint64_t *programs; /* of seccomp filters, see filters_load() */
	size_t filtered;    /* the op from which on those of the thread that was built last are in force */
	struct error *e;
};

static bool is_ia32(const struct builder *bu)
{
	const St__Process *p = bu->p->memory_with ? restore_process(bu->r, bu->p->memory_with) : bu->p;

	return p->memory->ia32;
}

/* ---- memory ---- */

static bool private_pages(const St__Vma *v)
{
	return !v->special && !v->shm && (v->flags & MAP_PRIVATE);
}

static bool has_pages(const struct restore *r, const St__Memory *m, const St__Vma *v)
{
	const struct image_run *runs;
	size_t lo = 0, n, hi;

	if (!private_pages(v))
		return false;
	runs = image_runs(r->image, m->space, &n);
	hi = n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (runs[mid].address + runs[mid].n_pages * PAGE <= v->start)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < n && runs[lo].address < v->end;
}

/* restore-validate.c has found it. */
static const struct restore_shm *find_shm(const struct restore *r, uint64_t id)
{
	size_t i = 0;

	while (i + 1 < r->n_shm && r->shm[i].msg->id != id)
		i++;
	return &r->shm[i];
}

static void op_map(struct builder *bu, const St__Vma *v, bool fill)
{
	struct batch *b = &bu->b;
	unsigned prot = v->prot | (fill ? PROT_WRITE : 0);
	uint64_t len = v->end - v->start;

	if (v->special) {
		batch_call(b, 0, SYS_arch_prctl,
			bu->p->memory->ia32 ? ARCH_MAP_VDSO_32_OP : ARCH_MAP_VDSO_64_OP, v->start);
		return;
	}
	if (v->aio) {
		op_aio_place(b, v);
		return;
	}
	if (v->shm) {
		const struct restore_shm *s = find_shm(bu->r, v->shm);
		uint64_t from = v->read_only ? s->read_only : s->address;

		if (s->msg->huge_shift) {
			op_map_huge(b, s, v);
			return;
		}
		/* An old size of 0 makes another mapping of the same shared pages (mremap(2)). */
		batch_call(b, OP_EXPECT, SYS_mremap, from + v->offset, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED,
			v->start)
			->result = v->start;
		if (v->prot != (v->read_only ? PROT_READ : PROT_READ | PROT_WRITE))
			batch_call(b, 0, SYS_mprotect, v->start, len, v->prot);
		return;
	}
	batch_call(b, OP_EXPECT, SYS_mmap, v->start, len, prot, v->flags | MAP_FIXED,
		v->file ? restore_fd(bu->r, v->file) : -1, v->offset)
		->result = v->start;
}

/* Pages that are there are read into 20% faster than those that come by a fault each, if the cache can hold them. */
static void op_read(struct builder *bu, int fd, uint64_t address, uint64_t len, uint64_t offset)
{
	if (len >= POPULATE_MIN && len <= POPULATE_MAX)
		batch_call(&bu->b, OP_MAY_FAIL, SYS_madvise, address, len, MADV_POPULATE_WRITE);
	while (len > 0) {
		uint64_t n = MIN(len, RUN_BYTES);

		batch_call(&bu->b, OP_EXPECT, SYS_pread64, fd, address, n, offset)->result = n;
		address += n;
		offset += n;
		len -= n;
	}
}

/* The same of an image that is arriving: first each piece waits until it is there. What has been read is given back, unless
 * somebody else may want it, so that memory is not needed twice. */
static void op_read_arriving(struct builder *bu, uint64_t address, uint64_t len, uint64_t offset, bool once)
{
	int fd = image_feed_pages_fd(bu->r->image);

	while (len > 0) {
		uint64_t n = MIN(len, (uint64_t)RESTORE_FEED_BYTES),
			 flag = (offset + n - 1) / IMAGE_FEED_UNIT * sizeof(uint32_t);

		batch_call(&bu->b, OP_WAIT, SYS_futex, bu->r->feed_flags + flag, FUTEX_WAIT, 0, 0);
		batch_call(&bu->b, OP_EXPECT, SYS_pread64, fd, address, n, offset)->result = n;
		if (once)
			batch_call(&bu->b, OP_MAY_FAIL, SYS_fallocate, fd,
				FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, n);
		address += n;
		offset += n;
		len -= n;
	}
}

static void op_fill(
	void *arg, enum restore_fill what, uint64_t start, uint64_t end, unsigned layer, uint64_t offset)
{
	struct builder *bu = arg;

	if (what == FILL_FORGET)
		batch_call(&bu->b, 0, SYS_madvise, start, end - start, MADV_DONTNEED);
	else if (what == FILL_READ && bu->r->feed_flags)
		op_read_arriving(bu, start, end - start, offset, bu->r->reads_once);
	else if (what == FILL_ZERO || image_pages_fd(bu->r->image, layer) >= 0)
		op_read(bu, what == FILL_ZERO ? bu->r->zero_fd : image_pages_fd(bu->r->image, layer), start,
			end - start, offset);
}

static void op_advise(struct builder *bu, const St__Vma *v)
{
	static const struct {
		uint32_t flag;
		int advice;
	} advices[] = {
		{VMA_SR, MADV_SEQUENTIAL},
		{VMA_RR, MADV_RANDOM},
		{VMA_DC, MADV_DONTFORK},
		{VMA_DD, MADV_DONTDUMP},
		{VMA_WF, MADV_WIPEONFORK},
		{VMA_HG, MADV_HUGEPAGE},
		{VMA_NH, MADV_NOHUGEPAGE},
		{VMA_MG, MADV_MERGEABLE},
	};
	uint64_t len = v->end - v->start;

	for (size_t i = 0; i < ARRAY_SIZE(advices); i++)
		if (v->advice & advices[i].flag)
			batch_call(&bu->b, 0, SYS_madvise, v->start, len, advices[i].advice);
	if (v->advice & VMA_LO)
		batch_call(&bu->b, 0, SYS_mlock2, v->start, len, v->advice & VMA_LF ? 1 : 0);
	if (v->name && *v->name)
		batch_call(&bu->b, OP_MAY_FAIL, SYS_prctl, 0x53564d41 /* PR_SET_VMA */, 0, v->start, len,
			batch_bytes(&bu->b, v->name, strlen(v->name) + 1));
}

/* Everything goes but the area and what has been inherited. */
static void op_unmap(struct builder *bu)
{
	const struct restore *r = bu->r;
	const St__Memory *m = bu->p->memory;
	uint64_t from = 0, area_end = r->area + r->area_len;
	bool passed = false;

	for (size_t i = 0; i <= m->n_vmas; i++) {
		const St__Vma *v = i < m->n_vmas ? m->vmas[i] : NULL;

		if (v && !restore_share_is_kept(r, bu->index, i))
			continue;
		if (!passed && (!v || v->start >= area_end)) {
			if (r->area > from)
				batch_call(&bu->b, 0, SYS_munmap, from, r->area - from);
			from = area_end;
			passed = true;
		}
		if ((v ? v->start : TASK_SIZE_MAX_X86) > from)
			batch_call(&bu->b, 0, SYS_munmap, from, (v ? v->start : TASK_SIZE_MAX_X86) - from);
		from = v ? v->end : from;
	}
}

/* What of a lazy mapping has to be there before it can be one. */
static void op_islands(struct builder *bu, const St__Vma *v)
{
	uint64_t from = 0, to;

	for (; restore_lazy_island(bu->p, v, &from, &to); from = to) {
		struct restore_piece piece;

		for (uint64_t at = from;
			restore_next_piece(bu->r->image, bu->p->memory->space, &at, to, &piece);)
			if (!piece.zero && bu->r->feed_flags)
				op_read_arriving(
					bu, piece.start, piece.end - piece.start, piece.offset, false);
			else if (!piece.zero && !restore_is_outside(bu->r, piece.layer))
				op_read(bu, image_pages_fd(bu->r->image, piece.layer), piece.start,
					piece.end - piece.start, piece.offset);
	}
}

static int op_contents(struct builder *bu, size_t i)
{
	const St__Vma *v = bu->p->memory->vmas[i];
	bool kept = restore_share_is_kept(bu->r, bu->index, i);

	if (!has_pages(bu->r, bu->p->memory, v))
		return 0;
	if (restore_is_lazy(bu->r, bu->index, i))
		op_islands(bu, v);
	else if (restore_share_fill(bu->r, bu->index, i, kept, op_fill, bu) < 0)
		return error_errno(bu->e, -ENOMEM, "restore memory");
	if (kept ? v->prot != (PROT_READ | PROT_WRITE) : !(v->prot & PROT_WRITE))
		batch_call(&bu->b, 0, SYS_mprotect, v->start, v->end - v->start, v->prot);
	return 0;
}

static void op_wait(struct builder *bu, uint32_t *word)
{
	batch_call(&bu->b, OP_WAIT, SYS_futex, word, FUTEX_WAIT, 0, 0);
}

/* Adds one to a word in the area, and wakes who waits for it. */
static void op_tell(struct builder *bu, uint32_t *word)
{
	uint32_t op = (uint32_t)FUTEX_OP_ADD << 28 | (uint32_t)FUTEX_OP_CMP_GE << 24 | 1u << 12;

	batch_call(
		&bu->b, OP_MAY_FAIL, SYS_futex, &bu->r->control->park, FUTEX_WAKE_OP, 0, INT32_MAX, word, op);
}

/* Until they need nothing of its table any more that is not theirs. */
static void op_wait_for_sharers(struct builder *bu)
{
	for (size_t i = 0; i < bu->r->n_procs; i++)
		if (bu->r->procs[i]->files_with == bu->p->pid)
			op_wait(bu, &bu->r->sharers[i].done);
}

/* One more, or only their number while there is no room. */
static void add_lack(
	void *arg, enum restore_fill what, uint64_t start, uint64_t end, unsigned layer, uint64_t offset)
{
	struct builder *bu = arg;

	if (what != FILL_READ || !restore_is_outside(bu->r, layer))
		return;
	if (bu->lacks)
		bu->lacks[bu->n_lacks] = (struct restore_stretch){start, end - start, offset, layer};
	bu->n_lacks++;
}

static void lack_islands(struct builder *bu, const St__Vma *v)
{
	uint64_t from = 0, to;

	for (; restore_lazy_island(bu->p, v, &from, &to); from = to) {
		struct restore_piece piece;

		for (uint64_t at = from;
			restore_next_piece(bu->r->image, bu->p->memory->space, &at, to, &piece);)
			if (!piece.zero)
				add_lack(bu, FILL_READ, piece.start, piece.end, piece.layer, piece.offset);
	}
}

static int find_lacks(struct builder *bu)
{
	const St__Memory *m = bu->p->memory;

	bu->n_lacks = 0;
	for (size_t i = 0; i < m->n_vmas; i++)
		if (restore_is_lazy(bu->r, bu->index, i))
			lack_islands(bu, m->vmas[i]);
		else if (has_pages(bu->r, m, m->vmas[i]) &&
			 restore_share_fill(bu->r, bu->index, i, restore_share_is_kept(bu->r, bu->index, i),
				 add_lack, bu) < 0)
			return error_errno(bu->e, -ENOMEM, "restore memory");
	return 0;
}

/* What it cannot read it tells its parent, and waits until that is there. */
static int op_outside(struct builder *bu)
{
	struct restore_lack *lack = &bu->r->outside[bu->index];
	char pid[32] = "";
	int result = find_lacks(bu);

	if (result == 0 && readlinkat(bu->r->proc_fd, "self", pid, sizeof(pid) - 1) < 0)
		result = error_errno(bu->e, -errno, "own pid");
	if (result < 0)
		return result;
	bu->lacks = batch_data(&bu->b, bu->n_lacks * sizeof(*bu->lacks), &lack->address);
	if (bu->lacks)
		result = find_lacks(bu);
	lack->n = bu->n_lacks;
	lack->pid = (pid_t)strtol(pid, NULL, 10);
	op_tell(bu, &bu->r->control->n_mapped);
	op_wait(bu, &bu->r->control->filled);
	return result;
}

static int op_memory(struct builder *bu)
{
	const St__Memory *m = bu->p->memory;
	int result = 0;

	op_unmap(bu);
	op_keys(&bu->b, m);
	for (size_t i = 0; i < m->n_vmas; i++)
		if (!restore_share_is_kept(bu->r, bu->index, i))
			op_map(bu, m->vmas[i], has_pages(bu->r, m, m->vmas[i]));
	op_aio_rings(&bu->b, bu->r, bu->p);
	for (size_t i = 0; i < m->n_vmas && result == 0; i++) {
		op_policy(&bu->b, m->vmas[i]);
		result = restore_thp_ops(bu->r, &bu->b, bu->index, i);
	}
	if (result < 0)
		return error_errno(bu->e, result, "restore memory");
	if (bu->r->fills_outside)
		result = op_outside(bu);
	for (size_t i = 0; i < m->n_vmas && result == 0; i++) {
		result = op_contents(bu, i);
		op_advise(bu, m->vmas[i]);
		op_key(&bu->b, m->vmas[i]);
	}
	op_keys_end(&bu->b, m);
	return result;
}

/* The user namespace of the process; NULL: the stub lives there. */
static const struct restore_nested *yet_to_enter(const struct builder *bu)
{
	const struct restore_nested *user = restore_namespace_of(bu->r, bu->p, CLONE_NEWUSER);

	return user && user->msg->id != bu->r->here ? user : NULL;
}

/* All that was not its own, but what it needs to the end: the user namespace that it is to enter, and its label. Of a table
 * that is shared the first one does it, when nobody needs anything any more. */
static void op_close_files(struct builder *bu)
{
	const struct restore_nested *user = yet_to_enter(bu);
	int a = user ? user->fd : -1, kept[2] = {MIN(a, bu->label_fd), MAX(a, bu->label_fd)};
	unsigned from = bu->r->fd_base;

	if (bu->p->files_with) {
		op_tell(bu, &bu->r->sharers[bu->index].done);
		return;
	}
	op_wait_for_sharers(bu);
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		if (kept[i] < (int)from)
			continue;
		if (kept[i] > (int)from)
			batch_call(&bu->b, 0, SYS_close_range, from, kept[i] - 1, 0);
		from = kept[i] + 1;
	}
	batch_call(&bu->b, 0, SYS_close_range, from, ~0u, 0);
}

static void op_mm(struct builder *bu)
{
	const St__Memory *m = bu->p->memory;
	struct prctl_mm_map map = {
		.start_code = m->start_code,
		.end_code = m->end_code,
		.start_data = m->start_data,
		.end_data = m->end_data,
		.start_brk = m->start_brk,
		.brk = m->brk,
		.start_stack = m->start_stack,
		.arg_start = m->arg_start,
		.arg_end = m->arg_end,
		.env_start = m->env_start,
		.env_end = m->env_end,
		.auxv_size = m->auxv.len,
		.exe_fd = m->exe_file ? restore_fd(bu->r, m->exe_file) : -1,
	};

	map.auxv = (void *)batch_bytes(&bu->b, m->auxv.data, m->auxv.len);
	batch_call(&bu->b, 0, SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, batch_bytes(&bu->b, &map, sizeof(map)),
		sizeof(map));
	for (size_t i = 0; i < m->n_vmas; i++) {
		const St__Vma *v = m->vmas[i];

		for (size_t k = 0; k + 1 < v->n_guards; k += 2)
			batch_call(&bu->b, 0, SYS_madvise, v->guards[k], v->guards[k + 1] - v->guards[k],
				MADV_GUARD_INSTALL_OP);
		if (v->advice & VMA_SL)
			batch_call(&bu->b, 0, MSEAL_NR, v->start, v->end - v->start, 0);
	}
	if (m->lock_future)
		batch_call(&bu->b, 0, SYS_mlockall, m->lock_future);
	op_process_states(&bu->b, m);
}

/* ---- the process ---- */

static void op_limits(struct builder *bu)
{
	for (size_t i = 0; i < bu->p->n_rlimits && i < PROC_LIMITS; i++) {
		uint64_t value[2] = {bu->p->rlimits[i]->soft, bu->p->rlimits[i]->hard};
		struct rlimit now;

		if (getrlimit(i, &now) == 0 && now.rlim_cur == value[0] && now.rlim_max == value[1])
			continue;
		batch_call(&bu->b, 0, SYS_prlimit64, 0, i, batch_bytes(&bu->b, value, sizeof(value)), 0);
	}
}

/* By a call of i386, which is how the kernel knows what frames a handler takes. */
static void op_ia32_action(struct builder *bu, const St__SigAction *a)
{
	uint32_t value[5] = {(uint32_t)a->handler, (uint32_t)a->flags, (uint32_t)a->restorer,
		(uint32_t)a->mask, (uint32_t)(a->mask >> 32)};

	batch_call(&bu->b, OP_IA32, IA32_rt_sigaction, a->signal, batch_bytes(&bu->b, value, sizeof(value)),
		0, 8);
}

static void op_actions(struct builder *bu)
{
	for (size_t i = 0; i < bu->p->n_actions && is_ia32(bu); i++)
		op_ia32_action(bu, bu->p->actions[i]);
	if (is_ia32(bu))
		return;
	for (size_t i = 0; i < bu->p->n_actions; i++) {
		const St__SigAction *a = bu->p->actions[i];
		uint64_t value[4] = {a->handler, a->flags, a->restorer, a->mask};

		batch_call(&bu->b, 0, SYS_rt_sigaction, a->signal, batch_bytes(&bu->b, value, sizeof(value)),
			0, 8);
	}
}

static struct timeval to_timeval(const St__TimeSpec *t)
{
	return t ? (struct timeval){t->sec, t->nsec / 1000} : (struct timeval){};
}

static struct timespec to_timespec(const St__TimeSpec *t)
{
	return t ? (struct timespec){t->sec, t->nsec} : (struct timespec){};
}

/* setitimer() of the CPU clocks adds a tick to what it is given, so that it never fires early. */
static struct timeval without_tick(struct timeval v)
{
	struct timespec tick;
	int64_t us = v.tv_sec * 1000000 + v.tv_usec;

	clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	if (us > tick.tv_nsec / 1000)
		us -= tick.tv_nsec / 1000;
	return (struct timeval){us / 1000000, us % 1000000};
}

/* Since Linux 6.15. Before, a process counts the timers that it makes, from 0 on. */
bool restore_kernel_gives_timer_ids(void)
{
	return prctl(PR_TIMER_CREATE_RESTORE_IDS_OP, 2 /* get */, 0, 0, 0) >= 0;
}

size_t restore_skipped_timer_ids(const St__Process *p)
{
	/* the newest is the first */
	return p->n_posix_timers && !restore_kernel_gives_timer_ids()
		       ? (size_t)p->posix_timers[0]->id + 1 - p->n_posix_timers
		       : 0;
}

/* Uses up the ids from *next on to that before id. */
static void op_skip_timer_ids(struct builder *bu, int *next, int id)
{
	struct sigevent none = {.sigev_notify = SIGEV_NONE};
	uint64_t event = 0, made = 0;

	if (*next < id) {
		event = batch_bytes(&bu->b, &none, sizeof(none));
		(void)!batch_data(&bu->b, sizeof(int), &made);
	}
	for (; *next < id; ++*next) {
		batch_call(&bu->b, 0, SYS_timer_create, CLOCK_MONOTONIC, event, made);
		batch_call(&bu->b, 0, SYS_timer_delete, *next);
	}
	*next = id + 1;
}

static int timer_target(const St__Process *p, int tid)
{
	for (size_t i = 0; i < p->n_threads; i++)
		if (p->threads[i]->tid == tid)
			return restore_own_tid(p->threads[i]);
	return tid;
}

static void op_timers(struct builder *bu)
{
	const St__Process *p = bu->p;
	int next = 0;

	/* ITIMER_REAL comes later: restore-time.c. */
	for (size_t i = 1; i < p->n_itimers && i < 3; i++) {
		struct itimerval v = {to_timeval(p->itimers[i]->interval), to_timeval(p->itimers[i]->value)};

		v.it_value = without_tick(v.it_value);
		if (v.it_value.tv_sec || v.it_value.tv_usec)
			batch_call(&bu->b, 0, SYS_setitimer, i, batch_bytes(&bu->b, &v, sizeof(v)), 0);
	}
	if (p->n_posix_timers && restore_kernel_gives_timer_ids())
		batch_call(&bu->b, 0, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS_OP, 1);
	/* /proc lists the newest first. */
	for (size_t i = p->n_posix_timers; i-- > 0;) {
		const St__PosixTimer *t = p->posix_timers[i];
		struct itimerspec v = {to_timespec(t->interval), to_timespec(t->value)};
		struct sigevent ev = {.sigev_notify = t->notify,
			.sigev_signo = t->signo,
			.sigev_value.sival_ptr = (void *)t->sigval};
		uint64_t id_at;
		int *id = batch_data(&bu->b, sizeof(int), &id_at);

		if (!id)
			return;
		*id = t->id;
		ev._sigev_un._tid = timer_target(p, t->tid);
		if (!restore_kernel_gives_timer_ids())
			op_skip_timer_ids(bu, &next, t->id);
		batch_call(
			&bu->b, 0, SYS_timer_create, t->clockid, batch_bytes(&bu->b, &ev, sizeof(ev)), id_at);
		if (restore_timer_is_late(t) || (!v.it_value.tv_sec && !v.it_value.tv_nsec))
			continue;
		if (restore_timer_is_absolute(t))
			v.it_value = restore_timens_clock(
				bu->r, p, t->clockid, restore_clock_at(bu->r, t->clockid, t->value));
		batch_call(&bu->b, 0, SYS_timer_settime, t->id,
			restore_timer_is_absolute(t) ? TIMER_ABSTIME : 0, batch_bytes(&bu->b, &v, sizeof(v)),
			0);
	}
	if (p->n_posix_timers && restore_kernel_gives_timer_ids())
		batch_call(&bu->b, 0, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS_OP, 0);
}

/* ---- threads ---- */

static void op_capset(struct builder *bu, uint64_t eff, uint64_t prm, uint64_t inh)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{eff, prm, inh}, {eff >> 32, prm >> 32, inh >> 32}};
	uint64_t head_at = batch_bytes(&bu->b, &head, sizeof(head));

	batch_call(&bu->b, 0, SYS_capset, head_at, batch_bytes(&bu->b, data, sizeof(data)));
}

/* With its ids, whether or not they are mapped there. Who enters has all capabilities. */
static void op_enter_user(struct builder *bu, const struct restore_nested *user, const St__Credentials *c)
{
	uint64_t all = (1ull << CAPS) - 1;

	batch_call(&bu->b, 0, SYS_setns, user->fd, CLONE_NEWUSER);
	batch_call(&bu->b, 0, SYS_close, user->fd);
	for (int cap = 0; cap < CAPS; cap++)
		if (!(c->cap_bnd & (1ull << cap)))
			batch_call(&bu->b, OP_MAY_FAIL, SYS_prctl, PR_CAPBSET_DROP, cap);
	op_capset(bu, all, all, c->cap_inh);
}

bool restore_has_groups(const uint32_t *groups, size_t n)
{
	gid_t own[256];
	int have = getgroups(ARRAY_SIZE(own), own);

	return have >= 0 && (size_t)have == n && (n == 0 || !memcmp(own, groups, n * sizeof(*own)));
}

/* Ids first, keeping capabilities across; then the sets, the widest first. capabilities(7). */
static void op_credentials(struct builder *bu, const St__Credentials *c)
{
	const struct restore_nested *user = yet_to_enter(bu);
	/* Who enters a user namespace has all again. */
	uint64_t bounding = bu->r->here ? ~0ull : bu->r->bounding;
	struct batch *b = &bu->b;
	struct restore_ids ids;

	if (restore_ids(bu->r, c, &ids) < 0) {
		b->overflow = true;
		return;
	}
	for (int cap = 0; cap < CAPS && !user; cap++)
		if (bounding & ~c->cap_bnd & (1ull << cap))
			batch_call(b, OP_MAY_FAIL, SYS_prctl, PR_CAPBSET_DROP, cap);
	batch_call(b, 0, SYS_prctl, PR_SET_KEEPCAPS, 1);
	if (ids.groups_differ)
		batch_call(b, 0, SYS_setgroups, ids.n_groups,
			batch_bytes(b, ids.groups, ids.n_groups * sizeof(*ids.groups)));
	batch_call(b, 0, SYS_setresgid, ids.gid[0], ids.gid[1], ids.gid[2]);
	batch_call(b, 0, SYS_setresuid, ids.uid[0], ids.uid[1], ids.uid[2]);
	op_capset(bu, bu->all_caps, bu->all_caps, user ? 0 : c->cap_inh);
	if (c->gid[3] != c->gid[1])
		batch_call(b, 0, SYS_setfsgid, ids.gid[3]);
	if (c->uid[3] != c->uid[1])
		batch_call(b, 0, SYS_setfsuid, ids.uid[3]);
	if (user)
		op_enter_user(bu, user, c);
	for (int cap = 0; cap < CAPS; cap++)
		if (c->cap_amb & (1ull << cap))
			batch_call(b, 0, SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
	batch_call(b, 0, SYS_prctl, PR_SET_SECUREBITS, c->securebits);
	op_capset(bu, c->cap_eff, c->cap_prm, c->cap_inh);
	if (c->no_new_privs)
		batch_call(b, 0, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void op_scheduling(struct builder *bu, const St__Thread *t)
{
	struct sched_attributes a = {.size = 48,
		.policy = t->sched_policy,
		.flags = t->sched_flags,
		.nice = t->nice,
		.priority = t->sched_priority,
		.runtime = t->sched_runtime,
		.deadline = t->sched_deadline,
		.period = t->sched_period};
	int of_nice = (2 << 13) | ((t->nice + 20) / 5);

	if (t->sched_policy != 0 || t->nice != 0 || t->sched_flags || t->sched_runtime)
		batch_call(&bu->b, 0, SYS_sched_setattr, 0, batch_bytes(&bu->b, &a, sizeof(a)), 0);
	if (t->affinity.len)
		batch_call(&bu->b, 0, SYS_sched_setaffinity, 0, t->affinity.len,
			batch_bytes(&bu->b, t->affinity.data, t->affinity.len));
	/* Unset, the kernel derives it from nice: nothing to do then. */
	if (t->ioprio && t->ioprio != of_nice)
		batch_call(&bu->b, 0, SYS_ioprio_set, 1, 0, t->ioprio);
}

/* Adds one to a counter of the control block, and wakes the parent once all threads have (or nearly, if there are more than
 * the comparison can hold): FUTEX_WAKE_OP does both in a system call. */
static void op_count(struct builder *bu, uint32_t *counter)
{
	enum { CMPARG_MAX = 0x7ff };
	uint32_t op = (uint32_t)FUTEX_OP_ADD << 28 | (uint32_t)FUTEX_OP_CMP_GE << 24 | 1u << 12 |
		      (uint32_t)MIN(bu->r->n_threads - 1, (size_t)CMPARG_MAX);

	batch_call(&bu->b, OP_MAY_FAIL, SYS_futex, &bu->r->control->nobody, FUTEX_WAKE_OP, 0, INT32_MAX,
		counter, op);
}

static void op_pending(struct builder *bu, St__QueuedSignal **queue, size_t n, int tid)
{
	for (size_t i = 0; i < n; i++) {
		siginfo_t info;
		uint64_t at;

		memcpy(&info, queue[i]->siginfo.data, sizeof(info));
		at = batch_bytes(&bu->b, &info, sizeof(info));
		if (tid)
			batch_call(&bu->b, 0, SYS_rt_tgsigqueueinfo, restore_own_pid(bu->p), tid,
				info.si_signo, at);
		else
			batch_call(&bu->b, 0, SYS_rt_sigqueueinfo, restore_own_pid(bu->p), info.si_signo, at);
	}
}

/* As the profile may forbid what is still to be done, as late as possible (labels.c). */
static void op_label(struct builder *bu, bool has_threads)
{
	char text[512];
	int n;

	if (bu->label_fd < 0 || (bu->p->n_threads > 1) != has_threads)
		return;
	n = snprintf(text, sizeof(text), "changeprofile %s", bu->r->labels[bu->index]);
	batch_call(&bu->b, OP_EXPECT, SYS_write, bu->label_fd, batch_bytes(&bu->b, text, n), n)->result = n;
	batch_call(&bu->b, 0, SYS_close, bu->label_fd);
}

/* Children that ended while the tree was made have left signals that nobody may see. */
static void op_forget_children(struct builder *bu)
{
	uint64_t left = 1ull << (SIGCHLD - 1),
		 zero_at = batch_bytes(&bu->b, &(struct timespec){}, sizeof(struct timespec)), set_at;

	for (size_t i = 0; i < bu->r->n_procs; i++)
		if (bu->r->procs[i]->ppid == bu->p->pid && bu->r->procs[i]->exit_signal > 0)
			left |= 1ull << (bu->r->procs[i]->exit_signal - 1);
	set_at = batch_bytes(&bu->b, &left, sizeof(left));
	for (; left; left &= left - 1)
		batch_call(&bu->b, OP_MAY_FAIL, SYS_rt_sigtimedwait, set_at, 0, zero_at, 8);
}

/* What each thread does for itself, the leader too. Split by the wait for "armed": seccomp filters must not see what
 * comes before the parent has suspended them. */
static void op_thread(struct builder *bu, const St__Thread *t, bool leader)
{
	struct batch *b = &bu->b;
	stack_t ss = {.ss_sp = (void *)t->altstack_sp,
		.ss_flags = t->altstack_flags & ~SS_ONSTACK,
		.ss_size = t->altstack_size};

	batch_call(b, 0, SYS_set_tid_address, t->clear_child_tid);
	if (t->robust_list_len && is_ia32(bu))
		batch_call(b, OP_IA32, IA32_set_robust_list, t->robust_list, t->robust_list_len);
	else if (t->robust_list_len)
		batch_call(b, 0, SYS_set_robust_list, t->robust_list, t->robust_list_len);
	if (t->rseq_addr)
		batch_call(b, 0, SYS_rseq, t->rseq_addr, t->rseq_len, 0, t->rseq_signature);
	if (t->altstack_size)
		batch_call(b, 0, SYS_sigaltstack, batch_bytes(b, &ss, sizeof(ss)), 0);
	batch_call(b, 0, SYS_prctl, PR_SET_NAME, batch_bytes(b, t->comm, strlen(t->comm) + 1));
	if (t->timer_slack_ns)
		batch_call(b, 0, SYS_prctl, PR_SET_TIMERSLACK, t->timer_slack_ns);
	op_scheduling(bu, t);
	op_thread_states(b, t);
	op_count(bu, &bu->r->control->n_ready);
	op_wait(bu, &bu->r->control->armed);
	filters_load(b, bu->p, t, bu->programs);
	bu->filtered = b->n_ops;
	op_credentials(bu, t->credentials);
	if (leader)
		op_label(bu, false);
	/* Init dies with the parent until that has finished: see unmap_area(). */
	if (leader && bu->p == bu->r->procs[0])
		batch_call(b, 0, SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	else if (t->pdeathsig)
		batch_call(b, 0, SYS_prctl, PR_SET_PDEATHSIG, t->pdeathsig);
	/* The change of ids has taken it back. In a user namespace the parent needs it to be set until it has finished. */
	batch_call(b, 0, SYS_prctl, PR_SET_DUMPABLE, bu->r->own_user || bu->p->memory->dumpable == 1);
	if (leader) {
		if (bu->p->child_subreaper || bu->r->tree->nodes[bu->index].adopts)
			batch_call(b, 0, SYS_prctl, PR_SET_CHILD_SUBREAPER, bu->p->child_subreaper);
		op_forget_children(bu);
		op_pending(bu, bu->p->pending, bu->p->n_pending, 0);
	}
	op_pending(bu, t->pending, t->n_pending, restore_own_tid(t));
}

static void op_park(struct builder *bu)
{
	op_count(bu, &bu->r->control->n_finished);
	op_wait(bu, &bu->r->control->park);
}

/* The ops of the other threads lie behind the leader's; each thread's stack holds where its own begin. "flags" and "signal":
 * of clone(2). */
static void op_spawn(struct builder *bu, const St__Thread *t, uint64_t ops, size_t n_ops, uint64_t flags,
	int signal, struct restore_ticket *ticket)
{
	struct {
		char stack[64];
		uint64_t ops, n_ops;
		int32_t tids[32];
		struct clone_args args;
	} * s;
	size_t n_tids = 0;
	uint64_t at;

	s = batch_data(&bu->b, sizeof(*s), &at);
	if (!s)
		return;
	s->ops = ops;
	s->n_ops = n_ops;
	/* The innermost first. */
	for (size_t i = t->n_inner_tids; i-- > 0;)
		s->tids[n_tids++] = t->inner_tids[i];
	s->tids[n_tids++] = t->tid;
	if (ticket) {
		op_tell(bu, &ticket->asked);
		op_tell(bu, &bu->r->control->n_asked);
		op_wait(bu, &ticket->turn);
		n_tids -= ticket->n;
	}
	s->args = (struct clone_args){
		.flags = flags,
		.exit_signal = signal,
		.stack = at,
		.stack_size = sizeof(s->stack),
		.set_tid = n_tids ? at + ((char *)s->tids - (char *)s) : 0,
		.set_tid_size = n_tids,
	};
	batch_call(&bu->b, OP_CHILD, SYS_clone3, at + ((char *)&s->args - (char *)s), sizeof(s->args));
	if (ticket)
		op_tell(bu, &ticket->done);
}

/* In who begins with a copy of another table. */
static void op_own_files(struct builder *bu, St__Descriptor *const *list, size_t n)
{
	uint32_t gap = 0;

	for (size_t i = 0; i < n; i++) {
		const St__Descriptor *d = list[i];

		batch_call(
			&bu->b, 0, SYS_dup3, restore_fd(bu->r, d->file), d->fd, d->cloexec ? O_CLOEXEC : 0);
		if (d->fd > gap)
			batch_call(&bu->b, 0, SYS_close_range, gap, d->fd - 1, 0);
		gap = d->fd + 1;
	}
	batch_call(&bu->b, 0, SYS_close_range, gap, ~0u, 0);
}

/* What the thread is to have for itself the leader has for a moment: a clone without CLONE_FS gets a copy. */
static void op_thread_fs(struct builder *bu, const St__Thread *t)
{
	if (!t->cwd_file)
		return;
	batch_call(&bu->b, 0, SYS_fchdir, restore_fd(bu->r, t->cwd_file));
	batch_call(&bu->b, 0, SYS_umask, t->umask);
}

static void op_own_fs(struct builder *bu, const St__Thread *t)
{
	if (!t->cwd_file)
		return;
	batch_call(
		&bu->b, 0, SYS_fchdir, bu->p->cwd_file ? restore_fd(bu->r, bu->p->cwd_file) : bu->r->root_fd);
	batch_call(&bu->b, 0, SYS_umask, bu->p->umask);
}

static uint64_t thread_flags(const St__Thread *t)
{
	return (t->cwd_file ? 0 : CLONE_FS) | (t->own_files ? 0 : CLONE_FILES) | CLONE_VM | CLONE_SIGHAND |
	       CLONE_THREAD | CLONE_SYSVSEM;
}

/* Where the ops of a thread lie. */
struct thread_ops {
	size_t first, n;
};

/* Of all threads but the leader, which come first. */
static int build_threads(struct builder *bu, struct thread_ops **ret)
{
	const St__Process *p = bu->p;
	struct thread_ops *threads = *ret = arena_array(&bu->r->arena, p->n_threads, sizeof(*threads));

	bu->programs = arena_array(&bu->r->arena, p->n_seccomp_filters, sizeof(*bu->programs));
	if (!threads || !bu->programs)
		return error_errno(bu->e, -ENOMEM, "build the threads");
	for (size_t i = 1; i < p->n_threads; i++) {
		threads[i].first = bu->b.n_ops;
		if (p->threads[i]->own_files)
			op_own_files(bu, p->threads[i]->descriptors, p->threads[i]->n_descriptors);
		op_thread(bu, p->threads[i], false);
		op_park(bu);
		threads[i].n = bu->b.n_ops - threads[i].first;
		if (filters_check_restored(bu->r, p, p->threads[i], &bu->b, bu->filtered, bu->e) < 0)
			return bu->e->code;
	}
	return 0;
}

/* NULL: its ids may be chosen. */
static struct restore_ticket *ticket_of(const struct builder *bu, size_t thread)
{
	const St__Thread *t = bu->p->threads[thread];
	size_t foreign = bu->r->here ? homes_foreign_pids(&bu->r->homes, bu->p, bu->r->here) : 0;
	struct restore_ticket *ticket;

	if (!foreign)
		return NULL;
	ticket = restore_thread_ticket(bu->r, bu->index, thread);
	restore_ticket_fill(ticket, bu->index, foreign, t->tid, t->inner_tids);
	return ticket;
}

static void op_spawn_threads(struct builder *bu, const struct thread_ops *threads)
{
	const St__Process *p = bu->p;

	for (size_t i = 1; i < p->n_threads; i++) {
		op_thread_fs(bu, p->threads[i]);
		op_spawn(bu, p->threads[i], bu->b.remote_ops + threads[i].first * sizeof(struct op),
			threads[i].n, thread_flags(p->threads[i]), 0, ticket_of(bu, i));
		op_own_fs(bu, p->threads[i]);
	}
}

/* What a process has once its descriptors are final, and the end of its batch. */
static int op_process(struct builder *bu, bool own_handlers)
{
	const St__Process *p = bu->p;

	mqueue_restore_notify(p, &bu->b); /* likewise */
	dnotify_restore(p, &bu->b);
	restore_locks(bu->r, p, &bu->b); /* to close a file's descriptor drops the POSIX locks on it */
	if (p->personality)
		batch_call(&bu->b, 0, SYS_personality, p->personality);
	op_permissions(&bu->b, p);
	if (own_handlers)
		op_actions(bu);
	op_limits(bu);
	op_sem_undo(&bu->b, bu->r, p);
	op_thread(bu, p->threads[0], true);
	op_timers(bu);
	op_park(bu);
	if (bu->b.overflow)
		return error_set(
			bu->e, -ENOSPC, ERROR_INTERNAL, "the batch of process %d is too small", p->pid);
	return filters_check_restored(bu->r, p, p->threads[0], &bu->b, bu->filtered, bu->e);
}

/* ---- processes that share the memory ---- */

/* Data at the end of the slot, as much as restore_lay_out() reckoned; ops before it. */
static struct batch batch_in(const struct restore_slot *slot)
{
	return (struct batch){
		.ops = (struct op *)slot->address,
		.max_ops = (slot->size - slot->data_size) / sizeof(struct op),
		.remote_ops = slot->address,
		.data = (char *)slot->address + (slot->size - slot->data_size),
		.max_data = slot->data_size,
		.remote = slot->address + (slot->size - slot->data_size),
	};
}

static int op_members(struct builder *bu);

static void op_member_fs(struct builder *bu)
{
	const St__Process *p = bu->p;
	uint64_t here = batch_bytes(&bu->b, ".", 2);

	batch_call(&bu->b, 0, SYS_fchdir, p->root_file ? restore_fd(bu->r, p->root_file) : bu->r->root_fd);
	batch_call(&bu->b, 0, SYS_chroot, here);
	if (p->cwd_file)
		batch_call(&bu->b, 0, SYS_fchdir, restore_fd(bu->r, p->cwd_file));
	batch_call(&bu->b, 0, SYS_umask, p->umask);
}

/* In a builder of its own, for a slot of its own. */
static int build_member(struct builder *bu, const struct tree_node *node, size_t *ret_first)
{
	const St__Process *p = bu->p;
	struct thread_ops *threads;
	int result = build_threads(bu, &threads);

	if (result < 0)
		return result;
	*ret_first = bu->b.n_ops;
	if (node->setsid)
		batch_call(&bu->b, 0, SYS_setsid);
	else if (p->pgid == p->pid)
		batch_call(&bu->b, 0, SYS_setpgid, 0, 0);
	if (!(node->shares & CLONE_FS))
		op_member_fs(bu);
	op_spawn_threads(bu, threads);
	result = op_members(bu);
	if (result < 0)
		return result;
	if (!(node->shares & CLONE_FILES)) {
		op_wait_for_sharers(bu);
		op_own_files(bu, p->descriptors, p->n_descriptors);
	} else if (p->files_with)
		op_tell(bu, &bu->r->sharers[bu->index].done);
	return op_process(bu, !(node->shares & CLONE_SIGHAND));
}

/* Those that this process had cloned. */
static int op_members(struct builder *bu)
{
	for (size_t i = 0; i < bu->r->n_procs; i++) {
		const struct tree_node *node = &bu->r->tree->nodes[i];
		struct builder its = *bu;
		size_t first;

		if (node->kind != TREE_MEMBER || node->parent != bu->index)
			continue;
		its.p = bu->r->procs[i];
		its.index = i;
		its.label_fd = -EBADF;
		its.b = batch_in(&bu->r->slots[i]);
		if (build_member(&its, node, &first) < 0)
			return bu->e->code;
		op_spawn(bu, its.p->threads[0], its.b.remote_ops + first * sizeof(struct op),
			its.b.n_ops - first, node->shares,
			node->shares & CLONE_PARENT ? 0 : its.p->exit_signal, NULL);
	}
	return 0;
}

static int build(struct builder *bu, size_t *ret_leader_ops)
{
	struct thread_ops *threads;
	int result = build_threads(bu, &threads);

	if (result < 0)
		return result;
	*ret_leader_ops = bu->b.n_ops;
	if (op_memory(bu) < 0)
		return bu->e->code;
	op_mm(bu);
	op_label(bu, true);
	op_spawn_threads(bu, threads);
	result = op_members(bu);
	if (result < 0)
		return result;
	op_close_files(bu);
	if (bu->index == 0 && bu->r->clerk)
		batch_call(&bu->b, 0, SYS_wait4, bu->r->clerk, 0, 0, 0);
	return op_process(bu, true);
}

/* glibc has registered a restartable sequence in memory that is about to go. */
static void unregister_rseq(void)
{
	char *self = __builtin_thread_pointer();

	if (__rseq_size > 0)
		syscall(SYS_rseq, self + __rseq_offset, 32, 1 /* RSEQ_FLAG_UNREGISTER */, RSEQ_SIG);
	syscall(SYS_set_robust_list, NULL, 24);
}

static int own_capabilities(uint64_t *ret, struct error *e)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return error_errno(e, -errno, "own capabilities");
	*ret = data[0].permitted | (uint64_t)data[1].permitted << 32;
	return 0;
}

static _Noreturn void jump(const struct restore *r, uint64_t ops, size_t n)
{
	void (*loop)(uint64_t ops, size_t n, struct batch_control * control, uint64_t frame) =
		(void *)r->loop;

	loop(ops, n, &r->control->batch, 0);
	__builtin_unreachable();
}

int restore_build(struct restore *r, size_t index, struct error *e)
{
	const struct restore_slot *slot = &r->slots[index];
	const St__Process *p = r->procs[index];
	struct builder bu = {.r = r, .p = p, .index = index, .label_fd = -EBADF, .e = e};
	size_t leader_ops = 0;
	int result;

	result = own_capabilities(&bu.all_caps, e);
	if (result < 0)
		return result;
	if (r->labels[index]) {
		result = bu.label_fd = restore_open_label(r, r->labels[index], e);
		if (result < 0)
			return result;
	}
	bu.b = batch_in(slot);
	result = build(&bu, &leader_ops);
	if (result < 0)
		return result;
	unregister_rseq();
	jump(r, slot->address + leader_ops * sizeof(struct op), bu.b.n_ops - leader_ops);
}
