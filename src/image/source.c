/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the files of an image come from: a directory, and those of its parents, or what a stream has brought. Opens them and
 * reads them into memory, and understands nothing of them. Only regular files are opened, links are not followed.
 *
 * Files are read once: what was read is what is checked, and what is used; a file that is changed meanwhile can't hurt.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "image/opened-priv.h"
#include "image/stream-priv.h"

enum { LAYERS_MAX = IMAGE_CHAIN_MAX + 1 };

struct image_source {
	int dirfd; /* of the layer that was read last */
	const int *fds;
	struct image_feed *feed;
	int pages[LAYERS_MAX];
	uint64_t pages_size[LAYERS_MAX];
	unsigned n;
};

static struct image_source *new_source(void)
{
	struct image_source *s = calloc(1, sizeof(*s));

	if (s)
		s->dirfd = -EBADF;
	return s;
}

int image_source_new(int dirfd, struct image_source **ret, struct error *e)
{
	struct image_source *s = new_source();

	if (s)
		s->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
	if (!s || s->dirfd < 0) {
		int r = error_errno(e, s ? -errno : -ENOMEM, "image");

		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int image_source_of_files(const int *fds, struct image_feed *feed, struct image_source **ret, struct error *e)
{
	struct image_source *s = new_source();

	if (!s)
		return error_errno(e, -ENOMEM, "image");
	s->fds = fds;
	s->feed = feed;
	*ret = s;
	return 0;
}

void image_source_free(struct image_source *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->n; i++)
		close_p(&s->pages[i]);
	close_p(&s->dirfd);
	free(s);
}

static int open_of_stream(const int *fds, const char *name)
{
	unsigned n = 1;

	while (n < IMAGE_STREAM_MANIFEST && strcmp(image_stream_names[n], name) != 0)
		n++;
	return fcntl(fds[n], F_DUPFD_CLOEXEC, 3);
}

/* The descriptor, or -EBADF and what is wrong with it. */
static int open_file(const struct image_source *s, const char *name, struct image_content *ret)
{
	/* O_NONBLOCK: a FIFO in its place must not block us. */
	int fd = s->fds ? open_of_stream(s->fds, name)
			: openat(s->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	*ret = (struct image_content){0};
	if (fd < 0) {
		ret->problem = -errno;
		return -EBADF;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		ret->problem = IMAGE_CONTENT_IRREGULAR;
		close(fd);
		return -EBADF;
	}
	ret->size = st.st_size;
	return fd;
}

static void read_content(const struct image_source *s, const char *name, uint64_t max, struct arena *memory,
	struct image_content *ret)
{
	_cleanup_close_ int fd = open_file(s, name, ret);
	void *buf;

	if (fd < 0 || ret->size > max)
		return;
	buf = arena_alloc(memory, ret->size);
	if (buf)
		ret->problem = pread_exact(fd, buf, ret->size, 0);
	else
		ret->problem = -ENOMEM;
	ret->data = ret->problem == 0 ? buf : NULL;
}

/* The image that a manifest names. Only of the same owner: a chain leads to other directories. */
static int enter_parent(struct image_source *s, const char *path, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	struct stat mine, its;
	int old;

	if (s->fds)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"%s: an image that has a parent can't come as a stream: \"stasis image squash\" "
			"makes a whole one "
			"of both",
			IMAGE_MANIFEST);
	if (s->n == LAYERS_MAX)
		return error_set(e, -ELOOP, ERROR_CORRUPT, "%s: more than %d parents in a row (a circle?)",
			IMAGE_MANIFEST, IMAGE_CHAIN_MAX);
	if (!image_parent_is_valid(path))
		return image_corrupt(e, IMAGE_MANIFEST, 0, "its parent's path is not a relative one");
	fd = openat(s->dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set(e, -errno, ERROR_STATE,
			"the image's parent \"%.200s\" (relative to its own directory) cannot be opened: %s: "
			"put "
			"it back there",
			path, strerror(errno));
	if (fstat(s->dirfd, &mine) < 0 || fstat(fd, &its) < 0)
		return error_errno(e, -errno, "parent %.200s", path);
	if (mine.st_uid != its.st_uid)
		return error_set(e, -EPERM, ERROR_REFUSED,
			"the image's parent \"%.200s\" belongs to another user than the image: give both the "
			"same owner",
			path);
	old = s->dirfd;
	s->dirfd = take_fd(&fd);
	close(old);
	return 0;
}

int image_source_next(struct image_source *s, const char *parent, struct arena *memory,
	struct image_layer *ret, struct error *e)
{
	struct image_layer l = {.stream = s->fds != NULL};
	int r = parent ? enter_parent(s, parent, e) : 0;

	if (r < 0)
		return r;
	read_content(s, IMAGE_MANIFEST, IMAGE_MANIFEST_MAX, memory, &l.manifest);
	/* Without the one the others are of no interest; a parent's records neither. */
	if (l.manifest.data && !parent)
		read_content(s, IMAGE_CHECKPOINT, IMAGE_FILE_MAX, memory, &l.checkpoint);
	if (l.manifest.data)
		read_content(s, IMAGE_INDEX, IMAGE_FILE_MAX, memory, &l.index);
	s->pages[s->n] = open_file(s, IMAGE_PAGES, &l.pages);
	s->pages_size[s->n] = l.pages.size;
	s->n++;
	*ret = l;
	return 0;
}

unsigned image_source_layers(const struct image_source *s)
{
	return s->n;
}

uint64_t image_source_pages_size(const struct image_source *s, unsigned layer)
{
	return s->pages_size[layer];
}

bool image_source_is_stream(const struct image_source *s)
{
	return s->fds != NULL;
}

int image_source_give(struct image_source *s, struct image *i, struct error *e)
{
	int r = 0;

	i->feed = s->feed;
	for (unsigned k = 0; i && k < s->n && r == 0; i = i->parent, k++) {
		i->store.fd = take_fd(&s->pages[k]);
		r = image_open_store(i, e);
	}
	return r;
}
