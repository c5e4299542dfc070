/* SPDX-License-Identifier: Apache-2.0 */
/* Pages with contents that a parent has: found wherever they are, by their bytes, and read as if they had been stored. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "image.pb-c.h"
#include "image/image-priv.h"
#include "tap.h"

enum { PAGE = IMAGE_PAGE_SIZE, N = 300, DIRS = 4 };

struct chain { /* a, b, c and d below one directory */
	char path[64];
	int fd[DIRS];
};

static struct chain chain_new(void)
{
	static const char *const names[] = {"a", "b", "c", "d"};
	struct chain c;
	int top;

	snprintf(c.path, sizeof(c.path), "%s/stasis-repeated-test.XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(c.path))
		abort();
	top = open(c.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < DIRS; i++) {
		CHECK(mkdirat(top, names[i], 0700) == 0);
		c.fd[i] = openat(top, names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	close(top);
	return c;
}

static void chain_done(struct chain *c)
{
	for (int i = 0; i < DIRS; i++)
		close(c->fd[i]);
	CHECK(remove_tree_at(AT_FDCWD, c->path) == 0);
}
#define _cleanup_chain_ _cleanup_(chain_done)

static struct image_manifest manifest(void)
{
	return (struct image_manifest){
		.engine = "native",
		.stasis_version = "0.1.0",
		.container_id = "c1",
		.container_name = "c1",
		.container_count = 1,
		.architecture = "x86_64",
		.kernel = "6.1.0",
		.cpu_features = "sse",
		.page_size = PAGE,
		.created = "2026-11-21T09:00:00Z",
		.stdio = {"/dev/null", "/dev/null", "/dev/null"},
	};
}

/* Contents number 0 are zeros; all others differ. */
static void fill(uint8_t *page, uint32_t contents)
{
	memset(page, contents ? 'c' : 0, PAGE);
	memcpy(page, &contents, sizeof(contents));
}

struct memory { /* of one address space */
	uint64_t space;
	uint32_t contents[N];
	unsigned n;
};

/* An image in which all of the memory is given as data. */
static int make(int fd, int parent_fd, const char *path, const struct memory *of,
	const struct image_packing *how, struct error *e)
{
	_cleanup_(image_free_p) struct image *parent = NULL;
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	St__Container c = ST__CONTAINER__INIT;
	struct image_manifest m = manifest();
	int r = parent_fd < 0 ? 0 : image_open(parent_fd, &parent, e);
	uint8_t page[PAGE];

	if (r == 0)
		r = image_writer_new(fd, &w, e);
	if (r == 0 && parent)
		r = image_writer_set_parent(w, parent, path, e);
	if (r == 0)
		r = image_writer_pack(w, how, e);
	c.id = "c1";
	if (r == 0)
		r = image_writer_record(w, IMAGE_RECORD_CONTAINER, &c.base, e);
	for (unsigned i = 0; i < of->n && r == 0; i++) {
		fill(page, of->contents[i]);
		r = image_writer_pages(w, of->space, (uint64_t)i * PAGE, page, 1, e);
	}
	return r < 0 ? r : image_writer_commit(w, &m, e);
}

static void check_memory(int fd, const struct memory *of)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	uint8_t got[PAGE], want[PAGE];
	struct error e = {0};

	if (!CHECK(image_open(fd, &i, &e) == 0, "%s", e.message))
		return;
	for (unsigned k = 0; k < of->n; k++) {
		fill(want, of->contents[k]);
		CHECK(image_read(i, of->space, (uint64_t)k * PAGE, got, PAGE, &e) == 0 &&
				!memcmp(got, want, PAGE),
			"page %u", k);
	}
	CHECK(image_verify_pages(i, &e) == 0, "%s", e.message);
}

static struct image_sizes sizes_of(int fd)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	struct image_sizes s = {0};
	struct error e;

	if (CHECK(image_open(fd, &i, &e) == 0, "%s", e.message))
		image_sizes(i, &s);
	CHECK(s.memory == s.zero + s.shared + s.duplicate + s.parent + s.repeated + s.data);
	return s;
}

static bool manifest_says(int fd, const char *text)
{
	char all[8192];

	return read_small_file_at(fd, IMAGE_MANIFEST, all, sizeof(all)) > 0 && strstr(all, text);
}

/* What the base has, five pages further on; every seventh page is new, and 9, 10 and 11 are one and the same. */
static struct memory moved(uint64_t space, const struct memory *from, uint32_t anew)
{
	struct memory m = {.space = space, .n = from->n};

