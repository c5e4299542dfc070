/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared area: control block, batch loop, one slot a process, and the shared memory objects until they are placed.
 * It lies at an address that is free in every process to be restored and in the stubs (which are forks of us), so that
 * it is the one thing that stays when a stub unmaps itself.
 */
#include "checkpoint/native/restore.h"

#include "base/trace.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "checkpoint/native/huge.h"
#include "checkpoint/native/res/aio.h"
#include "checkpoint/native/res/dnotify.h"
#include "checkpoint/native/res/ipc.h"
#include "checkpoint/native/restore-home.h"
#include "checkpoint/native/restore-outside.h"
#include "checkpoint/native/restore-share.h"
#include "checkpoint/native/restore-thp.h"
#include "checkpoint/native/tree.h"
#include "linux/procfs.h"

enum { PAGE = 4096, OPS_PER_VMA = 18, OPS_PER_THREAD = 148, OPS_PER_PROCESS = 414 };
#define HIGHEST_ADDRESS 0x7fffff000000ull
#define LOWEST_ADDRESS 0x100000000ull
/* If a 32-bit program is among them. */
#define HIGHEST_OF_IA32 0xff000000ull
#define LOWEST_OF_IA32 0x1000000ull
/* One pread of a run covers at most this much. */
#define RUN_BYTES (1ull << 30)

struct range {
	uint64_t start, end;
};

static int compare_ranges(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* The highest hole of "len" bytes between the ranges. 0: there is none. */
static uint64_t find_hole(struct range *ranges, size_t n, uint64_t len, uint64_t lowest, uint64_t top)
{
	qsort(ranges, n, sizeof(*ranges), compare_ranges);
	for (size_t i = n; i-- > 0;) {
		/* A megabyte of distance: stacks grow, and keep a gap from their neighbours. */
		if (ranges[i].end + (1 << 20) <= top && top - (ranges[i].end + (1 << 20)) >= len)
			return top - len;
		if (ranges[i].start < top)
			top = ranges[i].start > (256 << 20) ? ranges[i].start - (256 << 20) : 0;
		if (top < lowest)
			return 0;
	}
	return top - lowest >= len ? (top - len) & ~(uint64_t)(PAGE - 1) : 0;
}

static void count_fill(
	void *arg, enum restore_fill what, uint64_t start, uint64_t end, unsigned layer, uint64_t offset)
{
	/* From a stream it comes in pieces, each with a call that waits for it, and one that gives its memory back. */
	*(uint64_t *)arg += 3 + (end - start) / RUN_BYTES + 3 * ((end - start) / RESTORE_FEED_BYTES) +
			    restore_thp_ops_max(end - start);
}

/* Calls that fill a mapping; if it is in a unit: whether that can be had or not, which turns out later. */
static int count_fills(struct restore *r, size_t proc, size_t vma, uint64_t *ops)
{
	uint64_t kept = 0, fresh = 0;

	if (restore_share_fill(r, proc, vma, false, count_fill, &fresh) < 0 ||
		(restore_share_in_unit(r, proc, vma) &&
			restore_share_fill(r, proc, vma, true, count_fill, &kept) < 0))
		return -ENOMEM;
	*ops += MAX(kept, fresh);
	return 0;
}

static int size_slot(struct restore *r, size_t index, struct error *e)
{
	const St__Process *p = r->procs[index];
	struct restore_slot *slot = &r->slots[index];
	uint64_t ops = OPS_PER_PROCESS + restore_sharers_of(r, p), fills = 0, data = 8192;

	if (p->state == 2)
		return 0;
	ops += p->n_threads * OPS_PER_THREAD + p->n_posix_timers * 4 + p->n_pending + p->n_locks * 3 +
	       p->n_mq_notify + dnotify_count(p) + sem_undo_ops(p) + 2 * restore_skipped_timer_ids(p);
	data += sem_undo_ops(p) * SEM_UNDO_DATA;
	for (size_t i = 0; i < p->n_threads; i++) {
		ops += p->threads[i]->n_pending + p->threads[i]->n_seccomp_filters +
		       2 * p->threads[i]->n_descriptors;
		data += 1024 + 160 + p->threads[i]->n_pending * 128 +
			p->threads[i]->credentials->n_groups * 4 + p->threads[i]->affinity.len;
	}
	for (size_t i = 0; i < r->tree->n_processes; i++)
		if (r->tree->nodes[i].kind == TREE_MEMBER && r->tree->nodes[i].parent == index) {
			ops += 4;
			data += 512;
		}
	if (r->tree->nodes[index].kind == TREE_MEMBER)
		ops += 2 * p->n_descriptors + 16;
	if (p->label[0]) {
		ops += 4;
		data += 512;
	}
	for (size_t i = 0; i < p->n_seccomp_filters; i++)
		data += p->seccomp_filters[i]->instructions.len + 64;
	data += p->n_pending * 128 + p->n_posix_timers * 256 + p->memory->auxv.len;
	for (size_t i = 0; i < p->memory->n_vmas; i++) {
		const St__Vma *v = p->memory->vmas[i];

		ops += OPS_PER_VMA + v->n_guards / 2 + (v->end - v->start) / RUN_BYTES;
		data += (v->name ? strlen(v->name) + 32 : 0) + (v->numa_mode ? 160 : 0);
		if (v->aio) {
			ops += AIO_OPS + aio_ops(v);
			data += AIO_DATA + aio_data(v);
		}
		if (count_fills(r, index, i, &fills) < 0)
			return error_errno(e, -ENOMEM, "lay out the restore");
	}
	ops += fills;
	data += p->n_mq_notify * sizeof(struct sigevent) + p->n_locks * sizeof(struct flock) +
		p->n_rlimits * 16 + p->n_actions * 32;
	if (r->fills_outside)
		data += fills * sizeof(struct restore_stretch);
	slot->size = ALIGN_UP(ops * sizeof(struct op) + data, (uint64_t)PAGE);
	slot->data_size = ALIGN_UP(data, (uint64_t)64);
	return 0;
}

static int collect_ranges(struct restore *r, struct range **ret, size_t *ret_n, struct error *e)
{
	struct proc_vma *own;
	size_t n_own, n = 0;
	int result;

	result = proc_read_maps(getpid(), false, &r->arena, &own, &n_own);
	if (result < 0)
		return error_errno(e, result, "own mappings");
	for (size_t i = 0; i < r->n_procs; i++)
		n += r->procs[i]->state == 2 ? 0 : r->procs[i]->memory->n_vmas;
	*ret = arena_array(&r->arena, n + n_own, sizeof(**ret));
	if (!*ret)
		return error_errno(e, -ENOMEM, "lay out the restore");
	n = 0;
	for (size_t i = 0; i < n_own; i++)
		(*ret)[n++] = (struct range){own[i].start, own[i].end};
	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; r->procs[i]->state != 2 && k < r->procs[i]->memory->n_vmas; k++)
			(*ret)[n++] = (struct range){
				r->procs[i]->memory->vmas[k]->start, r->procs[i]->memory->vmas[k]->end};
	*ret_n = n;
	return 0;
}

