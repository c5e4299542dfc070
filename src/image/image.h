/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checkpoint image: a directory with manifest.json, checkpoint.img, pages_meta.img and pages.img (docs/formats/).
 * Pure: buffers and fds in and out, no privilege, no /proc. Everything read is taken for hostile.
 *
 * Address spaces. Whatever has pages (a process's memory, a shared memory object, the contents of a deleted file, a
 * tmpfs file) has an id (> 0) that is unique in the image; its pages are looked up by (id, page address). For files
 * the address is the offset. Page runs of one address space are sorted and do not overlap.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/arena.h"
#include "base/error.h"

enum { IMAGE_FORMAT_VERSION = 1, IMAGE_PAGE_SIZE = 4096 };

/* Record types of checkpoint.img; the payload is the message of proto/image.proto named beside it. */
enum image_record_type {
	IMAGE_RECORD_CONTAINER = 1, /* Container: one, the first record */
	IMAGE_RECORD_FILE = 2,	    /* File: one open file description or mapped file */
	IMAGE_RECORD_SHM = 3,	    /* SharedMemory */
	IMAGE_RECORD_PROCESS = 4,   /* Process, parents before children */
	IMAGE_RECORD_PROCESS_2 =
		70, /* Process, too: one that shares the memory of another, which older readers do not know */
	IMAGE_RECORD_PROCESS_3 = 71, /* likewise: a 32-bit program */
	IMAGE_RECORD_TMPFS = 5,	     /* Tmpfs: one mount */
	IMAGE_RECORD_NETWORK = 60,   /* Network: at most one, of the container's own network namespace */
	IMAGE_RECORD_NETWORK_2 = 68, /* Network, too: instead of that, with what older readers do not know */
	IMAGE_RECORD_NETWORK_3 = 86, /* likewise */
	IMAGE_RECORD_PACKET_TABLE = 67, /* PacketTable: one of nftables, in that network namespace */
	IMAGE_RECORD_IPC = 30,		/* Ipc: one object of the ipc namespace, or its sysctls */
	IMAGE_RECORD_IPC_2 = 87, /* likewise: of an ipc namespace that processes of the container have made */
	IMAGE_RECORD_SHM_2 = 88, /* SharedMemory: a System V segment of such a one */
	IMAGE_RECORD_MOUNT = 50, /* Mount: all of them or none */
	IMAGE_RECORD_CGROUP = 51,      /* Cgroup: a sub-cgroup, parents before children */
	IMAGE_RECORD_NAMESPACE = 40,   /* Namespace: owners and parents before what is theirs */
	IMAGE_RECORD_NAMESPACE_2 = 85, /* Namespace, too: with what older readers do not know */
	IMAGE_RECORD_NAMESPACE_3 = 99, /* likewise: a cgroup namespace with another root than init's cgroup */
};
enum { IMAGE_RECORD_CRITICAL = 1 }; /* flag: a reader that does not know the type must refuse */

