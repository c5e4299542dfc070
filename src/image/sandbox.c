/* SPDX-License-Identifier: Apache-2.0 */
#include "image/sandbox.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "image/manifest-json.h"

static const char *const known_features[] = {IMAGE_FEATURE_SANDBOX, NULL};

void image_sandbox_free(struct image_sandbox *s)
{
	struct arena a;

	if (!s)
		return;
	a = s->arena; /* it is in there itself */
	arena_done(&a);
}

static struct json_object *member_object(const struct image_sandbox_member *m)
{
	struct json_object *o = json_object_new_object();
	char directory[300];

	snprintf(directory, sizeof(directory), IMAGE_CONTAINERS "/%s", m->name);
	if (o && manifest_add_string(o, "name", m->name) && manifest_add_string(o, "id", m->id) &&
		manifest_add_string(o, "directory", directory) &&
		manifest_add_u64(o, "generation", m->generation) &&
		manifest_add_hash(o, "checksum", m->checksum))
		return o;
	json_object_put(o);
	return NULL;
}

static struct json_object *members_array(const struct image_sandbox *s)
{
	struct json_object *a = json_object_new_array();

	for (size_t i = 0; a && i < s->n_members; i++) {
		struct json_object *o = member_object(&s->members[i]);

		if (o && json_object_array_add(a, o) == 0)
			continue;
		json_object_put(o);
		json_object_put(a);
		return NULL;
	}
	return a;
}

static struct json_object *features_array(void)
{
	struct json_object *a = json_object_new_array();

	if (a && manifest_append(a, IMAGE_FEATURE_SANDBOX))
		return a;
	json_object_put(a);
	return NULL;
}

static struct json_object *statistics_object(const struct image_sandbox *s)
{
	struct json_object *o = json_object_new_object();

	if (o && manifest_add_u64(o, "stopped_us", s->stopped_us) &&
		manifest_add_u64(o, "total_us", s->total_us))
		return o;
	json_object_put(o);
	return NULL;
}

static bool fill(struct json_object *o, const struct image_sandbox *s)
{
	return manifest_add_u64(o, "format_version", IMAGE_FORMAT_VERSION) &&
	       manifest_add(o, "required_features", features_array()) &&
	       manifest_add_string(o, "engine", "native") &&
	       manifest_add_string(o, "stasis_version", s->stasis_version) &&
	       manifest_add_string(o, "sandbox", s->id) &&
	       manifest_add_u64(o, "container_count", s->n_members) &&
	       manifest_add(o, "containers", members_array(s)) &&
	       manifest_add_string(o, "architecture", s->architecture) &&
	       manifest_add_string(o, "kernel", s->kernel) &&
	       manifest_add_u64(o, "page_size", s->page_size) &&
	       manifest_add_string(o, "created", s->created) &&
	       manifest_add(o, "statistics", statistics_object(s));
}

int image_sandbox_commit(int dirfd, const struct image_sandbox *s, struct error *e)
{
	_cleanup_(json_put_p) struct json_object *o = json_object_new_object();
	struct image_buffer b = {};
	int r;

	if (!o || !fill(o, s))
		return error_errno(e, -ENOMEM, IMAGE_MANIFEST);
	r = manifest_seal(o, &b, e);
	if (r == 0 && (r = write_new_file_at(dirfd, IMAGE_MANIFEST_TMP, b.data, b.len, 0600)) < 0)
		error_errno(e, r, IMAGE_MANIFEST);
	if (r == 0 && renameat(dirfd, IMAGE_MANIFEST_TMP, dirfd, IMAGE_MANIFEST) < 0)
		r = error_errno(e, -errno, IMAGE_MANIFEST);
	image_buffer_done(&b);
	return r;
}

bool image_sandbox_is_name(const char *s)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";

	return *s && strlen(s) <= 255 && strspn(s, good) == strlen(s) && strcmp(s, ".") != 0 &&
	       strcmp(s, "..") != 0;
}

