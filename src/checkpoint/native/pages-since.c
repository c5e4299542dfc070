/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that have not been written since the parent image or the last round: named instead of copied. What relatives share
 * is still shared (ADR 23), which is for pages_copy() to find out; what the parent does not have after all is copied.
 */
#include "checkpoint/native/pages.h"

/* 1: the first *ret_n are named; 0: they are not in the parent. */
static int inherit(struct page_reader *pr, uint64_t at, size_t n, size_t *ret_n, struct error *e)
{
	return image_writer_inherit(pr->d->writer, pr->p->msg->memory->space, at, n, pr->since, ret_n, e);
}

/* Who else has them has been asked already. */
static int copy_after_all(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e)
{
	bool relative = pr->relative;
	int r;

	pr->relative = pr->unchanged = false;
	r = pages_copy(pr, start, end, e);
	pr->relative = relative;
	pr->unchanged = true;
	return r;
}

int pages_name(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e)
{
	for (uint64_t at = start; at < end;) {
		size_t n = 0;
		int r = inherit(pr, at, (end - at) / PAGE, &n, e);

		if (r == 0)
			r = copy_after_all(pr, at, at + n * PAGE, e);
		if (r < 0)
			return r;
		at += n * PAGE;
	}
	return 0;
}

int pages_unchanged(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e)
{
	int r;

	pr->unchanged = true;
	r = pages_copy(pr, start, end, e);
	pr->unchanged = false;
	return r;
}
