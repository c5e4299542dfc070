/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes over an image that another process has read, whose word is not to be trusted: whoever wrote the image may have taken
 * it over. What it leaves is memory with structures in it (open.c, image_read_into()). Nothing is parsed here. Each pointer is
 * held against the memory, and each number that somebody relies upon against what it is about; afterwards the image has what
 * a well-formed image may have, whatever the process has done.
 *
 * Invariants: the other process is dead, so that nothing changes between check and use; nothing is followed before it
 * was checked; a structure is looked at once, so that neither circles nor things that are shared make more work than
 * there is memory.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "image/opened-priv.h"

struct check {
	const char *base;
	size_t size, left; /* left: bytes that may still be looked at */
	struct image_memory files;
};

enum { DEPTH_MAX = 16 };

static bool inside(struct check *c, const void *p, size_t n, size_t align)
{
	uintptr_t at = (uintptr_t)p - (uintptr_t)c->base;

	if ((uintptr_t)p < (uintptr_t)c->base || at > c->size || n > c->size - at ||
		(uintptr_t)p % align != 0 || n > c->left)
		return false;
	c->left -= n;
	return true;
}

static bool inside_array(struct check *c, const void *p, size_t n, size_t size, size_t align)
{
	return n == 0 || (n <= c->size / size && inside(c, p, n * size, align));
}

static bool is_string(struct check *c, const char *s)
{
	uintptr_t at = (uintptr_t)s - (uintptr_t)c->base;
	const char *end;

	if (!s || (uintptr_t)s < (uintptr_t)c->base || at >= c->size)
		return false;
	end = memchr(s, 0, MIN(c->size - at, c->left));
	return end && inside(c, s, end - s + 1, 1);
}

/* Of one value in a message or in an array. */
static size_t size_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	default:
		return 4;
	}
}

static bool is_message(struct check *c, ProtobufCMessage *m, const ProtobufCMessageDescriptor *d, int depth);

/* A value that is a pointer. "optional": it may be missing. */
static bool is_value(
	struct check *c, const ProtobufCFieldDescriptor *f, const void *value, bool optional, int depth)
{
	const ProtobufCBinaryData *bytes = value;
	void *const *p = value;

	switch (f->type) {
	case PROTOBUF_C_TYPE_STRING:
		/* Empty ones are the program's own. */
		return (*p && *p == f->default_value) || (!*p && optional) || is_string(c, *p);
	case PROTOBUF_C_TYPE_MESSAGE:
		return (!*p && optional) || is_message(c, *p, f->descriptor, depth + 1);
	case PROTOBUF_C_TYPE_BYTES:
		return bytes->len == 0 || inside(c, bytes->data, bytes->len, 1);
	default:
		return true;
	}
}

static bool is_repeated(struct check *c, const ProtobufCFieldDescriptor *f, const char *m, int depth)
{
	size_t n = *(const size_t *)(m + f->quantifier_offset), size = size_of(f->type);
	const char *values = *(const char *const *)(m + f->offset);

	if (!inside_array(c, values, n, size, MIN(size, sizeof(void *))))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_value(c, f, values + i * size, false, depth))
			return false;
	return true;
}

/* 1: it is this field that is there, 0: another one or none, -1: no field at all. */
static int which_of(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f, const char *m)
{
	uint32_t is = *(const uint32_t *)(m + f->quantifier_offset);
	const ProtobufCFieldDescriptor *of = protobuf_c_message_descriptor_get_field(d, is);

	if (is == f->id || is == 0)
		return is != 0;
	return of && (of->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
			       of->quantifier_offset == f->quantifier_offset
		       ? 0
		       : -1;
}

static bool is_field(struct check *c, const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f,
	const char *m, int depth)
{
	bool one_of = f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF;
	int which = one_of ? which_of(d, f, m) : 1;

	if (which <= 0)
		return which == 0;
	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return is_repeated(c, f, m, depth);
	/* In proto3 every message may be missing; a string is there, but those that are marked optional. */
	return is_value(c, f, m + f->offset,
		!one_of && (f->type == PROTOBUF_C_TYPE_MESSAGE || f->label == PROTOBUF_C_LABEL_OPTIONAL),
		depth);
}

static bool is_message(struct check *c, ProtobufCMessage *m, const ProtobufCMessageDescriptor *d, int depth)
{
	if (depth > DEPTH_MAX || !inside(c, m, d->sizeof_message, _Alignof(uint64_t)) || m->descriptor != d)
		return false;
	/* Nobody reads them. */
	m->n_unknown_fields = 0;
	m->unknown_fields = NULL;
	for (unsigned i = 0; i < d->n_fields; i++)
		if (!is_field(c, d, &d->fields[i], (const char *)m, depth))
			return false;
	return true;
}

static bool are_records(struct check *c, const struct image *i)
{
	if (!inside_array(c, i->slots, i->n_slots, sizeof(*i->slots), _Alignof(struct image_slot)))
		return false;
	for (size_t k = 0; k < i->n_slots; k++) {
		struct image_slot *s = &i->slots[k];
		const ProtobufCMessageDescriptor *d = image_record_descriptor(s->raw.type);
		struct check bytes = {c->files.at, c->files.size, c->files.size, {}};

		if ((s->raw.type == IMAGE_RECORD_CONTAINER) != (k == 0) ||
			!inside(&bytes, s->raw.payload, s->raw.len, 1) ||
			(d && !is_message(c, s->message, d, 0)))
			return false;
		if (!d)
			s->message = NULL;
	}
	return i->n_slots > 0;
}

static bool is_manifest(struct check *c, struct image_manifest *m)
{
	const char *const there[] = {m->engine, m->stasis_version, m->container_id, m->container_name,
		m->architecture, m->kernel, m->cpu_features, m->created};

	for (size_t i = 0; i < ARRAY_SIZE(there); i++)
		if (!is_string(c, there[i]))
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(m->stdio); i++)
		m->stdio[i] = NULL;
	return (!m->parent || is_string(c, m->parent)) && (!m->cpu_layout || is_string(c, m->cpu_layout)) &&
	       m->page_size == IMAGE_PAGE_SIZE && m->format_version == IMAGE_FORMAT_VERSION;
}

