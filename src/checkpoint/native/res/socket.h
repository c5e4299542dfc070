/* SPDX-License-Identifier: Apache-2.0 */
/* What the kinds of sockets share: recognition, options, addresses, queues. */
#pragma once

#include <sys/socket.h>

#include "checkpoint/native/res/res.h"

enum socket_state { SOCKET_UNCONNECTED = 0, SOCKET_LISTENING = 1, SOCKET_CONNECTED = 2 };
enum { SOCKET_SHUT_RECEIVE = 1, SOCKET_SHUT_SEND = 2 }; /* bits of Socket.shutdown */

/* Its network namespace, for the record; is it one in which no process of the container is? Unix sockets are found by the list
 * of their namespace. */
int socket_dump_namespace(struct dump *d, struct dump_file *f, struct error *e) _must_check_;
bool socket_is_elsewhere(const struct dump *d, int fd);
/* Begins f->msg as a socket: family, type, protocol, addresses and options, of f->local. */
int socket_dump_common(struct dump *d, struct dump_file *f, St__Socket **ret, struct error *e) _must_check_;
/* Copies all that waits in the receive queue of "fd" to m->queue; it stays in the queue. m->shutdown must
 * be known. */
int socket_dump_queue(struct dump *d, int fd, St__Socket *m, struct error *e) _must_check_;
/* A pid as the container sees it; 0: not (or no longer) a process of the container. */
int socket_ns_pid(const struct dump *d, pid_t pid);

/* Runs fn in the pid namespace of the container, where the kernel tells pids as the container sees them, also those
 * of processes that are gone. Shares all memory with the caller. Returns what fn returned or a negative errno. */
int socket_run_inside(struct dump *d, int (*fn)(void *arg), void *arg) _must_check_;

enum socket_stage {
	SOCKET_EARLY, /* before bind */
	SOCKET_LATE,  /* when the socket is complete */
};
/* Sets the options of one stage. An option that is not one of ours is a damaged (or hostile) image. */
int socket_restore_options(
	int fd, const St__Socket *m, enum socket_stage stage, struct error *e) _must_check_;

/* The multicast groups that it is a member of, into m->multicast; nothing but m->family is asked of m. */
int multicast_dump(struct dump *d, int fd, St__Socket *m, struct error *e) _must_check_;
int multicast_restore(int fd, const St__Socket *m, struct error *e) _must_check_;
/* Has the socket something that the kernel charges to it and does not show? */
bool socket_has_unseen(struct dump *d, int fd);

/* Addresses of messages as bind(2) and connect(2) take them; false: none, or not one of that family. */
bool socket_address(
	const ProtobufCBinaryData *bytes, int family, struct sockaddr_storage *ret, socklen_t *ret_len);

/* TCP connections: dump (socket-tcp.c), restore (socket-tcp-restore.c), segments (socket-tcp-segment.c). */
enum tcp_state { /* include/net/tcp_states.h */
	STATE_ESTABLISHED = 1,
	STATE_SYN_SENT,
	STATE_SYN_RECV,
	STATE_FIN_WAIT1,
	STATE_FIN_WAIT2,
	STATE_TIME_WAIT,
	STATE_CLOSE,
	STATE_CLOSE_WAIT,
	STATE_LAST_ACK,
	STATE_LISTEN,
	STATE_CLOSING,
};
struct tcp_info;
/* What of this connection cannot be kept, or NULL; *remedy is then set. */
const char *tcp_obstacle(int fd, const struct tcp_info *info, const char **remedy);
/* Likewise: of what waits to be sent. */
const char *tcp_send_obstacle(const struct dump *d, int fd, const char **remedy);
int tcp_dump(struct dump *d, struct dump_file *f, St__Socket *m, struct error *e) _must_check_;
/* Out of repair mode, with packets passing again: as before tcp_dump(). */
void tcp_undo(const struct dump_tcp *t);

/* In three steps: bound, in repair mode; connected, with its queues; and, from outside, let go and at last sent what
 * had not been sent. */
int tcp_open(const St__Socket *m, int fd, struct error *e) _must_check_;
int tcp_connect(const St__Socket *m, int fd, struct error *e) _must_check_;
int tcp_release(const St__Socket *m, int fd, struct error *e) _must_check_;
int tcp_send_rest(const St__Socket *m, int fd, struct error *e) _must_check_;

/* Whether config.json allows the container to make such a socket: some show what others send (socket-raw.c). */
bool socket_is_allowed(const struct spec *s, int family, int type, bool hears_audit);
bool socket_hears_audit(const St__Socket *m);

/* A segment without data, as if the peer had sent it: "from" to one of our own addresses. IPv4 in IPv6 clothes: IPv4. */
struct tcp_segment {
	struct sockaddr_storage from, to;
	uint32_t seq, ack;
	uint16_t window;
	bool fin;
};
int tcp_send_segment(const struct tcp_segment *s) _must_check_;
/* What these are made with: the Internet's checksum, over what "sum" has already; a packet with its IP header. */
uint32_t inet_add_words(uint32_t sum, const void *data, size_t len);
uint16_t inet_checksum(uint32_t sum, const void *data, size_t len);
int inet_send_raw(int family, const void *packet, size_t len, const struct sockaddr_storage *to) _must_check_;

