/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process that reads images: what it may do, and that nothing that it could leave behind hurts who takes it over.
 * Argument: the directory with images of earlier versions.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "checkpoint/confine.h"
#include "image/image.h"
#include "linux/confine.h"
#include "linux/seccomp-run.h"
#include "tap.h"

enum { RESULT_SIZE = 8 << 20, FILES_SIZE = 8 << 20, ROUNDS = 1500 };

static bool passes_as(
	enum confine_for what, uint32_t arch, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	struct sock_fprog p = confine_filter(what);
	struct seccomp_data data = {.nr = (int)nr, .arch = arch, .args = {a, b, c, d, (uint64_t)-1}};
	uint32_t answer = seccomp_run(&p, &data);

	if (answer != SECCOMP_RET_ALLOW && answer != SECCOMP_RET_KILL_PROCESS)
		CHECK(false, "system call %ld: answer %#x", nr, answer);
	return answer == SECCOMP_RET_ALLOW;
}

static bool passes(enum confine_for what, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	return passes_as(what, AUDIT_ARCH_X86_64, nr, a, b, c, d);
}

static void test_filter(void)
{
	static const int always[] = {SYS_brk, SYS_munmap, SYS_exit_group, SYS_getrandom};
	unsigned n = 0, n_stream = 0;

	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		CHECK(passes(CONFINE_PARSER, always[i], 0, 0, 0, 0) &&
			passes(CONFINE_STREAM, always[i], 0, 0, 0, 0));
	/* With arguments that are all 0 mmap is refused, mprotect and read are not. */
	for (long nr = 0; nr < 600; nr++) {
		n += passes(CONFINE_PARSER, nr, 0, 0, 0, 0);
		n_stream += passes(CONFINE_STREAM, nr, 0, 0, 0, 0);
	}
#ifdef __SANITIZE_ADDRESS__
	n--;
	n_stream--;
#endif
	CHECK(n == 13, "%u system calls", n);
	CHECK(n_stream == 19, "%u system calls", n_stream);
	CHECK(passes(CONFINE_PARSER, SYS_read, 0, 1, 1, 0) && !passes(CONFINE_PARSER, SYS_read, 3, 1, 1, 0));
	CHECK(passes(CONFINE_PARSER, SYS_write, 0, 1, 1, 0) &&
		!passes(CONFINE_PARSER, SYS_write, 1, 1, 1, 0));
	CHECK(!passes(CONFINE_PARSER, SYS_pread64, 0, 1, 1, 0) &&
		passes(CONFINE_STREAM, SYS_pwrite64, 5, 1, 1, 0));
	CHECK(passes(CONFINE_PARSER, SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS));
	CHECK(!passes(CONFINE_PARSER, SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS));
	CHECK(!passes(CONFINE_PARSER, SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE));
	CHECK(passes(CONFINE_PARSER, SYS_mprotect, 0, 4096, PROT_READ, 0) &&
		!passes(CONFINE_PARSER, SYS_mprotect, 0, 4096, PROT_READ | PROT_EXEC, 0));
	/* By other doors. */
	CHECK(!passes(CONFINE_PARSER, SYS_brk | 0x40000000, 0, 0, 0, 0));
	CHECK(!passes_as(CONFINE_PARSER, AUDIT_ARCH_I386, 1, 0, 0, 0, 0));
}

static uint64_t next_random(void)
{
	static uint64_t x = 88172645463325252ull;

	x ^= x << 13;
	x ^= x >> 7;
	return x ^= x << 17;
}

struct reading {
	struct image_source *source;
	struct arena files;
};

static int next_layer(void *arg, const char *parent, struct image_layer *ret, struct error *e)
{
	struct reading *r = arg;

	return image_source_next(r->source, parent, &r->files, ret, e);
}

/* Looks at all that there is to be looked at. */
static void walk(struct image *i)
{
	const ProtobufCMessage *m;
	enum image_record_type type;
	struct error e;
	size_t pos = 0, n;
	uint64_t seen = 0;

	while (image_next_record(i, &pos, &type, &m, &e) == 1) {
		size_t size = protobuf_c_message_get_packed_size(m);
		uint8_t *packed = size < 64 << 20 ? malloc(size) : NULL;

		CHECK(protobuf_c_message_check(m), "record of type %d", type);
		if (packed && protobuf_c_message_pack(m, packed) != size)
			CHECK(false, "record of type %d", type);
		free(packed);
	}
	for (unsigned k = 0; k < image_n_layers(i); k++)
		seen += image_n_chunks(i, k) + image_chunk_size(i, k);
	seen += strlen(image_manifest(i)->container_name) + strlen(image_manifest(i)->engine);
	image_all_runs(i, &n);
	CHECK(seen > 0 && image_runs(i, 1, &n));
}

