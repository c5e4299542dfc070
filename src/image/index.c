/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages_meta.img: the page index. A header of 64 bytes; one entry of 40 bytes for every run of pages, sorted by
 * (space, address), so that it can be mapped and bisected; the checksum of every chunk of pages.img; where each frame of
 * compressed page data is; and, in the last eight bytes, the checksum of all bytes before.
 *
 * Invariants of an accepted index: space ids are not 0; runs don't overlap, don't wrap around the address space and
 * lie inside the page data; there is exactly one checksum for every chunk of pages.img, and, if it is compressed, one frame for
 * every piece of the page data, which lies inside pages.img.
 */
#include <stdlib.h>

#include "image/image-priv.h"

static const char magic[8] = {'S', 'T', 'A', 'S', 'I', 'S', 'P', 'M'};

void image_index_done(struct image_index *x)
{
	free(x->runs);
	free(x->chunks);
	free(x->frames);
	*x = (struct image_index){0};
}

/* Kinds of entries that runs are not of: the data that a parent has somewhere is a run of data in another layer. */
enum { ENTRY_ANCESTOR = 4 };

struct layout { /* of a file: where its parts are */
	uint64_t n_runs, n_chunks, chunk_size, chunks_at;
	uint64_t data_size, frame_size, n_frames, frames_at;
};

/* Whether page data is compressed, and how much of it there is. */
static int check_frames(const uint8_t *p, uint64_t pages_size, struct layout *l, struct error *e)
{
	l->data_size = get_le64(p + 48);
	l->frame_size = get_le32(p + 56);
	if (get_le32(p + 60))
		return image_corrupt(e, IMAGE_INDEX, 60, "reserved field is not zero");
	if (!l->frame_size && l->data_size)
		return image_corrupt(e, IMAGE_INDEX, 48, "size of compressed data, but no frames");
	if (!l->frame_size) {
		l->data_size = pages_size;
		return pages_size % IMAGE_PAGE_SIZE
			       ? image_corrupt(e, IMAGE_INDEX, 40, "page data that is not of pages")
			       : 0;
	}
	if (l->frame_size < IMAGE_PAGE_SIZE || l->frame_size > IMAGE_FRAME_MAX ||
		(l->frame_size & (l->frame_size - 1)))
		return image_corrupt(
			e, IMAGE_INDEX, 56, "frames of %llu bytes", (unsigned long long)l->frame_size);
	if (!l->data_size || l->data_size % IMAGE_PAGE_SIZE)
		return image_corrupt(e, IMAGE_INDEX, 48, "page data that is not of pages");
	l->n_frames = l->data_size / l->frame_size + !!(l->data_size % l->frame_size);
	return 0;
}

