/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page data of a stream, compressed in frames by several threads on its way out. Two windows take turns: one is filled, while
 * the helpers compress the other one and who fills is writing what they did before.
 *
 * Invariant: pieces leave in the order in which they came, and nothing of another file overtakes them (image_out_flush()).
 */
#include <stdlib.h>

#include "base/crew.h"
#include "image/image-priv.h"
#include "image/stream-priv.h"

enum { ITEMS = 16 };
_Static_assert((int)IMAGE_FRAME_SIZE <= (int)STREAM_PIECE_MAX, "a frame of a stream has one");

struct item {
	uint64_t at;
	size_t len; /* of "in" */
	size_t n;   /* of "out"; 0: it does not get shorter */
	uint8_t *in, *out;
};

struct window {
	struct item items[ITEMS];
	size_t n;
	uint8_t *memory;
};

struct image_compressor {
	struct image_packing how;
	image_compressed_fn *put;
	void *arg;
	struct crew *crew; /* NULL: nothing is being compressed */
	struct window windows[2];
	unsigned filling; /* which of them; the other one is being compressed, or empty */
	struct image_encoder *encoders[CREW_HELPERS + 1];
};

static int window_init(struct window *w)
{
	w->memory = malloc((size_t)2 * ITEMS * IMAGE_FRAME_SIZE);
	if (!w->memory)
		return -ENOMEM;
	for (size_t i = 0; i < ITEMS; i++) {
		w->items[i].in = w->memory + 2 * i * IMAGE_FRAME_SIZE;
		w->items[i].out = w->items[i].in + IMAGE_FRAME_SIZE;
	}
	return 0;
}

int image_compressor_new(const struct image_packing *how, image_compressed_fn *put, void *arg,
	struct image_compressor **ret, struct error *e)
{
	struct image_compressor *c = calloc(1, sizeof(*c));
	bool failed = !c || window_init(&c->windows[0]) < 0 || window_init(&c->windows[1]) < 0;

	for (size_t i = 0; !failed && i < ARRAY_SIZE(c->encoders); i++) {
		c->encoders[i] = image_encoder_new(how->codec, how->level);
		failed = !c->encoders[i];
	}
	if (failed) {
		image_compressor_free(c);
		return error_errno(e, -ENOMEM, "compress the image stream");
	}
	c->how = *how;
	c->put = put;
	c->arg = arg;
	*ret = c;
	return 0;
}

void image_compressor_free(struct image_compressor *c)
{
	if (!c)
		return;
	crew_free(c->crew);
	for (size_t i = 0; i < ARRAY_SIZE(c->encoders); i++)
		image_encoder_free(c->encoders[i]);
	free(c->windows[0].memory);
	free(c->windows[1].memory);
	free(c);
}

static int compress_item(void *arg, size_t i, unsigned worker, struct error *e)
{
	struct image_compressor *c = arg;
	struct item *item = &c->windows[!c->filling].items[i];

	(void)e;
	/* What gets hardly shorter stays as it is, which can be read faster. */
	item->n =
		image_encode(c->encoders[worker], item->out, item->len - item->len / 16, item->in, item->len);
	return 0;
}

static int put_window(struct image_compressor *c, struct window *w, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < w->n && r == 0; i++) {
		const struct item *item = &w->items[i];

		r = c->put(c->arg, item->n ? c->how.codec : IMAGE_CODEC_NONE, item->at, item->len,
			item->n ? item->out : item->in, item->n ? item->n : item->len, e);
	}
	w->n = 0;
	return r;
}

/* The full window is compressed from here on; what is ready leaves meanwhile. */
static int turn(struct image_compressor *c, struct error *e)
{
	struct window *ready = &c->windows[!c->filling], *full = &c->windows[c->filling];
	int r = c->crew ? crew_finish(c->crew, e) : crew_new(CREW_HELPERS, &c->crew, e);

	if (r < 0)
		return r;
	c->filling = !c->filling;
	r = crew_start(c->crew, compress_item, c, full->n, e);
	return r < 0 ? r : put_window(c, ready, e);
}

int image_compressor_add(
	struct image_compressor *c, uint64_t at, const uint8_t *data, size_t len, struct error *e)
{
	while (len > 0) {
		struct window *w = &c->windows[c->filling];
		struct item *item = w->n ? &w->items[w->n - 1] : NULL;
		size_t n;
		int r;

		if (!item || item->len == IMAGE_FRAME_SIZE || item->at + item->len != at) {
			if (w->n == ITEMS) {
				r = turn(c, e);
				if (r < 0)
					return r;
				continue;
			}
			item = &w->items[w->n++];
			item->at = at;
			item->len = 0;
		}
		n = MIN(len, IMAGE_FRAME_SIZE - item->len);
		memcpy(item->in + item->len, data, n);
		item->len += n;
		data += n;
		len -= n;
		at += n;
	}
	return 0;
}

int image_compressor_flush(struct image_compressor *c, struct error *e)
{
	int r = c->windows[c->filling].n ? turn(c, e) : 0;

	if (r == 0 && c->crew)
		r = crew_finish(c->crew, e);
	if (r == 0)
		r = put_window(c, &c->windows[!c->filling], e);
	/* Whoever enters a namespace must be alone. */
	crew_free(c->crew);
	c->crew = NULL;
	return r;
}
