/* SPDX-License-Identifier: Apache-2.0 */
/* The checkpoint image: what was written is what is read, and whatever happens to the files, reading gives an error. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fd.h"
#include "image.pb-c.h"
#include "image/image-priv.h"
#include "tap.h"

enum { PAGE = IMAGE_PAGE_SIZE };

struct dir {
	char path[64];
	int fd;
};

static struct dir dir_new(void)
{
	struct dir d;

	/* Thousands of small files: in memory, where it can be had. */
	snprintf(d.path, sizeof(d.path), "%s/stasis-image-test.XXXXXX",
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

static unsigned count_entries(int dirfd)
{
	DIR *d = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY));
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static struct image_manifest manifest(void)
{
	return (struct image_manifest){
		.engine = "native",
		.stasis_version = "0.1.0",
		.container_id = "c1",
		.container_name = "web \"1\"/ä",
		.container_count = 1,
		.architecture = "x86_64",
		.kernel = "6.1.0",
		.xfeatures = 0x602e7,
		.cpu_features = "sse avx",
		.page_size = PAGE,
		.created = "2026-11-21T09:00:00Z",
		.generation = UINT64_MAX,
		.stdio = {"/dev/null", "pipe:[1]", "/x\"y"},
		.statistics = {.total_us = 5000, .frozen_us = 1000, .processes = 2},
	};
}

static void put_records(struct image_writer *w)
{
	St__Container c = ST__CONTAINER__INIT;
	St__File f = ST__FILE__INIT;
	St__Pipe pipe = ST__PIPE__INIT;
	struct error e;

	c.id = "c1";
	c.generation = 3;
	CHECK(image_writer_record(w, IMAGE_RECORD_CONTAINER, &c.base, &e) == 0);
	f.id = 7;
	f.flags = 02000;
	f.kind_case = ST__FILE__KIND_PIPE;
	f.pipe = &pipe;
	pipe.data = (ProtobufCBinaryData){5, (uint8_t *)"hello"};
	CHECK(image_writer_record(w, IMAGE_RECORD_FILE, &f.base, &e) == 0);
}

static void fill_page(uint8_t *page, unsigned seed)
{
	for (unsigned i = 0; i < PAGE; i++)
		page[i] = seed + i * 7;
}

/* Two address spaces: 9 has pages 0x1000 data, 0x2000 zero, 0x3000 data; 2 has one page; given out of order. */
static void put_pages(struct image_writer *w)
{
	uint8_t buf[3 * PAGE] = {0};
	struct error e;

	fill_page(buf, 1);
	fill_page(buf + 2 * PAGE, 3);
	CHECK(image_writer_pages(w, 9, 0x1000, buf, 3, &e) == 0);
	fill_page(buf, 9);
	CHECK(image_writer_pages(w, 2, 0x7fff0000, buf, 1, &e) == 0);
}

static bool make_image(int dirfd, const struct image_manifest *m)
{
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	struct error e;

	if (!CHECK(image_writer_new(dirfd, &w, &e) == 0, "%s", e.message))
		return false;
	put_records(w);
	put_pages(w);
	return CHECK(image_writer_commit(w, m, &e) == 0, "%s", e.message);
}

static void check_records(struct image *i)
{
	const ProtobufCMessage *m, *again;
	enum image_record_type type;
	const St__File *f;
	struct error e;
	size_t pos = 0;

	CHECK(image_next_record(i, &pos, &type, &m, &e) == 1 && type == IMAGE_RECORD_CONTAINER);
	CHECK(!strcmp(((const St__Container *)m)->id, "c1") && ((const St__Container *)m)->generation == 3);
	CHECK(image_next_record(i, &pos, &type, &m, &e) == 1 && type == IMAGE_RECORD_FILE);
	f = (const St__File *)m;
	CHECK(f->id == 7 && f->flags == 02000 && f->kind_case == ST__FILE__KIND_PIPE);
	CHECK(f->pipe->data.len == 5 && !memcmp(f->pipe->data.data, "hello", 5));
	CHECK(image_next_record(i, &pos, &type, &m, &e) == 0);
	pos = 0;
	CHECK(image_next_record(i, &pos, &type, &again, &e) == 1 &&
		image_next_record(i, &pos, &type, &again, &e) == 1);
	CHECK(again == &f->base, "records are unpacked once");
}

static void test_round_trip(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	_cleanup_(image_free_p) struct image *i = NULL;
	struct image_manifest m = manifest();
	const struct image_manifest *got;
	struct stat st;
	struct error e;

	if (!make_image(d.fd, &m) || !CHECK(image_open(d.fd, &i, &e) == 0, "%s", e.message))
		return;
	got = image_manifest(i);
	CHECK(got->format_version == 1 && got->container_count == 1 && got->page_size == PAGE &&
		got->xfeatures == 0x602e7);
	CHECK(!strcmp(got->container_name, m.container_name) && !strcmp(got->container_id, "c1") &&
		!strcmp(got->kernel, "6.1.0"));
	CHECK(!strcmp(got->cpu_features, "sse avx") && !strcmp(got->created, m.created) &&
		!strcmp(got->engine, "native"));
	CHECK(got->generation == UINT64_MAX && got->statistics.total_us == 5000 &&
		got->statistics.frozen_us == 1000);
	CHECK(got->statistics.pages_data == 3 && got->statistics.pages_zero == 1 &&
		got->statistics.bytes > 3 * PAGE);
	check_records(i);
	CHECK(image_verify_pages(i, &e) == 0, "%s", e.message);
	CHECK(fstatat(d.fd, IMAGE_MANIFEST, &st, 0) == 0 && (st.st_mode & 07777) == 0600);
	CHECK(count_entries(d.fd) == 7);
}

/* Address space 6 has two pages of space "of" at 0x2000, and one of its own. */
static int make_shared(int dirfd, uint64_t of, struct error *e)
{
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	struct image_manifest m = manifest();
	uint8_t data[3 * PAGE];

	for (int i = 0; i < 3; i++)
		fill_page(data + i * PAGE, 50 + i);
	if (!CHECK(image_writer_new(dirfd, &w, e) == 0, "%s", e->message))
		return 0;
	put_records(w);
	CHECK(image_writer_shared(w, 6, 0x2000, 1, of, e) == 0 &&
		image_writer_shared(w, 6, 0x3000, 1, of, e) == 0 &&
		image_writer_pages(w, 6, 0x4000, data, 1, e) == 0 &&
		image_writer_pages(w, 5, 0x1000, data, 3, e) == 0);
	return image_writer_commit(w, &m, e);
}

