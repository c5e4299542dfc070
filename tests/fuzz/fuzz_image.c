/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The readers of an image. The first byte of an input says which; every file has a form in which its checksums are put
 * right first, as an attacker would, so that the fuzzer gets behind them.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "frame.h"
#include "image.pb-c.h"
#include "image/inspect.h"
#include "image/sandbox.h"

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
	const uint64_t sizes[] = {x->data_size, 16 << 12};
	struct error e;

	if (image_index_resolve(x, &parent, 1, &e) < 0 || image_index_check_ancestors(x, sizes, 2, &e) < 0)
		return;
	for (size_t k = 0; k < x->n_runs; k++)
		if (x->runs[k].layer > 1 ||
			(x->runs[k].layer == 1 &&
				(x->runs[k].n_pages > 16 ||
					x->runs[k].offset > (16 - x->runs[k].n_pages) * 4096)) ||
			x->runs[k].kind == IMAGE_PAGES_PARENT ||
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

static void fuzz_sandbox(const uint8_t *data, size_t size)
{
	_cleanup_(image_sandbox_free_p) struct image_sandbox *s = NULL;
	_cleanup_free_ char *copy = malloc(size + 100);
	struct error e;

	if (!copy)
		return;
	memcpy(copy, data, size);
	size += snprintf(copy + size, 100, "\"checksum\": \"xxh3:%016llx\"\n}\n",
		(unsigned long long)image_hash(copy, size));
	if (image_sandbox_parse(copy, size, &s, &e) < 0)
		return;
	for (size_t i = 0; i < s->n_members; i++)
		if (image_sandbox_find(s, s->members[i].name) != &s->members[i] ||
			strchr(s->members[i].name, '/') || s->members[i].name[0] == '\0')
			abort();
}

/* {u8 codec, u24 length of what comes out, stored bytes} */
static void fuzz_frame(const uint8_t *data, size_t size)
{
	struct image_decoder *d;
	uint8_t *out;
	size_t len;

	if (size < 4)
		return;
	len = (data[1] | data[2] << 8 | data[3] << 16) % (256 << 10) + 1;
	d = image_decoder_make(4096);
	out = malloc(len);
	if (d && out && image_decode_block(d, data[0], data + 4, size - 4, out, len) < 0)
		memset(out, 0, len);
	image_decoder_free(d);
	free(out);
}

/* {u16 length of the index, index, pages.img}: all frames of the index, with its checksum put right. */
static void fuzz_frames(const uint8_t *data, size_t size)
{
	_cleanup_(image_index_done) struct image_index x = {0};
	_cleanup_close_ int fd = memfd_create("pages", MFD_CLOEXEC);
	_cleanup_free_ uint8_t *index = NULL, *out = malloc(200000);
	size_t len = size >= 2 ? (size_t)(data[0] | data[1] << 8) : 0, rest = size - len - 2;
	struct image_decoder *d = NULL;
	struct error e;

	if (len < 64 + 8 || len > size - 2 || fd < 0 || !out || pwrite_all(fd, data + 2 + len, rest, 0) < 0)
		return;
	index = malloc(len);
	memcpy(index, data + 2, len);
	put_le64(index + len - 8, image_hash(index, len - 8));
	if (image_index_parse(index, len, rest, &x, &e) < 0)
		return;
	struct image_store s = {fd, x.frame_size, x.data_size, x.frames, x.n_frames};
	d = x.frame_size ? image_decoder_make(x.frame_size) : NULL;
	for (uint64_t at = 0; d && at < x.data_size && at < (32 << 20); at += 150001) {
		size_t n = MIN(x.data_size - at, UINT64_C(200000)), have = 0, skip = 0;
		const uint8_t *p;

		if (image_store_read(&s, d, at, out, n) < 0)
			memset(out, 0, n);
		if (image_store_at(&s, d, at, &p, &have, &skip) == 0 && (skip >= have || have > x.frame_size))
			abort();
	}
	image_decoder_free(d);
}

static void fuzz_working_set(const uint8_t *data, size_t size)
{
	_cleanup_free_ uint8_t *copy = malloc(MAX(size, (size_t)1));
	struct image_touched *all = NULL;
	size_t n = 0;

	if (!copy)
		return;
	memcpy(copy, data, size);
	if (size >= 8)
		put_le64(copy + size - 8, image_hash(copy, size - 8));
	if (image_working_set_parse(copy, size, size >= 24 ? get_le64(copy + 16) : 0, &all, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (all[i].address + all[i].len < all[i].address)
			abort();
	free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	switch (data[0] % 16) {
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
	case 6:
		fuzz_frame(data + 1, size - 1);
		break;
	case 7:
		fuzz_frames(data + 1, size - 1);
		break;
	case 8:
		fuzz_working_set(data + 1, size - 1);
		break;
	case 9:
		fuzz_sandbox(data + 1, size - 1);
		break;
	}
	return 0;
}
