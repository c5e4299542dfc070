/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint.img: a header, then records {u32 type, u32 flags, u64 length, payload, u64 checksum}, then an end record
 * whose payload is the number of the other records and a digest of their checksums.
 *
 * Invariants of an accepted file: every bit is under a check (the header has one value only, a record's checksum
 * covers its type, flags and length too, the end record covers number and order of the others); the first record is
 * the one Container; nothing follows the end record.
 */
#include <stdarg.h>
#include <stdio.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "image.pb-c.h"
#include "image/image-priv.h"

static const char magic[8] = {'S', 'T', 'A', 'S', 'I', 'S', 'C', 'K'};

static const ProtobufCMessageDescriptor *const descriptors[] = {
	[IMAGE_RECORD_CONTAINER] = &st__container__descriptor,
	[IMAGE_RECORD_FILE] = &st__file__descriptor,
	[IMAGE_RECORD_SHM] = &st__shared_memory__descriptor,
	[IMAGE_RECORD_SHM_2] = &st__shared_memory__descriptor,
	[IMAGE_RECORD_PROCESS] = &st__process__descriptor,
	[IMAGE_RECORD_PROCESS_2] = &st__process__descriptor,
	[IMAGE_RECORD_PROCESS_3] = &st__process__descriptor,
	[IMAGE_RECORD_TMPFS] = &st__tmpfs__descriptor,
	[IMAGE_RECORD_NAMESPACE] = &st__namespace__descriptor,
	[IMAGE_RECORD_NAMESPACE_2] = &st__namespace__descriptor,
	[IMAGE_RECORD_NAMESPACE_3] = &st__namespace__descriptor,
	[IMAGE_RECORD_NETWORK] = &st__network__descriptor,
	[IMAGE_RECORD_NETWORK_2] = &st__network__descriptor,
	[IMAGE_RECORD_NETWORK_3] = &st__network__descriptor,
	[IMAGE_RECORD_PACKET_TABLE] = &st__packet_table__descriptor,
	[IMAGE_RECORD_IPC] = &st__ipc__descriptor,
	[IMAGE_RECORD_IPC_2] = &st__ipc__descriptor,
	[IMAGE_RECORD_MOUNT] = &st__mount__descriptor,
	[IMAGE_RECORD_CGROUP] = &st__cgroup__descriptor,
};

const ProtobufCMessageDescriptor *image_record_descriptor(uint32_t type)
{
	return type < ARRAY_SIZE(descriptors) ? descriptors[type] : NULL;
}

uint64_t image_hash(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}

int image_corrupt(struct error *e, const char *file, uint64_t offset, const char *format, ...)
{
	char message[300];
	va_list ap;

	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	return error_set(e, -EBADMSG, ERROR_CORRUPT,
		"%s: offset %llu: %s (the image is damaged: copy it again from where it was made)", file,
		(unsigned long long)offset, message);
}

void image_buffer_done(struct image_buffer *b)
{
	free(b->data);
	*b = (struct image_buffer){0};
}

void *image_buffer_room(struct image_buffer *b, size_t n)
{
	if (b->size - b->len < n) {
		size_t want = MAX(b->size * 2, (size_t)16384);
		void *p;

		while (want - b->len < n) {
			if (want > SIZE_MAX / 4)
				return NULL;
			want *= 2;
		}
		p = realloc(b->data, want);
		if (!p)
			return NULL;
		b->data = p;
		b->size = want;
	}
	return b->data + b->len;
}

/* Not a plain sum: the digest changes with the order of the records as well. */
static void digest_add(struct image_digest *d, uint64_t checksum)
{
	uint8_t both[16];

	put_le64(both, d->hash);
	put_le64(both + 8, checksum);
	d->hash = image_hash(both, sizeof(both));
	d->count++;
}

/* "len" bytes of payload are already behind the 16 bytes of header at b's end. */
static uint64_t frame(struct image_buffer *b, uint32_t type, uint32_t flags, size_t len)
{
	uint8_t *p = b->data + b->len;
	uint64_t checksum;

	put_le32(p, type);
	put_le32(p + 4, flags);
	put_le64(p + 8, len);
	checksum = image_hash(p, IMAGE_RECORD_HEADER + len);
	put_le64(p + IMAGE_RECORD_HEADER + len, checksum);
	b->len += IMAGE_RECORD_FRAME + len;
	return checksum;
}

