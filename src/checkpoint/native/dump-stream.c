/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint to a stream. Where pages would be copied, it is only noted that there are some; when everything else is
 * known, records and the plan of all pages go out, and then the pages in the order of the plan. So a restore can
 * begin while they come, and nothing of them is kept here.
 *
 * Invariant: the plan is sorted by address space, and each address space has one source: a process, or a file.
 */
#include "checkpoint/native/dump-stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/fault.h"
#include "base/fd.h"
#include "checkpoint/native/pages.h"
#include "checkpoint/native/snapshot.h"
#include "image/stream.h"

/* More files than that, or smaller ones, are sent before the records: they need not be kept open. */
enum {
	FILES_MAX = 4096,
	SMALL_FILES_MAX = 256,
	SMALL_FILE = 64 << 10,
	BUFFER = 1 << 20,
	HELD_MAX = 24 << 20,
	LAZY_VMA = 256 << 10
};

struct source {
	uint64_t space;
	struct dump_proc *p; /* NULL: a file */
	int fd;
	uint64_t size;
};

struct dump_stream {
	struct image_out *out;
	struct source *sources;
	size_t n, allocated, n_files;
	bool sending;
	const struct image_run *runs; /* of the plan: late ones, which snapshots hold, from "late" on */
	size_t late, n_runs;
};

int dump_stream_open(struct dump *d, int guard_fd, struct error *e)
{
	int r;

	d->stream = calloc(1, sizeof(*d->stream));
	if (!d->stream)
		return error_errno(e, -ENOMEM, "image stream");
	r = image_out_new(d->options->stream_fd, guard_fd, d->options->stream_timeout, &d->stream->out, e);
	if (r == 0)
		r = image_out_compress(d->stream->out, &d->options->packing, e);
	if (r < 0)
		return r;
	if (d->options->pre_copy)
		image_out_forgets(d->stream->out);
	return image_writer_new_stream(d->stream->out, &d->writer, e);
}

bool dump_stream_has_begun(const struct dump *d)
{
	return d->stream && d->stream->sending;
}

void dump_stream_forget(struct dump_stream *s)
{
	for (size_t i = 0; i < s->n; i++)
		close_p(&s->sources[i].fd);
	s->n = s->n_files = 0;
}

void dump_stream_free(struct dump_stream *s)
{
	if (!s)
		return;
	dump_stream_forget(s);
	free(s->sources);
	image_out_free(s->out);
	free(s);
}

static int add_source(struct dump *d, const struct source *new, struct error *e)
{
	struct dump_stream *s = d->stream;

	if (s->n == s->allocated) {
		size_t want = MAX(s->allocated * 2, (size_t)64);
		struct source *more = reallocarray(s->sources, want, sizeof(*more));

		if (!more)
			return error_errno(e, -ENOMEM, "image stream");
		s->sources = more;
		s->allocated = want;
	}
	s->sources[s->n++] = *new;
	return 0;
}

/* Large anonymous memory: a restore may fill it while the program runs. */
static bool can_be_lazy(const struct dump_proc *p, uint64_t address)
{
	size_t lo = 0, hi = p->n_vmas;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (p->vmas[mid].end <= address)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->n_vmas && !p->vmas[lo].shared && !p->vmas[lo].inode &&
	       p->vmas[lo].end - p->vmas[lo].start >= LAZY_VMA;
}

int dump_stream_plan(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e)
{
	enum image_stream_order order = pr->held		    ? IMAGE_STREAM_LATE
					: can_be_lazy(pr->p, start) ? IMAGE_STREAM_THEN
								    : IMAGE_STREAM_FIRST;
	struct page_job *j = pr->d->pages;
	int r;

	pthread_mutex_lock(&j->lock);
	r = image_writer_plan(
		pr->d->writer, pr->p->msg->memory->space, start, (end - start) / PAGE, order, e);
	pthread_mutex_unlock(&j->lock);
	return r;
}

int dump_stream_plan_file(struct dump *d, uint64_t space, int fd, uint64_t size, struct error *e)
{
	struct dump_stream *s = d->stream;
	struct source file = {.space = space, .size = size};
	off_t at = 0;
	int r = 0;

	if (s->sending || s->n_files >= FILES_MAX || (size <= SMALL_FILE && s->n_files >= SMALL_FILES_MAX))
		return 1;
	file.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (file.fd < 0)
		return error_errno(e, -errno, "image stream");
	r = add_source(d, &file, e);
	if (r < 0) {
		close(file.fd);
		return r;
	}
	s->n_files++;
	while (r == 0 && (uint64_t)at < size) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;

		if (data < 0)
			break; /* ENXIO: only a hole is left */
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > size)
			hole = size;
		data &= ~(off_t)(PAGE - 1);
		at = ALIGN_UP(hole, (off_t)PAGE);
		pthread_mutex_lock(&d->pages->lock);
		r = image_writer_plan(d->writer, space, data, (at - data) / PAGE, IMAGE_STREAM_FIRST, e);
		pthread_mutex_unlock(&d->pages->lock);
	}
	return r;
}

static int compare_sources(const void *va, const void *vb)
{
	const struct source *a = va, *b = vb;

	return a->space < b->space ? -1 : a->space > b->space;
}

