/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copying of all processes' pages, by as many readers as there are helpers; and the contents of files.
 */
#include "checkpoint/native/pages.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "base/trace.h"
#include "checkpoint/native/dump-stream.h"
#include "checkpoint/native/huge.h"
#include "checkpoint/native/snapshot.h"

/* Memory that one reader takes at a time, and where it is cut: at a huge page. */
enum { SLICE = 16 << 20, SLICE_ALIGN = 2 << 20 };

static int open_of_process(pid_t pid, const char *name, int *ret, struct error *e)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	*ret = open(path, O_RDONLY | O_CLOEXEC);
	return *ret < 0 ? error_errno(e, -errno, "open %s", path) : 0;
}

static int copy_held(struct page_reader *pr, struct error *e)
{
	if (!pr->p->snapshot)
		return 0;
	pr->held = true;
	pr->pagemap_fd = pr->p->snapshot->pagemap_fd;
	pr->mem_fd = pr->p->snapshot->mem_fd;
	return pages_scan(pr, e);
}

void pages_close(struct page_reader *pr)
{
	close_p(&pr->pagemap_fd);
	close_p(&pr->mem_fd);
}

int pages_open(struct page_reader *pr, struct dump *d, struct dump_proc *p, struct error *e)
{
	int r;

	pr->d = d;
	pr->p = p;
	pr->held = false;
	pr->relative = d->n_procs > 1; /* a scan knows better, by mapping */
	r = open_of_process(p->shown, "pagemap", &pr->pagemap_fd, e);
	return r < 0 ? r : open_of_process(p->shown, "mem", &pr->mem_fd, e);
}

static int copy_item(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct dump *d = arg;
	struct page_reader *pr = &d->pages->readers[worker];
	const struct page_slice *slice = &d->pages->slices[item];
	struct dump_proc *p = slice->p;
	_cleanup_close_ int pagemap_fd = -EBADF, mem_fd = -EBADF;
	int r;

	if (d->pages->phase == PAGES_REST && (!p->late || p->snapshot))
		return 0;
	pr->d = d;
	pr->p = p;
	pr->from = slice->from;
	pr->to = slice->to;
	pr->arena = dump_arena(d, worker);
	pr->late = d->pages->phase != PAGES_STOPPED;
	pr->held = false;
	if (d->pages->phase == PAGES_HELD)
		return copy_held(pr, e);
	r = open_of_process(p->shown, "pagemap", &pagemap_fd, e);
	if (r == 0)
		r = open_of_process(p->shown, "mem", &mem_fd, e);
	if (r < 0)
		return r;
	pr->pagemap_fd = pagemap_fd;
	pr->mem_fd = mem_fd;
	return pages_scan(pr, e);
}

/* An estimate for the progress line: what is private, and resident or swapped. */
static uint64_t private_bytes(const struct dump *d)
{
	uint64_t kib = 0;

	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = 0; k < d->procs[i].n_vmas; k++) {
			const struct proc_vma *v = &d->procs[i].vmas[k];

			if (!v->shared)
				kib += (v->inode ? v->anonymous_kib : v->rss_kib) + v->swap_kib;
		}
	return kib * 1024;
}

int dump_pages_prepare(struct dump *d, struct error *e)
{
	struct page_job *j = d->pages = arena_new(&d->arena, struct page_job);

	if (!j)
		return error_errno(e, -ENOMEM, "buffer");
	pthread_mutex_init(&j->lock, NULL);
	shared_pages_init(&j->shared);
	for (size_t i = 0; i < ARRAY_SIZE(j->readers); i++) {
		int r = image_writer_stage(d->writer, &j->readers[i].stage, e);

		if (r < 0)
			return r;
	}
	return 0;
}

static int add_slice(struct dump *d, size_t *room, struct dump_proc *p, uint64_t from, uint64_t to)
{
	struct page_job *j = d->pages;

	if (j->n_slices == *room) {
		size_t n = MAX(*room * 2, d->n_procs + 64);
		struct page_slice *more = arena_array(&d->arena, n, sizeof(*more));

		if (!more)
			return -ENOMEM;
		if (j->n_slices)
			memcpy(more, j->slices, j->n_slices * sizeof(*more));
		j->slices = more;
		*room = n;
	}
	j->slices[j->n_slices++] = (struct page_slice){p, from, to};
	return 0;
}

