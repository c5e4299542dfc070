/* SPDX-License-Identifier: Apache-2.0 */
/* What an image that was opened (open.c, adopt.c) has: records, runs of pages, page data. */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "image/opened-priv.h"
#include "image/stream-priv.h"

struct image_feed *image_feed_of(const struct image *i)
{
	return i->feed;
}

int image_feed_pages_fd(const struct image *i)
{
	return i->feed ? i->store.fd : -EBADF;
}

size_t image_feed_n_flags(const struct image *i)
{
	return i->feed ? (i->files.pages.size + IMAGE_FEED_UNIT - 1) / IMAGE_FEED_UNIT : 0;
}

void image_free(struct image *i)
{
	if (!i)
		return;
	image_free(i->parent);
	close_p(&i->store.fd);
	image_decoder_free(i->decoder);
	if (!i->adopted)
		image_index_done(&i->index);
	arena_done(&i->arena);
	for (size_t k = 0; k < ARRAY_SIZE(i->mappings); k++)
		if (i->mappings[k].at)
			munmap(i->mappings[k].at, i->mappings[k].size);
	free(i);
}

const struct image_manifest *image_manifest(const struct image *i)
{
	return &i->manifest;
}

static void *unpack_alloc(void *data, size_t size)
{
	struct image *i = data;

	if (size > IMAGE_UNPACK_MAX - i->unpacked)
		return NULL;
	i->unpacked += size;
	return arena_alloc(i->memory, size);
}

/* The arena frees all at once. */
static void unpack_free(void *data, void *p)
{
}

int image_next_record(struct image *i, size_t *pos, enum image_record_type *ret_type,
	const ProtobufCMessage **ret_message, struct error *e)
{
	ProtobufCAllocator allocator = {unpack_alloc, unpack_free, i};
	const ProtobufCMessageDescriptor *d;
	struct image_slot *s;

	/* Unknown types here are optional ones: image_records_check() has refused the others. */
	while (*pos < i->n_slots && !image_record_descriptor(i->slots[*pos].raw.type))
		++*pos;
	if (*pos >= i->n_slots)
		return 0;
	s = &i->slots[*pos];
	d = image_record_descriptor(s->raw.type);
	if (!s->message)
		s->message = protobuf_c_message_unpack(d, &allocator, s->raw.len, s->raw.payload);
	if (!s->message)
		return image_corrupt(e, IMAGE_CHECKPOINT, (const char *)s->raw.payload - i->records,
			"record can't be read as %s (or needs too much memory)", d->short_name);
	++*pos;
	*ret_type = s->raw.type;
	*ret_message = s->message;
	return 1;
}

int image_next_raw_record(const struct image *i, size_t *pos, struct image_record *ret)
{
	if (*pos >= i->n_slots)
		return 0;
	*ret = i->slots[(*pos)++].raw;
	return 1;
}

const struct image_run *image_runs(const struct image *i, uint64_t space, size_t *ret_n)
{
	size_t first = image_index_find(&i->index, space, 0);
	size_t end = space == UINT64_MAX ? i->index.n_runs : image_index_find(&i->index, space + 1, 0);

	*ret_n = end - first;
	return i->index.runs + first;
}

const struct image_index *image_index_of(const struct image *i)
{
	return &i->index;
}

const struct image *image_layer_of(const struct image *i, unsigned layer)
{
	while (layer-- > 0 && i)
		i = i->parent;
	return i;
}

const struct image_run *image_all_runs(const struct image *i, size_t *ret_n)
{
	*ret_n = i->index.n_runs;
	return i->index.runs;
}

static int compare_offsets(const void *va, const void *vb)
{
	const struct image_run *a = *(const struct image_run *const *)va,
			       *b = *(const struct image_run *const *)vb;

	return a->offset < b->offset ? -1 : a->offset > b->offset;
}

bool image_data_is_used_once(const struct image *i)
{
	const struct image_run **runs = calloc(i->index.n_runs + 1, sizeof(*runs));
	bool once = runs && !i->parent;
	size_t n = 0;

	for (size_t k = 0; k < i->index.n_runs && once; k++) {
		once = i->index.runs[k].kind != IMAGE_PAGES_SHARED;
		if (i->index.runs[k].kind == IMAGE_PAGES_DATA)
			runs[n++] = &i->index.runs[k];
	}
	if (n)
		qsort(runs, n, sizeof(*runs), compare_offsets);
	for (size_t k = 1; k < n && once; k++)
		once = runs[k - 1]->offset + runs[k - 1]->n_pages * IMAGE_PAGE_SIZE <= runs[k]->offset;
	free(runs);
	return once;
}

int image_pages_fd(const struct image *i, unsigned layer)
{
	const struct image *of = image_layer_of(i, layer);

	return of && !of->store.frame_size && !of->feed ? of->store.fd : -EBADF;
}

int image_stored_fd(const struct image *i, unsigned layer)
{
	return image_layer_of(i, layer)->store.fd;
}

void image_stored_chunks(const struct image *i, unsigned layer, uint64_t offset, uint64_t len,
	size_t *ret_first, size_t *ret_last)
{
	const struct image *of = image_layer_of(i, layer);
	size_t size = of->store.frame_size;
	uint64_t first = size ? UINT64_MAX : offset, end = size ? 0 : offset + len;

	for (uint64_t k = size ? offset / size : 0; size && k <= (offset + len - 1) / size; k++) {
		const struct image_frame *f = &of->store.frames[k];

		first = MIN(first, f->offset);
		end = MAX(end, f->offset + f->length);
	}
	*ret_first = first / of->index.chunk_size;
	*ret_last = (end - 1) / of->index.chunk_size;
}

