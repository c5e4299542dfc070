/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checksums of page data: of all of it, or of some chunks, by threads while the caller does something else; and a reader that
 * checks what it hands out.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "image/opened-priv.h"
#include "image/stream-priv.h"

/* A part of the page data, for one thread. Its memory is not for processes that are forked meanwhile. */
struct verified_part {
	const struct image *image;
	const uint8_t *wanted; /* bits of the chunks; NULL: all */
	size_t first, end;     /* chunks */
	int r;		       /* 0, -EBADMSG, or what pread() said, about chunk "first" */
	size_t n;	       /* bytes of that chunk */
	uint8_t *memory;       /* for a chunk, then the stack; NULL: none is mapped */
	size_t memory_size;
	pthread_t thread;
	bool started;
};

enum { MAX_PARTS = 4, BYTES_PER_PART = 8 << 20, STACK_SIZE = 128 << 10, BYTES_IN_BACKGROUND = 1 << 20 };

struct image_verification {
	struct verified_part parts[MAX_PARTS];
	size_t n;
	struct image_verification *parent; /* NULL: none */
};

static void *verify_part(void *arg)
{
	struct verified_part *v = arg;
	uint64_t chunk = v->image->index.chunk_size, size = v->image->files.pages.size;

	for (; v->r == 0 && v->first < v->end; v->first++) {
		if (v->wanted && !(v->wanted[v->first / 8] & 1u << v->first % 8))
			continue;
		v->n = MIN(size - v->first * chunk, chunk);
		v->r = pread_exact(v->image->store.fd, v->memory, v->n, v->first * chunk);
		if (v->r == 0 && image_hash(v->memory, v->n) != v->image->index.chunks[v->first])
			v->r = -EBADMSG;
		if (v->r < 0)
			break;
	}
	return NULL;
}

/* Its own stack: what pthread_create() maps is kept for the next thread, and copied by each fork until then. */
static void start_part(struct verified_part *v)
{
	sigset_t all, old;
	pthread_attr_t attr;

	if (pthread_attr_init(&attr) != 0)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	v->started =
		pthread_attr_setstack(&attr, v->memory + (v->memory_size - STACK_SIZE), STACK_SIZE) == 0 &&
		pthread_create(&v->thread, &attr, verify_part, v) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}

int image_verify_begin(const struct image *i, struct image_verification **ret, struct error *e)
{
	return image_verify_begin_some(i, NULL, ret, e);
}

int image_verify_begin_some(
	const struct image *i, uint8_t *const *wanted, struct image_verification **ret, struct error *e)
{
	size_t n = i->index.n_chunks, size = ALIGN_UP(i->index.chunk_size, UINT64_C(4096)) + STACK_SIZE;
	struct image_verification *v = calloc(1, sizeof(*v));

	if (!v)
		return error_errno(e, -ENOMEM, IMAGE_PAGES);
	/* What comes in a stream is checked when it comes. */
	v->n = i->feed ? 0 : MIN(i->files.pages.size / BYTES_PER_PART + 1, (uint64_t)MAX_PARTS);
	for (size_t k = 0; k < v->n; k++) {
		struct verified_part *part = &v->parts[k];

		*part = (struct verified_part){.image = i,
			.wanted = wanted ? wanted[0] : NULL,
			.first = n * k / v->n,
			.end = n * (k + 1) / v->n,
			.memory_size = size};
		part->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (part->memory == MAP_FAILED) {
			part->memory = NULL;
			part->r = -ENOMEM;
			break;
		}
		madvise(part->memory, size, MADV_DONTFORK);
		if (i->files.pages.size >= BYTES_IN_BACKGROUND)
			start_part(part);
	}
	if (i->parent) {
		int r = image_verify_begin_some(i->parent, wanted ? wanted + 1 : NULL, &v->parent, e);

		if (r < 0) {
			(void)!image_verify_end(v, NULL);
			return r;
		}
	}
	*ret = v;
	return 0;
}

int image_verify_end(struct image_verification *v, struct error *e)
{
	int r = v && v->parent ? image_verify_end(v->parent, e) : 0;

	if (r < 0)
		error_prefix(e, "parent");

	for (size_t k = 0; v && k < v->n; k++) {
		struct verified_part *part = &v->parts[k];
		uint64_t at;

		if (part->started)
			pthread_join(part->thread, NULL);
		else if (r == 0)
			verify_part(part);
		at = part->first * part->image->index.chunk_size;
		if (r == 0 && part->r == -EBADMSG)
			r = image_corrupt(e, IMAGE_PAGES, at, "wrong checksum of these %zu bytes", part->n);
		else if (r == 0 && part->r < 0)
			r = error_errno(e, part->r, "%s: offset %llu", IMAGE_PAGES, (unsigned long long)at);
		if (part->memory)
			munmap(part->memory, part->memory_size);
	}
	free(v);
	return r;
}

int image_verify_pages(const struct image *i, struct error *e)
{
	struct image_verification *v = NULL;
	int r = image_verify_begin(i, &v, e);

	return r < 0 ? r : image_verify_end(v, e);
}

/* ---- checked page data ---- */

enum { READER_MIN = 256 << 10 };

struct image_reader {
	const struct image *image;
	uint8_t *memory;
	size_t size;	/* of it: whole chunks */
	unsigned layer; /* of which page data is in there, checked: */
	uint64_t at, end;
	struct {
		uint8_t *memory;
		size_t size;
		const struct image *of; /* of this one, as it is stored: */
		uint64_t at, end;
	} packed; /* of layers in frames; .memory NULL: there are none */
	struct image_decoder *decoder;
};