/* One word of what the other process has left becomes another one, as an attacker would have it. */
static void spoil(uint64_t *words, size_t n)
{
	uint64_t *w = &words[next_random() % n];

	switch (next_random() % 8) {
	case 0:
		*w = 0;
		break;
	case 1:
		*w = (uint64_t)words + next_random() % (n * 8);
		break;
	case 2:
		*w = (uint64_t)words + next_random() % n * 8;
		break;
	case 3:
		*w = (uint64_t)words + n * 8 - next_random() % 64;
		break;
	case 4:
		*w += 8 * (next_random() % 16) - 64;
		break;
	case 5:
		*w = next_random() % 4096;
		break;
	case 6:
		*w = ~0ull >> next_random() % 64;
		break;
	default:
		*w = words[next_random() % n];
	}
}

static int adopt(int dirfd, struct reading *r, struct image_memory *result, const struct image *what,
	struct image **ret, struct error *e)
{
	struct image_memory files = {r->files.fixed, r->files.fixed_size};
	struct image_layer ignored;
	int n = image_source_new(dirfd, &r->source, e);

	/* Descriptors are handed over: each time new ones. */
	r->files.fixed_used = 0;
	if (n == 0)
		n = image_source_next(r->source, NULL, &r->files, &ignored, e);
	if (n == 0)
		n = image_adopt(r->source, result, &files, what, ret, e);
	image_source_free(r->source);
	return n;
}

static void *region(size_t size)
{
	char *p = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	/* What goes beyond it shows. */
	mprotect(p + size, 4096, PROT_NONE);
	return p;
}

static void test_image(int dirfd, const char *name)
{
	struct reading r = {.files = {.fixed = region(FILES_SIZE), .fixed_size = FILES_SIZE}};
	struct image_opener opener = {next_layer, &r};
	struct arena memory = {.fixed = region(RESULT_SIZE), .fixed_size = RESULT_SIZE};
	struct image_memory result = {memory.fixed, 0};
	const struct image *what = NULL;
	unsigned accepted = 0;
	struct error e;
	char *copy;

	if (!CHECK(image_source_new(dirfd, &r.source, &e) == 0) ||
		!CHECK(image_read_into(&opener, &memory, &what, &e) == 0, "%s: %s", name, e.message))
		return;
	image_source_free(r.source);
	result.size = ALIGN_UP(memory.fixed_used, (size_t)4096);
	/* So that the end of what is used is the end of the memory. */
	mprotect(memory.fixed + result.size, RESULT_SIZE - result.size, PROT_NONE);
	copy = malloc(result.size);
	memcpy(copy, result.at, result.size);
	for (unsigned i = 0; i <= ROUNDS; i++) {
		struct image *image = NULL;

		for (unsigned k = i ? 1 + next_random() % 3 : 0; k > 0; k--)
			spoil(result.at, memory.fixed_used / 8);
		if (adopt(dirfd, &r, &result, i % 100 == 1 ? (const void *)next_random() : what, &image,
			    &e) == 0) {
			walk(image);
			accepted++;
			image_free(image);
		} else {
			CHECK(i > 0, "%s: %s", name, e.message);
		}
		memcpy(result.at, copy, result.size);
	}
	CHECK(accepted > 0 && accepted < ROUNDS, "%s: %u of %d accepted", name, accepted, ROUNDS);
	free(copy);
	munmap(result.at, RESULT_SIZE + 4096);
	munmap(r.files.fixed, FILES_SIZE + 4096);
}

static const char *stored;

static void test_all(void)
{
	DIR *d = opendir(stored);
	struct dirent *ent;
	unsigned n = 0;

	while (d && (ent = readdir(d))) {
		_cleanup_close_ int fd = -EBADF;

		if (ent->d_name[0] == '.')
			continue;
		fd = openat(dirfd(d), ent->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && faccessat(fd, "manifest.json", R_OK, 0) == 0) {
			test_image(fd, ent->d_name);
			n++;
		}
	}
	CHECK(n > 0, "no images in %s", stored);
	if (d)
		closedir(d);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		{"what it may do", test_filter}, {"what it may leave behind", test_all}};

	stored = argc > 1 ? argv[1] : ".";
	return tap_main(tests, ARRAY_SIZE(tests));
}