static int map_at(uint64_t address, uint64_t len, int prot, int flags, struct error *e)
{
	void *p = mmap((void *)address, len, prot, flags | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED || (uint64_t)p != address)
		return error_errno(e, p == MAP_FAILED ? -errno : -EEXIST, "map %llu bytes for the restore",
			(unsigned long long)len);
	return 0;
}

/* Does a process have the segment attached so? */
static bool is_read_only(const struct restore *r, uint64_t shm)
{
	for (size_t i = 0; i < r->n_procs; i++)
		for (size_t k = 0; r->procs[i]->state != 2 && k < r->procs[i]->memory->n_vmas; k++)
			if (r->procs[i]->memory->vmas[k]->shm == shm &&
				r->procs[i]->memory->vmas[k]->read_only)
				return true;
	return false;
}

/* What it takes of the area; "at": where it may begin. */
static uint64_t room_for(const struct restore_shm *s, uint64_t at)
{
	uint64_t page = huge_page_size(s->msg), len = ALIGN_UP(s->msg->size, page);

	if (s->msg->memfd || (s->msg->huge_shift && !s->msg->sysv))
		return 0;
	return ALIGN_UP(at, page) - at + (s->msg->sysv ? 2 : 1) * len;
}

static int place_shm(struct restore *r, uint64_t at, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_shm && result == 0; i++) {
		uint64_t len = ALIGN_UP(r->shm[i].msg->size, huge_page_size(r->shm[i].msg));

		if (r->shm[i].msg->memfd || len == 0)
			continue;
		if (r->shm[i].msg->huge_shift && !r->shm[i].msg->sysv) {
			result = huge_make_anonymous(&r->shm[i], e);
			continue;
		}
		at = ALIGN_UP(at, huge_page_size(r->shm[i].msg));
		r->shm[i].address = at;
		if (r->shm[i].msg->sysv) {
			/* init attaches the segment there, and there */
			r->shm[i].read_only = is_read_only(r, r->shm[i].msg->id) ? at + len : 0;
			result = map_at(at, 2 * len, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, e);
			at += 2 * len;
			continue;
		}
		result = map_at(at, len, PROT_READ | PROT_WRITE, MAP_SHARED, e);
		at += len;
	}
	return result;
}

