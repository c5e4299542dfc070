/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/pre-copy.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "checkpoint/confine.h"
#include "checkpoint/native/dump-stream.h"
#include "checkpoint/native/pages.h"

enum { COPY_BUFFER = 1 << 20 };

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

/* What is watched has no contents anywhere any more. */
static void forget(struct track *t)
{
	t->image = 0;
	for (size_t i = 0; i < t->n; i++)
		t->mms[i].space = 0;
}

/* The image that --parent-path names; NULL: none. What has been watched since another one is forgotten. */
static int open_parent(struct dump *d, int image_dir, struct track *t, struct image **ret, struct error *e)
{
	const char *path = d->options->parent_path;
	_cleanup_(image_free_p) struct image *parent = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!path) {
		forget(t);
		return 0;
	}
	fd = openat(image_dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(e, -errno,
			"open the image --parent-path %s (relative to the image's directory)", path);
	if (image_would_replace(image_dir, fd))
		return error_set(e, -EINVAL, ERROR_USAGE,
			"--parent-path %s is the image that this one would replace: choose another directory "
			"for this "
			"one",
			path);
	r = confined_image_open(fd, &parent, e);
	if (r == 0)
		r = image_writer_set_parent(d->writer, parent, path, e);
	if (r < 0) {
		error_prefix(e, "--parent-path %s", path);
		return r;
	}
	if (!t->image || t->image != image_manifest(parent)->checksum) {
		log_warning(
			"the memory has not been watched since the image %s was made: all of it is copied%s",
			path, d->options->packing.dedup ? ", and compared with it" : "");
		forget(t);
	}
	*ret = take_ptr(parent);
	return 0;
}

/* ---- a round ---- */

struct round {
	struct dump d;
	struct track *track;
	struct track_ranges ranges;
	int *mem_fds;	  /* of each process; -EBADF: none */
	uint64_t *spaces; /* its address space in this round; 0: it is not watched */
	char *buffer;
	uint64_t bytes, frozen_us, freeze_us, copy_us;
	struct progress progress;
	uint64_t done;
};

static void round_done(struct round *r)
{
	for (size_t i = 0; r->mem_fds && i < r->d.n_procs; i++)
		close_p(&r->mem_fds[i]);
	if (r->buffer)
		munmap(r->buffer, COPY_BUFFER);
	track_ranges_done(&r->ranges);
	dump_done(&r->d);
}

/* By the memory, not by the process: that may end, or execute another program, before it is read. */
static int open_memory(struct round *r, struct error *e)
{
	struct dump *d = &r->d;

	r->mem_fds = arena_array(&d->arena, d->n_procs, sizeof(*r->mem_fds));
	r->spaces = arena_array(&d->arena, d->n_procs, sizeof(*r->spaces));
	if (!r->mem_fds || !r->spaces)
		return error_errno(e, -ENOMEM, "pre-copy");
	for (size_t i = 0; i < d->n_procs; i++)
		r->mem_fds[i] = -EBADF;
	for (size_t i = 0; i < d->n_procs; i++) {
		struct dump_proc *p = &d->procs[i];
		char path[32];

		if (p->zombie || !track_find(r->track, p))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/mem", p->shown);
		r->mem_fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (r->mem_fds[i] < 0)
			return error_errno(e, -errno, "open %s", path);
		r->spaces[i] = dump_new_id(d);
	}
	return 0;
}

/* From the stop on; the container is let go before this returns, whatever happens. */
static int watch(struct round *r, struct error *e)
{
	struct dump *d = &r->d;
	uint64_t start = now_us();
	struct error undo;
	int result = dump_stop(d, e), resumed;

	r->freeze_us = now_us() - start;
	if (result == 0 && d->options->pre_copy)
		track_learn_before(d, r->track);
	if (result == 0)
		result = track_round(d, r->track, &r->ranges, e);
	if (result == 0)
		track_learn(d, r->track);
	if (result == 0)
		result = open_memory(r, e);
	if (result == 0)
		result = fault_point("predump-tracked", e);
	resumed = dump_resume(d, result < 0 ? &undo : e);
	r->frozen_us = now_us() - start;
	return result < 0 ? result : resumed;
}

/* What cannot be read is not there any more, or never could be: the next round does not find it as it was. */
static int copy_readable(struct round *r, size_t proc, uint64_t start, uint64_t end, struct error *e)
{
	for (uint64_t at = start; at < end;) {
		size_t len = MIN(end - at, (uint64_t)COPY_BUFFER), whole;
		ssize_t n = pread(r->mem_fds[proc], r->buffer, len, at);
		int result = 0;

		if (n == 0)
			return 0; /* all of this memory is gone */
		whole = n > 0 ? n / PAGE : 0;
		if (whole)
			result = image_writer_pages(r->d.writer, r->spaces[proc], at, r->buffer, whole, e);
		if (result < 0)
			return result;
		/* The page at which it ended is left out. */
		at += (n == (ssize_t)len ? whole : whole + 1) * PAGE;
		r->done += len;
		progress_update(&r->progress, r->done);
	}
	return 0;
}

