/* SPDX-License-Identifier: Apache-2.0 */
/* An image that is open: what open.c, adopt.c, reader.c and verify.c share. */
#pragma once

#include "image/image-priv.h"

struct image_slot { /* one record */
	struct image_record raw;
	ProtobufCMessage *message; /* NULL: not unpacked yet */
};

struct image {
	struct arena arena;
	struct arena *memory; /* where what is read goes: mostly that */
	struct image_manifest manifest;
	struct image_files files;
	const char *records; /* checkpoint.img */
	struct image_slot *slots;
	size_t n_slots;
	struct image_index index;
	struct image_store store; /* page data */
	struct image_decoder *decoder;
	uint64_t unpacked;	 /* bytes */
	struct image *parent;	 /* layer 1; NULL: none */
	struct image_feed *feed; /* borrowed; NULL: all of it is there */
	bool adopted;		 /* by adopt.c: all that it points to is in the mappings of layer 0 */
	struct image_memory mappings[2];
};

const struct image *image_layer_of(const struct image *i, unsigned layer);
/* Of r at that offset of page data; -EBADMSG: it cannot be decompressed. */
int image_read_problem(int r, uint64_t offset, struct error *e);
/* Of page data, once the index is known. The decoder is here before anybody forks, and at the same place in all that are. */
int image_open_store(struct image *i, struct error *e) _must_check_;

/* source.c: page data of the image and its parents, in the order in which they were read. Takes the descriptors. */
int image_source_give(struct image_source *s, struct image *i, struct error *e) _must_check_;
/* How many layers it has read, and the size of their page data. */
unsigned image_source_layers(const struct image_source *s);
uint64_t image_source_pages_size(const struct image_source *s, unsigned layer);
bool image_source_is_stream(const struct image_source *s);
/* The files of a stream, by their numbers there (borrowed); feed: it is still arriving. */
int image_source_of_files(
	const int *fds, struct image_feed *feed, struct image_source **ret, struct error *e) _must_check_;