static bool has_ia32(const struct restore *r)
{
	for (size_t i = 0; i < r->n_procs; i++)
		if (r->procs[i]->state != 2 && r->procs[i]->memory->ia32)
			return true;
	return false;
}

/* The flags of a stream, where stubs that have nothing else any more can wait for them. */
static int place_flags(struct restore *r, uint64_t at, uint64_t len, struct error *e)
{
	uint64_t offset;
	int fd;
	void *p;

	if (!len)
		return 0;
	fd = image_feed_flags_fd(r->feed->feed, &offset);
	p = mmap((void *)at, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, offset);
	if (p != (void *)at)
		return error_errno(
			e, p == MAP_FAILED ? -errno : -EEXIST, "map the flags of the image stream");
	r->feed_flags = at;
	r->reads_once = image_data_is_used_once(r->image);
	return 0;
}

int restore_lay_out(struct restore *r, struct error *e)
{
	TRACE("lay out");
	uint64_t control_len = ALIGN_UP(sizeof(struct restore_control) +
						r->n_procs * (sizeof(*r->sharers) + sizeof(*r->outside) +
								     sizeof(*r->watches)) +
						(r->n_threads + 1) * sizeof(*r->times) +
						restore_n_tickets(r) * sizeof(*r->tickets),
			 (size_t)PAGE),
		 flags_len = ALIGN_UP(image_feed_n_flags(r->image) * sizeof(uint32_t), (size_t)PAGE),
		 slots_len = 0, shm_len = 0, at;
	struct range *ranges;
	size_t n = 0;
	int result;

	r->slots = arena_array(&r->arena, r->n_procs, sizeof(*r->slots));
	if (!r->slots)
		return error_errno(e, -ENOMEM, "lay out the restore");
	for (size_t i = 0; i < r->n_procs; i++) {
		result = size_slot(r, i, e);
		if (result < 0)
			return result;
		slots_len += r->slots[i].size;
	}
	for (size_t i = 0; i < r->n_shm; i++)
		shm_len += room_for(&r->shm[i], PAGE);
	r->area_len = PAGE + control_len + slots_len + flags_len + shm_len;
	result = collect_ranges(r, &ranges, &n, e);
	if (result < 0)
		return result;
	r->area = has_ia32(r) ? find_hole(ranges, n, r->area_len, LOWEST_OF_IA32, HIGHEST_OF_IA32)
			      : find_hole(ranges, n, r->area_len, LOWEST_ADDRESS, HIGHEST_ADDRESS);
	if (!r->area)
		return error_set(e, -ENOMEM, ERROR_REFUSED,
			"the processes leave no common hole of %llu bytes in their address space",
			(unsigned long long)r->area_len);

	r->loop = r->area;
	result = map_at(r->loop, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, e);
	if (result < 0)
		return result;
	memcpy((void *)r->loop, batch_loop_start, BATCH_LOOP_SIZE);
	if (mprotect((void *)r->loop, PAGE, PROT_READ | PROT_EXEC) < 0)
		return error_errno(e, -errno, "protect the batch loop");
	at = r->area + PAGE;
	result = map_at(at, control_len + slots_len, PROT_READ | PROT_WRITE, MAP_SHARED, e);
	if (result < 0)
		return result;
	r->control = (struct restore_control *)at;
	r->sharers = (struct restore_sharer *)(r->control + 1);
	r->outside = (struct restore_lack *)(r->sharers + r->n_procs);
	r->watches = (struct restore_watch *)(r->outside + r->n_procs);
	r->times = (struct timespec *)ALIGN_UP((uintptr_t)(r->watches + r->n_procs), sizeof(*r->times));
	r->tickets = (struct restore_ticket *)(r->times + r->n_threads);
	at += control_len;
	for (size_t i = 0; i < r->n_procs; i++) {
		r->slots[i].address = at;
		at += r->slots[i].size;
	}
	result = place_flags(r, at, flags_len, e);
	return result < 0 ? result : place_shm(r, at + flags_len, e);
}
