/* SPDX-License-Identifier: Apache-2.0 */
/* The image of a sandbox (image/sandbox.h): what is written is read, damage is found, and images of both kinds replace each other. */
#include "image/sandbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "image.pb-c.h"
#include "image/image-priv.h"
#include "tap.h"

static char path[] = "/tmp/stasis-sandbox-image.XXXXXX";
static int dir = -1;

static void make_part(int at, const char *id, uint64_t *ret_checksum)
{
	struct image_manifest m = {.engine = "native",
		.stasis_version = "0.1.0",
		.container_id = id,
		.container_name = id,
		.container_count = 1,
		.architecture = "x86_64",
		.kernel = "6.1",
		.cpu_features = "sse2",
		.page_size = IMAGE_PAGE_SIZE,
		.created = "2026-01-01T00:00:00Z"};
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	St__Container c = ST__CONTAINER__INIT;
	struct error e;

	c.id = (char *)id;
	CHECK(image_writer_new(at, &w, &e) == 0);
	CHECK(image_writer_record(w, IMAGE_RECORD_CONTAINER, &c.base, &e) == 0);
	CHECK(image_writer_commit(w, &m, &e) == 0);
	if (ret_checksum) {
		CHECK(image_read_checksum(at, ret_checksum, &e) == 0);
		CHECK(*ret_checksum == image_writer_checksum(w));
	}
}

static struct image_sandbox_member parts[3] = {{.name = "POD", .id = "abc"},
	{.name = "web", .id = "c1", .generation = 4}, {.name = "db", .id = "c2"}};
static struct image_sandbox whole = {.id = "pod",
	.stasis_version = "0.1.0",
	.architecture = "x86_64",
	.kernel = "6.1",
	.page_size = IMAGE_PAGE_SIZE,
	.created = "2026-01-01T00:00:00Z",
	.stopped_us = 2700,
	.total_us = 30000,
	.members = parts,
	.n_members = 3};

static void make_whole(bool commit)
{
	struct error e;

	for (int i = 0; i < 3; i++) {
		int fd = image_sandbox_make_directory(dir, parts[i].name, &e);

		if (!CHECK(fd >= 0, "%s", e.message))
			return;
		make_part(fd, parts[i].id, &parts[i].checksum);
		CHECK(write_new_file_at(fd, IMAGE_CONFIG, "{}", 2, 0600) == 0);
		close(fd);
	}
	CHECK(!commit || image_sandbox_commit(dir, &whole, &e) == 0);
}

static unsigned n_files(void)
{
	DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY));
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static bool is_whole(void)
{
	_cleanup_(image_sandbox_free_p) struct image_sandbox *s = NULL;
	struct error e;

	if (!image_is_sandbox(dir) || image_sandbox_open(dir, &s, &e) < 0 || s->n_members != 3)
		return false;
	for (int i = 0; i < 3; i++) {
		_cleanup_close_ int fd = image_sandbox_directory(dir, &s->members[i], &e);
		_cleanup_(image_free_p) struct image *one = NULL;

		if (fd < 0 || image_open(fd, &one, &e) < 0 ||
			image_manifest(one)->checksum != s->members[i].checksum ||
			faccessat(fd, IMAGE_CONFIG, F_OK, 0) < 0)
			return false;
	}
	return true;
}

static bool is_single(const char *id)
{
	_cleanup_(image_free_p) struct image *one = NULL;
	struct error e;

	return !image_is_sandbox(dir) && image_open(dir, &one, &e) == 0 &&
	       !strcmp(image_manifest(one)->container_id, id);
}

static void test_round_trip(void)
{
	_cleanup_(image_sandbox_free_p) struct image_sandbox *s = NULL;
	struct image *one = NULL;
	struct error e;
	char names[64];

	make_whole(true);
	CHECK(is_whole());
	CHECK(image_sandbox_open(dir, &s, &e) == 0);
	CHECK(!strcmp(s->id, "pod") && s->stopped_us == 2700 && s->total_us == 30000 && s->checksum != 0);
	CHECK(!strcmp(s->members[1].name, "web") && !strcmp(s->members[1].id, "c1") &&
		s->members[1].generation == 4);
	CHECK(image_sandbox_find(s, "db") == &s->members[2] && !image_sandbox_find(s, "c2"));
	image_sandbox_names(s, names, sizeof(names));
	CHECK(!strcmp(names, "POD, web, db"));
	image_sandbox_names(s, names, 6);
	CHECK(!strcmp(names, "POD, "));
	/* Who takes it for a container's is told. */
	CHECK(image_open(dir, &one, &e) == -ENOTSUP && strstr(e.message, "of a sandbox"), "%s", e.message);
	image_remove(dir);
	CHECK(n_files() == 0);
}