static const struct source *find_source(const struct dump_stream *s, uint64_t space)
{
	struct source key = {.space = space};

	return s->n ? bsearch(&key, s->sources, s->n, sizeof(key), compare_sources) : NULL;
}

/* ---- the pages ---- */

struct sending {
	struct dump *d;
	struct page_reader *pr;
	const struct source *source; /* of the last run */
	const char *map;	     /* of its file; NULL */
	char *buffer;
	bool late;
	uint64_t done;
};

static void leave_source(struct sending *s)
{
	if (s->map)
		munmap((void *)s->map, ALIGN_UP(s->source->size, (uint64_t)PAGE));
	s->map = NULL;
	if (s->late) /* the snapshot's own */
		s->pr->pagemap_fd = s->pr->mem_fd = -EBADF;
	pages_close(s->pr);
	s->source = NULL;
}

static void enter_snapshot(struct sending *s)
{
	struct page_reader *pr = s->pr;

	pr->d = s->d;
	pr->p = s->source->p;
	pr->held = true;
	pr->pagemap_fd = pr->p->snapshot->pagemap_fd;
	pr->mem_fd = pr->p->snapshot->mem_fd;
}

static int enter_source(struct sending *s, uint64_t space, struct error *e)
{
	if (s->source && s->source->space == space)
		return 0;
	leave_source(s);
	s->source = find_source(s->d->stream, space);
	if (!s->source)
		return error_set(e, -EINVAL, ERROR_INTERNAL, "image stream: nobody has address space %llu",
			(unsigned long long)space);
	if (s->late) {
		enter_snapshot(s);
		return 0;
	}
	if (s->source->p)
		return pages_open(s->pr, s->d, s->source->p, e);
	s->map = mmap(
		NULL, ALIGN_UP(s->source->size, (uint64_t)PAGE), PROT_READ, MAP_SHARED, s->source->fd, 0);
	if (s->map == MAP_FAILED) {
		s->map = NULL;
		return error_errno(
			e, -errno, "map a file of %llu bytes", (unsigned long long)s->source->size);
	}
	return 0;
}

static int send_run(struct sending *s, const struct image_run *run, struct error *e)
{
	uint64_t end = run->address + run->n_pages * PAGE, at = run->address;
	int r = enter_source(s, run->space, e);

	while (r == 0 && at < end) {
		size_t len = MIN(end - at, (uint64_t)BUFFER);

		if (!s->map)
			r = pages_read(s->pr, at, s->buffer, len, e);
		if (r == 0)
			r = image_writer_fill(
				s->d->writer, run, at, s->map ? s->map + at : s->buffer, len / PAGE, e);
		/* Of a file's pages no more is ours than what is sent just now. */
		if (s->map)
			madvise((void *)(s->map + at), len, MADV_DONTNEED);
		at += len;
		s->done += len;
		progress_update(&s->d->progress, s->done);
	}
	return r;
}

static uint64_t count_bytes(const struct image_run *runs, size_t n)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < n; i++)
		bytes += runs[i].n_pages * PAGE;
	return bytes;
}

/* Before the tasks run on, or (late) afterwards. */
static int send_runs(struct dump *d, bool late, struct error *e)
{
	const struct dump_stream *ds = d->stream;
	const struct image_run *runs = late ? ds->runs + ds->late : ds->runs;
	size_t n = late ? ds->n_runs - ds->late : ds->late;
	_cleanup_free_ char *buffer = malloc(BUFFER);
	struct sending s = {.d = d, .pr = &d->pages->readers[0], .buffer = buffer, .late = late};
	int r = buffer ? 0 : error_errno(e, -ENOMEM, "image stream");

	s.pr->pagemap_fd = s.pr->mem_fd = -EBADF;
	progress_start(&d->progress, "memory", "Sending memory", count_bytes(runs, n));
	for (size_t i = 0; i < n && r == 0; i++)
		r = send_run(&s, &runs[i], e);
	leave_source(&s);
	if (late)
		d->stats->pages_late = s.done / PAGE;
	return r;
}

int dump_stream_send(struct dump *d, const struct image_manifest *m, struct error *e)
{
	struct dump_stream *s = d->stream;
	int r = 0;

	for (size_t i = 0; i < d->n_procs && r == 0; i++) {
		struct source process = {.p = &d->procs[i], .fd = -EBADF};

		if (process.p->zombie)
			continue;
		process.space = process.p->msg->memory->space;
		r = add_source(d, &process, e);
	}
	if (r < 0)
		return r;
	qsort(s->sources, s->n, sizeof(*s->sources), compare_sources);
	s->sending = true;
	/* Who only stands still for this should not wait for the reader. */
	if (d->options->leave_running)
		image_out_hold(s->out, HELD_MAX);
	r = image_writer_begin(d->writer, m, &s->runs, &s->late, &s->n_runs, e);
	if (r == 0)
		r = fault_point("checkpoint-stream", e);
	if (r == 0)
		r = send_runs(d, false, e);
	return r;
}

int dump_stream_send_late(struct dump *d, struct error *e)
{
	int r = image_out_let_go(d->stream->out, e);

	return r < 0 ? r : send_runs(d, true, e);
}
