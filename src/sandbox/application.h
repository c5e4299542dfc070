/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket by which a container asks for a checkpoint of itself (docs/application.md). The supervisor listens; what it hears is
 * a container's word: one line a connection, of a few words that are known, from a few connections at a time, so many a second.
 * All else (where images go, how often) the operator has said.
 */
#pragma once

#include "sandbox/supervisor.h"

enum application_request {
	REQUEST_NONE, /* nothing that is known */
	REQUEST_CHECKPOINT,
	REQUEST_CHECKPOINT_SANDBOX,
	REQUEST_STATUS,
	REQUEST_WAIT,
};

enum { APPLICATION_LINE_MAX = 256, APPLICATION_ANSWER_MAX = 600 };

/* application-line.c. What "len" bytes, a line without its end, ask for. */
enum application_request application_parse(const char *line, size_t len);
/* Text of ours or of the container's as the rest of a line: at most size - 1 bytes, without control characters, whole characters. */
void application_clean(char *to, size_t size, const char *text);
/* What of an error the container may know, by the line that "checkpoint" wrote to its log (JSON): of what stands in the way, and
 * of its own hooks, all, of others only the kind. 0, or -EBADMSG: it is no such line. */
int application_explain(const char *json, size_t len, char *to, size_t size) _must_check_;

struct application_server;
/* Listens for the member, if its container has been given such a socket and nobody listens yet. Errors are logged. */
void application_serve(struct supervisor *s, struct member *m);
/* The member is gone. */
void application_free(struct application_server *a);
/* A child of ours has ended. True: it was one that made a checkpoint. */
bool application_reaped(struct supervisor *s, pid_t pid, int status);
