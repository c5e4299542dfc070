/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image as a stream, for pipes (docs/formats/stream.md): its files in pieces, in an order in which a restore can begin
 * when the records are there. What is read is taken for hostile.
 *
 * A feed is an image that is still arriving: one process reads the stream into memory (image_feed_run()), others
 * open the image and wait for the pages that they need.
 */
#pragma once

#include "image/image.h"

/* The files of an image by their numbers in a stream; names in image_stream_names. */
enum image_stream_file {
	IMAGE_STREAM_CHECKPOINT = 1,
	IMAGE_STREAM_INDEX = 2,
	IMAGE_STREAM_PAGES = 3,
	IMAGE_STREAM_MANIFEST = 4,
	IMAGE_STREAM_INVENTORY = 5,
	IMAGE_STREAM_STATS = 6,
	IMAGE_STREAM_DESCRIPTORS = 7,
	IMAGE_STREAM_FILES,
};
extern const char *const image_stream_names[IMAGE_STREAM_FILES];

/* ---- writing ---- */

struct image_out;
/* Where a stream goes. The descriptor is borrowed; what is written there never blocks for longer than "stall_s" seconds without
 * a byte being taken (0: for ever), and fails with -ECANCELED when the other end of cancel_fd (-EBADF: none) is closed.
 * The caller ignores SIGPIPE. */
int image_out_new(
	int fd, int cancel_fd, unsigned stall_s, struct image_out **ret, struct error *e) _must_check_;
void image_out_free(struct image_out *o);
/* Pieces of pages.img are compressed from now on, by threads while the next ones come. Before the first piece. */
int image_out_compress(struct image_out *o, const struct image_packing *how, struct error *e) _must_check_;
/* Before each frame: a negative result ends the stream. */
void image_out_ask(struct image_out *o, int (*go_on)(void *arg, struct error *e), void *arg);
/* It may be that some of it will be forgotten (image_writer_round()). Before the first piece. */
void image_out_forgets(struct image_out *o);
/* What is still being compressed leaves, and the threads end. Also done by itself, before a piece of another file. */
int image_out_flush(struct image_out *o, struct error *e) _must_check_;
/* A piece of a file, of any length. */
int image_out_piece(struct image_out *o, enum image_stream_file file, uint64_t at, const void *data,
	size_t len, struct error *e) _must_check_;
/* The end frame; returns when a pipe or socket is empty: as far as can be told, the reader has all of it. */
int image_out_end(struct image_out *o, struct error *e) _must_check_;
/* From now on up to "max" bytes are kept in memory, so that the caller need not wait for the reader; what does not fit is written at
 * once, with all that was kept. Until it is let go. */
void image_out_hold(struct image_out *o, size_t max);
int image_out_let_go(struct image_out *o, struct error *e) _must_check_;

/*
 * A writer to a stream. image_writer_record() and image_writer_pages() are as with a directory, but pages should rather be planned:
 * first all runs are named, then the records are sent, then the pages in the order of the plan, and nothing else from then
 * on. image_writer_reserve() is not possible. "out" is borrowed.
 */
int image_writer_new_stream(struct image_out *out, struct image_writer **ret, struct error *e) _must_check_;
/* These pages will come: first what a restore wants before the program runs, then what can be had later, too, then what is only
 * sent when the tasks run again. */
enum image_stream_order { IMAGE_STREAM_FIRST, IMAGE_STREAM_THEN, IMAGE_STREAM_LATE };
int image_writer_plan(struct image_writer *w, uint64_t space, uint64_t address, size_t n_pages,
	enum image_stream_order order, struct error *e) _must_check_;
/* Sends records, the planned index and a manifest (without the figures that nobody knows yet): a restore can begin.
 * *ret: the planned runs, sorted, the late ones last (from *ret_late on); borrowed. */
int image_writer_begin(struct image_writer *w, const struct image_manifest *m, const struct image_run **ret,
	size_t *ret_late, size_t *ret_n, struct error *e) _must_check_;
/* The next pages of the plan, of one run. */
int image_writer_fill(struct image_writer *w, const struct image_run *run, uint64_t address, const void *data,
	size_t n_pages, struct error *e) _must_check_;

/* ---- reading ---- */

