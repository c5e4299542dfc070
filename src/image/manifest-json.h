/* SPDX-License-Identifier: Apache-2.0 */
/* What the manifests of a container's and of a sandbox's image share (manifest-json.c). */
#pragma once

#include <json-c/json.h>

#include "image/image-priv.h"

static inline void json_put_p(struct json_object **o)
{
	json_object_put(*o);
}

/* They take ownership of "value", also on failure; false when out of memory. */
bool manifest_add(struct json_object *o, const char *key, struct json_object *value);
bool manifest_add_string(struct json_object *o, const char *key, const char *s);
bool manifest_add_u64(struct json_object *o, const char *key, uint64_t v);
bool manifest_add_hash(struct json_object *o, const char *key, uint64_t v);
bool manifest_append(struct json_object *array, const char *s);
/* The text, with its checksum. */
int manifest_seal(struct json_object *o, struct image_buffer *b, struct error *e) _must_check_;

/* What a parser step needs; the first failure stays in *e, and "r" is its code. */
struct manifest_parse {
	struct arena *arena;
	struct error *e;
	int r;
};
/* The object, with its checksum right and no feature but these ("known" ends with NULL); NULL: p->r says why. */
struct json_object *manifest_parse(
	struct manifest_parse *p, const char *text, size_t len, const char *const *known);
void manifest_bad(struct manifest_parse *p, const char *key, const char *what);
struct json_object *manifest_member(
	struct manifest_parse *p, struct json_object *o, const char *key, enum json_type type);
const char *manifest_string(struct manifest_parse *p, struct json_object *o, const char *key);
uint64_t manifest_u64(struct manifest_parse *p, struct json_object *o, const char *key, uint64_t max);
uint64_t manifest_hash(struct manifest_parse *p, struct json_object *o, const char *key);
bool manifest_has_feature(struct json_object *o, const char *feature);
void manifest_check_machine(struct manifest_parse *p, const char *architecture, unsigned page_size);
