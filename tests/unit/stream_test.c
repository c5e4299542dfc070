/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: what is written is what is read, in whatever order it came about; cut off or changed anywhere it is an error. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "image.pb-c.h"
#include "image/image-priv.h"
#include "image/stream-priv.h"
#include "tap.h"

enum { PAGE = IMAGE_PAGE_SIZE, PAGES = 700, BYTES_MAX = 8 << 20 };

static struct image_manifest manifest(void)
{
	return (struct image_manifest){
		.engine = "native",
		.stasis_version = "0.1.0",
		.container_id = "c1",
		.container_name = "c1",
		.container_count = 1,
		.architecture = "x86_64",
		.kernel = "6.18",
		.cpu_features = "sse2",
		.page_size = PAGE,
		.created = "2026-01-01T00:00:00Z",
		.generation = 3,
	};
}

/* Every third page of an address space is full of zeros. */
static void contents(uint64_t space, uint64_t page, uint8_t *to)
{
	memset(to, page % 3 == 2 ? 0 : (int)(space * 31 + page % 200 + 1), PAGE);
}

static int fill_run(struct image_writer *w, const struct image_run *run, struct error *e)
{
	static uint8_t buf[PAGES * PAGE];
	int r = 0;

	for (uint64_t i = 0; i < run->n_pages; i++)
		contents(run->space, run->address / PAGE + i, buf + i * PAGE);
	/* In two parts. */
	r = image_writer_fill(w, run, run->address, buf, run->n_pages / 2, e);
	return r < 0 ? r
		     : image_writer_fill(w, run, run->address + run->n_pages / 2 * PAGE,
			       buf + run->n_pages / 2 * PAGE, run->n_pages - run->n_pages / 2, e);
}

/* Address spaces: 5 sent early; 1 planned; 2 planned in two runs, and sharing pages of 1. */
static int write_stream(int fd, struct error *e)
{
	_cleanup_(image_out_free_p) struct image_out *out = NULL;
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	St__Container c = ST__CONTAINER__INIT;
	struct image_manifest m = manifest();
	const struct image_run *runs = NULL;
	uint8_t early[4 * PAGE];
	size_t n = 0, late = 0;
	int r = image_out_new(fd, -EBADF, 10, &out, e);

	for (uint64_t i = 0; i < 4; i++)
		contents(5, i, early + i * PAGE);
	if (r == 0)
		r = image_writer_new_stream(out, &w, e);
	if (r == 0)
		r = image_writer_pages(w, 5, 0, early, 4, e);
	if (r == 0)
		r = image_writer_plan(w, 2, 100 * PAGE, 3, IMAGE_STREAM_THEN, e);
	if (r == 0)
		r = image_writer_plan(w, 1, 4 * PAGE, PAGES, IMAGE_STREAM_LATE, e);
	if (r == 0)
		r = image_writer_plan(w, 2, PAGE, 2, IMAGE_STREAM_FIRST, e);
	if (r == 0)
		r = image_writer_shared(w, 2, 4 * PAGE, 10, 1, e);
	if (r == 0)
		r = image_writer_record(w, IMAGE_RECORD_CONTAINER, &c.base, e);
	if (r == 0)
		r = image_writer_begin(w, &m, &runs, &late, &n, e);
	CHECK(r < 0 ||
		(n == 3 && late == 2 && runs[0].space == 2 && runs[0].address == PAGE && runs[2].space == 1));
	for (size_t i = 0; i < n && r == 0; i++) {
		/* What is kept, and more than may be kept. */
		if (i == 1)
			image_out_hold(out, 100000);
		r = fill_run(w, &runs[i], e);
	}
	if (r == 0)
		r = image_out_let_go(out, e);
	return r < 0 ? r : image_writer_commit(w, &m, e);
}

static int new_stream(void)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);
	struct error e = {0};

	if (!CHECK(write_stream(fd, &e) == 0, "%s", e.message))
		abort();
	return fd;
}

static void check_contents(const struct image *i)
{
	static const struct {
		uint64_t space, first, n, of;
	} all[] = {{5, 0, 4, 5}, {1, 4, PAGES, 1}, {2, 1, 2, 2}, {2, 100, 3, 2}, {2, 4, 10, 1}};
	uint8_t got[PAGE], want[PAGE];
	struct error e = {0};

	for (size_t k = 0; k < ARRAY_SIZE(all); k++)
		for (uint64_t p = all[k].first; p < all[k].first + all[k].n; p++) {
			contents(all[k].of, p, want);
			if (!CHECK(image_read(i, all[k].space, p * PAGE, got, PAGE, &e) == 0, "%s",
				    e.message) ||
				!CHECK(!memcmp(got, want, PAGE), "space %d page %d", (int)all[k].space,
					(int)p))
				return;
		}
	CHECK(image_manifest(i)->generation == 3);
}

