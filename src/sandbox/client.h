/* SPDX-License-Identifier: Apache-2.0 */
/* A client of the control socket, as the commands use it: blocking, one call at a time. */
#pragma once

#include "sandbox/varlink.h"

struct client {
	int fd; /* sandbox_connect() */
	char *in;
	size_t in_len, in_size;
};

/* method: "io.stasis.Sandbox.State"; parameters (NULL: none) are borrowed, so are the descriptors that go with it. */
struct client_call {
	const char *method;
	struct json_object *parameters;
	const int *fds;
	int n_fds;
	bool more, oneway;
};
int client_send(struct client *c, const struct client_call *call, struct error *e) _must_check_;
/* The next reply; ret->error is not NULL if it is one. varlink_reply_done(). */
int client_receive(struct client *c, struct varlink_reply *ret, struct error *e) _must_check_;
/* Both, where one reply is expected: an error reply is an error. *ret (may be NULL): the parameters, json_object_put(). */
int client_call(struct client *c, const struct client_call *call, struct json_object **ret,
	struct error *e) _must_check_;
/* What an error reply says, as an error. */
int client_error(const struct varlink_reply *r, struct error *e);
void client_done(struct client *c);