static void test_shared(void)
{
	_cleanup_dir_ struct dir d = dir_new(), bad = dir_new(), own = dir_new();
	_cleanup_(image_free_p) struct image *i = NULL;
	uint8_t got[3 * PAGE], want[3 * PAGE];
	const struct image_run *r;
	struct error e;
	size_t n;

	if (!CHECK(make_shared(d.fd, 5, &e) == 0 && image_open(d.fd, &i, &e) == 0, "%s", e.message))
		return;
	r = image_runs(i, 6, &n);
	CHECK(n == 2 && r[0].kind == IMAGE_PAGES_SHARED && r[0].n_pages == 2 && r[0].offset == 5);
	fill_page(want, 51);
	fill_page(want + PAGE, 52);
	fill_page(want + 2 * PAGE, 50);
	CHECK(image_read(i, 6, 0x2000, got, sizeof(got), &e) == 0 && !memcmp(got, want, sizeof(got)));
	image_free(i);
	i = NULL;
	CHECK(make_shared(bad.fd, 7, &e) == 0 && image_open(bad.fd, &i, &e) == -EBADMSG &&
			e.kind == ERROR_CORRUPT,
		"%s", e.message);
	CHECK(make_shared(own.fd, 6, &e) < 0);
}

/* ---- chains: "base" lies in a, "middle" in b, "top" in c below one directory ---- */

struct chain {
	struct dir top;
	int fd[3];
};

static struct chain chain_new(void)
{
	static const char *const names[] = {"a", "b", "c"};
	struct chain c = {.top = dir_new()};

