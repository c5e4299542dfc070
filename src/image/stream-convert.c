/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image directory to a stream, and back. Both have the same files with the same bytes; of pages.img what is zero is
 * left out of a stream, and a hole in the directory. Compressed pages are decompressed on their way: in a stream a piece is
 * compressed, not the file.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "image/opened-priv.h"
#include "image/stream-priv.h"

/* ---- to a stream ---- */

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && !memcmp(page, page + 1, IMAGE_PAGE_SIZE - 1);
}

/* Page data without the pages that are zero. */
static int send_pages(struct image_out *out, const uint8_t *data, size_t len, uint64_t at, struct error *e)
{
	int r = 0;

	for (size_t from = 0, to; from < len && r == 0; from = to) {
		bool zero = is_zero(data + from);

		for (to = from + IMAGE_PAGE_SIZE; to < len && is_zero(data + to) == zero;
			to += IMAGE_PAGE_SIZE)
			;
		if (!zero)
			r = image_out_piece(out, IMAGE_STREAM_PAGES, at + from, data + from, to - from, e);
	}
	return r;
}

static int open_regular(int dirfd, const char *name, uint64_t *ret_size, struct error *e)
{
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return error_errno(e, -errno, "%s", name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return image_corrupt(e, name, 0, "not a regular file");
	}
	*ret_size = st.st_size;
	return fd;
}

static int pack_file(
	int dirfd, enum image_stream_file file, uint8_t *buffer, struct image_out *out, struct error *e)
{
	const char *name = image_stream_names[file];
	uint64_t size = 0, at = 0;
	_cleanup_close_ int fd = open_regular(dirfd, name, &size, e);
	int r = fd < 0 ? fd : 0;

	/* Files for callers of CRIU may be missing. */
	if (r == -ENOENT && file > IMAGE_STREAM_MANIFEST)
		return 0;
	while (r == 0 && at < size) {
		size_t n = MIN(size - at, (uint64_t)STREAM_PIECE_MAX);

		r = pread_exact(fd, buffer, n, at);
		if (r < 0)
			return error_errno(e, r, "%s: offset %llu", name, (unsigned long long)at);
		r = file == IMAGE_STREAM_PAGES ? send_pages(out, buffer, n, at, e)
					       : image_out_piece(out, file, at, buffer, n, e);
		at += n;
	}
	if (r == 0 && file == IMAGE_STREAM_PAGES)
		r = image_out_piece(out, file, at, NULL, 0, e);
	return r;
}

/* ---- of compressed page data ---- */

typedef int data_fn(void *arg, const uint8_t *data, size_t len, uint64_t at, struct error *e);

/* In pieces that begin at multiples of STREAM_PIECE_MAX. */
static int each_piece(const struct image *i, uint8_t *buffer, data_fn *f, void *arg, struct error *e)
{
	int r = 0;

	for (uint64_t at = 0; at < i->index.data_size && r == 0; at += STREAM_PIECE_MAX) {
		size_t n = MIN(i->index.data_size - at, (uint64_t)STREAM_PIECE_MAX);

		r = image_read_data(i, 0, at, buffer, n, e);
		if (r == 0)
			r = f(arg, buffer, n, at, e);
	}
	return r;
}

static int sum_piece(void *arg, const uint8_t *data, size_t len, uint64_t at, struct error *e)
{
	struct image_index *x = arg;

	(void)e;
	for (size_t k = 0; k < len; k += IMAGE_CHUNK_SIZE)
		x->chunks[(at + k) / IMAGE_CHUNK_SIZE] =
			image_hash(data + k, MIN(len - k, (size_t)IMAGE_CHUNK_SIZE));
	return 0;
}

static int send_piece(void *arg, const uint8_t *data, size_t len, uint64_t at, struct error *e)
{
	return send_pages(arg, data, len, at, e);
}