	for (unsigned i = 0; i < m.n; i++)
		m.contents[i] = i % 7 == 6 ? anew + i : from->contents[(i + 5) % m.n];
	m.contents[9] = m.contents[10] = m.contents[11] = anew + 9;
	return m;
}

static struct memory base_memory(void)
{
	struct memory m = {.space = 4, .n = N};

	for (unsigned i = 0; i < N; i++)
		m.contents[i] = i % 50 == 3 ? 0 : 1 + i;
	return m;
}

/* Pages with contents that others before them have. */
static unsigned duplicates(const struct memory *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->n; i++)
		for (unsigned k = 0; k < i; k++)
			if (m->contents[i] && m->contents[k] == m->contents[i]) {
				n++;
				break;
			}
	return n;
}

static const struct image_packing plain = {.dedup = true, .repeated = true};
static const struct image_packing none = {.codec = IMAGE_CODEC_NONE};

/* a, b and c: each refers to those before, however they are stored. */
static void test_found(void)
{
	static const struct image_packing packed = {
		.codec = IMAGE_CODEC_LZ4, .dedup = true, .repeated = true};
	static const struct image_packing *const hows[] = {&none, &plain, &packed};
	const struct memory base = base_memory(), second = moved(14, &base, 1000),
			    third = moved(24, &second, 2000);

	for (unsigned k = 0; k < 9; k++) {
		_cleanup_chain_ struct chain c = chain_new();
		const struct image_packing *parents = hows[k % 3], *how = hows[1 + k / 3 % 2];
		struct image_sizes s;
		struct error e;

		if (!CHECK(make(c.fd[0], -1, NULL, &base, parents, &e) == 0 &&
				    make(c.fd[1], c.fd[0], "../a", &second, how, &e) == 0 &&
				    make(c.fd[2], c.fd[1], "../b", &third, how, &e) == 0,
			    "%u: %s", k, e.message))
			continue;
		check_memory(c.fd[1], &second);
		check_memory(c.fd[2], &third);
		s = sizes_of(c.fd[1]);
		/* 42 are new, and one of three */
		CHECK(s.data == 43 * PAGE && s.duplicate == 2 * PAGE && s.parent == 0 &&
				s.repeated == s.memory - s.zero - 45 * PAGE,
			"%u: %llu", k, (unsigned long long)s.data / PAGE);
		CHECK(how != &plain || s.stored == s.data);
		s = sizes_of(c.fd[2]);
		CHECK(s.data == 43 * PAGE, "%u: %llu", k, (unsigned long long)s.data / PAGE);
		CHECK(manifest_says(c.fd[2], "\"ancestor-data\"") && manifest_says(c.fd[2], "\"../b\""));
	}
}

/* Of pages that lie together there is one run. */
static void test_runs(void)
{
	_cleanup_chain_ struct chain c = chain_new();
	_cleanup_(image_free_p) struct image *i = NULL;
	struct memory m = base_memory();
	const struct image_run *r;
	struct error e;
	size_t n;

	m.contents[3] = 7777; /* or else there are zeros between */
	m.n = 50;
	CHECK(make(c.fd[0], -1, NULL, &m, &none, &e) == 0);
	m.space = 9;
	CHECK(make(c.fd[1], c.fd[0], "../a", &m, &plain, &e) == 0, "%s", e.message);
	if (!CHECK(image_open(c.fd[1], &i, &e) == 0, "%s", e.message))
		return;
	r = image_runs(i, 9, &n);
	CHECK(n == 1 && r->layer == 1 && r->n_pages == 50 &&
		image_manifest(i)->statistics.pages_repeated == 50 &&
		image_manifest(i)->statistics.pages_data == 0);
	CHECK(sizes_of(c.fd[1]).stored == 0); /* nothing is left */
	check_memory(c.fd[1], &m);
}