	for (int i = 0; i < 3; i++) {
		CHECK(mkdirat(c.top.fd, names[i], 0700) == 0);
		c.fd[i] = openat(c.top.fd, names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return c;
}

static void chain_done(struct chain *c)
{
	for (int i = 0; i < 3; i++)
		close(c->fd[i]);
	dir_done(&c->top);
}
#define _cleanup_chain_ _cleanup_(chain_done)

static void give_page(struct image_writer *w, uint64_t space, uint64_t address, unsigned seed)
{
	uint8_t buf[PAGE] = {0};
	struct error e;

	if (seed)
		fill_page(buf, seed);
	CHECK(image_writer_pages(w, space, address, buf, 1, &e) == 0);
}

/* As a checkpoint does it: what the parent has is inherited, what it has not is given. */
static void inherit(struct image_writer *w, uint64_t space, uint64_t address, size_t n, uint64_t of)
{
	struct error e;

	while (n > 0) {
		size_t k = 0;
		int r = image_writer_inherit(w, space, address, n, of, &k, &e);

		CHECK(r >= 0 && k > 0 && k <= n);
		for (size_t i = 0; r == 0 && i < k; i++)
			give_page(w, space, address + i * PAGE, 77);
		n -= k;
		address += k * PAGE;
	}
}

/* Space 4: pages 1 to 8 with seeds 1 to 8, 3 is zero; space 5 shares pages 1 to 4 of it. */
static int make_base(int fd, const struct image_manifest *m, struct error *e)
{
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;

	CHECK(image_writer_new(fd, &w, e) == 0, "%s", e->message);
	put_records(w);
	for (unsigned i = 1; i <= 8; i++)
		give_page(w, 4, i * PAGE, i == 3 ? 0 : i);
	CHECK(image_writer_shared(w, 5, PAGE, 4, 4, e) == 0);
	return image_writer_commit(w, m, e);
}

/* Space 14 is what 4 was: pages 2 and 7 are new, 8 is gone, 9 the parent does not have. Space 15 was 5. */
static int make_middle(int fd, int parent_fd, struct error *e)
{
	_cleanup_(image_free_p) struct image *parent = NULL;
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	struct image_manifest m = manifest();

	if (!CHECK(image_open(parent_fd, &parent, e) == 0, "%s", e->message))
		return -1;
	CHECK(image_writer_new(fd, &w, e) == 0);
	CHECK(image_writer_set_parent(w, parent, "/a", e) == -EINVAL);
	CHECK(image_writer_set_parent(w, parent, "../a", e) == 0);
	put_records(w);
	inherit(w, 14, PAGE, 1, 4);
	give_page(w, 14, 2 * PAGE, 102);
	inherit(w, 14, 3 * PAGE, 4, 4);
	give_page(w, 14, 7 * PAGE, 107);
	inherit(w, 14, 9 * PAGE, 1, 4);
	inherit(w, 15, PAGE, 4, 5);
	return image_writer_commit(w, &m, e);
}

/* Space 24 was 14: page 6 is new; 25 shares its pages 1 to 3. */
static int make_top(int fd, int parent_fd, struct error *e)
{
	_cleanup_(image_free_p) struct image *parent = NULL;
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	struct image_manifest m = manifest();

	if (!CHECK(image_open(parent_fd, &parent, e) == 0, "%s", e->message))
		return -1;
	CHECK(image_writer_new(fd, &w, e) == 0);
	CHECK(image_writer_set_parent(w, parent, "../b", e) == 0);
	put_records(w);
	inherit(w, 24, PAGE, 5, 14);
	give_page(w, 24, 6 * PAGE, 206);
	inherit(w, 24, 7 * PAGE, 3, 14);
	CHECK(image_writer_shared(w, 25, PAGE, 3, 24, e) == 0);
	return image_writer_commit(w, &m, e);
}

static bool make_chain(struct chain *c, struct error *e)
{
	struct image_manifest base = manifest();

	base.pre_dump = true;
	return CHECK(make_base(c->fd[0], &base, e) == 0 && make_middle(c->fd[1], c->fd[0], e) == 0 &&
			     make_top(c->fd[2], c->fd[1], e) == 0,
		"%s", e->message);
}

static bool page_is(struct image *i, uint64_t space, unsigned page, unsigned seed)
{
	uint8_t got[PAGE], want[PAGE] = {0};
	struct error e;

	if (seed)
		fill_page(want, seed);
	return image_read(i, space, page * PAGE, got, PAGE, &e) == 0 && !memcmp(got, want, PAGE);
}

static void check_top(struct image *i)
{
	static const unsigned seeds[] = {0, 1, 102, 0, 4, 5, 206, 107, 77, 77};
	struct error e;

	for (unsigned p = 1; p < ARRAY_SIZE(seeds); p++)
		CHECK(page_is(i, 24, p, seeds[p]), "page %u", p);
	for (unsigned p = 1; p < 4; p++)
		CHECK(page_is(i, 25, p, seeds[p]), "shared page %u", p);
	CHECK(image_verify_pages(i, &e) == 0, "%s", e.message);
}

static void test_chain(void)
{
	_cleanup_chain_ struct chain c = chain_new();
	_cleanup_(image_free_p) struct image *i = NULL, *b = NULL;
	const struct image_run *runs;
	struct error e;
	size_t n;

	if (!make_chain(&c, &e) || !CHECK(image_open(c.fd[2], &i, &e) == 0, "%s", e.message))
		return;
	check_top(i);
	CHECK(!strcmp(image_manifest(i)->parent, "../b") && !image_manifest(i)->pre_dump);
	runs = image_runs(i, 24, &n);
	CHECK(n == 8 && runs[0].layer == 2 && runs[1].layer == 1 && runs[2].kind == IMAGE_PAGES_ZERO &&
		runs[4].layer == 0 && image_pages_fd(i, 2) >= 0 && image_pages_fd(i, 3) == -EBADF);
	CHECK(image_open(c.fd[1], &b, &e) == 0 && page_is(b, 15, 2, 2) && page_is(b, 15, 3, 0));
}

/* A parent of which nothing is taken is none. */
static void test_no_parent(void)
{
	_cleanup_chain_ struct chain c = chain_new();
	_cleanup_(image_free_p) struct image *parent = NULL, *i = NULL;
	struct image_manifest m = manifest();
	struct image_writer *w = NULL;
	struct error e;

	CHECK(make_base(c.fd[0], &m, &e) == 0 && image_open(c.fd[0], &parent, &e) == 0);
	CHECK(image_writer_new(c.fd[1], &w, &e) == 0 && image_writer_set_parent(w, parent, "../a", &e) == 0);
	put_records(w);
	inherit(w, 1, 20 * PAGE, 3, 4);
	CHECK(image_writer_commit(w, &m, &e) == 0 && image_writer_checksum(w) != 0);
	CHECK(image_open(c.fd[1], &i, &e) == 0 && !image_manifest(i)->parent &&
		image_manifest(i)->checksum == image_writer_checksum(w));
	image_writer_free(w);
}

static void check_open_fails(int fd, int want, enum error_kind kind, const char *text)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	struct error e = {0};
	int r = image_open(fd, &i, &e);

	CHECK(r == want && e.kind == kind && strstr(e.message, text), "%d, %s", r, e.message);
}

static void test_bad_parents(void)
{
	_cleanup_chain_ struct chain c = chain_new();
	struct image_manifest m = manifest();
	struct error e;
	char byte;
	int fd;

	if (!make_chain(&c, &e))
		return;
	CHECK(renameat(c.top.fd, "a", c.top.fd, "z") == 0);
	check_open_fails(c.fd[2], -ENOENT, ERROR_STATE, "../a");
	CHECK(renameat(c.top.fd, "z", c.top.fd, "a") == 0);
	/* its page data, its index, then another image altogether */
	fd = openat(c.fd[0], "pages.img", O_RDWR | O_CLOEXEC);
	CHECK(pread(fd, &byte, 1, 100) == 1 && (byte ^= 1, pwrite(fd, &byte, 1, 100) == 1));
	{
		_cleanup_(image_free_p) struct image *i = NULL;

		CHECK(image_open(c.fd[2], &i, &e) == 0 && image_verify_pages(i, &e) == -EBADMSG &&
			strstr(e.message, "parent"));
	}
	close(fd);
	image_remove(c.fd[0]);
	check_open_fails(c.fd[2], -ENOENT, ERROR_STATE, "parent \"../a\": incomplete image");
	CHECK(make_base(c.fd[0], &m, &e) == 0);
	check_open_fails(c.fd[2], -ESTALE, ERROR_STATE, "not the image's parent any more");
	/* a circle */
	CHECK(unlinkat(c.top.fd, "a", AT_REMOVEDIR) < 0);
	image_remove(c.fd[0]);
	CHECK(unlinkat(c.top.fd, "a", AT_REMOVEDIR) == 0 && symlinkat("b", c.top.fd, "a") == 0);
	check_open_fails(c.fd[2], -ELOOP, ERROR_CORRUPT, "circle");
}

static void test_squash(void)
{
	_cleanup_chain_ struct chain c = chain_new();
	_cleanup_dir_ struct dir out = dir_new();
	struct image *i = NULL;
	struct error e;

	if (!make_chain(&c, &e))
		return;
	CHECK(image_squash(image_open, c.fd[2], out.fd, NULL, &e) == 0, "%s", e.message);
	CHECK(image_squash(image_open, c.fd[2], out.fd, NULL, &e) == -EEXIST, "%s", e.message);
	CHECK(image_squash(image_open, c.fd[2], c.fd[2], NULL, &e) == 0, "%s", e.message);
	image_remove(c.fd[0]);
	image_remove(c.fd[1]);
	for (int k = 0; k < 2; k++) {
		if (!CHECK(image_open(k ? c.fd[2] : out.fd, &i, &e) == 0, "%s", e.message))
			continue;
		check_top(i);
		check_records(i);
		CHECK(!image_manifest(i)->parent && image_manifest(i)->generation == UINT64_MAX);
		image_free(i);
		i = NULL;
	}
}

/* All rounds of pre-copy go into one image. */
static void test_rounds(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	_cleanup_(image_free_p) struct image *i = NULL;
	struct image_manifest m = manifest();
	struct image_writer *w = NULL;
	struct error e;

	CHECK(image_writer_new(d.fd, &w, &e) == 0);
	put_records(w);
	for (unsigned p = 1; p <= 8; p++)
		give_page(w, 4, p * PAGE, p == 3 ? 0 : p);
	CHECK(image_writer_round(w, &e) == 0);
	inherit(w, 14, PAGE, 1, 4);
	give_page(w, 14, 2 * PAGE, 102);
	inherit(w, 14, 3 * PAGE, 4, 4);
	give_page(w, 14, 7 * PAGE, 107);
	inherit(w, 14, 9 * PAGE, 1, 4);
	CHECK(image_writer_round(w, &e) == 0);
	inherit(w, 24, PAGE, 5, 14);
	give_page(w, 24, 6 * PAGE, 206);
	inherit(w, 24, 7 * PAGE, 3, 14);
	CHECK(image_writer_shared(w, 25, PAGE, 3, 24, &e) == 0);
	CHECK(image_writer_commit(w, &m, &e) == 0, "%s", e.message);
	image_writer_free(w);
	if (CHECK(image_open(d.fd, &i, &e) == 0, "%s", e.message))
		check_top(i);
	CHECK(!image_manifest(i)->parent);
}

static void test_index(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	_cleanup_(image_free_p) struct image *i = NULL;
	struct image_manifest m = manifest();
	uint8_t want[4 * PAGE] = {0}, got[4 * PAGE];
	const struct image_run *r;
	struct error e;
	size_t n;

	if (!make_image(d.fd, &m) || !CHECK(image_open(d.fd, &i, &e) == 0, "%s", e.message))
		return;
	r = image_runs(i, 9, &n);
	CHECK(n == 3 && r[0].address == 0x1000 && r[0].kind == IMAGE_PAGES_DATA && r[1].address == 0x2000 &&
		r[1].kind == IMAGE_PAGES_ZERO && r[1].n_pages == 1 && r[2].address == 0x3000);
	r = image_runs(i, 2, &n);
	CHECK(n == 1 && r->address == 0x7fff0000 && r->n_pages == 1);
	image_runs(i, 1, &n);
	CHECK(n == 0);
	image_runs(i, 10, &n);
	CHECK(n == 0);
	image_runs(i, UINT64_MAX, &n);
	CHECK(n == 0);
	fill_page(want + PAGE, 1);
	fill_page(want + 3 * PAGE, 3);
	CHECK(image_read(i, 9, 0, got, sizeof(got), &e) == 0 && !memcmp(got, want, sizeof(got)));
	CHECK(image_read(i, 9, 0x1010, got, 0x2800, &e) == 0 && !memcmp(got, want + 0x1010, 0x2800));
	CHECK(image_read(i, 3, 0, got, PAGE, &e) == 0 && got[0] == 0);
}

/* Many runs in random order, with staged, direct and reserved data: the checksums and the contents must agree. */
static void test_large(void)
{
	enum { N = 700 };
	_cleanup_dir_ struct dir d = dir_new();
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	_cleanup_(image_free_p) struct image *i = NULL;
	_cleanup_free_ uint8_t *buf = malloc(N * PAGE), *got = malloc(N * PAGE);
	struct image_manifest m = manifest();
	struct error e;
	uint64_t offset;

	for (unsigned k = 0; k < N; k++)
		fill_page(buf + k * PAGE, k);
	CHECK(image_writer_new(d.fd, &w, &e) == 0);
	put_records(w);
	for (unsigned k = 0; k < N;) {
		unsigned n = MIN(k % 97 == 96 ? 200U : k % 5 + 1, N - k), where = (N - k - n) * PAGE;

		if (k % 3 == 1) {
			CHECK(image_writer_reserve(w, 1, where, n, &offset, &e) == 0);
			CHECK(pwrite_all(image_writer_pages_fd(w), buf + where, n * PAGE, offset) == 0);
		} else {
			CHECK(image_writer_pages(w, 1, where, buf + where, n, &e) == 0);
		}
		k += n;
	}
	CHECK(image_writer_commit(w, &m, &e) == 0, "%s", e.message);
	if (!CHECK(image_open(d.fd, &i, &e) == 0, "%s", e.message))
		return;
	CHECK(image_verify_pages(i, &e) == 0, "%s", e.message);
	CHECK(image_read(i, 1, 0, got, N * PAGE, &e) == 0 && !memcmp(got, buf, N * PAGE));
	CHECK(pwrite(openat(d.fd, IMAGE_PAGES, O_WRONLY), "x", 1, 77 * PAGE + 5) == 1);
	CHECK(image_verify_pages(i, &e) == -EBADMSG && e.kind == ERROR_CORRUPT &&
			strstr(e.message, "pages.img: offset 262144"),
		"%s", e.message);
}

/* ---- stages ---- */

enum { STAGE_THREADS = 3, STAGE_PAGES = 3000, STAGE_SPACES = 2 };

struct staging {
	struct image_stage *stage;
	pthread_t thread;
	unsigned n;
	int result;
};

/* Of each space and address another page; every seventh zero, and a long row of zeros. */
static void stage_page(uint8_t *p, uint64_t space, uint64_t k)
{
	if (k % 7 == 3 || (k >= 1000 && k < 1300))
		memset(p, 0, PAGE);
	else
		fill_page(p, space << 20 | k);
}

/* Every third piece of both spaces, pieces of all lengths. */
static void *stage_pieces(void *arg)
{
	struct staging *me = arg;
	struct error e;

	for (uint64_t space = 1; space <= STAGE_SPACES; space++)
		for (unsigned k = 0, piece = 0, len; k < STAGE_PAGES && me->result == 0; k += len, piece++) {
			size_t n;

			len = MIN(1 + piece * piece % 701, STAGE_PAGES - k);
			for (unsigned at = k;
				piece % STAGE_THREADS == me->n && at < k + len && me->result == 0; at += n) {
				uint8_t *to = image_stage_room(me->stage, k + len - at, &n);

				for (unsigned i = 0; i < n; i++)
					stage_page(to + i * PAGE, space, at + i);
				me->result = image_stage_add(me->stage, space, (uint64_t)at * PAGE, n, &e);
			}
		}
	return NULL;
}

static bool staged_pages_are_right(struct image *i)
{
	uint8_t want[PAGE], got[PAGE];
	struct error e;

	for (uint64_t space = 1; space <= STAGE_SPACES; space++)
		for (unsigned k = 0; k < STAGE_PAGES; k++) {
			stage_page(want, space, k);
			if (image_read(i, space, (uint64_t)k * PAGE, got, PAGE, &e) < 0 ||
				memcmp(want, got, PAGE) != 0)
				return CHECK(false, "space %d page %u", (int)space, k);
		}
	return true;
}

/* What several threads write at once, with what goes the other ways. */
static void test_stages(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	_cleanup_(image_free_p) struct image *i = NULL;
	struct staging threads[STAGE_THREADS] = {};
	struct image_manifest m = manifest();
	struct image_statistics s;
	uint8_t page[PAGE], got[PAGE];
	uint64_t offset, zeros = 0;
	struct error e;

	CHECK(image_writer_new(d.fd, &w, &e) == 0);
	put_records(w);
	fill_page(page, 77);
	CHECK(image_writer_pages(w, 9, 0, page, 1, &e) == 0);
	for (unsigned k = 0; k < STAGE_THREADS; k++) {
		threads[k].n = k;
		CHECK(image_writer_stage(w, &threads[k].stage, &e) == 0);
		CHECK(pthread_create(&threads[k].thread, NULL, stage_pieces, &threads[k]) == 0);
	}
	CHECK(image_writer_reserve(w, 9, PAGE, 1, &offset, &e) == 0);
	CHECK(pwrite_all(image_writer_pages_fd(w), page, PAGE, offset) == 0);
	for (unsigned k = 0; k < STAGE_THREADS; k++)
		CHECK(pthread_join(threads[k].thread, NULL) == 0 && threads[k].result == 0);
	CHECK(image_writer_flush(w, &e) == 0, "%s", e.message);
	image_writer_count(w, &s);
	for (unsigned k = 0; k < STAGE_PAGES; k++)
		zeros += k % 7 == 3 || (k >= 1000 && k < 1300);
	CHECK(s.pages_zero == STAGE_SPACES * zeros &&
		s.pages_data == STAGE_SPACES * (STAGE_PAGES - zeros) + 2);
	CHECK(image_writer_commit(w, &m, &e) == 0, "%s", e.message);
	if (!CHECK(image_open(d.fd, &i, &e) == 0, "%s", e.message))
		return;
	CHECK(image_verify_pages(i, &e) == 0, "%s", e.message);
	CHECK(staged_pages_are_right(i));
	for (unsigned k = 0; k < 2; k++)
		CHECK(image_read(i, 9, k * PAGE, got, PAGE, &e) == 0 && !memcmp(page, got, PAGE));
}

/* A little from one thread makes a file of just that. */
static void test_small_stage(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	_cleanup_(image_free_p) struct image *i = NULL;
	struct image_manifest m = manifest();
	struct image_stage *stage;
	struct image_statistics s;
	struct error e;
	size_t n;

	CHECK(image_writer_new(d.fd, &w, &e) == 0);
	put_records(w);
	CHECK(image_writer_stage(w, &stage, &e) == 0);
	for (unsigned k = 0; k < 300; k += n) {
		uint8_t *to = image_stage_room(stage, 100 - k % 100, &n);

		CHECK(n > 0 && n <= 100);
		for (unsigned p = 0; p < n; p++)
			fill_page(to + p * PAGE, k + p);
		CHECK(image_stage_add(stage, 5, (k + (k >= 100)) * PAGE, n, &e) == 0);
	}
	CHECK(image_stage_add(stage, 0, 0, 1, &e) < 0 && image_stage_add(stage, 5, 5, 1, &e) < 0);
	CHECK(image_writer_commit(w, &m, &e) == 0, "%s", e.message);
	image_writer_count(w, &s);
	CHECK(s.pages_data == 300 && s.bytes >= 300 * PAGE);
	if (!CHECK(image_open(d.fd, &i, &e) == 0, "%s", e.message))
		return;
	CHECK(image_verify_pages(i, &e) == 0, "%s", e.message);
	image_runs(i, 5, &n);
	CHECK(n == 2, "%zu runs", n);
}

static void test_writer_errors(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	struct image_writer *w = NULL, *other = NULL;
	struct image_manifest m = manifest();
	St__File f = ST__FILE__INIT;
	uint8_t page[PAGE] = {1};
	struct error e;

	CHECK(image_writer_new(d.fd, &w, &e) == 0);
	CHECK(image_writer_new(d.fd, &other, &e) == -EEXIST && e.kind == ERROR_STATE && !other);
	CHECK(image_writer_record(w, IMAGE_RECORD_FILE, &f.base, &e) < 0,
		"the first record must be the container");
	put_records(w);
	CHECK(image_writer_pages(w, 0, 0, page, 1, &e) < 0);
	CHECK(image_writer_pages(w, 1, 5, page, 1, &e) < 0);
	CHECK(image_writer_pages(w, 1, 0, page, 1, &e) == 0 && image_writer_pages(w, 1, 0, page, 1, &e) == 0);
	CHECK(image_writer_commit(w, &m, &e) == -EINVAL && e.kind == ERROR_INTERNAL, "the same page twice");
	CHECK(count_entries(d.fd) > 0);
	image_writer_free(w);
	CHECK(count_entries(d.fd) == 0, "a failed checkpoint leaves nothing");
}

/* The process that writes dies: whoever survives it removes what it made, and only that. */
static void test_killed_writer(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	struct image_manifest m = manifest();
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		setenv("FAULT", "checkpoint-manifest", 1);
		make_image(d.fd, &m);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	CHECK(faccessat(d.fd, IMAGE_MANIFEST, F_OK, 0) < 0 && count_entries(d.fd) == 7);
	CHECK(mkdirat(d.fd, "other", 0700) == 0);
	image_remove(d.fd);
	CHECK(count_entries(d.fd) == 1);
}

/* A full disk, wherever it strikes: an error that names the file, and an empty directory. */
static void test_full_disk(void)
{
	static const struct {
		size_t limit;
		const char *file;
	} cases[] = {{64, IMAGE_INDEX}, {400, IMAGE_MANIFEST}, {8 * PAGE, IMAGE_PAGES},
		{100 * PAGE, IMAGE_PAGES}, {220 * PAGE, IMAGE_PAGES}};
	_cleanup_free_ uint8_t *buf = malloc(200 * PAGE);
	struct image_manifest m = manifest();
	struct rlimit old, now;

	memset(buf, 1, 200 * PAGE);
	signal(SIGXFSZ, SIG_IGN);
	CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
	for (size_t k = 0; k < ARRAY_SIZE(cases); k++) {
		_cleanup_dir_ struct dir d = dir_new();
		struct image_writer *w = NULL;
		struct image_stage *stage;
		struct error e;
		int r;

		now = old;
		now.rlim_cur = cases[k].limit;
		CHECK(setrlimit(RLIMIT_FSIZE, &now) == 0);
		CHECK(image_writer_new(d.fd, &w, &e) == 0);
		CHECK(image_writer_stage(w, &stage, &e) == 0);
		put_records(w);
		r = image_writer_pages(w, 1, 0, buf, k < 2 ? 0 : 200, &e);
		for (size_t at = 0, n; k == 4 && at < 200 && r == 0; at += n) {
			void *to = image_stage_room(stage, 200 - at, &n);

			memcpy(to, buf, n * PAGE);
			r = image_stage_add(stage, 2, at * PAGE, n, &e);
		}
		if (r == 0)
			r = image_writer_commit(w, &m, &e);
		CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
		CHECK(r == -EFBIG && strstr(e.message, cases[k].file), "%zu: %s", k, e.message);
		image_writer_free(w);
		CHECK(count_entries(d.fd) == 0);
	}
}

/* The whole of an image in memory, so that it can be damaged in one place after the other. */
struct copy {
	char *data[4];
	size_t len[4];
};
static const char *const files[4] = {IMAGE_MANIFEST, IMAGE_CHECKPOINT, IMAGE_INDEX, IMAGE_PAGES};

static void put_file(int dirfd, const char *name, const void *data, size_t len)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write_all(fd, data, len) < 0)
		abort();
	close(fd);
}