/* What manifest.json says; filled by the caller before image_writer_commit(), by the reader after image_open(). */
struct image_manifest {
	int format_version;
	const char *engine; /* "native" */
	const char *stasis_version;
	const char *container_id, *container_name;
	unsigned container_count; /* 1 */
	const char *architecture; /* "x86_64" */
	const char *kernel;	  /* uname -r */
	uint64_t xfeatures;	  /* XCR0: xsave components in the register records */
	/* Separated by spaces: flags that the CPU had (CPUID-derived names); where its xsave components lie in the register records
	 * ("NUMBER:OFFSET:SIZE"; NULL in images of older versions). */
	const char *cpu_features, *cpu_layout;
	unsigned page_size;
	const char *created; /* RFC 3339 */
	uint64_t generation;
	uint64_t attempts,
		failed_attempts; /* checkpoints, this one with them; 0 in images of older versions */
	/* The image that has the pages of which this one says that they have not been written since: its directory, relative to
	 * this one's, and the checksum of its manifest. NULL: none. */
	const char *parent;
	uint64_t parent_checksum;
	bool socket_errors;	/* there are sockets in which an error waits; */
	bool pressure_triggers; /* and triggers for pressure; */
	bool aio_rings;		/* and rings of Linux AIO */
	bool dnotify;		/* and directories that are watched by F_NOTIFY */
	bool unix_backlogs; /* and clients of unix sockets who have sent before they were accepted, or are gone */
	bool register_permissions; /* and processes that may use AMX */
	bool mq_notify;		   /* and processes that mq_notify(3) is to tell */
	bool listeners;		   /* and seccomp filters with a listener */
	bool shared;		   /* it has objects that other containers of its sandbox have, too */
	bool shared_pids;	   /* and its pid namespace; not read back */
	bool pre_dump;		   /* it has memory only, and is there to be a parent */
	uint64_t checksum;	   /* of this manifest; by the reader */
	const char *stdio[3];	   /* what fds 0-2 of init are, for descriptors.json; not read back */
	/* Microseconds and counts of one operation. */
	struct image_statistics {
		uint64_t total_us, frozen_us, preflight_us, freeze_us, collect_us, files_us, memory_us,
			image_us, commit_us, end_us; /* of a checkpoint, the phases in their order */
		uint64_t pack_us;		     /* of commit_us: compression, duplicates */
		uint64_t open_us, create_us,
			resume_us; /* of a restore, which also has total_us and memory_us */
		uint64_t processes, threads, files, pages_data, pages_zero, pages_shared, pages_parent, bytes;
		uint64_t pages_repeated; /* given as data, but a parent has the same */
		uint64_t pages_late;	 /* that were copied while the container ran on */
	} statistics;
};

/* How page data may be stored. The numbers are those of the index. */
enum image_codec { IMAGE_CODEC_NONE = 0, IMAGE_CODEC_LZ4 = 1, IMAGE_CODEC_ZSTD = 2 };
const char *image_codec_name(enum image_codec codec);
/* "none", "lz4", "zstd" or "zstd:LEVEL". -EINVAL: another word; -ERANGE: no such level. */
int image_codec_parse(const char *text, enum image_codec *ret, int *ret_level) _must_check_;

/* What is done to page data by image_writer_commit(), by several threads. */
struct image_packing {
	enum image_codec codec;
	int level;
	bool dedup;    /* pages with the same contents are stored once, */
	bool repeated; /* and those that a parent has somewhere not at all; with dedup only */
	/* Asked now and then, by any of the threads: negative: it is to be given up. NULL: nobody is asked. */
	int (*go_on)(void *arg, struct error *e);
	void *arg;
};

struct image_writer;
/* Makes the files in dirfd (borrowed until the writer is freed; O_EXCL, 0600). -EEXIST with ERROR_STATE when the
 * directory has one of an image's files already; others (logs) don't matter. */
int image_writer_new(int dirfd, struct image_writer **ret, struct error *e) _must_check_;
/* Appends one record; the first one is the Container. */
int image_writer_record(struct image_writer *w, enum image_record_type type, const ProtobufCMessage *m,
	struct error *e) _must_check_;
/* Appends page data: n_pages at "address" of address space "space". The order of calls doesn't matter, the index is
 * sorted at commit; pages that are given twice are an ERROR_INTERNAL there. All-zero pages are detected and stored as
 * kind zero (no data). The data is hashed here and may be reused when this returns. */
int image_writer_pages(struct image_writer *w, uint64_t space, uint64_t address, const void *data,
	size_t n_pages, struct error *e) _must_check_;
/* The same for much of it, from several threads: each has a stage of its own, which belongs to the writer. The data is put where
 * image_stage_room() says (for at most "wanted" pages, at least one, which *ret_n tells), then entered by image_stage_add():
 * so it is not copied again on its way into the file. */
struct image_stage;
int image_writer_stage(struct image_writer *w, struct image_stage **ret, struct error *e) _must_check_;
void *image_stage_room(struct image_stage *s, uint64_t wanted, size_t *ret_n);
int image_stage_add(struct image_stage *s, uint64_t space, uint64_t address, size_t n_pages,
	struct error *e) _must_check_;
/* What the stages still hold goes into the file; no other thread may use one meanwhile. Commit does it, too. */
int image_writer_flush(struct image_writer *w, struct error *e) _must_check_;
/* Notes that pages are the same as those of address space "of" at the same address, which are (or will be) given as
 * data. From any thread. */
int image_writer_shared(struct image_writer *w, uint64_t space, uint64_t address, size_t n_pages, uint64_t of,
	struct error *e) _must_check_;
