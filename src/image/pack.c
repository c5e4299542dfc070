/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packs page data: pages with the same contents are stored once, and what is left is compressed in frames, by several threads.
 * From the file that the pages were written to into a new one; behind what has been read the old one is emptied, so that both
 * together need little more room than the old one.
 *
 * Duplicates are found by a hash and proved by comparing them. Packed data has the first page of each contents, in their old
 * order; the runs of the index then point there, several to one page. What no run points to is left out. All that is kept for a
 * page is 8 bytes, and 16 in the table of hashes, which ends at TABLE_MAX pages: those behind it are only looked up.
 *
 * What the parents have goes past the complete table once, and is compared with what has the same hash (4 bytes more for each
 * page of this image; nothing for one of theirs). The image then says where in their page data it is.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/crew.h"
#include "base/fault.h"
#include "base/fd.h"
#include "image/image-priv.h"

enum {
	PAGE = IMAGE_PAGE_SIZE,
	BATCH = 1 << 20, /* what a thread takes at a time */
	FRAMES_PER_BATCH = BATCH / IMAGE_FRAME_SIZE,
	WINDOW = 64, /* batches that are hashed before their pages are looked up */
	TABLE_MAX = 2 << 20,
	SAMPLES = 32,
};
_Static_assert(IMAGE_FRAME_SIZE % PAGE == 0 && BATCH % IMAGE_CHUNK_SIZE == 0, "threads work on whole ones");

#define UNUSED UINT32_MAX
/* In "places": the rest is the number of a page of the past. */
#define REPEATED (UINT32_C(1) << 31)

struct hashed {
	uint32_t hash, page; /* page + 1; 0: empty */
};

struct pack {
	const struct image_packing *how;
	struct image_index *index;
	struct crew *crew;
	int from, to;
	uint64_t n_from;	     /* pages */
	uint32_t *source;	     /* of each packed page, its old number; NULL: the same */
	uint32_t *target;	     /* of each old page, its packed number; UNUSED */
	uint64_t n_pages;	     /* packed */
	struct image_past *past;     /* NULL: none, or it is not asked for */
	const struct image *past_of; /* borrowed */
	_Atomic uint32_t *places;    /* of each "target": REPEATED, or its number among those that stay */
	struct image_reader *readers[CREW_HELPERS + 1];
	struct hashed *table;
	size_t table_size, table_n;
	uint64_t window; /* first page of */
	uint32_t *hashes;
	_Atomic uint64_t end; /* of "to" */
	struct image_encoder *encoders[CREW_HELPERS + 1];
	uint8_t *in[CREW_HELPERS + 1], *out[CREW_HELPERS + 1]; /* BATCH each */
};

static int go_on(const struct pack *p, struct error *e)
{
	return p->how->go_on ? p->how->go_on(p->how->arg, e) : 0;
}

static int pack_errno(int r, struct error *e)
{
	return error_errno(e, r, "pack the page data");
}

/* ---- duplicates ---- */

static int hash_batch(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct pack *p = arg;
	uint64_t first = p->window + item * (BATCH / PAGE),
		 n = MIN(p->n_from - first, (uint64_t)BATCH / PAGE);
	int r = go_on(p, e);

	if (r < 0)
		return r;
	r = pread_exact(p->from, p->in[worker], n * PAGE, first * PAGE);
	if (r < 0)
		return pack_errno(r, e);
	for (uint64_t i = 0; i < n; i++)
		p->hashes[first - p->window + i] = image_hash(p->in[worker] + i * PAGE, PAGE) >> 32;
	return 0;
}

static bool grow_table(struct pack *p)
{
	size_t size = p->table_size ? p->table_size * 2 : 4096;
	struct hashed *t = calloc(size, sizeof(*t));

	if (!t)
		return false;
	for (size_t i = 0; i < p->table_size; i++) {
		size_t at = p->table[i].hash & (size - 1);

		if (!p->table[i].page)
			continue;
		while (t[at].page)
			at = (at + 1) & (size - 1);
		t[at] = p->table[i];
	}
	free(p->table);
	p->table = t;
	p->table_size = size;
	return true;
}

/* 1: they are */
static int same_contents(const struct pack *p, uint64_t a, uint64_t b)
{
	uint8_t *x = p->in[0], *y = x + PAGE;
	int r = pread_exact(p->from, x, PAGE, a * PAGE);

	if (r == 0)
		r = pread_exact(p->from, y, PAGE, b * PAGE);
	return r < 0 ? r : !memcmp(x, y, PAGE);
}

