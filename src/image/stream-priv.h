/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a stream; docs/formats/stream.md describes them. */
#pragma once

#include "image/stream.h"

enum {
	STREAM_VERSION = 1,
	STREAM_HEADER = 16,	  /* magic, u32 version, u32 zero */
	STREAM_FRAME_HEADER = 24, /* u32 type, u32 file, u64 at, u64 length */
	STREAM_CHECKSUM = 8,	  /* behind the payload; seeded with that of the frame before */
	STREAM_PIECE_MAX = 1 << 20,
	/* types */
	STREAM_END = 0,
	STREAM_PIECE = 1,
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