/* The index that it would have if it had never been compressed: the runs are the same. */
static int plain_index(const struct image *i, uint8_t *buffer, struct image_files *f, struct image_buffer *b,
	struct error *e)
{
	struct image_index x = {
		.runs = i->index.runs, .n_runs = i->index.n_runs, .chunk_size = IMAGE_CHUNK_SIZE};
	int r;

	x.n_chunks = (i->index.data_size + IMAGE_CHUNK_SIZE - 1) / IMAGE_CHUNK_SIZE;
	x.chunks = calloc(x.n_chunks + 1, sizeof(*x.chunks));
	x.runs = malloc((x.n_runs + 1) * sizeof(*x.runs));
	if (x.runs)
		memcpy(x.runs, i->index.runs, x.n_runs * sizeof(*x.runs));
	r = x.chunks && x.runs ? each_piece(i, buffer, sum_piece, &x, e)
			       : error_errno(e, -ENOMEM, "image stream");
	if (r == 0)
		r = image_index_build(&x, i->index.data_size, b, e);
	f->pages.size = i->index.data_size;
	f->index = (struct image_file_info){b->len, x.hash};
	image_index_done(&x);
	return r;
}

static int plain_manifest(
	const struct image *i, const struct image_files *f, struct image_buffer *b, struct error *e)
{
	struct image_manifest m = i->manifest;

	m.statistics.bytes = f->checkpoint.size + f->index.size + f->pages.size;
	return image_manifest_build(&m, f, b, e);
}

/* All of it is decompressed once before any of it leaves: what is damaged is not begun. */
static int pack_compressed(
	const struct image *i, int dirfd, uint8_t *buffer, struct image_out *out, struct error *e)
{
	_cleanup_(image_buffer_done) struct image_buffer index = {0}, manifest = {0};
	struct image_files f = {.checkpoint = i->files.checkpoint};
	int r = plain_index(i, buffer, &f, &index, e);

	if (r == 0)
		r = plain_manifest(i, &f, &manifest, e);
	if (r == 0)
		r = pack_file(dirfd, IMAGE_STREAM_CHECKPOINT, buffer, out, e);
	if (r == 0)
		r = image_out_piece(out, IMAGE_STREAM_INDEX, 0, index.data, index.len, e);
	if (r == 0)
		r = image_out_piece(out, IMAGE_STREAM_MANIFEST, 0, manifest.data, manifest.len, e);
	if (r == 0)
		r = each_piece(i, buffer, send_piece, out, e);
	return r == 0 ? image_out_piece(out, IMAGE_STREAM_PAGES, i->index.data_size, NULL, 0, e) : r;
}

static int pack_plain(int dirfd, uint8_t *buffer, struct image_out *out, struct error *e)
{
	static const enum image_stream_file order[] = {
		IMAGE_STREAM_CHECKPOINT, IMAGE_STREAM_INDEX, IMAGE_STREAM_MANIFEST, IMAGE_STREAM_PAGES};
	int r = 0;

	for (size_t k = 0; k < ARRAY_SIZE(order) && r == 0; k++)
		r = pack_file(dirfd, order[k], buffer, out, e);
	return r;
}

int image_stream_pack(image_open_fn *open_image, int dirfd, struct image_out *out, struct error *e)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	_cleanup_free_ uint8_t *buffer = malloc(STREAM_PIECE_MAX);
	int r = buffer ? open_image(dirfd, &i, e) : error_errno(e, -ENOMEM, "image stream");

	if (r == 0 && image_manifest(i)->parent)
		r = error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"an image that has a parent can't be packed: make a whole one of both with \"stasis "
			"image squash\"");
	if (r == 0)
		r = image_verify_pages(i, e);
	if (r == 0)
		r = i->index.frame_size ? pack_compressed(i, dirfd, buffer, out, e)
					: pack_plain(dirfd, buffer, out, e);
	for (unsigned file = IMAGE_STREAM_INVENTORY; file < IMAGE_STREAM_FILES && r == 0; file++)
		r = pack_file(dirfd, file, buffer, out, e);
	return r < 0 ? r : image_out_end(out, e);
}

