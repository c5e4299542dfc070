/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page data compressed in frames, each of which can be read without the others. What comes out of a frame has exactly the
 * length that the index says: a frame that would give more or less is damaged, and nothing is written behind the buffer.
 *
 * A decoder never allocates after it was made and takes no lock: it is used by stubs, which are forks of a process with
 * threads.
 */
#include <lz4.h>
#include <stdlib.h>
#include <sys/mman.h>
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include "base/fd.h"
#include "image/image-priv.h"

static const struct {
	const char *name;
	int min_level, max_level, level; /* the usual one */
} codecs[] = {
	[IMAGE_CODEC_NONE] = {"none", 0, 0, 0},
	[IMAGE_CODEC_LZ4] = {"lz4", 0, 0, 0},
	[IMAGE_CODEC_ZSTD] = {"zstd", 1, 19, 1},
};

const char *image_codec_name(enum image_codec codec)
{
	return codec < ARRAY_SIZE(codecs) ? codecs[codec].name : "unknown";
}

int image_codec_parse(const char *text, enum image_codec *ret, int *ret_level)
{
	for (size_t i = 0; i < ARRAY_SIZE(codecs); i++) {
		size_t n = strlen(codecs[i].name);
		char *end;
		long level;

		if (strncmp(text, codecs[i].name, n) != 0 || (text[n] && text[n] != ':'))
			continue;
		level = text[n] ? strtol(text + n + 1, &end, 10) : codecs[i].level;
		if (text[n] &&
			(!(text[n + 1] >= '0' && text[n + 1] <= '9') || *end || codecs[i].max_level == 0))
			return -EINVAL;
		if (level < codecs[i].min_level || level > codecs[i].max_level)
			return -ERANGE;
		*ret = (enum image_codec)i;
		*ret_level = (int)level;
		return 0;
	}
	return -EINVAL;
}

/* ---- to the image ---- */

struct image_encoder {
	enum image_codec codec;
	int level;
	ZSTD_CCtx *zstd;
};

struct image_encoder *image_encoder_new(enum image_codec codec, int level)
{
	struct image_encoder *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	*x = (struct image_encoder){
		.codec = codec, .level = level, .zstd = codec == IMAGE_CODEC_ZSTD ? ZSTD_createCCtx() : NULL};
	if (codec != IMAGE_CODEC_ZSTD || x->zstd)
		return x;
	free(x);
	return NULL;
}

void image_encoder_free(struct image_encoder *x)
{
	if (!x)
		return;
	ZSTD_freeCCtx(x->zstd);
	free(x);
}

size_t image_encode(struct image_encoder *x, void *to, size_t room, const void *from, size_t len)
{
	size_t n;
	int k;

	switch (x->codec) {
	case IMAGE_CODEC_LZ4:
		k = LZ4_compress_default(from, to, (int)len, (int)room);
		return k > 0 ? (size_t)k : 0;
	case IMAGE_CODEC_ZSTD:
		n = ZSTD_compressCCtx(x->zstd, to, room, from, len, x->level);
		return ZSTD_isError(n) ? 0 : n;
	case IMAGE_CODEC_NONE:
		break;
	}
	return 0;
}

/* ---- from the image ---- */

enum { SLOTS = 4 };

/* All in one private mapping: stored bytes, workspace of zstd, and the frames that were decoded last. */
struct image_decoder {
	size_t size, frame_size;
	uint8_t *stored;
	ZSTD_DCtx *zstd;
	struct {
		const struct image_store *store;
		size_t frame, len;
		uint8_t *data;
	} slots[SLOTS];
	unsigned next; /* slot to be used again */
};

struct image_decoder *image_decoder_make(size_t frame_size)
{
	size_t head = ALIGN_UP(sizeof(struct image_decoder), (size_t)64),
	       workspace = ALIGN_UP(ZSTD_estimateDCtxSize(), (size_t)64),
	       size = head + workspace + (SLOTS + 1) * frame_size;
	uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct image_decoder *d = (struct image_decoder *)p;

