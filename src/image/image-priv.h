/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share. The parsers take memory buffers and nothing else, so that the fuzz targets
 * and the unit tests can call them; docs/formats/image.md is the description of every byte.
 */
#pragma once

#include <endian.h>
#include <string.h>

#include "image/image.h"

#define IMAGE_MANIFEST "manifest.json"
#define IMAGE_MANIFEST_TMP ".manifest.json.tmp"
#define IMAGE_CHECKPOINT "checkpoint.img"
#define IMAGE_INDEX "pages_meta.img"
#define IMAGE_PAGES "pages.img"
#define IMAGE_PAGES_RAW ".pages.img.raw" /* until they are packed */
/* All files that a writer makes, the manifest last; NULL at the end. */
extern const char *const image_names[];

enum {
	IMAGE_RECORD_END = 0,	      /* the last record: count and digest of all others */
	IMAGE_RECORD_HEADER = 16,     /* u32 type, u32 flags, u64 length */
	IMAGE_RECORD_FRAME = 24,      /* header and checksum around the payload */
	IMAGE_CHECKPOINT_HEADER = 16, /* magic, u32 version, u32 zero */
	IMAGE_INDEX_HEADER = 64,
	IMAGE_INDEX_ENTRY = 40,
	IMAGE_INDEX_FRAME = 16,
	IMAGE_FRAME_SIZE = 128 * 1024, /* as written */
	IMAGE_FRAME_MAX = 4 * 1024 * 1024,
	IMAGE_CHUNK_SIZE =
		64 * 1024, /* page data under one checksum, as written; a reader takes the header's */
	IMAGE_RECORD_MAX = 64 * 1024 * 1024, /* payload of one record */
	IMAGE_MANIFEST_MAX = 1024 * 1024,
};
#define IMAGE_FEATURE_PARENT "parent"
#define IMAGE_FEATURE_ANCESTORS "ancestor-data"
#define IMAGE_FEATURE_PRE_DUMP "pre-dump"
#define IMAGE_FEATURE_SOCKET_ERRORS "socket-errors"
#define IMAGE_FEATURE_COMPRESSED "compressed-pages"
#define IMAGE_FEATURE_PRESSURE "pressure-triggers"
#define IMAGE_FEATURE_MQ_NOTIFY "mq-notify"
#define IMAGE_FEATURE_AIO "aio-rings"
#define IMAGE_FEATURE_DNOTIFY "dnotify"
#define IMAGE_FEATURE_BACKLOGS "unix-backlogs"
#define IMAGE_FEATURE_LISTENERS "seccomp-listeners"
#define IMAGE_FEATURE_PERMISSIONS "register-permissions"
#define IMAGE_FEATURE_SHARED "shared-objects"
#define IMAGE_FEATURE_SHARED_PIDS "shared-pids"
#define IMAGE_FEATURE_SANDBOX "sandbox" /* sandbox.h */
enum {
	IMAGE_PARENT_MAX = 1024, /* length of a parent's path */
	IMAGE_CHAIN_MAX = 64,	 /* parents in a row */
};
#define IMAGE_FILE_MAX (UINT64_C(4) << 30) /* checkpoint.img and pages_meta.img, which are read into memory */
#define IMAGE_UNPACK_MAX (UINT64_C(2) << 30) /* all unpacked records of one image */

