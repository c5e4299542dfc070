/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that have not been written since an earlier image, or an earlier round of the same one: an index says of them only
 * which address space of the parent has them. Here such a run becomes what the parent has there.
 *
 * Invariants: the parent's index has been resolved itself, so all that it has is data, zeros, or shared with an address space
 * that has data or zeros; afterwards this holds for the child as well.
 */
#include <stdlib.h>

#include "image/image-priv.h"

/* More pieces than this for each run that there was would be an attack, not memory. */
enum { PIECES_PER_RUN = 64, PIECES_MIN = 65536 };

struct pieces {
	struct image_run *runs;
	size_t n, allocated, max;
};

static int add(struct pieces *p, const struct image_run *run, struct error *e)
{
	if (p->n && image_run_continues(&p->runs[p->n - 1], run)) {
		p->runs[p->n - 1].n_pages += run->n_pages;
		return 0;
	}
	if (p->n == p->max)
		return image_corrupt(e, IMAGE_INDEX, 0, "its pages lie in too many pieces in the parent");
	if (p->n == p->allocated) {
		size_t want = MAX(p->allocated * 2, (size_t)256), bytes;
		struct image_run *more = NULL;

		if (!size_overflows(want, sizeof(*more), 0, &bytes))
			more = realloc(p->runs, bytes);
		if (!more)
			return error_errno(e, -ENOMEM, IMAGE_INDEX);
		p->runs = more;
		p->allocated = want;
	}
	p->runs[p->n++] = *run;
	return 0;
}

/* The run of "space" in which the address lies; NULL: it has nothing there. */
static const struct image_run *run_at(const struct image_index *x, uint64_t space, uint64_t address)
{
	size_t i = image_index_find(x, space, address);

	return i < x->n_runs && x->runs[i].space == space && x->runs[i].address <= address ? &x->runs[i]
											   : NULL;
}

static int resolve(struct pieces *p, const struct image_run *run, const struct image_index *parent,
	unsigned deeper, struct error *e)
{
	uint64_t at = run->address, end = at + run->n_pages * IMAGE_PAGE_SIZE;

	while (at < end) {
		const struct image_run *of = run_at(parent, run->offset, at);
		struct image_run piece = {.space = run->space, .address = at};
		uint64_t until;
		int r;

		if (of && of->kind == IMAGE_PAGES_SHARED) {
			until = MIN(end, of->address + of->n_pages * IMAGE_PAGE_SIZE);
			of = run_at(parent, of->offset, at);
		} else {
			until = end;
		}
		if (!of || (of->kind != IMAGE_PAGES_DATA && of->kind != IMAGE_PAGES_ZERO))
			return image_corrupt(e, IMAGE_INDEX, 0,
				"address space %llu: the parent has no page 0x%llx",
				(unsigned long long)run->space, (unsigned long long)at);
		until = MIN(until, of->address + of->n_pages * IMAGE_PAGE_SIZE);
		piece.kind = of->kind;
		piece.n_pages = (until - at) / IMAGE_PAGE_SIZE;
		if (of->kind == IMAGE_PAGES_DATA) {
			piece.offset = of->offset + (at - of->address);
			piece.layer = of->layer + deeper;
		}
		r = add(p, &piece, e);
		if (r < 0)
			return r;
		at = until;
	}
	return 0;
}

static bool has_parent_runs(const struct image_index *x)
{
	for (size_t i = 0; i < x->n_runs; i++)
		if (x->runs[i].kind == IMAGE_PAGES_PARENT)
			return true;
	return false;
}

int image_index_resolve(
	struct image_index *x, const struct image_index *parent, unsigned deeper, struct error *e)
{
	struct pieces p = {.max = PIECES_MIN};
	size_t runs;
	int r = 0;

	if (!has_parent_runs(x))
		return 0;
	if (!size_overflows(x->n_runs + parent->n_runs, PIECES_PER_RUN, PIECES_MIN, &runs))
		p.max = runs;
	for (size_t i = 0; i < x->n_runs && r == 0; i++)
		r = x->runs[i].kind == IMAGE_PAGES_PARENT ? resolve(&p, &x->runs[i], parent, deeper, e)
							  : add(&p, &x->runs[i], e);
	if (r < 0) {
		free(p.runs);
		return r;
	}
	free(x->runs);
	x->runs = p.runs;
	x->n_runs = p.n;
	return 0;
}
