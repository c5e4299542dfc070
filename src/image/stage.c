/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stage: page data on its way into pages.img, by one of several threads. It is as large as fits into a CPU's own cache
 * several times, so that what is read from a process is looked through for zeros, hashed and written while it is there.
 *
 * Invariants: the stage holds no zero page; what it holds goes to a place in the file that begins at a chunk, so its checksums
 * need nothing of others. While more is to come than one extent the stage takes the file by extents: then the runs of the
 * index are longer, although several threads write at once.
 */
#include <stdlib.h>

#include "base/fd.h"
#include "image/image-priv.h"

enum { STAGE_SIZE = 4 * IMAGE_CHUNK_SIZE, EXTENT = 1 << 20, STAGE_CHUNKS = STAGE_SIZE / IMAGE_CHUNK_SIZE };

struct image_stage {
	struct image_pages *pages; /* borrowed */
	int fd;			   /* borrowed */
	uint8_t *buffer;
	size_t used;
	uint64_t wanted;	/* bytes that the caller has spoken of, and not put yet */
	uint64_t at, end;	/* what is left of the extent */
	struct image_run *runs; /* offsets in the buffer */
	size_t n_runs, runs_size;
};

int image_stage_new(struct image_pages *p, int fd, struct image_stage **ret, struct error *e)
{
	struct image_stage *s = calloc(1, sizeof(*s));

	if (s)
		s->buffer = aligned_alloc(IMAGE_PAGE_SIZE, STAGE_SIZE);
	if (!s || !s->buffer) {
		image_stage_free(s);
		return error_errno(e, -ENOMEM, IMAGE_PAGES);
	}
	s->pages = p;
	s->fd = fd;
	*ret = s;
	return 0;
}

void image_stage_free(struct image_stage *s)
{
	if (!s)
		return;
	free(s->runs);
	free(s->buffer);
	free(s);
}

void *image_stage_room(struct image_stage *s, uint64_t wanted, size_t *ret_n)
{
	s->wanted = wanted * IMAGE_PAGE_SIZE;
	*ret_n = MIN(wanted, (uint64_t)(STAGE_SIZE - s->used) / IMAGE_PAGE_SIZE);
	return s->buffer + s->used;
}

static int note(struct image_stage *s, const struct image_run *run)
{
	struct image_run *last = s->n_runs ? &s->runs[s->n_runs - 1] : NULL;

	if (last && image_run_continues(last, run)) {
		last->n_pages += run->n_pages;
		return 0;
	}
	if (s->n_runs == s->runs_size) {
		size_t n = s->runs_size ? s->runs_size * 2 : 64;
		struct image_run *more = realloc(s->runs, n * sizeof(*more));

		if (!more)
			return -ENOMEM;
		s->runs = more;
		s->runs_size = n;
	}
	s->runs[s->n_runs++] = *run;
	return 0;
}

/* Writes what there is to the extent, up to the end of a chunk. */
static int write_out(struct image_stage *s, struct error *e)
{
	uint64_t checksums[STAGE_CHUNKS];
	size_t len = ALIGN_UP(s->used, (size_t)IMAGE_CHUNK_SIZE), n = len / IMAGE_CHUNK_SIZE;
	int r;

	memset(s->buffer + s->used, 0, len - s->used);
	for (size_t i = 0; i < n; i++)
		checksums[i] = image_hash(s->buffer + i * IMAGE_CHUNK_SIZE, IMAGE_CHUNK_SIZE);
	r = image_pages_enter(s->pages, s->runs, s->n_runs, s->at, checksums, n, e);
	if (r < 0)
		return r;
	r = pwrite_all(s->fd, s->buffer, len, s->at);
	if (r < 0)
		return error_errno(e, r, "%s", IMAGE_PAGES);
	s->at += len;
	s->used = s->n_runs = 0;
	return 0;
}

static int write_full(struct image_stage *s, struct error *e)
{
	int r = 0;

	if (s->at == s->end) {
		/* "wanted" is still what it was when this stage had room. */
		size_t size = s->wanted >= EXTENT ? EXTENT : STAGE_SIZE;

		r = image_pages_extent(s->pages, size, &s->at, e);
		s->end = s->at + (r == 0 ? size : 0);
	}
	return r == 0 ? write_out(s, e) : r;
}

int image_stage_add(struct image_stage *s, uint64_t space, uint64_t address, size_t n_pages, struct error *e)
{
	const uint8_t *from = s->buffer + s->used;
	int r = image_pages_check(space, address, n_pages, e);

	/* In a stream nothing is kept back: its order is that of the plan. */
	if (r == 0 && image_pages_is_stream(s->pages))
		return image_pages_add(s->pages, space, address, from, n_pages, e);
	for (size_t i = 0, n; i < n_pages && r == 0; i += n) {
		const uint8_t *first = from + i * IMAGE_PAGE_SIZE;
		bool zero = image_page_is_zero(first);
		struct image_run run;

		for (n = 1; i + n < n_pages && image_page_is_zero(first + n * IMAGE_PAGE_SIZE) == zero; n++)
			;
		run = (struct image_run){
			.space = space,
			.address = address + i * IMAGE_PAGE_SIZE,
			.n_pages = n,
			.offset = zero ? 0 : s->used,
			.kind = zero ? IMAGE_PAGES_ZERO : IMAGE_PAGES_DATA,
		};
		if (note(s, &run) < 0)
			return error_errno(e, -ENOMEM, "%s", IMAGE_PAGES);
		if (zero)
			continue;
		if (first != s->buffer + s->used)
			memmove(s->buffer + s->used, first, n * IMAGE_PAGE_SIZE);
		s->used += n * IMAGE_PAGE_SIZE;
	}
	return r == 0 && s->used == STAGE_SIZE ? write_full(s, e) : r;
}

int image_stage_finish(struct image_stage *s, struct error *e)
{
	int r = 0;

	if (s->at < s->end) {
		r = write_out(s, e);
		if (r == 0)
			image_pages_leave(s->pages, s->at, s->end);
		s->at = s->end = 0;
	} else if (s->n_runs) {
		r = image_pages_append(s->pages, s->runs, s->n_runs, s->buffer, s->used, e);
		s->used = s->n_runs = 0;
	}
	return r;
}