/* An error that waits in a UDP socket (socket-udp-error.c): can it be kept, as all there is to read; into its record; made
 * again, when it is connected. */
bool udp_error_is_kept(struct dump *d, int fd);
int udp_dump_error(struct dump *d, int fd, St__Socket *m, struct error *e) _must_check_;
int udp_restore_error(const St__Socket *m, int fd, struct error *e) _must_check_;

/* An IPv4 address in the clothes of IPv6 becomes a plain one. */
void inet_undress(struct sockaddr_storage *a);

/* Raw IP, ping, packet and netlink (socket-raw.c). */
bool raw_is_raw(const St__Socket *m);
/* CAP_NET_RAW, that is. */
bool raw_needs_privilege(const St__Socket *m);
int raw_open(const St__Socket *m, int *ret_fd, struct error *e) _must_check_;
int raw_connect(const St__Socket *m, int fd, struct error *e) _must_check_;

/* Unix sockets whose peer another container of the sandbox has (socket-unix-foreign.c). What of it cannot be kept, or NULL; into
 * its record; names by which the other containers' sockets are known. */
struct sockdiag_socket;
struct peer_file;
const char *unix_foreign_obstacle(struct dump *d, const struct dump_file *f, const struct sockdiag_socket *s,
	const struct peer_file *other);
/* A listener with clients of other containers in its backlog (m->waiting is filled); and such a client. */
int unix_link_waiting(
	struct dump *d, const struct sockdiag_socket *listener, St__Socket *m, struct error *e) _must_check_;
int unix_link_arrival(struct dump *d, struct dump_file *f, const struct sockdiag_socket *listener,
	const struct peer_file *other, struct error *e) _must_check_;
int unix_link_foreign(struct dump *d, struct dump_file *f, const struct sockdiag_socket *s,
	const struct peer_file *other, struct error *e) _must_check_;
int unix_link_names(
	struct dump *d, struct dump_file *f, const struct sockdiag_socket *s, struct error *e) _must_check_;
/* In the arena: "format" has one %s, the name of the container that has it. */
const char *unix_says(struct dump *d, const struct peer_file *other, const char *format);
enum {
	UNIX_OPT_PASSPIDFD = 76,
	UNIX_OPT_PASSRIGHTS = 83,
	UNIX_RECEIVES_KNOWN = 16 /* UnixArrival.receives */
};
/* Who waits to be accepted (socket-unix-backlog.c): what of a listener's backlog cannot be kept is refused; into its record, when m->waiting
 * is filled. */
void unix_check_backlog(struct dump *d, const struct dump_file *f, const struct sockdiag_socket *s);
int unix_link_backlog(
	struct dump *d, struct dump_file *f, const struct sockdiag_socket *s, struct error *e) _must_check_;
/* Who made it (socket-unix-makers.c). An obstacle: a process of another container, who has its pid for good. "other": whose the other
 * end is, or the listener; NULL: the container's own, or nobody's. */
void unix_check_maker(struct dump *d, const struct dump_file *f, const struct peer_file *other);
St__SocketCredentials *unix_new_credentials(
	struct dump *d, int pid, uint32_t uid, uint32_t gid, const uint32_t *groups, size_t n_groups);
/* What SO_PEERCRED of fd says; *ret NULL: nothing (datagram sockets that were connected by name). */
int unix_peer_credentials(struct dump *d, int fd, St__SocketCredentials **ret, struct error *e) _must_check_;

/* The connection of a request that the container has made to us (socket-unix-request.c). peer: what it is connected to, NULL:
 * nobody has accepted it. */
bool unix_is_request(struct dump *d, const struct sockdiag_socket *s, const struct sockdiag_socket *peer);
int unix_link_request(
	struct dump *d, struct dump_file *f, const struct sockdiag_socket *s, struct error *e) _must_check_;

/* All sockets are one kind of record: these serve unix and inet. */
int socket_open(struct restore *r, const St__File *m, int *ret_fd, struct error *e) _must_check_;
int socket_connect(struct restore *r, const St__File *m, int fd, struct error *e) _must_check_;
/* One message, whole, into the queue that fd, or "to", leads to (socket-unix-message.c). */
int unix_send_message(const struct restore *r, int fd, const struct sockaddr *to, socklen_t to_len,
	const St__SocketMessage *m, struct error *e) _must_check_;
/* A child with our descriptors, and this pid, if it is not 0. */
pid_t unix_clone_sharing_files(pid_t pid);
int unix_restore_all(struct restore *r, struct error *e) _must_check_;
int inet_open(struct restore *r, const St__File *m, int *ret_fd, struct error *e) _must_check_;
int inet_connect(struct restore *r, const St__File *m, int fd, struct error *e) _must_check_;