int image_records_begin(struct image_buffer *b, struct error *e)
{
	uint8_t *p = image_buffer_room(b, IMAGE_CHECKPOINT_HEADER);

	if (!p)
		return error_errno(e, -ENOMEM, "image records");
	memcpy(p, magic, sizeof(magic));
	put_le32(p + 8, IMAGE_FORMAT_VERSION);
	put_le32(p + 12, 0);
	b->len += IMAGE_CHECKPOINT_HEADER;
	return 0;
}

int image_records_add(struct image_buffer *b, uint32_t type, uint32_t flags, const ProtobufCMessage *m,
	struct image_digest *d, struct error *e)
{
	const ProtobufCMessageDescriptor *want = image_record_descriptor(type);
	size_t len = protobuf_c_message_get_packed_size(m);
	uint8_t *p;

	if (!want || want != m->descriptor)
		return error_set(e, -EINVAL, ERROR_INTERNAL, "record type %u with message %s", type,
			m->descriptor->name);
	if (len > IMAGE_RECORD_MAX)
		return error_set(e, -EMSGSIZE, ERROR_REFUSED,
			"a %s record of %zu bytes is larger than an image may hold (%u)", want->short_name,
			len, (unsigned)IMAGE_RECORD_MAX);
	p = image_buffer_room(b, IMAGE_RECORD_FRAME + len);
	if (!p)
		return error_errno(e, -ENOMEM, "image records");
	protobuf_c_message_pack(m, p + IMAGE_RECORD_HEADER);
	digest_add(d, frame(b, type, flags, len));
	return 0;
}

int image_records_copy(
	struct image_buffer *b, const struct image_record *of, struct image_digest *d, struct error *e)
{
	uint8_t *p = image_buffer_room(b, IMAGE_RECORD_FRAME + of->len);

	if (!p)
		return error_errno(e, -ENOMEM, "image records");
	memcpy(p + IMAGE_RECORD_HEADER, of->payload, of->len);
	digest_add(d, frame(b, of->type, of->flags, of->len));
	return 0;
}

int image_records_end(struct image_buffer *b, const struct image_digest *d, struct error *e)
{
	uint8_t *p = image_buffer_room(b, IMAGE_RECORD_FRAME + 16);

	if (!p)
		return error_errno(e, -ENOMEM, "image records");
	put_le64(p + IMAGE_RECORD_HEADER, d->count);
	put_le64(p + IMAGE_RECORD_HEADER + 8, d->hash);
	frame(b, IMAGE_RECORD_END, IMAGE_RECORD_CRITICAL, 16);
	return 0;
}

static int check_header(const uint8_t *p, size_t len, struct error *e)
{
	if (len < IMAGE_CHECKPOINT_HEADER)
		return image_corrupt(e, IMAGE_CHECKPOINT, len, "the file ends in its header");
	if (memcmp(p, magic, sizeof(magic)) != 0)
		return image_corrupt(e, IMAGE_CHECKPOINT, 0, "not a checkpoint (wrong magic)");
	if (get_le32(p + 8) != IMAGE_FORMAT_VERSION)
		return error_set(e, -ENOTSUP, ERROR_REFUSED,
			"%s: format version %u, but this stasis " STASIS_VERSION
			" reads version %d: use the stasis that made it",
			IMAGE_CHECKPOINT, get_le32(p + 8), IMAGE_FORMAT_VERSION);
	if (get_le32(p + 12) != 0)
		return image_corrupt(e, IMAGE_CHECKPOINT, 12, "reserved field is not zero");
	return 0;
}

static const char *kind_of(uint32_t type)
{
	const ProtobufCMessageDescriptor *d = image_record_descriptor(type);

	return d ? d->short_name : "unknown";
}