/* Opens and reads everything: 0, or the error; never anything else than an error of the right kind. */
static int read_all(int dirfd, struct error *e)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	const ProtobufCMessage *m;
	enum image_record_type type;
	size_t pos = 0;
	int r = image_open(dirfd, &i, e);

	while (r == 0 && (r = image_next_record(i, &pos, &type, &m, e)) == 1)
		r = 0;
	return r < 0 ? r : image_verify_pages(i, e);
}

static bool load_copy(int dirfd, struct copy *c)
{
	for (int f = 0; f < 4; f++)
		if (!CHECK(read_file_at(dirfd, files[f], 1 << 20, &c->data[f], &c->len[f]) == 0))
			return false;
	return true;
}

static void free_copy(struct copy *c)
{
	for (int f = 0; f < 4; f++)
		free(c->data[f]);
}

static bool good_error(const struct error *e, int f)
{
	return (e->kind == ERROR_CORRUPT || e->kind == ERROR_REFUSED || e->kind == ERROR_STATE) &&
	       e->message[0] && (e->kind == ERROR_REFUSED || strstr(e->message, files[f]));
}

static void test_truncation(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	_cleanup_(free_copy) struct copy c = {0};
	struct image_manifest m = manifest();
	struct error e;

	if (!make_image(d.fd, &m) || !load_copy(d.fd, &c))
		return;
	for (int f = 0; f < 4; f++) {
		for (size_t n = 0; n < c.len[f]; n += f == 3 ? 511 : 1) {
			put_file(d.fd, files[f], c.data[f], n);
			if (!CHECK(read_all(d.fd, &e) < 0 && good_error(&e, f), "%s of %zu bytes: %s",
				    files[f], n, e.message))
				return;
		}
		put_file(d.fd, files[f], c.data[f], c.len[f]);
		unlinkat(d.fd, files[f], 0);
		CHECK(read_all(d.fd, &e) < 0 && strstr(e.message, files[f]), "%s", e.message);
		if (f == 0)
			CHECK(e.code == -ENOENT && strstr(e.message, "incomplete image"), "%s", e.message);
		put_file(d.fd, files[f], c.data[f], c.len[f]);
	}
	CHECK(read_all(d.fd, &e) == 0);
}

