/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets, the restore side: what socket-unix-restore.c and socket-unix-join.c (peers in other containers) share. */
#pragma once

#include <sys/un.h>

#include "checkpoint/native/res/socket.h"

enum {
	LEAF_SIZE = sizeof(((struct sockaddr_un *)NULL)->sun_path),
	KEPT_FLAGS = O_APPEND | O_NONBLOCK | O_NOATIME,
};

struct sock {
	const St__File *file;
	const St__Socket *m;
	int fd;
	struct sock *peer; /* connected to each other */
	int other;	   /* stands for a closed peer, or for a listener that is gone; else -EBADF */
	int dir;	   /* directory of the socket file; -EBADF: none */
	char leaf[LEAF_SIZE];
	bool temporary; /* the file must go at the end */
	int foreign;	/* the end that another container has; -EBADF: none, or not yet */
	bool replaced;	/* is no longer the descriptor whose flags were set */
};

struct unix_restore {
	struct restore *r;
	struct sock *socks;
	size_t n;
	int cwd; /* ours, to come back to */
	unsigned n_temporary;
	uint32_t random; /* for temporary names, where other containers may have some, too */
};

enum call { CALL_PAIR, CALL_LISTEN, CALL_CONNECT };

struct deed {
	enum call call;
	int a, b; /* CALL_PAIR: the numbers of the ends; else the socket */
	int type, backlog;
	int dir; /* of the name to connect to; -EBADF: abstract */
	struct sockaddr_storage address;
	socklen_t len;
};

/* Binds fd as the address of s->m says, and remembers where the file is. */
int unix_bind_name(struct unix_restore *u, struct sock *s, int fd, struct error *e) _must_check_;
/* socket-unix-arrive.c: clients in the backlog, in their order. */
int unix_connect_waiting(struct unix_restore *u, struct sock *s, struct error *e) _must_check_;
/* What the accepted socket of a client will receive; the client that is gone; what it has sent, by its socket. */
int unix_prepare_arrival(struct sock *listener, size_t i, struct error *e) _must_check_;
/* As a new socket, before its own options are set. */
int unix_forget_arrivals(struct sock *listener, struct error *e) _must_check_;
bool unix_is_gone(const struct sock *listener, size_t i);
int unix_send_for_gone(struct unix_restore *u, struct sock *listener, size_t i, struct error *e) _must_check_;
int unix_send_arrival(
	struct unix_restore *u, const struct sock *listener, size_t i, int fd, struct error *e) _must_check_;
struct sock *unix_find_sock(struct unix_restore *u, uint64_t id);
/* The path of a bound address, terminated; false: abstract or none. */
bool unix_path_of(const ProtobufCBinaryData *local, char path[sizeof(struct sockaddr_un)]);
int unix_go(int dir, struct error *e) _must_check_;
/* A number that a child can put a descriptor on. */
int unix_reserve_number(struct unix_restore *u, int *ret, struct error *e) _must_check_;
/* Does it as that process and user; who may not (any more) is helped by us. */
int unix_perform(struct unix_restore *u, const St__SocketCredentials *c, const struct deed *k,
	const char *what, struct error *e) _must_check_;
/* A listener like the one that is gone, for one connection: named as m->local says. "seen": what its client saw. */
int unix_temporary_listener(struct unix_restore *u, struct sock *l, const St__SocketCredentials *seen,
	struct error *e) _must_check_;
void unix_drop(struct sock *l);

/* socket-unix-join.c: steps for one socket each, all of a step before the next one. */
int unix_offer_pair(struct unix_restore *u, struct sock *s, struct error *e) _must_check_;
int unix_take_pair(struct unix_restore *u, struct sock *s, struct error *e) _must_check_;
int unix_offer_name(struct unix_restore *u, struct sock *s, struct error *e) _must_check_;
int unix_fetch_pair(struct unix_restore *u, struct sock *s, struct error *e) _must_check_;
int unix_connect_target(struct unix_restore *u, struct sock *s, struct error *e) _must_check_;
int unix_tell_filled(struct unix_restore *u, struct sock *s, struct error *e) _must_check_;
int unix_await_filled(struct unix_restore *u, struct sock *s, struct error *e) _must_check_;
/* All connections that were accepted, of all containers in the same order. */
int unix_join(struct unix_restore *u, struct error *e) _must_check_;
/* Clients in backlogs, where the listener and one of its clients are of two containers: likewise. */
int unix_join_waiting(struct unix_restore *u, struct error *e) _must_check_;
/* By the name that the target has now. */
int unix_connect_to(struct unix_restore *u, int fd, const struct sock *target, const St__SocketCredentials *c,
	struct error *e) _must_check_;
/* The socket of another container from which a datagram came: a descriptor of ours. */
int unix_sender(
	struct unix_restore *u, const St__SocketMessage *message, int *ret_fd, struct error *e) _must_check_;
static inline bool unix_is_foreign(const struct sock *s)
{
	return s->m->shared_peer;
}
