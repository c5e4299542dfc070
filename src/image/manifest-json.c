/* SPDX-License-Identifier: Apache-2.0 */
/* What the manifests of a container's and of a sandbox's image share: members that are added and read, and the last line. */
#include "image/manifest-json.h"

#include <ctype.h>
#include <stdio.h>
#include <sys/utsname.h>

#define TRAILER_FORMAT "\"checksum\": \"xxh3:%016llx\"\n}\n"
enum { TRAILER_LENGTH = 12 + 23 + 3, JSON_DEPTH = 8 };

static void tokener_free_p(struct json_tokener **t)
{
	if (*t)
		json_tokener_free(*t);
}

bool manifest_add(struct json_object *o, const char *key, struct json_object *value)
{
	if (value && json_object_object_add(o, key, value) == 0)
		return true;
	json_object_put(value);
	return false;
}

bool manifest_add_string(struct json_object *o, const char *key, const char *s)
{
	return manifest_add(o, key, json_object_new_string(s ? s : ""));
}

bool manifest_add_u64(struct json_object *o, const char *key, uint64_t v)
{
	return manifest_add(o, key, json_object_new_uint64(v));
}

bool manifest_add_hash(struct json_object *o, const char *key, uint64_t v)
{
	char text[32];

	snprintf(text, sizeof(text), "xxh3:%016llx", (unsigned long long)v);
	return manifest_add_string(o, key, text);
}

bool manifest_append(struct json_object *array, const char *s)
{
	struct json_object *v = json_object_new_string(s);

	if (v && json_object_array_add(array, v) == 0)
		return true;
	json_object_put(v);
	return false;
}