static inline uint32_t get_le32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}
static inline uint64_t get_le64(const void *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}
static inline void put_le32(void *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}
static inline void put_le64(void *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

uint64_t image_hash(const void *data, size_t len);

/* "FILE: offset N: ..." of kind ERROR_CORRUPT; returns -EBADMSG. */
int image_corrupt(struct error *e, const char *file, uint64_t offset, const char *format, ...) _printf_(4, 5);

/* A buffer that grows; the files other than pages.img are made in one and written with one write(2). */
struct image_buffer {
	uint8_t *data;
	size_t len, size;
};
void image_buffer_done(struct image_buffer *b);
/* Room for n more bytes at the end; NULL when out of memory. The caller then adds to "len". */
void *image_buffer_room(struct image_buffer *b, size_t n) _must_check_;

/* sandbox.c: the images of all containers below this directory. */
void image_sandbox_remove_all(int dirfd);

/* writer.c: -EEXIST if there is a file of an image already. */
int image_check_empty(int dirfd, struct error *e) _must_check_;

/* record.c */
struct image_record {
	uint32_t type, flags;
	const uint8_t *payload;
	size_t len;
};
struct image_digest { /* over the checksums of the records so far */
	uint64_t count, hash;
};
int image_records_begin(struct image_buffer *b, struct error *e) _must_check_;
int image_records_add(struct image_buffer *b, uint32_t type, uint32_t flags, const ProtobufCMessage *m,
	struct image_digest *d, struct error *e) _must_check_;
/* One of another image, as it is there. */
int image_records_copy(struct image_buffer *b, const struct image_record *of, struct image_digest *d,
	struct error *e) _must_check_;
int image_records_end(struct image_buffer *b, const struct image_digest *d, struct error *e) _must_check_;
/* Checks the framing of a whole file: header, every checksum, order, the end record. */
int image_records_check(const void *data, size_t len, struct image_digest *ret, struct error *e) _must_check_;
/* One step over a file that image_records_check() accepted. *pos is 0 at first. 1: *ret is set; 0: end. */
int image_records_next(const void *data, size_t len, size_t *pos, struct image_record *ret);
/* NULL: unknown type. */
const ProtobufCMessageDescriptor *image_record_descriptor(uint32_t type);

/* reader.c: an image whose files are in memory, without page data; for the tests. The manifest's strings are borrowed. */
int image_from_memory(const struct image_manifest *m, const void *records, size_t len, const void *index,
	size_t index_len, uint64_t pages_size, struct image **ret, struct error *e) _must_check_;

/* The records of an image, also those that we do not know. *pos starts at 0; 1: *ret is set, 0: end. */
int image_next_raw_record(const struct image *i, size_t *pos, struct image_record *ret);
/* Borrows the records of another image for this one. */
int image_writer_copy_record(
	struct image_writer *w, const struct image_record *of, struct error *e) _must_check_;
/* The page index of an image; borrowed. */
struct image_index;
const struct image_index *image_index_of(const struct image *i);
/* codec.c */
struct image_encoder;
struct image_encoder *image_encoder_new(enum image_codec codec, int level); /* NULL: out of memory */
void image_encoder_free(struct image_encoder *x);
/* 0: it does not fit into "room". */
size_t image_encode(struct image_encoder *x, void *to, size_t room, const void *from, size_t len);
/* One frame of pages.img. */
struct image_frame {
	uint64_t offset; /* of what is stored, */
	uint32_t length; /* and its length */
	uint32_t codec;
};
/* A file of page data. */
struct image_store {
	int fd;
	uint32_t
		frame_size; /* bytes of page data in one frame, but the last; 0: no frames, it is stored as it is */
	uint64_t data_size; /* bytes of page data */
	const struct image_frame *frames;
	size_t n_frames;
};
struct image_decoder *image_decoder_make(size_t frame_size); /* NULL: out of memory */
/* Exactly "len" bytes, or -EBADMSG. */
int image_decode_block(struct image_decoder *d, enum image_codec codec, const void *from, size_t n, void *to,
	size_t len) _must_check_;
/* The frame that has the byte at "offset", borrowed until the next call, and how much of it comes before that byte. Also of a
 * store that has none. -EBADMSG: it is damaged. */
int image_store_at(const struct image_store *s, struct image_decoder *d, uint64_t offset, const uint8_t **ret,
	size_t *ret_len, size_t *ret_skip) _must_check_;
int image_store_read(const struct image_store *s, struct image_decoder *d, uint64_t offset, void *buf,
	size_t len) _must_check_;

/* working-set.c: -EBADMSG: it is not one, or of another image than that with this checksum of its index. */
int image_working_set_parse(const void *data, size_t len, uint64_t index_checksum, struct image_touched **ret,
	size_t *ret_n) _must_check_;

/* reader.c: what the page index of one image has, and no other's. */
uint64_t image_index_checksum(const struct image *i);

/* index.c */
struct image_index {
	struct image_run *runs; /* from malloc */
	uint64_t *chunks;	/* checksums of page data, from malloc */
	size_t n_runs, n_chunks;
	uint64_t chunk_size, hash;
	struct image_frame *frames; /* from malloc; none: page data is stored as it is */
	size_t n_frames;
	uint32_t frame_size;
	uint64_t data_size;  /* bytes of page data: where the runs' offsets point */
	uint64_t n_repeated; /* pages of which the file says where in a parent's page data they are */
};
/* Whether data of it is in another image. */
bool image_index_has_ancestors(const struct image_index *x);
void image_index_done(struct image_index *x);
/* Is b the same run as a, going on? */
bool image_run_continues(const struct image_run *a, const struct image_run *b);
/* The first run of "space" that ends behind "address", or what comes behind it; n_runs if there is none. */
size_t image_index_find(const struct image_index *x, uint64_t space, uint64_t address);
int image_index_parse(const void *data, size_t len, uint64_t pages_size, struct image_index *ret,
	struct error *e) _must_check_;
/* Whether the data that is in parents is there: the sizes of theirs, behind that of x. */
int image_index_check_ancestors(const struct image_index *x, const uint64_t *data_size, unsigned n_layers,
	struct error *e) _must_check_;
/* Of one that was parsed and resolved elsewhere: whether it is as if it had been here. "data_size" of it and what is below. */
int image_index_check(const struct image_index *x, uint64_t pages_size, const uint64_t *data_size,
	unsigned n_layers, struct error *e) _must_check_;
/* Chain and rounds (chain.c): replaces runs of the kind parent by what "parent" has there. Data of it is "deeper" layers further
 * down. */
int image_index_resolve(struct image_index *x, const struct image_index *parent, unsigned deeper,
	struct error *e) _must_check_;
/* Sorts the runs, and merges those that continue one another. */
void image_index_sort(struct image_index *x);
/* Sorts and merges the runs, and appends the file's bytes to b. */
int image_index_build(
	struct image_index *x, uint64_t pages_size, struct image_buffer *b, struct error *e) _must_check_;

/* statistics.c */
enum {
	IMAGE_STATISTIC_DUMP = 1,     /* printed for a checkpoint */
	IMAGE_STATISTIC_RESTORE = 2,  /* printed for a restore */
	IMAGE_STATISTIC_MANIFEST = 4, /* known when manifest.json is written, and in it */
	IMAGE_STATISTIC_OPTIONAL = 8, /* images of older versions do not have it */
};
struct image_statistic {
	const char *name;
	size_t offset;
	unsigned in;
};
extern const struct image_statistic image_statistic_table[]; /* ends with a name of NULL */
uint64_t *image_statistic(const struct image_statistics *s, const struct image_statistic *of);

/* manifest.c: what manifest.json says of the other files */
struct image_file_info {
	uint64_t size, checksum; /* of pages.img: no checksum, the index has them */
};
struct image_files {
	struct image_file_info checkpoint, index, pages;
	bool compressed; /* the pages */
	bool ancestors;	 /* some are in the page data of parents, wherever these had them */
};
/* Is it relative, and no longer than such a path may be? */
bool image_parent_is_valid(const char *path);
/* Of a whole manifest: what its last line says. */
uint64_t image_manifest_checksum(const void *text, size_t len);
int image_manifest_build(const struct image_manifest *m, const struct image_files *f, struct image_buffer *b,
	struct error *e) _must_check_;
/* Strings are put into the arena. */
int image_manifest_parse(struct arena *a, const char *text, size_t len, struct image_manifest *ret,
	struct image_files *ret_files, struct error *e) _must_check_;

/* pages.c: the append side of pages.img */
struct image_pages;
int image_pages_new(int fd, struct image_pages **ret, struct error *e) _must_check_;
void image_pages_free(struct image_pages *p);
/* What is written goes there, in ascending order; reserving is not possible then. */
struct image_out;
void image_pages_to_stream(struct image_pages *p, struct image_out *out);
bool image_pages_is_stream(const struct image_pages *p);
/* The pages that come next in a plan: zero pages are left out, but keep their places. */
int image_pages_fill(struct image_pages *p, const struct image_run *planned, uint64_t address,
	const void *data, size_t n_pages, struct error *e) _must_check_;
/* A copy of the runs so far, with room for n_planned more, and the size of the data so far. */
int image_pages_copy_runs(const struct image_pages *p, size_t n_planned, struct image_index *ret,
	uint64_t *ret_size) _must_check_;
int image_pages_add(struct image_pages *p, uint64_t space, uint64_t address, const void *data, size_t n_pages,
	struct error *e) _must_check_;
int image_pages_share(struct image_pages *p, uint64_t space, uint64_t address, size_t n_pages, uint64_t of,
	struct error *e) _must_check_;
int image_pages_reserve(struct image_pages *p, uint64_t space, uint64_t address, size_t n_pages,
	uint64_t *ret_offset, struct error *e) _must_check_;
/* See image_writer_inherit(); x: what the parent or the previous round has. */
int image_pages_inherit(struct image_pages *p, const struct image_index *x, uint64_t space, uint64_t address,
	size_t n_pages, uint64_t of, size_t *ret_n, struct error *e) _must_check_;
/* Forgets all runs so far, but not the data that they are of. */
void image_pages_again(struct image_pages *p);
/* To a stream: all page data so far leaves. */
int image_pages_flush(struct image_pages *p, struct error *e) _must_check_;
/* Moves all runs so far into *before, where they replace those of the round before. */
int image_pages_round(struct image_pages *p, struct image_index *before, struct error *e) _must_check_;
/* Is it a request that makes sense? */
int image_pages_check(uint64_t space, uint64_t address, size_t n_pages, struct error *e) _must_check_;
bool image_page_is_zero(const uint8_t *page);
/* For stages, from several threads. Room in the file, from the beginning of a chunk on. */
int image_pages_extent(
	struct image_pages *p, size_t size, uint64_t *ret_offset, struct error *e) _must_check_;
/* What a stage has put or is about to put there: runs whose data is at their offset from "offset" on, and checksums of whole
 * chunks. */
int image_pages_enter(struct image_pages *p, const struct image_run *runs, size_t n_runs, uint64_t offset,
	const uint64_t *checksums, size_t n_checksums, struct error *e) _must_check_;
/* Room that was not used after all, whole chunks of it. */
void image_pages_leave(struct image_pages *p, uint64_t from, uint64_t to);
/* The data of runs (offsets from its beginning on) that fills no chunk. By one thread. */
int image_pages_append(struct image_pages *p, const struct image_run *runs, size_t n_runs, const void *data,
	size_t len, struct error *e) _must_check_;
/* Writes what is buffered and completes the checksums; *ret borrows from p. */
int image_pages_finish(
	struct image_pages *p, struct image_index **ret, uint64_t *ret_size, struct error *e) _must_check_;

/* Fills pages_data, pages_zero and bytes. */
void image_pages_count(const struct image_pages *p, struct image_statistics *s);

/* stage.c */
int image_stage_new(struct image_pages *p, int fd, struct image_stage **ret, struct error *e) _must_check_;
void image_stage_free(struct image_stage *s);
int image_stage_finish(struct image_stage *s, struct error *e) _must_check_;
/* pack.c: writes the page data of "from" to "to", as it was asked for, and makes the index say so. 0: it would not get smaller,
 * nothing was done; 1: done, from's contents are gone. "parent" NULL: there is none, or its pages are not asked for. */
int image_pack(const struct image_packing *how, const struct image *parent, struct image_index *x, int from,
	uint64_t from_size, int to, uint64_t *ret_size, struct error *e) _must_check_;

/* past.c: page data of a parent (borrowed) and its parents */
struct image_past;
int image_past_new(const struct image *parent, struct image_past **ret, struct error *e) _must_check_;
void image_past_free(struct image_past *p);
/* How many pages: their numbers are less. */
uint64_t image_past_pages(const struct image_past *p);
/* Where one of them is, as a run of the child says it. */
void image_past_place(const struct image_past *p, uint64_t number, unsigned *ret_layer, uint64_t *ret_offset);
/* "reader": of the parent. */
int image_past_read(const struct image_past *p, struct image_reader *reader, uint64_t number,
	uint64_t n_pages, uint8_t *to, struct error *e) _must_check_;

/* compat.c: files that callers of CRIU look for; appended to b. */
int image_compat_inventory(struct image_buffer *b) _must_check_;
int image_compat_stats(struct image_buffer *b, enum image_operation operation,
	const struct image_statistics *s) _must_check_;
int image_compat_descriptors(struct image_buffer *b, const char *const stdio[3]) _must_check_;
