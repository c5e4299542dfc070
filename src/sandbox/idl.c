/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/idl.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A word of the text. */
struct word {
	const char *s;
	size_t len;
};

/* A walk through types: with a value it is checked, without one the text is only read past. */
struct walk {
	const char *text, *at;
	bool checks; /* the names of types, while the text itself is checked */
	struct idl_fault *fault;
	size_t path_len;
};

static void skip_space(struct walk *w)
{
	for (;;) {
		w->at += strspn(w->at, " \t\r\n");
		if (*w->at != '#')
			return;
		w->at += strcspn(w->at, "\n");
	}
}

static struct word read_word(struct walk *w)
{
	struct word word = {.s = w->at};

	skip_space(w);
	word.s = w->at;
	while (isalnum((unsigned char)*w->at) || *w->at == '_' || *w->at == '.')
		w->at++;
	word.len = (size_t)(w->at - word.s);
	return word;
}

static bool word_is(struct word w, const char *s)
{
	return w.len == strlen(s) && !memcmp(w.s, s, w.len);
}

/* Reads past the character if it is the next one. */
static bool take_char(struct walk *w, char c)
{
	skip_space(w);
	if (*w->at != c)
		return false;
	w->at++;
	return true;
}

static int fail(struct walk *w, const char *format, ...) _printf_(2, 3);
static int fail(struct walk *w, const char *format, ...)
{
	struct idl_fault *f = w->fault;
	size_t n;
	va_list ap;

	if (!f)
		return -EINVAL;
	n = (size_t)snprintf(f->message, sizeof(f->message), "%s%s", f->path, *f->path ? ": " : "");
	va_start(ap, format);
	vsnprintf(f->message + n, sizeof(f->message) - n, format, ap);
	va_end(ap);
	return -EINVAL;
}

/* Goes down into a member or an element: appends to the path, which may become too long, and is cut. Returns what to go back to. */
static size_t enter(struct walk *w, const char *format, ...) _printf_(2, 3);
static size_t enter(struct walk *w, const char *format, ...)
{
	size_t before = w->path_len;
	va_list ap;
	int n;

	if (!w->fault)
		return 0;
	va_start(ap, format);
	n = vsnprintf(w->fault->path + before, sizeof(w->fault->path) - before, format, ap);
	va_end(ap);
	w->path_len = MIN(before + (size_t)MAX(n, 0), sizeof(w->fault->path) - 1);
	return before;
}

static void leave(struct walk *w, size_t before)
{
	if (!w->fault)
		return;
	w->path_len = before;
	w->fault->path[before] = '\0';
}

static int check_type(struct walk *w, struct json_object *v);

static size_t enter_member(struct walk *w, struct word name)
{
	return enter(w, "%s%.*s", w->path_len ? "." : "", (int)MIN(name.len, (size_t)100), name.s);
}

/* Whether the struct whose text begins behind the "(" has that member. */
static bool has_member(const struct walk *w, const char *begin, const char *name)
{
	struct walk s = {.text = w->text, .at = begin};

	for (;;) {
		struct word word = read_word(&s);

		if (word_is(word, name))
			return true;
		if (!take_char(&s, ':') || check_type(&s, NULL) < 0 || !take_char(&s, ','))
			return false;
	}
}

static int check_unknown(struct walk *w, const char *begin, struct json_object *v)
{
	json_object_object_foreach(v, key, value)
	{
		(void)value;
		if (!has_member(w, begin, key)) {
			(void)enter_member(w, (struct word){key, strlen(key)});
			return fail(w, "there is no such parameter");
		}
	}
	return 0;
}

static int check_member(struct walk *w, struct word name, struct json_object *v)
{
	struct json_object *value = NULL;
	char key[64];
	size_t before;
	bool optional;
	int r;

	skip_space(w);
	optional = *w->at == '?';
	if (!v)
		return check_type(w, NULL);
	snprintf(key, sizeof(key), "%.*s", (int)name.len, name.s);
	json_object_object_get_ex(v, key, &value); /* null is as if it were not there */
	before = enter_member(w, name);
	if (!value && !optional)
		return fail(w, "is missing");
	r = check_type(w, value);
	if (r == 0)
		leave(w, before);
	return r;
}

/* Behind the "(". */
static int check_struct(struct walk *w, struct json_object *v)
{
	const char *begin = w->at;
	int r;

	if (v && !json_object_is_type(v, json_type_object))
		return fail(w, "an object is needed");
	if (take_char(w, ')'))
		return v ? check_unknown(w, begin, v) : 0;
	do {
		struct word name = read_word(w);

		if (!name.len || name.len > 60 || !take_char(w, ':'))
			return -EINVAL;
		r = check_member(w, name, v);
		if (r < 0)
			return r;
	} while (take_char(w, ','));
	if (!take_char(w, ')'))
		return -EINVAL;
	return v ? check_unknown(w, begin, v) : 0;
}

/* Behind the "(". */
static int check_enum(struct walk *w, struct json_object *v)
{
	const char *value = v ? json_object_get_string(v) : NULL, *begin = w->at;
	bool found = false;

	if (v && !json_object_is_type(v, json_type_string))
		return fail(w, "a string is needed");
	do {
		struct word name = read_word(w);

		if (!name.len)
			return -EINVAL;
		found |= value && word_is(name, value);
	} while (take_char(w, ','));
	if (!take_char(w, ')'))
		return -EINVAL;
	return !v || found
		       ? 0
		       : fail(w, "not one of (%.*s: \"%.60s\"", (int)MIN(w->at - begin, 120), begin, value);
}

