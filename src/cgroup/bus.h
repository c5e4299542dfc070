/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of D-Bus as it takes to call systemd: one connection, one call after the other, each waits for its answer.
 * By hand, because the program is static and works in a user namespace (docs/adr/0015). Format: the D-Bus specification,
 * "Message Protocol" and "Authentication Protocol". Little-endian only, which is what both ends here are.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* A message in the making, or one value of it. A write that does not fit marks it as failed, and bus_call() says so. */
struct bus_message {
	uint8_t *data;
	size_t n, room;
	bool failed;
};

void bus_align(struct bus_message *m, size_t to);
void bus_put_byte(struct bus_message *m, uint8_t value);
void bus_put_u32(struct bus_message *m, uint32_t value); /* also BOOLEAN and INT32 */
void bus_put_u64(struct bus_message *m, uint64_t value); /* also INT64 and DOUBLE, by their bits */
void bus_put_string(struct bus_message *m, const char *text);
void bus_put_signature(struct bus_message *m, const char *signature);
/* The elements of an array are what is written between begin (with their alignment) and end. */
struct bus_array {
	size_t length_at, start;
};
struct bus_array bus_array_begin(struct bus_message *m, size_t align);
void bus_array_end(struct bus_message *m, struct bus_array a);
void bus_message_done(struct bus_message *m);

/* What came back; texts are in the caller's buffer of the message. */
struct bus_reply {
	uint8_t type; /* 2: a result, 3: an error */
	uint32_t serial;
	const char *error;     /* its name; NULL: none */
	const char *signature; /* of the body; "" */
	const uint8_t *body;
	size_t body_len;
};
enum { BUS_MESSAGE_MAX = 256 * 1024, BUS_RESULT = 2, BUS_ERROR = 3 };

/* The size of the message that starts with these 16 bytes, or -EBADMSG. */
ssize_t bus_message_size(const uint8_t head[16]) _must_check_;
/* "data" is one whole message. 0 or -EBADMSG. */
int bus_parse(const uint8_t *data, size_t size, struct bus_reply *ret) _must_check_;
/* The string that the body starts with, also in a variant; NULL: it does not. */
const char *bus_reply_string(const struct bus_reply *r);

struct bus {
	int fd;
	uint32_t serial;
	uint8_t *reply; /* of the last call */
};

/* "path" of the bus's socket. */
int bus_connect(const char *path, struct bus *ret, struct error *e) _must_check_;
/* A method of systemd's: "body" has the values of "signature". *ret is good until the next call; NULL: nothing is
 * expected. An error of systemd's: -EEXIST, -ENOENT (no such unit) or -EREMOTEIO, with its text. */
int bus_call(struct bus *b, const char *interface, const char *method, const char *signature,
	const struct bus_message *body, struct bus_reply *ret, struct error *e) _must_check_;
void bus_done(struct bus *b);
