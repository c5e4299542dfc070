/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private pages that a batch cannot read by itself, as they are compressed: they are filled from outside. Each stub writes
 * down what it lacks, maps its memory, and waits; when all have come there the parent decodes every piece of page data once,
 * in threads, and writes it to all who want it. Then the stubs go on: what their memory forbids, and is advised of, comes later,
 * as if they had read the pages themselves.
 */
#include "checkpoint/native/restore-outside.h"

#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/crew.h"
#include "base/fault.h"

/* What one worker takes at a time: page data from a multiple of this on. */
#define BLOCK_BYTES (1ull << 20)

static bool has_outside(const struct restore *r, uint64_t space)
{
	const struct image_run *runs;
	size_t n;

	runs = image_runs(r->image, space, &n);
	for (size_t i = 0; i < n; i++)
		if (runs[i].kind == IMAGE_PAGES_DATA && restore_is_outside(r, runs[i].layer))
			return true;
	return false;
}

void restore_outside_plan(struct restore *r)
{
	/* What arrives by a stream stubs read themselves, as it comes. */
	if (image_feed_of(r->image))
		return;
	for (size_t i = 0; i < r->n_procs && !r->fills_outside; i++)
		r->fills_outside = r->procs[i]->state != 2 && has_outside(r, r->procs[i]->memory->space);
}

/* ---- in the parent ---- */

struct piece { /* within one block */
	uint64_t offset, address, len;
	unsigned layer;
	pid_t pid;
	size_t process;
};

struct fill {
	struct restore *r;
	struct piece *pieces;
	size_t n, allocated;
	size_t *blocks; /* the first piece of each */
	size_t n_blocks;
	struct image_decoder *decoders[CREW_HELPERS + 1];
};

static void fill_done(struct fill *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(f->decoders); i++)
		image_decoder_free(f->decoders[i]);
	free(f->pieces);
	free(f->blocks);
}

static int add_piece(struct fill *f, const struct piece *p)
{
	if (f->n == f->allocated) {
		size_t want = MAX(f->allocated * 2, (size_t)256);
		struct piece *more = reallocarray(f->pieces, want, sizeof(*more));

		if (!more)
			return -ENOMEM;
		f->pieces = more;
		f->allocated = want;
	}
	f->pieces[f->n++] = *p;
	return 0;
}

static int add_stretch(struct fill *f, size_t process, const struct restore_stretch *s)
{
	pid_t pid = f->r->outside[process].pid;

	for (uint64_t done = 0, n; done < s->len; done += n) {
		struct piece p = {.offset = s->offset + done,
			.address = s->address + done,
			.layer = s->layer,
			.pid = pid,
			.process = process};

		n = p.len = MIN(s->len - done, BLOCK_BYTES - p.offset % BLOCK_BYTES);
		if (add_piece(f, &p) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int compare_pieces(const void *va, const void *vb)
{
	const struct piece *a = va, *b = vb;

	if (a->layer != b->layer)
		return a->layer < b->layer ? -1 : 1;
	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	return a->process < b->process ? -1 : a->process > b->process;
}

static int collect(struct fill *f)
{
	const struct restore *r = f->r;

	for (size_t i = 0; i < r->n_procs; i++) {
		const struct restore_stretch *list = (const void *)r->outside[i].address;

		for (size_t k = 0; k < r->outside[i].n; k++)
			if (add_stretch(f, i, &list[k]) < 0)
				return -ENOMEM;
	}
	if (f->n)
		qsort(f->pieces, f->n, sizeof(*f->pieces), compare_pieces);
	f->blocks = calloc(f->n + 1, sizeof(*f->blocks));
	if (!f->blocks)
		return -ENOMEM;
	for (size_t i = 0; i < f->n; i++)
		if (i == 0 || f->pieces[i].layer != f->pieces[i - 1].layer ||
			f->pieces[i].offset / BLOCK_BYTES != f->pieces[i - 1].offset / BLOCK_BYTES)
			f->blocks[f->n_blocks++] = i;
	f->blocks[f->n_blocks] = f->n;
	return 0;
}

static int write_to(const struct fill *f, const struct piece *p, uint64_t address, const void *data,
	size_t len, struct error *e)
{
	while (len > 0) {
		struct iovec local = {(void *)data, len}, remote = {(void *)address, len};
		ssize_t n = process_vm_writev(p->pid, &local, 1, &remote, 1, 0);

		if (n <= 0)
			return error_errno(e, n < 0 ? -errno : -EFAULT,
				"write %zu bytes to %#llx of process %d", len, (unsigned long long)address,
				f->r->procs[p->process]->pid);
		data = (const char *)data + n;
		address += n;
		len -= n;
	}
	return 0;
}

static int fill_piece(struct fill *f, const struct piece *p, struct image_decoder *d, struct error *e)
{
	for (uint64_t done = 0; done < p->len;) {
		const void *data;
		size_t n = 0;
		int r = image_decode(f->r->image, d, p->layer, p->offset + done, &data, &n, e);

		if (r < 0)
			return r;
		n = MIN(p->len - done, (uint64_t)n);
		r = write_to(f, p, p->address + done, data, n, e);
		if (r < 0)
			return r;
		done += n;
		beat_go_on(&f->r->beat);
	}
	return 0;
}

static int fill_block(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct fill *f = arg;
	int r = 0;

	if (!f->decoders[worker])
		r = image_decoder_new(f->r->image, &f->decoders[worker], e);
	for (size_t i = f->blocks[item]; i < f->blocks[item + 1] && r == 0; i++)
		r = fill_piece(f, &f->pieces[i], f->decoders[worker], e);
	return r;
}

static int fill_all(struct fill *f, struct error *e)
{
	struct crew *crew = NULL;
	int r = crew_new(f->n_blocks > 4 ? CREW_HELPERS : 0, &crew, e);

	if (r < 0)
		return r;
	r = crew_start(crew, fill_block, f, f->n_blocks, e);
	if (r == 0)
		r = crew_finish(crew, e);
	crew_drop(crew);
	crew_free(crew);
	return r;
}

int restore_outside_fill(struct restore *r, struct error *e)
{
	_cleanup_(fill_done) struct fill f = {.r = r};
	int result = collect(&f);

	if (result < 0)
		return error_errno(e, result, "fill the memory");
	result = fill_all(&f, e);
	if (result == 0)
		result = fault_point("restore-filled", e);
	if (result == 0)
		restore_tell(&r->control->filled);
	return result;
}
