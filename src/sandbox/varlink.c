/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/varlink.h"

#include <string.h>

void json_add_string(struct json_object *o, const char *key, const char *s)
{
	if (s)
		json_object_object_add(o, key, json_object_new_string(s));
}

static void tokener_free_p(struct json_tokener **t)
{
	if (*t)
		json_tokener_free(*t);
}

static int bad(struct error *e, const char *what)
{
	return error_set(e, -EBADMSG, ERROR_USAGE, "not a message of Varlink: %s", what);
}

static int parse_object(const char *text, size_t len, struct json_object **ret, struct error *e)
{
	_cleanup_(tokener_free_p) struct json_tokener *t = json_tokener_new_ex(VARLINK_DEPTH_MAX);
	_cleanup_json_ struct json_object *o = NULL;

	if (!t)
		return error_errno(e, -ENOMEM, "message");
	if (len > VARLINK_MESSAGE_MAX)
		return bad(e, "too long");
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(t, text, (int)len);
	/* numbers end only where something else begins */
	if (!o && json_tokener_get_error(t) == json_tokener_continue)
		return bad(e, "the JSON is not complete");
	if (json_tokener_get_error(t) != json_tokener_success)
		return bad(e, json_tokener_error_desc(json_tokener_get_error(t)));
	if (!json_object_is_type(o, json_type_object))
		return bad(e, "no JSON object");
	for (size_t i = json_tokener_get_parse_end(t); i < len; i++)
		if (!strchr(" \t\r\n", text[i]) || !text[i])
			return bad(e, "something follows the object");
	*ret = take_ptr(o);
	return 0;
}

static int take_flag(struct json_object *o, const char *key, bool *ret, struct error *e)
{
	struct json_object *v;

	*ret = false;
	if (!json_object_object_get_ex(o, key, &v) || !v)
		return 0;
	if (!json_object_is_type(v, json_type_boolean))
		return error_set(e, -EBADMSG, ERROR_USAGE,
			"not a message of Varlink: \"%s\" is neither true nor false", key);
	*ret = json_object_get_boolean(v);
	return 0;
}

static int take_parameters(struct json_object *o, struct json_object **ret, struct error *e)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(o, "parameters", &v);
	if (v && !json_object_is_type(v, json_type_object))
		return bad(e, "\"parameters\" is no object");
	*ret = v ? json_object_get(v) : json_object_new_object();
	return *ret ? 0 : error_errno(e, -ENOMEM, "message");
}

/* NULL: there is none, or it has a zero byte in it. */
static const char *string_member(struct json_object *o, const char *key)
{
	struct json_object *v;
	const char *s;

	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
		return NULL;
	s = json_object_get_string(v);
	return strlen(s) == (size_t)json_object_get_string_len(v) ? s : NULL;
}

int varlink_parse_call(const char *text, size_t len, struct varlink_call *ret, struct error *e)
{
	_cleanup_json_ struct json_object *o = NULL;
	const char *name, *dot;
	bool upgrade;

	*ret = (struct varlink_call){};
	if (parse_object(text, len, &o, e) < 0)
		return e->code;
	name = string_member(o, "method");
	if (!name)
		return bad(e, "\"method\" is missing, or no string");
	dot = strrchr(name, '.');
	if (!dot || dot == name || !dot[1])
		return bad(e, "\"method\" is not INTERFACE.METHOD");
	if (take_flag(o, "more", &ret->more, e) < 0 || take_flag(o, "oneway", &ret->oneway, e) < 0 ||
		take_flag(o, "upgrade", &upgrade, e) < 0)
		return e->code;
	if (upgrade)
		return bad(e, "\"upgrade\" is not supported");
	if (take_parameters(o, &ret->parameters, e) < 0)
		return e->code;
	ret->interface = strndup(name, dot - name);
	ret->method = strdup(dot + 1);
	if (ret->interface && ret->method)
		return 0;
	varlink_call_done(ret);
	return error_errno(e, -ENOMEM, "message");
}

void varlink_call_done(struct varlink_call *c)
{
	free(c->interface);
	free(c->method);
	json_object_put(c->parameters);
	*c = (struct varlink_call){};
}

int varlink_parse_reply(const char *text, size_t len, struct varlink_reply *ret, struct error *e)
{
	_cleanup_json_ struct json_object *o = NULL;
	const char *name;

	*ret = (struct varlink_reply){};
	if (parse_object(text, len, &o, e) < 0 || take_flag(o, "continues", &ret->continues, e) < 0)
		return e->code;
	name = string_member(o, "error");
	if (!name && json_object_object_get_ex(o, "error", NULL))
		return bad(e, "\"error\" is no string");
	if (take_parameters(o, &ret->parameters, e) < 0)
		return e->code;
	ret->error = name ? strdup(name) : NULL;
	if (!name || ret->error)
		return 0;
	varlink_reply_done(ret);
	return error_errno(e, -ENOMEM, "message");
}

void varlink_reply_done(struct varlink_reply *r)
{
	json_object_put(r->parameters);
	free(r->error);
	*r = (struct varlink_reply){};
}

static char *to_message(struct json_object *o, size_t *ret_len)
{
	const char *text =
		json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	char *copy = text ? strdup(text) : NULL;

	*ret_len = copy ? strlen(copy) + 1 : 0;
	return copy;
}

char *varlink_make_reply(struct json_object *parameters, const char *error, bool continues, size_t *ret_len)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();

	if (!o)
		return NULL;
	json_add_string(o, "error", error);
	json_object_object_add(
		o, "parameters", parameters ? json_object_get(parameters) : json_object_new_object());
	if (continues)
		json_object_object_add(o, "continues", json_object_new_boolean(true));
	return to_message(o, ret_len);
}

char *varlink_make_call(
	const char *method, struct json_object *parameters, bool more, bool oneway, size_t *ret_len)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();

	if (!o)
		return NULL;
	json_add_string(o, "method", method);
	json_object_object_add(
		o, "parameters", parameters ? json_object_get(parameters) : json_object_new_object());
	if (more)
		json_object_object_add(o, "more", json_object_new_boolean(true));
	if (oneway)
		json_object_object_add(o, "oneway", json_object_new_boolean(true));
	return to_message(o, ret_len);
}
