/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.json: what the image is, where it can be restored, and size and checksum of the other files. It is
 * written last and renamed into place, so a directory without it holds no checkpoint.
 *
 * The last line is `"checksum": "xxh3:<16 hex digits>"`, over all bytes of the file before that member's name. Members
 * that a reader doesn't know are ignored, except through "required_features": an image that names a feature there
 * must not be read by a stasis that lacks it.
 */
#include <ctype.h>
#include <json-c/json.h>
#include <stdio.h>
#include <sys/utsname.h>

#include "image/image-priv.h"

#define TRAILER_FORMAT "\"checksum\": \"xxh3:%016llx\"\n}\n"
enum { TRAILER_LENGTH = 12 + 23 + 3, JSON_DEPTH = 8 };

static void json_put_p(struct json_object **o)
{
	json_object_put(*o);
}

static void tokener_free_p(struct json_tokener **t)
{
	if (*t)
		json_tokener_free(*t);
}

/* Takes ownership of "value", also on failure; false when out of memory. */
static bool add(struct json_object *o, const char *key, struct json_object *value)
{
	if (value && json_object_object_add(o, key, value) == 0)
		return true;
	json_object_put(value);
	return false;
}

static bool add_string(struct json_object *o, const char *key, const char *s)
{
	return add(o, key, json_object_new_string(s ? s : ""));
}

static bool add_u64(struct json_object *o, const char *key, uint64_t v)
{
	return add(o, key, json_object_new_uint64(v));
}

static bool add_hash(struct json_object *o, const char *key, uint64_t v)
{
	char text[32];

	snprintf(text, sizeof(text), "xxh3:%016llx", (unsigned long long)v);
	return add_string(o, key, text);
}

static struct json_object *statistics_object(const struct image_statistics *s)
{
	struct json_object *o = json_object_new_object();

	for (const struct image_statistic *f = image_statistic_table; o && f->name; f++)
		if (f->in & IMAGE_STATISTIC_MANIFEST)
			add_u64(o, f->name, *image_statistic(s, f));
	return o;
}

static struct json_object *file_object(const struct image_file_info *f, bool checksum)
{
	struct json_object *o = json_object_new_object();

	if (o && (!add_u64(o, "size", f->size) || (checksum && !add_hash(o, "checksum", f->checksum)))) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

static struct json_object *files_object(const struct image_files *f)
{
	struct json_object *o = json_object_new_object();

	if (o && (!add(o, IMAGE_CHECKPOINT, file_object(&f->checkpoint, true)) ||
			 !add(o, IMAGE_INDEX, file_object(&f->index, true)) ||
			 !add(o, IMAGE_PAGES, file_object(&f->pages, false)))) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

static struct json_object *containers_array(const struct image_manifest *m)
{
	struct json_object *a = json_object_new_array(), *c = json_object_new_object();

	if (a && c && add_string(c, "name", m->container_name) && add_string(c, "id", m->container_id) &&
		json_object_array_add(a, c) == 0)
		return a;
	json_object_put(c);
	json_object_put(a);
	return NULL;
}

static struct json_object *cpu_object(const struct image_manifest *m)
{
	struct json_object *o = json_object_new_object();

	if (o && (!add_u64(o, "xfeatures", m->xfeatures) || !add_string(o, "features", m->cpu_features) ||
			 (m->cpu_layout && !add_string(o, "layout", m->cpu_layout)))) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

/* What a reader must know, or refuse. */
static const char *const known_features[] = {IMAGE_FEATURE_PARENT, IMAGE_FEATURE_PRE_DUMP,
	IMAGE_FEATURE_SOCKET_ERRORS, IMAGE_FEATURE_COMPRESSED, IMAGE_FEATURE_PRESSURE,
	IMAGE_FEATURE_MQ_NOTIFY};

static bool append_string(struct json_object *array, const char *s)
{
	struct json_object *v = json_object_new_string(s);

	if (v && json_object_array_add(array, v) == 0)
		return true;
	json_object_put(v);
	return false;
}

static struct json_object *features_array(const struct image_manifest *m, const struct image_files *f)
{
	struct json_object *a = json_object_new_array();

