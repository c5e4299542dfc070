/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All unix sockets of a network namespace, by NETLINK_SOCK_DIAG: what neither getsockopt nor /proc tells
 * about a socket, above all which socket is its peer. Source: sock_diag(7), linux/unix_diag.h.
 */
#pragma once

#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/error.h"

struct sockdiag_socket {
	uint32_t ino;	  /* inode in sockfs: st_ino of the descriptor */
	uint8_t type;	  /* SOCK_STREAM, ... */
	uint8_t state;	  /* TCP_ESTABLISHED (1), TCP_CLOSE (7), TCP_LISTEN (10) */
	uint8_t shutdown; /* bit 0: receiving, bit 1: sending is shut down */
	bool has_peer;	  /* connected, ... */
	uint32_t peer;	  /* ... to this inode; 0: to one that is closed or not accepted yet */
	bool has_file;	  /* bound to a path; its file: kernel-packed dev, lower half of the inode */
	uint32_t file_dev, file_ino;
	const char *name; /* sun_path: may begin with NUL (abstract), not terminated */
	size_t name_len;
	const uint32_t *pending; /* a listener's backlog in order: inodes of the clients, 0: closed since */
	size_t n_pending;
	/* Bytes to read; bytes that the peer has not read yet. Of a listener: waiting connections;
	 * backlog. */
	uint32_t rqueue, wqueue;
	uint64_t ns; /* for the caller: which of several namespaces it is in */
};

struct sockdiag {
	bool stopped;			 /* for the caller: taken while nothing could change */
	struct sockdiag_socket *sockets; /* ascending by inode */
	size_t n;
};

/* netns_fd: the namespace; the caller is back in its own afterwards. *ret lives in the arena. */
int sockdiag_unix(int netns_fd, struct arena *a, struct sockdiag **ret) _must_check_;
/* The sockets of "more", marked with ns, among those of "to". Inodes are those of the machine. */
int sockdiag_merge(
	struct sockdiag *to, const struct sockdiag *more, uint64_t ns, struct arena *a) _must_check_;
/* NULL: not a unix socket of that namespace. */
const struct sockdiag_socket *sockdiag_find(const struct sockdiag *d, uint64_t ino);
/* The listener in whose backlog this socket waits to be accepted; NULL: none. */
const struct sockdiag_socket *sockdiag_listener_of(const struct sockdiag *d, uint64_t ino);

/* The peer of a TCP socket, also of one that is not connected yet; -ENOENT: it has none. */
int sockdiag_tcp_peer(int netns_fd, int family, uint32_t ino, struct sockaddr_storage *ret) _must_check_;

/* A TCP connection without a descriptor: its program has closed it, and not all that it had sent is acknowledged; or (opening) the
 * handshake is not over, or waits for data (TCP_DEFER_ACCEPT). IPv4 as mapped addresses; ports as in the packets. */
struct sockdiag_unowned {
	struct in6_addr local, remote;
	uint16_t local_port, remote_port;
	bool opening;
};
/* Either family's as one of IPv6. */
void sockdiag_address(int family, const void *address, struct in6_addr *ret);
/* All of them, over both families; in the arena. */
int sockdiag_tcp_unowned(
	int netns_fd, struct arena *a, struct sockdiag_unowned **ret, size_t *ret_n) _must_check_;

/* Any dump: "req" is the request behind the header; each() gets one message a socket. -EAGAIN: the sockets changed
 * meanwhile. */
typedef int (*sockdiag_each)(const struct nlmsghdr *h, void *arg);
int sockdiag_dump(int netns_fd, const void *req, size_t len, sockdiag_each each, void *arg) _must_check_;
/* The attributes behind "body" bytes of a message; lengths are checked. */
int sockdiag_attributes(const struct nlmsghdr *h, size_t body, int (*each)(const struct nlattr *, void *),
	void *arg) _must_check_;

/* A socket made in another network namespace; a descriptor or a negative errno. */
int netns_socket(int netns_fd, int domain, int type, int protocol) _must_check_;
