/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket: connections of clients, messages in and out. Private to the supervisor.
 *
 * A connection has one call at a time; messages that follow wait in the socket. What a client can make us keep is bounded: its
 * message, its descriptors, its replies. A client that stops in the middle of a message, or takes no replies, is dropped.
 */
#pragma once

#include "sandbox/call.h"
#include "sandbox/loop.h"

enum {
	SERVER_CLIENTS_MAX = 128,
	SERVER_READ = 16 << 10, /* bytes of one client at a time */
	SERVER_OUT_HIGH =
		256 << 10, /* with so much unsent no more of its messages are read, and its worker waits */
	SERVER_OUT_MAX = 8 << 20, /* ... and with so much it is dropped */
	SERVER_HALF_MS = 10000,	  /* between the first and the last byte of a message */
	SERVER_STALL_MS = 30000,  /* without taking anything of what is there for it */
};

struct connection {
	struct connection *next;
	struct server *server;
	struct supervisor *supervisor;
	struct loop_fd io;
	int fd;
	uint32_t events;
	char *in; /* what has come, from its first byte on that has not been parsed */
	size_t in_len, in_size, in_looked;
	int fds[CALL_FDS_MAX]; /* that have come with the message that is not complete yet */
	int n_fds;
	char *out;
	size_t out_len, out_sent;
	struct loop_timer half, stall, next_message;
	struct call *call;
	uint64_t used; /* counts up: who was idle longest */
	unsigned busy; /* not to be freed yet */
	bool dead;     /* to be freed */
	bool ended;    /* the client sends no more */
	bool closing;  /* as soon as all is sent */
};

/* Listens at dir_fd/control.sock: made under another name, so that it is there only when somebody listens. */
int server_new(struct supervisor *s, struct server **ret, struct error *e) _must_check_;
int server_listen(struct server *v, struct error *e) _must_check_;
/* The socket's name is gone, whoever connected before is served. True: there are such, or clients. */
bool server_unlisten(struct server *v);
size_t server_n_clients(const struct server *v);
void server_free(struct server *v);

/* Bytes of a whole message to the client. */
void connection_send(struct connection *k, const char *data, size_t len);
/* Whether it takes more (see SERVER_OUT_HIGH). */
bool connection_is_full(const struct connection *k);
/* Its call is over: the next message. */
void connection_next(struct connection *k);

/* worker.c */
int worker_start(struct call *c, struct error *e) _must_check_;
/* Its client is gone. */
void worker_orphan(struct worker *w);
/* Its client takes output again. */
void worker_resume(struct worker *w);
/* All that workers have said so far. */
void workers_look(struct supervisor *s);
/* True: that child was a worker, and all is done. */
bool worker_reaped(struct supervisor *s, pid_t pid, int status);

/* call.c */
void call_begin(struct connection *k, struct varlink_call *m);
void call_client_gone(struct call *c);
/* By the worker: bytes through the supervisor. */
int worker_send_reply(struct call *c, const char *data, size_t len, bool final) _must_check_;
void call_free(struct call *c);