/* The first page that has the same contents, or the page itself. */
static int find_first(struct pack *p, uint64_t page, uint32_t hash, uint64_t *ret)
{
	size_t at;

	if (p->table_n * 2 >= p->table_size && p->table_n < TABLE_MAX && !grow_table(p))
		return -ENOMEM;
	for (at = hash & (p->table_size - 1); p->table[at].page; at = (at + 1) & (p->table_size - 1)) {
		int r = p->table[at].hash == hash ? same_contents(p, p->table[at].page - 1, page) : 0;

		if (r < 0)
			return r;
		*ret = p->table[at].page - 1;
		if (r)
			return 0;
	}
	*ret = page;
	if (p->table_n < TABLE_MAX) {
		p->table[at] = (struct hashed){hash, page + 1};
		p->table_n++;
	}
	return 0;
}

static bool is_own(const struct image_run *run)
{
	return run->kind == IMAGE_PAGES_DATA && run->layer == 0;
}

/* How many pages the runs need, which is more than there are where several need the same one. */
static uint64_t pages_in_runs(const struct image_index *x)
{
	uint64_t n = 0;

	for (size_t i = 0; i < x->n_runs; i++)
		n += is_own(&x->runs[i]) ? x->runs[i].n_pages : 0;
	return n;
}

static void mark_used(struct pack *p)
{
	memset(p->target, 0xff, p->n_from * sizeof(*p->target));
	for (size_t i = 0; i < p->index->n_runs; i++)
		if (is_own(&p->index->runs[i]))
			memset(p->target + p->index->runs[i].offset / PAGE, 0,
				p->index->runs[i].n_pages * sizeof(*p->target));
}

static int hash_window(struct pack *p, uint64_t end, struct error *e)
{
	int r = crew_start(p->crew, hash_batch, p, (end - p->window + BATCH / PAGE - 1) / (BATCH / PAGE), e);

	if (r == 0)
		r = crew_finish(p->crew, e);
	crew_drop(p->crew);
	return r;
}

static int number_window(struct pack *p, struct error *e)
{
	uint64_t end = MIN(p->n_from, p->window + WINDOW * (BATCH / PAGE)), first = 0;
	int r = p->how->dedup ? hash_window(p, end, e) : 0;

	if (r < 0)
		return r;
	for (uint64_t page = p->window; page < end; page++) {
		if (p->target[page] == UNUSED)
			continue;
		first = page;
		r = p->how->dedup ? find_first(p, page, p->hashes[page - p->window], &first) : 0;
		if (r < 0)
			return pack_errno(r, e);
		if (first == page)
			p->source[p->n_pages++] = page;
		p->target[page] = first == page ? p->n_pages - 1 : p->target[first];
	}
	return 0;
}

/* ---- what the parents have ---- */

/* The first one of the past stays, whoever comes first. */
static void note_place(struct pack *p, uint32_t target, uint32_t place)
{
	uint32_t was = atomic_load(&p->places[target]);

	while (place < was && !atomic_compare_exchange_weak(&p->places[target], &was, place))
		;
}

/* A page of the past: is it one of ours? */
static int find_repeated(struct pack *p, const uint8_t *data, uint32_t place, uint8_t *buf)
{
	uint32_t hash = image_hash(data, PAGE) >> 32;

	for (size_t at = hash & (p->table_size - 1); p->table[at].page; at = (at + 1) & (p->table_size - 1)) {
		uint64_t page = p->table[at].page - 1;
		int r;

		if (p->table[at].hash != hash || atomic_load(&p->places[p->target[page]]) < place)
			continue;
		r = pread_exact(p->from, buf, PAGE, page * PAGE);
		if (r < 0)
			return r;
		if (!memcmp(buf, data, PAGE)) {
			note_place(p, p->target[page], place);
			return 0;
		}
	}
	return 0;
}

static int compare_batch(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct pack *p = arg;
	uint64_t first = item * (BATCH / PAGE),
		 n = MIN(image_past_pages(p->past) - first, (uint64_t)BATCH / PAGE);
	int r = fault_point("checkpoint-comparing", e);

	if (r == 0)
		r = go_on(p, e);
	if (r == 0)
		r = image_past_read(p->past, p->readers[worker], first, n, p->in[worker], e);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < n; i++) {
		r = find_repeated(p, p->in[worker] + i * PAGE, REPEATED | (first + i), p->out[worker]);
		if (r < 0)
			return pack_errno(r, e);
	}
	return 0;
}

