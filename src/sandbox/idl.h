/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interface descriptions of Varlink, as proto/ has them: what a method's parameters may be is said there, and nowhere else.
 * The text is ours and correct (a unit test reads all of them); the parameters are from outside. Nothing is kept: a check
 * walks through the text of the one method.
 */
#pragma once

#include <json-c/json.h>

#include "base/util.h"

struct idl_fault {
	char path[128];	   /* "links[1].name" */
	char message[300]; /* "links[1].name: a string is needed" */
};

/* Whether the parameters (an object, or NULL: none) are what the method declares: all that must be there, of the right types, and
 * nothing else. 0; -EINVAL and *fault; -ENOENT: the interface has no such method. */
int idl_check(const char *text, const char *method, struct json_object *parameters,
	struct idl_fault *fault) _must_check_;

/* Calls f for each declaration in its order: "interface", "type", "method" or "error", and its name. -EINVAL: the text is wrong
 * at *ret_at (names that nothing declares are so as well). */
typedef void (*idl_fn)(const char *kind, const char *name, void *arg);
int idl_walk(const char *text, idl_fn f, void *arg, const char **ret_at) _must_check_;
