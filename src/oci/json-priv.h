/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checked reading of JSON into structs, private to src/oci. A "struct jv" is a JSON value together with the way to it,
 * so that every error can say where it is ("linux.namespaces[2].type: ..."). Tables of "struct json_field" say which
 * members an object may have, of which type and range, and where they go; members that no table names are ignored
 * (the runtime-spec's extensibility rule), and a JSON null counts as absent, as it does for Go's callers.
 */
#pragma once

#include <json-c/json.h>

#include "base/arena.h"
#include "base/error.h"

struct parser {
	struct arena *arena; /* everything that outlives the parse */
	const char *bundle;  /* absolute; NULL when there is none (process.json) */
	struct error *e;
};

struct jv {
	struct json_object *o;
	const struct jv *up; /* NULL: the whole document */
	const char *key;     /* member name; NULL: array element "index" */
	size_t index;
	bool quote_key; /* the key is data (an annotation's name), not a field */
};

typedef int (*json_parse_fn)(struct parser *p, const struct jv *v, void *dest);

enum json_field_type {
	JSON_BOOL,	  /* bool */
	JSON_STRING,	  /* const char * */
	JSON_PATH,	  /* const char *, absolute */
	JSON_STRV,	  /* char **, NULL-terminated */
	JSON_PATHV,	  /* char **, all absolute */
	JSON_INT,	  /* int */
	JSON_I64,	  /* int64_t */
	JSON_U16,	  /* uint16_t */
	JSON_U32,	  /* uint32_t */
	JSON_U64,	  /* uint64_t */
	JSON_SUB,	  /* object with a table of its own, same destination struct */
	JSON_CUSTOM,	  /* parse() gets the address of the member */
	JSON_UNSUPPORTED, /* an error unless empty: silently dropping it would change the container */
};

struct json_field {
	const char *key;
	enum json_field_type type;
	bool required;
	size_t offset;
	size_t has_offset; /* bool that says "was given"; 0: none */
	int64_t min;	   /* with max: the range; both 0: that of the type */
	uint64_t max;
	json_parse_fn parse;	      /* JSON_CUSTOM */
	const struct json_field *sub; /* JSON_SUB; tables end with a NULL key */
};

/* Parses a text, an object or an array: broken JSON is an error with line and column. Free with json_object_put(). */
int jv_parse_text(const char *text, size_t len, const char *what, enum json_type type,
	struct json_object **ret, struct error *e) _must_check_;
static inline void json_object_put_p(struct json_object **o)
{
	if (*o)
		json_object_put(*o);
}
#define _cleanup_json_ _cleanup_(json_object_put_p)

/* ERROR_CONFIG "path: message"; returns -EINVAL. */
int jv_fail(struct parser *p, const struct jv *v, const char *format, ...) _printf_(3, 4);
/* "path: unknown <what> "value" (a, b, c)". */
int jv_fail_unknown(
	struct parser *p, const struct jv *v, const char *what, const char *value, const char *allowed);
int jv_no_memory(struct parser *p);
/* The path of a value, for messages. */
void jv_path(const struct jv *v, char *buf, size_t size);
/* "s" with quotes and without control characters, cut to fit. */
const char *jv_quote(const char *s, char *buf, size_t size);

int jv_expect(struct parser *p, const struct jv *v, enum json_type type) _must_check_;
/* False when absent or null. "obj" must be an object. */
bool jv_member(const struct jv *obj, const char *key, struct jv *ret) _must_check_;
struct jv jv_element(const struct jv *array, size_t i);

int jv_string(struct parser *p, const struct jv *v, const char **ret) _must_check_;
/* Borrowed from the JSON tree: for names that are only looked up. */
int jv_borrow(struct parser *p, const struct jv *v, const char **ret) _must_check_;
int jv_absolute(struct parser *p, const struct jv *v, const char **ret) _must_check_;
int jv_i64(struct parser *p, const struct jv *v, int64_t min, int64_t max, int64_t *ret) _must_check_;
int jv_u64(struct parser *p, const struct jv *v, uint64_t min, uint64_t max, uint64_t *ret) _must_check_;
int jv_strv(struct parser *p, const struct jv *v, char ***ret) _must_check_;
/* Arrays of structs (each element "size" bytes, zeroed, in the arena), and objects used as maps: v->key is the name. */
int jv_array(struct parser *p, const struct jv *v, size_t size, json_parse_fn parse, void *ret,
	size_t *ret_n) _must_check_;
int jv_map(struct parser *p, const struct jv *v, size_t size, json_parse_fn parse, void *ret,
	size_t *ret_n) _must_check_;
/* Fills "dest" by the table; v must be an object. */
int jv_fields(struct parser *p, const struct jv *v, const struct json_field *fields, void *dest) _must_check_;
