/* SPDX-License-Identifier: Apache-2.0 */
/* Streams: what is written is what is read, in whatever order it came about; cut off or changed anywhere it is an error. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "image.pb-c.h"
#include "image/image-priv.h"
#include "image/stream-priv.h"
#include "tap.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

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
static int write_stream(int fd, enum image_codec codec, struct error *e)
{
	struct image_packing packing = {.codec = codec, .level = 1};
	_cleanup_(image_out_free_p) struct image_out *out = NULL;
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	St__Container c = ST__CONTAINER__INIT;
	struct image_manifest m = manifest();
	const struct image_run *runs = NULL;
	uint8_t early[4 * PAGE];
	size_t n = 0, late = 0;
	int r = image_out_new(fd, -EBADF, 10, &out, e);

	if (r == 0)
		r = image_out_compress(out, &packing, e);
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

static int new_stream(enum image_codec codec)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);
	struct error e = {0};

	if (!CHECK(write_stream(fd, codec, &e) == 0, "%s", e.message))
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

static void unpack(enum image_codec codec)
{
	_cleanup_close_ int fd = new_stream(codec);
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
	CHECK(!image_data_is_used_once(i), "there are shared pages");
	/* The last index knows what was full of zeros. */
	runs = image_runs(i, 1, &n);
	for (size_t k = 0; k < n; k++)
		zero += runs[k].kind == IMAGE_PAGES_ZERO ? runs[k].n_pages : 0;
	CHECK(zero == image_manifest(i)->statistics.pages_zero - 3, "%d", (int)zero);
	CHECK(image_stream_unpack(image_open, fd, d.fd, &e) == -EEXIST);
}

