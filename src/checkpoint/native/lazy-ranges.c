/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of an address space, and what munmap(), madvise() and mremap() make of them. */
#include <string.h>

#include "checkpoint/native/lazy.h"

void lazy_ranges_done(struct lazy_ranges *r)
{
	free(r->v);
	*r = (struct lazy_ranges){};
}

size_t lazy_ranges_find(const struct lazy_ranges *r, uint64_t address)
{
	size_t lo = 0, hi = r->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (r->v[mid].end <= address)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int insert(struct lazy_ranges *r, size_t at, struct lazy_range range)
{
	if (r->n == r->max) {
		size_t max = MAX(r->max * 2, (size_t)16);
		struct lazy_range *v = reallocarray(r->v, max, sizeof(*v));

		if (!v)
			return -ENOMEM;
		r->v = v;
		r->max = max;
	}
	memmove(r->v + at + 1, r->v + at, (r->n - at) * sizeof(*r->v));
	r->v[at] = range;
	r->n++;
	return 0;
}

int lazy_ranges_cut(struct lazy_ranges *r, uint64_t start, uint64_t end)
{
	size_t first = lazy_ranges_find(r, start), last;

	if (first < r->n && r->v[first].start < start && r->v[first].end > end) {
		struct lazy_range behind = {
			end, r->v[first].end, r->v[first].address + (end - r->v[first].start)};

		r->v[first].end = start;
		return insert(r, first + 1, behind);
	}
	if (first < r->n && r->v[first].start < start)
		r->v[first++].end = start;
	for (last = first; last < r->n && r->v[last].end <= end; last++)
		;
	memmove(r->v + first, r->v + last, (r->n - last) * sizeof(*r->v));
	r->n -= last - first;
	if (first < r->n && r->v[first].start < end) {
		r->v[first].address += end - r->v[first].start;
		r->v[first].start = end;
	}
	return 0;
}

int lazy_ranges_add(struct lazy_ranges *r, struct lazy_range range)
{
	int result = lazy_ranges_cut(r, range.start, range.end);

	return result < 0 || range.start >= range.end ? result
						      : insert(r, lazy_ranges_find(r, range.start), range);
}

int lazy_ranges_move(struct lazy_ranges *r, uint64_t from, uint64_t to, uint64_t len)
{
	struct lazy_ranges moved = {};
	int result = 0;

	for (size_t i = lazy_ranges_find(r, from); i < r->n && r->v[i].start < from + len && result == 0;
		i++) {
		uint64_t start = MAX(r->v[i].start, from), end = MIN(r->v[i].end, from + len);

		result = insert(&moved, moved.n,
			(struct lazy_range){start - from + to, end - from + to,
				r->v[i].address + (start - r->v[i].start)});
	}
	if (result == 0)
		result = lazy_ranges_cut(r, from, from + len);
	if (result == 0)
		result = lazy_ranges_cut(r, to, to + len);
	for (size_t i = 0; i < moved.n && result == 0; i++)
		result = lazy_ranges_add(r, moved.v[i]);
	lazy_ranges_done(&moved);
	return result;
}
