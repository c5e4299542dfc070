/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reading end of a stream: checks each frame before anybody sees its bytes, and the order of the pieces. All
 * memory that it needs is one frame, and what comes out of it.
 */
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/fd.h"
#include "image/image-priv.h"
#include "image/stream-priv.h"

#define STREAM "image stream"

const char *const image_stream_names[IMAGE_STREAM_FILES] = {
	[IMAGE_STREAM_CHECKPOINT] = IMAGE_CHECKPOINT,
	[IMAGE_STREAM_INDEX] = IMAGE_INDEX,
	[IMAGE_STREAM_PAGES] = IMAGE_PAGES,
	[IMAGE_STREAM_MANIFEST] = IMAGE_MANIFEST,
	[IMAGE_STREAM_INVENTORY] = "inventory.img",
	[IMAGE_STREAM_STATS] = "stats-dump",
	[IMAGE_STREAM_DESCRIPTORS] = "descriptors.json",
};

struct stream {
	const struct image_stream_source *source;
	uint8_t *buffer;
	uint32_t version;
	struct image_decoder *decoder; /* NULL: nothing has been compressed yet */
	uint8_t *decoded;
	uint64_t offset;   /* of the frame that is read, in the stream */
	uint64_t checksum; /* of the one before */
	uint64_t frames;
	uint64_t size[IMAGE_STREAM_FILES];  /* of each file so far */
	unsigned begun[IMAGE_STREAM_FILES]; /* how often it began */
};

static int take(struct stream *s, void *buf, size_t len, struct error *e)
{
	int r = s->source->read(s->source->arg, buf, len);

	if (r == -ENODATA)
		return error_set(e, -EBADMSG, ERROR_CORRUPT,
			STREAM ": it ends in the frame at offset %llu, without an end frame: the checkpoint "
			       "failed, or "
			       "something on the way",
			(unsigned long long)s->offset);
	return r < 0 ? error_errno(e, r, STREAM ": offset %llu", (unsigned long long)s->offset) : 0;
}

static int check_header(struct stream *s, struct error *e)
{
	int r = take(s, s->buffer, STREAM_HEADER, e);

	if (r < 0)
		return r;
	if (!memcmp(s->buffer, stream_sandbox_magic, sizeof(stream_sandbox_magic)))
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			STREAM ": it is one of a sandbox: make a directory of it (stasis image unpack), and "
			       "restore its containers from there");
	if (memcmp(s->buffer, stream_magic, sizeof(stream_magic)) != 0)
		return image_corrupt(e, STREAM, 0, "not a stream of stasis (wrong magic)");
	s->version = get_le32(s->buffer + 8);
	if (s->version < STREAM_VERSION_PLAIN || s->version > STREAM_VERSION)
		return error_set(e, -ENOTSUP, ERROR_REFUSED,
			STREAM ": format version %u, but this stasis " STASIS_VERSION
			       " reads versions up to %d: use the stasis that made it",
			s->version, STREAM_VERSION);
	if (get_le32(s->buffer + 12))
		return image_corrupt(e, STREAM, 12, "reserved field is not zero");
	s->offset = STREAM_HEADER;
	return 0;
}

static uint64_t largest(enum image_stream_file file)
{
	switch (file) {
	case IMAGE_STREAM_CHECKPOINT:
	case IMAGE_STREAM_INDEX:
		return IMAGE_FILE_MAX;
	case IMAGE_STREAM_PAGES:
		return STREAM_PAGES_MAX;
	default:
		return IMAGE_MANIFEST_MAX; /* in one piece: the others are small, too */
	}
}