static bool is_index(struct check *c, const struct image_index *x)
{
	return inside_array(c, x->runs, x->n_runs, sizeof(*x->runs), _Alignof(struct image_run)) &&
	       inside_array(c, x->chunks, x->n_chunks, sizeof(*x->chunks), _Alignof(uint64_t)) &&
	       inside_array(c, x->frames, x->n_frames, sizeof(*x->frames), _Alignof(struct image_frame));
}

/* A layer, and then those below it: *what is untrusted, its copy is ours. */
static int adopt_layer(struct check *c, const struct image_source *s, unsigned depth,
	const struct image *what, struct image **ret)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	int r;

	if (!inside(c, what, sizeof(*what), _Alignof(struct image)) || depth >= image_source_layers(s))
		return -EBADMSG;
	i = calloc(1, sizeof(*i));
	if (!i)
		return -ENOMEM;
	*i = (struct image){.manifest = what->manifest,
		.files = what->files,
		.slots = depth == 0 ? what->slots : NULL,
		.n_slots = depth == 0 ? what->n_slots : 0,
		.records = c->files.at,
		.index = what->index,
		.store.fd = -EBADF,
		.adopted = true};
	i->memory = &i->arena;
	i->files.pages.size = image_source_pages_size(s, depth);
	if (!is_manifest(c, &i->manifest) || !is_index(c, &i->index) || (depth == 0 && !are_records(c, i)) ||
		(image_source_is_stream(s) && i->index.frame_size))
		return -EBADMSG;
	r = what->parent ? adopt_layer(c, s, depth + 1, what->parent, &i->parent) : 0;
	if (r < 0)
		return r;
	*ret = take_ptr(i);
	return 0;
}

static int check_indexes(const struct image *i, const struct image_source *s, struct error *e)
{
	uint64_t data_size[IMAGE_CHAIN_MAX + 1] = {0};
	unsigned n = 0;

	for (const struct image *of = i; of; of = of->parent)
		data_size[n++] = of->index.data_size;
	for (unsigned k = 0; k < n; k++, i = i->parent) {
		int r = image_index_check(&i->index, image_source_pages_size(s, k), data_size + k, n - k, e);

		if (r < 0)
			return r;
	}
	return 0;
}

int image_adopt(struct image_source *s, const struct image_memory *result, const struct image_memory *files,
	const struct image *what, struct image **ret, struct error *e)
{
	struct check c = {result->at, result->size, result->size, *files};
	_cleanup_(image_free_p) struct image *i = NULL;
	int r = adopt_layer(&c, s, 0, what, &i);

	if (r == -ENOMEM)
		return error_errno(e, r, "image");
	if (r < 0)
		return error_set(e, r, ERROR_CORRUPT,
			"the process that read the image left something that is no image: it was taken over, "
			"or has a bug");
	r = check_indexes(i, s, e);
	if (r == 0)
		r = image_source_give(s, i, e);
	if (r < 0)
		return r;
	*ret = take_ptr(i);
	return 0;
}

void image_take_memory(struct image *i, const struct image_memory *result, const struct image_memory *files)
{
	i->mappings[0] = *result;
	i->mappings[1] = *files;
}
