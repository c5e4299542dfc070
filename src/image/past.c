/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page data that an image's parents have: what each of them needs of its own, once. Also what the last one does not need any more,
 * or, being a pre-dump, has not looked at. Pages are numbered in the order of the images, the nearest first, and of their data, so that
 * 32 bits name one; nothing is kept of a page, only of each piece that lies together.
 */
#include <stdlib.h>

#include "image/opened-priv.h"

enum { PAGE = IMAGE_PAGE_SIZE };

struct extent {
	uint64_t number; /* of its first page */
	uint64_t offset, n_pages;
	unsigned layer; /* 0: the parent's */
};

struct image_past {
	const struct image *parent; /* borrowed */
	struct extent *extents;
	size_t n;
	uint64_t n_pages;
};

static int compare(const void *va, const void *vb)
{
	const struct extent *a = va, *b = vb;

	if (a->layer != b->layer)
		return a->layer < b->layer ? -1 : 1;
	return a->offset < b->offset ? -1 : a->offset > b->offset;
}

/* Several runs may have the same data. */
static void merge(struct image_past *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++) {
		const struct extent *x = &p->extents[i];
		struct extent *last = n ? &p->extents[n - 1] : NULL;
		uint64_t end = last ? last->offset + last->n_pages * PAGE : 0;

		if (last && last->layer == x->layer && x->offset <= end)
			last->n_pages = (MAX(end, x->offset + x->n_pages * PAGE) - last->offset) / PAGE;
		else
			p->extents[n++] = *x;
	}
	p->n = n;
	for (size_t i = 0; i < n; i++) {
		p->extents[i].number = p->n_pages;
		p->n_pages += p->extents[i].n_pages;
	}
}

static void collect(struct image_past *p, const struct image_index *x, unsigned layer)
{
	for (size_t i = 0; i < x->n_runs; i++)
		if (x->runs[i].kind == IMAGE_PAGES_DATA && x->runs[i].layer == 0)
			p->extents[p->n++] = (struct extent){
				.offset = x->runs[i].offset, .n_pages = x->runs[i].n_pages, .layer = layer};
}

int image_past_new(const struct image *parent, struct image_past **ret, struct error *e)
{
	struct image_past *p = calloc(1, sizeof(*p));
	unsigned layer = 0;
	size_t n = 0;

	for (const struct image *i = parent; i; i = i->parent)
		n += i->index.n_runs;
	if (p)
		p->extents = calloc(n + 1, sizeof(*p->extents));
	if (!p || !p->extents) {
		free(p);
		return error_errno(e, -ENOMEM, "pages of the parent image");
	}
	p->parent = parent;
	for (const struct image *i = parent; i; i = i->parent)
		collect(p, &i->index, layer++);
	if (p->n)
		qsort(p->extents, p->n, sizeof(*p->extents), compare);
	merge(p);
	*ret = p;
	return 0;
}

void image_past_free(struct image_past *p)
{
	if (!p)
		return;
	free(p->extents);
	free(p);
}

uint64_t image_past_pages(const struct image_past *p)
{
	return p->n_pages;
}

static const struct extent *extent_of(const struct image_past *p, uint64_t number)
{
	size_t low = 0, high = p->n - 1;

	while (low < high) {
		size_t middle = high - (high - low) / 2;

		if (p->extents[middle].number <= number)
			low = middle;
		else
			high = middle - 1;
	}
	return &p->extents[low];
}

void image_past_place(const struct image_past *p, uint64_t number, unsigned *ret_layer, uint64_t *ret_offset)
{
	const struct extent *x = extent_of(p, number);

	*ret_layer = x->layer + 1;
	*ret_offset = x->offset + (number - x->number) * PAGE;
}

/* Checked, as a restore would: what is damaged is of no use to anybody, and neither would be who refers to its neighbours. */
int image_past_read(const struct image_past *p, struct image_reader *reader, uint64_t number,
	uint64_t n_pages, uint8_t *to, struct error *e)
{
	const struct extent *x = extent_of(p, number);
	uint64_t at = (number - x->number) * PAGE, left = n_pages * PAGE;

	while (left > 0) {
		size_t len = MIN(left, x->n_pages * PAGE - at);
		const uint8_t *data = NULL;
		int r = image_reader_get(reader, x->layer, x->offset + at, &len, &data, e);

		if (r < 0)
			return error_prefix(e, "compare with the pages of parent %u", x->layer + 1);
		memcpy(to, data, len);
		to += len;
		left -= len;
		at += len;
		if (at == x->n_pages * PAGE) {
			x++;
			at = 0;
		}
	}
	return 0;
}