/* NULL, or what is wrong with the place of a piece. */
static const char *place_problem(struct stream *s, unsigned file, uint64_t at, uint64_t len)
{
	bool again = file == IMAGE_STREAM_INDEX || file == IMAGE_STREAM_MANIFEST;

	if (at > largest(file) || len > largest(file) - at)
		return "a file that is too large";
	if (file == IMAGE_STREAM_PAGES) {
		if (at < s->size[file] || at % IMAGE_PAGE_SIZE || len % IMAGE_PAGE_SIZE)
			return "page data in a wrong place";
		return NULL;
	}
	if (at == 0 &&
		(s->begun[file] > (again ? 1U : 0U) || (s->begun[file] && !s->begun[IMAGE_STREAM_MANIFEST])))
		return "a file that has been there already";
	if (at != 0 && (at != s->size[file] || file >= IMAGE_STREAM_MANIFEST))
		return "a piece in a wrong place";
	if (file == IMAGE_STREAM_CHECKPOINT && s->begun[IMAGE_STREAM_MANIFEST])
		return "records behind the manifest";
	if (file == IMAGE_STREAM_MANIFEST &&
		(!s->begun[IMAGE_STREAM_CHECKPOINT] || !s->begun[IMAGE_STREAM_INDEX]))
		return "a manifest before what it is about";
	return NULL;
}

static int deliver(struct stream *s, const struct image_stream_sink *sink, const uint8_t *frame,
	const uint8_t *data, size_t len, struct error *e)
{
	uint32_t file = get_le32(frame + 4);
	uint64_t at = get_le64(frame + 8);
	const char *problem;

	if (file == 0 || file >= IMAGE_STREAM_FILES)
		return error_set(e, -ENOTSUP, ERROR_REFUSED,
			STREAM ": offset %llu: a file that this stasis " STASIS_VERSION
			       " does not know (%u): use the stasis that made it, or a newer one",
			(unsigned long long)s->offset, file);
	problem = place_problem(s, file, at, len);
	if (problem)
		return image_corrupt(e, STREAM, s->offset, "%s", problem);
	if (at == 0)
		s->begun[file]++;
	s->size[file] = at + len;
	return sink->piece(sink->arg, file, at, data, len, e);
}

static int make_decoder(struct stream *s, struct error *e)
{
	if (!s->decoded)
		s->decoded = malloc(STREAM_PIECE_MAX);
	if (!s->decoder)
		s->decoder = image_decoder_make(IMAGE_PAGE_SIZE); /* for what is in other buffers */
	return s->decoded && s->decoder ? 0 : error_errno(e, -ENOMEM, STREAM);
}

/* A piece of pages.img, of which "len" bytes are in the frame. */
static int unpack(struct stream *s, const struct image_stream_sink *sink, const uint8_t *frame, size_t len,
	struct error *e)
{
	const uint8_t *p = frame + STREAM_FRAME_HEADER;
	uint32_t codec = len >= STREAM_PACKED_HEADER ? get_le32(p) : 0,
		 size = len >= STREAM_PACKED_HEADER ? get_le32(p + 4) : 0;
	int r = make_decoder(s, e);

	if (r < 0)
		return r;
	if (s->version == STREAM_VERSION_PLAIN || get_le32(frame + 4) != IMAGE_STREAM_PAGES)
		return image_corrupt(e, STREAM, s->offset, "a compressed piece of what is not compressed");
	if (codec == IMAGE_CODEC_NONE || size == 0 || size > STREAM_PIECE_MAX)
		return image_corrupt(e, STREAM, s->offset, "a compressed piece of %u bytes", size);
	if (codec > IMAGE_CODEC_ZSTD)
		return error_set(e, -ENOTSUP, ERROR_REFUSED,
			STREAM ": offset %llu: compressed in a way that this stasis " STASIS_VERSION
			       " does not know (%u): use the stasis that made it, or a newer one",
			(unsigned long long)s->offset, codec);
	r = image_decode_block(s->decoder, (enum image_codec)codec, p + STREAM_PACKED_HEADER,
		len - STREAM_PACKED_HEADER, s->decoded, size);
	if (r < 0)
		return image_corrupt(e, STREAM, s->offset, "a piece that can't be decompressed");
	return deliver(s, sink, frame, s->decoded, size, e);
}

static int forget(struct stream *s, const struct image_stream_sink *sink, const uint8_t *frame, size_t len,
	struct error *e)
{
	uint64_t before = 0;
	int r = 0;