static bool is_taken(const struct image_sandbox *s, const struct image_sandbox_member *m)
{
	for (const struct image_sandbox_member *o = s->members; o < m; o++)
		if (!strcmp(o->name, m->name) || !strcmp(o->id, m->id))
			return true;
	return false;
}

static void get_member(struct manifest_parse *p, struct json_object *o, struct image_sandbox *s,
	struct image_sandbox_member *m)
{
	const char *directory;

	if (!json_object_is_type(o, json_type_object)) {
		manifest_bad(p, "containers", "of the wrong type");
		return;
	}
	m->name = manifest_string(p, o, "name");
	m->id = manifest_string(p, o, "id");
	directory = manifest_string(p, o, "directory");
	m->generation = manifest_u64(p, o, "generation", UINT64_MAX);
	m->checksum = manifest_hash(p, o, "checksum");
	if (p->r < 0)
		return;
	if (!image_sandbox_is_name(m->name) || !image_sandbox_is_name(m->id))
		manifest_bad(p, "containers", "one has no valid name or id");
	else if (strncmp(directory, IMAGE_CONTAINERS "/", sizeof(IMAGE_CONTAINERS)) != 0 ||
		 strcmp(directory + sizeof(IMAGE_CONTAINERS), m->name) != 0)
		manifest_bad(p, "directory", "not " IMAGE_CONTAINERS "/ and the name");
	else if (is_taken(s, m))
		manifest_bad(p, "containers", "two have the same name or id");
}

static void get_members(struct manifest_parse *p, struct json_object *o, struct image_sandbox *s)
{
	struct json_object *a = manifest_member(p, o, "containers", json_type_array);
	uint64_t n = manifest_u64(p, o, "container_count", UINT32_MAX);

	if (p->r < 0)
		return;
	if (n == 0 || n != json_object_array_length(a)) {
		manifest_bad(p, "containers", "not as many as container_count says");
		return;
	}
	s->members = arena_array(p->arena, n, sizeof(*s->members));
	if (!s->members)
		p->r = error_errno(p->e, -ENOMEM, IMAGE_MANIFEST);
	for (s->n_members = 0; p->r == 0 && s->n_members < n; s->n_members++)
		get_member(p, json_object_array_get_idx(a, s->n_members), s, &s->members[s->n_members]);
}

static void get_all(struct manifest_parse *p, struct json_object *o, struct image_sandbox *s)
{
	struct json_object *v;

	if (!manifest_has_feature(o, IMAGE_FEATURE_SANDBOX)) {
		p->r = error_set(p->e, -EINVAL, ERROR_USAGE,
			"the image is one of a container alone, not of a sandbox");
		return;
	}
	s->id = manifest_string(p, o, "sandbox");
	get_members(p, o, s);
	s->stasis_version = manifest_string(p, o, "stasis_version");
	s->architecture = manifest_string(p, o, "architecture");
	s->kernel = manifest_string(p, o, "kernel");
	s->page_size = manifest_u64(p, o, "page_size", UINT32_MAX);
	s->created = manifest_string(p, o, "created");
	v = manifest_member(p, o, "statistics", json_type_object);
	s->stopped_us = manifest_u64(p, v, "stopped_us", UINT64_MAX);
	s->total_us = manifest_u64(p, v, "total_us", UINT64_MAX);
	if (p->r == 0 && !image_sandbox_is_name(s->id))
		manifest_bad(p, "sandbox", "no valid id");
	if (p->r == 0)
		manifest_check_machine(p, s->architecture, s->page_size);
}

