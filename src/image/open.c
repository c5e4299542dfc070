/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads an image that may come from a stranger. It opens nothing, and gets the contents of the files in memory (source.c), so
 * that a process that may do nothing else can do it; what is unpacked is limited.
 */
#include <stdlib.h>

#include "base/fd.h"
#include "image/opened-priv.h"
#include "image/stream-priv.h"

/* Its bytes, if they are there and as many as was said. */
static int content(
	const char *name, const struct image_content *c, uint64_t size, const char **ret, struct error *e)
{
	if (c->problem == -ENOENT)
		return error_set(
			e, -EBADMSG, ERROR_CORRUPT, "%s: missing, but %s lists it", name, IMAGE_MANIFEST);
	if (c->problem == IMAGE_CONTENT_IRREGULAR)
		return image_corrupt(e, name, 0, "not a regular file");
	if (c->problem < 0)
		return error_errno(e, c->problem, "%s", name);
	if (c->size != size)
		return image_corrupt(e, name, c->size, "the file ends here, but %s says %llu bytes",
			IMAGE_MANIFEST, (unsigned long long)size);
	if (ret && !c->data)
		return image_corrupt(e, name, IMAGE_FILE_MAX, "larger than such a file may be");
	if (ret)
		*ret = c->data;
	return 0;
}

static int load_manifest(struct image *i, const struct image_content *c, struct error *e)
{
	const char *text = NULL;
	int r;

	if (c->problem == -ENOENT)
		return error_set(e, -ENOENT, ERROR_STATE,
			"incomplete image: no %s (was the checkpoint interrupted?)", IMAGE_MANIFEST);
	if (c->problem == 0 && c->size > IMAGE_MANIFEST_MAX)
		return image_corrupt(e, IMAGE_MANIFEST, c->size, "larger than %d bytes", IMAGE_MANIFEST_MAX);
	r = content(IMAGE_MANIFEST, c, c->size, &text, e);
	if (r < 0)
		return r;
	return image_manifest_parse(i->memory, text, c->size, &i->manifest, &i->files, e);
}

/* i->records, with a slot for each. */
static int parse_records(struct image *i, size_t len, uint64_t *ret_hash, struct error *e)
{
	struct image_digest d = {0};
	size_t pos = 0;
	int r = image_records_check(i->records, len, &d, e);

	if (r < 0)
		return r;
	i->slots = arena_array(i->memory, d.count, sizeof(*i->slots));
	if (!i->slots)
		return error_errno(e, -ENOMEM, IMAGE_CHECKPOINT);
	while (i->n_slots < d.count && image_records_next(i->records, len, &pos, &i->slots[i->n_slots].raw))
		i->n_slots++;
	*ret_hash = d.hash;
	return 0;
}

static int load_records(struct image *i, const struct image_content *c, struct error *e)
{
	uint64_t hash = 0;
	int r = content(IMAGE_CHECKPOINT, c, i->files.checkpoint.size, &i->records, e);

	if (r == 0)
		r = parse_records(i, i->files.checkpoint.size, &hash, e);
	if (r == 0 && hash != i->files.checkpoint.checksum)
		r = image_corrupt(
			e, IMAGE_CHECKPOINT, 0, "belongs to another checkpoint than %s", IMAGE_MANIFEST);
	return r;
}

static int load_index(struct image *i, const struct image_content *c, struct error *e)
{
	const char *data = NULL;
	int r = content(IMAGE_INDEX, c, i->files.index.size, &data, e);

	if (r < 0)
		return r;
	r = image_index_parse(data, i->files.index.size, i->files.pages.size, &i->index, e);
	if (r < 0)
		return r;
	if (i->index.hash != i->files.index.checksum)
		return image_corrupt(
			e, IMAGE_INDEX, 0, "belongs to another checkpoint than %s", IMAGE_MANIFEST);
	return 0;
}

static int open_layer(const struct image_opener *o, struct arena *memory, unsigned depth, const char *path,
	struct image **ret, struct error *e) _must_check_;

static int open_parent(
	struct image *i, const struct image_opener *o, struct arena *memory, unsigned depth, struct error *e)
{
	const char *path = i->manifest.parent;
	int r = open_layer(o, memory, depth + 1, path, &i->parent, e);

	if (r < 0)
		return r;
	if (i->parent->manifest.checksum != i->manifest.parent_checksum)
		return error_set(e, -ESTALE, ERROR_STATE,
			"\"%.200s\" is not the image's parent any more: it was made anew since, or is "
			"another one",
			path);
	return 0;
}

/* Of it, and of what its chain has below it: whether all is there that the index says. */
static int check_ancestors(const struct image *i, struct error *e)
{
	uint64_t data_size[IMAGE_CHAIN_MAX + 1];
	unsigned n = 0;

	for (const struct image *of = i; of && n <= IMAGE_CHAIN_MAX; of = of->parent)
		data_size[n++] = of->index.data_size;
	return image_index_check_ancestors(&i->index, data_size, n, e);
}

static int open_rest(struct image *i, const struct image_opener *o, struct arena *memory, unsigned depth,
	const struct image_layer *l, struct error *e)
{
	static const struct image_index nothing;
	int r = i->manifest.parent ? open_parent(i, o, memory, depth, e) : 0;

	if (r == 0 && depth == 0)
		r = load_records(i, &l->checkpoint, e);
	if (r == 0)
		r = load_index(i, &l->index, e);
	if (r == 0)
		r = image_index_resolve(&i->index, i->parent ? &i->parent->index : &nothing, 1, e);
	if (r == 0)
		r = check_ancestors(i, e);
	if (r == 0)
		r = content(IMAGE_PAGES, &l->pages, i->files.pages.size, NULL, e);
	if (r == 0 && l->stream && i->index.frame_size)
		r = error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"%s: an image that is compressed can't come as a stream: make it without --compress, "
			"and compress the "
			"stream",
			IMAGE_INDEX);
	return r;
}

