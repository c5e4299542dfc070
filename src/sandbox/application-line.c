/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of the application's socket, as they come and as they go. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "sandbox/application.h"

static const struct {
	const char *text;
	enum application_request request;
} requests[] = {
	{"checkpoint", REQUEST_CHECKPOINT},
	{"checkpoint sandbox", REQUEST_CHECKPOINT_SANDBOX},
	{"status", REQUEST_STATUS},
	{"wait", REQUEST_WAIT},
};

enum application_request application_parse(const char *line, size_t len)
{
	if (len && line[len - 1] == '\r')
		len--;
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		if (len == strlen(requests[i].text) && !memcmp(line, requests[i].text, len))
			return requests[i].request;
	return REQUEST_NONE;
}

void application_clean(char *to, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text && n + 1 < size; text++)
		to[n++] = (unsigned char)*text < ' ' || *text == 0x7f ? ' ' : *text;
	/* a character that did not fit */
	while (*text && n && ((unsigned char)to[n - 1] & 0xc0) == 0x80)
		n--;
	if (*text && n && (unsigned char)to[n - 1] >= 0xc0)
		n--;
	to[n] = '\0';
}

static void tokener_free_p(struct json_tokener **t)
{
	if (*t)
		json_tokener_free(*t);
}

static void json_put_p(struct json_object **o)
{
	json_object_put(*o);
}

static const char *string_of(struct json_object *o, const char *name)
{
	struct json_object *v;

	return json_object_object_get_ex(o, name, &v) && json_object_is_type(v, json_type_string)
		       ? json_object_get_string(v)
		       : NULL;
}

static bool begins(const char *s, const char *with)
{
	return strncmp(s, with, strlen(with)) == 0;
}

int application_explain(const char *json, size_t len, char *to, size_t size)
{
	_cleanup_(tokener_free_p) struct json_tokener *t = json_tokener_new_ex(4);
	_cleanup_(json_put_p) struct json_object *o =
		t && len <= INT32_MAX ? json_tokener_parse_ex(t, json, (int)len) : NULL;
	const char *level, *message, *kind;
	struct json_object *code;
	char text[160];

	if (!json_object_is_type(o, json_type_object))
		return -EBADMSG;
	level = string_of(o, "level");
	message = string_of(o, "msg");
	kind = string_of(o, "kind");
	if (!level || strcmp(level, "error") != 0 || !message || !kind ||
		!json_object_object_get_ex(o, "errno", &code))
		return -EBADMSG;
	if (!strcmp(kind, "refused") || begins(message, "save hook ") || begins(message, "resume hook ")) {
		application_clean(to, size, message);
		return 0;
	}
	snprintf(text, sizeof(text), "%.20s: %s", kind, error_text(-json_object_get_int(code)).s);
	application_clean(to, size, text);
	return 0;
}