	if (a && ((m->parent && !append_string(a, IMAGE_FEATURE_PARENT)) ||
			 (m->pre_dump && !append_string(a, IMAGE_FEATURE_PRE_DUMP)) ||
			 (m->socket_errors && !append_string(a, IMAGE_FEATURE_SOCKET_ERRORS)) ||
			 (f->compressed && !append_string(a, IMAGE_FEATURE_COMPRESSED)) ||

			 (m->pressure_triggers && !append_string(a, IMAGE_FEATURE_PRESSURE)) ||
			 (m->mq_notify && !append_string(a, IMAGE_FEATURE_MQ_NOTIFY)))) {
		json_object_put(a);
		return NULL;
	}
	return a;
}

static struct json_object *parent_object(const struct image_manifest *m)
{
	struct json_object *o = json_object_new_object();

	if (o && (!add_string(o, "path", m->parent) || !add_hash(o, "checksum", m->parent_checksum))) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

static bool fill(struct json_object *o, const struct image_manifest *m, const struct image_files *f)
{
	return add_u64(o, "format_version", IMAGE_FORMAT_VERSION) &&
	       add(o, "required_features", features_array(m, f)) && add_string(o, "engine", m->engine) &&
	       add_string(o, "stasis_version", m->stasis_version) &&
	       add_u64(o, "container_count", m->container_count) &&
	       add(o, "containers", containers_array(m)) && add_string(o, "architecture", m->architecture) &&
	       add_string(o, "kernel", m->kernel) && add(o, "cpu", cpu_object(m)) &&
	       add_u64(o, "page_size", m->page_size) && add_string(o, "created", m->created) &&
	       add_u64(o, "generation", m->generation) &&
	       (!m->parent || add(o, "parent", parent_object(m))) &&
	       add(o, "statistics", statistics_object(&m->statistics)) && add(o, "files", files_object(f));
}

uint64_t image_manifest_checksum(const void *text, size_t len)
{
	return len > TRAILER_LENGTH ? image_hash(text, len - TRAILER_LENGTH) : 0;
}

bool image_parent_is_valid(const char *path)
{
	return path && *path && *path != '/' && strlen(path) < IMAGE_PARENT_MAX;
}

int image_manifest_build(
	const struct image_manifest *m, const struct image_files *f, struct image_buffer *b, struct error *e)
{
	_cleanup_(json_put_p) struct json_object *o = json_object_new_object();
	const char *text;
	size_t len;
	char *p;

	if (!o || !fill(o, m, f))
		return error_errno(e, -ENOMEM, IMAGE_MANIFEST);
	text = json_object_to_json_string_length(
		o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	p = text ? image_buffer_room(b, len + TRAILER_LENGTH + 16) : NULL;
	if (!p)
		return error_errno(e, -ENOMEM, IMAGE_MANIFEST);
	/* "\n}" goes, the checksum comes. */
	len -= 2;
	memcpy(p, text, len);
	memcpy(p + len, ",\n  ", 4);
	len += 4;
	snprintf(p + len, TRAILER_LENGTH + 1, TRAILER_FORMAT, (unsigned long long)image_hash(p, len));
	b->len += len + TRAILER_LENGTH;
	return 0;
}

/* What a parser step needs; the first failure stays in *e, and "r" is its code. */
struct parse {
	struct arena *arena;
	struct error *e;
	int r;
};

static void bad(struct parse *p, const char *key, const char *what)
{
	if (p->r == 0)
		p->r = error_set(p->e, -EBADMSG, ERROR_CORRUPT, "%s: %s: %s", IMAGE_MANIFEST, key, what);
}

static struct json_object *member(
	struct parse *p, struct json_object *o, const char *key, enum json_type type)
{
	struct json_object *v = NULL;

	if (!o || !json_object_object_get_ex(o, key, &v))
		bad(p, key, "missing");
	else if (!json_object_is_type(v, type))
		bad(p, key, "of the wrong type");
	else
		return v;
	return NULL;
}

static const char *get_string(struct parse *p, struct json_object *o, const char *key)
{
	struct json_object *v = member(p, o, key, json_type_string);
	size_t len = v ? json_object_get_string_len(v) : 0;
	const char *s = v ? json_object_get_string(v) : "";

	if (strlen(s) != len)
		bad(p, key, "holds a NUL");
	s = arena_strndup(p->arena, s, strlen(s));
	if (!s && p->r == 0)
		p->r = error_errno(p->e, -ENOMEM, IMAGE_MANIFEST);
	return s;
}

static uint64_t get_u64(struct parse *p, struct json_object *o, const char *key, uint64_t max)
{
	struct json_object *v = member(p, o, key, json_type_int);
	uint64_t u = 0;

	if (!v)
		return 0;
	/* json-c clamps: negative numbers to 0, and what is too large to UINT64_MAX. */
	u = json_object_get_uint64(v);
	if (json_object_get_int64(v) < 0 || u > max)
		bad(p, key, "out of range");
	return u;
}

static uint64_t get_hash(struct parse *p, struct json_object *o, const char *key)
{
	struct json_object *v = member(p, o, key, json_type_string);
	const char *s = v ? json_object_get_string(v) : "";
	uint64_t hash = 0;

	if (!v)
		return 0;
	if (strlen(s) != 5 + 16 || strncmp(s, "xxh3:", 5) != 0) {
		bad(p, key, "no xxh3 checksum");
		return 0;
	}
	for (s += 5; *s; s++) {
		if (!isxdigit((unsigned char)*s) || isupper((unsigned char)*s))
			bad(p, key, "no xxh3 checksum");
		hash = hash << 4 | (uint64_t)(*s <= '9' ? *s - '0' : (*s - 'a' + 10) & 15);
	}
	return hash;
}

static struct image_file_info get_file(
	struct parse *p, struct json_object *files, const char *name, bool checksum)
{
	struct json_object *o = member(p, files, name, json_type_object);
	struct image_file_info f = {0};

	if (o) {
		f.size = get_u64(p, o, "size", INT64_MAX);
		f.checksum = checksum ? get_hash(p, o, "checksum") : 0;
	}
	return f;
}

static bool is_known_feature(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(known_features); i++)
		if (!strcmp(name, known_features[i]))
			return true;
	return false;
}

/* Before anything else: what a stasis of another version must understand. */
static void check_version(struct parse *p, struct json_object *o)
{
	uint64_t version = get_u64(p, o, "format_version", UINT64_MAX);
	struct json_object *a = NULL;

	if (p->r == 0 && version != IMAGE_FORMAT_VERSION)
		p->r = error_set(p->e, -ENOTSUP, ERROR_REFUSED,
			"image of format version %llu, but this stasis " STASIS_VERSION
			" reads version %d: use the stasis that made it",
			(unsigned long long)version, IMAGE_FORMAT_VERSION);
	if (p->r == 0)
		a = member(p, o, "required_features", json_type_array);
	for (size_t i = 0; a && i < json_object_array_length(a) && p->r == 0; i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(a, i));

		if (!is_known_feature(name))
			p->r = error_set(p->e, -ENOTSUP, ERROR_REFUSED,
				"the image needs the feature \"%.100s\", which this stasis " STASIS_VERSION
				" lacks: use a newer one",
				name ? name : "null");
	}
}

static bool has_feature(struct json_object *o, const char *feature)
{
	struct json_object *a = NULL;

	if (!json_object_object_get_ex(o, "required_features", &a) ||
		!json_object_is_type(a, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(a); i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(a, i));

		if (name && !strcmp(name, feature))
			return true;
	}
	return false;
}

static void get_parent(struct parse *p, struct json_object *o, struct image_manifest *m)
{
	struct json_object *v;

	m->pre_dump = has_feature(o, IMAGE_FEATURE_PRE_DUMP);
	if (!has_feature(o, IMAGE_FEATURE_PARENT))
		return;
	v = member(p, o, "parent", json_type_object);
	m->parent = get_string(p, v, "path");
	m->parent_checksum = get_hash(p, v, "checksum");
	if (p->r == 0 && !image_parent_is_valid(m->parent))
		bad(p, "parent", "its path is not a relative one");
}

static void check_checksum(struct parse *p, const char *text, size_t len)
{
	char want[TRAILER_LENGTH + 1];
	size_t body = len > TRAILER_LENGTH ? len - TRAILER_LENGTH : 0;

	if (p->r < 0)
		return;
	snprintf(want, sizeof(want), TRAILER_FORMAT, (unsigned long long)image_hash(text, body));
	if (!body || memcmp(text + body, want, TRAILER_LENGTH) != 0)
		p->r = image_corrupt(p->e, IMAGE_MANIFEST, body,
			"wrong checksum, the file was changed (want %.31s)", want);
}

/* Where this machine can't take the image. */
static void check_machine(struct parse *p, const struct image_manifest *m)
{
	struct utsname u = {0};

	if (p->r < 0)
		return;
	uname(&u);
	if (strcmp(m->architecture, u.machine) != 0)
		p->r = error_set(p->e, -ENOTSUP, ERROR_REFUSED,
			"image of a container on %.40s, but this machine is %.40s: restore it on a machine "
			"of its own architecture",
			m->architecture, u.machine);
	else if (m->page_size != IMAGE_PAGE_SIZE)
		p->r = error_set(p->e, -ENOTSUP, ERROR_REFUSED,
			"image with pages of %u bytes, but this machine's have %d: restore it on a machine "
			"whose kernel has the same",
			m->page_size, IMAGE_PAGE_SIZE);
}

static void get_containers(struct parse *p, struct json_object *o, struct image_manifest *m)
{
	struct json_object *a = member(p, o, "containers", json_type_array);
	struct json_object *c = a ? json_object_array_get_idx(a, 0) : NULL;

	m->container_count = get_u64(p, o, "container_count", UINT32_MAX);
	if (!c || m->container_count != json_object_array_length(a)) {
		bad(p, "containers", "not as many as container_count says");
		return;
	}
	m->container_name = get_string(p, c, "name");
	m->container_id = get_string(p, c, "id");
}

static void get_all(struct parse *p, struct json_object *o, struct image_manifest *m, struct image_files *f)
{
	struct json_object *v;

	m->format_version = IMAGE_FORMAT_VERSION;
	m->engine = get_string(p, o, "engine");
	m->stasis_version = get_string(p, o, "stasis_version");
	get_containers(p, o, m);
	m->architecture = get_string(p, o, "architecture");
	m->kernel = get_string(p, o, "kernel");
	m->page_size = get_u64(p, o, "page_size", UINT32_MAX);
	m->created = get_string(p, o, "created");
	m->generation = get_u64(p, o, "generation", UINT64_MAX);
	get_parent(p, o, m);
	v = member(p, o, "cpu", json_type_object);
	m->xfeatures = get_u64(p, v, "xfeatures", UINT64_MAX);
	m->cpu_features = get_string(p, v, "features");
	if (v && json_object_object_get_ex(v, "layout", NULL))
		m->cpu_layout = get_string(p, v, "layout");
	v = member(p, o, "statistics", json_type_object);
	for (const struct image_statistic *st = image_statistic_table; v && st->name; st++)
		if ((st->in & IMAGE_STATISTIC_MANIFEST) &&
			(!(st->in & IMAGE_STATISTIC_OPTIONAL) ||
				json_object_object_get_ex(v, st->name, NULL)))
			*image_statistic(&m->statistics, st) = get_u64(p, v, st->name, UINT64_MAX);
	v = member(p, o, "files", json_type_object);
	f->checkpoint = get_file(p, v, IMAGE_CHECKPOINT, true);
	f->index = get_file(p, v, IMAGE_INDEX, true);
	f->pages = get_file(p, v, IMAGE_PAGES, false);
}

int image_manifest_parse(struct arena *a, const char *text, size_t len, struct image_manifest *ret,
	struct image_files *ret_files, struct error *e)
{
	_cleanup_(tokener_free_p) struct json_tokener *t = json_tokener_new_ex(JSON_DEPTH);
	_cleanup_(json_put_p) struct json_object *o = NULL;
	struct parse p = {.arena = a, .e = e};
	struct image_manifest m = {0};
	struct image_files f = {0};

	if (len > IMAGE_MANIFEST_MAX)
		return image_corrupt(e, IMAGE_MANIFEST, len, "larger than %d bytes", IMAGE_MANIFEST_MAX);
	if (!t)
		return error_errno(e, -ENOMEM, IMAGE_MANIFEST);
	json_tokener_set_flags(
		t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8 | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	o = json_tokener_parse_ex(t, text, len);
	if (!o || !json_object_is_type(o, json_type_object))
		return image_corrupt(e, IMAGE_MANIFEST, json_tokener_get_parse_end(t), "no JSON object: %s",
			json_tokener_error_desc(json_tokener_get_error(t)));
	check_version(&p, o);
	check_checksum(&p, text, len);
	get_all(&p, o, &m, &f);
	check_machine(&p, &m);
	if (p.r < 0)
		return p.r;
	m.checksum = image_manifest_checksum(text, len);
	*ret = m;
	*ret_files = f;
	return 0;
}