static void test_other_way(void)
{
	struct image_sandbox *s = NULL;
	struct error e;

	CHECK(image_sandbox_open(dir, &s, &e) == -ENOENT && e.kind == ERROR_STATE);
	make_part(dir, "one", NULL);
	CHECK(image_sandbox_open(dir, &s, &e) == -EINVAL && e.kind == ERROR_USAGE, "%s", e.message);
	image_remove(dir);
	make_whole(false);
	CHECK(image_sandbox_open(dir, &s, &e) == -ENOENT);
	for (int i = 0; i < 3; i++)
		image_sandbox_remove_member(dir, parts[i].name);
	CHECK(n_files() == 0);
}

/* Of each kind over each kind, failing and succeeding; "killed": all that could have put the old one back. */
static void replace(bool old_whole, bool new_whole, bool succeeds, bool killed)
{
	struct error e;

	if (old_whole)
		make_whole(true);
	else
		make_part(dir, "old", NULL);
	CHECK(image_set_aside(dir, &e) == 1, "%s", e.message);
	CHECK(n_files() == 1);
	if (new_whole)
		make_whole(succeeds);
	else
		make_part(dir, "new", NULL);
	if (!new_whole && !succeeds)
		unlinkat(dir, IMAGE_MANIFEST, 0);
	if (killed) {
		image_recover(dir);
	} else if (succeeds) {
		image_drop_aside(dir);
	} else {
		if (new_whole)
			image_sandbox_remove_all(dir);
		image_put_back(dir);
	}
	CHECK(!image_is_aside(dir));
	CHECK((succeeds ? new_whole : old_whole)
			? is_whole()
			: is_single(succeeds ? "new" : "old") || (killed && new_whole && !old_whole),
		"%d %d %d %d", old_whole, new_whole, succeeds, killed);
	image_remove(dir);
	CHECK(n_files() == 0);
}

static void test_replacing(void)
{
	for (int i = 0; i < 16; i++)
		replace(i & 1, i & 2, i & 4, i & 8);
}

static char *read_manifest(size_t *ret_len)
{
	char *text = NULL;

	CHECK(read_file_at(dir, IMAGE_MANIFEST, 1 << 20, &text, ret_len) == 0);
	return text;
}

static void test_bit_flips(void)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0, bad = 0;

	make_whole(true);
	text = read_manifest(&len);
	for (size_t bit = 0; bit < len * 8; bit++) {
		struct image_sandbox *s = NULL;
		struct error e;

		text[bit / 8] ^= 1 << bit % 8;
		bad += image_sandbox_parse(text, len, &s, &e) == 0 || !e.message[0];
		image_sandbox_free(s);
		text[bit / 8] ^= 1 << bit % 8;
	}
	for (size_t n = 0; n < len; n++) {
		struct image_sandbox *s = NULL;
		struct error e;

		bad += image_sandbox_parse(text, n, &s, &e) == 0;
		image_sandbox_free(s);
	}
	CHECK(bad == 0, "%zu", bad);
	image_remove(dir);
}

/* With its checksum put right, as somebody would who means harm. */
static int parse_changed(const char *from, const char *to, struct error *e)
{
	_cleanup_free_ char *text = NULL, *changed = NULL;
	struct image_sandbox *s = NULL;
	size_t len = 0;
	char *at;
	int r;

	text = read_manifest(&len);
	at = strstr(text, from);
	if (!CHECK(at, "%s", from))
		return 0;
	changed = calloc(1, len + strlen(to) + 1);
	memcpy(changed, text, at - text);
	strcat(changed, to);
	strcat(changed, at + strlen(from));
	at = strstr(changed, "\"checksum\": \"xxh3:");
	while (strstr(at + 1, "\"checksum\": \"xxh3:"))
		at = strstr(at + 1, "\"checksum\": \"xxh3:");
	snprintf(at, 60, "\"checksum\": \"xxh3:%016llx\"\n}\n",
		(unsigned long long)image_hash(changed, at - changed));
	r = image_sandbox_parse(changed, strlen(changed), &s, e);
	image_sandbox_free(s);
	return r;
}

static void test_lies(void)
{
	static const char *const lies[][2] = {
		{"\"web\"", "\"POD\""},
		{"\"c1\"", "\"c2\""},
		{"\"web\"", "\"..\""},
		{"\"web\"", "\"a/b\""},
		{"\"web\"", "\"\""},
		{"\"web\"", "\"a\\u0000b\""},
		{"\"web\"", "7"},
		{"containers/web", "containers/db"},
		{"containers/web", "/etc"},
		{"\"container_count\": 3", "\"container_count\": 4"},
		{"\"container_count\": 3", "\"container_count\": 0"},
		{"\"sandbox\": \"pod\"", "\"sandbox\": \"../x\""},
		{"\"generation\": 4", "\"generation\": -1"},
		{"\"statistics\"", "\"other\""},
	};
	struct error e;

	make_whole(true);
	CHECK(parse_changed("\"kernel\": \"6.1\"", "\"kernel\": \"7\"", &e) == 0, "%s", e.message);
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++)
		CHECK(parse_changed(lies[i][0], lies[i][1], &e) == -EBADMSG && e.kind == ERROR_CORRUPT,
			"%s: %s", lies[i][1], e.message);
	CHECK(parse_changed("\"format_version\": 1", "\"format_version\": 2", &e) == -ENOTSUP);
	CHECK(parse_changed("\"x86_64\"", "\"riscv64\"", &e) == -ENOTSUP);
	CHECK(parse_changed("\"required_features\": [", "\"required_features\": [\"later\", ", &e) ==
				-ENOTSUP &&
			strstr(e.message, "later"),
		"%s", e.message);
	image_remove(dir);
}