/* What is not asked for is not done, and what finds nothing has no parent. */
static void test_nothing_found(void)
{
	static const struct image_packing alone = {.dedup = true}, useless = {.repeated = true};
	const struct memory base = base_memory();
	struct memory other = base;
	_cleanup_chain_ struct chain c = chain_new();
	struct error e;

	for (unsigned i = 0; i < other.n; i++)
		other.contents[i] += 5000;
	CHECK(make(c.fd[0], -1, NULL, &base, &none, &e) == 0);
	CHECK(make(c.fd[1], c.fd[0], "../a", &base, &alone, &e) == 0 &&
		make(c.fd[2], c.fd[0], "../a", &other, &plain, &e) == 0 &&
		make(c.fd[3], c.fd[0], "../a", &base, &useless, &e) == 0);
	for (int i = 1; i < DIRS; i++)
		CHECK(!manifest_says(c.fd[i], "ancestor-data") && !manifest_says(c.fd[i], "\"parent\""), "%d",
			i);
	check_memory(c.fd[2], &other);
}

/* These have the same 32 bits of the hash in the table, and not the same bytes. */
static void test_same_hash(void)
{
	static const uint32_t twins[][2] = {{28406, 182227}, {33817, 185542}, {59140, 212353}};
	struct memory a = {.space = 1, .n = 3}, b = {.space = 1, .n = 6};
	_cleanup_chain_ struct chain c = chain_new();
	uint8_t x[PAGE], y[PAGE];
	struct error e;

	for (unsigned i = 0; i < 3; i++) {
		fill(x, twins[i][0]);
		fill(y, twins[i][1]);
		CHECK(image_hash(x, PAGE) >> 32 == image_hash(y, PAGE) >> 32);
		/* The wrong one is found first. */
		a.contents[i] = b.contents[2 * i + 1] = twins[i][0];
		b.contents[2 * i] = twins[i][1];
	}
	CHECK(make(c.fd[0], -1, NULL, &a, &none, &e) == 0 &&
		make(c.fd[1], c.fd[0], "../a", &b, &plain, &e) == 0);
	check_memory(c.fd[1], &b);
	CHECK(sizes_of(c.fd[1]).repeated == 3 * PAGE && sizes_of(c.fd[1]).data == 3 * PAGE);
}

static void test_squash(void)
{
	const struct memory base = base_memory(), second = moved(14, &base, 1000),
			    third = moved(24, &second, 2000);
	_cleanup_chain_ struct chain c = chain_new();
	struct image_sizes s;
	struct error e;

	CHECK(make(c.fd[0], -1, NULL, &base, &none, &e) == 0 &&
			make(c.fd[1], c.fd[0], "../a", &second, &plain, &e) == 0 &&
			make(c.fd[2], c.fd[1], "../b", &third, &plain, &e) == 0 &&
			image_squash(image_open, c.fd[2], c.fd[3], NULL, &e) == 0 &&
			image_squash(image_open, c.fd[2], c.fd[2], NULL, &e) == 0,
		"%s", e.message);
	image_remove(c.fd[0]);
	image_remove(c.fd[1]);
	for (int i = 2; i < 4; i++) {
		check_memory(c.fd[i], &third);
		s = sizes_of(c.fd[i]);
		CHECK(s.parent == 0 && s.repeated == 0 && s.duplicate == duplicates(&third) * PAGE &&
			!manifest_says(c.fd[i], "ancestor-data"));
	}
}

