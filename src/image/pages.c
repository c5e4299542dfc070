/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.img, the append side: page data behind one another, zero pages left out, and a checksum for every 64 KiB of
 * the file. Large amounts go by stages (stage.c), which get room in the file and write to it themselves.
 *
 * Invariants: "size" is how far the file is given away, with what is still staged here; the staged bytes are its last ones.
 * Bytes are hashed once, on their way in. A chunk that somebody else writes a part of (image_pages_reserve()) can't be: it
 * is read back (from the page cache) by image_pages_finish().
 */
#include <pthread.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/fd.h"
#include "image/image-priv.h"
#include "image/stream-priv.h"

enum { STAGE_SIZE = 256 * 1024, READBACK_SIZE = 4 * IMAGE_CHUNK_SIZE };
/* A file that is longer already takes pages faster than one that each write extends, and from several threads in any order. */
#define AHEAD (UINT64_C(64) << 20)

struct range {
	uint64_t start, end;
};

struct image_pages {
	pthread_mutex_t lock;  /* of all below */
	int fd;		       /* borrowed */
	struct image_out *out; /* instead, borrowed: a stream */
	struct error error;    /* of it */
	uint64_t size, length; /* length: of the file, which may be longer than what is given away */
	uint8_t *stage;
	size_t staged;
	XXH3_state_t *state; /* of the chunk that "size" is in */
	struct image_index index;
	size_t runs_size, chunks_size; /* allocated entries of index */
	struct range *reserved;	       /* ascending */
	size_t n_reserved, reserved_size;
};

int image_pages_new(int fd, struct image_pages **ret, struct error *e)
{
	struct image_pages *p = calloc(1, sizeof(*p));

	if (!p)
		return error_errno(e, -ENOMEM, IMAGE_PAGES);
	pthread_mutex_init(&p->lock, NULL);
	p->fd = fd;
	p->stage = malloc(STAGE_SIZE);
	p->state = XXH3_createState();
	p->index.chunk_size = IMAGE_CHUNK_SIZE;
	if (!p->stage || !p->state) {
		image_pages_free(p);
		return error_errno(e, -ENOMEM, IMAGE_PAGES);
	}
	XXH3_64bits_reset(p->state);
	*ret = p;
	return 0;
}

void image_pages_to_stream(struct image_pages *p, struct image_out *out)
{
	p->out = out;
}

bool image_pages_is_stream(const struct image_pages *p)
{
	return p->out;
}

