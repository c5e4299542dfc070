/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/restore-share.h"

#include <string.h>
#include <sys/mman.h>

#include "base/fd.h"
#include "checkpoint/native/tree.h"

enum { PAGE = IMAGE_PAGE_SIZE };

static int no_memory(struct error *e)
{
	return error_errno(e, -ENOMEM, "plan the memory");
}

static bool lives(const St__Process *p)
{
	return p->state != 2;
}

/* ---- runs and mappings ---- */

static uint64_t end_of(const struct image_run *r)
{
	return r->address + r->n_pages * PAGE;
}

/* The first run that ends behind "address". */
static size_t first_run(const struct image_run *runs, size_t n, uint64_t address)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (end_of(&runs[mid]) <= address)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool restore_next_piece(
	const struct image *image, uint64_t space, uint64_t *at, uint64_t end, struct restore_piece *ret)
{
	const struct image_run *runs, *run;
	size_t n, i;

	runs = image_runs(image, space, &n);
	i = first_run(runs, n, *at);
	if (*at >= end || i == n || runs[i].address >= end)
		return false;
	run = &runs[i];
	*ret = (struct restore_piece){MAX(*at, run->address), MIN(end, end_of(run)), .space = space};
	if (run->kind == IMAGE_PAGES_SHARED) {
		/* the index has been checked: it is there, and not shared again */
		ret->space = run->offset;
		runs = image_runs(image, ret->space, &n);
		run = &runs[first_run(runs, n, ret->start)];
		ret->end = MIN(ret->end, end_of(run));
	}
	ret->zero = run->kind == IMAGE_PAGES_ZERO;
	ret->offset = ret->zero ? 0 : run->offset + (ret->start - run->address);
	ret->layer = run->layer;
	*at = ret->end;
	return true;
}

/* The mapping that holds the address; n_vmas: none. */
static size_t vma_at(const St__Memory *m, uint64_t address)
{
	size_t lo = 0, hi = m->n_vmas;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->vmas[mid]->end <= address)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < m->n_vmas && m->vmas[lo]->start <= address ? lo : m->n_vmas;
}

/* Could both be pieces of one mapping? */
static bool alike(const St__Vma *a, const St__Vma *b)
{
	return !a->special && !b->special && !a->shm && !b->shm && (a->flags & MAP_PRIVATE) &&
	       a->flags == b->flags && a->file == b->file &&
	       (!a->file || a->start - a->offset == b->start - b->offset);
}

/* ---- the plan ---- */

struct plan {
	struct restore *r;
	size_t *first_vma; /* of each process: a number for every mapping of all */
	size_t *group;	   /* of each mapping: another one of its group, or itself (union-find) */
	size_t *unit;	   /* of each group, by its representative: 1 + index of the unit, 0: none yet */
	size_t *by_space;  /* processes, sorted by the id of their address space */
	size_t n_by_space;
};

static size_t representative(struct plan *p, size_t i)
{
	while (p->group[i] != i)
		i = p->group[i] = p->group[p->group[i]];
	return i;
}

static int compare_spaces(const void *a, const void *b, void *arg)
{
	const struct restore *r = arg;
	uint64_t x = r->procs[*(const size_t *)a]->memory->space,
		 y = r->procs[*(const size_t *)b]->memory->space;

	return x < y ? -1 : x > y;
}

/* The process with that address space; n_procs: none. */
static size_t process_of(const struct plan *p, uint64_t space)
{
	size_t lo = 0, hi = p->n_by_space;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (p->r->procs[p->by_space[mid]]->memory->space < space)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->n_by_space && p->r->procs[p->by_space[lo]]->memory->space == space ? p->by_space[lo]
											  : p->r->n_procs;
}

static bool is_below(const struct tree_plan *t, size_t node, size_t above)
{
	while (node != above && t->nodes[node].parent != node)
		node = t->nodes[node].parent;
	return node == above;
}