/* Where a stream comes from: len bytes exactly; -ENODATA: it ends before. */
struct image_stream_source {
	int (*read)(void *arg, void *buf, size_t len);
	void *arg;
};
/* Gets the pieces in the order of the stream, each checked. No piece is longer than 1 MiB. A file (but pages.img) comes
 * from its start to its end; index and manifest may come a second time. Pieces of pages.img ascend, what is
 * between them is zeros; one without bytes says that all before it has come. */
struct image_range { /* of bytes */
	uint64_t start, end;
};
struct image_stream_sink {
	int (*piece)(void *arg, enum image_stream_file file, uint64_t at, const void *data, size_t len,
		struct error *e);
	void *arg;
	/* Of pages.img: no run of the index will be there. Before the manifest. NULL: it is kept. */
	int (*forget)(void *arg, const struct image_range *range, struct error *e);
};
/* Until the end frame. Errors are ERROR_CORRUPT with the offset in the stream, also if it ends early. */
int image_stream_read(const struct image_stream_source *source, const struct image_stream_sink *sink,
	struct error *e) _must_check_;
/* The same from a descriptor. */
int image_stream_read_fd(int fd, const struct image_stream_sink *sink, struct error *e) _must_check_;

/* An image directory to a stream, and back (into an empty directory; on failure nothing is left in it). */
int image_stream_pack(
	image_open_fn *open_image, int dirfd, struct image_out *out, struct error *e) _must_check_;
int image_stream_unpack(image_open_fn *open_image, int fd, int dirfd, struct error *e) _must_check_;

/* ---- an image that is arriving ---- */

enum { IMAGE_FEED_UNIT = 1 << 20 }; /* bytes of pages.img that one flag is about */

struct image_feed;
/* Memory that processes share; made before the fork of who reads the stream. */
int image_feed_new(struct image_feed **ret, struct error *e) _must_check_;
void image_feed_free(struct image_feed *f);
/* Reads the stream to its end, and tells the others. For a process of its own, which exits then. */
void image_feed_run(struct image_feed *f, int fd);
/* A descriptor that hangs up when the process that runs the feed is gone; it alone has the other end. */
int image_feed_alive_fd(const struct image_feed *f);
/* After the fork, in the process that runs the feed and in the other one. The first one ends when nobody is left that has
 * image_feed_wanted_fd(). */
void image_feed_forked(struct image_feed *f, bool runs_feed);
int image_feed_wanted_fd(const struct image_feed *f);
/* What the process that runs the feed needs. */
enum { IMAGE_FEED_FDS = 6 };
void image_feed_fds(const struct image_feed *f, int ret[IMAGE_FEED_FDS]);
/* In another process that looks at the feed, and has kept its descriptors: image_feed_alive_fd(), image_feed_pages_fd(). */
void image_feed_adopt(struct image_feed *f);
/* Has so much come? Or why it never will. */
int image_feed_has(const struct image_feed *f, uint64_t end, struct error *e) _must_check_;
/* Waits for the end frame. */
int image_feed_finish(const struct image_feed *f, struct error *e) _must_check_;
/* Waits until an image can be opened (restore may begin). */
int image_feed_open(struct image_feed *f, struct image **ret, struct error *e) _must_check_;
/* Likewise, for checkpoint/confine.h. */
int image_feed_source(struct image_feed *f, struct image_source **ret, struct error *e) _must_check_;
/* 1: all has come, 0: not yet; or why it never will. */
int image_feed_state(const struct image_feed *f, struct error *e) _must_check_;
/* Until more has come, for a moment at most. */
void image_feed_wait_change(const struct image_feed *f);
/* The feed of an image; NULL: all of it is there. */
struct image_feed *image_feed_of(const struct image *i);
/* The flags, u32 each, that are set (and woken as futexes) when so many IMAGE_FEED_UNITs have come: in this file at this
 * offset. */
int image_feed_flags_fd(const struct image_feed *f, uint64_t *ret_offset);
size_t image_feed_n_flags(const struct image *i);
/* Where data can be read whose flags are set; image_pages_fd() says -EBADF for an image that is arriving, because it cannot be
 * read just so. Borrowed. */
int image_feed_pages_fd(const struct image *i);

static inline void image_out_free_p(struct image_out **o)
{
	image_out_free(*o);
}
