/* SPDX-License-Identifier: Apache-2.0 */
/* An image in memory from a fuzzer's bytes, with right checksums, as an attacker would make it. */
#pragma once

#include "image/image-priv.h"

/* {u8 type, u8 flags, u16 length, payload}... becomes a checkpoint.img. */
static inline bool frame_records(struct image_buffer *b, const uint8_t *data, size_t size)
{
	struct image_digest d = {0};
	struct error e;

	if (image_records_begin(b, &e) < 0)
		return false;
	while (size >= 4) {
		size_t len = MIN((size_t)(data[2] | data[3] << 8), size - 4);
		uint8_t both[16], *p = image_buffer_room(b, IMAGE_RECORD_FRAME + len);

		if (!p)
			return false;
		put_le32(p, data[0]);
		put_le32(p + 4, data[1]);
		put_le64(p + 8, len);
		memcpy(p + 16, data + 4, len);
		put_le64(p + 16 + len, image_hash(p, 16 + len));
		put_le64(both, d.hash);
		memcpy(both + 8, p + 16 + len, 8);
		d.hash = image_hash(both, sizeof(both));
		d.count++;
		b->len += IMAGE_RECORD_FRAME + len;
		data += 4 + len;
		size -= 4 + len;
	}
	return image_records_end(b, &d, &e) == 0;
}

/* NULL: it is no image. There are zero pages in the address spaces 1 and 2, which 3 and 4 share, and no page data. */
static inline struct image *frame_image(const uint8_t *data, size_t size)
{
	_cleanup_(image_buffer_done) struct image_buffer b = {0}, index = {0};
	struct image_run runs[] = {{1, 4096, 3, 0, IMAGE_PAGES_ZERO, 0}, {2, 8192, 1, 0, IMAGE_PAGES_ZERO, 0},
		{3, 4096, 2, 1, IMAGE_PAGES_SHARED, 0}, {3, 12288, 1, 1, IMAGE_PAGES_SHARED, 0},
		{4, 8192, 1, 2, IMAGE_PAGES_SHARED, 0}};
	struct image_index x = {.runs = runs, .n_runs = ARRAY_SIZE(runs), .chunk_size = IMAGE_CHUNK_SIZE};
	struct image_manifest m = {
		.engine = "native",
		.stasis_version = "0",
		.container_id = "c",
		.container_name = "c",
		.container_count = 1,
		.architecture = "x86_64",
		.kernel = "6",
		.cpu_features = "",
		.created = "",
	};
	struct image *i = NULL;
	struct error e;

	if (!frame_records(&b, data, size) || image_index_build(&x, 0, &index, &e) < 0)
		return NULL;
	if (image_from_memory(&m, b.data, b.len, index.data, index.len, 0, &i, &e) < 0)
		return NULL;
	return i;
}