/* Into how many equal parts a mapping is cut, so that each has about as much memory as a slice should have. */
static uint64_t parts_of(const struct proc_vma *v)
{
	uint64_t bytes = (v->rss_kib + v->swap_kib) * 1024;

	/* Guard regions are noted in one record; of hugetlb there is little. */
	if (v->shared || (v->flags & (VMA_GU | VMA_HT)))
		return 1;
	return MIN(bytes / SLICE + 1, (v->end - v->start) / SLICE_ALIGN + 1);
}

/* Cuts the address space of one process: mappings together until they are enough, large ones in parts. */
static int slice_process(struct dump *d, size_t *room, struct dump_proc *p)
{
	uint64_t from = 0, bytes = 0;
	int r = 0;

	for (size_t i = 0; i < p->n_vmas && r == 0; i++) {
		const struct proc_vma *v = &p->vmas[i];
		uint64_t n = parts_of(v), step = ALIGN_UP((v->end - v->start) / n, (uint64_t)SLICE_ALIGN);

		bytes += v->shared ? 0 : (v->rss_kib + v->swap_kib) * 1024 / n;
		for (uint64_t k = 1, at; k < n && r == 0; k++) {
			at = (v->start + k * step) & ~(uint64_t)(SLICE_ALIGN - 1);
			if (at <= from || at >= v->end)
				continue;
			r = add_slice(d, room, p, from, at);
			from = at;
		}
		if (r == 0 && bytes >= SLICE) {
			r = add_slice(d, room, p, from, v->end);
			from = v->end;
			bytes = 0;
		}
	}
	return r == 0 ? add_slice(d, room, p, from, UINT64_MAX) : r;
}

int dump_pages_start(struct dump *d, struct error *e)
{
	TRACE("pages: start");
	struct page_job *j = d->pages;
	size_t room = 0;

	for (size_t i = 0; i < d->n_procs; i++)
		if (!d->procs[i].zombie && slice_process(d, &room, &d->procs[i]) < 0)
			return error_errno(e, -ENOMEM, "list of memory");
	if (!d->stream) /* which sends it later */
		progress_start(&d->progress, "memory", "Writing memory", private_bytes(d));
	return crew_start(d->crew, copy_item, d, j->n_slices, e);
}

/* Fewer bytes only at the end of the file. */
static ssize_t read_at(int fd, char *to, size_t len, uint64_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, to + done, len - done, at + done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		done += MAX(n, 0);
	}
	return done;
}

/* The pages from "at" on; what is behind the end of the file reads as zeros. */
static int copy_contents(struct dump *d, struct image_stage *stage, uint64_t space, int fd, uint64_t at,
	uint64_t end, struct error *e)
{
	while (at < end) {
		size_t n;
		char *to = image_stage_room(stage, (end - at) / PAGE, &n);
		ssize_t got = read_at(fd, to, n * PAGE, at);
		int r;

		if (got < 0)
			return error_errno(e, (int)got, "read a file");
		memset(to + got, 0, n * PAGE - got);
		r = image_stage_add(stage, space, at, n, e);
		if (r < 0)
			return r;
		at += n * PAGE;
		pages_count(d, n * PAGE);
	}
	return 0;
}

static int copy_content_item(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct dump *d = arg;
	const struct page_content *c = &d->pages->contents[item];

	return copy_contents(d, d->pages->readers[worker].stage, c->space, c->fd, c->from, c->to, e);
}

static int copy_all_contents(struct dump *d, struct error *e)
{
	int r = crew_start(d->crew, copy_content_item, d, d->pages->n_contents, e);

	return r == 0 ? crew_finish(d->crew, e) : r;
}