static int copy_range(struct round *r, const struct track_range *range, struct error *e)
{
	size_t proc = range->proc - r->d.procs;
	uint64_t of = track_find(r->track, range->proc)->space;

	if (range->written || !of)
		return copy_readable(r, proc, range->start, range->end, e);
	for (uint64_t at = range->start; at < range->end;) {
		size_t n = 0;
		int result = image_writer_inherit(
			r->d.writer, r->spaces[proc], at, (range->end - at) / PAGE, of, &n, e);

		if (result == 0)
			result = copy_readable(r, proc, at, at + n * PAGE, e);
		if (result < 0)
			return result;
		at += n * PAGE;
	}
	return 0;
}

static int copy_all(struct round *r, int guard_fd, struct error *e)
{
	uint64_t start = now_us();
	int result = 0;

	for (size_t i = 0; i < r->ranges.n; i++)
		if (r->ranges.v[i].written)
			r->bytes += r->ranges.v[i].end - r->ranges.v[i].start;
	progress_start(&r->progress, "pre-copy", "Copying memory ahead", r->bytes);
	for (size_t i = 0; i < r->ranges.n && result == 0; i++) {
		result = copy_range(r, &r->ranges.v[i], e);
		if (result == 0 && i % 64 == 0)
			result = dump_guard_is_alive(guard_fd, e);
	}
	progress_stop(&r->progress);
	r->copy_us = now_us() - start;
	return result;
}

/* From now on what is watched is watched since this round. */
static void note_spaces(struct round *r)
{
	for (size_t i = 0; i < r->d.n_procs; i++) {
		struct track_mm *mm = r->spaces[i] ? track_find(r->track, &r->d.procs[i]) : NULL;

		if (mm)
			mm->space = r->spaces[i];
	}
}

static int round_init(struct round *r, struct container *c, const struct checkpoint_options *o,
	struct dump_journal *journal, struct image_statistics *stats, struct track *t, struct error *e)
{
	*r = (struct round){
		.d = {.c = c, .options = o, .journal = journal, .stats = stats, DUMP_INIT},
		.track = t,
		.progress = dump_new_progress(o),
	};
	r->buffer = mmap(NULL, COPY_BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->buffer == MAP_FAILED) {
		r->buffer = NULL;
		return error_errno(e, -errno, "pre-copy");
	}
	return 0;
}

static int make_round(struct round *r, int guard_fd, struct error *e)
{
	struct preflight_report report = {};
	int result;

	r->d.report = &report;
	result = watch(r, e);
	preflight_report_done(&report);
	if (result == 0)
		result = copy_all(r, guard_fd, e);
	if (result == 0)
		result = fault_point("checkpoint-memory", e);
	if (result == 0)
		note_spaces(r);
	return result;
}

/* ---- --pre-dump ---- */

static int write_record(struct dump *d, struct error *e)
{
	St__Container *m = pb_new(&d->arena, Container, container);

	if (!m)
		return error_errno(e, -ENOMEM, "container");
	m->id = d->c->id;
	m->generation = d->c->generation;
	return image_writer_record(d->writer, IMAGE_RECORD_CONTAINER, &m->base, e);
}

static void count(const struct round *r, uint64_t begin)
{
	struct image_statistics *s = r->d.stats;

	s->freeze_us = r->freeze_us;
	s->frozen_us = r->frozen_us;
	s->memory_us = r->copy_us;
	s->processes = r->d.n_procs;
	s->threads = 0;
	for (size_t i = 0; i < r->d.n_procs; i++)
		s->threads += r->d.procs[i].n_threads;
	s->total_us = now_us() - begin;
}

static int pre_dump_once(struct round *r, int image_dir, int guard_fd, struct error *e)
{
	_cleanup_(image_free_p) struct image *parent = NULL;
	uint64_t begin = now_us();
	int result;

	result = open_parent(&r->d, image_dir, r->track, &parent, e);
	if (result == 0)
		result = make_round(r, guard_fd, e);
	if (result == 0)
		result = write_record(&r->d, e);
	if (result < 0)
		return result;
	count(r, begin);
	result = dump_commit(&r->d, true, e);
	if (result == 0)
		r->track->image = image_writer_checksum(r->d.writer);
	return result;
}

int native_pre_dump(struct container *c, const struct checkpoint_options *o, int image_dir,
	struct dump_journal *journal, int guard_fd, struct image_statistics *stats, struct error *e)
{
	enum { STOPS = 8 };
	_cleanup_(track_done_p) struct track t = {TRACK_INIT};
	int result;

	track_fetch(c, true, &t);
	for (int i = 1;; i++) {
		struct image_writer *w = NULL;
		struct round r;

		result = round_init(&r, c, o, journal, stats, &t, e);
		if (result == 0)
			result = image_writer_new(image_dir, &w, e);
		r.d.writer = w;
		if (result == 0)
			result = dump_prepare_packing(&r.d, &guard_fd, e);
		if (result == 0)
			result = pre_dump_once(&r, image_dir, guard_fd, e);
		round_done(&r);
		image_writer_free(w);
		if (result != -EAGAIN || journal->paused || i == STOPS)
			break;
		forget(&t);
		usleep(1000u << i);
	}
	if (result == 0)
		result = fault_point("checkpoint-manifest", e);
	return result == 0 ? track_hold(c, &t, e) : result;
}