/* ---- and back ---- */

struct unpacking {
	int dirfd;
	int fds[IMAGE_STREAM_FILES];
	uint64_t pages_size;
};

static const char *made_name(unsigned file)
{
	return file == IMAGE_STREAM_MANIFEST ? IMAGE_MANIFEST_TMP : image_stream_names[file];
}

static int unpack_piece(
	void *arg, enum image_stream_file file, uint64_t at, const void *data, size_t len, struct error *e)
{
	struct unpacking *u = arg;
	int r = 0;

	if (u->fds[file] < 0)
		u->fds[file] = openat(u->dirfd, made_name(file),
			O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (u->fds[file] < 0)
		return error_errno(e, -errno, "%s", made_name(file));
	/* An index or a manifest that comes again replaces the first one. */
	if (at == 0 && file != IMAGE_STREAM_PAGES && ftruncate(u->fds[file], 0) < 0)
		r = -errno;
	if (r == 0)
		r = pwrite_all(u->fds[file], data, len, at);
	if (file == IMAGE_STREAM_PAGES)
		u->pages_size = at + len;
	return r < 0 ? error_errno(e, r, "%s", made_name(file)) : 0;
}

/* Zeros at the end of the page data are not in the stream. */
static int end_pages(struct unpacking *u, struct error *e)
{
	int r = u->fds[IMAGE_STREAM_PAGES] < 0 ? unpack_piece(u, IMAGE_STREAM_PAGES, 0, NULL, 0, e) : 0;

	if (r == 0 && ftruncate(u->fds[IMAGE_STREAM_PAGES], u->pages_size) < 0)
		r = error_errno(e, -errno, "%s", IMAGE_PAGES);
	return r;
}

static int check_unpacked(image_open_fn *open_image, int dirfd, struct error *e)
{
	_cleanup_(image_free_p) struct image *i = NULL;

	return open_image(dirfd, &i, e);
}

/* A stream of which some has been read already. */
struct rest {
	const uint8_t *head;
	size_t n_head;
	int fd;
};

static int read_rest(void *arg, void *buf, size_t len)
{
	struct rest *x = arg;
	size_t n = MIN(x->n_head, len);

	if (n)
		memcpy(buf, x->head, n);
	x->head += n;
	x->n_head -= n;
	return read_exact(x->fd, (uint8_t *)buf + n, len - n);
}

int image_stream_unpack(image_open_fn *open_image, int fd, int dirfd, struct error *e)
{
	return image_stream_unpack_from(open_image, fd, NULL, 0, dirfd, e);
}

int image_stream_unpack_from(
	image_open_fn *open_image, int fd, const uint8_t *head, size_t n_head, int dirfd, struct error *e)
{
	struct rest rest = {head, n_head, fd};
	struct image_stream_source source = {read_rest, &rest};
	struct unpacking u = {.dirfd = dirfd};
	struct image_stream_sink sink = {unpack_piece, &u};
	int r;

	for (unsigned i = 0; i < IMAGE_STREAM_FILES; i++)
		u.fds[i] = -EBADF;
	r = image_check_empty(dirfd, e);
	if (r < 0)
		return r;
	r = image_stream_read(&source, &sink, e);
	if (r == 0)
		r = end_pages(&u, e);
	if (r == 0 && renameat(dirfd, IMAGE_MANIFEST_TMP, dirfd, IMAGE_MANIFEST) < 0)
		r = error_errno(e, -errno, IMAGE_MANIFEST);
	for (unsigned i = 0; i < IMAGE_STREAM_FILES; i++)
		close_p(&u.fds[i]);
	if (r == 0)
		r = check_unpacked(open_image, dirfd, e);
	if (r < 0)
		image_remove(dirfd);
	return r;
}