int manifest_seal(struct json_object *o, struct image_buffer *b, struct error *e)
{
	const char *text;
	size_t len;
	char *p;

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

uint64_t image_manifest_checksum(const void *text, size_t len)
{
	return len > TRAILER_LENGTH ? image_hash(text, len - TRAILER_LENGTH) : 0;
}

void manifest_bad(struct manifest_parse *p, const char *key, const char *what)
{
	if (p->r == 0)
		p->r = error_set(p->e, -EBADMSG, ERROR_CORRUPT, "%s: %s: %s", IMAGE_MANIFEST, key, what);
}

struct json_object *manifest_member(
	struct manifest_parse *p, struct json_object *o, const char *key, enum json_type type)
{
	struct json_object *v = NULL;

	if (!o || !json_object_object_get_ex(o, key, &v))
		manifest_bad(p, key, "missing");
	else if (!json_object_is_type(v, type))
		manifest_bad(p, key, "of the wrong type");
	else
		return v;
	return NULL;
}

const char *manifest_string(struct manifest_parse *p, struct json_object *o, const char *key)
{
	struct json_object *v = manifest_member(p, o, key, json_type_string);
	size_t len = v ? json_object_get_string_len(v) : 0;
	const char *s = v ? json_object_get_string(v) : "";

	if (strlen(s) != len)
		manifest_bad(p, key, "holds a NUL");
	s = arena_strndup(p->arena, s, strlen(s));
	if (!s && p->r == 0)
		p->r = error_errno(p->e, -ENOMEM, IMAGE_MANIFEST);
	return s;
}

uint64_t manifest_u64(struct manifest_parse *p, struct json_object *o, const char *key, uint64_t max)
{
	struct json_object *v = manifest_member(p, o, key, json_type_int);
	uint64_t u = 0;

	if (!v)
		return 0;
	/* json-c clamps: negative numbers to 0, and what is too large to UINT64_MAX. */
	u = json_object_get_uint64(v);
	if (json_object_get_int64(v) < 0 || u > max)
		manifest_bad(p, key, "out of range");
	return u;
}

uint64_t manifest_hash(struct manifest_parse *p, struct json_object *o, const char *key)
{
	struct json_object *v = manifest_member(p, o, key, json_type_string);
	const char *s = v ? json_object_get_string(v) : "";
	uint64_t hash = 0;

	if (!v)
		return 0;
	if (strlen(s) != 5 + 16 || strncmp(s, "xxh3:", 5) != 0) {
		manifest_bad(p, key, "no xxh3 checksum");
		return 0;
	}
	for (s += 5; *s; s++) {
		if (!isxdigit((unsigned char)*s) || isupper((unsigned char)*s))
			manifest_bad(p, key, "no xxh3 checksum");
		hash = hash << 4 | (uint64_t)(*s <= '9' ? *s - '0' : (*s - 'a' + 10) & 15);
	}
	return hash;
}

static bool is_among(const char *name, const char *const *names)
{
	for (; name && *names; names++)
		if (!strcmp(name, *names))
			return true;
	return false;
}

/* Who names something else needs another command, not another stasis. */
static int refuse_sandbox(struct error *e)
{
	return error_set(e, -ENOTSUP, ERROR_REFUSED,
		"the image is one of a sandbox, with several containers: restore them together (see "
		"\"restore\" in "
		"stasis(8)), or name the image of one of them, containers/NAME below it");
}

/* Before anything else: what a stasis of another version must understand. */
static void check_version(struct manifest_parse *p, struct json_object *o, const char *const *known)
{
	uint64_t version = manifest_u64(p, o, "format_version", UINT64_MAX);
	struct json_object *a = NULL;

	if (p->r == 0 && version != IMAGE_FORMAT_VERSION)
		p->r = error_set(p->e, -ENOTSUP, ERROR_REFUSED,
			"image of format version %llu, but this stasis " STASIS_VERSION
			" reads version %d: use the stasis that made it",
			(unsigned long long)version, IMAGE_FORMAT_VERSION);
	if (p->r == 0)
		a = manifest_member(p, o, "required_features", json_type_array);
	for (size_t i = 0; a && i < json_object_array_length(a) && p->r == 0; i++) {
		const char *name = json_object_get_string(json_object_array_get_idx(a, i));

		if (is_among(name, known))
			continue;
		if (name && !strcmp(name, IMAGE_FEATURE_SANDBOX))
			p->r = refuse_sandbox(p->e);
		else
			p->r = error_set(p->e, -ENOTSUP, ERROR_REFUSED,
				"the image needs the feature \"%.100s\", which this stasis " STASIS_VERSION
				" lacks: use a newer one",
				name ? name : "null");
	}
}

bool manifest_has_feature(struct json_object *o, const char *feature)
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

static void check_checksum(struct manifest_parse *p, const char *text, size_t len)
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

struct json_object *manifest_parse(
	struct manifest_parse *p, const char *text, size_t len, const char *const *known)
{
	_cleanup_(tokener_free_p) struct json_tokener *t = json_tokener_new_ex(JSON_DEPTH);
	_cleanup_(json_put_p) struct json_object *o = NULL;

	if (len > IMAGE_MANIFEST_MAX)
		p->r = image_corrupt(p->e, IMAGE_MANIFEST, len, "larger than %d bytes", IMAGE_MANIFEST_MAX);
	else if (!t)
		p->r = error_errno(p->e, -ENOMEM, IMAGE_MANIFEST);
	if (p->r < 0)
		return NULL;
	json_tokener_set_flags(
		t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8 | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	o = json_tokener_parse_ex(t, text, len);
	if (!o || !json_object_is_type(o, json_type_object)) {
		p->r = image_corrupt(p->e, IMAGE_MANIFEST, json_tokener_get_parse_end(t),
			"no JSON object: %s", json_tokener_error_desc(json_tokener_get_error(t)));
		return NULL;
	}
	check_version(p, o, known);
	check_checksum(p, text, len);
	return p->r < 0 ? NULL : take_ptr(o);
}

/* Where this machine can't take the image. */
void manifest_check_machine(struct manifest_parse *p, const char *architecture, unsigned page_size)
{
	struct utsname u = {0};

	if (p->r < 0)
		return;
	uname(&u);
	if (strcmp(architecture, u.machine) != 0)
		p->r = error_set(p->e, -ENOTSUP, ERROR_REFUSED,
			"image of a container on %.40s, but this machine is %.40s: restore it on a machine "
			"of its own architecture",
			architecture, u.machine);
	else if (page_size != IMAGE_PAGE_SIZE)
		p->r = error_set(p->e, -ENOTSUP, ERROR_REFUSED,
			"image with pages of %u bytes, but this machine's have %d: restore it on a machine "
			"whose kernel has the same",
			page_size, IMAGE_PAGE_SIZE);
}
