/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page contents. Which pages exist is asked by PAGEMAP_SCAN (6.7), else read from /proc/PID/pagemap; their contents are
 * read by process_vm_readv, and by /proc/PID/mem where the protection forbids that.
 */
#include "checkpoint/native/dump.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "base/fd.h"
#include "base/progress.h"
#include "checkpoint/native/huge.h"
#include "checkpoint/native/shared-pages.h"

enum { PAGE = 4096, BUFFER = 1 << 20, REGIONS = 512 };

/* linux/fs.h of 6.7 and later. */
struct page_region {
	uint64_t start, end, categories;
};
struct pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask,
		category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN_IOCTL _IOWR('f', 16, struct pm_scan_arg)
enum { PM_FILE = 1 << 2, PM_PRESENT = 1 << 3, PM_SWAPPED = 1 << 4, PM_PFNZERO = 1 << 5, PM_GUARD = 1 << 8 };

struct page_reader {
	struct dump *d;
	struct dump_proc *p;
	struct arena *arena;
	int pagemap_fd, mem_fd;
	bool no_scan;  /* this kernel has no PAGEMAP_SCAN */
	bool relative; /* the mapping has pages that relatives have, too */
	char *buffer;
};

/* The copying of all processes, by as many readers as there are helpers: what they read goes through the one writer. */
struct page_job {
	struct page_reader readers[1 + CREW_HELPERS];
	pthread_mutex_t lock; /* of d->writer and all below */
	struct shared_pages shared;
	struct progress progress;
	uint64_t done;
};

static int read_range(struct page_reader *pr, uint64_t start, size_t len, struct error *e)
{
	/* process_vm_readv() pins the pages, and who pins a page that relatives share gets one of his own: the container would
	 * need more memory than before. */
	int r = pr->relative ? -EFAULT : task_read_memory(pr->p->shown, start, pr->buffer, len);

	if (r < 0)
		r = pread_exact(pr->mem_fd, pr->buffer, len, start);
	if (r < 0)
		return error_errno(
			e, r, "read %zu bytes at %llx of pid %d", len, (unsigned long long)start, pr->p->pid);
	return 0;
}

int dump_write_pages(
	struct dump *d, uint64_t space, uint64_t address, const void *data, size_t n_pages, struct error *e)
{
	struct page_job *j = d->pages;
	int r;

	pthread_mutex_lock(&j->lock);
	r = image_writer_pages(d->writer, space, address, data, n_pages, e);
	j->done += n_pages * PAGE;
	progress_update(&j->progress, j->done);
	pthread_mutex_unlock(&j->lock);
	return r;
}

static int copy_pages(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e)
{
	for (uint64_t at = start; at < end;) {
		size_t len = MIN(end - at, (uint64_t)BUFFER);
		int r = read_range(pr, at, len, e);

		if (r == 0)
			r = dump_write_pages(pr->d, pr->p->msg->memory->space, at, pr->buffer, len / PAGE, e);
		if (r < 0)
			return r;
		at += len;
	}
	return 0;
}

static int note_shared(struct page_reader *pr, uint64_t start, uint64_t end, uint64_t of, struct error *e)
{
	struct page_job *j = pr->d->pages;
	int r;

	pthread_mutex_lock(&j->lock);
	r = image_writer_shared(pr->d->writer, pr->p->msg->memory->space, start, (end - start) / PAGE, of, e);
	pthread_mutex_unlock(&j->lock);
	return r;
}

/* Of each page at "at", the address space that has it already; 0: none. */
static int find_owners(struct page_reader *pr, uint64_t at, size_t n, uint64_t *owners, struct error *e)
{
	int r = pread_exact(pr->pagemap_fd, owners, n * sizeof(*owners), at / PAGE * 8);

	if (r < 0)
		return error_errno(e, r, "page map of pid %d", pr->p->pid);
	pthread_mutex_lock(&pr->d->pages->lock);
	for (size_t i = 0; i < n; i++)
		owners[i] = shared_pages_owner(
			&pr->d->pages->shared, owners[i], at + i * PAGE, pr->p->msg->memory->space);
	pthread_mutex_unlock(&pr->d->pages->lock);
	return 0;
}