	if (p == MAP_FAILED)
		return NULL;
	d->size = size;
	d->frame_size = frame_size;
	d->zstd = ZSTD_initStaticDCtx(p + head, workspace);
	d->stored = p + head + workspace;
	for (unsigned i = 0; i < SLOTS; i++)
		d->slots[i].data = d->stored + (i + 1) * frame_size;
	if (d->zstd)
		return d;
	image_decoder_free(d);
	return NULL;
}

void image_decoder_free(struct image_decoder *d)
{
	if (d)
		munmap(d, d->size);
}

int image_decode_block(
	struct image_decoder *d, enum image_codec codec, const void *from, size_t n, void *to, size_t len)
{
	size_t got;

	switch (codec) {
	case IMAGE_CODEC_NONE:
		if (n != len)
			return -EBADMSG;
		memcpy(to, from, len);
		return 0;
	case IMAGE_CODEC_LZ4:
		return LZ4_decompress_safe(from, to, (int)n, (int)len) == (int)len ? 0 : -EBADMSG;
	case IMAGE_CODEC_ZSTD:
		got = ZSTD_decompressDCtx(d->zstd, to, len, from, n);
		return !ZSTD_isError(got) && got == len ? 0 : -EBADMSG;
	}
	return -EBADMSG;
}

/* Frames of a store that has none are as large as those of the decoder. */
static size_t frame_size_of(const struct image_store *s, const struct image_decoder *d)
{
	return s->frame_size ? s->frame_size : d->frame_size;
}

static size_t frame_length(const struct image_store *s, size_t size, size_t frame)
{
	return MIN(s->data_size - frame * size, (uint64_t)size);
}

static int read_frame(
	const struct image_store *s, struct image_decoder *d, size_t frame, void *to, size_t len)
{
	const struct image_frame *f = s->frame_size ? &s->frames[frame] : NULL;
	int r;

	if (!f || f->codec == IMAGE_CODEC_NONE)
		return pread_exact(s->fd, to, len, f ? f->offset : frame * d->frame_size);
	r = pread_exact(s->fd, d->stored, f->length, f->offset);
	return r < 0 ? r : image_decode_block(d, f->codec, d->stored, f->length, to, len);
}

int image_store_at(const struct image_store *s, struct image_decoder *d, uint64_t offset, const uint8_t **ret,
	size_t *ret_len, size_t *ret_skip)
{
	size_t size = frame_size_of(s, d), frame = offset / size;
	unsigned i = 0;
	int r = 0;

	if (offset >= s->data_size || size > d->frame_size)
		return -EBADMSG;
	while (i < SLOTS && (d->slots[i].store != s || d->slots[i].frame != frame))
		i++;
	if (i == SLOTS) {
		i = d->next++ % SLOTS;
		d->slots[i].store = NULL;
		d->slots[i].len = frame_length(s, size, frame);
		r = read_frame(s, d, frame, d->slots[i].data, d->slots[i].len);
		if (r < 0)
			return r;
		d->slots[i].store = s;
		d->slots[i].frame = frame;
	}
	*ret = d->slots[i].data;
	*ret_len = d->slots[i].len;
	*ret_skip = offset % size;
	return 0;
}

int image_store_read(
	const struct image_store *s, struct image_decoder *d, uint64_t offset, void *buf, size_t len)
{
	uint8_t *to = buf;

	if (!s->frame_size)
		return pread_exact(s->fd, buf, len, offset);
	if (len > s->data_size || offset > s->data_size - len)
		return -EBADMSG;
	for (size_t n; len > 0; to += n, offset += n, len -= n) {
		size_t frame = offset / s->frame_size, skip = offset % s->frame_size,
		       whole = frame_length(s, s->frame_size, frame), have;
		const uint8_t *data;
		int r;

		n = MIN(len, whole - skip);
		/* A whole one, where it is to be. */
		r = n == whole ? read_frame(s, d, frame, to, n)
			       : image_store_at(s, d, offset, &data, &have, &skip);
		if (r < 0)
			return r;
		if (n < whole)
			memcpy(to, data + skip, n);
	}
	return 0;
}