/* Reserves room for n_pages (uninterrupted, 4 KiB aligned, the file already extended) and enters them in the index as
 * data; the caller (or a task of the container) writes them at *ret_offset of image_writer_pages_fd() itself, before
 * commit. Their checksums are computed by commit, which reads them back from the page cache: about 0.1 ms per MiB
 * that is then not spent in the freeze. */
int image_writer_reserve(struct image_writer *w, uint64_t space, uint64_t address, size_t n_pages,
	uint64_t *ret_offset, struct error *e) _must_check_;
int image_writer_pages_fd(const struct image_writer *w);
/* Pages that have not been written since they were given to another image (borrowed until commit), which lies in "path" relative
 * to this one, as image_open() has it. Without a page that it has in fact, the image will have no parent. */
struct image;
int image_writer_set_parent(
	struct image_writer *w, const struct image *parent, const char *path, struct error *e) _must_check_;
/* Or since the previous round: all pages given so far become that, and the index begins anew. */
int image_writer_round(struct image_writer *w, struct error *e) _must_check_;
/* Of a stream: what was given since the last round is forgotten, records and plan as well; what has left is in it, and of no use. */
void image_writer_again(struct image_writer *w);
/* 1: the first *ret_n of these pages are those of address space "of" in the parent or the previous round, at the same address.
 * 0: of the first *ret_n it has nothing. From any thread. */
int image_writer_inherit(struct image_writer *w, uint64_t space, uint64_t address, size_t n_pages,
	uint64_t of, size_t *ret_n, struct error *e) _must_check_;
/* Page data is written as it comes, and packed by commit; before the first page is written. If none of it gets smaller it
 * stays as it is. */
int image_writer_pack(struct image_writer *w, const struct image_packing *p, struct error *e) _must_check_;
/* Pages and bytes so far (of stages, what has been flushed), into the fields pages_* and bytes of *s. */
void image_writer_count(const struct image_writer *w, struct image_statistics *s);
/* Writes index, checksums, the files for CRIU's callers and the manifest (last, renamed into place). Nothing is
 * fsynced: the image is as durable as the directory it is in. pages_* and bytes of the statistics are
 * the writer's own count, whatever m says. */
int image_writer_commit(struct image_writer *w, const struct image_manifest *m, struct error *e) _must_check_;
/* After that: the checksum of its manifest, by which it is known. */
uint64_t image_writer_checksum(const struct image_writer *w);
/* Writes stats-dump (again: it is in the image, too) or stats-restore into another directory: CRIU's callers look for
 * them where the logs are. */
enum image_operation { IMAGE_DUMP, IMAGE_RESTORE };
/* Of operations side by side: the longest time, and the sum of all numbers. */
void image_statistics_join(struct image_statistics *sum, const struct image_statistics *one);
/* What there is of one as a line of JSON (docs/formats/image.md names the members). */
void image_statistics_print(const struct image_statistics *s, enum image_operation operation, FILE *out);
int image_write_stats(int dirfd, enum image_operation operation, const struct image_statistics *s,
	struct error *e) _must_check_;
/* Whether a file in an image's directory is part of it. */
bool image_owns(const char *name);
/* Removes an image's files, finished or not, and nothing else: for whoever outlives a writer that was killed. */
void image_remove(int dirfd);
/* An older image in the directory where a new one will be made: 1: it was moved out of the way, 0: there was none (what is
 * left of an unfinished one is removed). Then either it is put back, or dropped; both do nothing if there is none. */
int image_set_aside(int dirfd, struct error *e) _must_check_;
void image_put_back(int dirfd);
void image_drop_aside(int dirfd);
/* One of the two, for a checkpoint whose processes were all killed. Nobody else may be writing there. */
void image_recover(int dirfd);
bool image_is_aside(int dirfd);
/* Is "other" this directory, or the one in which the older image waits? */
bool image_would_replace(int dirfd, int other);
/* Frees; without a commit all files that were made are removed. */
void image_writer_free(struct image_writer *w);

/* pages_meta.img, one entry. Shared pages are the very same as those of another address space at the same address, as
 * fork() leaves them: that one has them as data or zeros. */