static int check_header(
	const uint8_t *p, size_t len, uint64_t pages_size, struct layout *ret, struct error *e)
{
	struct layout l = {0};
	int r;

	if (len < IMAGE_INDEX_HEADER + 8)
		return image_corrupt(e, IMAGE_INDEX, len, "the file ends in its header");
	if (memcmp(p, magic, sizeof(magic)) != 0)
		return image_corrupt(e, IMAGE_INDEX, 0, "not a page index (wrong magic)");
	if (get_le32(p + 8) != IMAGE_FORMAT_VERSION)
		return error_set(e, -ENOTSUP, ERROR_REFUSED,
			"%s: format version %u, but this stasis " STASIS_VERSION
			" reads version %d: use the stasis that made it",
			IMAGE_INDEX, get_le32(p + 8), IMAGE_FORMAT_VERSION);
	if (get_le64(p + len - 8) != image_hash(p, len - 8))
		return image_corrupt(e, IMAGE_INDEX, len - 8, "wrong checksum");
	l.n_runs = get_le64(p + 16);
	l.n_chunks = get_le64(p + 24);
	l.chunk_size = get_le64(p + 32);
	if (get_le32(p + 12) != IMAGE_INDEX_ENTRY)
		return image_corrupt(e, IMAGE_INDEX, 12, "entries of %u bytes", get_le32(p + 12));
	if (l.chunk_size < IMAGE_PAGE_SIZE || l.chunk_size > (16U << 20) ||
		(l.chunk_size & (l.chunk_size - 1)))
		return image_corrupt(
			e, IMAGE_INDEX, 32, "chunks of %llu bytes", (unsigned long long)l.chunk_size);
	if (get_le64(p + 40) != pages_size)
		return image_corrupt(e, IMAGE_INDEX, 40, "is for %llu bytes of page data, but %s has %llu",
			(unsigned long long)get_le64(p + 40), IMAGE_PAGES, (unsigned long long)pages_size);
	r = check_frames(p, pages_size, &l, e);
	if (r < 0)
		return r;
	if (l.n_runs > len / IMAGE_INDEX_ENTRY || l.n_chunks > len / 8 ||
		l.n_frames > len / IMAGE_INDEX_FRAME ||
		len != IMAGE_INDEX_HEADER + l.n_runs * IMAGE_INDEX_ENTRY + l.n_chunks * 8 +
				l.n_frames * IMAGE_INDEX_FRAME + 8)
		return image_corrupt(e, IMAGE_INDEX, 16,
			"numbers of runs, checksums and frames don't fit the file's size");
	if (l.n_chunks != pages_size / l.chunk_size + !!(pages_size % l.chunk_size))
		return image_corrupt(e, IMAGE_INDEX, 24, "%llu checksums", (unsigned long long)l.n_chunks);
	l.chunks_at = IMAGE_INDEX_HEADER + l.n_runs * IMAGE_INDEX_ENTRY;
	l.frames_at = l.chunks_at + l.n_chunks * 8;
	*ret = l;
	return 0;
}

/* NULL, or what is wrong. "before" is NULL for the first run. */
static const char *run_problem(const struct image_run *r, const struct image_run *before, uint64_t data_size)
{
	uint64_t bytes, end;

	if (r->space == 0)
		return "address space 0";
	if (r->n_pages == 0 || r->address % IMAGE_PAGE_SIZE)
		return "empty or unaligned run";
	if (__builtin_mul_overflow(r->n_pages, (uint64_t)IMAGE_PAGE_SIZE, &bytes) ||
		__builtin_add_overflow(r->address, bytes, &end))
		return "run beyond the end of the address space";
	if (before && (r->space < before->space ||
			      (r->space == before->space &&
				      r->address < before->address + before->n_pages * IMAGE_PAGE_SIZE)))
		return "runs overlap or are not sorted";
	if (r->layer > 0)
		data_size = UINT64_MAX; /* image_index_check_ancestors() */
	if (r->kind == IMAGE_PAGES_DATA &&
		(r->offset % IMAGE_PAGE_SIZE || bytes > data_size || r->offset > data_size - bytes))
		return "run outside the page data";
	if (r->kind == IMAGE_PAGES_ZERO && r->offset)
		return "zero pages with an offset";
	if (r->kind == IMAGE_PAGES_PARENT && r->offset == 0)
		return "pages of a parent without an address space";
	if (r->kind == IMAGE_PAGES_SHARED && (r->offset == 0 || r->offset == r->space))
		return "pages shared with nobody";
	return NULL;
}

static int parse_runs(
	const uint8_t *p, uint64_t n, uint64_t data_size, struct image_run *runs, struct error *e)
{
	for (uint64_t i = 0; i < n; i++, p += IMAGE_INDEX_ENTRY) {
		uint64_t at = IMAGE_INDEX_HEADER + i * IMAGE_INDEX_ENTRY;
		uint32_t kind = get_le32(p + 32), layer = get_le32(p + 36);
		const char *problem;

		if (kind > ENTRY_ANCESTOR || (layer > 0) != (kind == ENTRY_ANCESTOR) ||
			layer > IMAGE_CHAIN_MAX)
			return image_corrupt(e, IMAGE_INDEX, at + 32, "unknown kind of pages (%u)", kind);
		runs[i] = (struct image_run){
			.space = get_le64(p),
			.address = get_le64(p + 8),
			.n_pages = get_le64(p + 16),
			.offset = get_le64(p + 24),
			.kind = kind == ENTRY_ANCESTOR ? IMAGE_PAGES_DATA : kind,
			.layer = layer,
		};
		problem = run_problem(&runs[i], i ? &runs[i - 1] : NULL, data_size);
		if (problem)
			return image_corrupt(e, IMAGE_INDEX, at, "%s", problem);
	}
	return 0;
}