int image_open_store(struct image *i, struct error *e)
{
	i->store = (struct image_store){
		.fd = i->store.fd,
		.frame_size = i->index.frame_size,
		.data_size = i->index.data_size,
		.frames = i->index.frames,
		.n_frames = i->index.n_frames,
	};
	if (!i->index.frame_size)
		return 0;
	i->decoder = image_decoder_make(i->index.frame_size);
	return i->decoder ? 0 : error_errno(e, -ENOMEM, IMAGE_PAGES);
}

/* What goes wrong with a parent's files says which parent it is; but what goes wrong on the way to it says so by itself. */
static int open_layer(const struct image_opener *o, struct arena *memory, unsigned depth, const char *path,
	struct image **ret, struct error *e)
{
	_cleanup_(image_free_p) struct image *i = calloc(1, sizeof(*i));
	struct image_layer l = {0};
	int r;

	if (!i)
		return error_errno(e, -ENOMEM, "image");
	i->store.fd = -EBADF;
	i->arena.shared = true; /* a restore forks as often as there are processes, and all only read it */
	i->memory = memory ? memory : &i->arena;
	r = o->next(o->arg, path, &l, e);
	if (r < 0)
		return r;
	r = load_manifest(i, &l.manifest, e);
	if (r == 0)
		r = open_rest(i, o, memory, depth, &l, e);
	if (r < 0) {
		if (path && r != -ELOOP)
			error_prefix(e, "parent \"%.200s\"", path);
		return r;
	}
	*ret = take_ptr(i);
	return 0;
}

struct own_files {
	struct image_source *source;
	struct arena memory; /* of files; the image's afterwards */
};

static int next_of_source(void *arg, const char *parent, struct image_layer *ret, struct error *e)
{
	struct own_files *own = arg;

	return image_source_next(own->source, parent, &own->memory, ret, e);
}

int image_open_source(struct image_source *s, struct image **ret, struct error *e)
{
	struct own_files own = {.source = s, .memory = {.shared = true}};
	struct image_opener o = {next_of_source, &own};
	_cleanup_(image_free_p) struct image *i = NULL;
	int r = open_layer(&o, NULL, 0, NULL, &i, e);

	if (r == 0)
		r = image_source_give(s, i, e);
	if (r < 0) {
		arena_done(&own.memory);
		return r;
	}
	arena_take(&i->arena, &own.memory);
	*ret = take_ptr(i);
	return 0;
}

int image_open(int dirfd, struct image **ret, struct error *e)
{
	_cleanup_(image_source_free_p) struct image_source *s = NULL;
	int r = image_source_new(dirfd, &s, e);

	return r < 0 ? r : image_open_source(s, ret, e);
}

static int unpack_all(struct image *i, struct error *e)
{
	const ProtobufCMessage *m;
	enum image_record_type type;
	size_t pos = 0;
	int r;

	while ((r = image_next_record(i, &pos, &type, &m, e)) == 1)
		;
	return r;
}

/* A copy of what is not in "memory" yet. */
static const struct image *publish(const struct image *i, struct arena *memory)
{
	struct image *copy = arena_memdup(memory, i, sizeof(*i));
	const struct image_index *x = &i->index;

	if (!copy)
		return NULL;
	copy->index.runs = arena_memdup(memory, x->runs, x->n_runs * sizeof(*x->runs));
	copy->index.chunks = arena_memdup(memory, x->chunks, x->n_chunks * sizeof(*x->chunks));
	copy->index.frames = arena_memdup(memory, x->frames, x->n_frames * sizeof(*x->frames));
	if (!copy->index.runs || !copy->index.chunks || !copy->index.frames)
		return NULL;
	if (!i->parent)
		return copy;
	copy->parent = (struct image *)publish(i->parent, memory);
	return copy->parent ? copy : NULL;
}

int image_read_into(
	const struct image_opener *o, struct arena *memory, const struct image **ret, struct error *e)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	int r = open_layer(o, memory, 0, NULL, &i, e);

	if (r == 0)
		r = unpack_all(i, e);
	if (r < 0)
		return r;
	*ret = publish(i, memory);
	return *ret ? 0 : error_errno(e, -ENOMEM, "image");
}

int image_from_memory(const struct image_manifest *m, const void *records, size_t len, const void *index,
	size_t index_len, uint64_t pages_size, struct image **ret, struct error *e)
{
	_cleanup_(image_free_p) struct image *i = calloc(1, sizeof(*i));
	uint64_t hash;
	int r;

	if (!i)
		return error_errno(e, -ENOMEM, "image");
	i->store.fd = -EBADF;
	i->memory = &i->arena;
	i->manifest = *m;
	i->files.pages.size = pages_size;
	i->records = arena_memdup(&i->arena, records, len);
	r = i->records ? parse_records(i, len, &hash, e) : error_errno(e, -ENOMEM, "image");
	if (r == 0)
		r = image_index_parse(index, index_len, pages_size, &i->index, e);
	if (r == 0)
		r = image_index_resolve(&i->index, &(struct image_index){0}, 1, e);
	if (r == 0)
		r = check_ancestors(i, e);
	if (r < 0)
		return r;
	*ret = take_ptr(i);
	return 0;
}