void image_pages_free(struct image_pages *p)
{
	if (!p)
		return;
	image_index_done(&p->index);
	free(p->reserved);
	XXH3_freeState(p->state);
	free(p->stage);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* Room for one more element (or "want" in all) in a growing array. */
static int grow(void *array, size_t *allocated, size_t want, size_t element)
{
	void **a = array;
	size_t n = MAX(*allocated * 2, (size_t)64), bytes;
	void *q;

	if (want <= *allocated)
		return 0;
	n = MAX(n, want);
	if (size_overflows(n, element, 0, &bytes))
		return -ENOMEM;
	q = realloc(*a, bytes);
	if (!q)
		return -ENOMEM;
	*a = q;
	*allocated = n;
	return 0;
}

static int add_run(struct image_pages *p, const struct image_run *r)
{
	struct image_index *x = &p->index;
	struct image_run *last = x->n_runs ? &x->runs[x->n_runs - 1] : NULL;
	int rc;

	if (last && image_run_continues(last, r)) {
		last->n_pages += r->n_pages;
		return 0;
	}
	rc = grow(&x->runs, &p->runs_size, x->n_runs + 1, sizeof(*x->runs));
	if (rc < 0 || !x->runs)
		return -ENOMEM;
	x->runs[x->n_runs++] = *r;
	return 0;
}

/* Checksums for every chunk that begins below "size". */
static int reserve_chunks(struct image_pages *p, uint64_t size)
{
	size_t want = (size + IMAGE_CHUNK_SIZE - 1) / IMAGE_CHUNK_SIZE;
	int r = grow(&p->index.chunks, &p->chunks_size, want, sizeof(*p->index.chunks));

	if (r < 0)
		return r;
	p->index.n_chunks = want;
	return 0;
}

/* The bytes that come next in the file, p->size on. A chunk with reserved pages gets a wrong checksum here, which
 * image_pages_finish() replaces. */
static void hash_bytes(struct image_pages *p, const uint8_t *data, size_t len)
{
	uint64_t at = p->size;

	while (len > 0) {
		size_t in_chunk = at % IMAGE_CHUNK_SIZE, n = MIN(len, IMAGE_CHUNK_SIZE - in_chunk);
		uint64_t *checksum = &p->index.chunks[at / IMAGE_CHUNK_SIZE];

		if (n == IMAGE_CHUNK_SIZE) {
			*checksum = XXH3_64bits(data, n);
		} else {
			XXH3_64bits_update(p->state, data, n);
			if (in_chunk + n == IMAGE_CHUNK_SIZE) {
				*checksum = XXH3_64bits_digest(p->state);
				XXH3_64bits_reset(p->state);
			}
		}
		data += n;
		len -= n;
		at += n;
	}
}

/* The same to a stream, whose errors say more than a number. */
static int stream_behind_stage(struct image_pages *p, const void *data, size_t len)
{
	int r = 0;

	if (p->staged)
		r = image_out_piece(
			p->out, IMAGE_STREAM_PAGES, p->size - p->staged, p->stage, p->staged, &p->error);
	if (r == 0 && len)
		r = image_out_piece(p->out, IMAGE_STREAM_PAGES, p->size, data, len, &p->error);
	p->staged = 0;
	return r;
}

static int write_behind_stage(struct image_pages *p, const void *data, size_t len)
{
	struct iovec v[2] = {{p->stage, p->staged}, {(void *)data, len}};
	uint64_t at = p->size - p->staged;
	size_t done = 0;
	ssize_t n;
	int r;

	if (p->out)
		return stream_behind_stage(p, data, len);
	do
		n = pwritev(p->fd, v, 2, at);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	done = n;
	if (done < p->staged) {
		r = pwrite_all(p->fd, p->stage + done, p->staged - done, at + done);
		if (r < 0)
			return r;
		done = p->staged;
	}
	done -= p->staged;
	r = pwrite_all(p->fd, (const uint8_t *)data + done, len - done, p->size + done);
	if (r < 0)
		return r;
	p->staged = 0;
	return 0;
}

static int append(struct image_pages *p, const void *data, size_t len)
{
	int r = reserve_chunks(p, p->size + len);

	if (r < 0)
		return r;
	hash_bytes(p, data, len);
	if (len <= STAGE_SIZE - p->staged) {
		memcpy(p->stage + p->staged, data, len);
		p->staged += len;
	} else {
		r = write_behind_stage(p, data, len);
		if (r < 0)
			return r;
	}
	p->size += len;
	return 0;
}

/* Written so that the compiler vectorises the inner loop; most pages that aren't zero differ in the first block. */
bool image_page_is_zero(const uint8_t *page)
{
	for (size_t block = 0; block < IMAGE_PAGE_SIZE; block += 256) {
		uint64_t any = 0, words[32];

		memcpy(words, page + block, sizeof(words));
		for (size_t i = 0; i < ARRAY_SIZE(words); i++)
			any |= words[i];
		if (any)
			return false;
	}
	return true;
}

int image_pages_check(uint64_t space, uint64_t address, size_t n_pages, struct error *e)
{
	uint64_t end;

	if (space == 0 || address % IMAGE_PAGE_SIZE || n_pages > UINT64_MAX / IMAGE_PAGE_SIZE ||
		__builtin_add_overflow(address, n_pages * (uint64_t)IMAGE_PAGE_SIZE, &end))
		return error_set(e, -EINVAL, ERROR_INTERNAL, "%s: address space %llu, 0x%llx+%zu pages",
			IMAGE_PAGES, (unsigned long long)space, (unsigned long long)address, n_pages);
	return 0;
}

/* Zeros that are left out, but have their place. */
static int skip(struct image_pages *p, size_t n_pages)
{
	static const uint8_t zero_page[IMAGE_PAGE_SIZE];
	int r = p->staged ? write_behind_stage(p, NULL, 0) : 0;

	if (r == 0)
		r = reserve_chunks(p, p->size + n_pages * IMAGE_PAGE_SIZE);
	for (size_t i = 0; i < n_pages && r == 0; i++) {
		hash_bytes(p, zero_page, sizeof(zero_page));
		p->size += sizeof(zero_page);
	}
	return r;
}

/* "places": zero pages have one in pages.img, too. */
static int add(struct image_pages *p, uint64_t space, uint64_t address, const uint8_t *bytes, size_t n_pages,
	bool places)
{
	int r = 0;

	for (size_t i = 0, n; i < n_pages && r == 0; i += n) {
		const uint8_t *first = bytes + i * IMAGE_PAGE_SIZE;
		bool zero = image_page_is_zero(first);
		struct image_run run;

		for (n = 1; i + n < n_pages && image_page_is_zero(first + n * IMAGE_PAGE_SIZE) == zero; n++)
			;
		run = (struct image_run){
			.space = space,
			.address = address + i * IMAGE_PAGE_SIZE,
			.n_pages = n,
			.offset = zero ? 0 : p->size,
			.kind = zero ? IMAGE_PAGES_ZERO : IMAGE_PAGES_DATA,
		};
		r = add_run(p, &run);
		if (r == 0 && !zero)
			r = append(p, first, n * IMAGE_PAGE_SIZE);
		else if (r == 0 && places)
			r = skip(p, n);
	}
	return r;
}

/* Lets go of the lock, and says what failed. */
static int leave(struct image_pages *p, int r, struct error *e)
{
	if (r < 0 && p->error.code)
		*e = p->error;
	else if (r < 0)
		error_errno(e, r, "%s", IMAGE_PAGES);
	pthread_mutex_unlock(&p->lock);
	return r;
}

int image_pages_add(struct image_pages *p, uint64_t space, uint64_t address, const void *data, size_t n_pages,
	struct error *e)
{
	int r = image_pages_check(space, address, n_pages, e);

	if (r < 0)
		return r;
	pthread_mutex_lock(&p->lock);
	return leave(p, add(p, space, address, data, n_pages, false), e);
}

int image_pages_fill(struct image_pages *p, const struct image_run *planned, uint64_t address,
	const void *data, size_t n_pages, struct error *e)
{
	int r = image_pages_check(planned->space, address, n_pages, e);

	if (r < 0)
		return r;
	if (planned->offset + (address - planned->address) != p->size)
		return error_set(e, -EINVAL, ERROR_INTERNAL, "%s: not the pages that come next in the plan",
			IMAGE_PAGES);
	pthread_mutex_lock(&p->lock);
	return leave(p, add(p, planned->space, address, data, n_pages, true), e);
}

int image_pages_share(
	struct image_pages *p, uint64_t space, uint64_t address, size_t n_pages, uint64_t of, struct error *e)
{
	struct image_run run = {
		.space = space,
		.address = address,
		.n_pages = n_pages,
		.offset = of,
		.kind = IMAGE_PAGES_SHARED,
	};
	int r = image_pages_check(space, address, n_pages, e);

	if (r < 0 || n_pages == 0)
		return r;
	pthread_mutex_lock(&p->lock);
	return leave(p, add_run(p, &run), e);
}

/* The file becomes at least so long. */
static int lengthen(struct image_pages *p, uint64_t length)
{
	if (length <= p->length)
		return 0;
	if (ftruncate(p->fd, length) < 0)
		return -errno;
	p->length = length;
	return 0;
}

static int reserve(struct image_pages *p, struct image_run *run)
{
	uint64_t end = p->size + run->n_pages * IMAGE_PAGE_SIZE;
	int r = write_behind_stage(p, NULL, 0);

	run->offset = p->size;
	if (r == 0)
		r = lengthen(p, end);
	if (r == 0)
		r = grow(&p->reserved, &p->reserved_size, p->n_reserved + 1, sizeof(*p->reserved));
	if (r == 0)
		r = reserve_chunks(p, end);
	if (r == 0)
		r = add_run(p, run);
	if (r < 0)
		return r;
	p->reserved[p->n_reserved++] = (struct range){p->size, end};
	XXH3_64bits_reset(p->state);
	p->size = end;
	return 0;
}

int image_pages_inherit(struct image_pages *p, const struct image_index *x, uint64_t space, uint64_t address,
	size_t n_pages, uint64_t of, size_t *ret_n, struct error *e)
{
	int r = image_pages_check(space, address, n_pages, e);
	size_t i = image_index_find(x, of, address);
	const struct image_run *at = i < x->n_runs && x->runs[i].space == of ? &x->runs[i] : NULL;
	struct image_run run = {.space = space, .address = address, .offset = of, .kind = IMAGE_PAGES_PARENT};

	if (r < 0)
		return r;
	if (!at || at->address > address) {
		*ret_n = at ? MIN(n_pages, (at->address - address) / IMAGE_PAGE_SIZE) : n_pages;
		return 0;
	}
	run.n_pages = *ret_n = MIN(n_pages, at->n_pages - (address - at->address) / IMAGE_PAGE_SIZE);
	pthread_mutex_lock(&p->lock);
	r = leave(p, add_run(p, &run), e);
	return r < 0 ? r : 1;
}

int image_pages_round(struct image_pages *p, struct image_index *before, struct error *e)
{
	struct image_index now = {.runs = p->index.runs, .n_runs = p->index.n_runs};
	int r;

	image_index_sort(&now);
	p->index.runs = NULL;
	p->index.n_runs = p->runs_size = 0;
	r = image_index_resolve(&now, before, 0, e);
	if (r == 0 && p->out)
		r = image_forget_replaced(p->out, before, &now, e);
	image_index_done(before);
	*before = now;
	return r;
}

void image_pages_again(struct image_pages *p)
{
	p->index.n_runs = 0;
}

int image_pages_flush(struct image_pages *p, struct error *e)
{
	int r = 0;

	if (!p->out)
		return 0;
	pthread_mutex_lock(&p->lock);
	if (p->staged)
		r = write_behind_stage(p, NULL, 0);
	if (r == 0)
		r = image_out_flush(p->out, &p->error);
	return leave(p, r, e);
}

int image_pages_reserve(struct image_pages *p, uint64_t space, uint64_t address, size_t n_pages,
	uint64_t *ret_offset, struct error *e)
{
	struct image_run run = {
		.space = space,
		.address = address,
		.n_pages = n_pages,
		.kind = IMAGE_PAGES_DATA,
	};
	int r = image_pages_check(space, address, n_pages, e);

	if (r < 0)
		return r;
	if (p->out)
		return error_set(
			e, -EOPNOTSUPP, ERROR_INTERNAL, "%s: no place can be kept in a stream", IMAGE_PAGES);
	pthread_mutex_lock(&p->lock);
	if (n_pages > 0)
		r = reserve(p, &run);
	else
		run.offset = p->size;
	r = leave(p, r, e);
	if (r == 0)
		*ret_offset = run.offset;
	return r;
}

static const uint8_t zeros[IMAGE_CHUNK_SIZE];

/* ---- for stages ---- */

/* Extents begin at a chunk, so that who writes there can make the checksums: what is before reads as zeros. */
static int begin_chunk(struct image_pages *p)
{
	size_t gap = -p->size % IMAGE_CHUNK_SIZE;
	int r = p->staged ? write_behind_stage(p, NULL, 0) : 0;

	if (r == 0 && gap > 0) {
		hash_bytes(p, zeros, gap);
		p->size += gap;
	}
	return r;
}

int image_pages_extent(struct image_pages *p, size_t size, uint64_t *ret_offset, struct error *e)
{
	uint64_t offset, end;
	int r;

	pthread_mutex_lock(&p->lock);
	r = begin_chunk(p);
	offset = p->size;
	end = offset + size;
	if (r == 0)
		r = reserve_chunks(p, end);
	/* If the file cannot become so much longer, it may still become as long as it must. */
	if (r == 0 && end > p->length && (end < AHEAD || lengthen(p, end + AHEAD) < 0))
		r = lengthen(p, end);
	if (r == 0) {
		p->size = end;
		*ret_offset = offset;
	}
	return leave(p, r, e);
}

int image_pages_enter(struct image_pages *p, const struct image_run *runs, size_t n_runs, uint64_t offset,
	const uint64_t *checksums, size_t n_checksums, struct error *e)
{
	int r = 0;

	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < n_runs && r == 0; i++) {
		struct image_run run = runs[i];

		if (run.kind == IMAGE_PAGES_DATA)
			run.offset += offset;
		r = add_run(p, &run);
	}
	for (size_t i = 0; i < n_checksums; i++)
		p->index.chunks[offset / IMAGE_CHUNK_SIZE + i] = checksums[i];
	return leave(p, r, e);
}

