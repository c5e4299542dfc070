/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes an image. Records are packed into one buffer and page data goes straight to pages.img (pages.c), so nothing
 * but page data touches the disk before commit.
 *
 * Invariant: until manifest.json is renamed into place the directory holds no checkpoint, and image_writer_free()
 * removes whatever this writer made.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "image/image-priv.h"
#include "image/stream-priv.h"

enum {
	FILE_CHECKPOINT,
	FILE_INDEX,
	FILE_PAGES,
	FILE_RAW,
	FILE_INVENTORY,
	FILE_STATS,
	FILE_DESCRIPTORS,
	FILE_MANIFEST_TMP,
	FILE_MANIFEST,
	N_FILES
};
const char *const image_names[N_FILES + 1] = {
	[FILE_CHECKPOINT] = IMAGE_CHECKPOINT,
	[FILE_INDEX] = IMAGE_INDEX,
	[FILE_PAGES] = IMAGE_PAGES,
	[FILE_RAW] = IMAGE_PAGES_RAW,
	[FILE_INVENTORY] = "inventory.img",
	[FILE_STATS] = "stats-dump",
	[FILE_DESCRIPTORS] = "descriptors.json",
	[FILE_MANIFEST_TMP] = IMAGE_MANIFEST_TMP,
	[FILE_MANIFEST] = IMAGE_MANIFEST,
};
static const enum image_stream_file stream_files[N_FILES] = {
	[FILE_CHECKPOINT] = IMAGE_STREAM_CHECKPOINT,
	[FILE_INDEX] = IMAGE_STREAM_INDEX,
	[FILE_PAGES] = IMAGE_STREAM_PAGES,
	[FILE_INVENTORY] = IMAGE_STREAM_INVENTORY,
	[FILE_STATS] = IMAGE_STREAM_STATS,
	[FILE_DESCRIPTORS] = IMAGE_STREAM_DESCRIPTORS,
	[FILE_MANIFEST_TMP] = IMAGE_STREAM_MANIFEST,
};

enum { MAX_STAGES = 16 };

struct image_writer {
	int dirfd; /* borrowed */
	int checkpoint_fd, index_fd, pages_fd;
	unsigned made; /* bit n: image_names[n] is ours */
	struct image_buffer records;
	struct image_digest digest;
	struct image_pages *pages;
	const struct image *parent; /* borrowed; NULL: none */
	char *parent_path;
	bool inherits;		   /* there are pages of the parent */
	struct image_index before; /* the previous round; no runs: there is none */
	uint64_t checksum;	   /* of the manifest that was written */
	struct image_stage *stages[MAX_STAGES];
	unsigned n_stages;
	struct image_packing packing; /* neither a codec nor dedup: pages.img is what is written */

	/* To a stream instead of a directory: */
	struct image_out *out;	   /* borrowed */
	struct image_run *planned; /* layer: its order */
	size_t n_planned, planned_size;
	struct image_file_info checkpoint; /* has been sent; size 0: not yet */
};

