/* SPDX-License-Identifier: Apache-2.0 */
/* The image of a sandbox (image/sandbox.h): what is written is read, damage is found, and images of both kinds replace each other. */
#include "image/sandbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
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

int main(void)
{
	static const struct tap_test tests[] = {
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