static const char *frame_problem(const struct image_frame *f, uint64_t want, uint64_t pages_size)
{
	if (f->codec > IMAGE_CODEC_ZSTD)
		return "unknown codec";
	if (f->length > pages_size || f->offset > pages_size - f->length)
		return "frame outside of " IMAGE_PAGES;
	if (f->codec == IMAGE_CODEC_NONE ? f->length != want : f->length == 0 || f->length >= want)
		return "frame with a length that it cannot have";
	return NULL;
}

static int parse_frames(const uint8_t *data, const struct layout *l, uint64_t pages_size,
	struct image_index *x, struct error *e)
{
	for (uint64_t i = 0; i < l->n_frames; i++) {
		uint64_t at = l->frames_at + i * IMAGE_INDEX_FRAME,
			 want = MIN(l->data_size - i * l->frame_size, l->frame_size);
		struct image_frame f = {
			get_le64(data + at), get_le32(data + at + 8), get_le32(data + at + 12)};

		const char *problem = frame_problem(&f, want, pages_size);

		if (problem)
			return image_corrupt(e, IMAGE_INDEX, at, "%s", problem);
		x->frames[i] = f;
	}
	x->n_frames = l->n_frames;
	x->frame_size = l->frame_size;
	x->data_size = l->data_size;
	return 0;
}

size_t image_index_find(const struct image_index *x, uint64_t space, uint64_t address)
{
	size_t low = 0, high = x->n_runs;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct image_run *r = &x->runs[middle];

		if (r->space < space ||
			(r->space == space && r->address + r->n_pages * IMAGE_PAGE_SIZE <= address))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Shared pages must be there, in the other address space, and not be shared in their turn. */
static const char *shared_problem(const struct image_index *x, const struct image_run *r)
{
	uint64_t at = r->address, end = at + r->n_pages * IMAGE_PAGE_SIZE;

	for (size_t i = image_index_find(x, r->offset, at); at < end; i++) {
		const struct image_run *of = &x->runs[i];

		if (i == x->n_runs || of->space != r->offset || of->address > at ||
			of->kind == IMAGE_PAGES_SHARED)
			return "shared pages that the other address space does not have";
		at = of->address + of->n_pages * IMAGE_PAGE_SIZE;
	}
	return NULL;
}

static int check_shared(const struct image_index *x, struct error *e)
{
	for (size_t i = 0; i < x->n_runs; i++) {
		const char *problem =
			x->runs[i].kind == IMAGE_PAGES_SHARED ? shared_problem(x, &x->runs[i]) : NULL;

		if (problem)
			return image_corrupt(
				e, IMAGE_INDEX, IMAGE_INDEX_HEADER + i * IMAGE_INDEX_ENTRY, "%s", problem);
	}
	return 0;
}

int image_index_parse(
	const void *data, size_t len, uint64_t pages_size, struct image_index *ret, struct error *e)
{
	_cleanup_(image_index_done) struct image_index x = {0};
	const uint8_t *p = data;
	struct layout l = {0};
	int r = check_header(p, len, pages_size, &l, e);

	if (r < 0)
		return r;
	x.runs = calloc(MAX(l.n_runs, UINT64_C(1)), sizeof(*x.runs));
	x.chunks = calloc(MAX(l.n_chunks, UINT64_C(1)), sizeof(*x.chunks));
	x.frames = l.n_frames ? calloc(l.n_frames, sizeof(*x.frames)) : NULL;
	if (!x.runs || !x.chunks || (l.n_frames && !x.frames))
		return error_errno(e, -ENOMEM, IMAGE_INDEX);
	r = parse_frames(p, &l, pages_size, &x, e);
	if (r < 0)
		return r;
	r = parse_runs(p + IMAGE_INDEX_HEADER, l.n_runs, l.data_size, x.runs, e);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < l.n_runs; i++)
		x.n_repeated += x.runs[i].layer ? x.runs[i].n_pages : 0;
	for (uint64_t i = 0; i < l.n_chunks; i++)
		x.chunks[i] = get_le64(p + l.chunks_at + i * 8);
	x.n_runs = l.n_runs;
	r = check_shared(&x, e);
	if (r < 0)
		return r;
	x.n_chunks = l.n_chunks;
	x.chunk_size = l.chunk_size;
	x.hash = get_le64(p + len - 8);
	*ret = x;
	x = (struct image_index){0};
	return 0;
}

