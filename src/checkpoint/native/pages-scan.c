/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of a process there are: asked by PAGEMAP_SCAN (6.7), else read from /proc/PID/pagemap.
 */
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/pagemap.h"
#include "checkpoint/native/pages.h"
#include "checkpoint/native/track.h"

enum { REGIONS = 512, PAGE_TABLE = 2 << 20 /* what one is for */ };

/* Notes a guard region (MADV_GUARD_INSTALL) in the mapping's record. */
static int note_guard(
	struct page_reader *pr, const struct proc_vma *v, const struct page_region *g, struct error *e)
{
	St__Memory *m = pr->p->msg->memory;

	for (size_t i = 0; i < m->n_vmas; i++) {
		St__Vma *vma = m->vmas[i];
		uint64_t *more;

		if (vma->start != v->start)
			continue;
		more = arena_array(pr->arena, vma->n_guards + 2, sizeof(*more));
		if (!more)
			return error_errno(e, -ENOMEM, "guard regions");
		if (vma->n_guards)
			memcpy(more, vma->guards, vma->n_guards * sizeof(*more));
		more[vma->n_guards++] = g->start;
		more[vma->n_guards++] = g->end;
		vma->guards = more;
	}
	return 0;
}

/* Of pages that are there: those that have not been written since the parent image or the last round are only named. */
static int take_region(
	struct page_reader *pr, const struct proc_vma *v, const struct page_region *g, struct error *e)
{
	if (g->categories & PM_GUARD)
		return note_guard(pr, v, g, e);
	if (pr->since && (g->categories & PM_WPALLOWED) && !(g->categories & PM_WRITTEN))
		return pages_unchanged(pr, g->start, g->end, e);
	return pages_copy(pr, g->start, g->end, e);
}

static int scan_vma(struct page_reader *pr, const struct proc_vma *v, bool file, struct error *e)
{
	static _Thread_local struct page_region regions[REGIONS];
	uint64_t at = v->start;

	while (at < v->end) {
		struct pm_scan_arg arg = {.size = sizeof(arg),
			.start = at,
			.end = v->end,
			.vec = (uint64_t)regions,
			.vec_len = REGIONS,
			.category_inverted = file ? PM_FILE : 0,
			.category_mask = file ? PM_FILE : 0,
			.category_anyof_mask = PM_PRESENT | PM_SWAPPED,
			.return_mask = (pr->since ? PM_WPALLOWED | PM_WRITTEN : PM_PRESENT | PM_SWAPPED) |
				       (v->flags & VMA_GU ? PM_GUARD : 0)};
		int n, r;

		/* The shared zero page is left out by its contents: asking for it makes the scan five times slower. */
		n = ioctl(pr->pagemap_fd, PAGEMAP_SCAN_IOCTL, &arg);
		if (n < 0)
			return errno == ENOTTY || errno == EINVAL
				       ? 1
				       : error_errno(e, -errno, "scan the page map of pid %d", pr->p->pid);
		for (int i = 0; i < n; i++) {
			r = take_region(pr, v, &regions[i], e);
			if (r < 0)
				return r;
		}
		/* walk_end can lag behind the last region (facts.md). */
		if (n < REGIONS)
			break;
		at = MAX((uint64_t)arg.walk_end, regions[n - 1].end);
	}
	return 0;
}

/* Some of a mapping in all detail. */
static int scan_part(
	struct page_reader *pr, const struct proc_vma *v, uint64_t start, uint64_t end, struct error *e)
{
	struct proc_vma part = *v;
	int r;

	part.start = start;
	part.end = end;
	r = start < end ? scan_vma(pr, &part, false, e) : 0;
	return r == 1 ? error_set(e, -EIO, ERROR_SYSTEM, "scan the page map of pid %d", pr->p->pid) : r;
}

/* Nothing was told of these pages. So they are there, as they were; or a page table is missing, as the first page of what it would
 * be for shows. */
static int take_untold(
	struct page_reader *pr, const struct proc_vma *v, uint64_t start, uint64_t end, struct error *e)
{
	uint64_t run = start, next;
	int r = 0;

	for (uint64_t at = start; at < end && r == 0; at = next) {
		uint64_t entry = 0;

		next = MIN(end, (at & ~(uint64_t)(PAGE_TABLE - 1)) + PAGE_TABLE);
		r = pread_exact(pr->pagemap_fd, &entry, sizeof(entry), at / PAGE * 8);
		if (r < 0)
			return error_errno(e, r, "page map of pid %d", pr->p->pid);
		if (entry & (3ull << 62))
			continue;
		if (run < at)
			r = pages_unchanged(pr, run, at, e);
		if (r == 0)
			r = scan_part(pr, v, at, next, e);
		run = next;
	}
	return r == 0 && run < end ? pages_unchanged(pr, run, end, e) : r;
}

