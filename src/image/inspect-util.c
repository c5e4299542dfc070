/* SPDX-License-Identifier: Apache-2.0 */
/* Filling and reading the JSON object, and making strings of an image printable. */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "image/inspect-priv.h"

void inspect_add(struct inspection *x, struct json_object *o, const char *key, struct json_object *value)
{
	if (o && value && json_object_object_add(o, key, value) == 0)
		return;
	json_object_put(value);
	x->out_of_memory = true;
}

void inspect_append(struct inspection *x, struct json_object *array, struct json_object *value)
{
	if (array && value && json_object_array_add(array, value) == 0)
		return;
	json_object_put(value);
	x->out_of_memory = true;
}

void inspect_add_u64(struct inspection *x, struct json_object *o, const char *key, uint64_t v)
{
	inspect_add(x, o, key, json_object_new_uint64(v));
}

void inspect_add_i64(struct inspection *x, struct json_object *o, const char *key, int64_t v)
{
	inspect_add(x, o, key, json_object_new_int64(v));
}

void inspect_add_bool(struct inspection *x, struct json_object *o, const char *key, bool v)
{
	inspect_add(x, o, key, json_object_new_boolean(v));
}

void inspect_add_hex(struct inspection *x, struct json_object *o, const char *key, uint64_t v)
{
	char text[32];

	snprintf(text, sizeof(text), "0x%llx", (unsigned long long)v);
	inspect_add(x, o, key, json_object_new_string(text));
}

/* Length of the well-formed UTF-8 character at s, which is printable; 0 if there is none. */
static size_t printable(const uint8_t *s, size_t len)
{
	uint32_t c;
	size_t n = utf8_decode(s, len, &c);

	/* controls, and the characters that turn the direction of the text around */
	if (n == 0 || c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200e && c <= 0x200f) ||
		(c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069))
		return 0;
	return n;
}

void inspect_add_bytes(
	struct inspection *x, struct json_object *o, const char *key, const void *s, size_t len)
{
	const uint8_t *p = s;
	size_t size, k = 0;
	char *text;

	if (size_overflows(len, 4, 1, &size) || !(text = malloc(size))) {
		x->out_of_memory = true;
		return;
	}
	for (size_t i = 0, n; i < len; i += n) {
		n = printable(p + i, len - i);
		if (n == 0) {
			n = 1;
			k += snprintf(text + k, size - k, "\\x%02x", p[i]);
		} else {
			memcpy(text + k, p + i, n);
			k += n;
		}
	}
	inspect_add(x, o, key, json_object_new_string_len(text, k));
	free(text);
}

void inspect_add_string(struct inspection *x, struct json_object *o, const char *key, const char *s)
{
	inspect_add_bytes(x, o, key, s ? s : "", s ? strlen(s) : 0);
}

struct json_object *inspect_get(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return o && json_object_object_get_ex(o, key, &v) ? v : NULL;
}

const char *inspect_str(struct json_object *o, const char *key)
{
	const char *s = json_object_get_string(inspect_get(o, key));

	return s ? s : "";
}

uint64_t inspect_num(struct json_object *o, const char *key)
{
	return json_object_get_uint64(inspect_get(o, key));
}

size_t inspect_len(struct json_object *array)
{
	return array ? json_object_array_length(array) : 0;
}

const char *inspect_size(uint64_t bytes, char buf[16])
{
	static const char units[] = "BKMGTPE";
	double v = bytes;
	unsigned u = 0;

	for (; v >= 1024 && u < 6; u++)
		v /= 1024;
	if (u == 0)
		snprintf(buf, 16, "%u B", (unsigned)bytes);
	else
		snprintf(buf, 16, v < 9.95 ? "%.1f %ciB" : "%.0f %ciB", v, units[u]);
	return buf;
}