/* The numbers of a header, as check_header() lets them through. */
static const char *sizes_problem(const struct image_index *x, uint64_t pages_size)
{
	uint64_t chunk = x->chunk_size, frame = x->frame_size;

	if (chunk < IMAGE_PAGE_SIZE || chunk > (16U << 20) || (chunk & (chunk - 1)) ||
		x->n_chunks != pages_size / chunk + !!(pages_size % chunk))
		return "number of checksums";
	if (!frame)
		return x->n_frames || x->data_size != pages_size || pages_size % IMAGE_PAGE_SIZE
			       ? "page data that is not of pages"
			       : NULL;
	if (frame < IMAGE_PAGE_SIZE || frame > IMAGE_FRAME_MAX || (frame & (frame - 1)) || !x->data_size ||
		x->data_size % IMAGE_PAGE_SIZE ||
		x->n_frames != x->data_size / frame + !!(x->data_size % frame))
		return "number of frames";
	return NULL;
}

bool image_index_has_ancestors(const struct image_index *x)
{
	for (size_t i = 0; i < x->n_runs; i++)
		if (x->runs[i].layer > 0)
			return true;
	return false;
}

int image_index_check_ancestors(
	const struct image_index *x, const uint64_t *data_size, unsigned n_layers, struct error *e)
{
	for (size_t i = 0; i < x->n_runs; i++) {
		const struct image_run *r = &x->runs[i];
		uint64_t bytes = r->n_pages * IMAGE_PAGE_SIZE;

		if (r->layer > 0 && (r->layer >= n_layers || bytes > data_size[r->layer] ||
					    r->offset > data_size[r->layer] - bytes))
			return image_corrupt(e, IMAGE_INDEX, 0,
				"address space %llu: parent %u has no page data for 0x%llx",
				(unsigned long long)r->space, r->layer, (unsigned long long)r->address);
	}
	return 0;
}

int image_index_check(const struct image_index *x, uint64_t pages_size, const uint64_t *data_size,
	unsigned n_layers, struct error *e)
{
	const char *problem = sizes_problem(x, pages_size);

	for (size_t i = 0; i < x->n_frames && !problem; i++)
		problem = frame_problem(&x->frames[i],
			MIN(x->data_size - i * x->frame_size, (uint64_t)x->frame_size), pages_size);
	for (size_t i = 0; i < x->n_runs && !problem; i++) {
		const struct image_run *r = &x->runs[i];

		if (r->kind > IMAGE_PAGES_SHARED || r->kind == IMAGE_PAGES_PARENT || r->layer >= n_layers)
			problem = "unknown kind of pages";
		else
			problem = run_problem(r, i ? r - 1 : NULL, data_size[r->layer]);
	}
	/* These look others up: after all are in order. */
	for (size_t i = 0; i < x->n_runs && !problem; i++)
		problem = x->runs[i].kind == IMAGE_PAGES_SHARED ? shared_problem(x, &x->runs[i]) : NULL;
	return problem ? image_corrupt(e, IMAGE_INDEX, 0, "%s", problem)
		       : image_index_check_ancestors(x, data_size, n_layers, e);
}