struct dir {
	char path[64];
	int fd;
};

static struct dir dir_new(void)
{
	struct dir d;

	snprintf(d.path, sizeof(d.path), "%s/stasis-stream-test.XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(d.path))
		abort();
	d.fd = open(d.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return d;
}

static void dir_done(struct dir *d)
{
	close(d->fd);
	CHECK(remove_tree_at(AT_FDCWD, d->path) == 0);
}
#define _cleanup_dir_ _cleanup_(dir_done)

static void test_unpack(void)
{
	_cleanup_close_ int fd = new_stream();
	_cleanup_(image_free_p) struct image *i = NULL;
	_cleanup_dir_ struct dir d = dir_new();
	const struct image_run *runs;
	struct error e = {0};
	uint64_t zero = 0;
	size_t n;

	lseek(fd, 0, SEEK_SET);
	CHECK(image_stream_unpack(image_open, fd, d.fd, &e) == 0, "%s", e.message);
	if (!CHECK(image_open(d.fd, &i, &e) == 0, "%s", e.message))
		return;
	CHECK(image_verify_pages(i, &e) == 0, "%s", e.message);
	check_contents(i);
	/* The last index knows what was full of zeros. */
	runs = image_runs(i, 1, &n);
	for (size_t k = 0; k < n; k++)
		zero += runs[k].kind == IMAGE_PAGES_ZERO ? runs[k].n_pages : 0;
	CHECK(zero == image_manifest(i)->statistics.pages_zero - 3, "%d", (int)zero);
	CHECK(image_stream_unpack(image_open, fd, d.fd, &e) == -EEXIST);
}

static char *load(int fd, size_t *ret_n)
{
	char *data = NULL;

	lseek(fd, 0, SEEK_SET);
	if (read_fd(fd, BYTES_MAX, &data, ret_n) < 0)
		abort();
	return data;
}

static int store(const char *data, size_t n)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);

	if (write_all(fd, data, n) < 0)
		abort();
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static void test_pack_is_the_same_each_time(void)
{
	_cleanup_close_ int fd = new_stream(), packed = memfd_create("a", 0), again = memfd_create("b", 0);
	_cleanup_dir_ struct dir d = dir_new(), d2 = dir_new();
	_cleanup_free_ char *a = NULL, *b = NULL;
	size_t n_a, n_b;
	struct error e = {0};

	lseek(fd, 0, SEEK_SET);
	CHECK(image_stream_unpack(image_open, fd, d.fd, &e) == 0, "%s", e.message);
	for (int k = 0; k < 2; k++) {
		_cleanup_(image_out_free_p) struct image_out *out = NULL;

		CHECK(image_out_new(k ? again : packed, -EBADF, 0, &out, &e) == 0);
		CHECK(image_stream_pack(image_open, k ? d2.fd : d.fd, out, &e) == 0, "%s", e.message);
		lseek(packed, 0, SEEK_SET);
		if (k == 0)
			CHECK(image_stream_unpack(image_open, packed, d2.fd, &e) == 0, "%s", e.message);
	}
	a = load(packed, &n_a);
	b = load(again, &n_b);
	CHECK(n_a == n_b && !memcmp(a, b, n_a), "%zu %zu", n_a, n_b);
}

static int ignore_piece(
	void *arg, enum image_stream_file file, uint64_t at, const void *data, size_t len, struct error *e)
{
	return 0;
}

/* The frame checks alone: each place is tried. */
static void test_damage(void)
{
	_cleanup_close_ int fd = new_stream();
	struct image_stream_sink sink = {ignore_piece, NULL};
	size_t n;
	_cleanup_free_ char *data = load(fd, &n);

	for (size_t at = 0; at < n; at += at < 400 || n - at < 100 ? 1 : 7919) {
		_cleanup_close_ int cut = store(data, at), flipped = -EBADF;
		struct error e = {0};

		CHECK(image_stream_read_fd(cut, &sink, &e) == -EBADMSG && e.kind == ERROR_CORRUPT,
			"cut at %zu", at);
		data[at] ^= 1 << at % 8;
		flipped = store(data, n);
		data[at] ^= 1 << at % 8;
		e = (struct error){0};
		CHECK(image_stream_read_fd(flipped, &sink, &e) < 0 && e.message[0], "flipped at %zu", at);
	}
}

/* Writes it byte by byte, more or less, in a process of its own. */
static pid_t feed_slowly(const char *data, size_t n, int fd)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	for (size_t at = 0, k; at < n; at += k) {
		k = MIN(n - at, (size_t)9999);
		if (write_all(fd, data + at, k) < 0)
			break;
		usleep(300);
	}
	_exit(0);
}

