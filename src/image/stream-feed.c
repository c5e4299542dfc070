/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image that is still arriving. One process reads the stream: what comes goes into files in memory (memfds), page data at
 * its offset in pages.img, so that what is a hole there reads as zeros. All others share a control block with it.
 *
 * Invariants: nothing is said to have come that has not been checked; "arrived" only grows; flag n is set when the first n + 1
 * units of pages.img are there. Whoever waits for a page either gets it, or the reason why it will never come.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "image/opened-priv.h"
#include "image/stream-priv.h"

enum { ARRIVING, COMPLETE, FAILED };
enum { FLAGS_AT = 4096, WAIT_MS = 200, KEPT_FILES = IMAGE_STREAM_MANIFEST + 1 };

struct control {
	uint32_t state;
	uint32_t ready; /* records, index and manifest are there */
	uint32_t tick;	/* changes with all of this: a futex */
	uint64_t arrived, pages_size;
	struct error error;
};
_Static_assert(sizeof(struct control) <= FLAGS_AT, "the flags are behind it");

struct image_feed {
	int control_fd;
	int files[KEPT_FILES]; /* by number in the stream */
	int alive[2];	       /* the first: hangs up when the reader of the stream is gone */
	int wanted[2];	       /* and that one when nobody waits for it any more */
	struct control *control;
	uint32_t *flags;
	size_t mapped;
	pid_t owner; /* who may look at alive[0] */
};

static int new_file(const char *name, int *ret, struct error *e)
{
	*ret = memfd_create(name, MFD_CLOEXEC);
	return *ret < 0 ? error_errno(e, -errno, "memory for the image stream") : 0;
}

int image_feed_new(struct image_feed **ret, struct error *e)
{
	size_t size = FLAGS_AT + STREAM_PAGES_MAX / IMAGE_FEED_UNIT * sizeof(uint32_t);
	struct image_feed *f = calloc(1, sizeof(*f));
	void *p;
	int r;

	if (!f)
		return error_errno(e, -ENOMEM, "image stream");
	*f = (struct image_feed){.control_fd = -EBADF,
		.alive = {-EBADF, -EBADF},
		.wanted = {-EBADF, -EBADF},
		.owner = getpid()};
	for (unsigned i = 0; i < KEPT_FILES; i++)
		f->files[i] = -EBADF;
	r = new_file("stasis-stream", &f->control_fd, e);
	for (unsigned i = 1; i < KEPT_FILES && r == 0; i++)
		r = new_file(image_stream_names[i], &f->files[i], e);
	if (r == 0 && (ftruncate(f->control_fd, size) < 0 || pipe2(f->alive, O_CLOEXEC) < 0 ||
			      pipe2(f->wanted, O_CLOEXEC) < 0))
		r = error_errno(e, -errno, "image stream");
	/* Only what is touched takes memory. */
	p = r == 0 ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, f->control_fd, 0)
		   : MAP_FAILED;
	if (r == 0 && p == MAP_FAILED)
		r = error_errno(e, -errno, "image stream");
	if (r < 0) {
		image_feed_free(f);
		return r;
	}
	f->mapped = size;
	f->control = p;
	f->flags = (uint32_t *)((char *)p + FLAGS_AT);
	*ret = f;
	return 0;
}

void image_feed_free(struct image_feed *f)
{
	if (!f)
		return;
	if (f->control)
		munmap(f->control, f->mapped);
	close_p(&f->control_fd);
	for (unsigned i = 0; i < KEPT_FILES; i++)
		close_p(&f->files[i]);
	close_p(&f->alive[0]);
	close_p(&f->alive[1]);
	close_p(&f->wanted[0]);
	close_p(&f->wanted[1]);
	free(f);
}

void image_feed_forked(struct image_feed *f, bool runs_feed)
{
	close_p(&f->alive[runs_feed ? 0 : 1]);
	close_p(&f->wanted[runs_feed ? 1 : 0]);
	/* It waits for the stream, in read(2): SIGIO ends it there. */
	if (runs_feed)
		(void)!(fcntl(f->wanted[0], F_SETOWN, getpid()) < 0 ||
			fcntl(f->wanted[0], F_SETFL, O_ASYNC) < 0);
}

_Static_assert(IMAGE_FEED_FDS == KEPT_FILES - 1 + 2, "files and two pipes");