/* Every single bit (of page data: some): all of them are under a check. */
static void test_bit_flips(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	_cleanup_(free_copy) struct copy c = {0};
	struct image_manifest m = manifest();
	struct error e;

	if (!make_image(d.fd, &m) || !load_copy(d.fd, &c))
		return;
	for (int f = 0; f < 4; f++) {
		int fd = openat(d.fd, files[f], O_WRONLY);

		for (size_t bit = 0; bit < c.len[f] * 8; bit += f == 3 ? 509 : 1) {
			char byte = c.data[f][bit / 8] ^ (1 << bit % 8);

			CHECK(pwrite(fd, &byte, 1, bit / 8) == 1);
			if (!CHECK(read_all(d.fd, &e) < 0 && good_error(&e, f), "%s bit %zu: %s", files[f],
				    bit, e.message))
				return;
			CHECK(pwrite(fd, c.data[f] + bit / 8, 1, bit / 8) == 1);
		}
		close(fd);
	}
	CHECK(read_all(d.fd, &e) == 0);
}

static void test_refused(void)
{
	struct image_files f = {0};
	struct image_manifest m = manifest(), got;
	_cleanup_(image_buffer_done) struct image_buffer b = {0};
	_cleanup_(arena_done) struct arena a = {0};
	struct error e;
	char *version;

	m.architecture = "aarch64";
	CHECK(image_manifest_build(&m, &f, &b, &e) == 0);
	CHECK(image_manifest_parse(&a, (char *)b.data, b.len, &got, &f, &e) == -ENOTSUP &&
			e.kind == ERROR_REFUSED && strstr(e.message, "aarch64"),
		"%s", e.message);
	b.len = 0;
	m = manifest();
	m.page_size = 16384;
	CHECK(image_manifest_build(&m, &f, &b, &e) == 0);
	CHECK(image_manifest_parse(&a, (char *)b.data, b.len, &got, &f, &e) == -ENOTSUP &&
			strstr(e.message, "16384"),
		"%s", e.message);
	b.len = 0;
	m = manifest();
	CHECK(image_manifest_build(&m, &f, &b, &e) == 0);
	version = memmem(b.data, b.len, "version\": 1", 11);
	version[10] = '2';
	CHECK(image_manifest_parse(&a, (char *)b.data, b.len, &got, &f, &e) == -ENOTSUP &&
			strstr(e.message, "format version 2"),
		"%s", e.message);
}