void image_pages_leave(struct image_pages *p, uint64_t from, uint64_t to)
{
	uint64_t zero = XXH3_64bits(zeros, sizeof(zeros));

	pthread_mutex_lock(&p->lock);
	if (to == p->size) {
		p->size = from;
		p->index.n_chunks = from / IMAGE_CHUNK_SIZE;
	} else {
		for (; from < to; from += IMAGE_CHUNK_SIZE)
			p->index.chunks[from / IMAGE_CHUNK_SIZE] = zero;
	}
	pthread_mutex_unlock(&p->lock);
}

int image_pages_append(struct image_pages *p, const struct image_run *runs, size_t n_runs, const void *data,
	size_t len, struct error *e)
{
	int r = image_pages_enter(p, runs, n_runs, p->size, NULL, 0, e);

	if (r < 0)
		return r;
	pthread_mutex_lock(&p->lock);
	return leave(p, append(p, data, len), e);
}

/* ---- the end ---- */

/* The checksums of the chunks that "r" touches, from "first" on. */
static int read_back(struct image_pages *p, uint64_t first, const struct range *r, uint8_t *buf)
{
	uint64_t at = MAX(first, r->start / IMAGE_CHUNK_SIZE) * IMAGE_CHUNK_SIZE;

	while (at < r->end) {
		size_t n = MIN(p->size - at, (uint64_t)READBACK_SIZE);
		int rc = pread_exact(p->fd, buf, n, at);

		if (rc < 0)
			return rc;
		for (size_t i = 0; i < n && at + i < r->end; i += IMAGE_CHUNK_SIZE)
			p->index.chunks[(at + i) / IMAGE_CHUNK_SIZE] =
				XXH3_64bits(buf + i, MIN(n - i, (size_t)IMAGE_CHUNK_SIZE));
		at += n;
	}
	return 0;
}