int image_read_problem(int r, uint64_t offset, struct error *e)
{
	if (r == -EBADMSG)
		return image_corrupt(e, IMAGE_PAGES, offset, "the page data here can't be decompressed");
	return error_errno(e, r, "%s: offset %llu", IMAGE_PAGES, (unsigned long long)offset);
}

/* For all layers. */
int image_decoder_new(const struct image *i, struct image_decoder **ret, struct error *e)
{
	size_t size = IMAGE_FRAME_SIZE;

	for (; i; i = i->parent)
		size = MAX(size, (size_t)i->store.frame_size);
	*ret = image_decoder_make(size);
	return *ret ? 0 : error_errno(e, -ENOMEM, IMAGE_PAGES);
}

int image_decode(const struct image *i, struct image_decoder *d, unsigned layer, uint64_t offset,
	const void **ret, size_t *ret_len, struct error *e)
{
	const struct image *of = image_layer_of(i, layer);
	const uint8_t *data = NULL;
	size_t len = 0, skip = 0;
	int r = of ? image_store_at(&of->store, d, offset, &data, &len, &skip) : -EBADF;

	if (r < 0)
		return image_read_problem(r, offset, e);
	*ret = data + skip;
	*ret_len = len - skip;
	return 0;
}

int image_read_data(
	const struct image *i, unsigned layer, uint64_t offset, void *buf, size_t len, struct error *e)
{
	const struct image *of = image_layer_of(i, layer);
	int r = of && of->feed ? image_feed_wait(of->feed, offset + len, e) : 0;

	if (r < 0)
		return r;
	r = of ? image_store_read(&of->store, of->decoder, offset, buf, len) : -EBADF;
	return r < 0 ? image_read_problem(r, offset, e) : 0;
}

int image_move_fds(struct image *i, int (*f)(void *arg, int *fd, struct error *e), void *arg, struct error *e)
{
	int r = 0;

	for (; i && r == 0; i = i->parent)
		r = f(arg, &i->store.fd, e);
	return r;
}

int image_read(
	const struct image *i, uint64_t space, uint64_t address, void *buf, size_t len, struct error *e)
{
	uint64_t end;
	int r;

	if (__builtin_add_overflow(address, len, &end))
		return error_set(e, -EINVAL, ERROR_INTERNAL, "image_read: 0x%llx+%zu",
			(unsigned long long)address, len);
	memset(buf, 0, len);
	for (size_t k = image_index_find(&i->index, space, address); k < i->index.n_runs; k++) {
		const struct image_run *run = &i->index.runs[k];
		uint64_t from = MAX(run->address, address),
			 to = MIN(run->address + run->n_pages * IMAGE_PAGE_SIZE, end);

		if (run->space != space || from >= end)
			break;
		if (run->kind == IMAGE_PAGES_SHARED) {
			r = image_read(i, run->offset, from, (char *)buf + (from - address), to - from, e);
			if (r < 0)
				return r;
		}
		if (run->kind != IMAGE_PAGES_DATA)
			continue;
		r = image_read_data(i, run->layer, run->offset + (from - run->address),
			(char *)buf + (from - address), to - from, e);
		if (r < 0)
			return r;
	}
	return 0;
}

void image_sizes(const struct image *i, struct image_sizes *ret)
{
	uint64_t by_kind[IMAGE_PAGES_SHARED + 1] = {0}, own = 0;
	struct image_sizes s = {0};

	for (size_t k = 0; k < i->index.n_runs; k++) {
		const struct image_run *run = &i->index.runs[k];

		by_kind[run->kind] += run->n_pages * IMAGE_PAGE_SIZE;
		if (run->kind == IMAGE_PAGES_DATA && run->layer == 0)
			own += run->n_pages * IMAGE_PAGE_SIZE;
	}
	s.memory = by_kind[IMAGE_PAGES_DATA] + by_kind[IMAGE_PAGES_ZERO] + by_kind[IMAGE_PAGES_SHARED];
	s.zero = by_kind[IMAGE_PAGES_ZERO];
	s.shared = by_kind[IMAGE_PAGES_SHARED];
	s.repeated = MIN(i->index.n_repeated * IMAGE_PAGE_SIZE, by_kind[IMAGE_PAGES_DATA] - own);
	s.parent = by_kind[IMAGE_PAGES_DATA] - own - s.repeated;
	s.data = MIN(own, i->index.data_size);
	s.duplicate = own - s.data;
	s.stored = i->files.pages.size;
	s.files = i->files.checkpoint.size + i->files.index.size + i->files.pages.size;
	s.pieces = i->index.n_frames;
	for (size_t k = 0; k < i->index.n_frames; k++) {
		if (i->index.frames[k].codec == IMAGE_CODEC_NONE)
			continue;
		s.codec = (enum image_codec)i->index.frames[k].codec;
		s.compressed_pieces++;
	}
	*ret = s;
}

unsigned image_n_layers(const struct image *i)
{
	return i->parent ? 1 + image_n_layers(i->parent) : 1;
}

uint64_t image_chunk_size(const struct image *i, unsigned layer)
{
	return image_layer_of(i, layer)->index.chunk_size;
}

size_t image_n_chunks(const struct image *i, unsigned layer)
{
	return image_layer_of(i, layer)->index.n_chunks;
}

uint64_t image_index_checksum(const struct image *i)
{
	return i->index.hash;
}