/* A stretch of memory of process "proc" that is the same as that of process "owner", in one mapping of each. */
typedef int stretch_t(struct plan *p, size_t proc, size_t vma, size_t owner, size_t owner_vma, uint64_t start,
	uint64_t end);

static int in_run(struct plan *p, size_t proc, const struct image_run *run, stretch_t *f)
{
	const struct restore *r = p->r;
	size_t owner = process_of(p, run->offset);
	uint64_t at = run->address;
	int result = 0;

	while (owner < r->n_procs && at < end_of(run) && result == 0) {
		const St__Memory *m = r->procs[proc]->memory, *o = r->procs[owner]->memory;
		size_t v = vma_at(m, at), w = vma_at(o, at);
		uint64_t end;

		if (v == m->n_vmas || w == o->n_vmas)
			break; /* pages without a mapping: nobody wants them */
		end = MIN(end_of(run), MIN(m->vmas[v]->end, o->vmas[w]->end));
		if (alike(m->vmas[v], o->vmas[w]))
			result = f(p, proc, v, owner, w, at, end);
		at = end;
	}
	return result;
}

static int for_stretches(struct plan *p, stretch_t *f)
{
	int result = 0;

	for (size_t i = 0; i < p->r->n_procs; i++) {
		const struct image_run *runs;
		size_t n = 0;

		runs = lives(p->r->procs[i]) ? image_runs(p->r->image, p->r->procs[i]->memory->space, &n)
					     : NULL;
		for (size_t k = 0; k < n && result == 0; k++)
			if (runs[k].kind == IMAGE_PAGES_SHARED)
				result = in_run(p, i, &runs[k], f);
	}
	return result;
}

static int unite(
	struct plan *p, size_t proc, size_t vma, size_t owner, size_t owner_vma, uint64_t start, uint64_t end)
{
	size_t a = representative(p, p->first_vma[proc] + vma),
	       b = representative(p, p->first_vma[owner] + owner_vma);

	p->group[a] = b;
	return 0;
}

static int make_units(struct plan *p, size_t n_vmas)
{
	struct restore *r = p->r;
	size_t *sizes = arena_array(&r->arena, n_vmas, sizeof(*sizes));

	r->units = arena_array(&r->arena, n_vmas / 2 + 1, sizeof(*r->units));
	r->unit_of = arena_array(&r->arena, n_vmas, sizeof(*r->unit_of));
	if (!sizes || !r->units || !r->unit_of)
		return -ENOMEM;
	for (size_t i = 0; i < n_vmas; i++)
		sizes[representative(p, i)]++;
	for (size_t i = 0; i < r->n_procs; i++) {
		for (size_t k = 0; lives(r->procs[i]) && k < r->procs[i]->memory->n_vmas; k++) {
			const St__Vma *v = r->procs[i]->memory->vmas[k];
			size_t number = p->first_vma[i] + k, group = representative(p, number);
			struct restore_unit *u;

			if (sizes[group] < 2)
				continue;
			if (!p->unit[group]) {
				r->units[r->n_units] = (struct restore_unit){v->start, v->end, v, .root = i};
				p->unit[group] = ++r->n_units;
			}
			u = &r->units[p->unit[group] - 1];
			u->start = MIN(u->start, v->start);
			u->end = MAX(u->end, v->end);
			u->root = tree_common_ancestor(r->tree, u->root, i);
			r->unit_of[number] = p->unit[group];
		}
	}
	return 0;
}

static struct restore_layer *find_layer(struct restore *r, size_t unit, uint64_t space, size_t node)
{
	for (size_t i = r->n_layers; i-- > 0;)
		if (r->layers[i].unit == unit && r->layers[i].space == space)
			return &r->layers[i];
	if (r->n_layers == r->max_layers) {
		size_t want = MAX(r->max_layers * 2, (size_t)64);
		struct restore_layer *more = arena_array(&r->arena, want, sizeof(*more));

		if (!more)
			return NULL;
		if (r->n_layers)
			memcpy(more, r->layers, r->n_layers * sizeof(*more));
		r->layers = more;
		r->max_layers = want;
	}
	r->layers[r->n_layers] = (struct restore_layer){.unit = unit, .space = space, .node = node};
	return &r->layers[r->n_layers++];
}

