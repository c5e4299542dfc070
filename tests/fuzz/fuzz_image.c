/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The readers of an image. The first byte of an input says which; every file has a form in which its checksums are put
 * right first, as an attacker would, so that the fuzzer gets behind them.
 */
#include <json-c/json.h>
#include <stdio.h>

#include "frame.h"
#include "image.pb-c.h"
#include "image/inspect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct image *i)
{
	const ProtobufCMessage *m;
	enum image_record_type type;
	struct error e;
	size_t pos = 0;
	uint8_t buf[100];

	for (int n = 0; n < 1000 && image_next_record(i, &pos, &type, &m, &e) == 1; n++)
		if (!protobuf_c_message_check(m))
			abort();
	if (image_read(i, 1, 4090, buf, sizeof(buf), &e) == 0 && buf[0] != 0)
		abort(); /* without page data there are holes only */
}

/* Any image that can be opened can be shown, as well-formed JSON and without control characters. */
static void show(struct image *i, enum image_inspect_format format)
{
	_cleanup_free_ char *text = NULL;
	struct json_object *o = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	struct error e;
	int r = image_inspect(i, format, out, &e);

	fclose(out);
	if (r < 0)
		return;
	for (size_t k = 0; k < size; k++)
		if (((unsigned char)text[k] < 0x20 && text[k] != '\n') || text[k] == 0x7f)
			abort();
	if (format == IMAGE_INSPECT_JSON) {
		o = json_tokener_parse(text);
		if (!o)
			abort();
		json_object_put(o);
	}
}

static void fuzz_records(const uint8_t *data, size_t size)
{
	struct image_digest d;
	struct error e;
	int r = image_records_check(data, size, &d, &e);

	if (r < 0 && (e.code != r || !e.message[0]))
		abort();
}

static void fuzz_framed_records(const uint8_t *data, size_t size)
{
	_cleanup_(image_free_p) struct image *i = frame_image(data, size);

	if (!i)
		return;
	walk(i);
	show(i, IMAGE_INSPECT_TEXT);
	show(i, IMAGE_INSPECT_JSON);
	show(i, IMAGE_INSPECT_HTML);
}

/* As a child of one that has something in the first spaces. */
static void fuzz_chain(struct image_index *x)
{
	struct image_run runs[] = {
		{.space = 1, .address = 0, .n_pages = 16, .kind = IMAGE_PAGES_DATA},
		{.space = 1, .address = 0x20000, .n_pages = 1 << 20, .kind = IMAGE_PAGES_ZERO},
		{.space = 2, .address = 0, .n_pages = 16, .offset = 1, .kind = IMAGE_PAGES_SHARED},
	};
	const struct image_index parent = {.runs = runs, .n_runs = ARRAY_SIZE(runs)};
	struct error e;

	if (image_index_resolve(x, &parent, 1, &e) < 0)
		return;
	for (size_t k = 0; k < x->n_runs; k++)
		if (x->runs[k].kind == IMAGE_PAGES_PARENT ||
			(k && x->runs[k].space == x->runs[k - 1].space &&
				x->runs[k].address < x->runs[k - 1].address))
			abort();
}

static void fuzz_index(const uint8_t *data, size_t size, bool repair)
{
	_cleanup_(image_index_done) struct image_index x = {0};
	_cleanup_free_ uint8_t *copy = malloc(MAX(size, (size_t)1));
	uint64_t pages_size = size >= 48 ? get_le64(data + 40) : 0;
	struct error e;

	if (!copy)
		return;
	memcpy(copy, data, size);
	if (repair && size >= 8)
		put_le64(copy + size - 8, image_hash(copy, size - 8));
	if (image_index_parse(copy, size, pages_size, &x, &e) < 0)
		return;
	for (size_t k = 1; k < x.n_runs; k++)
		if (x.runs[k].space < x.runs[k - 1].space)
			abort();
	fuzz_chain(&x);
}

static void fuzz_manifest(const uint8_t *data, size_t size, bool repair)
{
	_cleanup_(arena_done) struct arena a = {0};
	_cleanup_free_ char *copy = malloc(size + 100);
	struct image_manifest m;
	struct image_files f;
	struct error e;

	if (!copy)
		return;
	memcpy(copy, data, size);
	if (repair)
		size += snprintf(copy + size, 100, "\"checksum\": \"xxh3:%016llx\"\n}\n",
			(unsigned long long)image_hash(copy, size));
	if (image_manifest_parse(&a, copy, size, &m, &f, &e) == 0 &&
		(!m.container_name || m.page_size != IMAGE_PAGE_SIZE))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	switch (data[0] % 6) {
	case 0:
		fuzz_records(data + 1, size - 1);
		break;
	case 1:
		fuzz_framed_records(data + 1, size - 1);
		break;
	case 2:
		fuzz_index(data + 1, size - 1, false);
		break;
	case 3:
		fuzz_index(data + 1, size - 1, true);
		break;
	case 4:
		fuzz_manifest(data + 1, size - 1, false);
		break;
	case 5:
		fuzz_manifest(data + 1, size - 1, true);
		break;
	}
	return 0;
}