/* A watched mapping, of which most is as it was. 1: it is not watched. */
static int scan_since(struct page_reader *pr, const struct proc_vma *v, struct error *e)
{
	struct page_region written[64];
	uint64_t at = v->start;
	int n = ARRAY_SIZE(written), r = 0;

	while (r == 0 && n == ARRAY_SIZE(written)) {
		n = track_scan_written(pr->pagemap_fd, at, v->end, written, ARRAY_SIZE(written));
		if (n < 0)
			return at == v->start ? 1
					      : error_errno(e, n, "scan the page map of pid %d", pr->p->pid);
		for (int i = 0; i < n && r == 0; i++) {
			r = take_untold(pr, v, at, written[i].start, e);
			if (r == 0)
				r = scan_part(pr, v, written[i].start, written[i].end, e);
			at = written[i].end;
		}
	}
	return r == 0 ? take_untold(pr, v, at, v->end, e) : r;
}

/* Of a mapping whose pages are not its own: only what has been made a guard region. Since Linux 6.15, which has the scan. */
static int scan_guards(struct page_reader *pr, const struct proc_vma *v, struct error *e)
{
	static _Thread_local struct page_region regions[REGIONS];
	uint64_t at = v->start;
	int n = REGIONS, r = 0;

	while (at < v->end && n == REGIONS) {
		struct pm_scan_arg arg = {.size = sizeof(arg),
			.start = at,
			.end = v->end,
			.vec = (uint64_t)regions,
			.vec_len = REGIONS,
			.category_mask = PM_GUARD,
			.return_mask = PM_GUARD};

		n = ioctl(pr->pagemap_fd, PAGEMAP_SCAN_IOCTL, &arg);
		if (n < 0)
			return error_errno(e, -errno, "scan the page map of pid %d", pr->p->pid);
		for (int i = 0; i < n && r == 0; i++)
			r = note_guard(pr, v, &regions[i], e);
		if (r < 0)
			return r;
		at = n ? MAX((uint64_t)arg.walk_end, regions[n - 1].end) : v->end;
	}
	return 0;
}

/* Kernels before 6.7: one 64-bit entry a page (Documentation/admin-guide/mm/pagemap.rst). */
static int read_pagemap(struct page_reader *pr, const struct proc_vma *v, bool file, struct error *e)
{
	uint64_t entries[512], run = 0;

	for (uint64_t at = v->start; at < v->end;) {
		size_t n = MIN((v->end - at) / PAGE, (uint64_t)ARRAY_SIZE(entries));
		int r = pread_exact(pr->pagemap_fd, entries, n * 8, at / PAGE * 8);

		if (r < 0)
			return error_errno(e, r, "page map of pid %d", pr->p->pid);
		for (size_t i = 0; i < n; i++, at += PAGE) {
			bool there = entries[i] & (3ull << 62), of_file = entries[i] & (1ull << 61);

			if (there && !(file && of_file)) {
				if (!run)
					run = at;
				continue;
			}
			r = run ? pages_copy(pr, run, at, e) : 0;
			if (r < 0)
				return r;
			run = 0;
		}
	}
	return run ? pages_copy(pr, run, v->end, e) : 0;
}

int pages_scan(struct page_reader *pr, struct error *e)
{
	struct dump_proc *p = pr->p;

	for (size_t i = 0; i < p->n_vmas; i++) {
		struct proc_vma part = p->vmas[i];
		const struct proc_vma *v = &part;
		bool file = v->inode != 0;
		int r;

		part.start = MAX(part.start, pr->from);
		part.end = MIN(part.end, pr->to);
		if (part.start >= part.end || pr->late != (p->late && p->late[i]))
			continue;

		/* vdso and vvar come from the kernel; shared memory is dumped once, by its file. Droppable memory may
		 * turn to zeros at any time, and should here: glibc keeps the state of getrandom() in it, which two
		 * restored copies must not share. */
		if (v->shared || (v->flags & VMA_DP) || (v->name[0] == '[' && v->name[1] == 'v')) {
			r = v->flags & VMA_GU ? scan_guards(pr, v, e) : 0;
			if (r < 0)
				return r;
			continue;
		}
		pr->relative = shared_pages_possible(pr->d, v);
		pr->since = p->watched && track_is_watchable(v) ? p->watched->space : 0;
		r = pr->since && pr->d->track->tells_empty && !(v->flags & (VMA_GU | VMA_HT))
			    ? scan_since(pr, v, e)
			    : 1;
		if (r < 0)
			return r;
		if (r == 0)
			continue;
		/* Of hugetlb there is little, and the map says the same on all kernels. */
		r = pr->no_scan || (v->flags & VMA_HT) ? 1 : scan_vma(pr, v, file, e);
		if (r == 1) {
			pr->no_scan |= !(v->flags & VMA_HT);
			r = read_pagemap(pr, v, file, e);
		}
		if (r < 0)
			return r;
	}
	return 0;
}
