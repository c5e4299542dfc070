/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One image of a chain: what its parents have of it is copied into it.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "image/image-priv.h"

enum { COPY_SIZE = 1 << 20 };

static int copy_records(const struct image *i, struct image_writer *w, struct error *e)
{
	struct image_record record;
	size_t pos = 0;
	int r = 0;

	while (r == 0 && image_next_raw_record(i, &pos, &record) > 0)
		r = image_writer_copy_record(w, &record, e);
	return r;
}

/* Zeros are given as zeros: the writer finds them out. */
static int copy_run(const struct image *i, const struct image_run *run, struct image_writer *w, uint8_t *buf,
	struct error *e)
{
	uint64_t len = run->n_pages * IMAGE_PAGE_SIZE;

	if (run->kind == IMAGE_PAGES_SHARED)
		return image_writer_shared(w, run->space, run->address, run->n_pages, run->offset, e);
	for (uint64_t at = 0; at < len; at += COPY_SIZE) {
		size_t n = MIN(len - at, (uint64_t)COPY_SIZE);
		int r = image_read(i, run->space, run->address + at, buf, n, e);

		if (r == 0)
			r = image_writer_pages(w, run->space, run->address + at, buf, n / IMAGE_PAGE_SIZE, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int copy_pages(const struct image *i, struct image_writer *w, struct error *e)
{
	const struct image_index *x = image_index_of(i);
	_cleanup_free_ uint8_t *buf = malloc(COPY_SIZE);
	int r = buf ? 0 : error_errno(e, -ENOMEM, "image");

	for (size_t k = 0; k < x->n_runs && r == 0; k++)
		r = copy_run(i, &x->runs[k], w, buf, e);
	return r;
}

/* What fds 0 to 2 were: as the other image says. */
static int read_stdio(int dirfd, char **ret, size_t *ret_len, struct error *e)
{
	int r = read_file_at(dirfd, "descriptors.json", 1 << 20, ret, ret_len);

	return r == 0 || r == -ENOENT ? 0 : error_errno(e, r, "descriptors.json");
}

static int write_stdio(int dirfd, const char *text, size_t len, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!text)
		return 0;
	fd = openat(dirfd, "descriptors.json", O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
	r = fd < 0 ? -errno : write_all(fd, text, len);
	return r < 0 ? error_errno(e, r, "descriptors.json") : 0;
}

/* Compressed as the last image of the chain is. What is in it more than once was found by comparing, and is to be found again. */
static int pack_likewise(const struct image *i, struct image_writer *w, struct error *e)
{
	struct image_packing p = {};
	struct image_sizes s;

	image_sizes(i, &s);
	p.dedup = s.codec != IMAGE_CODEC_NONE || s.duplicate || s.repeated;
	(void)!image_codec_parse(image_codec_name(s.codec), &p.codec, &p.level);
	return image_writer_pack(w, &p, e);
}

static int write_squashed(const struct image *i, int to, const struct image_packing *packing, struct error *e)
{
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	struct image_manifest m = *image_manifest(i);
	int r = image_writer_new(to, &w, e);

	m.parent = NULL;
	if (r == 0)
		r = packing ? image_writer_pack(w, packing, e) : pack_likewise(i, w, e);
	if (r == 0)
		r = copy_records(i, w, e);
	if (r == 0)
		r = copy_pages(i, w, e);
	return r < 0 ? r : image_writer_commit(w, &m, e);
}

static bool is_same(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int image_squash(
	image_open_fn *open_image, int from, int to, const struct image_packing *packing, struct error *e)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	_cleanup_free_ char *stdio = NULL;
	size_t stdio_len = 0;
	bool in_place = is_same(from, to);
	int r = open_image(from, &i, e);

	if (r == 0)
		r = image_verify_pages(i, e);
	if (r == 0)
		r = read_stdio(from, &stdio, &stdio_len, e);
	if (r < 0 || (in_place && !packing && !image_manifest(i)->parent))
		return r;
	if (in_place)
		r = image_set_aside(to, e);
	if (r < 0)
		return r;
	r = write_squashed(i, to, packing, e);
	if (r == 0)
		r = write_stdio(to, stdio, stdio_len, e);
	if (in_place && r == 0)
		image_drop_aside(to);
	else if (in_place)
		image_put_back(to);
	return r;
}