static void test_unpack(void)
{
	unpack(IMAGE_CODEC_NONE);
	unpack(IMAGE_CODEC_LZ4);
	unpack(IMAGE_CODEC_ZSTD);
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
	_cleanup_close_ int fd = new_stream(IMAGE_CODEC_NONE), packed = memfd_create("a", 0),
			    again = memfd_create("b", 0);
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
static void damage(enum image_codec codec)
{
	_cleanup_close_ int fd = new_stream(codec);
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

static void test_damage(void)
{
	damage(IMAGE_CODEC_NONE);
	damage(IMAGE_CODEC_LZ4);
	damage(IMAGE_CODEC_ZSTD);
}

/* A compressed piece that a stranger has made, behind the header of a stream: all checksums are right. */
static int read_forged(
	uint32_t version, uint32_t file, uint64_t at, const void *payload, size_t len, struct error *e)
{
	uint8_t data[512] = {0}, *p = data + STREAM_HEADER;
	struct image_stream_sink sink = {ignore_piece, NULL};
	_cleanup_close_ int fd = -EBADF;

	memcpy(data, stream_magic, sizeof(stream_magic));
	put_le32(data + 8, version);
	put_le32(p, STREAM_PACKED);
	put_le32(p + 4, file);
	put_le64(p + 8, at);
	put_le64(p + 16, len);
	memcpy(p + STREAM_FRAME_HEADER, payload, len);
	put_le64(p + STREAM_FRAME_HEADER + len, XXH3_64bits_withSeed(p, STREAM_FRAME_HEADER + len, 0));
	fd = store((char *)data, STREAM_HEADER + STREAM_FRAME_HEADER + len + STREAM_CHECKSUM);
	*e = (struct error){0};
	return image_stream_read_fd(fd, &sink, e);
}

static void test_forged(void)
{
	enum { HEAD = STREAM_PACKED_HEADER };
	static const uint8_t page[PAGE] = {1, 2, 3};
	static const struct {
		uint32_t version, file, codec, size;
		uint64_t at;
		int cut; /* bytes that are missing at the end */
		const char *says;
	} cases[] = {
		{2, IMAGE_STREAM_PAGES, 1, PAGE, 0, 0, "it ends in the frame"}, /* all is well with it */
		{2, IMAGE_STREAM_PAGES, 2, PAGE, 0, 0, "can't be decompressed"},
		{2, IMAGE_STREAM_PAGES, 1, PAGE, 0, 1, "can't be decompressed"},
		{2, IMAGE_STREAM_PAGES, 1, 2 * PAGE, 0, 0, "can't be decompressed"},
		{2, IMAGE_STREAM_PAGES, 1, STREAM_PIECE_MAX, 0, 0, "can't be decompressed"},
		{2, IMAGE_STREAM_PAGES, 1, PAGE - 1, 0, 0, "can't be decompressed"},
		{2, IMAGE_STREAM_PAGES, 1, PAGE, 100, 0, "page data in a wrong place"},
		{2, IMAGE_STREAM_PAGES, 1, STREAM_PIECE_MAX + PAGE, 0, 0,
			"a compressed piece of 1052672 bytes"},
		{2, IMAGE_STREAM_PAGES, 1, 0, 0, 0, "a compressed piece of 0 bytes"},
		{2, IMAGE_STREAM_PAGES, 0, PAGE, 0, 0, "a compressed piece of 4096 bytes"},
		{2, IMAGE_STREAM_PAGES, 3, PAGE, 0, 0, "does not know (3)"},
		{2, IMAGE_STREAM_PAGES, 1, PAGE, UINT64_MAX & ~UINT64_C(4095), 0, "too large"},
		{2, IMAGE_STREAM_INDEX, 1, PAGE, 0, 0, "of what is not compressed"},
		{1, IMAGE_STREAM_PAGES, 1, PAGE, 0, 0, "of what is not compressed"},
		{3, IMAGE_STREAM_PAGES, 1, PAGE, 0, 0, "reads versions up to 2"},
		{0, IMAGE_STREAM_PAGES, 1, PAGE, 0, 0, "reads versions up to 2"},
	};
	struct image_encoder *x = image_encoder_new(IMAGE_CODEC_LZ4, 0);
	uint8_t payload[HEAD + 200];
	struct error e;
	size_t n = image_encode(x, payload + HEAD, sizeof(payload) - HEAD, page, PAGE);

	image_encoder_free(x);
	if (!CHECK(n > 8))
		return;
	for (size_t k = 0; k < ARRAY_SIZE(cases); k++) {
		put_le32(payload, cases[k].codec);
		put_le32(payload + 4, cases[k].size);
		CHECK(read_forged(cases[k].version, cases[k].file, cases[k].at, payload,
			      HEAD + n - cases[k].cut, &e) < 0 &&
				strstr(e.message, cases[k].says),
			"%zu: %s", k, e.message);
	}
	CHECK(read_forged(2, IMAGE_STREAM_PAGES, 0, payload, HEAD - 1, &e) == -EBADMSG, "%s", e.message);
}

/* Two rounds, the second of which copies some pages again: what the first one had of them is forgotten. */
static int write_rounds(int fd, struct error *e)
{
	_cleanup_(image_out_free_p) struct image_out *out = NULL;
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	static uint8_t buf[PAGES * PAGE];
	St__Container c = ST__CONTAINER__INIT;
	struct image_manifest m = manifest();
	const struct image_run *runs;
	size_t n, late;
	int r = image_out_new(fd, -EBADF, 10, &out, e);

	if (r == 0)
		image_out_forgets(out);
	if (r == 0)
		r = image_writer_new_stream(out, &w, e);
	for (int i = 0; i < PAGES; i++)
		memset(buf + i * PAGE, i % 250 + 1, PAGE);
	if (r == 0)
		r = image_writer_pages(w, 1, 0, buf, PAGES, e);
	if (r == 0)
		r = image_writer_round(w, e);
	/* 100 to 199 anew, the others as they were. */
	memset(buf, 255, 100 * PAGE);
	if (r == 0)
		r = image_writer_pages(w, 2, 100 * PAGE, buf, 100, e);
	if (r == 0)
		r = image_writer_inherit(w, 2, 0, 100, 1, &n, e);
	if (r > 0)
		r = image_writer_inherit(w, 2, 200 * PAGE, PAGES - 200, 1, &n, e);
	r = r > 0 ? image_writer_round(w, e) : r;
	/* A try that comes to nothing, and the next one. */
	if (r == 0)
		r = image_writer_pages(w, 7, 0, buf, 1, e);
	if (r == 0)
		image_writer_again(w);
	if (r == 0)
		r = image_writer_inherit(w, 3, 0, 150, 2, &n, e);
	CHECK(r <= 0 || n == 100, "%zu", n);
	if (r > 0)
		r = image_writer_inherit(w, 3, 100 * PAGE, 50, 2, &n, e);
	memset(buf, 254, PAGE);
	if (r > 0)
		r = image_writer_plan(w, 3, 150 * PAGE, 1, IMAGE_STREAM_FIRST, e);
	if (r == 0)
		r = image_writer_record(w, IMAGE_RECORD_CONTAINER, &c.base, e);
	if (r == 0)
		r = image_writer_begin(w, &m, &runs, &late, &n, e);
	if (r == 0)
		r = image_writer_fill(w, &runs[0], 150 * PAGE, buf, 1, e);
	return r == 0 ? image_writer_commit(w, &m, e) : r;
}

static void check_rounds(const struct image *i)
{
	uint8_t want[PAGE], got[PAGE];
	struct error e;
	size_t n;

	for (int p = 0; p <= 150; p++) {
		memset(want, p < 100 ? p % 250 + 1 : p < 150 ? 255 : 254, PAGE);
		if (!CHECK(image_read(i, 3, p * PAGE, got, PAGE, &e) == 0, "%s", e.message) ||
			!CHECK(!memcmp(got, want, PAGE), "page %d: %d", p, got[0]))
			return;
	}
	(void)image_runs(i, 7, &n);
	CHECK(n == 0);
}

static void test_rounds(void)
{
	_cleanup_close_ int fd = memfd_create("stream", MFD_CLOEXEC);
	_cleanup_(image_free_p) struct image *i = NULL, *kept = NULL;
	_cleanup_dir_ struct dir d = dir_new();
	struct image_feed *f = NULL;
	struct error e = {0};
	struct stat st;

	if (!CHECK(write_rounds(fd, &e) == 0, "%s", e.message))
		return;
	lseek(fd, 0, SEEK_SET);
	CHECK(image_stream_unpack(image_open, fd, d.fd, &e) == 0, "%s", e.message);
	if (!CHECK(image_open(d.fd, &kept, &e) == 0, "%s", e.message))
		return;
	CHECK(image_verify_pages(kept, &e) == 0, "%s", e.message);
	check_rounds(kept);
	CHECK(image_data_is_used_once(kept));
	/* In memory is what the index needs: 151 pages, and of what was tried in between one. */
	lseek(fd, 0, SEEK_SET);
	if (!CHECK(image_feed_new(&f, &e) == 0, "%s", e.message))
		return;
	image_feed_run(f, fd);
	if (CHECK(image_feed_open(f, &i, &e) == 0, "%s", e.message)) {
		check_rounds(i);
		CHECK(fstat(image_feed_pages_fd(i), &st) == 0 && st.st_blocks * 512 <= 152 * PAGE,
			"%lld pages", (long long)st.st_blocks * 512 / PAGE);
	}
	image_free(take_ptr(i));
	image_feed_free(f);
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

static void feed_one(enum image_codec codec)
{
	_cleanup_close_ int fd = new_stream(codec);
	size_t n;
	_cleanup_free_ char *data = load(fd, &n);

	feed(data, n, true);
	feed(data, codec == IMAGE_CODEC_NONE ? n - 60000 : n / 2, false);
}

static void test_feed(void)
{
	feed_one(IMAGE_CODEC_NONE);
	feed_one(IMAGE_CODEC_LZ4);
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
	CHECK(write_stream(ends[1], IMAGE_CODEC_NONE, &e) == -EPIPE && strstr(e.message, "has gone"), "%s",
		e.message);
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
		{"forged compressed pieces", test_forged},
		{"rounds", test_rounds},
		{"feed", test_feed},
		{"the reader of a feed dies", test_reader_of_a_feed_dies},
		{"the reader of a stream goes", test_reader_goes},
		{"cancelled", test_cancel},
	};

	return tap_main(tests, ARRAY_SIZE(tests));
}