static int in_threads(struct pack *p, crew_item_fn *f, uint64_t bytes, struct error *e);

/* What is found stays in the parents; the others move up. */
static int find_all_repeated(struct pack *p, struct error *e)
{
	uint64_t n = 0;
	int r = 0;

	/* 8 TiB are enough. */
	if (!p->past || p->n_pages >= REPEATED || image_past_pages(p->past) >= REPEATED - 1)
		return 0;
	p->places = malloc(MAX(p->n_pages, UINT64_C(1)) * sizeof(*p->places));
	if (!p->places)
		return pack_errno(-ENOMEM, e);
	memset(p->places, 0xff, p->n_pages * sizeof(*p->places));
	for (unsigned i = 0; i <= CREW_HELPERS && r == 0; i++)
		r = image_reader_new(p->past_of, &p->readers[i], e);
	if (r == 0)
		r = in_threads(p, compare_batch, image_past_pages(p->past) * PAGE, e);
	for (uint64_t i = 0; i < p->n_pages && r == 0; i++)
		if (p->places[i] == UNUSED) {
			p->places[i] = n;
			p->source[n++] = p->source[i];
		}
	p->n_pages = n;
	return r;
}

/* Which pages stay, in what order. */
static int number_pages(struct pack *p, struct error *e)
{
	int r = 0;

	if (p->n_from >= UINT32_MAX || (!p->how->dedup && pages_in_runs(p->index) == p->n_from))
		return 0; /* all of them (of 16 TiB that is enough) */
	p->source = malloc(MAX(p->n_from, UINT64_C(1)) * sizeof(*p->source));
	p->target = malloc(MAX(p->n_from, UINT64_C(1)) * sizeof(*p->target));
	p->hashes = malloc(sizeof(*p->hashes) * WINDOW * (BATCH / PAGE));
	if (!p->source || !p->target || !p->hashes || !grow_table(p))
		return pack_errno(-ENOMEM, e);
	mark_used(p);
	for (p->n_pages = 0; p->window < p->n_from && r == 0; p->window += WINDOW * (BATCH / PAGE))
		r = number_window(p, e);
	free(take_ptr(p->hashes));
	if (r == 0)
		r = find_all_repeated(p, e);
	free(take_ptr(p->table));
	return r;
}

struct runs { /* being made */
	struct image_run *list;
	size_t n, allocated;
};

static bool add_run(struct runs *x, const struct image_run *run)
{
	if (x->n && image_run_continues(&x->list[x->n - 1], run)) {
		x->list[x->n - 1].n_pages += run->n_pages;
		return true;
	}
	if (x->n == x->allocated) {
		size_t want = MAX(x->allocated * 2, (size_t)64);
		struct image_run *more = reallocarray(x->list, want, sizeof(*more));

		if (!more)
			return false;
		x->list = more;
		x->allocated = want;
	}
	x->list[x->n++] = *run;
	return true;
}

/* Where one of our pages is from now on. */
static void place_page(const struct pack *p, uint64_t page, struct image_run *run)
{
	uint32_t target = p->target[page], place = p->places ? p->places[target] : target;

	if (p->places && place & REPEATED)
		image_past_place(p->past, place & ~REPEATED, &run->layer, &run->offset);
	else
		run->offset = (uint64_t)place * PAGE;
}

/* A run, page by page; neighbours that stay neighbours are merged again. */
static bool add_packed(const struct pack *p, struct runs *x, const struct image_run *run)
{
	for (uint64_t i = 0; i < run->n_pages; i++) {
		struct image_run one = *run;

		one.address += i * PAGE;
		one.n_pages = 1;
		place_page(p, run->offset / PAGE + i, &one);
		if (!add_run(x, &one))
			return false;
	}
	return true;
}

static int redirect_runs(struct pack *p, struct error *e)
{
	struct runs x = {};

	for (size_t i = 0; i < p->index->n_runs; i++) {
		const struct image_run *run = &p->index->runs[i];

		if (is_own(run) ? !add_packed(p, &x, run) : !add_run(&x, run)) {
			free(x.list);
			return pack_errno(-ENOMEM, e);
		}
	}
	free(p->index->runs);
	p->index->runs = x.list;
	p->index->n_runs = x.n;
	return 0;
}

