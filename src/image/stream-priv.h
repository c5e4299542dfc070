/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a stream; docs/formats/stream.md describes them. */
#pragma once

#include "image/stream.h"

enum {
	STREAM_VERSION = 2,	  /* the newest */
	STREAM_VERSION_PLAIN = 1, /* has no other frames than pieces; is written if that is enough */
	STREAM_HEADER = 16,	  /* magic, u32 version, u32 zero */
	STREAM_FRAME_HEADER = 24, /* u32 type, u32 file, u64 at, u64 length */
	STREAM_CHECKSUM = 8,	  /* behind the payload; seeded with that of the frame before */
	STREAM_PIECE_MAX = 1 << 20,
	/* types */
	STREAM_END = 0,
	STREAM_PIECE = 1,
	STREAM_PACKED = 2,
	STREAM_PACKED_HEADER = 8, /* of the payload: u32 codec, u32 bytes that come out of the rest */
	STREAM_FORGET = 3,
	STREAM_RANGE = 16, /* of which its payload has some: u64 start, u64 end in pages.img */
};
/* pages.img and all files together: far above what anybody has, and no number can overflow below it. */
#define STREAM_PAGES_MAX (UINT64_C(16) << 40)

static const char stream_magic[8] = {'S', 'T', 'A', 'S', 'I', 'S', 'S', 'T'};

/* stream-feed.c: until so many bytes of pages.img are there. */
int image_feed_wait(const struct image_feed *f, uint64_t end, struct error *e) _must_check_;
/* What can be read at once. */
uint64_t image_feed_arrived(const struct image_feed *f);
/* stream-convert.c: image_stream_unpack() of a stream of which the caller has read the first bytes. */
int image_stream_unpack_from(image_open_fn *open_image, int fd, const uint8_t *head, size_t n_head, int dirfd,
	struct error *e) _must_check_;
/* How the stream of a sandbox's image begins (sandbox-stream.c). */
static const char stream_sandbox_magic[8] = {'S', 'T', 'A', 'S', 'I', 'S', 'S', 'B'};

/* Bytes that are no frame of this stream; and all that has been written is waited for, as image_out_end() does. */
int image_out_raw(struct image_out *o, const void *data, size_t len, struct error *e) _must_check_;
int image_out_drain(struct image_out *o, struct error *e) _must_check_;

/* Page data that has been sent, and is not wanted any more; ascending. Before the manifest. */
int image_out_forget(
	struct image_out *o, const struct image_range *ranges, size_t n, struct error *e) _must_check_;
/* stream-forget.c: the data of runs that "was" has, and "is" not. */
struct image_index;
int image_forget_replaced(struct image_out *out, const struct image_index *was, const struct image_index *is,
	struct error *e) _must_check_;

/* stream-compress.c: pieces of pages.img, cut into frames, each compressed if that makes it shorter. They come out at "put" in the
 * order of image_compressor_add(), "len" bytes of data in n stored ones. */
struct image_compressor;
typedef int image_compressed_fn(void *arg, enum image_codec codec, uint64_t at, size_t len,
	const void *stored, size_t n, struct error *e);
int image_compressor_new(const struct image_packing *how, image_compressed_fn *put, void *arg,
	struct image_compressor **ret, struct error *e) _must_check_;
void image_compressor_free(struct image_compressor *c);
int image_compressor_add(struct image_compressor *c, uint64_t at, const uint8_t *data, size_t len,
	struct error *e) _must_check_;
/* All that was added is out, and there are no threads. */
int image_compressor_flush(struct image_compressor *c, struct error *e) _must_check_;