struct image_run {
	uint64_t space, address, n_pages;
	uint64_t
		offset; /* data: into pages.img; shared: the other address space; parent: its address space there; else 0 */
	enum {
		IMAGE_PAGES_DATA = 0,
		IMAGE_PAGES_ZERO = 1,
		IMAGE_PAGES_PARENT = 2,
		IMAGE_PAGES_SHARED = 3
	} kind;
	unsigned layer; /* data: which image of the chain of parents has it; 0: this one */
};

/* Opens and checks manifest, sizes, record and index checksums (page data is checked by image_verify_pages(), and by
 * restore while it reads when "verify" is asked for), also of its parents: runs of the kind parent become what they are there.
 * Errors: -ENOENT no manifest ("incomplete image"), ERROR_CORRUPT naming file and offset, ERROR_REFUSED for another version
 * or architecture, ERROR_STATE for a parent that is not there or another than it was. */
int image_open(int dirfd, struct image **ret, struct error *e) _must_check_;
/* It, or confined_image_open() of checkpoint/confine.h. */
typedef int image_open_fn(int dirfd, struct image **ret, struct error *e);
void image_free(struct image *i);

/*
 * The same by two processes (checkpoint/confine.h): one opens the files, the other one, which may do nothing else, reads what is
 * in them, and the first one takes the result over.
 */
struct image_content {
	const void *data; /* NULL: "problem", or there is too much of it */
	uint64_t size;
	int problem; /* 0, a negative errno, or */
};
enum { IMAGE_CONTENT_IRREGULAR = 1 };
struct image_layer {
	struct image_content manifest, checkpoint, index, pages; /* of the pages only the size */
	bool stream;
};
/* An image's directory; borrowed. */
struct image_source;
int image_source_new(int dirfd, struct image_source **ret, struct error *e) _must_check_;
void image_source_free(struct image_source *s);
/* The files of the image itself (parent NULL), then of the parent of what was read last. What is wrong with a file is in *ret. */
int image_source_next(struct image_source *s, const char *parent, struct arena *memory,
	struct image_layer *ret, struct error *e) _must_check_;
/* image_open() of a source. */
int image_open_source(struct image_source *s, struct image **ret, struct error *e) _must_check_;
/* Who reads: asks for one layer after the other. All that the result points to is in "memory", and in what next() has given. */
struct image_opener {
	int (*next)(void *arg, const char *parent, struct image_layer *ret, struct error *e);
	void *arg;
};
int image_read_into(const struct image_opener *o, struct arena *memory, const struct image **ret,
	struct error *e) _must_check_;
/* Who takes over: checks it from end to end. The result and the files' bytes are in two mappings, which must stay; */
struct image_memory {
	void *at;
	size_t size;
};
int image_adopt(struct image_source *s, const struct image_memory *result, const struct image_memory *files,
	const struct image *what, struct image **ret, struct error *e) _must_check_;
/* or are the image's, from now on. */
void image_take_memory(struct image *i, const struct image_memory *result, const struct image_memory *files);

const struct image_manifest *image_manifest(const struct image *i);
/* Iterates records; messages are unpacked once into the image's own memory and live until image_free(). *pos starts at 0.
 * 1: *ret_type and *ret_message are set; 0: end. Unknown optional types are skipped. */
int image_next_record(struct image *i, size_t *pos, enum image_record_type *ret_type,
	const ProtobufCMessage **ret_message, struct error *e) _must_check_;
/* The runs of one address space, ascending; a borrowed array. */
const struct image_run *image_runs(const struct image *i, uint64_t space, size_t *ret_n);
/* Those of all address spaces, by their ids. */
const struct image_run *image_all_runs(const struct image *i, size_t *ret_n);
/* Of a layer that is not stored as it is: a decoder for each thread that reads; */
struct image_decoder;
int image_decoder_new(const struct image *i, struct image_decoder **ret, struct error *e) _must_check_;
void image_decoder_free(struct image_decoder *d);
/* where the bytes from "offset" on are, and how many of them, until the next call. Also for layers that can be read directly. */
int image_decode(const struct image *i, struct image_decoder *d, unsigned layer, uint64_t offset,
	const void **ret, size_t *ret_len, struct error *e) _must_check_;