/* ---- --pre-copy ---- */

enum { MAX_ROUNDS = 10, TARGET_US = 3000 };

/* Is another round of use? What is left to copy would have to be clearly less than it was. */
static bool is_worth_it(
	const struct checkpoint_options *o, const struct round *r, int n, uint64_t left, uint64_t before)
{
	uint64_t target = o->pre_copy_target_ms ? o->pre_copy_target_ms * UINT64_C(1000) : TARGET_US;
	/* without better knowledge 2 GB/s */
	uint64_t rate = r->copy_us > 1000 && r->bytes > 1 << 20 ? r->bytes / r->copy_us : 2000;

	if (o->pre_copy_rounds)
		return n < o->pre_copy_rounds;
	return n < MAX_ROUNDS && r->frozen_us + left / MAX(rate, UINT64_C(1)) > target &&
	       left < before - before / 10;
}

static int next_round(struct container *c, const struct checkpoint_options *o, struct image_writer *w,
	struct dump_journal *journal, int guard_fd, struct track *t, int n, uint64_t *left, bool *ret_more,
	struct error *e)
{
	struct image_statistics stats = {};
	struct round r;
	uint64_t before = *left;
	int result = round_init(&r, c, o, journal, &stats, t, e);

	r.d.writer = w;
	if (result == 0)
		result = make_round(&r, guard_fd, e);
	if (result == 0)
		result = image_writer_round(w, e);
	if (result == 0) {
		*left = track_peek(&r.d, t);
		*ret_more = is_worth_it(o, &r, n, *left, before);
		log_debug("pre-copy round %d: stopped for %llu us, copied %llu KiB in %llu us; written "
			  "since: %llu KiB",
			n, (unsigned long long)r.frozen_us, (unsigned long long)r.bytes / 1024,
			(unsigned long long)r.copy_us, (unsigned long long)*left / 1024);
	}
	round_done(&r);
	return result;
}

static int make_rounds(struct dump *d, int guard_fd, bool again, struct error *e)
{
	uint64_t left = UINT64_MAX;
	bool more = true;
	/* Where threads sleep is clear now; soon after a stop it may not be. */
	int result = dump_remember_waits(d, e);

	if (!again) {
		track_fetch(d->c, true, d->track);
		forget(d->track);
	}
	for (int n = 1; result == 0 && more; n++)
		result = next_round(
			d->c, d->options, d->writer, d->journal, guard_fd, d->track, n, &left, &more, e);
	/* What it has protected it may not have copied. */
	if (result < 0)
		forget(d->track);
	if (result == 0)
		track_prepare_maps(d->track);
	d->track->tells_empty = track_try_empty();
	return result;
}

static int open_writer(
	struct dump *d, int image_dir, int guard_fd, struct pre_copy_kept *kept, struct error *e)
{
	if (!d->options->to_stream)
		return image_writer_new(image_dir, &d->writer, e);
	if (!kept->writer)
		return dump_stream_open(d, guard_fd, e);
	d->writer = take_ptr(kept->writer);
	d->stream = take_ptr(kept->stream);
	image_writer_again(d->writer);
	return 0;
}

void pre_copy_kept_done(struct pre_copy_kept *kept)
{
	image_writer_free(take_ptr(kept->writer));
	dump_stream_free(take_ptr(kept->stream));
	track_done(&kept->track);
	kept->track = (struct track){TRACK_INIT};
}

void pre_copy_keep(struct dump *d, bool again, struct pre_copy_kept *kept)
{
	if (again && d->stream && !dump_stream_has_begun(d)) {
		dump_stream_forget(d->stream);
		kept->writer = take_ptr(d->writer);
		kept->stream = take_ptr(d->stream);
		if (d->options->pre_copy)
			return;
	}
	image_writer_free(take_ptr(d->writer));
	dump_stream_free(take_ptr(d->stream));
	track_done(&kept->track);
	kept->track = (struct track){TRACK_INIT};
}

int pre_copy_prepare(struct dump *d, int image_dir, int guard_fd, struct pre_copy_kept *kept,
	struct image **ret_parent, struct error *e)
{
	struct error why;
	bool again = kept->writer;
	int r = open_writer(d, image_dir, guard_fd, kept, e);

	if (r < 0)
		return r;
	if (d->options->pre_copy && pre_copy_is_possible(d->unprivileged, &why) == 0)
		return make_rounds(d, guard_fd, again, e);
	if (d->options->pre_copy)
		log_warning(
			"--pre-copy is not possible, all memory is copied while the container is stopped: %s",
			why.message);
	if (!d->unprivileged)
		track_fetch(d->c, false, d->track);
	d->track->tells_empty = d->track->n > 0 && track_try_empty();
	return open_parent(d, image_dir, d->track, ret_parent, e);
}

int pre_copy_is_possible(bool unprivileged, struct error *e)
{
	if (unprivileged)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"an ordinary user may not take a userfaultfd out of another process: make a full "
			"checkpoint, "
			"or make it as root");
	return track_check_kernel(e);
}
