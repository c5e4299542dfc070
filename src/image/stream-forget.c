/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Page data of a stream that nobody will want: copied by one round of a pre-copy, and copied again by a later one. Who keeps
 * what has come in memory need not keep that.
 */
#include <stdlib.h>

#include "image/image-priv.h"
#include "image/stream-priv.h"

struct ranges {
	struct image_range *v;
	size_t n;
};

static int compare_ranges(const void *va, const void *vb)
{
	const struct image_range *a = va, *b = vb;

	return a->start < b->start ? -1 : a->start > b->start;
}

/* Where the data of these runs is, ascending. */
static int data_of(const struct image_index *x, struct ranges *ret)
{
	ret->v = calloc(x->n_runs + 1, sizeof(*ret->v));
	if (!ret->v)
		return -ENOMEM;
	for (size_t i = 0; i < x->n_runs; i++) {
		const struct image_run *r = &x->runs[i];

		if (r->kind == IMAGE_PAGES_DATA)
			ret->v[ret->n++] =
				(struct image_range){r->offset, r->offset + r->n_pages * IMAGE_PAGE_SIZE};
	}
	qsort(ret->v, ret->n, sizeof(*ret->v), compare_ranges);
	return 0;
}

/* What of "was" is not in "is". At most as many as there are of both: each cut is one of "is". */
static void subtract(const struct ranges *was, const struct ranges *is, struct ranges *ret)
{
	uint64_t at = 0, end;
	size_t k = 0;

	for (size_t i = 0; i < was->n; i++) {
		at = MAX(at, was->v[i].start);
		end = was->v[i].end;

		while (k < is->n && is->v[k].end <= at)
			k++;
		for (size_t m = k; at < end; m++) {
			uint64_t until = m < is->n ? MIN(is->v[m].start, end) : end;

			if (until > at)
				ret->v[ret->n++] = (struct image_range){at, until};
			if (m == is->n || is->v[m].start >= end) {
				at = end;
				break;
			}
			at = MAX(at, is->v[m].end);
		}
	}
}

int image_forget_replaced(
	struct image_out *out, const struct image_index *was, const struct image_index *is, struct error *e)
{
	struct ranges old = {0}, now = {0}, gone = {0};
	int r = data_of(was, &old);

	if (r == 0)
		r = data_of(is, &now);
	if (r == 0) {
		gone.v = calloc(old.n + now.n + 1, sizeof(*gone.v));
		r = gone.v ? 0 : -ENOMEM;
	}
	if (r < 0)
		error_errno(e, r, "image stream");
	else
		subtract(&old, &now, &gone);
	if (r == 0)
		r = image_out_forget(out, gone.v, gone.n, e);
	free(old.v);
	free(now.v);
	free(gone.v);
	return r;
}
