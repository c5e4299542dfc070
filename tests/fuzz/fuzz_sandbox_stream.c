/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacking the stream of a sandbox's image. The first byte of an input says whether the rest is a stream as it is, or parts {u8 type,
 * u16 length, payload} that get right checksums, as an attacker would make them. What is refused leaves nothing behind, and nothing is
 * written anywhere else.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/fd.h"
#include "image/image-priv.h"
#include "image/sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void unpack(const uint8_t *data, size_t size)
{
	char outer[] = "/tmp/stasis-fuzz-sandbox.XXXXXX", path[64];
	int fd = memfd_create("stream", MFD_CLOEXEC), dir, r;
	struct error e = {0};

	if (fd < 0 || pwrite_all(fd, data, size, 0) < 0 || !mkdtemp(outer))
		abort();
	snprintf(path, sizeof(path), "%s/image", outer);
	if (mkdir(path, 0700) < 0 || (dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		abort();
	r = image_unpack(image_open, fd, dir, &e);
	if (r < 0 && (e.code != r || !e.message[0] || rmdir(path) < 0))
		abort();
	if (r == 0 && faccessat(dir, IMAGE_MANIFEST, F_OK, 0) < 0)
		abort();
	if (r == 0 && remove_tree_at(AT_FDCWD, path) < 0)
		abort();
	if (rmdir(outer) < 0) /* something is beside the image */
		abort();
	close(dir);
	close(fd);
}

static void unpack_parts(const uint8_t *data, size_t size)
{
	static uint8_t buf[1 << 20];
	uint64_t checksum = 0;
	size_t n = 16;

	memset(buf, 0, n);
	memcpy(buf, "STASISSB\1", 9);
	while (size >= 3 && n + 24 < sizeof(buf)) {
		size_t len = MIN(MIN((size_t)(data[1] | data[2] << 8), size - 3), sizeof(buf) - n - 24);

		put_le32(buf + n, data[0]);
		put_le32(buf + n + 4, 0);
		put_le64(buf + n + 8, len);
		memcpy(buf + n + 16, data + 3, len);
		checksum = XXH3_64bits_withSeed(buf + n, 16 + len, checksum);
		put_le64(buf + n + 16 + len, checksum);
		n += 24 + len;
		data += 3 + len;
		size -= 3 + len;
	}
	unpack(buf, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (data[0] & 1)
		unpack_parts(data + 1, size - 1);
	else
		unpack(data + 1, size - 1);
	return 0;
}