/* An image of a container alone has other features: it is said so, whatever they are. */
static const char *const *features_of(const char *text, size_t len)
{
	static const char *const of_containers[] = {IMAGE_FEATURE_SANDBOX, IMAGE_FEATURE_PARENT,
		IMAGE_FEATURE_PRE_DUMP, IMAGE_FEATURE_SOCKET_ERRORS, IMAGE_FEATURE_COMPRESSED,
		IMAGE_FEATURE_PRESSURE, IMAGE_FEATURE_MQ_NOTIFY, IMAGE_FEATURE_AIO, NULL};

	return memmem(text, len, "\"" IMAGE_FEATURE_SANDBOX "\"", strlen(IMAGE_FEATURE_SANDBOX) + 2)
		       ? known_features
		       : of_containers;
}

int image_sandbox_parse(const char *text, size_t len, struct image_sandbox **ret, struct error *e)
{
	_cleanup_(json_put_p) struct json_object *o = NULL;
	struct arena a = {};
	struct manifest_parse p = {.arena = &a, .e = e};
	struct image_sandbox *s = arena_new(&a, struct image_sandbox);

	if (!s)
		return error_errno(e, -ENOMEM, IMAGE_MANIFEST);
	o = manifest_parse(&p, text, len, features_of(text, len));
	if (o)
		get_all(&p, o, s);
	if (p.r < 0) {
		arena_done(&a);
		return p.r;
	}
	s->checksum = image_manifest_checksum(text, len);
	s->arena = a;
	*ret = s;
	return 0;
}

static int read_manifest(int dirfd, char **ret, size_t *ret_len, struct error *e)
{
	/* As source.c opens files: no links, and nothing that blocks. */
	_cleanup_close_ int fd =
		openat(dirfd, IMAGE_MANIFEST, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	int r = fd < 0 ? -errno : 0;

	if (r == 0 && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)))
		return image_corrupt(e, IMAGE_MANIFEST, 0, "not a regular file");
	if (r == 0)
		r = read_fd(fd, IMAGE_MANIFEST_MAX, ret, ret_len);
	if (r == -ENOENT)
		return error_set(e, -ENOENT, ERROR_STATE,
			"incomplete image: no %s (was the checkpoint interrupted?)", IMAGE_MANIFEST);
	return r < 0 ? error_errno(e, r, IMAGE_MANIFEST) : 0;
}