static int copy_region(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e)
{
	uint64_t owners[512];

	if (!pr->relative)
		return copy_pages(pr, start, end, e);
	for (uint64_t at = start; at < end;) {
		size_t n = MIN((end - at) / PAGE, (uint64_t)ARRAY_SIZE(owners)), k;
		int r = find_owners(pr, at, n, owners, e);

		for (size_t i = 0; i < n && r == 0; i = k) {
			for (k = i + 1; k < n && owners[k] == owners[i]; k++)
				;
			r = owners[i] ? note_shared(pr, at + i * PAGE, at + k * PAGE, owners[i], e)
				      : copy_pages(pr, at + i * PAGE, at + k * PAGE, e);
		}
		if (r < 0)
			return r;
		at += n * PAGE;
	}
	return 0;
}

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
			.return_mask = PM_PRESENT | PM_SWAPPED | (v->flags & VMA_GU ? PM_GUARD : 0)};
		int n, r;

		/* The shared zero page is left out by its contents: asking for it makes the scan five times slower. */
		n = ioctl(pr->pagemap_fd, PAGEMAP_SCAN_IOCTL, &arg);
		if (n < 0)
			return errno == ENOTTY || errno == EINVAL
				       ? 1
				       : error_errno(e, -errno, "scan the page map of pid %d", pr->p->pid);
		for (int i = 0; i < n; i++) {
			r = regions[i].categories & PM_GUARD
				    ? note_guard(pr, v, &regions[i], e)
				    : copy_region(pr, regions[i].start, regions[i].end, e);
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
			r = run ? copy_region(pr, run, at, e) : 0;
			if (r < 0)
				return r;
			run = 0;
		}
	}
	return run ? copy_region(pr, run, v->end, e) : 0;
}

static int copy_process(struct page_reader *pr, struct error *e)
{
	struct dump_proc *p = pr->p;

	for (size_t i = 0; i < p->n_vmas; i++) {
		const struct proc_vma *v = &p->vmas[i];
		bool file = v->inode != 0;
		int r;

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

static int open_of_process(pid_t pid, const char *name, int *ret, struct error *e)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	*ret = open(path, O_RDONLY | O_CLOEXEC);
	return *ret < 0 ? error_errno(e, -errno, "open %s", path) : 0;
}

static int copy_item(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct dump *d = arg;
	struct page_reader *pr = &d->pages->readers[worker];
	struct dump_proc *p = &d->procs[item];
	_cleanup_close_ int pagemap_fd = -EBADF, mem_fd = -EBADF;
	int r;

	if (p->zombie)
		return 0;
	r = open_of_process(p->shown, "pagemap", &pagemap_fd, e);
	if (r == 0)
		r = open_of_process(p->shown, "mem", &mem_fd, e);
	if (r < 0)
		return r;
	pr->d = d;
	pr->p = p;
	pr->arena = dump_arena(d, worker);
	pr->pagemap_fd = pagemap_fd;
	pr->mem_fd = mem_fd;
	return copy_process(pr, e);
}

/* An estimate for the progress line: what is resident, of whatever kind. */
static uint64_t resident_bytes(const struct dump *d)
{
	uint64_t kib = 0;

	for (size_t i = 0; i < d->n_procs; i++)
		kib += d->procs[i].status.vm_rss_kib;
	return kib * 1024;
}

int dump_pages_prepare(struct dump *d, struct error *e)
{
	struct page_job *j = d->pages = arena_new(&d->arena, struct page_job);

	if (!j)
		return error_errno(e, -ENOMEM, "buffer");
	pthread_mutex_init(&j->lock, NULL);
	j->progress.fd = -EBADF;
	shared_pages_init(&j->shared);
	for (size_t i = 0; i < ARRAY_SIZE(j->readers); i++) {
		j->readers[i].buffer =
			mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (j->readers[i].buffer == MAP_FAILED)
			return error_errno(e, -errno, "buffer");
	}
	return 0;
}

int dump_pages_start(struct dump *d, struct error *e)
{
	progress_start(&d->pages->progress, STDERR_FILENO, "Writing memory", resident_bytes(d));
	return crew_start(d->crew, copy_item, d, d->n_procs, e);
}

int dump_pages_finish(struct dump *d, struct error *e)
{
	int r = crew_finish(d->crew, e);

	progress_stop(&d->pages->progress);
	shared_pages_done(&d->pages->shared);
	return r;
}

int dump_contents(struct dump *d, uint64_t space, int fd, uint64_t size, struct error *e)
{
	char *map;
	off_t at = 0;
	int r = 0;

	if (!d->stopped || size == 0)
		return 0;
	if (huge_shift_of(fd))
		return huge_dump_contents(d, space, fd, size, e);
	/* Mapped, so that the tail of the last page reads as zeros. */
	map = mmap(NULL, ALIGN_UP(size, (uint64_t)PAGE), PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return error_errno(e, -errno, "map a file of %llu bytes", (unsigned long long)size);
	while (r == 0 && (uint64_t)at < size) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0)
			break; /* ENXIO: only a hole is left; EINVAL cannot be, the offset is inside */
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > size)
			hole = size;
		data &= ~(off_t)(PAGE - 1);
		hole = ALIGN_UP(hole, (off_t)PAGE);
		r = dump_write_pages(d, space, data, map + data, (hole - data) / PAGE, e);
		at = hole;
	}
	munmap(map, ALIGN_UP(size, (uint64_t)PAGE));
	return r;
}
