/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checked JSON reading: see json-priv.h. Invariant: nothing that is returned points into the json-c tree (strings are
 * copied to the arena), so the tree is freed as soon as the parse is over.
 */
#include "oci/json-priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_DEPTH = 64, JSON_SIZE_MAX = 16 * 1024 * 1024 };

static const char *type_name(enum json_type t)
{
	switch (t) {
	case json_type_null:
		return "null";
	case json_type_boolean:
		return "a boolean";
	case json_type_double:
		return "a number with a fraction or exponent";
	case json_type_int:
		return "an integer";
	case json_type_object:
		return "an object";
	case json_type_array:
		return "an array";
	case json_type_string:
		return "a string";
	}
	return "something else";
}

const char *jv_quote(const char *s, char *buf, size_t size)
{
	size_t n = 0;

	buf[n++] = '"';
	for (; *s && n + 5 < size; s++)
		buf[n++] = (unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s;
	for (const char *more = *s ? "..." : ""; *more; more++)
		buf[n++] = *more;
	buf[n++] = '"';
	buf[n] = 0;
	return buf;
}

void jv_path(const struct jv *v, char *buf, size_t size)
{
	char quoted[120];
	size_t n;

	buf[0] = 0;
	if (!v || !v->up)
		return;
	jv_path(v->up, buf, size);
	n = strlen(buf);
	if (!v->key)
		snprintf(buf + n, size - n, "[%zu]", v->index);
	else if (v->quote_key)
		snprintf(buf + n, size - n, "[%s]", jv_quote(v->key, quoted, sizeof(quoted)));
	else
		snprintf(buf + n, size - n, "%s%s", n ? "." : "", v->key);
}

int jv_fail(struct parser *p, const struct jv *v, const char *format, ...)
{
	char path[400], message[600];
	va_list ap;

	jv_path(v, path, sizeof(path));
	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	return error_set(p->e, -EINVAL, ERROR_CONFIG, "%s%s%s", path, path[0] ? ": " : "", message);
}

int jv_fail_unknown(
	struct parser *p, const struct jv *v, const char *what, const char *value, const char *allowed)
{
	char quoted[80];

	return jv_fail(p, v, "unknown %s %s (%s)", what, jv_quote(value, quoted, sizeof(quoted)), allowed);
}

int jv_no_memory(struct parser *p)
{
	return error_set(p->e, -ENOMEM, ERROR_SYSTEM, "out of memory while reading JSON");
}

static int syntax_error(const char *text, size_t at, const char *what, const char *why, struct error *e)
{
	size_t line = 1, column = 1;

	for (size_t i = 0; i < at; i++) {
		column = text[i] == '\n' ? 1 : column + 1;
		line += text[i] == '\n';
	}
	return error_set(e, -EINVAL, ERROR_CONFIG, "%s: line %zu, column %zu: %s", what, line, column, why);
}

/* What json-c would read as something else, without saying so: the nearest number that 64 bits hold (a limit, or an
 * argument that seccomp compares, would be another than the one that is written), a name as far as its NUL. */
static bool beyond_64_bits(const char *p, const char **ret_end)
{
	const char *digits = *p == '-' ? p + 1 : p, *q = digits + strspn(digits, "0123456789");

	errno = 0;
	if (*p == '-')
		(void)!strtoll(p, NULL, 10);
	else
		(void)!strtoull(p, NULL, 10);
	*ret_end = q + strspn(q, "0123456789.eE+-");
	return errno == ERANGE && *ret_end == q;
}

/* A string, from its opening quote: what is wrong with it, or NULL. */
static const char *check_string(const char *p, const char **ret_end)
{
	bool nul = false;
	const char *q;

	for (q = p + 1; *q && *q != '"'; q++) {
		if ((unsigned char)*q < 0x20)
			return "a control character in a string";
		nul |= !strncmp(q, "\\u0000", 6);
		q += *q == '\\' && q[1];
	}
	*ret_end = *q ? q + 1 : q;
	return nul && (*ret_end)[strspn(*ret_end, " \t\r\n")] == ':' ? "a NUL character in a name" : NULL;
}

static int check_exact(const char *text, size_t len, const char *what, struct error *e)
{
	for (const char *p = text, *end; p < text + len; p = end) {
		const char *wrong = NULL;

		end = p + 1;
		if (*p == '"')
			wrong = check_string(p, &end);
		else if ((*p == '-' || (*p >= '0' && *p <= '9')) && beyond_64_bits(p, &end))
			wrong = "the number is out of range (-9223372036854775808 to 18446744073709551615)";
		if (wrong)
			return syntax_error(text, p - text, what, wrong, e);
	}
	return 0;
}

int jv_parse_text(const char *text, size_t len, const char *what, enum json_type type,
	struct json_object **ret, struct error *e)
{
	struct json_tokener *tok;
	_cleanup_json_ struct json_object *o = NULL;
	enum json_tokener_error err;
	size_t end;

	if (len > JSON_SIZE_MAX)
		return error_set(
			e, -EFBIG, ERROR_CONFIG, "%s: larger than %d MiB", what, JSON_SIZE_MAX >> 20);
	tok = json_tokener_new_ex(JSON_DEPTH);
	if (!tok)
		return error_set(e, -ENOMEM, ERROR_SYSTEM, "out of memory while reading %s", what);
	json_tokener_set_flags(
		tok, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(tok, text, (int)len);
	err = json_tokener_get_error(tok);
	end = MIN(json_tokener_get_parse_end(tok), len);
	json_tokener_free(tok);
	if (err == json_tokener_continue)
		return syntax_error(text, len, what, "the text ends in the middle of a value", e);
	if (err == json_tokener_error_depth)
		return syntax_error(text, end, what, "nested deeper than 64 levels", e);
	if (err != json_tokener_success)
		return syntax_error(text, end, what, json_tokener_error_desc(err), e);
	while (end < len && strchr(" \t\r\n", text[end]) && text[end])
		end++;
	if (end < len)
		return syntax_error(text, end, what, "unexpected text after the end of the document", e);
	if (!json_object_is_type(o, type))
		return error_set(e, -EINVAL, ERROR_CONFIG, "%s: must be %s, not %s", what, type_name(type),
			type_name(json_object_get_type(o)));
	/* the text of either ends with a bracket: no number or string runs up to its end */
	if (check_exact(text, end, what, e) < 0)
		return -EINVAL;
	*ret = take_ptr(o);
	return 0;
}

int jv_expect(struct parser *p, const struct jv *v, enum json_type type)
{
	enum json_type is = json_object_get_type(v->o);

	if (is == type)
		return 0;
	return jv_fail(p, v, "must be %s, not %s", type_name(type), type_name(is));
}

bool jv_member(const struct jv *obj, const char *key, struct jv *ret)
{
	struct json_object *o;

	if (!json_object_object_get_ex(obj->o, key, &o) || !o)
		return false;
	*ret = (struct jv){.o = o, .up = obj, .key = key};
	return true;
}

struct jv jv_element(const struct jv *array, size_t i)
{
	return (struct jv){.o = json_object_array_get_idx(array->o, i), .up = array, .index = i};
}

int jv_borrow(struct parser *p, const struct jv *v, const char **ret)
{
	int r = jv_expect(p, v, json_type_string);
	const char *s;

	if (r < 0)
		return r;
	s = json_object_get_string(v->o);
	if (strlen(s) != (size_t)json_object_get_string_len(v->o))
		return jv_fail(p, v, "must not contain a NUL character");
	*ret = s;
	return 0;
}

int jv_string(struct parser *p, const struct jv *v, const char **ret)
{
	const char *s;
	char *copy;
	int r = jv_borrow(p, v, &s);

	if (r < 0)
		return r;
	copy = arena_strdup(p->arena, s);
	if (!copy)
		return jv_no_memory(p);
	*ret = copy;
	return 0;
}

int jv_absolute(struct parser *p, const struct jv *v, const char **ret)
{
	const char *s;
	char quoted[120];
	int r = jv_string(p, v, &s);

	if (r < 0)
		return r;
	if (s[0] != '/')
		return jv_fail(p, v, "must be an absolute path, not %s", jv_quote(s, quoted, sizeof(quoted)));
	*ret = s;
	return 0;
}

/* json-c keeps integers as int64 or, above INT64_MAX, as uint64; there are no others (beyond_64_bits()). */
int jv_i64(struct parser *p, const struct jv *v, int64_t min, int64_t max, int64_t *ret)
{
	int r = jv_expect(p, v, json_type_int);
	int64_t n;

	if (r < 0)
		return r;
	n = json_object_get_int64(v->o);
	if (n < min || n > max || (n == INT64_MAX && json_object_get_uint64(v->o) > INT64_MAX))
		return jv_fail(p, v, "%s is out of range (%" PRId64 " to %" PRId64 ")",
			json_object_to_json_string(v->o), min, max);
	*ret = n;
	return 0;
}

int jv_u64(struct parser *p, const struct jv *v, uint64_t min, uint64_t max, uint64_t *ret)
{
	int r = jv_expect(p, v, json_type_int);
	uint64_t n;

	if (r < 0)
		return r;
	n = json_object_get_uint64(v->o);
	if (json_object_get_int64(v->o) < 0 || n < min || n > max)
		return jv_fail(p, v, "%s is out of range (%" PRIu64 " to %" PRIu64 ")",
			json_object_to_json_string(v->o), min, max);
	*ret = n;
	return 0;
}

static int strv_of(struct parser *p, const struct jv *v, bool paths, char ***ret)
{
	size_t n;
	char **strv;
	int r = jv_expect(p, v, json_type_array);

	if (r < 0)
		return r;
	n = json_object_array_length(v->o);
	strv = arena_array(p->arena, n + 1, sizeof(*strv));
	if (!strv)
		return jv_no_memory(p);
	for (size_t i = 0; i < n; i++) {
		struct jv item = jv_element(v, i);

		r = paths ? jv_absolute(p, &item, (const char **)&strv[i])
			  : jv_string(p, &item, (const char **)&strv[i]);
		if (r < 0)
			return r;
	}
	*ret = strv;
	return 0;
}

int jv_strv(struct parser *p, const struct jv *v, char ***ret)
{
	return strv_of(p, v, false, ret);
}

int jv_array(struct parser *p, const struct jv *v, size_t size, json_parse_fn parse, void *ret, size_t *ret_n)
{
	size_t n;
	char *items;
	int r = jv_expect(p, v, json_type_array);

	if (r < 0)
		return r;
	n = json_object_array_length(v->o);
	items = arena_array(p->arena, n, size);
	if (!items)
		return jv_no_memory(p);
	for (size_t i = 0; i < n; i++) {
		struct jv item = jv_element(v, i);

		r = parse(p, &item, items + i * size);
		if (r < 0)
			return r;
	}
	*(void **)ret = items;
	*ret_n = n;
	return 0;
}

int jv_map(struct parser *p, const struct jv *v, size_t size, json_parse_fn parse, void *ret, size_t *ret_n)
{
	size_t n, i = 0;
	char *items;
	int r = jv_expect(p, v, json_type_object);

	if (r < 0)
		return r;
	n = (size_t)json_object_object_length(v->o);
	items = arena_array(p->arena, n, size);
	if (!items)
		return jv_no_memory(p);
	json_object_object_foreach(v->o, key, value)
	{
		struct jv item = {.o = value, .up = v, .key = key, .quote_key = true};

		r = parse(p, &item, items + i++ * size);
		if (r < 0)
			return r;
	}
	*(void **)ret = items;
	*ret_n = n;
	return 0;
}

static int integer_field(struct parser *p, const struct jv *v, const struct json_field *f, void *at)
{
	static const uint64_t type_max[] = {
		[JSON_U16] = UINT16_MAX, [JSON_U32] = UINT32_MAX, [JSON_U64] = UINT64_MAX};
	bool ranged = f->min || f->max;
	int64_t i = 0;
	uint64_t u = 0;
	int r;

	switch (f->type) {
	case JSON_INT:
		r = jv_i64(p, v, ranged ? f->min : INT32_MIN, ranged ? (int64_t)f->max : INT32_MAX, &i);
		if (r == 0)
			*(int *)at = (int)i;
		return r;
	case JSON_I64:
		r = jv_i64(p, v, ranged ? f->min : INT64_MIN, ranged ? (int64_t)f->max : INT64_MAX, &i);
		if (r == 0)
			*(int64_t *)at = i;
		return r;
	default:
		break;
	}
	r = jv_u64(p, v, (uint64_t)f->min, ranged ? f->max : type_max[f->type], &u);
	if (r < 0)
		return r;
	if (f->type == JSON_U16)
		*(uint16_t *)at = (uint16_t)u;
	else if (f->type == JSON_U32)
		*(uint32_t *)at = (uint32_t)u;
	else
		*(uint64_t *)at = u;
	return 0;
}

/* null, or containers of nothing else: what callers write for "none". The depth was limited by the tokener. */
static bool json_empty(struct json_object *o)
{
	if (json_object_is_type(o, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(o); i++)
			if (!json_empty(json_object_array_get_idx(o, i)))
				return false;
		return true;
	}
	if (!json_object_is_type(o, json_type_object))
		return !o;
	json_object_object_foreach(o, key, value)
	{
		(void)key;
		if (!json_empty(value))
			return false;
	}
	return true;
}

static int read_field(struct parser *p, const struct jv *v, const struct json_field *f, void *dest)
{
	void *at = (char *)dest + f->offset;
	int r;

	switch (f->type) {
	case JSON_BOOL:
		r = jv_expect(p, v, json_type_boolean);
		if (r == 0)
			*(bool *)at = json_object_get_boolean(v->o);
		return r;
	case JSON_STRING:
		return jv_string(p, v, at);
	case JSON_PATH:
		return jv_absolute(p, v, at);
	case JSON_STRV:
		return strv_of(p, v, false, at);
	case JSON_PATHV:
		return strv_of(p, v, true, at);
	case JSON_SUB:
		return jv_fields(p, v, f->sub, dest);
	case JSON_CUSTOM:
		return f->parse(p, v, at);
	case JSON_UNSUPPORTED:
		return json_empty(v->o) ? 0 : jv_fail(p, v, "not supported yet");
	default:
		return integer_field(p, v, f, at);
	}
}

int jv_fields(struct parser *p, const struct jv *v, const struct json_field *fields, void *dest)
{
	int r = jv_expect(p, v, json_type_object);

	if (r < 0)
		return r;
	for (const struct json_field *f = fields; f->key; f++) {
		struct jv member;

		if (!jv_member(v, f->key, &member)) {
			member = (struct jv){.up = v, .key = f->key};
			if (f->required)
				return jv_fail(p, &member, "missing");
			continue;
		}
		r = read_field(p, &member, f, dest);
		if (r < 0)
			return r;
		if (f->has_offset)
			*(bool *)((char *)dest + f->has_offset) = true;
	}
	return 0;
}