void image_feed_fds(const struct image_feed *f, int ret[IMAGE_FEED_FDS])
{
	memcpy(ret, f->files + 1, (KEPT_FILES - 1) * sizeof(*ret));
	ret[KEPT_FILES - 1] = f->alive[1];
	ret[KEPT_FILES] = f->wanted[0];
}

int image_feed_wanted_fd(const struct image_feed *f)
{
	return f->wanted[1];
}

void image_feed_adopt(struct image_feed *f)
{
	f->owner = getpid();
}

int image_feed_alive_fd(const struct image_feed *f)
{
	return f->alive[0];
}

static void wake(uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void tick(struct control *c)
{
	__atomic_add_fetch(&c->tick, 1, __ATOMIC_SEQ_CST);
	wake(&c->tick);
}

/* ---- who reads the stream ---- */

struct receiver {
	struct image_feed *feed;
	size_t n_flags; /* set */
};

static void set_arrived(struct receiver *x, uint64_t arrived)
{
	struct control *c = x->feed->control;
	size_t n;

	/* The last unit is not a whole one. */
	if (c->ready && arrived >= c->pages_size)
		n = (c->pages_size + IMAGE_FEED_UNIT - 1) / IMAGE_FEED_UNIT;
	else
		n = arrived / IMAGE_FEED_UNIT;
	__atomic_store_n(&c->arrived, arrived, __ATOMIC_SEQ_CST);
	for (; x->n_flags < n; x->n_flags++) {
		__atomic_store_n(&x->feed->flags[x->n_flags], 1, __ATOMIC_SEQ_CST);
		wake(&x->feed->flags[x->n_flags]);
	}
	tick(c);
}

/* The first manifest: all that comes before pages is there. */
static int set_ready(struct receiver *x, const void *text, size_t len, struct error *e)
{
	_cleanup_(arena_done) struct arena a = {0};
	struct control *c = x->feed->control;
	struct image_files files = {0};
	struct image_manifest m;
	int r = image_manifest_parse(&a, text, len, &m, &files, e);

	if (r < 0)
		return r;
	if (files.pages.size > STREAM_PAGES_MAX || files.pages.size < c->arrived)
		return image_corrupt(e, IMAGE_MANIFEST, 0, "%llu bytes of page data",
			(unsigned long long)files.pages.size);
	if (ftruncate(x->feed->files[IMAGE_STREAM_PAGES], files.pages.size) < 0)
		return error_errno(e, -errno, "memory for the image stream");
	c->pages_size = files.pages.size;
	__atomic_store_n(&c->ready, 1, __ATOMIC_SEQ_CST);
	set_arrived(x, c->arrived);
	return fault_point("restore-stream", e);
}

static int receive(
	void *arg, enum image_stream_file file, uint64_t at, const void *data, size_t len, struct error *e)
{
	struct receiver *x = arg;
	struct control *c = x->feed->control;
	int r;

	/* What comes behind the pages is for those who keep the image: figures, and which pages were zeros. */
	if (file > IMAGE_STREAM_MANIFEST || (c->ready && file != IMAGE_STREAM_PAGES))
		return 0;
	if (c->ready && at + len > c->pages_size)
		return image_corrupt(e, IMAGE_PAGES, at, "more page data than the manifest says");
	r = pwrite_all(x->feed->files[file], data, len, at);
	if (r < 0)
		return error_errno(e, r, "memory for the image stream");
	if (file == IMAGE_STREAM_MANIFEST)
		return set_ready(x, data, len, e);
	if (file == IMAGE_STREAM_PAGES)
		set_arrived(x, at + len);
	return 0;
}

static int give_back(void *arg, const struct image_range *range, struct error *e)
{
	struct receiver *x = arg;

	return fallocate(x->feed->files[IMAGE_STREAM_PAGES], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (off_t)range->start, (off_t)(range->end - range->start)) < 0
		       ? error_errno(e, -errno, "memory of the image stream")
		       : 0;
}

void image_feed_run(struct image_feed *f, int fd)
{
	struct receiver x = {.feed = f};
	struct image_stream_sink sink = {receive, &x, give_back};
	struct control *c = f->control;
	struct error e;
	int r = image_stream_read_fd(fd, &sink, &e);

	if (r < 0)
		c->error = e;
	else
		set_arrived(&x, MAX(c->arrived, c->pages_size));
	__atomic_store_n(&c->state, r < 0 ? FAILED : COMPLETE, __ATOMIC_SEQ_CST);
	tick(c);
}

/* ---- who waits for it ---- */

static bool reader_is_gone(const struct image_feed *f)
{
	struct pollfd p = {.fd = f->alive[0]};

	/* In other processes the number may be another file's. */
	return f->owner == getpid() && f->alive[0] >= 0 && poll(&p, 1, 0) > 0;
}

int image_feed_state(const struct image_feed *f, struct error *e)
{
	/* In this order: it ends after it has said why. */
	bool gone = reader_is_gone(f);
	uint32_t state = __atomic_load_n(&f->control->state, __ATOMIC_SEQ_CST);

	if (state == COMPLETE)
		return 1;
	if (state == FAILED) {
		*e = f->control->error;
		e->message[sizeof(e->message) - 1] = 0;
		return e->code < 0 ? e->code : -EBADMSG;
	}
	if (gone)
		return error_set(e, -ECANCELED, ERROR_SYSTEM, "the process that reads the image stream died");
	return 0;
}

enum wait_for { WAIT_READY, WAIT_ARRIVED };

/* Only if nothing has changed since "seen". */
static void wait_once(struct control *c, uint32_t seen)
{
	struct timespec limit = {0, WAIT_MS * 1000000L};

	syscall(SYS_futex, &c->tick, FUTEX_WAIT, seen, &limit, NULL, 0);
}

void image_feed_wait_change(const struct image_feed *f)
{
	uint32_t now = __atomic_load_n(&f->control->tick, __ATOMIC_SEQ_CST);

	if (__atomic_load_n(&f->control->state, __ATOMIC_SEQ_CST) == ARRIVING)
		wait_once(f->control, now);
}

static int wait_for(const struct image_feed *f, enum wait_for what, uint64_t end, struct error *e)
{
	struct control *c = f->control;
	int r = 0;

	for (;;) {
		uint32_t now = __atomic_load_n(&c->tick, __ATOMIC_SEQ_CST);

		if (what == WAIT_ARRIVED && __atomic_load_n(&c->arrived, __ATOMIC_SEQ_CST) >= end)
			return 0;
		if (what == WAIT_READY && __atomic_load_n(&c->ready, __ATOMIC_SEQ_CST))
			return 0;
		r = image_feed_state(f, e);
		if (r < 0)
			return r;
		if (r > 0)
			break;
		wait_once(c, now);
	}
	/* All has come: what is asked for as well, or it does not exist. */
	if (what == WAIT_ARRIVED && c->arrived < end)
		return image_corrupt(e, IMAGE_PAGES, end, "behind the page data of the stream");
	return 0;
}

int image_feed_has(const struct image_feed *f, uint64_t end, struct error *e)
{
	int r;

	if (__atomic_load_n(&f->control->arrived, __ATOMIC_SEQ_CST) >= end)
		return 1;
	r = image_feed_state(f, e);
	return MIN(r, 0);
}

uint64_t image_feed_arrived(const struct image_feed *f)
{
	return __atomic_load_n(&f->control->arrived, __ATOMIC_SEQ_CST);
}

int image_feed_finish(const struct image_feed *f, struct error *e)
{
	int r;

	while ((r = image_feed_state(f, e)) == 0)
		image_feed_wait_change(f);
	return MIN(r, 0);
}

int image_feed_source(struct image_feed *f, struct image_source **ret, struct error *e)
{
	int r = wait_for(f, WAIT_READY, 0, e);

	return r < 0 ? r : image_source_of_files(f->files, f, ret, e);
}

int image_feed_open(struct image_feed *f, struct image **ret, struct error *e)
{
	_cleanup_(image_source_free_p) struct image_source *s = NULL;
	int r = image_feed_source(f, &s, e);

	return r < 0 ? r : image_open_source(s, ret, e);
}

int image_feed_wait(const struct image_feed *f, uint64_t end, struct error *e)
{
	return wait_for(f, WAIT_ARRIVED, end, e);
}

int image_feed_flags_fd(const struct image_feed *f, uint64_t *ret_offset)
{
	*ret_offset = FLAGS_AT;
	return f->control_fd;
}