static int create_file(struct image_writer *w, unsigned file, int *ret, struct error *e)
{
	int fd =
		openat(w->dirfd, image_names[file], O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return error_errno(e, -errno, "%s", image_names[file]);
	w->made |= 1U << file;
	*ret = fd;
	return 0;
}

int image_check_empty(int dirfd, struct error *e)
{
	struct stat st;

	for (unsigned i = 0; i < N_FILES; i++) {
		if (fstatat(dirfd, image_names[i], &st, AT_SYMLINK_NOFOLLOW) == 0)
			return error_set(e, -EEXIST, ERROR_STATE,
				"the image directory is not empty, it has a file %s: choose another or "
				"remove it",
				image_names[i]);
		if (errno != ENOENT)
			return error_errno(e, -errno, "image directory");
	}
	return 0;
}

int image_writer_new(int dirfd, struct image_writer **ret, struct error *e)
{
	_cleanup_(image_writer_free_p) struct image_writer *w = NULL;
	int r = image_check_empty(dirfd, e);

	if (r < 0)
		return r;
	w = calloc(1, sizeof(*w));
	if (!w)
		return error_errno(e, -ENOMEM, "image");
	w->dirfd = dirfd;
	w->checkpoint_fd = w->index_fd = w->pages_fd = -EBADF;
	r = create_file(w, FILE_CHECKPOINT, &w->checkpoint_fd, e);
	if (r == 0)
		r = create_file(w, FILE_INDEX, &w->index_fd, e);
	if (r == 0)
		r = create_file(w, FILE_PAGES, &w->pages_fd, e);
	if (r == 0)
		r = image_pages_new(w->pages_fd, &w->pages, e);
	if (r == 0)
		r = image_records_begin(&w->records, e);
	if (r < 0)
		return r;
	*ret = take_ptr(w);
	return 0;
}

int image_writer_new_stream(struct image_out *out, struct image_writer **ret, struct error *e)
{
	_cleanup_(image_writer_free_p) struct image_writer *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return error_errno(e, -ENOMEM, "image");
	w->out = out;
	w->dirfd = w->checkpoint_fd = w->index_fd = w->pages_fd = -EBADF;
	r = image_pages_new(-EBADF, &w->pages, e);
	if (r == 0)
		r = image_records_begin(&w->records, e);
	if (r < 0)
		return r;
	image_pages_to_stream(w->pages, out);
	*ret = take_ptr(w);
	return 0;
}

void image_writer_free(struct image_writer *w)
{
	if (!w)
		return;
	for (unsigned i = 0; i < N_FILES; i++)
		if (w->made & 1U << i)
			unlinkat(w->dirfd, image_names[i], 0);
	close_p(&w->checkpoint_fd);
	close_p(&w->index_fd);
	close_p(&w->pages_fd);
	for (unsigned i = 0; i < w->n_stages; i++)
		image_stage_free(w->stages[i]);
	image_pages_free(w->pages);
	image_index_done(&w->before);
	free(w->parent_path);
	image_buffer_done(&w->records);
	free(w->planned);
	free(w);
}

int image_writer_record(
	struct image_writer *w, enum image_record_type type, const ProtobufCMessage *m, struct error *e)
{
	if ((type == IMAGE_RECORD_CONTAINER) != (w->digest.count == 0))
		return error_set(
			e, -EINVAL, ERROR_INTERNAL, "the first record, and no other, must be the Container");
	return image_records_add(&w->records, type, IMAGE_RECORD_CRITICAL, m, &w->digest, e);
}

int image_writer_copy_record(struct image_writer *w, const struct image_record *of, struct error *e)
{
	return image_records_copy(&w->records, of, &w->digest, e);
}

int image_writer_pages(struct image_writer *w, uint64_t space, uint64_t address, const void *data,
	size_t n_pages, struct error *e)
{
	return image_pages_add(w->pages, space, address, data, n_pages, e);
}

int image_writer_stage(struct image_writer *w, struct image_stage **ret, struct error *e)
{
	int r;

	if (w->n_stages == MAX_STAGES)
		return error_set(
			e, -EMFILE, ERROR_INTERNAL, "%s: more than %d stages", IMAGE_PAGES, MAX_STAGES);
	r = image_stage_new(w->pages, w->pages_fd, ret, e);
	if (r == 0)
		w->stages[w->n_stages++] = *ret;
	return r;
}

int image_writer_flush(struct image_writer *w, struct error *e)
{
	int r = 0;

	for (unsigned i = 0; i < w->n_stages && r == 0; i++)
		r = image_stage_finish(w->stages[i], e);
	return r;
}

int image_writer_shared(struct image_writer *w, uint64_t space, uint64_t address, size_t n_pages, uint64_t of,
	struct error *e)
{
	return image_pages_share(w->pages, space, address, n_pages, of, e);
}

int image_writer_reserve(struct image_writer *w, uint64_t space, uint64_t address, size_t n_pages,
	uint64_t *ret_offset, struct error *e)
{
	return image_pages_reserve(w->pages, space, address, n_pages, ret_offset, e);
}

int image_writer_set_parent(
	struct image_writer *w, const struct image *parent, const char *path, struct error *e)
{
	if (!image_parent_is_valid(path))
		return error_set(e, -EINVAL, ERROR_USAGE,
			"the parent's path \"%.100s\" must be relative to the image's directory, and not "
			"longer than %d bytes",
			path, IMAGE_PARENT_MAX - 1);
	/* Nobody could read what has more. */
	if (image_n_layers(parent) > IMAGE_CHAIN_MAX)
		return error_set(e, -ELOOP, ERROR_REFUSED,
			"the parent has %d parents in a row, which is the limit: make one image of them "
			"first "
			"(stasis image squash), or leave the parent out",
			IMAGE_CHAIN_MAX);
	w->parent_path = strdup(path);
	if (!w->parent_path)
		return error_errno(e, -ENOMEM, "image");
	w->parent = parent;
	return 0;
}

int image_writer_round(struct image_writer *w, struct error *e)
{
	int r = image_writer_flush(w, e);

	if (r == 0)
		r = image_pages_flush(w->pages, e);
	return r == 0 ? image_pages_round(w->pages, &w->before, e) : r;
}

void image_writer_again(struct image_writer *w)
{
	for (unsigned i = 0; i < w->n_stages; i++)
		image_stage_free(w->stages[i]);
	w->n_stages = 0;
	image_pages_again(w->pages);
	w->n_planned = 0;
	w->records.len = IMAGE_CHECKPOINT_HEADER;
	w->digest = (struct image_digest){0};
}

int image_writer_inherit(struct image_writer *w, uint64_t space, uint64_t address, size_t n_pages,
	uint64_t of, size_t *ret_n, struct error *e)
{
	const struct image_index *x = w->parent ? image_index_of(w->parent) : &w->before;
	int r = image_pages_inherit(w->pages, x, space, address, n_pages, of, ret_n, e);

	if (r > 0 && w->parent)
		__atomic_store_n(&w->inherits, true, __ATOMIC_RELAXED); /* by several threads */
	return r;
}

uint64_t image_writer_checksum(const struct image_writer *w)
{
	return w->checksum;
}

int image_writer_pages_fd(const struct image_writer *w)
{
	return w->pages_fd;
}

/* Pages are then written to another file first. */
int image_writer_pack(struct image_writer *w, const struct image_packing *p, struct error *e)
{
	if (p->codec == IMAGE_CODEC_NONE && !p->dedup)
		return 0;
	if (renameat(w->dirfd, IMAGE_PAGES, w->dirfd, image_names[FILE_RAW]) < 0)
		return error_errno(e, -errno, "%s", image_names[FILE_RAW]);
	w->made = (w->made & ~(1U << FILE_PAGES)) | 1U << FILE_RAW;
	w->packing = *p;
	return 0;
}

void image_writer_count(const struct image_writer *w, struct image_statistics *s)
{
	image_pages_count(w->pages, s);
	s->bytes += w->records.len;
}

/* Writes a file that is whole in the buffer, and empties the buffer for the next one. */
static int put_file(struct image_writer *w, unsigned file, int fd, struct image_buffer *b, struct error *e)
{
	int r = w->out ? image_out_piece(w->out, stream_files[file], 0, b->data, b->len, e)
		       : write_all(fd, b->data, b->len);

	b->len = 0;
	if (w->out)
		return r;
	return r < 0 ? error_errno(e, r, "%s", image_names[file]) : 0;
}

static int put_new_file(struct image_writer *w, unsigned file, struct image_buffer *b, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int r = w->out ? 0 : create_file(w, file, &fd, e);

	return r < 0 ? r : put_file(w, file, fd, b, e);
}

static int put_compat(
	struct image_writer *w, const struct image_manifest *m, struct image_buffer *b, struct error *e)
{
	int r = image_compat_inventory(b);

	if (r < 0)
		return error_errno(e, r, "%s", image_names[FILE_INVENTORY]);
	r = put_new_file(w, FILE_INVENTORY, b, e);
	if (r < 0)
		return r;
	r = image_compat_stats(b, IMAGE_DUMP, &m->statistics);
	if (r < 0)
		return error_errno(e, r, "%s", image_names[FILE_STATS]);
	r = put_new_file(w, FILE_STATS, b, e);
	if (r < 0)
		return r;
	r = image_compat_descriptors(b, m->stdio);
	if (r < 0)
		return error_errno(e, r, "%s", image_names[FILE_DESCRIPTORS]);
	return put_new_file(w, FILE_DESCRIPTORS, b, e);
}

int image_write_stats(
	int dirfd, enum image_operation operation, const struct image_statistics *s, struct error *e)
{
	_cleanup_(image_buffer_done) struct image_buffer b = {0};
	const char *name = operation == IMAGE_DUMP ? image_names[FILE_STATS] : "stats-restore";
	_cleanup_close_ int fd = -EBADF;
	int r = image_compat_stats(&b, operation, s);

	if (r < 0)
		return error_errno(e, r, "%s", name);
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return error_errno(e, -errno, "%s", name);
	fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : write_all(fd, b.data, b.len);
	return r < 0 ? error_errno(e, r, "%s", name) : 0;
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

/* What was written becomes pages.img, packed or as it is. */
static int pack(struct image_writer *w, struct image_index *x, uint64_t *size, struct image_statistics *s,
	struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	uint64_t start = now_us();
	int r;

	if (!(w->made & 1U << FILE_RAW))
		return 0;
	r = fault_point("checkpoint-pack", e);
	if (r == 0)
		r = create_file(w, FILE_PAGES, &fd, e);
	if (r == 0)
		r = image_pack(&w->packing, w->packing.repeated ? w->parent : NULL, x, w->pages_fd, *size, fd,
			size, e);
	if (r < 0)
		return r;
	if (r == 0 && renameat(w->dirfd, image_names[FILE_RAW], w->dirfd, IMAGE_PAGES) < 0)
		return error_errno(e, -errno, "%s", IMAGE_PAGES);
	if (r > 0 && unlinkat(w->dirfd, image_names[FILE_RAW], 0) < 0)
		return error_errno(e, -errno, "%s", image_names[FILE_RAW]);
	w->made &= ~(1U << FILE_RAW);
	s->pack_us = now_us() - start;
	return fault_point("checkpoint-packed", e);
}

static int put_index(struct image_writer *w, struct image_files *f, struct image_statistics *s,
	struct image_buffer *b, struct error *e)
{
	struct image_index *index;
	int r = image_pages_finish(w->pages, &index, &f->pages.size, e);

	if (r == 0 && !w->parent) {
		image_index_sort(index);
		r = image_index_resolve(index, &w->before, 0, e);
	}
	if (r < 0)
		return r;
	r = pack(w, index, &f->pages.size, s, e);
	if (r < 0)
		return r;
	f->compressed = index->frame_size > 0;
	f->ancestors = image_index_has_ancestors(index);
	w->inherits |= f->ancestors;
	r = image_index_build(index, f->pages.size, b, e);
	if (r < 0)
		return r;
	f->index.size = b->len;
	f->index.checksum = index->hash;
	return put_file(w, FILE_INDEX, w->index_fd, b, e);
}

static int put_records(struct image_writer *w, struct error *e)
{
	int r = image_records_end(&w->records, &w->digest, e);

	if (r < 0)
		return r;
	w->checkpoint = (struct image_file_info){w->records.len, w->digest.hash};
	return put_file(w, FILE_CHECKPOINT, w->checkpoint_fd, &w->records, e);
}

int image_writer_plan(struct image_writer *w, uint64_t space, uint64_t address, size_t n_pages,
	enum image_stream_order order, struct error *e)
{
	struct image_run run = {.space = space,
		.address = address,
		.n_pages = n_pages,
		.kind = IMAGE_PAGES_DATA,
		.layer = order};
	struct image_run *more = w->planned;

	if (n_pages == 0)
		return 0;
	if (w->n_planned == w->planned_size) {
		w->planned_size = MAX(w->planned_size * 2, (size_t)256);
		more = reallocarray(w->planned, w->planned_size, sizeof(*more));
	}
	if (!more)
		return error_errno(e, -ENOMEM, "plan of the image stream");
	w->planned = more;
	w->planned[w->n_planned++] = run;
	return 0;
}

static int compare_planned(const void *va, const void *vb)
{
	const struct image_run *a = va, *b = vb;

	if (a->layer != b->layer)
		return a->layer < b->layer ? -1 : 1;
	if (a->space != b->space)
		return a->space < b->space ? -1 : 1;
	return a->address < b->address ? -1 : a->address > b->address;
}

/* All runs that there are and will be, as an index without checksums. */
static int put_plan(struct image_writer *w, struct image_files *f, struct error *e)
{
	_cleanup_(image_index_done) struct image_index x = {0};
	_cleanup_(image_buffer_done) struct image_buffer b = {0};
	uint64_t size = 0;
	int r = image_pages_copy_runs(w->pages, w->n_planned, &x, &size);

	if (r < 0)
		return error_errno(e, r, "%s", IMAGE_INDEX);
	if (w->n_planned)
		qsort(w->planned, w->n_planned, sizeof(*w->planned), compare_planned);
	for (size_t i = 0; i < w->n_planned; i++) {
		w->planned[i].offset = size;
		size += w->planned[i].n_pages * IMAGE_PAGE_SIZE;
		x.runs[x.n_runs] = w->planned[i];
		x.runs[x.n_runs++].layer = 0;
	}
	image_index_sort(&x);
	r = image_index_resolve(&x, &w->before, 0, e);
	if (r == 0)
		r = image_forget_replaced(w->out, &w->before, &x, e);
	if (r < 0)
		return r;
	x.n_chunks = (size + IMAGE_CHUNK_SIZE - 1) / IMAGE_CHUNK_SIZE;
	x.chunks = calloc(x.n_chunks + 1, sizeof(*x.chunks));
	if (!x.chunks)
		return error_errno(e, -ENOMEM, "%s", IMAGE_INDEX);
	r = image_index_build(&x, size, &b, e);
	if (r < 0)
		return r;
	f->pages.size = size;
	f->index = (struct image_file_info){b.len, x.hash};
	return put_file(w, FILE_INDEX, -EBADF, &b, e);
}

int image_writer_begin(struct image_writer *w, const struct image_manifest *m, const struct image_run **ret,
	size_t *ret_late, size_t *ret_n, struct error *e)
{
	_cleanup_(image_buffer_done) struct image_buffer b = {0};
	struct image_files f = {0};
	int r = put_records(w, e);
	size_t late = 0;

	if (r == 0)
		r = put_plan(w, &f, e);
	f.checkpoint = w->checkpoint;
	if (r == 0)
		r = image_manifest_build(m, &f, &b, e);
	if (r == 0)
		r = put_file(w, FILE_MANIFEST_TMP, -EBADF, &b, e);
	while (late < w->n_planned && w->planned[late].layer != IMAGE_STREAM_LATE)
		late++;
	*ret = w->planned;
	*ret_late = late;
	*ret_n = w->n_planned;
	return r;
}

int image_writer_fill(struct image_writer *w, const struct image_run *run, uint64_t address, const void *data,
	size_t n_pages, struct error *e)
{
	return image_pages_fill(w->pages, run, address, data, n_pages, e);
}

static int finish(struct image_writer *w, struct error *e)
{
	if (w->out)
		return image_out_end(w->out, e);
	return renameat(w->dirfd, IMAGE_MANIFEST_TMP, w->dirfd, IMAGE_MANIFEST) < 0
		       ? error_errno(e, -errno, IMAGE_MANIFEST)
		       : 0;
}

int image_writer_commit(struct image_writer *w, const struct image_manifest *m, struct error *e)
{
	_cleanup_(image_buffer_done) struct image_buffer b = {0};
	struct image_manifest final = *m;
	struct image_files f = {0};
	int r = image_writer_flush(w, e);

	if (r == 0)
		r = put_index(w, &f, &final.statistics, &b, e);
	if (r < 0)
		return r;
	r = w->checkpoint.size ? 0 : put_records(w, e);
	if (r < 0)
		return r;
	f.checkpoint = w->checkpoint;
	image_pages_count(w->pages, &final.statistics);
	final.statistics.bytes = f.checkpoint.size + f.index.size + f.pages.size;
	r = put_compat(w, &final, &b, e);
	if (r < 0)
		return r;
	if (w->inherits) {
		final.parent = w->parent_path;
		final.parent_checksum = image_manifest(w->parent)->checksum;
	}
	r = image_manifest_build(&final, &f, &b, e);
	if (r == 0) {
		w->checksum = image_manifest_checksum(b.data, b.len);
		r = put_new_file(w, FILE_MANIFEST_TMP, &b, e);
	}
	if (r == 0)
		r = fault_point("checkpoint-manifest", e);
	if (r < 0)
		return r;
	r = finish(w, e);
	if (r == 0)
		w->made = 0;
	return r;
}
