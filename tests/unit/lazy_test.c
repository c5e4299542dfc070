/* SPDX-License-Identifier: Apache-2.0 */
/* What is missing of a memory that is filled lazily, held against a plain array; and the file of its working set. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/native/lazy.h"
#include "image/image-priv.h"
#include "tap.h"

enum { SIZE = 512, ROUNDS = 20000 };

/* By address: 1 + where it comes from; 0: not missing. */
static uint64_t model[SIZE];
static uint64_t state = 88172645463325252u;

static uint64_t next(uint64_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % n;
}

static bool agrees(const struct lazy_ranges *r)
{
	uint64_t at = 0;

	for (size_t i = 0; i < r->n; i++) {
		if (r->v[i].start >= r->v[i].end || r->v[i].start < at || r->v[i].end > SIZE)
			return false;
		for (; at < r->v[i].start; at++)
			if (model[at])
				return false;
		for (; at < r->v[i].end; at++)
			if (model[at] != 1 + r->v[i].address + (at - r->v[i].start))
				return false;
	}
	for (; at < SIZE; at++)
		if (model[at])
			return false;
	return true;
}

static void change(struct lazy_ranges *r)
{
	uint64_t start = next(SIZE), len = 1 + next(SIZE - start), to = next(SIZE - len + 1),
		 from = next(1000);
	uint64_t moved[SIZE];

	switch (next(4)) {
	case 0:
		len = MIN(len, (uint64_t)40);
		CHECK(lazy_ranges_add(r, (struct lazy_range){start, start + len, from}) == 0);
		for (uint64_t i = 0; i < len; i++)
			model[start + i] = 1 + from + i;
		break;
	case 1:
		CHECK(lazy_ranges_move(r, start, to, len) == 0);
		memcpy(moved, model + start, len * sizeof(*model));
		memset(model + start, 0, len * sizeof(*model));
		memcpy(model + to, moved, len * sizeof(*model));
		break;
	default:
		len = 1 + next(len);
		CHECK(lazy_ranges_cut(r, start, start + len) == 0);
		memset(model + start, 0, len * sizeof(*model));
	}
}

static void ranges(void)
{
	struct lazy_ranges r = {};
	bool right = true;

	for (int i = 0; i < ROUNDS && right; i++) {
		uint64_t address = next(SIZE);
		size_t at;

		change(&r);
		right = agrees(&r);
		at = lazy_ranges_find(&r, address);
		CHECK((at < r.n && r.v[at].start <= address) == (model[address] != 0));
	}
	CHECK(right);
	lazy_ranges_done(&r);
	CHECK(r.n == 0 && !r.v);
}

/* The file as image_working_set_write() makes it. */
static size_t make_file(uint8_t *file, uint64_t of, size_t n)
{
	size_t len = 32 + 24 * n;

	memset(file, 0, len + 8);
	memcpy(file, "STASISWS", 8);
	put_le32(file + 8, 1);
	put_le64(file + 16, of);
	for (size_t i = 0; i < n; i++) {
		put_le64(file + 32 + 24 * i, 7);
		put_le64(file + 40 + 24 * i, 4096 * i);
		put_le64(file + 48 + 24 * i, 4096);
	}
	put_le64(file + len, image_hash(file, len));
	return len + 8;
}

static void working_set(void)
{
	uint8_t file[200];
	size_t len = make_file(file, 4711, 3), n = 0;
	struct image_touched *all = NULL;

	CHECK(image_working_set_parse(file, len, 4711, &all, &n) == 0 && n == 3);
	CHECK(all && all[2].space == 7 && all[2].address == 8192 && all[2].len == 4096);
	free(all);
	CHECK(image_working_set_parse(file, len, 4712, &all, &n) == -EBADMSG, "of another image");
	for (size_t cut = 0; cut < len; cut++)
		CHECK(image_working_set_parse(file, cut, 4711, &all, &n) == -EBADMSG, "cut off");
	for (size_t i = 0; i < len; i++) {
		file[i] ^= 1;
		CHECK(image_working_set_parse(file, len, 4711, &all, &n) == -EBADMSG, "byte %zu", i);
		file[i] ^= 1;
	}
	put_le64(file + 40, UINT64_MAX - 100);
	put_le64(file + len - 8, image_hash(file, len - 8));
	CHECK(image_working_set_parse(file, len, 4711, &all, &n) == -EBADMSG,
		"behind the end of all addresses");
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"ranges follow what is done to memory", ranges},
		{"a working set is read back, or not at all", working_set},
	};

	return tap_main(tests, ARRAY_SIZE(tests));
}