int image_pages_finish(struct image_pages *p, struct image_index **ret, uint64_t *ret_size, struct error *e)
{
	_cleanup_free_ uint8_t *buf = NULL;
	uint64_t next = 0;
	int r = 0;

	if (p->staged)
		r = write_behind_stage(p, NULL, 0);
	/* Whoever reads while it arrives need not wait for zeros at the end. */
	if (r == 0 && p->out)
		r = image_out_piece(p->out, IMAGE_STREAM_PAGES, p->size, NULL, 0, &p->error);
	if (r == 0 && p->size % IMAGE_CHUNK_SIZE)
		p->index.chunks[p->size / IMAGE_CHUNK_SIZE] = XXH3_64bits_digest(p->state);
	if (r == 0 && !p->out && p->length != p->size && ftruncate(p->fd, p->size) < 0)
		r = -errno;
	if (r == 0 && p->n_reserved && !(buf = malloc(READBACK_SIZE)))
		r = -ENOMEM;
	for (size_t i = 0; i < p->n_reserved && r == 0; i++) {
		r = read_back(p, next, &p->reserved[i], buf);
		next = (p->reserved[i].end + IMAGE_CHUNK_SIZE - 1) / IMAGE_CHUNK_SIZE;
	}
	if (r < 0)
		return p->error.code ? (*e = p->error, r) : error_errno(e, r, "%s", IMAGE_PAGES);
	*ret = &p->index;
	*ret_size = p->size;
	return 0;
}