/* A struct's first word is followed by a colon, an enum's is not. */
static int check_parenthesis(struct walk *w, struct json_object *v)
{
	struct walk ahead = *w;
	struct word first;

	if (take_char(&ahead, ')'))
		return check_struct(w, v);
	first = read_word(&ahead);
	return first.len && take_char(&ahead, ':') ? check_struct(w, v) : check_enum(w, v);
}

static int check_array(struct walk *w, struct json_object *v)
{
	const char *begin = w->at;

	if (v && !json_object_is_type(v, json_type_array))
		return fail(w, "an array is needed");
	for (size_t i = 0; v && i < json_object_array_length(v); i++) {
		struct json_object *element = json_object_array_get_idx(v, i);
		size_t before = enter(w, "[%zu]", i);
		int r;

		w->at = begin;
		r = element ? check_type(w, element) : fail(w, "is null");
		if (r < 0)
			return r;
		leave(w, before);
	}
	w->at = begin;
	return check_type(w, NULL);
}

static int check_map(struct walk *w, struct json_object *v)
{
	const char *begin = w->at;

	if (v && !json_object_is_type(v, json_type_object))
		return fail(w, "an object is needed");
	if (v) {
		json_object_object_foreach(v, key, value)
		{
			size_t before = enter(w, "[%.60s]", key);
			int r;

			w->at = begin;
			r = value ? check_type(w, value) : fail(w, "is null");
			if (r < 0)
				return r;
			leave(w, before);
		}
	}
	w->at = begin;
	return check_type(w, NULL);
}

/* 1: no built-in type. */
static int check_builtin(struct walk *w, struct word type, struct json_object *v)
{
	static const struct {
		const char *name, *needed;
		enum json_type type;
	} builtin[] = {
		{"bool", "true or false is needed", json_type_boolean},
		{"int", "a whole number is needed", json_type_int},
		{"float", "a number is needed", json_type_double},
		{"string", "a string is needed", json_type_string},
		{"object", "an object is needed", json_type_object},
	};
	size_t i = 0;

	while (i < ARRAY_SIZE(builtin) && !word_is(type, builtin[i].name))
		i++;
	if (i == ARRAY_SIZE(builtin))
		return 1;
	if (!v)
		return 0;
	if (!json_object_is_type(v, builtin[i].type) &&
		!(builtin[i].type == json_type_double && json_object_is_type(v, json_type_int)))
		return fail(w, "%s", builtin[i].needed);
	if (builtin[i].type == json_type_string &&
		strlen(json_object_get_string(v)) != (size_t)json_object_get_string_len(v))
		return fail(w, "contains a NUL character");
	return 0;
}

/* Goes to behind "kind name"; false: the interface has none. */
static bool find(struct walk *w, const char *kind, struct word name)
{
	w->at = w->text;
	for (;;) {
		struct word declared, k = read_word(w);

		if (!k.len)
			return false;
		declared = read_word(w);
		if (word_is(k, kind) && declared.len == name.len && !memcmp(declared.s, name.s, name.len))
			return true;
		if (word_is(k, "interface"))
			continue;
		if (check_type(w, NULL) < 0)
			return false;
		if (word_is(k, "method") &&
			(!take_char(w, '-') || !take_char(w, '>') || check_type(w, NULL) < 0))
			return false;
	}
}

static int check_named(struct walk *w, struct word name, struct json_object *v)
{
	struct walk there = *w;
	int r;

	if (!v && !w->checks)
		return 0;
	there.checks = false;
	if (!find(&there, "type", name))
		return -EINVAL;
	r = check_type(&there, v);
	return r;
}

static int check_type(struct walk *w, struct json_object *v)
{
	struct word name;
	int r;

	(void)take_char(w, '?');
	if (take_char(w, '('))
		return check_parenthesis(w, v);
	if (take_char(w, '[')) {
		name = read_word(w);
		if ((name.len && !word_is(name, "string")) || !take_char(w, ']'))
			return -EINVAL;
		return name.len ? check_map(w, v) : check_array(w, v);
	}
	name = read_word(w);
	if (!name.len)
		return -EINVAL;
	r = check_builtin(w, name, v);
	return r == 1 ? check_named(w, name, v) : r;
}

int idl_check(const char *text, const char *method, struct json_object *parameters, struct idl_fault *fault)
{
	struct walk w = {.text = text, .fault = fault};
	struct json_object *empty = NULL;
	int r;

	*fault = (struct idl_fault){0};
	if (!find(&w, "method", (struct word){method, strlen(method)}))
		return -ENOENT;
	if (!parameters)
		parameters = empty = json_object_new_object();
	r = parameters ? check_type(&w, parameters) : -ENOMEM;
	json_object_put(empty);
	return r;
}

int idl_walk(const char *text, idl_fn f, void *arg, const char **ret_at)
{
	struct walk w = {.text = text, .at = text, .checks = true};
	int r = 0;

	while (r == 0) {
		char kind[16], name[64];
		struct word k = read_word(&w), n;

		*ret_at = k.s;
		if (!k.len)
			return *w.at ? -EINVAL : 0;
		n = read_word(&w);
		if (k.len >= sizeof(kind) || !n.len || n.len >= sizeof(name))
			return -EINVAL;
		snprintf(kind, sizeof(kind), "%.*s", (int)k.len, k.s);
		snprintf(name, sizeof(name), "%.*s", (int)n.len, n.s);
		f(kind, name, arg);
		if (word_is(k, "interface"))
			continue;
		if (!word_is(k, "type") && !word_is(k, "method") && !word_is(k, "error"))
			return -EINVAL;
		r = check_type(&w, NULL);
		*ret_at = w.at;
		if (r == 0 && word_is(k, "method"))
			r = take_char(&w, '-') && take_char(&w, '>') ? check_type(&w, NULL) : -EINVAL;
		*ret_at = r < 0 ? w.at : k.s;
	}
	return r;
}