/* ---- streams ---- */

static int stream_of(const uint8_t *data, size_t len)
{
	int fd = memfd_create("stream", MFD_CLOEXEC);

	CHECK(fd >= 0 && pwrite_all(fd, data, len, 0) == 0);
	return fd;
}

/* Into an empty directory; whether anything is left there after a failure. */
static int unpack(const uint8_t *data, size_t len, bool *ret_clean, struct error *e)
{
	char other[] = "/tmp/stasis-sandbox-unpacked.XXXXXX";
	_cleanup_close_ int fd = stream_of(data, len), to = -EBADF;
	struct image_whole w;
	int r;

	if (!CHECK(mkdtemp(other)))
		return -EIO;
	to = open(other, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = image_unpack(image_open, fd, to, e);
	if (r == 0 && CHECK(image_whole_open(image_open, to, &w, e) == 0, "%s", e->message)) {
		CHECK(w.sandbox->n_members == 3 && image_whole_verify(&w, to, e) == 0);
		image_whole_done(&w);
	}
	*ret_clean = rmdir(other) == 0;
	if (!*ret_clean)
		(void)remove_tree_at(AT_FDCWD, other);
	return r;
}

static uint8_t *pack_whole(size_t *ret_len)
{
	_cleanup_close_ int fd = memfd_create("stream", MFD_CLOEXEC);
	char *data = NULL;
	struct error e;

	make_whole(true);
	CHECK(image_sandbox_pack(
		      image_open, dir, &(struct image_sandbox_out){.fd = fd, .cancel_fd = -EBADF}, &e) == 0,
		"%s", e.message);
	image_remove(dir);
	CHECK(lseek(fd, 0, SEEK_SET) == 0 && read_fd(fd, 1 << 24, &data, ret_len) == 0);
	return (uint8_t *)data;
}

static void test_stream(void)
{
	size_t len = 0, bad = 0;
	_cleanup_free_ uint8_t *data = pack_whole(&len);
	struct error e;
	bool clean;

	CHECK(unpack(data, len, &clean, &e) == 0, "%s", e.message);
	for (size_t at = 0; at < len; at += 11) {
		data[at] ^= 1 << at % 8;
		bad += unpack(data, len, &clean, &e) == 0 || !clean || !e.message[0];
		data[at] ^= 1 << at % 8;
	}
	for (size_t n = 0; n < len; n += 37)
		bad += unpack(data, n, &clean, &e) == 0 || !clean;
	CHECK(bad == 0, "%zu", bad);
}

/* A stream whose first part is this one, with a right checksum. */
static int unpack_part(uint32_t type, const char *text, struct error *e)
{
	size_t len = strlen(text);
	uint8_t buf[1024] = "STASISSB\1";
	bool clean;
	int r;

	put_le32(buf + 16, type);
	put_le64(buf + 24, len);
	memcpy(buf + 32, text, len);
	put_le64(buf + 32 + len, image_hash(buf + 16, 16 + len));
	r = unpack(buf, 40 + len, &clean, e);
	CHECK(clean, "something is left");
	return r;
}

static void test_stream_lies(void)
{
	static const char *const names[] = {"", ".", "..", "../x", "a/b", "/etc", "a b"};
	struct error e;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		CHECK(unpack_part(1, names[i], &e) == -EBADMSG && strstr(e.message, "no valid name"),
			"%s: %s", names[i], e.message);
	CHECK(unpack_part(1, "web", &e) == -EBADMSG && strstr(e.message, "web"), "%s", e.message);
	CHECK(unpack_part(2, "{}", &e) == -EBADMSG && strstr(e.message, "no container"), "%s", e.message);
	CHECK(unpack_part(3, "{}", &e) == -EBADMSG && strstr(e.message, "before"), "%s", e.message);
	CHECK(unpack_part(0, "", &e) == -EBADMSG && strstr(e.message, "without a manifest"), "%s", e.message);
	CHECK(unpack_part(4, "", &e) == -ENOTSUP && e.kind == ERROR_REFUSED, "%s", e.message);
}

int main(void)
{
	static const struct tap_test tests[] = {
		{"as a stream, and back; bytes flipped, truncated", test_stream},
		{"lies in a stream", test_stream_lies},
		{"what is written is read", test_round_trip},
		{"none, one of a container, one without a manifest", test_other_way},
		{"replaced by each other", test_replacing},
		{"every bit flipped, truncated at every byte", test_bit_flips},
		{"lies under a right checksum", test_lies},
	};
	int r;

	if (!mkdtemp(path) || (dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return 1;
	r = tap_main(tests, ARRAY_SIZE(tests));
	close(dir);
	(void)remove_tree_at(AT_FDCWD, path);
	return r;
}
