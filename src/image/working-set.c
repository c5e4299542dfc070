/* SPDX-License-Identifier: Apache-2.0 */
/*
 * working_set.img: where a restored container first touched its memory, in that order. It is written after a lazy restore and read
 * by the next one of the same image. It is no part of the image: it may be missing, old or damaged, and is then as if it were
 * missing. What it says decides when a page is read, never what is in it.
 */
#include <stdlib.h>

#include "base/fd.h"
#include "image/image-priv.h"

#define MAGIC "STASISWS"
enum { HEADER = 32, ENTRY = 24, CHECKSUM = 8 };

int image_working_set_parse(
	const void *data, size_t len, uint64_t index_checksum, struct image_touched **ret, size_t *ret_n)
{
	const uint8_t *p = data;
	struct image_touched *all;
	size_t n;

	if (len < HEADER + CHECKSUM || (len - HEADER - CHECKSUM) % ENTRY || memcmp(p, MAGIC, 8) != 0 ||
		get_le32(p + 8) != 1 || get_le64(p + 16) != index_checksum ||
		get_le64(p + len - CHECKSUM) != image_hash(p, len - CHECKSUM))
		return -EBADMSG;
	n = (len - HEADER - CHECKSUM) / ENTRY;
	if (n > IMAGE_TOUCHED_MAX)
		return -EBADMSG;
	all = calloc(n + 1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const uint8_t *entry = p + HEADER + i * ENTRY;
		uint64_t end;

		all[i] = (struct image_touched){get_le64(entry), get_le64(entry + 8), get_le64(entry + 16)};
		if (__builtin_add_overflow(all[i].address, all[i].len, &end)) {
			free(all);
			return -EBADMSG;
		}
	}
	*ret = all;
	*ret_n = n;
	return 0;
}

int image_working_set_read(
	const struct image *i, int dirfd, struct image_touched **ret, size_t *ret_n, struct error *e)
{
	_cleanup_free_ char *data = NULL;
	size_t len, limit = HEADER + (size_t)IMAGE_TOUCHED_MAX * ENTRY + CHECKSUM;
	struct image_touched *all;
	_cleanup_close_ int fd =
		openat(dirfd, IMAGE_WORKING_SET, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	int r = fd < 0 ? -errno : read_fd(fd, limit, &data, &len);

	*ret_n = 0;
	if (r == 0)
		r = image_working_set_parse(data, len, image_index_checksum(i), &all, ret_n);
	if (r == -ENOMEM)
		return error_errno(e, r, IMAGE_WORKING_SET);
	*ret = r == 0 ? all : NULL;
	return 0;
}

int image_working_set_write(
	const struct image *i, int dirfd, const struct image_touched *touched, size_t n, struct error *e)
{
	size_t len = HEADER + n * ENTRY + CHECKSUM;
	_cleanup_free_ uint8_t *data = calloc(1, len);
	int r;

	if (!data)
		return error_errno(e, -ENOMEM, IMAGE_WORKING_SET);
	memcpy(data, MAGIC, 8);
	put_le32(data + 8, 1);
	put_le64(data + 16, image_index_checksum(i));
	for (size_t k = 0; k < n; k++) {
		uint8_t *entry = data + HEADER + k * ENTRY;

		put_le64(entry, touched[k].space);
		put_le64(entry + 8, touched[k].address);
		put_le64(entry + 16, touched[k].len);
	}
	put_le64(data + len - CHECKSUM, image_hash(data, len - CHECKSUM));
	r = write_file_replace_at(dirfd, IMAGE_WORKING_SET, data, len, 0600);
	return r < 0 ? error_errno(e, r, IMAGE_WORKING_SET) : 0;
}
