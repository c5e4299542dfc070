/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/total.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/util.h"

static bool is_number(struct json_object *o)
{
	return json_object_is_type(o, json_type_int);
}

/* As v1 and v2 say "none": the greatest number for memory, 0 for tasks. */
static uint64_t sum_limits(uint64_t a, uint64_t b)
{
	if (a == 0 || b == 0)
		return 0;
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static struct json_object *sum(const char *key, struct json_object *a, struct json_object *b)
{
	uint64_t x = json_object_get_uint64(a), y = json_object_get_uint64(b);

	return json_object_new_uint64(key && !strcmp(key, "limit") ? sum_limits(x, y) : x + y);
}

/* What tells entries of a list from each other: they are of a device and an operation, or of an interface. */
static bool is_name(const char *key)
{
	static const char *const names[] = {"major", "minor", "op", "Name"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(key, names[i]))
			return true;
	return false;
}

static bool is_same_entry(struct json_object *a, struct json_object *b)
{
	if (!json_object_is_type(a, json_type_object) || !json_object_is_type(b, json_type_object))
		return false;
	json_object_object_foreach(a, key, value)
	{
		if (is_name(key) && !json_object_equal(value, json_object_object_get(b, key)))
			return false;
	}
	return true;
}

static void add_list(struct json_object *to, struct json_object *from)
{
	for (size_t i = 0; i < json_object_array_length(from); i++) {
		struct json_object *one = json_object_array_get_idx(from, i), *same = NULL;

		if (is_number(one)) { /* of a CPU each */
			struct json_object *before = json_object_array_get_idx(to, i);

			json_object_array_put_idx(
				to, i, before ? sum(NULL, before, one) : json_object_get(one));
			continue;
		}
		for (size_t k = 0; !same && k < json_object_array_length(to); k++)
			if (is_same_entry(json_object_array_get_idx(to, k), one))
				same = json_object_array_get_idx(to, k);
		if (!same)
			json_object_array_add(to, same = json_object_new_object());
		total_add(same, one);
	}
}

static void add_member(
	struct json_object *total, const char *key, struct json_object *before, struct json_object *value)
{
	if (json_object_is_type(value, json_type_object)) {
		if (!before)
			json_object_object_add(total, key, before = json_object_new_object());
		total_add(before, value);
	} else if (json_object_is_type(value, json_type_array)) {
		if (!before)
			json_object_object_add(total, key, before = json_object_new_array());
		add_list(before, value);
	} else if (!before) {
		json_object_object_add(total, key, json_object_get(value));
	} else if (is_number(value) && !is_name(key)) {
		json_object_object_add(total, key, sum(key, before, value));
	}
}

void total_add(struct json_object *total, struct json_object *one)
{
	json_object_object_foreach(one, key, value)
	{
		if (strcmp(key, "psi") != 0 && strcmp(key, "intel_rdt") != 0)
			add_member(total, key, json_object_object_get(total, key), value);
	}
}