static int add_range(struct arena *a, struct restore_layer *l, uint64_t start, uint64_t end)
{
	if (l->n && l->ranges[l->n - 1].end == start) {
		l->ranges[l->n - 1].end = end;
		return 0;
	}
	if (l->n == l->allocated) {
		size_t want = MAX(l->allocated * 2, (size_t)16);
		struct restore_range *more = arena_array(a, want, sizeof(*more));

		if (!more)
			return -ENOMEM;
		if (l->n)
			memcpy(more, l->ranges, l->n * sizeof(*more));
		l->ranges = more;
		l->allocated = want;
	}
	l->ranges[l->n++] = (struct restore_range){start, end};
	return 0;
}

static int add_to_layer(
	struct plan *p, size_t proc, size_t vma, size_t owner, size_t owner_vma, uint64_t start, uint64_t end)
{
	struct restore *r = p->r;
	const St__Memory *m = r->procs[owner]->memory;
	struct restore_layer *l = find_layer(r, r->unit_of[p->first_vma[proc] + vma] - 1, m->space, owner);
	struct restore_piece piece;
	int result = 0;

	if (!l)
		return -ENOMEM;
	l->node = tree_common_ancestor(r->tree, l->node, proc);
	/* Zeros of anonymous memory come by themselves. */
	while (result == 0 && restore_next_piece(r->image, m->space, &start, end, &piece))
		if (!piece.zero || m->vmas[owner_vma]->file)
			result = add_range(&r->arena, l, piece.start, piece.end);
	return result;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct restore_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void sort_ranges(struct restore_layer *l)
{
	size_t n = 0;

	if (l->n == 0)
		return;
	qsort(l->ranges, l->n, sizeof(*l->ranges), compare_ranges);
	for (size_t i = 1; i < l->n; i++) {
		if (l->ranges[i].start <= l->ranges[n].end)
			l->ranges[n].end = MAX(l->ranges[n].end, l->ranges[i].end);
		else
			l->ranges[++n] = l->ranges[i];
	}
	l->n = n + 1;
}

static int compare_layers(const void *a, const void *b)
{
	const struct restore_layer *x = a, *y = b;

	if (x->unit != y->unit)
		return x->unit < y->unit ? -1 : 1;
	if (x->depth != y->depth)
		return x->depth < y->depth ? -1 : 1;
	return x->space < y->space ? -1 : x->space > y->space;
}

static void sort_layers(struct restore *r)
{
	for (size_t i = 0; i < r->n_layers; i++) {
		sort_ranges(&r->layers[i]);
		r->layers[i].depth = tree_depth(r->tree, r->layers[i].node);
	}
	if (r->n_layers)
		qsort(r->layers, r->n_layers, sizeof(*r->layers), compare_layers);
	for (size_t i = r->n_layers; i-- > 0;) {
		r->units[r->layers[i].unit].first_layer = i;
		r->units[r->layers[i].unit].n_layers++;
	}
}

static bool anything_is_shared(const struct restore *r)
{
	for (size_t i = 0; i < r->n_procs; i++) {
		const struct image_run *runs;
		size_t n = 0;

		runs = lives(r->procs[i]) ? image_runs(r->image, r->procs[i]->memory->space, &n) : NULL;
		for (size_t k = 0; k < n; k++)
			if (runs[k].kind == IMAGE_PAGES_SHARED)
				return true;
	}
	return false;
}

int restore_share_plan(struct restore *r, struct error *e)
{
	struct plan p = {.r = r};
	size_t n_vmas = 0;

	if (!anything_is_shared(r))
		return 0;
	r->first_vma = p.first_vma = arena_array(&r->arena, r->n_procs, sizeof(*p.first_vma));
	p.by_space = arena_array(&r->arena, r->n_procs, sizeof(*p.by_space));
	if (!p.first_vma || !p.by_space)
		return no_memory(e);
	for (size_t i = 0; i < r->n_procs; i++) {
		p.first_vma[i] = n_vmas;
		if (!lives(r->procs[i]))
			continue;
		n_vmas += r->procs[i]->memory->n_vmas;
		p.by_space[p.n_by_space++] = i;
	}
	qsort_r(p.by_space, p.n_by_space, sizeof(*p.by_space), compare_spaces, r);
	p.group = arena_array(&r->arena, n_vmas, sizeof(*p.group));
	p.unit = arena_array(&r->arena, n_vmas, sizeof(*p.unit));
	if (!p.group || !p.unit)
		return no_memory(e);
	for (size_t i = 0; i < n_vmas; i++)
		p.group[i] = i;
	if (for_stretches(&p, unite) < 0 || make_units(&p, n_vmas) < 0 || for_stretches(&p, add_to_layer) < 0)
		return no_memory(e);
	sort_layers(r);
	return 0;
}

/* ---- in the stubs ---- */

/* Units of others, which nobody from here on has, are in the way of those that begin here. */
static void drop_strangers(struct restore *r, size_t node)
{
	for (size_t u = 0; u < r->n_units; u++) {
		bool wanted = false;

		for (size_t i = 0; i < r->n_procs && r->units[u].staged && !wanted; i++)
			for (size_t k = 0; lives(r->procs[i]) && k < r->procs[i]->memory->n_vmas && !wanted;
				k++)
				wanted = r->unit_of[r->first_vma[i] + k] == u + 1 &&
					 is_below(r->tree, i, node);
		if (!r->units[u].staged || wanted)
			continue;
		munmap((void *)r->units[u].start, r->units[u].end - r->units[u].start);
		r->units[u].staged = false;
	}
}

/* Nothing of ours may be there. If something is, every process gets a copy. */
static void map_unit(struct restore *r, struct restore_unit *u)
{
	const St__Vma *v = u->like;
	void *p = mmap((void *)u->start, u->end - u->start, PROT_READ | PROT_WRITE,
		v->flags | MAP_FIXED_NOREPLACE, v->file ? restore_fd(r, v->file) : -1,
		v->file ? v->offset - (v->start - u->start) : 0);

	u->staged = p == (void *)u->start;
	if (p != MAP_FAILED && !u->staged)
		munmap(p, u->end - u->start);
}

static int read_layer(struct restore *r, const struct restore_layer *l, struct error *e)
{
	for (size_t i = 0; i < l->n; i++) {
		struct restore_piece piece;
		uint64_t at = l->ranges[i].start;

		while (restore_next_piece(r->image, l->space, &at, l->ranges[i].end, &piece)) {
			void *to = (void *)piece.start;
			size_t len = piece.end - piece.start;
			int result = 0;

			if (piece.zero)
				memset(to, 0, len);
			else
				result = image_read_data(r->image, piece.layer, piece.offset, to, len, e);
			if (result < 0)
				return result;
		}
	}
	return 0;
}

int restore_share_stage(struct restore *r, size_t node, struct error *e)
{
	bool roots = false;

	for (size_t u = 0; u < r->n_units; u++)
		roots |= r->units[u].root == node;
	if (roots)
		drop_strangers(r, node);
	for (size_t u = 0; u < r->n_units; u++)
		if (r->units[u].root == node)
			map_unit(r, &r->units[u]);
	for (size_t i = 0; i < r->n_layers; i++) {
		if (r->layers[i].node == node && r->units[r->layers[i].unit].staged) {
			int result = read_layer(r, &r->layers[i], e);

			if (result < 0)
				return result;
		}
	}
	return 0;
}

/* ---- what each process has of it ---- */

bool restore_share_in_unit(const struct restore *r, size_t proc, size_t vma)
{
	return r->n_units > 0 && r->unit_of[r->first_vma[proc] + vma] > 0;
}

bool restore_share_is_kept(const struct restore *r, size_t proc, size_t vma)
{
	return restore_share_in_unit(r, proc, vma) &&
	       r->units[r->unit_of[r->first_vma[proc] + vma] - 1].staged;
}

/* Stretches that have been inherited, and whose they are. */
struct inherited {
	struct restore_piece *pieces; /* start, end, space */
	size_t n;
};

static int compare_pieces(const void *a, const void *b)
{
	const struct restore_piece *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Lays a layer over what there is. */
static int cover(struct restore *r, struct inherited *h, const struct restore_layer *l)
{
	struct restore_piece *out = arena_array(&r->arena, h->n + 2 * l->n, sizeof(*out));
	size_t n = 0, k = 0;

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < h->n; i++) {
		struct restore_piece old = h->pieces[i];

		while (k < l->n && l->ranges[k].end <= old.start)
			k++;
		for (size_t j = k; j < l->n && l->ranges[j].start < old.end; j++) {
			if (l->ranges[j].start > old.start) {
				out[n] = old;
				out[n++].end = l->ranges[j].start;
			}
			old.start = MIN(old.end, l->ranges[j].end);
		}
		if (old.start < old.end)
			out[n++] = old;
	}
	for (size_t i = 0; i < l->n; i++)
		out[n++] = (struct restore_piece){l->ranges[i].start, l->ranges[i].end, .space = l->space};
	qsort(out, n, sizeof(*out), compare_pieces);
	h->pieces = out;
	h->n = n;
	return 0;
}

/* What a process finds in a unit: layers of nodes above it and of its own, from the root down. */
static int find_inherited(struct restore *r, const struct restore_unit *u, size_t proc, struct inherited *ret)
{
	for (size_t i = u->first_layer; i < u->first_layer + u->n_layers; i++)
		if (is_below(r->tree, proc, r->layers[i].node) && cover(r, ret, &r->layers[i]) < 0)
			return -ENOMEM;
	return 0;
}

/* One stretch in which neither what is wanted (NULL: untouched memory) nor what is there (0: nothing) changes. */
static void fill_stretch(const St__Vma *v, uint64_t start, uint64_t end, const struct restore_piece *want,
	uint64_t there, restore_fill_t *fill, void *arg)
{
	bool of_zeros = want && want->zero && v->file;

	if (want && (!want->zero || of_zeros)) {
		if (there != want->space)
			fill(arg, of_zeros ? FILL_ZERO : FILL_READ, start, end, want->layer,
				of_zeros ? 0 : want->offset + (start - want->start));
	} else if (there) {
		fill(arg, FILL_FORGET, start, end, 0, 0);
	}
}

int restore_share_fill(struct restore *r, size_t proc, size_t vma, bool kept, restore_fill_t *fill, void *arg)
{
	const St__Memory *m = r->procs[proc]->memory;
	const St__Vma *v = m->vmas[vma];
	uint64_t at = v->start, cursor = at;
	struct inherited there = {};
	struct restore_piece want;
	bool more = restore_next_piece(r->image, m->space, &cursor, v->end, &want);
	size_t i = 0;

	if (kept && find_inherited(r, &r->units[r->unit_of[r->first_vma[proc] + vma] - 1], proc, &there) < 0)
		return -ENOMEM;
	while (at < v->end && (more || i < there.n)) {
		const struct restore_piece *has = NULL, *wants = NULL;
		uint64_t end = v->end;

		while (i < there.n && there.pieces[i].end <= at)
			i++;
		if (i < there.n) {
			has = there.pieces[i].start <= at ? &there.pieces[i] : NULL;
			end = MIN(end, has ? has->end : there.pieces[i].start);
		}
		if (more) {
			wants = want.start <= at ? &want : NULL;
			end = MIN(end, wants ? want.end : want.start);
		}
		fill_stretch(v, at, end, wants, has ? has->space : 0, fill, arg);
		at = end;
		if (more && want.end <= at)
			more = restore_next_piece(r->image, m->space, &cursor, v->end, &want);
	}
	return 0;
}
