/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads an image that may come from a stranger. checkpoint.img and pages_meta.img are read into memory and checked
 * there (a file that is changed or truncated meanwhile can't hurt); only regular files are opened, links are not
 * followed; what is unpacked is limited.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "image/image-priv.h"
#include "image/stream-priv.h"

/* Where the files of an image are: in a directory, or open already, by their numbers in a stream. */
struct place {
	int dirfd;
	const int *fds;
};

struct slot { /* one record */
	struct image_record raw;
	ProtobufCMessage *message; /* NULL: not unpacked yet */
};

struct image {
	struct arena arena;
	struct image_manifest manifest;
	struct image_files files;
	char *records; /* checkpoint.img, in the arena */
	struct slot *slots;
	size_t n_slots;
	struct image_index index;
	struct image_store store; /* page data */
	struct image_decoder *decoder;
	uint64_t unpacked;	 /* bytes */
	struct image *parent;	 /* layer 1; NULL: none */
	struct image_feed *feed; /* borrowed; NULL: all of it is there */
};

static int open_of_stream(const int *fds, const char *name)
{
	unsigned n = 1;

	while (n < IMAGE_STREAM_MANIFEST && strcmp(image_stream_names[n], name) != 0)
		n++;
	return fcntl(fds[n], F_DUPFD_CLOEXEC, 3);
}

/* A regular file of the image. Missing is -ENOENT without a message. */
static int open_file(const struct place *at, const char *name, uint64_t *ret_size, struct error *e)
{
	/* O_NONBLOCK: a FIFO in its place must not block us. */
	int fd = at->fds ? open_of_stream(at->fds, name)
			 : openat(at->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return error_errno(e, -errno, "%s", name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return image_corrupt(e, name, 0, "not a regular file");
	}
	*ret_size = st.st_size;
	return fd;
}

static int open_checked(const struct place *at, const char *name, uint64_t size, struct error *e)
{
	uint64_t found = 0;
	int fd = open_file(at, name, &found, e);

	if (fd == -ENOENT)
		return error_set(
			e, -EBADMSG, ERROR_CORRUPT, "%s: missing, but %s lists it", name, IMAGE_MANIFEST);
	if (fd >= 0 && found != size) {
		close(fd);
		return image_corrupt(e, name, found, "the file ends here, but %s says %llu bytes",
			IMAGE_MANIFEST, (unsigned long long)size);
	}
	return fd;
}

/* Reads a whole file of a known size into memory. */
static int load(
	struct image *i, const struct place *at, const char *name, uint64_t size, char **ret, struct error *e)
{
	_cleanup_close_ int fd = open_checked(at, name, size, e);
	char *buf;
	int r;

	if (fd < 0)
		return fd;
	if (size > IMAGE_FILE_MAX)
		return image_corrupt(e, name, IMAGE_FILE_MAX, "larger than such a file may be");
	buf = arena_alloc(&i->arena, size);
	if (!buf)
		return error_errno(e, -ENOMEM, "%s", name);
	r = pread_exact(fd, buf, size, 0);
	if (r < 0)
		return error_errno(e, r, "%s", name);
	*ret = buf;
	return 0;
}

static int load_manifest(struct image *i, const struct place *at, struct error *e)
{
	char *text = NULL;
	uint64_t size = 0;
	int r, fd = open_file(at, IMAGE_MANIFEST, &size, e);

	if (fd == -ENOENT)
		return error_set(e, -ENOENT, ERROR_STATE,
			"incomplete image: no %s (was the checkpoint interrupted?)", IMAGE_MANIFEST);
	if (fd < 0)
		return fd;
	close(fd);
	if (size > IMAGE_MANIFEST_MAX)
		return image_corrupt(e, IMAGE_MANIFEST, size, "larger than %d bytes", IMAGE_MANIFEST_MAX);
	r = load(i, at, IMAGE_MANIFEST, size, &text, e);
	if (r < 0)
		return r;
	return image_manifest_parse(&i->arena, text, size, &i->manifest, &i->files, e);
}

/* i->records, with a slot for each. */
static int parse_records(struct image *i, size_t len, uint64_t *ret_hash, struct error *e)
{
	struct image_digest d = {0};
	size_t pos = 0;
	int r = image_records_check(i->records, len, &d, e);

	if (r < 0)
		return r;
	i->slots = arena_array(&i->arena, d.count, sizeof(*i->slots));
	if (!i->slots)
		return error_errno(e, -ENOMEM, IMAGE_CHECKPOINT);
	while (i->n_slots < d.count && image_records_next(i->records, len, &pos, &i->slots[i->n_slots].raw))
		i->n_slots++;
	*ret_hash = d.hash;
	return 0;
}

static int load_records(struct image *i, const struct place *at, struct error *e)
{
	uint64_t hash = 0;
	int r = load(i, at, IMAGE_CHECKPOINT, i->files.checkpoint.size, &i->records, e);

	if (r == 0)
		r = parse_records(i, i->files.checkpoint.size, &hash, e);
	if (r == 0 && hash != i->files.checkpoint.checksum)
		r = image_corrupt(
			e, IMAGE_CHECKPOINT, 0, "belongs to another checkpoint than %s", IMAGE_MANIFEST);
	return r;
}

static int load_index(struct image *i, const struct place *at, struct error *e)
{
	char *data = NULL;
	int r = load(i, at, IMAGE_INDEX, i->files.index.size, &data, e);

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

static int open_layer(
	const struct place *at, unsigned depth, struct image **ret, struct error *e) _must_check_;

/* The image that the manifest names. Only of the same owner: a chain leads to other directories. */
static int open_parent(struct image *i, const struct place *at, unsigned depth, struct error *e)
{
	const char *path = i->manifest.parent;
	_cleanup_close_ int fd = -EBADF;
	struct stat mine, its;
	int r;

	if (at->fds)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"%s: an image that has a parent can't come as a stream: \"stasis image squash\" "
			"makes a whole one "
			"of both",
			IMAGE_MANIFEST);
	if (depth == IMAGE_CHAIN_MAX)
		return error_set(e, -ELOOP, ERROR_CORRUPT, "%s: more than %d parents in a row (a circle?)",
			IMAGE_MANIFEST, IMAGE_CHAIN_MAX);
	fd = openat(at->dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set(e, -errno, ERROR_STATE,
			"the image's parent \"%.200s\" (relative to its own directory) cannot be opened: %s: "
			"put "
			"it back there",
			path, strerror(errno));
	if (fstat(at->dirfd, &mine) < 0 || fstat(fd, &its) < 0)
		return error_errno(e, -errno, "parent %.200s", path);
	if (mine.st_uid != its.st_uid)
		return error_set(e, -EPERM, ERROR_REFUSED,
			"the image's parent \"%.200s\" belongs to another user than the image: give both the "
			"same owner",
			path);
	r = open_layer(&(struct place){.dirfd = fd}, depth + 1, &i->parent, e);
	if (r < 0) {
		if (r != -ELOOP)
			error_prefix(e, "parent \"%.200s\"", path);
		return r;
	}
	if (i->parent->manifest.checksum != i->manifest.parent_checksum)
		return error_set(e, -ESTALE, ERROR_STATE,
			"\"%.200s\" is not the image's parent any more: it was made anew since, or is "
			"another one",
			path);
	return 0;
}

static int open_rest(struct image *i, const struct place *at, unsigned depth, struct error *e)
{
	static const struct image_index nothing;
	int r = i->manifest.parent ? open_parent(i, at, depth, e) : 0;

	if (r == 0 && depth == 0)
		r = load_records(i, at, e);
	if (r == 0)
		r = load_index(i, at, e);
	if (r == 0)
		r = image_index_resolve(&i->index, i->parent ? &i->parent->index : &nothing, 1, e);
	return r;
}

/* The decoder is here before anybody forks, and at the same place in all that are. */
static int open_store(struct image *i, struct error *e)
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

static int open_layer(const struct place *at, unsigned depth, struct image **ret, struct error *e)
{
	_cleanup_(image_free_p) struct image *i = calloc(1, sizeof(*i));
	int r;

	if (!i)
		return error_errno(e, -ENOMEM, "image");
	i->store.fd = -EBADF;
	i->arena.shared = true; /* a restore forks as often as there are processes, and all only read it */
	r = load_manifest(i, at, e);
	if (r == 0)
		r = open_rest(i, at, depth, e);
	if (r < 0)
		return r;
	i->store.fd = open_checked(at, IMAGE_PAGES, i->files.pages.size, e);
	if (i->store.fd < 0)
		return i->store.fd;
	if (at->fds && i->index.frame_size)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"%s: an image that is compressed can't come as a stream: make it without --compress, "
			"and compress the "
			"stream",
			IMAGE_INDEX);
	r = open_store(i, e);
	if (r < 0)
		return r;
	*ret = take_ptr(i);
	return 0;
}

int image_open(int dirfd, struct image **ret, struct error *e)
{
	return open_layer(&(struct place){.dirfd = dirfd}, 0, ret, e);
}

int image_open_files(const int *fds, struct image_feed *feed, struct image **ret, struct error *e)
{
	int r = open_layer(&(struct place){.dirfd = -EBADF, .fds = fds}, 0, ret, e);

	if (r == 0)
		(*ret)->feed = feed;
	return r;
}

struct image_feed *image_feed_of(const struct image *i)
{
	return i->feed;
}

int image_feed_pages_fd(const struct image *i)
{
	return i->feed ? i->store.fd : -EBADF;
}

size_t image_feed_n_flags(const struct image *i)
{
	return i->feed ? (i->files.pages.size + IMAGE_FEED_UNIT - 1) / IMAGE_FEED_UNIT : 0;
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
	i->manifest = *m;
	i->files.pages.size = pages_size;
	i->records = arena_memdup(&i->arena, records, len);
	r = i->records ? parse_records(i, len, &hash, e) : error_errno(e, -ENOMEM, "image");
	if (r == 0)
		r = image_index_parse(index, index_len, pages_size, &i->index, e);
	if (r == 0)
		r = image_index_resolve(&i->index, &(struct image_index){0}, 1, e);
	if (r < 0)
		return r;
	*ret = take_ptr(i);
	return 0;
}

void image_free(struct image *i)
{
	if (!i)
		return;
	image_free(i->parent);
	close_p(&i->store.fd);
	image_decoder_free(i->decoder);
	image_index_done(&i->index);
	arena_done(&i->arena);
	free(i);
}

const struct image_manifest *image_manifest(const struct image *i)
{
	return &i->manifest;
}

static void *unpack_alloc(void *data, size_t size)
{
	struct image *i = data;

	if (size > IMAGE_UNPACK_MAX - i->unpacked)
		return NULL;
	i->unpacked += size;
	return arena_alloc(&i->arena, size);
}

/* The arena frees all at once. */
static void unpack_free(void *data, void *p)
{
}

int image_next_record(struct image *i, size_t *pos, enum image_record_type *ret_type,
	const ProtobufCMessage **ret_message, struct error *e)
{
	ProtobufCAllocator allocator = {unpack_alloc, unpack_free, i};
	const ProtobufCMessageDescriptor *d;
	struct slot *s;

	/* Unknown types here are optional ones: image_records_check() has refused the others. */
	while (*pos < i->n_slots && !image_record_descriptor(i->slots[*pos].raw.type))
		++*pos;
	if (*pos >= i->n_slots)
		return 0;
	s = &i->slots[*pos];
	d = image_record_descriptor(s->raw.type);
	if (!s->message)
		s->message = protobuf_c_message_unpack(d, &allocator, s->raw.len, s->raw.payload);
	if (!s->message)
		return image_corrupt(e, IMAGE_CHECKPOINT, (const char *)s->raw.payload - i->records,
			"record can't be read as %s (or needs too much memory)", d->short_name);
	++*pos;
	*ret_type = s->raw.type;
	*ret_message = s->message;
	return 1;
}

int image_next_raw_record(const struct image *i, size_t *pos, struct image_record *ret)
{
	if (*pos >= i->n_slots)
		return 0;
	*ret = i->slots[(*pos)++].raw;
	return 1;
}

const struct image_run *image_runs(const struct image *i, uint64_t space, size_t *ret_n)
{
	size_t first = image_index_find(&i->index, space, 0);
	size_t end = space == UINT64_MAX ? i->index.n_runs : image_index_find(&i->index, space + 1, 0);

	*ret_n = end - first;
	return i->index.runs + first;
}

const struct image_index *image_index_of(const struct image *i)
{
	return &i->index;
}

static const struct image *layer_of(const struct image *i, unsigned layer)
{
	while (layer-- > 0 && i)
		i = i->parent;
	return i;
}

const struct image_run *image_all_runs(const struct image *i, size_t *ret_n)
{
	*ret_n = i->index.n_runs;
	return i->index.runs;
}

int image_pages_fd(const struct image *i, unsigned layer)
{
	const struct image *of = layer_of(i, layer);

	return of && !of->store.frame_size && !of->feed ? of->store.fd : -EBADF;
}

static int read_problem(int r, uint64_t offset, struct error *e)
{
	if (r == -EBADMSG)
		return image_corrupt(e, IMAGE_PAGES, offset, "the page data here can't be decompressed");
	return error_errno(e, r, "%s: offset %llu", IMAGE_PAGES, (unsigned long long)offset);
}

/* For all layers. */
int image_decoder_new(const struct image *i, struct image_decoder **ret, struct error *e)
{
	size_t size = IMAGE_FRAME_SIZE;

	for (; i; i = i->parent)
		size = MAX(size, (size_t)i->store.frame_size);
	*ret = image_decoder_make(size);
	return *ret ? 0 : error_errno(e, -ENOMEM, IMAGE_PAGES);
}

int image_decode(const struct image *i, struct image_decoder *d, unsigned layer, uint64_t offset,
	const void **ret, size_t *ret_len, struct error *e)
{
	const struct image *of = layer_of(i, layer);
	const uint8_t *data = NULL;
	size_t len = 0, skip = 0;
	int r = of ? image_store_at(&of->store, d, offset, &data, &len, &skip) : -EBADF;

	if (r < 0)
		return read_problem(r, offset, e);
	*ret = data + skip;
	*ret_len = len - skip;
	return 0;
}

int image_read_data(
	const struct image *i, unsigned layer, uint64_t offset, void *buf, size_t len, struct error *e)
{
	const struct image *of = layer_of(i, layer);
	int r = of && of->feed ? image_feed_wait(of->feed, offset + len, e) : 0;

	if (r < 0)
		return r;
	r = of ? image_store_read(&of->store, of->decoder, offset, buf, len) : -EBADF;
	return r < 0 ? read_problem(r, offset, e) : 0;
}

int image_move_fds(struct image *i, int (*f)(void *arg, int *fd, struct error *e), void *arg, struct error *e)
{
	int r = 0;

	for (; i && r == 0; i = i->parent)
		r = f(arg, &i->store.fd, e);
	return r;
}

int image_read(
	const struct image *i, uint64_t space, uint64_t address, void *buf, size_t len, struct error *e)
{
	uint64_t end;
	int r;

	if (__builtin_add_overflow(address, len, &end))
		return error_set(e, -EINVAL, ERROR_INTERNAL, "image_read: 0x%llx+%zu",
			(unsigned long long)address, len);
	memset(buf, 0, len);
	for (size_t k = image_index_find(&i->index, space, address); k < i->index.n_runs; k++) {
		const struct image_run *run = &i->index.runs[k];
		uint64_t from = MAX(run->address, address),
			 to = MIN(run->address + run->n_pages * IMAGE_PAGE_SIZE, end);

		if (run->space != space || from >= end)
			break;
		if (run->kind == IMAGE_PAGES_SHARED) {
			r = image_read(i, run->offset, from, (char *)buf + (from - address), to - from, e);
			if (r < 0)
				return r;
		}
		if (run->kind != IMAGE_PAGES_DATA)
			continue;
		r = image_read_data(i, run->layer, run->offset + (from - run->address),
			(char *)buf + (from - address), to - from, e);
		if (r < 0)
			return r;
	}
	return 0;
}

void image_sizes(const struct image *i, struct image_sizes *ret)
{
	uint64_t by_kind[IMAGE_PAGES_SHARED + 1] = {0}, own = 0;
	struct image_sizes s = {0};

	for (size_t k = 0; k < i->index.n_runs; k++) {
		const struct image_run *run = &i->index.runs[k];

		by_kind[run->kind] += run->n_pages * IMAGE_PAGE_SIZE;
		if (run->kind == IMAGE_PAGES_DATA && run->layer == 0)
			own += run->n_pages * IMAGE_PAGE_SIZE;
	}
	s.memory = by_kind[IMAGE_PAGES_DATA] + by_kind[IMAGE_PAGES_ZERO] + by_kind[IMAGE_PAGES_SHARED];
	s.zero = by_kind[IMAGE_PAGES_ZERO];
	s.shared = by_kind[IMAGE_PAGES_SHARED];
	s.parent = by_kind[IMAGE_PAGES_DATA] - own;
	s.data = MIN(own, i->index.data_size);
	s.duplicate = own - s.data;
	s.stored = i->files.pages.size;
	s.files = i->files.checkpoint.size + i->files.index.size + i->files.pages.size;
	s.pieces = i->index.n_frames;
	for (size_t k = 0; k < i->index.n_frames; k++) {
		if (i->index.frames[k].codec == IMAGE_CODEC_NONE)
			continue;
		s.codec = (enum image_codec)i->index.frames[k].codec;
		s.compressed_pieces++;
	}
	*ret = s;
}

/* A part of the page data, for one thread. Its memory is not for processes that are forked meanwhile. */
struct verified_part {
	const struct image *image;
	const uint8_t *wanted; /* bits of the chunks; NULL: all */
	size_t first, end;     /* chunks */
	int r;		       /* 0, -EBADMSG, or what pread() said, about chunk "first" */
	size_t n;	       /* bytes of that chunk */
	uint8_t *memory;       /* for a chunk, then the stack; NULL: none is mapped */
	size_t memory_size;
	pthread_t thread;
	bool started;
};

enum { MAX_PARTS = 4, BYTES_PER_PART = 8 << 20, STACK_SIZE = 128 << 10, BYTES_IN_BACKGROUND = 1 << 20 };

struct image_verification {
	struct verified_part parts[MAX_PARTS];
	size_t n;
	struct image_verification *parent; /* NULL: none */
};

static void *verify_part(void *arg)
{
	struct verified_part *v = arg;
	uint64_t chunk = v->image->index.chunk_size, size = v->image->files.pages.size;

	for (; v->r == 0 && v->first < v->end; v->first++) {
		if (v->wanted && !(v->wanted[v->first / 8] & 1u << v->first % 8))
			continue;
		v->n = MIN(size - v->first * chunk, chunk);
		v->r = pread_exact(v->image->store.fd, v->memory, v->n, v->first * chunk);
		if (v->r == 0 && image_hash(v->memory, v->n) != v->image->index.chunks[v->first])
			v->r = -EBADMSG;
		if (v->r < 0)
			break;
	}
	return NULL;
}

/* Its own stack: what pthread_create() maps is kept for the next thread, and copied by each fork until then. */
static void start_part(struct verified_part *v)
{
	sigset_t all, old;
	pthread_attr_t attr;

	if (pthread_attr_init(&attr) != 0)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	v->started =
		pthread_attr_setstack(&attr, v->memory + (v->memory_size - STACK_SIZE), STACK_SIZE) == 0 &&
		pthread_create(&v->thread, &attr, verify_part, v) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}

int image_verify_begin(const struct image *i, struct image_verification **ret, struct error *e)
{
	return image_verify_begin_some(i, NULL, ret, e);
}

int image_verify_begin_some(
	const struct image *i, uint8_t *const *wanted, struct image_verification **ret, struct error *e)
{
	size_t n = i->index.n_chunks, size = ALIGN_UP(i->index.chunk_size, UINT64_C(4096)) + STACK_SIZE;
	struct image_verification *v = calloc(1, sizeof(*v));

	if (!v)
		return error_errno(e, -ENOMEM, IMAGE_PAGES);
	/* What comes in a stream is checked when it comes. */
	v->n = i->feed ? 0 : MIN(i->files.pages.size / BYTES_PER_PART + 1, (uint64_t)MAX_PARTS);
	for (size_t k = 0; k < v->n; k++) {
		struct verified_part *part = &v->parts[k];

		*part = (struct verified_part){.image = i,
			.wanted = wanted ? wanted[0] : NULL,
			.first = n * k / v->n,
			.end = n * (k + 1) / v->n,
			.memory_size = size};
		part->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (part->memory == MAP_FAILED) {
			part->memory = NULL;
			part->r = -ENOMEM;
			break;
		}
		madvise(part->memory, size, MADV_DONTFORK);
		if (i->files.pages.size >= BYTES_IN_BACKGROUND)
			start_part(part);
	}
	if (i->parent) {
		int r = image_verify_begin_some(i->parent, wanted ? wanted + 1 : NULL, &v->parent, e);

		if (r < 0) {
			(void)!image_verify_end(v, NULL);
			return r;
		}
	}
	*ret = v;
	return 0;
}

int image_verify_end(struct image_verification *v, struct error *e)
{
	int r = v && v->parent ? image_verify_end(v->parent, e) : 0;

	if (r < 0)
		error_prefix(e, "parent");

	for (size_t k = 0; v && k < v->n; k++) {
		struct verified_part *part = &v->parts[k];
		uint64_t at;

		if (part->started)
			pthread_join(part->thread, NULL);
		else if (r == 0)
			verify_part(part);
		at = part->first * part->image->index.chunk_size;
		if (r == 0 && part->r == -EBADMSG)
			r = image_corrupt(e, IMAGE_PAGES, at, "wrong checksum of these %zu bytes", part->n);
		else if (r == 0 && part->r < 0)
			r = error_errno(e, part->r, "%s: offset %llu", IMAGE_PAGES, (unsigned long long)at);
		if (part->memory)
			munmap(part->memory, part->memory_size);
	}
	free(v);
	return r;
}

int image_verify_pages(const struct image *i, struct error *e)
{
	struct image_verification *v = NULL;
	int r = image_verify_begin(i, &v, e);

	return r < 0 ? r : image_verify_end(v, e);
}

unsigned image_n_layers(const struct image *i)
{
	return i->parent ? 1 + image_n_layers(i->parent) : 1;
}

uint64_t image_chunk_size(const struct image *i, unsigned layer)
{
	return layer_of(i, layer)->index.chunk_size;
}

size_t image_n_chunks(const struct image *i, unsigned layer)
{
	return layer_of(i, layer)->index.n_chunks;
}

uint64_t image_index_checksum(const struct image *i)
{
	return i->index.hash;
}

/* ---- checked page data ---- */

enum { READER_MIN = 256 << 10 };

struct image_reader {
	const struct image *image;
	uint8_t *memory;
	size_t size;	/* of it: whole chunks */
	unsigned layer; /* of which page data is in there, checked: */
	uint64_t at, end;
};

int image_reader_new(const struct image *i, struct image_reader **ret, struct error *e)
{
	struct image_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return error_errno(e, -ENOMEM, IMAGE_PAGES);
	r->image = i;
	r->size = READER_MIN;
	for (; i; i = i->parent)
		r->size = MAX(r->size, i->index.chunk_size);
	r->memory = malloc(r->size);
	if (!r->memory) {
		free(r);
		return error_errno(e, -ENOMEM, IMAGE_PAGES);
	}
	*ret = r;
	return 0;
}

void image_reader_free(struct image_reader *r)
{
	if (!r)
		return;
	free(r->memory);
	free(r);
}

/* Of an image that is arriving: what has come. It has been checked, and there are no checksums yet. */
static int reader_load_arrived(
	struct image_reader *r, const struct image *of, uint64_t offset, uint64_t end, struct error *e)
{
	uint64_t at = offset / IMAGE_PAGE_SIZE * IMAGE_PAGE_SIZE;
	int result = image_feed_wait(of->feed, at + IMAGE_PAGE_SIZE, e);

	if (result < 0)
		return result;
	end = MIN(end, image_feed_arrived(of->feed));
	end = MIN(end, at + r->size);
	result = pread_exact(of->store.fd, r->memory, end - at, at);
	if (result < 0)
		return error_errno(e, result, "%s: offset %llu", IMAGE_PAGES, (unsigned long long)at);
	r->at = at;
	r->end = end;
	return 0;
}

/* The chunk of "offset" and those behind it up to "want", as far as there is room. */
static int reader_load(
	struct image_reader *r, const struct image *of, uint64_t offset, uint64_t want, struct error *e)
{
	uint64_t chunk = of->index.chunk_size, size = of->files.pages.size, at = offset / chunk * chunk,
		 end = MIN(MIN(ALIGN_UP(want, chunk), at + r->size), size);
	int result;

	r->at = r->end = 0;
	if (of->feed)
		return reader_load_arrived(r, of, offset, end, e);
	result = pread_exact(of->store.fd, r->memory, end - at, at);
	if (result < 0)
		return error_errno(e, result, "%s: offset %llu", IMAGE_PAGES, (unsigned long long)at);
	for (uint64_t k = at; k < end; k += chunk) {
		size_t n = MIN(chunk, end - k);

		if (image_hash(r->memory + (k - at), n) != of->index.chunks[k / chunk])
			return image_corrupt(e, IMAGE_PAGES, k, "wrong checksum of these %zu bytes", n);
	}
	r->at = at;
	r->end = end;
	return 0;
}

int image_reader_get(struct image_reader *r, unsigned layer, uint64_t offset, size_t *len,
	const uint8_t **ret, struct error *e)
{
	const struct image *of = layer_of(r->image, layer);
	int result;

	if (!of || of->store.frame_size || offset >= of->files.pages.size ||
		*len > of->files.pages.size - offset)
		return error_set(e, -EINVAL, ERROR_INTERNAL, "read behind the end of %s", IMAGE_PAGES);
	if (layer != r->layer || offset < r->at || offset >= r->end) {
		r->layer = layer;
		result = reader_load(r, of, offset, offset + *len, e);
		if (result < 0)
			return result;
	}
	*len = MIN(*len, r->end - offset);
	*ret = r->memory + (offset - r->at);
	return 0;
}
