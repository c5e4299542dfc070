/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traffic control: queueing disciplines, their classes and filters. Each is recorded as the request that makes it, which is the
 * kernel's own description without what counts or describes (traffic.c has what of which kind is kept, and all else is refused).
 * A restore sends the requests, reads everything once more, and fails if that is not the same.
 *
 * Disciplines that the kernel chose by itself have no handle; they are not recorded.
 */
#pragma once

#include "base/arena.h"
#include "base/error.h"
#include "checkpoint/native/network.h"

/* Why something of an interface is not recorded; "what" is its kind. */
typedef void (*traffic_refuse_fn)(
	int index, const char *what, const char *kind, const char *why, const char *remedy, void *arg);

/* All of the namespace of this rtnetlink socket, into n->traffic, in an order in which it can be made; n->links are those that
 * are asked about. Negative errno. */
int traffic_read(
	int socket, struct arena *a, St__Network *n, traffic_refuse_fn refuse, void *arg) _must_check_;
/* Is it one of the requests that traffic_read() makes? */
bool traffic_is_request(const ProtobufCBinaryData *m);

/* restore-traffic.c: what of n->traffic is not left to others. */
struct traffic_restore {
	int socket;
	struct arena *arena;
	const St__Network *want;
	bool may_make;				 /* config.json lets the container make such things */
	bool (*is_theirs)(int index, void *arg); /* an interface that others have made for the container */
	int (*current)(int index, void *arg);	 /* its number now */
	void *arg;
};
int restore_traffic(const struct traffic_restore *t, struct error *e) _must_check_;
/* In place: each number of an interface, as current() has it. */
void traffic_renumber(ProtobufCBinaryData *m, int (*current)(int index, void *arg), void *arg);