bool image_is_sandbox(int dirfd)
{
	return faccessat(dirfd, IMAGE_CONTAINERS, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int image_sandbox_open(int dirfd, struct image_sandbox **ret, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = read_manifest(dirfd, &text, &len, e);

	return r < 0 ? r : image_sandbox_parse(text, len, ret, e);
}

int image_read_checksum(int dirfd, uint64_t *ret, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = read_manifest(dirfd, &text, &len, e);

	if (r == 0)
		*ret = image_manifest_checksum(text, len);
	return r;
}

const struct image_sandbox_member *image_sandbox_find(const struct image_sandbox *s, const char *name)
{
	for (size_t i = 0; i < s->n_members; i++)
		if (!strcmp(s->members[i].name, name))
			return &s->members[i];
	return NULL;
}

void image_sandbox_names(const struct image_sandbox *s, char *buf, size_t size)
{
	size_t at = 0;

	*buf = 0;
	for (size_t i = 0; i < s->n_members && at < size; i++)
		at += snprintf(buf + at, size - at, "%s%s", i ? ", " : "", s->members[i].name);
}

static int open_folder(int dirfd, const char *name)
{
	_cleanup_close_ int all =
		openat(dirfd, IMAGE_CONTAINERS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int fd;

	if (all < 0)
		return -errno;
	fd = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int image_sandbox_directory(int dirfd, const struct image_sandbox_member *m, struct error *e)
{
	int fd = open_folder(dirfd, m->name);

	return fd < 0 ? error_errno(e, fd, "the image of the container %s", m->name) : fd;
}

int image_sandbox_open_member(image_open_fn *open_image, int dirfd, const struct image_sandbox_member *m,
	struct image **ret, struct error *e)
{
	_cleanup_(image_free_p) struct image *i = NULL;
	_cleanup_close_ int fd = image_sandbox_directory(dirfd, m, e);
	int r = fd < 0 ? fd : open_image(fd, &i, e);

	if (r < 0)
		return error_prefix(e, "container \"%s\"", m->name);
	if (image_manifest(i)->checksum != m->checksum)
		return error_set(e, -EBADMSG, ERROR_CORRUPT,
			"the image of container \"%s\" is not the one that was made with the sandbox's",
			m->name);
	*ret = take_ptr(i);
	return 0;
}

void image_whole_done(struct image_whole *w)
{
	for (size_t i = 0; w->images && i < w->sandbox->n_members; i++)
		image_free(w->images[i]);
	free(w->images);
	image_sandbox_free(w->sandbox);
	*w = (struct image_whole){};
}

int image_whole_open(image_open_fn *open_image, int dirfd, struct image_whole *ret, struct error *e)
{
	struct image_whole w = {};
	int r = image_sandbox_open(dirfd, &w.sandbox, e);

	if (r < 0)
		return r;
	w.images = calloc(MAX(w.sandbox->n_members, (size_t)1), sizeof(*w.images));
	if (!w.images)
		r = error_errno(e, -ENOMEM, "image");
	for (size_t i = 0; i < w.sandbox->n_members && r == 0; i++)
		r = image_sandbox_open_member(open_image, dirfd, &w.sandbox->members[i], &w.images[i], e);
	if (r < 0)
		image_whole_done(&w);
	else
		*ret = w;
	return r;
}

static int verify_config(int dirfd, const struct image_sandbox_member *m, struct error *e)
{
	_cleanup_close_ int fd = image_sandbox_directory(dirfd, m, e);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstatat(fd, IMAGE_CONFIG, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(e, -errno, "%s", IMAGE_CONFIG);
	return S_ISREG(st.st_mode) ? 0 : image_corrupt(e, IMAGE_CONFIG, 0, "not a regular file");
}

int image_whole_verify(const struct image_whole *w, int dirfd, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < w->sandbox->n_members && r == 0; i++) {
		r = verify_config(dirfd, &w->sandbox->members[i], e);
		if (r == 0)
			r = image_verify_pages(w->images[i], e);
		if (r < 0)
			error_prefix(e, "container \"%s\"", w->sandbox->members[i].name);
	}
	return r;
}

int image_sandbox_make_directory(int dirfd, const char *name, struct error *e)
{
	_cleanup_close_ int all = -EBADF;

	if (mkdirat(dirfd, IMAGE_CONTAINERS, 0700) < 0 && errno != EEXIST)
		return error_errno(e, -errno, "make the directory %s", IMAGE_CONTAINERS);
	all = openat(dirfd, IMAGE_CONTAINERS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (all < 0 || mkdirat(all, name, 0700) < 0)
		return error_errno(e, -errno, "make the directory %s/%s", IMAGE_CONTAINERS, name);
	return image_sandbox_directory(dirfd, &(struct image_sandbox_member){.name = name}, e);
}

static void remove_member(int all, const char *name)
{
	_cleanup_close_ int fd = openat(all, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	image_remove(fd);
	unlinkat(fd, IMAGE_CONFIG, 0);
	unlinkat(all, name, AT_REMOVEDIR);
}

void image_sandbox_remove_member(int dirfd, const char *name)
{
	_cleanup_close_ int all =
		openat(dirfd, IMAGE_CONTAINERS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (all < 0)
		return;
	remove_member(all, name);
	unlinkat(dirfd, IMAGE_CONTAINERS, AT_REMOVEDIR);
}

void image_sandbox_remove_all(int dirfd)
{
	int all = openat(dirfd, IMAGE_CONTAINERS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = all < 0 ? NULL : fdopendir(all);
	struct dirent *ent;

	if (!d) {
		close_p(&all);
		return;
	}
	while ((ent = readdir(d)))
		if (image_sandbox_is_name(ent->d_name))
			remove_member(all, ent->d_name);
	closedir(d);
	unlinkat(dirfd, IMAGE_CONTAINERS, AT_REMOVEDIR);
}
