/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Varlink (https://varlink.org): messages are JSON objects, each ended by a byte of zero. A call has "method", "parameters",
 * "oneway" and "more"; a reply "parameters", "continues" or "error". This file knows only their form: it takes all that it reads
 * for hostile, and does no input or output.
 */
#pragma once

#include <json-c/json.h>

#include "base/error.h"

enum {
	VARLINK_MESSAGE_MAX = 1 << 20, /* bytes of one message, without the zero */
	VARLINK_DEPTH_MAX = 32,	       /* of objects and arrays in each other */
};

static inline void json_put_p(struct json_object **o)
{
	json_object_put(*o);
}
#define _cleanup_json_ _cleanup_(json_put_p)

struct varlink_call {
	char *interface, *method; /* "io.stasis.Sandbox", "State" */
	struct json_object *parameters;
	bool more, oneway;
};

/* A message without its zero. ERROR_USAGE: it is none. */
int varlink_parse_call(const char *text, size_t len, struct varlink_call *ret, struct error *e) _must_check_;
void varlink_call_done(struct varlink_call *c);

struct varlink_reply {
	struct json_object *parameters;
	char *error; /* NULL: none */
	bool continues;
};
int varlink_parse_reply(
	const char *text, size_t len, struct varlink_reply *ret, struct error *e) _must_check_;
void varlink_reply_done(struct varlink_reply *r);

/* Messages with their zero, malloc'ed; NULL: no memory. Parameters (NULL: none) are borrowed; error may be NULL. */
char *varlink_make_reply(struct json_object *parameters, const char *error, bool continues, size_t *ret_len);
char *varlink_make_call(
	const char *method, struct json_object *parameters, bool more, bool oneway, size_t *ret_len);

/* "s" as a JSON string, borrowed by nobody; members whose value is NULL are left out. */
void json_add_string(struct json_object *o, const char *key, const char *s);
