/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits to be accepted at a unix socket, and what has been sent already: only accept(2) would tell, which takes it out. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/util.h"

struct unix_sender {
	bool known; /* else nobody asked for credentials */
	pid_t pid;  /* in the namespace that was asked for; 0: it is not in there */
	uint32_t uid, gid;
};
struct unix_sent {
	struct unix_sender from;
	bool has_files; /* descriptors are passed with it */
	void *data;
	size_t len;
};
struct unix_arrival {
	bool gone;   /* the client has closed its end */
	bool urgent; /* MSG_OOB has been sent */
	int receives; /* SO_PASSCRED 1, SO_PASSSEC 2, SO_PASSPIDFD 4, SO_PASSRIGHTS 8; -1: to be had from the listener by accept */
	struct unix_sender client; /* what SO_PEERCRED will say */
	uint32_t *groups;
	size_t n_groups;
	void *name; /* the client's address from sun_path on, if it has one */
	size_t name_len;
	struct unix_sent *sent;
	size_t n_sent;
};

/* Of the listener that is our descriptor "fd", in the order of accept; "pidns": the inode of a pid namespace. Ids are those of the machine.
 * -EOPNOTSUPP, -EPERM: this kernel does not let us look; -EAGAIN: it changes; -E2BIG. */
int unix_read_backlog(
	int fd, uint32_t pidns, struct arena *a, struct unix_arrival **ret, size_t *ret_n) _must_check_;
/* Can we? */
bool unix_backlog_is_readable(void);
