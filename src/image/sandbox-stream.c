/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image of a sandbox as one stream (docs/formats/stream.md), and back. It is made of parts, each with a checksum that begins with that of
 * the part before; behind the name of a container comes the whole stream of its image, which has checksums of its own. The manifest of
 * the sandbox is the last part, as it is the last file that is written.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/fd.h"
#include "image/image-priv.h"
#include "image/sandbox.h"
#include "image/stream-priv.h"

#define STREAM "stream of a sandbox"

enum {
	SANDBOX_STREAM_VERSION = 1,
	PART_HEADER = 16, /* u32 type, u32 zero, u64 length */
	PART_MAX = 1 << 20,
	PART_END = 0,
	PART_CONTAINER = 1, /* its name; its stream follows */
	PART_CONFIG = 2,    /* of the last container */
	PART_MANIFEST = 3,
	CONTAINERS_MAX = 1 << 16,
};

/* ---- to a stream ---- */

struct packing {
	const struct image_sandbox_out *to;
	struct image_out *parts; /* what is around the containers' streams */
	uint64_t checksum;
};

static int begin_stream(const struct image_sandbox_out *to, struct image_out **ret, struct error *e)
{
	int r = image_out_new(to->fd, to->cancel_fd, to->stall_s, ret, e);

	if (r == 0)
		image_out_ask(*ret, to->packing.go_on, to->packing.arg);
	return r;
}

static int put_part(struct packing *p, uint32_t type, const void *data, size_t len, struct error *e)
{
	_cleanup_free_ uint8_t *buf = malloc(PART_HEADER + len + STREAM_CHECKSUM);

	if (!buf || len > PART_MAX)
		return error_errno(e, buf ? -EMSGSIZE : -ENOMEM, STREAM);
	put_le32(buf, type);
	put_le32(buf + 4, 0);
	put_le64(buf + 8, len);
	if (len)
		memcpy(buf + PART_HEADER, data, len);
	p->checksum = XXH3_64bits_withSeed(buf, PART_HEADER + len, p->checksum);
	put_le64(buf + PART_HEADER + len, p->checksum);
	return image_out_raw(p->parts, buf, PART_HEADER + len + STREAM_CHECKSUM, e);
}

static int put_file(struct packing *p, int dirfd, const char *name, uint32_t type, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = read_file_at(dirfd, name, PART_MAX, &text, &len);

	return r < 0 ? error_errno(e, r, "%s", name) : put_part(p, type, text, len, e);
}

/* A stream of it would be decompressed, and so another image than the one that the sandbox's manifest means. */
static int check_plain(const struct image *i, struct error *e)
{
	return image_pages_fd(i, 0) >= 0 ? 0
					 : error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
						   "an image that is compressed can't be packed with its "
						   "sandbox: make it without "
						   "--compress, and compress the stream");
}

static int pack_member(struct packing *p, image_open_fn *open_image, int dirfd,
	const struct image_sandbox_member *m, struct error *e)
{
	_cleanup_(image_out_free_p) struct image_out *out = NULL;
	_cleanup_close_ int dir = image_sandbox_directory(dirfd, m, e);
	int r = dir < 0 ? dir : put_part(p, PART_CONTAINER, m->name, strlen(m->name), e);

	if (r == 0)
		r = begin_stream(p->to, &out, e);
	if (r == 0)
		r = image_out_compress(out, &p->to->packing, e);
	if (r == 0)
		r = image_stream_pack(open_image, dir, out, e);
	if (r == 0)
		r = put_file(p, dir, IMAGE_CONFIG, PART_CONFIG, e);
	return r < 0 ? error_prefix(e, "container \"%s\"", m->name) : 0;
}

int image_sandbox_pack(
	image_open_fn *open_image, int dirfd, const struct image_sandbox_out *to, struct error *e)
{
	_cleanup_(image_out_free_p) struct image_out *parts = NULL;
	struct image_whole w;
	struct packing p = {.to = to};
	uint8_t header[STREAM_HEADER] = {};
	int r = begin_stream(to, &parts, e);

	p.parts = parts;
	if (r == 0)
		r = image_whole_open(open_image, dirfd, &w, e);
	if (r < 0)
		return r;
	memcpy(header, stream_sandbox_magic, sizeof(stream_sandbox_magic));
	put_le32(header + 8, SANDBOX_STREAM_VERSION);
	for (size_t i = 0; i < w.sandbox->n_members && r == 0; i++)
		r = check_plain(w.images[i], e);
	if (r == 0)
		r = image_out_raw(parts, header, sizeof(header), e);
	for (size_t i = 0; i < w.sandbox->n_members && r == 0; i++)
		r = pack_member(&p, open_image, dirfd, &w.sandbox->members[i], e);
	if (r == 0)
		r = put_file(&p, dirfd, IMAGE_MANIFEST, PART_MANIFEST, e);
	if (r == 0)
		r = put_part(&p, PART_END, NULL, 0, e);
	if (r == 0)
		r = image_out_drain(parts, e);
	image_whole_done(&w);
	return r;
}

/* ---- and back ---- */

struct unpacking {
	image_open_fn *open_image;
	int fd, dirfd;
	int member; /* the directory of the last container; -EBADF: none that wants something */
	uint64_t checksum;
	unsigned n;
	bool complete; /* the manifest has come */
	uint8_t *buf;
};

static int bad(struct error *e, const char *what)
{
	return error_set(e, -EBADMSG, ERROR_CORRUPT, STREAM ": %s", what);
}

static int take(struct unpacking *u, void *buf, size_t len, struct error *e)
{
	int r = read_exact(u->fd, buf, len);

	if (r == -ENODATA)
		return bad(e, "it ends before its end part: the packing failed, or something on the way");
	return r < 0 ? error_errno(e, r, "read the " STREAM) : 0;
}