int image_pages_copy_runs(
	const struct image_pages *p, size_t n_planned, struct image_index *ret, uint64_t *ret_size)
{
	struct image_index x = {.n_runs = p->index.n_runs, .chunk_size = IMAGE_CHUNK_SIZE};

	x.runs = calloc(p->index.n_runs + n_planned + 1, sizeof(*x.runs));
	if (!x.runs)
		return -ENOMEM;
	if (p->index.n_runs)
		memcpy(x.runs, p->index.runs, p->index.n_runs * sizeof(*x.runs));
	*ret = x;
	*ret_size = p->size;
	return 0;
}

void image_pages_count(const struct image_pages *p, struct image_statistics *s)
{
	uint64_t *const of[] = {
		[IMAGE_PAGES_DATA] = &s->pages_data,
		[IMAGE_PAGES_ZERO] = &s->pages_zero,
		[IMAGE_PAGES_PARENT] = &s->pages_parent,
		[IMAGE_PAGES_SHARED] = &s->pages_shared,
	};

	for (size_t i = 0; i < ARRAY_SIZE(of); i++)
		*of[i] = 0;
	for (size_t i = 0; i < p->index.n_runs; i++)
		*of[p->index.runs[i].kind] += p->index.runs[i].n_pages;
	s->pages_repeated = 0;
	for (size_t i = 0; i < p->index.n_runs; i++)
		s->pages_repeated += p->index.runs[i].layer ? p->index.runs[i].n_pages : 0;
	s->pages_data -= s->pages_repeated;
	s->bytes = p->size;
}
