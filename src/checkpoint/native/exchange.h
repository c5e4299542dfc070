/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that go from the init of one restored container to those of others of its sandbox: the owner of an object
 * makes it and offers it, the others want it. Who answers is the restore session of the sandbox, at the other end of
 * restore_options.exchange_fd (SOCK_SEQPACKET). Each offer and each want is one message; to a want there is one answer, when
 * it is there, and then nothing more. An offer stays, and any number of containers may want it.
 *
 * Nobody waits in a circle: what is offered in one phase of a restore relies only on what is wanted in phases before it.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"

struct restore;

enum { EXCHANGE_KEY = 64, EXCHANGE_OFFER = 1, EXCHANGE_WANT = 2 };

/* With an offer, and the answer to a want (op 0), comes one descriptor. */
struct exchange_message {
	uint32_t op;
	char key[EXCHANGE_KEY]; /* terminated */
};

/* The key is "key", and behind it "part". The descriptor stays the caller's. */
int restore_offer(
	const struct restore *r, const char *key, const char *part, int fd, struct error *e) _must_check_;
/* Waits for it. It is above those of files (restore_move_fd()), if there are such numbers yet. */
int restore_want(const struct restore *r, const char *key, const char *part, int *ret_fd,
	struct error *e) _must_check_;