/* Framing and checksum of the record at *pos; moves *pos behind it. */
static int check_record(const uint8_t *p, size_t len, size_t *pos, struct image_record *ret,
	uint64_t *ret_checksum, struct error *e)
{
	size_t left = len - *pos;
	uint64_t n;

	if (left < IMAGE_RECORD_FRAME)
		return image_corrupt(e, IMAGE_CHECKPOINT, *pos,
			left ? "the file ends in a record" : "the file ends without an end record");
	n = get_le64(p + *pos + 8);
	if (n > IMAGE_RECORD_MAX || n > left - IMAGE_RECORD_FRAME)
		return image_corrupt(e, IMAGE_CHECKPOINT, *pos,
			"a record's length (%llu) goes beyond the end of the file", (unsigned long long)n);
	*ret_checksum = get_le64(p + *pos + IMAGE_RECORD_HEADER + n);
	if (image_hash(p + *pos, IMAGE_RECORD_HEADER + n) != *ret_checksum)
		return image_corrupt(e, IMAGE_CHECKPOINT, *pos, "wrong checksum of a record of kind %s",
			kind_of(get_le32(p + *pos)));
	*ret = (struct image_record){
		.type = get_le32(p + *pos),
		.flags = get_le32(p + *pos + 4),
		.payload = p + *pos + IMAGE_RECORD_HEADER,
		.len = n,
	};
	*pos += IMAGE_RECORD_FRAME + n;
	return 0;
}

/* What only this record's place in the file can make wrong. */
static int check_type(const struct image_record *r, uint64_t index, size_t at, struct error *e)
{
	if (r->flags & ~(uint32_t)IMAGE_RECORD_CRITICAL)
		return error_set(e, -ENOTSUP, ERROR_REFUSED,
			"%s: offset %zu: record with unknown flags 0x%x: use a newer stasis",
			IMAGE_CHECKPOINT, at, r->flags);
	if ((r->type == IMAGE_RECORD_CONTAINER) != (index == 0))
		return image_corrupt(e, IMAGE_CHECKPOINT, at,
			index ? "a second Container record" : "the first record is no Container");
	if (!image_record_descriptor(r->type) && (r->flags & IMAGE_RECORD_CRITICAL))
		return error_set(e, -ENOTSUP, ERROR_REFUSED,
			"%s: offset %zu: record of type %u, which this stasis " STASIS_VERSION
			" doesn't know and may not skip: use a newer one",
			IMAGE_CHECKPOINT, at, r->type);
	return 0;
}

int image_records_check(const void *data, size_t len, struct image_digest *ret, struct error *e)
{
	struct image_digest d = {0};
	size_t pos = IMAGE_CHECKPOINT_HEADER;
	int r = check_header(data, len, e);

	if (r < 0)
		return r;
	for (;;) {
		struct image_record rec = {0};
		uint64_t checksum = 0;
		size_t at = pos;

		r = check_record(data, len, &pos, &rec, &checksum, e);
		if (r < 0)
			return r;
		if (rec.type == IMAGE_RECORD_END) {
			if (rec.len != 16 || get_le64(rec.payload) != d.count ||
				get_le64(rec.payload + 8) != d.hash || d.count == 0)
				return image_corrupt(e, IMAGE_CHECKPOINT, at,
					"the end record doesn't fit the records before it");
			if (pos != len)
				return image_corrupt(e, IMAGE_CHECKPOINT, pos, "data behind the end record");
			*ret = d;
			return 0;
		}
		r = check_type(&rec, d.count, at, e);
		if (r < 0)
			return r;
		digest_add(&d, checksum);
	}
}

int image_records_next(const void *data, size_t len, size_t *pos, struct image_record *ret)
{
	const uint8_t *p = data;
	size_t at = *pos ? *pos : IMAGE_CHECKPOINT_HEADER;

	if (at > len || len - at < IMAGE_RECORD_FRAME || get_le32(p + at) == IMAGE_RECORD_END)
		return 0;
	*ret = (struct image_record){
		.type = get_le32(p + at),
		.flags = get_le32(p + at + 4),
		.payload = p + at + IMAGE_RECORD_HEADER,
		.len = get_le64(p + at + 8),
	};
	*pos = at + IMAGE_RECORD_FRAME + ret->len;
	return 1;
}