static void feed(const char *data, size_t n, bool whole)
{
	struct image_feed *f = NULL;
	_cleanup_(image_free_p) struct image *i = NULL;
	struct error e = {0};
	int ends[2];
	pid_t writer, reader;
	uint8_t page[PAGE];

	if (!CHECK(image_feed_new(&f, &e) == 0, "%s", e.message) || pipe2(ends, O_CLOEXEC) < 0)
		return;
	writer = feed_slowly(data, n, ends[1]);
	close(ends[1]);
	reader = fork();
	if (reader == 0) {
		image_feed_forked(f, true);
		image_feed_run(f, ends[0]);
		_exit(0);
	}
	image_feed_forked(f, false);
	close(ends[0]);
	if (CHECK(image_feed_open(f, &i, &e) == 0, "%s", e.message)) {
		CHECK(image_pages_fd(i, 0) == -EBADF);
		if (whole)
			check_contents(i);
		else
			CHECK(image_read(i, 1, (PAGES + 2) * PAGE, page, PAGE, &e) == -EBADMSG &&
				e.kind == ERROR_CORRUPT);
		CHECK(image_feed_n_flags(i) == 3, "%zu", image_feed_n_flags(i));
	}
	waitpid(writer, NULL, 0);
	waitpid(reader, NULL, 0);
	CHECK(image_feed_state(f, &e) == (whole ? 1 : -EBADMSG));
	image_free(take_ptr(i));
	image_feed_free(f);
}

static void test_feed(void)
{
	_cleanup_close_ int fd = new_stream();
	size_t n;
	_cleanup_free_ char *data = load(fd, &n);

	feed(data, n, true);
	feed(data, n - 60000, false);
}

static void test_reader_of_a_feed_dies(void)
{
	struct image_feed *f = NULL;
	struct image *i = NULL;
	struct error e = {0};
	int ends[2];
	pid_t reader;

	if (!CHECK(image_feed_new(&f, &e) == 0, "%s", e.message) || pipe2(ends, O_CLOEXEC) < 0)
		return;
	reader = fork();
	if (reader == 0) {
		image_feed_forked(f, true);
		image_feed_run(f, ends[0]);
		_exit(0);
	}
	image_feed_forked(f, false);
	kill(reader, SIGKILL);
	CHECK(image_feed_open(f, &i, &e) == -ECANCELED, "%s", e.message);
	waitpid(reader, NULL, 0);
	close(ends[0]);
	close(ends[1]);
	image_feed_free(f);
}

static void test_reader_goes(void)
{
	struct error e = {0};
	int ends[2];

	signal(SIGPIPE, SIG_IGN);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return;
	close(ends[0]);
	CHECK(write_stream(ends[1], &e) == -EPIPE && strstr(e.message, "has gone"), "%s", e.message);
	close(ends[1]);
}

/* Nobody reads, and who waits for us goes. */
static void test_cancel(void)
{
	_cleanup_(image_out_free_p) struct image_out *out = NULL;
	static char data[3 << 20];
	struct error e = {0};
	int ends[2], cancel[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0 || pipe2(cancel, O_CLOEXEC) < 0)
		return;
	pid = fork();
	if (pid == 0) {
		usleep(50000);
		_exit(0);
	}
	close(cancel[1]);
	CHECK(image_out_new(ends[1], cancel[0], 0, &out, &e) == 0);
	CHECK(image_out_piece(out, IMAGE_STREAM_PAGES, 0, data, sizeof(data), &e) == -ECANCELED, "%s",
		e.message);
	waitpid(pid, NULL, 0);
	close(ends[0]);
	close(ends[1]);
	close(cancel[0]);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"unpack", test_unpack},
		{"pack is the same each time", test_pack_is_the_same_each_time},
		{"damage", test_damage},
		{"feed", test_feed},
		{"the reader of a feed dies", test_reader_of_a_feed_dies},
		{"the reader of a stream goes", test_reader_goes},
		{"cancelled", test_cancel},
	};

	return tap_main(tests, ARRAY_SIZE(tests));
}