/* No page data is that of two pages. */
bool image_data_is_used_once(const struct image *i);
/* Where data of a layer can be read directly, at run->offset; a borrowed descriptor. -EBADF: only by image_read(). */
int image_pages_fd(const struct image *i, unsigned layer);
/* Its pages.img, however that is stored; borrowed. */
int image_stored_fd(const struct image *i, unsigned layer);
/* Which chunks hold these bytes of page data (at least one byte). */
void image_stored_chunks(const struct image *i, unsigned layer, uint64_t offset, uint64_t len,
	size_t *ret_first, size_t *ret_last);
/* Reads page data of a layer, in whatever way that is stored; "offset" as in run->offset. Not in several threads at once. */
int image_read_data(const struct image *i, unsigned layer, uint64_t offset, void *buf, size_t len,
	struct error *e) _must_check_;
/* Has f give other numbers to the descriptors that pages are read from. */
int image_move_fds(struct image *i, int (*f)(void *arg, int *fd, struct error *e), void *arg,
	struct error *e) _must_check_;
/* Reads bytes [address, address+len) of an address space, holes as zeros. Likewise not in several threads. */
int image_read(const struct image *i, uint64_t space, uint64_t address, void *buf, size_t len,
	struct error *e) _must_check_;
/* Bytes of page data, and what becomes of them. */
struct image_sizes {
	uint64_t memory; /* all that was there: the sum of the next six */
	uint64_t zero, shared, duplicate, parent, repeated, data;
	uint64_t stored; /* what "data" takes in pages.img */
	uint64_t files;	 /* all that a restore reads */
	enum image_codec codec;
	uint64_t pieces, compressed_pieces; /* that are read one by one */
};
void image_sizes(const struct image *i, struct image_sizes *ret);
/* Checks every page-data checksum. */
int image_verify_pages(const struct image *i, struct error *e) _must_check_;
/* The same, of more than a little in threads that work until the end is asked for, which frees *ret; before image_free().
 * The caller may fork meanwhile: the threads take no locks. */
struct image_verification;
int image_verify_begin(const struct image *i, struct image_verification **ret, struct error *e) _must_check_;
int image_verify_end(struct image_verification *v, struct error *e) _must_check_;
/* The same of some chunks: bit n of wanted[layer] is set for chunk n (image_chunk_size() bytes of pages.img each). Borrowed
 * until the end. */
int image_verify_begin_some(const struct image *i, uint8_t *const *wanted, struct image_verification **ret,
	struct error *e) _must_check_;
/* The image itself and its parents. */
unsigned image_n_layers(const struct image *i);
uint64_t image_chunk_size(const struct image *i, unsigned layer);
size_t image_n_chunks(const struct image *i, unsigned layer);

/* Reads page data and checks it before anybody gets it; for one thread. */
struct image_reader;
int image_reader_new(const struct image *i, struct image_reader **ret, struct error *e) _must_check_;
void image_reader_free(struct image_reader *r);
/* Up to *len bytes from "offset" on, as many as there is room for (*len says so afterwards); *ret is good until the next call. */
int image_reader_get(struct image_reader *r, unsigned layer, uint64_t offset, size_t *len,
	const uint8_t **ret, struct error *e) _must_check_;

/*
 * In which order a restored container first touched its memory: kept beside the image, for the next lazy restore of it.
 * Only a hint: whatever it says, nothing else than pages of this image are read sooner. "address" as in struct image_run.
 */
#define IMAGE_WORKING_SET "working_set.img"
struct image_touched {
	uint64_t space, address, len;
};
enum { IMAGE_TOUCHED_MAX = 65536 };
/* None, or that of another image, is *ret_n = 0. *ret is malloc'ed. */
int image_working_set_read(const struct image *i, int dirfd, struct image_touched **ret, size_t *ret_n,
	struct error *e) _must_check_;
int image_working_set_write(const struct image *i, int dirfd, const struct image_touched *touched, size_t n,
	struct error *e) _must_check_;

/* The same image without parents, in another directory or ("to" the same) in its own place. "packing" NULL: compressed as it was. */
int image_squash(image_open_fn *open_image, int from, int to, const struct image_packing *packing,
	struct error *e) _must_check_;

static inline void image_writer_free_p(struct image_writer **w)
{
	image_writer_free(*w);
}
static inline void image_source_free_p(struct image_source **s)
{
	image_source_free(*s);
}
static inline void image_free_p(struct image **i)
{
	image_free(*i);
}