/* Records that a newer stasis could write: an optional one is skipped, a critical one refused. */
static void test_unknown_records(void)
{
	for (unsigned flags = 0; flags < 3; flags++) {
		_cleanup_(image_buffer_done) struct image_buffer b = {0};
		St__Container c = ST__CONTAINER__INIT;
		struct image_digest d = {0}, got;
		uint8_t *p;
		struct error e;
		int r;

		CHECK(image_records_begin(&b, &e) == 0);
		CHECK(image_records_add(&b, IMAGE_RECORD_CONTAINER, 1, &c.base, &d, &e) == 0);
		CHECK(image_records_add(&b, IMAGE_RECORD_CONTAINER, flags, &c.base, &d, &e) == 0);
		/* The second one becomes a type of the future; its checksum and the digest are made anew. */
		p = b.data + b.len - IMAGE_RECORD_FRAME;
		put_le32(p, 4711);
		put_le64(p + 16, image_hash(p, 16));
		d = (struct image_digest){2, image_hash((uint64_t[]){0, get_le64(p - 8)}, 16)};
		d.hash = image_hash((uint64_t[]){d.hash, get_le64(p + 16)}, 16);
		CHECK(image_records_end(&b, &d, &e) == 0);
		r = image_records_check(b.data, b.len, &got, &e);
		CHECK(flags == 0 ? r == 0 : r == -ENOTSUP && e.kind == ERROR_REFUSED, "flags %u: %s", flags,
			e.message);
	}
}

static void test_not_files(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	struct image_manifest m = manifest();
	struct error e;

	if (!make_image(d.fd, &m))
		return;
	CHECK(renameat(d.fd, IMAGE_PAGES, d.fd, "elsewhere") == 0 &&
		symlinkat("elsewhere", d.fd, IMAGE_PAGES) == 0);
	CHECK(read_all(d.fd, &e) == -ELOOP, "%s", e.message);
	CHECK(unlinkat(d.fd, IMAGE_MANIFEST, 0) == 0 && mkfifoat(d.fd, IMAGE_MANIFEST, 0600) == 0);
	CHECK(read_all(d.fd, &e) == -EBADMSG, "a FIFO neither blocks nor is read: %s", e.message);
}

static void test_compat(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	struct image_manifest m = manifest();
	struct error e;
	char buf[200];
	ssize_t n;

	if (!make_image(d.fd, &m))
		return;
	n = read_small_file_at(d.fd, "descriptors.json", buf, sizeof(buf));
	CHECK(n > 0 && !strcmp(buf, "[\"/dev/null\",\"pipe:[1]\",\"/x\\\"y\"]"), "%s", buf);
	n = read_small_file_at(d.fd, "inventory.img", buf, sizeof(buf));
	CHECK(n > 8 && get_le32(buf) == 0x58313116 && get_le32(buf + 4) == n - 8);
	CHECK(unlinkat(d.fd, "stats-dump", 0) == 0 && symlinkat("manifest.json", d.fd, "stats-dump") == 0);
	CHECK(image_write_stats(d.fd, IMAGE_DUMP, &m.statistics, &e) == 0, "replaces what is there: %s",
		e.message);
	n = read_small_file_at(d.fd, "stats-dump", buf, sizeof(buf));
	CHECK(n > 12 && get_le32(buf) == 0x55105940 && get_le32(buf + 4) == 0x57093306 &&
		get_le32(buf + 8) == n - 12);
}