	if (s->version == STREAM_VERSION_PLAIN || s->begun[IMAGE_STREAM_MANIFEST] ||
		get_le32(frame + 4) != IMAGE_STREAM_PAGES || get_le64(frame + 8) || len % STREAM_RANGE)
		return image_corrupt(e, STREAM, s->offset, "something to forget in a wrong place");
	for (size_t i = 0; i < len && r == 0; i += STREAM_RANGE) {
		const uint8_t *p = frame + STREAM_FRAME_HEADER + i;
		struct image_range range = {get_le64(p), get_le64(p + 8)};

		if (range.start < before || range.start >= range.end ||
			range.end > s->size[IMAGE_STREAM_PAGES] || range.start % IMAGE_PAGE_SIZE ||
			range.end % IMAGE_PAGE_SIZE)
			return image_corrupt(e, STREAM, s->offset, "page data to forget that is not there");
		before = range.end;
		r = sink->forget ? sink->forget(sink->arg, &range, e) : 0;
	}
	return r;
}

/* 1: it was the last one. */
static int read_frame(struct stream *s, const struct image_stream_sink *sink, struct error *e)
{
	uint8_t *p = s->buffer;
	int r = take(s, p, STREAM_FRAME_HEADER, e);
	uint64_t len, checksum;
	uint32_t type;

	if (r < 0)
		return r;
	type = get_le32(p);
	len = get_le64(p + 16);
	if (len > STREAM_PIECE_MAX)
		return image_corrupt(e, STREAM, s->offset, "a frame of %llu bytes", (unsigned long long)len);
	r = take(s, p + STREAM_FRAME_HEADER, len + STREAM_CHECKSUM, e);
	if (r < 0)
		return r;
	len += STREAM_FRAME_HEADER;
	checksum = XXH3_64bits_withSeed(p, len, s->checksum);
	if (checksum != get_le64(p + len))
		return image_corrupt(e, STREAM, s->offset, "wrong checksum of this frame");
	if (type > STREAM_FORGET)
		return error_set(e, -ENOTSUP, ERROR_REFUSED,
			STREAM ": offset %llu: a frame of a type that this stasis " STASIS_VERSION
			       " does not know (%u): use the stasis that made it, or a newer one",
			(unsigned long long)s->offset, type);
	if (type == STREAM_PIECE)
		r = deliver(s, sink, p, p + STREAM_FRAME_HEADER, len - STREAM_FRAME_HEADER, e);
	else if (type == STREAM_PACKED)
		r = unpack(s, sink, p, len - STREAM_FRAME_HEADER, e);
	else if (type == STREAM_FORGET)
		r = forget(s, sink, p, len - STREAM_FRAME_HEADER, e);
	else if (len != STREAM_FRAME_HEADER || get_le32(p + 4) || get_le64(p + 8) != s->frames)
		r = image_corrupt(e, STREAM, s->offset, "an end frame that is not the end of this stream");
	else if (!s->begun[IMAGE_STREAM_MANIFEST])
		r = image_corrupt(e, STREAM, s->offset, "an end without a manifest");
	else
		r = 1;
	s->checksum = checksum;
	s->offset += len + STREAM_CHECKSUM;
	s->frames++;
	return r;
}

int image_stream_read(
	const struct image_stream_source *source, const struct image_stream_sink *sink, struct error *e)
{
	_cleanup_free_ uint8_t *buffer = malloc(STREAM_FRAME_HEADER + STREAM_PIECE_MAX + STREAM_CHECKSUM);
	struct stream s = {.source = source, .buffer = buffer};
	int r;

	if (!buffer)
		return error_errno(e, -ENOMEM, STREAM);
	r = check_header(&s, e);
	while (r == 0)
		r = read_frame(&s, sink, e);
	image_decoder_free(s.decoder);
	free(s.decoded);
	return r < 0 ? r : 0;
}

static int read_fd_exact(void *arg, void *buf, size_t len)
{
	return read_exact(*(const int *)arg, buf, len);
}

int image_stream_read_fd(int fd, const struct image_stream_sink *sink, struct error *e)
{
	struct image_stream_source source = {read_fd_exact, &fd};

	return image_stream_read(&source, sink, e);
}