/* In u->buf, terminated. */
static int take_part(struct unpacking *u, uint32_t *ret_type, size_t *ret_len, struct error *e)
{
	uint64_t len;
	int r = take(u, u->buf, PART_HEADER, e);

	if (r < 0)
		return r;
	*ret_type = get_le32(u->buf);
	len = get_le64(u->buf + 8);
	if (len > PART_MAX || get_le32(u->buf + 4))
		return bad(e, "a part that is too long, or damaged");
	r = take(u, u->buf + PART_HEADER, len + STREAM_CHECKSUM, e);
	if (r < 0)
		return r;
	u->checksum = XXH3_64bits_withSeed(u->buf, PART_HEADER + len, u->checksum);
	if (u->checksum != get_le64(u->buf + PART_HEADER + len))
		return bad(e, "wrong checksum of a part");
	memmove(u->buf, u->buf + PART_HEADER, len);
	u->buf[len] = '\0';
	*ret_len = len;
	return 0;
}

static int unpack_member(struct unpacking *u, size_t len, struct error *e)
{
	const char *name = (const char *)u->buf;
	int r;

	if (u->member >= 0 || u->complete || ++u->n > CONTAINERS_MAX || strlen(name) != len ||
		!image_sandbox_is_name(name))
		return bad(e, "a container in a wrong place, or of no valid name");
	u->member = image_sandbox_make_directory(u->dirfd, name, e);
	r = u->member < 0 ? u->member : image_stream_unpack(u->open_image, u->fd, u->member, e);
	return r < 0 ? error_prefix(e, "container \"%.255s\"", name) : 0;
}

static int unpack_config(struct unpacking *u, size_t len, struct error *e)
{
	int r;

	if (u->member < 0)
		return bad(e, "a configuration of no container");
	r = write_new_file_at(u->member, IMAGE_CONFIG, u->buf, len, 0600);
	close_p(&u->member);
	return r < 0 ? error_errno(e, r, "%s", IMAGE_CONFIG) : 0;
}

static int unpack_manifest(struct unpacking *u, size_t len, struct error *e)
{
	int r;

	if (u->member >= 0 || u->complete || u->n == 0)
		return bad(e, "a manifest before what it is about");
	u->complete = true;
	r = write_new_file_at(u->dirfd, IMAGE_MANIFEST_TMP, u->buf, len, 0600);
	return r < 0 ? error_errno(e, r, IMAGE_MANIFEST) : 0;
}

/* 1: the end */
static int unpack_part(struct unpacking *u, struct error *e)
{
	uint32_t type = 0;
	size_t len = 0;
	int r = take_part(u, &type, &len, e);

	if (r < 0)
		return r;
	switch (type) {
	case PART_CONTAINER:
		return unpack_member(u, len, e);
	case PART_CONFIG:
		return unpack_config(u, len, e);
	case PART_MANIFEST:
		return unpack_manifest(u, len, e);
	case PART_END:
		return u->complete ? 1 : bad(e, "an end without a manifest");
	}
	return error_set(e, -ENOTSUP, ERROR_REFUSED,
		STREAM ": a part of a type that this stasis " STASIS_VERSION " does not know (%u): use the "
		       "stasis that made it, or a newer one",
		type);
}

/* Under its own name, and then looked at as any image is. */
static int complete(struct unpacking *u, struct error *e)
{
	struct image_whole w;
	int r = renameat(u->dirfd, IMAGE_MANIFEST_TMP, u->dirfd, IMAGE_MANIFEST) < 0
			? error_errno(e, -errno, IMAGE_MANIFEST)
			: image_whole_open(u->open_image, u->dirfd, &w, e);

	if (r < 0)
		return r;
	if (w.sandbox->n_members != u->n)
		r = bad(e, "there are more containers than its manifest names");
	image_whole_done(&w);
	return r;
}

static int unpack_sandbox(image_open_fn *open_image, int fd, int dirfd, struct error *e)
{
	_cleanup_free_ uint8_t *buf = malloc(PART_HEADER + PART_MAX + STREAM_CHECKSUM);
	struct unpacking u = {
		.open_image = open_image, .fd = fd, .dirfd = dirfd, .member = -EBADF, .buf = buf};
	int r;

	if (!buf)
		return error_errno(e, -ENOMEM, STREAM);
	r = image_check_empty(dirfd, e);
	if (r < 0)
		return r;
	while (r == 0)
		r = unpack_part(&u, e);
	close_p(&u.member);
	if (r == 1)
		r = complete(&u, e);
	if (r < 0)
		image_remove(dirfd);
	return r;
}

int image_unpack(image_open_fn *open_image, int fd, int dirfd, struct error *e)
{
	uint8_t header[STREAM_HEADER];
	int r = read_exact(fd, header, sizeof(header));

	if (r < 0 && r != -ENODATA)
		return error_errno(e, r, "read the stream");
	if (r == 0 && !memcmp(header, stream_sandbox_magic, sizeof(stream_sandbox_magic))) {
		if (get_le32(header + 8) != SANDBOX_STREAM_VERSION || get_le32(header + 12))
			return error_set(e, -ENOTSUP, ERROR_REFUSED,
				STREAM ": format version %u, but this stasis " STASIS_VERSION
				       " reads version %d: use the stasis that made it",
				get_le32(header + 8), SANDBOX_STREAM_VERSION);
		return unpack_sandbox(open_image, fd, dirfd, e);
	}
	return image_stream_unpack_from(open_image, fd, header, r == 0 ? sizeof(header) : 0, dirfd, e);
}