/* What a checkpoint of a small container spends here: printed, and bounded very generously. */
static void test_speed(void)
{
	_cleanup_free_ uint8_t *buf = malloc(256 * PAGE);
	struct image_manifest m = manifest();
	uint64_t best = UINT64_MAX;

	memset(buf, 7, 256 * PAGE);
	for (int k = 0; k < 20; k++) {
		_cleanup_dir_ struct dir d = dir_new();
		struct image_writer *w = NULL;
		struct timespec a, b;
		struct error e;

		clock_gettime(CLOCK_MONOTONIC, &a);
		CHECK(image_writer_new(d.fd, &w, &e) == 0);
		put_records(w);
		for (int p = 0; p < 256; p += 8)
			CHECK(image_writer_pages(w, 1, p * PAGE * 2, buf + p * PAGE, 8, &e) == 0);
		CHECK(image_writer_commit(w, &m, &e) == 0);
		image_writer_free(w);
		clock_gettime(CLOCK_MONOTONIC, &b);
		best = MIN(
			best, (uint64_t)((b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000));
	}
	printf("# image of 1 MiB: %llu us\n", (unsigned long long)best);
	CHECK(best < 20000);
}

/* ---- packed page data ---- */

enum { N_PACKED = 200 };

/* Page k of the packed image: text, noise, the same noise again, the contents of page k - 50, zeros, in turn. */
static void fill_packed(uint8_t *page, unsigned k)
{
	uint64_t x = 88172645463325252ull + (k % 5 == 2 ? 0 : k);

	if (k % 5 == 3 && k >= 50)
		k -= 50 * (k / 50);
	memset(page, k % 5 == 4 ? 0 : 'a' + k % 23, PAGE);
	for (unsigned i = 0; i < PAGE && (k % 5 == 1 || k % 5 == 2);
		i += 8, x ^= x << 13, x ^= x >> 7, x ^= x << 17)
		memcpy(page + i, &x, 8);
	if (k % 5 == 0)
		memcpy(page, &k, sizeof(k));
}

static int make_packed(int dirfd, const struct image_packing *how, unsigned pages, struct error *e)
{
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	struct image_manifest m = manifest();
	uint8_t page[PAGE];
	int r = image_writer_new(dirfd, &w, e);

	if (r == 0)
		r = image_writer_pack(w, how, e);
	if (r < 0)
		return r;
	put_records(w);
	for (unsigned k = 0; k < pages && r == 0; k++) {
		fill_packed(page, k);
		r = image_writer_pages(w, 1 + k % 2, (uint64_t)k * PAGE, page, 1, e);
	}
	return r < 0 ? r : image_writer_commit(w, &m, e);
}

static void check_packed(int dirfd, bool compressed)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	struct image_decoder *d = NULL;
	uint8_t want[PAGE], got[PAGE];
	struct error e = {0};
	const void *data;
	size_t n;

	if (!CHECK(image_open(dirfd, &i, &e) == 0 && image_verify_pages(i, &e) == 0 &&
			    image_decoder_new(i, &d, &e) == 0,
		    "%s", e.message))
		return;
	CHECK((image_pages_fd(i, 0) < 0) == compressed);
	for (unsigned k = 0; k < N_PACKED; k++) {
		unsigned page = k * 37 % N_PACKED; /* all of them, jumping */
		const struct image_run *r = image_runs(i, 1 + page % 2, &n);
		uint64_t address = (uint64_t)page * PAGE;

		fill_packed(want, page);
		CHECK(image_read(i, 1 + page % 2, address, got, PAGE, &e) == 0 && !memcmp(got, want, PAGE),
			"page %u", page);
		while (n > 1 && r->address + r->n_pages * PAGE <= address)
			r++, n--;
		if (r->kind != IMAGE_PAGES_DATA)
			continue;
		CHECK(image_decode(i, d, 0, r->offset + (address - r->address), &data, &n, &e) == 0 &&
			n >= PAGE && !memcmp(data, want, PAGE));
	}
	image_decoder_free(d);
}

static void test_packed(void)
{
	static const struct image_packing how[] = {{.codec = IMAGE_CODEC_LZ4},
		{.codec = IMAGE_CODEC_ZSTD, .level = 1},
		{.codec = IMAGE_CODEC_ZSTD, .level = 19, .dedup = true},
		{.codec = IMAGE_CODEC_LZ4, .dedup = true}, {.dedup = true}};

	for (size_t k = 0; k < ARRAY_SIZE(how); k++) {
		_cleanup_dir_ struct dir d = dir_new();
		_cleanup_(image_free_p) struct image *i = NULL;
		struct image_sizes s;
		struct error e;

		if (!CHECK(make_packed(d.fd, &how[k], N_PACKED, &e) == 0, "%zu: %s", k, e.message))
			continue;
		CHECK(count_entries(d.fd) == 7, "%u files", count_entries(d.fd));
		check_packed(d.fd, how[k].codec != IMAGE_CODEC_NONE);
		CHECK(image_open(d.fd, &i, &e) == 0);
		image_sizes(i, &s);
		CHECK(s.memory == N_PACKED * PAGE && s.zero == N_PACKED / 5 * PAGE &&
			s.codec == how[k].codec && s.data + s.duplicate == N_PACKED / 5 * 4 * PAGE &&
			s.shared == 0 && s.parent == 0);
		CHECK((s.duplicate >= N_PACKED / 5 * PAGE) == how[k].dedup && s.stored <= s.data);
		CHECK(image_data_is_used_once(i) == !how[k].dedup, "%zu", k);
		CHECK(how[k].codec == IMAGE_CODEC_NONE ||
			(s.compressed_pieces > 0 && s.stored < s.data * 3 / 4));
	}
}

static int refuse_to_go_on(void *arg, struct error *e)
{
	return error_set(e, -ECANCELED, ERROR_SYSTEM, "cancelled");
}

/* What does not get smaller is stored as it is, for older readers too; and who is asked may say no. */
static void test_not_packed(void)
{
	enum { N = 3000 };
	_cleanup_dir_ struct dir d = dir_new();
	_cleanup_(image_free_p) struct image *i = NULL;
	_cleanup_free_ uint64_t *noise = malloc(N * PAGE);
	struct image_packing how = {.codec = IMAGE_CODEC_LZ4, .dedup = true}, no = how;
	struct image_manifest m = manifest();
	struct image_writer *w = NULL;
	uint64_t x = 1;
	char text[8192];
	struct error e;
	ssize_t n;

	for (size_t k = 0; k < N * PAGE / 8; k++, x ^= x << 13, x ^= x >> 7, x ^= x << 17)
		noise[k] = x;
	CHECK(image_writer_new(d.fd, &w, &e) == 0 && image_writer_pack(w, &how, &e) == 0);
	put_records(w);
	CHECK(image_writer_pages(w, 1, 0, noise, N, &e) == 0);
	CHECK(image_writer_commit(w, &m, &e) == 0, "%s", e.message);
	image_writer_free(w);
	CHECK(count_entries(d.fd) == 7 && image_open(d.fd, &i, &e) == 0 && image_pages_fd(i, 0) >= 0);
	n = read_small_file_at(d.fd, IMAGE_MANIFEST, text, sizeof(text));
	CHECK(n > 0 && !strstr(text, "compressed-pages"));
	image_remove(d.fd);
	no.go_on = refuse_to_go_on;
	CHECK(make_packed(d.fd, &no, N_PACKED, &e) == -ECANCELED && count_entries(d.fd) == 0);
}