/* ---- frames ---- */

static int read_packed(const struct pack *p, uint64_t page, uint64_t n, uint8_t *to)
{
	for (uint64_t i = 0, k; i < n; i += k) {
		uint64_t first = p->source ? p->source[page + i] : page + i;
		int r;

		k = p->source ? 1 : n;
		while (p->source && i + k < n && p->source[page + i + k] == first + k)
			k++;
		r = pread_exact(p->from, to + i * PAGE, k * PAGE, first * PAGE);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Its bytes behind "out"; a frame that gets hardly shorter stays as it is, which can be read faster. */
static size_t pack_frame(
	struct image_encoder *x, const uint8_t *in, size_t len, uint8_t *out, struct image_frame *ret)
{
	size_t n = image_encode(x, out, len - len / 16, in, len);

	*ret = (struct image_frame){.length = len, .codec = IMAGE_CODEC_NONE};
	if (n == 0)
		memcpy(out, in, len);
	return n;
}

/* Old data up to a batch's end is not needed any more when all has been read; how much of it is the batch's own. */
static void forget(const struct pack *p, uint64_t page, uint64_t n)
{
	uint64_t first = p->source ? p->source[page] : page, end = !p->source ? page + n
								   : page + n < p->n_pages
									   ? p->source[page + n]
									   : p->n_from;

	(void)!fallocate(
		p->from, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first * PAGE, (end - first) * PAGE);
}

static int pack_batch(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct pack *p = arg;
	uint64_t page = item * (BATCH / PAGE), n = MIN(p->n_pages - page, (uint64_t)BATCH / PAGE), at;
	uint8_t *in = p->in[worker], *out = p->out[worker];
	struct image_frame *frames = p->index->frames + item * FRAMES_PER_BATCH;
	size_t stored = 0, k = 0;
	int r = fault_point("checkpoint-packing", e);

	if (r < 0)
		return r;
	r = read_packed(p, page, n, in);
	if (r < 0)
		return pack_errno(r, e);
	for (uint64_t done = 0; done < n * PAGE; done += IMAGE_FRAME_SIZE, k++) {
		size_t len = MIN(n * PAGE - done, (uint64_t)IMAGE_FRAME_SIZE), got;

		/* The strongest compression takes a while. */
		r = go_on(p, e);
		if (r < 0)
			return r;
		got = pack_frame(p->encoders[worker], in + done, len, out + stored, &frames[k]);
		if (got) {
			frames[k].length = got;
			frames[k].codec = p->how->codec;
		}
		frames[k].offset = stored;
		stored += frames[k].length;
	}
	at = atomic_fetch_add(&p->end, stored);
	r = pwrite_all(p->to, out, stored, at);
	if (r < 0)
		return error_errno(e, r, "%s", IMAGE_PAGES);
	for (size_t i = 0; i < k; i++)
		frames[i].offset += at;
	forget(p, page, n);
	return 0;
}

/* Without a codec: as it is, but for the duplicates. */
static int copy_batch(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct pack *p = arg;
	uint64_t page = item * (BATCH / PAGE), n = MIN(p->n_pages - page, (uint64_t)BATCH / PAGE);
	int r = go_on(p, e);

	if (r < 0)
		return r;
	r = read_packed(p, page, n, p->in[worker]);
	if (r < 0)
		return pack_errno(r, e);
	r = pwrite_all(p->to, p->in[worker], n * PAGE, page * PAGE);
	if (r < 0)
		return error_errno(e, r, "%s", IMAGE_PAGES);
	forget(p, page, n);
	return 0;
}

/* Does a sample of the data get shorter? */
static int sample(const struct pack *p, bool *ret, struct error *e)
{
	uint64_t frames = p->n_pages / (IMAGE_FRAME_SIZE / PAGE);
	size_t stored = 0, n = 0;

	*ret = p->n_pages > 0;
	if (frames < 2 * SAMPLES)
		return 0;
	for (; n < SAMPLES; n++) {
		struct image_frame f;
		size_t got;
		int r = read_packed(p, frames * n / SAMPLES * (IMAGE_FRAME_SIZE / PAGE),
			IMAGE_FRAME_SIZE / PAGE, p->in[0]);

		if (r < 0)
			return pack_errno(r, e);
		got = pack_frame(p->encoders[0], p->in[0], IMAGE_FRAME_SIZE, p->out[0], &f);
		stored += got ? got : IMAGE_FRAME_SIZE;
	}
	*ret = stored < n * IMAGE_FRAME_SIZE / 32 * 31;
	return 0;
}

static int sum_chunks(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct pack *p = arg;
	uint64_t at = (uint64_t)item * BATCH, n = MIN(p->end - at, (uint64_t)BATCH);
	int r = pread_exact(p->to, p->in[worker], n, at);

	if (r < 0)
		return error_errno(e, r, "%s", IMAGE_PAGES);
	for (uint64_t i = 0; i < n; i += IMAGE_CHUNK_SIZE)
		p->index->chunks[(at + i) / IMAGE_CHUNK_SIZE] =
			image_hash(p->in[worker] + i, MIN(n - i, (uint64_t)IMAGE_CHUNK_SIZE));
	return 0;
}

static int in_threads(struct pack *p, crew_item_fn *f, uint64_t bytes, struct error *e)
{
	int r = crew_start(p->crew, f, p, (bytes + BATCH - 1) / BATCH, e);

	if (r == 0)
		r = crew_finish(p->crew, e);
	crew_drop(p->crew);
	return r;
}

static int write_packed(struct pack *p, bool compress, struct error *e)
{
	uint64_t bytes = p->n_pages * PAGE;
	struct image_index *x = p->index;
	uint64_t *chunks;
	int r;

	if (compress) {
		x->n_frames = (bytes + IMAGE_FRAME_SIZE - 1) / IMAGE_FRAME_SIZE;
		x->frames = calloc(MAX(x->n_frames, (size_t)1), sizeof(*x->frames));
		if (!x->frames)
			return pack_errno(-ENOMEM, e);
		x->frame_size = IMAGE_FRAME_SIZE;
		x->data_size = bytes;
		r = in_threads(p, pack_batch, bytes, e);
	} else {
		p->end = bytes;
		r = in_threads(p, copy_batch, bytes, e);
	}
	if (r < 0)
		return r;
	x->n_chunks = (p->end + IMAGE_CHUNK_SIZE - 1) / IMAGE_CHUNK_SIZE;
	chunks = reallocarray(x->chunks, MAX(x->n_chunks, (size_t)1), sizeof(*chunks));
	if (!chunks)
		return pack_errno(-ENOMEM, e);
	x->chunks = chunks;
	return in_threads(p, sum_chunks, p->end, e);
}

static int prepare(struct pack *p, struct error *e)
{
	int r = crew_new(CREW_HELPERS, &p->crew, e);

	for (unsigned i = 0; i <= CREW_HELPERS && r == 0; i++) {
		p->in[i] = malloc(BATCH);
		p->out[i] = malloc(BATCH);
		p->encoders[i] = image_encoder_new(p->how->codec, p->how->level);
		if (!p->in[i] || !p->out[i] || !p->encoders[i])
			r = pack_errno(-ENOMEM, e);
	}
	return r;
}

static void pack_done(struct pack *p)
{
	crew_free(p->crew);
	for (unsigned i = 0; i <= CREW_HELPERS; i++) {
		free(p->in[i]);
		free(p->out[i]);
		image_encoder_free(p->encoders[i]);
		image_reader_free(p->readers[i]);
	}
	image_past_free(p->past);
	free(p->places);
	free(p->source);
	free(p->target);
	free(p->table);
	free(p->hashes);
}

int image_pack(const struct image_packing *how, const struct image *parent, struct image_index *x, int from,
	uint64_t from_size, int to, uint64_t *ret_size, struct error *e)
{
	_cleanup_(pack_done) struct pack p = {.how = how,
		.index = x,
		.past_of = parent,
		.from = from,
		.to = to,
		.n_from = from_size / PAGE,
		.n_pages = from_size / PAGE};
	bool compress = how->codec != IMAGE_CODEC_NONE;
	int r;

	if (from_size == 0)
		return 0;
	r = prepare(&p, e);
	if (r == 0 && parent && how->dedup)
		r = image_past_new(parent, &p.past, e);
	if (r == 0)
		r = number_pages(&p, e);
	if (r == 0 && compress)
		r = sample(&p, &compress, e);
	if (r < 0)
		return r;
	if (!compress && p.n_pages == p.n_from)
		return 0;
	if (p.n_pages < p.n_from)
		r = redirect_runs(&p, e);
	if (r == 0)
		r = write_packed(&p, compress, e);
	if (r < 0)
		return r;
	*ret_size = p.end;
	return 1;
}