static int reader_make_room(struct image_reader *r, struct error *e)
{
	bool has_frames = false;

	r->size = READER_MIN;
	for (const struct image *i = r->image; i; i = i->parent) {
		size_t frame = i->store.frame_size;

		has_frames |= frame > 0;
		r->size = MAX(r->size, MAX(i->index.chunk_size, frame));
		if (frame)
			r->packed.size = MAX(r->packed.size, frame + 2 * i->index.chunk_size);
	}
	r->memory = malloc(r->size);
	r->packed.memory = has_frames ? malloc(r->packed.size) : NULL;
	if (!r->memory || (has_frames && !r->packed.memory))
		return error_errno(e, -ENOMEM, IMAGE_PAGES);
	return has_frames ? image_decoder_new(r->image, &r->decoder, e) : 0;
}

int image_reader_new(const struct image *i, struct image_reader **ret, struct error *e)
{
	struct image_reader *r = calloc(1, sizeof(*r));
	int result;

	if (!r)
		return error_errno(e, -ENOMEM, IMAGE_PAGES);
	r->image = i;
	result = reader_make_room(r, e);
	if (result < 0)
		image_reader_free(r);
	else
		*ret = r;
	return result;
}

void image_reader_free(struct image_reader *r)
{
	if (!r)
		return;
	image_decoder_free(r->decoder);
	free(r->packed.memory);
	free(r->memory);
	free(r);
}

/* Whole chunks, as they are stored. */
static int load_checked(const struct image *of, uint8_t *to, uint64_t at, uint64_t end, struct error *e)
{
	uint64_t chunk = of->index.chunk_size;
	int r = pread_exact(of->store.fd, to, end - at, at);

	if (r < 0)
		return error_errno(e, r, "%s: offset %llu", IMAGE_PAGES, (unsigned long long)at);
	for (uint64_t k = at; k < end; k += chunk) {
		size_t n = MIN(chunk, end - k);

		if (image_hash(to + (k - at), n) != of->index.chunks[k / chunk])
			return image_corrupt(e, IMAGE_PAGES, k, "wrong checksum of these %zu bytes", n);
	}
	return 0;
}

static int reader_load_frame(struct image_reader *r, const struct image *of, uint64_t offset, struct error *e)
{
	size_t size = of->store.frame_size, frame = offset / size,
	       len = MIN(of->store.data_size - frame * size, (uint64_t)size);
	const struct image_frame *f = &of->store.frames[frame];
	uint64_t chunk = of->index.chunk_size, first = f->offset / chunk * chunk,
		 end = MIN(ALIGN_UP(f->offset + f->length, chunk), of->files.pages.size);
	int result = 0;

	r->at = r->end = 0;
	if (r->packed.of != of || f->offset < r->packed.at || f->offset + f->length > r->packed.end) {
		r->packed.of = NULL;
		result = load_checked(of, r->packed.memory, first, end, e);
		if (result < 0)
			return result;
		r->packed.of = of;
		r->packed.at = first;
		r->packed.end = end;
	}
	result = image_decode_block(r->decoder, (enum image_codec)f->codec,
		r->packed.memory + (f->offset - r->packed.at), f->length, r->memory, len);
	if (result < 0)
		return image_read_problem(result, offset, e);
	r->at = frame * size;
	r->end = r->at + len;
	return 0;
}

/* Of an image that is arriving: what has come. It has been checked, and there are no checksums yet. */
static int reader_load_arrived(
	struct image_reader *r, const struct image *of, uint64_t offset, uint64_t end, struct error *e)
{
	uint64_t at = offset / IMAGE_PAGE_SIZE * IMAGE_PAGE_SIZE;
	int result = image_feed_wait(of->feed, at + IMAGE_PAGE_SIZE, e);

	if (result < 0)
		return result;
	end = MIN(end, image_feed_arrived(of->feed));
	end = MIN(end, at + r->size);
	result = pread_exact(of->store.fd, r->memory, end - at, at);
	if (result < 0)
		return error_errno(e, result, "%s: offset %llu", IMAGE_PAGES, (unsigned long long)at);
	r->at = at;
	r->end = end;
	return 0;
}

/* The chunk of "offset" and those behind it up to "want", as far as there is room. */
static int reader_load(
	struct image_reader *r, const struct image *of, uint64_t offset, uint64_t want, struct error *e)
{
	uint64_t chunk = of->index.chunk_size, size = of->files.pages.size, at = offset / chunk * chunk,
		 end = MIN(MIN(ALIGN_UP(want, chunk), at + r->size), size);
	int result;

	r->at = r->end = 0;
	if (of->feed)
		return reader_load_arrived(r, of, offset, end, e);
	result = load_checked(of, r->memory, at, end, e);
	if (result < 0)
		return result;
	r->at = at;
	r->end = end;
	return 0;
}

int image_reader_get(struct image_reader *r, unsigned layer, uint64_t offset, size_t *len,
	const uint8_t **ret, struct error *e)
{
	const struct image *of = image_layer_of(r->image, layer);
	uint64_t size = !of ? 0 : of->store.frame_size ? of->store.data_size : of->files.pages.size;
	int result;

	if (offset >= size || *len > size - offset)
		return error_set(e, -EINVAL, ERROR_INTERNAL, "read behind the end of %s", IMAGE_PAGES);
	if (layer != r->layer || offset < r->at || offset >= r->end) {
		r->layer = layer;
		result = of->store.frame_size ? reader_load_frame(r, of, offset, e)
					      : reader_load(r, of, offset, offset + *len, e);
		if (result < 0)
			return result;
	}
	*len = MIN(*len, r->end - offset);
	*ret = r->memory + (offset - r->at);
	return 0;
}
