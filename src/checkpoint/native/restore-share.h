/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that relatives share until one of them writes (docs/adr/0023-inherited-pages.md). What several processes have of one
 * another is a unit: mappings of theirs that overlap. The stub of their common ancestor maps it at its final address and
 * reads the shared pages before it forks, so that they are inherited, as they had been; each process then keeps what
 * is its own and reads the rest. Where that is not possible every process gets a copy.
 */
#pragma once

#include "checkpoint/native/restore.h"

struct restore_range {
	uint64_t start, end;
};

struct restore_unit {
	uint64_t start, end;
	const St__Vma *like; /* one of the mappings: all are alike */
	size_t root;	     /* tree node that maps it */
	size_t first_layer, n_layers;
	bool staged; /* in this stub: it is there */
};

/* Pages of one address space that the stub of a node reads into a unit. Those of a deeper node hide those above. */
struct restore_layer {
	size_t unit, node, depth; /* of the node in the tree */
	uint64_t space;
	struct restore_range *ranges; /* sorted, disjoint */
	size_t n, allocated;
};

/* Where the contents of a stretch of memory are: not shared any more. */
struct restore_piece {
	uint64_t start, end;
	uint64_t space;	 /* whose they are */
	uint64_t offset; /* in the page data of that layer of the image */
	unsigned layer;
	bool zero;
};

/* The next piece from *at on; false: there is none before "end". */
bool restore_next_piece(
	const struct image *image, uint64_t space, uint64_t *at, uint64_t end, struct restore_piece *ret);

/* What has to be done for a stretch of a mapping. */
enum restore_fill { FILL_READ, FILL_ZERO, FILL_FORGET };
/* "layer" and "offset": of what is to be read. */
typedef void restore_fill_t(
	void *arg, enum restore_fill what, uint64_t start, uint64_t end, unsigned layer, uint64_t offset);

/* In the parent, once the tree is planned. */
int restore_share_plan(struct restore *r, struct error *e) _must_check_;
/* In the stub of a node, before it forks children. */
int restore_share_stage(struct restore *r, size_t node, struct error *e) _must_check_;
/* Whether mapping "vma" of a process is in a unit; and, in its stub, has been inherited. */
bool restore_share_in_unit(const struct restore *r, size_t proc, size_t vma);
bool restore_share_is_kept(const struct restore *r, size_t proc, size_t vma);
/* What is left to be done for the contents of a mapping, "kept" or new. */
int restore_share_fill(
	struct restore *r, size_t proc, size_t vma, bool kept, restore_fill_t *fill, void *arg) _must_check_;