static void flip(int fd, const char *name, off_t at)
{
	int file = openat(fd, name, O_RDWR | O_CLOEXEC);
	char byte;

	CHECK(pread(file, &byte, 1, at) == 1 && (byte ^= 1, pwrite(file, &byte, 1, at) == 1));
	close(file);
}

/* A damaged parent is noticed when it is compared with; a damaged or changed one by who reads the child. */
static void test_damaged(void)
{
	const struct memory base = base_memory();
	_cleanup_chain_ struct chain c = chain_new();
	struct image *i = NULL;
	struct error e;

	CHECK(make(c.fd[0], -1, NULL, &base, &none, &e) == 0 &&
		make(c.fd[1], c.fd[0], "../a", &base, &plain, &e) == 0);
	flip(c.fd[0], IMAGE_PAGES, 100 * PAGE);
	CHECK(make(c.fd[2], c.fd[0], "../a", &base, &plain, &e) == -EBADMSG && e.kind == ERROR_CORRUPT &&
			strstr(e.message, "parent 1") && strstr(e.message, "wrong checksum"),
		"%s", e.message);
	CHECK(faccessat(c.fd[2], IMAGE_CHECKPOINT, F_OK, 0) < 0);
	CHECK(image_open(c.fd[1], &i, &e) == 0 && image_verify_pages(i, &e) == -EBADMSG &&
		strstr(e.message, "parent"));
	image_free(i);
	image_remove(c.fd[0]);
	CHECK(make(c.fd[0], -1, NULL, &base, &plain, &e) == 0);
	CHECK(image_open(c.fd[1], &i, &e) == -ESTALE, "%s", e.message);
}

/* As many parents as can be read, all of them in use, and not one more. */
static void test_long_chain(void)
{
	struct memory m = {.space = 1, .n = IMAGE_CHAIN_MAX + 1};
	_cleanup_chain_ struct chain c = chain_new();
	int top = open(c.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), before = -EBADF, fd = -EBADF, r = 0;
	char name[16], parent[16] = "";
	struct error e;

	for (unsigned k = 0; k < m.n + 1 && r == 0; k++) {
		snprintf(name, sizeof(name), "%u", k);
		CHECK(mkdirat(top, name, 0700) == 0);
		fd = openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (k < m.n)
			m.contents[k] = 1 + k;
		r = make(fd, before, parent, &m, &plain, &e);
		CHECK(r == (k < m.n ? 0 : -ELOOP), "%u: %d %s", k, r, e.message);
		snprintf(parent, sizeof(parent), "../%u", k);
		if (r == 0) {
			close_p(&before);
			before = fd;
		}
	}
	CHECK(strstr(e.message, "squash") && e.kind == ERROR_REFUSED &&
		faccessat(fd, IMAGE_MANIFEST, F_OK, 0) < 0);
	check_memory(before, &m);
	CHECK(sizes_of(before).data == PAGE);
	close(fd);
	close(before);
	close(top);
}