static void test_packed_full_disk(void)
{
	struct image_packing how = {.codec = IMAGE_CODEC_LZ4, .dedup = true};
	struct rlimit old, now;
	bool at_raw = false, at_packed = false;

	signal(SIGXFSZ, SIG_IGN);
	CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
	for (rlim_t limit = 16 * PAGE; limit < (N_PACKED + 1) * PAGE; limit += 8 * PAGE) {
		_cleanup_dir_ struct dir d = dir_new();
		struct error e;
		int r;

		now = old;
		now.rlim_cur = limit;
		CHECK(setrlimit(RLIMIT_FSIZE, &now) == 0);
		r = make_packed(d.fd, &how, N_PACKED, &e);
		CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
		at_raw |= r < 0;
		at_packed |= r == 0;
		CHECK(r == 0 || (r == -EFBIG && strstr(e.message, IMAGE_PAGES) && count_entries(d.fd) == 0),
			"%s", e.message);
	}
	CHECK(at_raw && at_packed);
}

static void test_packed_damage(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	_cleanup_(free_copy) struct copy c = {0};
	struct image_packing how = {.codec = IMAGE_CODEC_LZ4, .dedup = true};
	struct error e;

	if (!CHECK(make_packed(d.fd, &how, 60, &e) == 0, "%s", e.message) || !load_copy(d.fd, &c))
		return;
	for (int f = 2; f < 4; f++) {
		int fd = openat(d.fd, files[f], O_WRONLY);

		for (size_t bit = 0; bit < c.len[f] * 8; bit += f == 3 ? 509 : 1) {
			char byte = c.data[f][bit / 8] ^ (1 << bit % 8);

			CHECK(pwrite(fd, &byte, 1, bit / 8) == 1);
			if (!CHECK(read_all(d.fd, &e) < 0 && good_error(&e, f), "%s bit %zu: %s", files[f],
				    bit, e.message))
				return;
			CHECK(pwrite(fd, c.data[f] + bit / 8, 1, bit / 8) == 1);
		}
		for (size_t len = 0; len < c.len[f]; len += f == 3 ? 251 : 1) {
			put_file(d.fd, files[f], c.data[f], len);
			CHECK(read_all(d.fd, &e) < 0 && good_error(&e, f));
		}
		put_file(d.fd, files[f], c.data[f], c.len[f]);
		close(fd);
	}
	CHECK(read_all(d.fd, &e) == 0, "%s", e.message);
}

/* What no checksum tells: a frame that gives less or more, or another codec's. */
static void test_wrong_frames(void)
{
	_cleanup_dir_ struct dir d = dir_new();
	struct image_packing how = {.codec = IMAGE_CODEC_ZSTD, .level = 1};
	_cleanup_(free_copy) struct copy c = {0};
	uint8_t got[PAGE];
	struct error e;

	if (!CHECK(make_packed(d.fd, &how, 60, &e) == 0, "%s", e.message) || !load_copy(d.fd, &c))
		return;
	for (size_t at = 0; at + 8 < c.len[3]; at += 97) {
		_cleanup_(image_free_p) struct image *i = NULL;
		char bytes[8] = {0};

		memset(bytes, (int)at, sizeof(bytes));
		put_file(d.fd, files[3], c.data[3], c.len[3]);
		CHECK(pwrite(openat(d.fd, files[3], O_WRONLY), bytes, sizeof(bytes), at) == 8);
		CHECK(image_open(d.fd, &i, &e) == 0);
		for (unsigned k = 0; k < 60; k++) {
			int r = image_read(i, 1 + k % 2, (uint64_t)k * PAGE, got, PAGE, &e);

			CHECK(r == 0 || (r == -EBADMSG && e.kind == ERROR_CORRUPT));
		}
	}
}

static void test_codec_names(void)
{
	enum image_codec codec;
	int level;

	CHECK(image_codec_parse("none", &codec, &level) == 0 && codec == IMAGE_CODEC_NONE);
	CHECK(image_codec_parse("lz4", &codec, &level) == 0 && codec == IMAGE_CODEC_LZ4);
	CHECK(image_codec_parse("zstd", &codec, &level) == 0 && codec == IMAGE_CODEC_ZSTD && level == 1);
	CHECK(image_codec_parse("zstd:19", &codec, &level) == 0 && level == 19);
	CHECK(image_codec_parse("zstd:20", &codec, &level) == -ERANGE);
	CHECK(image_codec_parse("zstd:0", &codec, &level) == -ERANGE);
	for (const char *const *bad =
			(const char *const[]){"", "zstd:", "zstd:-1", "zstd:1x", "lz4:1", "lz", "gzip", NULL};
		*bad; bad++)
		CHECK(image_codec_parse(*bad, &codec, &level) == -EINVAL, "%s", *bad);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"what is written is read", test_round_trip},
		{"the index is sorted and bisected, holes are zeros", test_index},
		{"pages of another address space", test_shared},
		{"a chain of parents", test_chain},
		{"a parent without use", test_no_parent},
		{"missing, changed and circular parents", test_bad_parents},
		{"a chain becomes one image", test_squash},
		{"rounds become one image", test_rounds},
		{"staged, direct and reserved pages, checksums", test_large},
		{"pages by several threads", test_stages},
		{"a few pages by one thread", test_small_stage},
		{"the writer's errors leave nothing behind", test_writer_errors},
		{"a killed writer", test_killed_writer},
		{"a full disk", test_full_disk},
		{"truncation at every byte", test_truncation},
		{"every bit flipped", test_bit_flips},
		{"other version, architecture, page size", test_refused},
		{"unknown records", test_unknown_records},
		{"links and FIFOs are not followed", test_not_files},
		{"files for CRIU's callers", test_compat},
		{"compressed and deduplicated pages", test_packed},
		{"what does not get smaller", test_not_packed},
		{"a full disk while packing", test_packed_full_disk},
		{"packed images, damaged", test_packed_damage},
		{"frames that lie", test_wrong_frames},
		{"names of codecs", test_codec_names},
		{"speed", test_speed},
	};

	return tap_main(tests, ARRAY_SIZE(tests));
}