static int compare_runs(const void *va, const void *vb)
{
	const struct image_run *a = va, *b = vb;

	if (a->space != b->space)
		return a->space < b->space ? -1 : 1;
	return a->address < b->address ? -1 : a->address > b->address;
}

bool image_run_continues(const struct image_run *a, const struct image_run *b)
{
	uint64_t bytes = a->n_pages * IMAGE_PAGE_SIZE;

	return a->space == b->space && a->kind == b->kind && a->address + bytes == b->address &&
	       a->layer == b->layer &&
	       (a->kind == IMAGE_PAGES_DATA ? a->offset + bytes : a->offset) == b->offset;
}

void image_index_sort(struct image_index *x)
{
	bool sorted = true;
	size_t n = 0;

	for (size_t i = 1; i < x->n_runs && sorted; i++)
		sorted = compare_runs(&x->runs[i - 1], &x->runs[i]) < 0;
	if (!sorted)
		qsort(x->runs, x->n_runs, sizeof(*x->runs), compare_runs);
	for (size_t i = 0; i < x->n_runs; i++) {
		if (n && image_run_continues(&x->runs[n - 1], &x->runs[i]))
			x->runs[n - 1].n_pages += x->runs[i].n_pages;
		else
			x->runs[n++] = x->runs[i];
	}
	x->n_runs = n;
}

static void put_header(uint8_t *p, const struct image_index *x, uint64_t pages_size)
{
	memset(p, 0, IMAGE_INDEX_HEADER);
	memcpy(p, magic, sizeof(magic));
	put_le32(p + 8, IMAGE_FORMAT_VERSION);
	put_le32(p + 12, IMAGE_INDEX_ENTRY);
	put_le64(p + 16, x->n_runs);
	put_le64(p + 24, x->n_chunks);
	put_le64(p + 32, x->chunk_size);
	put_le64(p + 40, pages_size);
	put_le64(p + 48, x->frame_size ? x->data_size : 0);
	put_le32(p + 56, x->frame_size);
}

int image_index_build(struct image_index *x, uint64_t pages_size, struct image_buffer *b, struct error *e)
{
	size_t size;
	uint8_t *start, *p;

	image_index_sort(x);
	size = IMAGE_INDEX_HEADER + x->n_runs * IMAGE_INDEX_ENTRY + x->n_chunks * 8 +
	       x->n_frames * IMAGE_INDEX_FRAME + 8;
	start = p = image_buffer_room(b, size);
	if (!p)
		return error_errno(e, -ENOMEM, "page index");
	put_header(p, x, pages_size);
	p += IMAGE_INDEX_HEADER;
	for (size_t i = 0; i < x->n_runs; i++, p += IMAGE_INDEX_ENTRY) {
		const struct image_run *r = &x->runs[i];
		const char *problem =
			run_problem(r, i ? r - 1 : NULL, x->frame_size ? x->data_size : pages_size);

		if (problem)
			return error_set(e, -EINVAL, ERROR_INTERNAL,
				"page index: address space %llu, 0x%llx+%llu pages: %s",
				(unsigned long long)r->space, (unsigned long long)r->address,
				(unsigned long long)r->n_pages, problem);
		put_le64(p, r->space);
		put_le64(p + 8, r->address);
		put_le64(p + 16, r->n_pages);
		put_le64(p + 24, r->offset);
		put_le32(p + 32, r->layer > 0 ? ENTRY_ANCESTOR : r->kind);
		put_le32(p + 36, r->layer);
	}
	for (size_t i = 0; i < x->n_chunks; i++, p += 8)
		put_le64(p, x->chunks[i]);
	for (size_t i = 0; i < x->n_frames; i++, p += IMAGE_INDEX_FRAME) {
		put_le64(p, x->frames[i].offset);
		put_le32(p + 8, x->frames[i].length);
		put_le32(p + 12, x->frames[i].codec);
	}
	x->hash = image_hash(start, size - 8);
	put_le64(p, x->hash);
	b->len += size;
	return 0;
}