/* Entries that say more than there is. */
static void test_wrong_entries(void)
{
	static const struct {
		uint64_t offset;
		unsigned layer;
		bool read, is_there;
	} entries[] = {
		{0, 1, true, true},
		{3 * PAGE, 1, true, true},
		{4 * PAGE, 1, true, false}, /* one page behind the end */
		{0, 2, true, true},
		{PAGE, 2, true, false},
		{0, 3, true, false},
		{UINT64_MAX - PAGE + 1, 1, false, false},
		{1, 1, false, false},
		{0, IMAGE_CHAIN_MAX, true, false},
		{0, IMAGE_CHAIN_MAX + 1, false, false},
		{0, UINT32_MAX, false, false},
	};
	const uint64_t sizes[] = {0, 5 * PAGE, 2 * PAGE};
	struct error e;

	for (size_t k = 0; k < ARRAY_SIZE(entries); k++) {
		_cleanup_(image_buffer_done) struct image_buffer b = {0};
		_cleanup_(image_index_done) struct image_index x = {.chunk_size = IMAGE_CHUNK_SIZE},
							       got = {0};
		int r;

		x.runs = calloc(1, sizeof(*x.runs));
		x.n_runs = 1;
		x.runs[0] = (struct image_run){.space = 1, .n_pages = 2, .layer = 1};
		CHECK(image_index_build(&x, 0, &b, &e) == 0 &&
			get_le32(b.data + IMAGE_INDEX_HEADER + 32) == 4);
		put_le64(b.data + IMAGE_INDEX_HEADER + 24, entries[k].offset);
		put_le32(b.data + IMAGE_INDEX_HEADER + 36, entries[k].layer);
		put_le64(b.data + b.len - 8, image_hash(b.data, b.len - 8));
		r = image_index_parse(b.data, b.len, 0, &got, &e);
		CHECK((r == 0) == entries[k].read && (r == 0 || r == -EBADMSG), "%zu", k);
		if (r < 0)
			continue;
		CHECK(got.n_repeated == 2 && image_index_has_ancestors(&got));
		CHECK((image_index_check_ancestors(&got, sizes, ARRAY_SIZE(sizes), &e) == 0) ==
				entries[k].is_there,
			"%zu", k);
		CHECK((image_index_check(&got, 0, sizes, ARRAY_SIZE(sizes), &e) == 0) == entries[k].is_there,
			"%zu", k);
	}
}

/* An image without a parent cannot have data there, nor may another kind of pages name a layer. */
static void test_no_parent(void)
{
	static const uint32_t kinds[][2] = {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 0}, {5, 1}, {5, 0}};
	struct image_manifest m = manifest();
	struct error e;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		_cleanup_(image_buffer_done) struct image_buffer b = {0}, records = {0};
		_cleanup_(image_index_done) struct image_index x = {.chunk_size = IMAGE_CHUNK_SIZE},
							       got = {0};
		St__Container c = ST__CONTAINER__INIT;
		struct image_digest d = {0};
		struct image *i = NULL;

		x.runs = calloc(1, sizeof(*x.runs));
		x.n_runs = 1;
		x.runs[0] = (struct image_run){.space = 1, .n_pages = 2, .layer = 1};
		CHECK(image_index_build(&x, 0, &b, &e) == 0 && image_records_begin(&records, &e) == 0 &&
			image_records_add(&records, IMAGE_RECORD_CONTAINER, IMAGE_RECORD_CRITICAL, &c.base,
				&d, &e) == 0 &&
			image_records_end(&records, &d, &e) == 0);
		CHECK(image_from_memory(&m, records.data, records.len, b.data, b.len, 0, &i, &e) ==
					-EBADMSG &&
				strstr(e.message, "parent 1"),
			"%s", e.message);
		put_le32(b.data + IMAGE_INDEX_HEADER + 32, kinds[k][0]);
		put_le32(b.data + IMAGE_INDEX_HEADER + 36, kinds[k][1]);
		put_le64(b.data + b.len - 8, image_hash(b.data, b.len - 8));
		CHECK(image_index_parse(b.data, b.len, 0, &got, &e) == -EBADMSG, "%zu", k);
	}
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"pages of a parent and of its parent, moved, however they are stored", test_found},
		{"what lies together is one run; nothing is left to store", test_runs},
		{"nothing is found, or asked for", test_nothing_found},
		{"a hash alone proves nothing", test_same_hash},
		{"a chain becomes one image", test_squash},
		{"a parent that is damaged or another one", test_damaged},
		{"a chain of as many as there may be", test_long_chain},
		{"entries that name what is not there", test_wrong_entries},
		{"entries without a parent, and of other kinds", test_no_parent},
	};

	return tap_main(tests, ARRAY_SIZE(tests));
}