int dump_pages_finish(struct dump *d, struct error *e)
{
	TRACE("pages: finish");
	int r = crew_finish(d->crew, e);

	if (r == 0 && d->snapshots) {
		d->pages->phase = PAGES_REST;
		r = crew_start(d->crew, copy_item, d, d->pages->n_slices, e);
		if (r == 0)
			r = crew_finish(d->crew, e);
	}
	/* The plan of a stream has all pages. */
	if (r == 0 && d->snapshots && d->stream) {
		d->pages->phase = PAGES_HELD;
		r = crew_start(d->crew, copy_item, d, d->pages->n_slices, e);
		if (r == 0)
			r = crew_finish(d->crew, e);
	}
	if (r == 0 && d->pages->n_contents)
		r = copy_all_contents(d, e);
	shared_pages_done(&d->pages->shared);
	if (r < 0 || !d->snapshots)
		progress_stop(&d->progress);
	return r;
}

int dump_pages_late(struct dump *d, struct error *e)
{
	TRACE("pages: late");
	struct page_job *j = d->pages;
	uint64_t before = j->done;
	int r;

	if (d->stream)
		return dump_stream_send_late(d, e);
	if (!d->snapshots)
		return 0;
	j->phase = PAGES_HELD;
	r = crew_start(d->crew, copy_item, d, d->pages->n_slices, e);
	if (r == 0)
		r = crew_finish(d->crew, e);
	crew_drop(d->crew);
	progress_stop(&d->progress);
	d->stats->pages_late = (j->done - before) / PAGE;
	return r;
}

void dump_pages_done(struct dump *d)
{
	for (size_t i = 0; d->pages && i < d->pages->n_contents; i++)
		if (d->pages->contents[i].last)
			close_p(&d->pages->contents[i].fd);
}

/* So much in a row is left to the helpers, in parts; *fd is our duplicate, made when first needed. */
static int put_off(
	struct dump *d, uint64_t space, int of, int *fd, uint64_t from, uint64_t to, struct error *e)
{
	struct page_job *j = d->pages;
	size_t n = (to - from + SLICE - 1) / SLICE;

	if (*fd < 0)
		*fd = fcntl(of, F_DUPFD_CLOEXEC, 0);
	if (*fd < 0)
		return error_errno(e, -errno, "duplicate a file");
	if (j->n_contents + n > j->max_contents) {
		size_t max = MAX(j->max_contents * 2, j->n_contents + n);
		struct page_content *more = arena_array(&d->arena, max, sizeof(*more));

		if (!more)
			return error_errno(e, -ENOMEM, "list of memory");
		if (j->n_contents)
			memcpy(more, j->contents, j->n_contents * sizeof(*more));
		j->contents = more;
		j->max_contents = max;
	}
	for (; from < to; from += SLICE)
		j->contents[j->n_contents++] =
			(struct page_content){space, from, MIN(from + SLICE, to), *fd, false};
	return 0;
}

int dump_contents(struct dump *d, uint64_t space, int fd, uint64_t size, struct error *e)
{
	size_t first = d->pages ? d->pages->n_contents : 0;
	int copy = -EBADF;
	off_t at = 0;
	int r = 0;

	if (!d->stopped || size == 0)
		return 0;
	if (huge_shift_of(fd))
		return huge_dump_contents(d, space, fd, size, e);
	if (d->stream) {
		r = dump_stream_plan_file(d, space, fd, size, e);
		if (r <= 0)
			return r;
		r = 0;
	}
	while (r == 0 && (uint64_t)at < size) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0)
			break; /* ENXIO: only a hole is left; EINVAL cannot be, the offset is inside */
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > size)
			hole = size;
		data &= ~(off_t)(PAGE - 1);
		hole = ALIGN_UP(hole, (off_t)PAGE);
		pages_expect(d, hole - data);
		r = hole - data >= SLICE
			    ? put_off(d, space, fd, &copy, data, hole, e)
			    : copy_contents(d, d->pages->readers[0].stage, space, fd, data, hole, e);
		at = hole;
	}
	if (d->pages->n_contents > first)
		d->pages->contents[d->pages->n_contents - 1].last = true;
	else
		close_p(&copy);
	return r;
}
