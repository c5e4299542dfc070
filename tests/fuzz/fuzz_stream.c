/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of streams. The first byte of an input says whether the rest is a stream as it is, or frames {u8 type, u8 file,
 * u16 length, u32 place in pages, payload} of which a stream with right checksums is made, as an attacker would; its second bit,
 * of which version.
 */
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "image/image-priv.h"
#include "image/stream-priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t size;
};

struct seen {
	uint64_t size[IMAGE_STREAM_FILES];
	unsigned manifests;
};

static int read_input(void *arg, void *buf, size_t len)
{
	struct input *in = arg;

	if (len > in->size)
		return -ENODATA;
	memcpy(buf, in->data, len);
	in->data += len;
	in->size -= len;
	return 0;
}

/* What the header promises to a sink. */
static int piece(
	void *arg, enum image_stream_file file, uint64_t at, const void *data, size_t len, struct error *e)
{
	struct seen *s = arg;

	if (file < 1 || file >= IMAGE_STREAM_FILES || len > STREAM_PIECE_MAX || at + len < at)
		abort();
	if (file == IMAGE_STREAM_PAGES ? at < s->size[file] || (at | len) % IMAGE_PAGE_SIZE
				       : at != 0 && at != s->size[file])
		abort();
	if (file == IMAGE_STREAM_CHECKPOINT && s->manifests)
		abort();
	s->manifests += file == IMAGE_STREAM_MANIFEST;
	s->size[file] = at + len;
	return 0;
}

static int forget(void *arg, const struct image_range *range, struct error *e)
{
	const struct seen *s = arg;

	if (s->manifests || range->start >= range->end || range->end > s->size[IMAGE_STREAM_PAGES] ||
		(range->start | range->end) % IMAGE_PAGE_SIZE)
		abort();
	return 0;
}

static void read_stream(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct seen seen = {0};
	struct image_stream_source source = {read_input, &in};
	struct image_stream_sink sink = {piece, &seen, forget};
	struct error e;
	int r = image_stream_read(&source, &sink, &e);

	if (r < 0 && (e.code != r || !e.message[0]))
		abort();
	if (r == 0 && (!seen.manifests || seen.manifests > 2))
		abort();
}

static void add(struct image_buffer *b, const uint8_t *f, size_t len, uint64_t *checksum)
{
	uint64_t at = get_le32(f + 4);
	uint8_t *p = image_buffer_room(b, STREAM_FRAME_HEADER + len + STREAM_CHECKSUM);

	if (!p)
		return;
	put_le32(p, f[0]);
	put_le32(p + 4, f[1]);
	/* Behind what there can be, too. */
	put_le64(p + 8, f[1] == IMAGE_STREAM_PAGES ? at << 12 : at & 0xffff ? at : at << 24);
	put_le64(p + 16, len);
	memcpy(p + STREAM_FRAME_HEADER, f + 8, len);
	*checksum = XXH3_64bits_withSeed(p, STREAM_FRAME_HEADER + len, *checksum);
	put_le64(p + STREAM_FRAME_HEADER + len, *checksum);
	b->len += STREAM_FRAME_HEADER + len + STREAM_CHECKSUM;
}

static void read_frames(uint32_t version, const uint8_t *data, size_t size)
{
	_cleanup_(image_buffer_done) struct image_buffer b = {0};
	uint8_t *p = image_buffer_room(&b, STREAM_HEADER);
	uint64_t checksum = 0;

	if (!p)
		return;
	memset(p, 0, STREAM_HEADER);
	memcpy(p, stream_magic, sizeof(stream_magic));
	put_le32(p + 8, version);
	b.len += STREAM_HEADER;
	while (size >= 8) {
		size_t len = MIN((size_t)(data[2] | data[3] << 8), size - 8);

		add(&b, data, len, &checksum);
		data += 8 + len;
		size -= 8 + len;
	}
	read_stream(b.data, b.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] & 1)
		read_frames(data[0] & 2 ? STREAM_VERSION : STREAM_VERSION_PLAIN, data + 1, size - 1);
	else
		read_stream(data + 1, size - 1);
	return 0;
}
