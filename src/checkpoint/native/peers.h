/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the other containers of the sandbox have open, so that the other end of a pipe or of a socket is not "outside". A
 * table in shared memory that is made before the surgeons are forked: each writes what its container has, and reads the
 * others' when all have written (GATE_PUBLISHED). Before the freeze, preflight writes for all of them.
 *
 * Whoever finds that an object is in several containers decides by rules that give the same result in each of them: the
 * owner is the first of the members that have it.
 */
#pragma once

#include "base/error.h"
#include "image.pb-c.h"

struct dump;
struct dump_file;
struct peers;

/* "members": together.n. In the guard, for all surgeons; a preflight has one for itself. */
int peers_new(unsigned members, struct peers **ret, struct error *e) _must_check_;
void peers_free(struct peers *p);
static inline void peers_free_p(struct peers **p)
{
	peers_free(*p);
}
/* For another try, when no surgeon is left. */
void peers_reset(struct peers *p);

/* One file of a container, and how to get at it. */
struct peer_file {
	uint64_t dev, ino;
	uint32_t flags; /* O_* */
	pid_t pid;	/* of the host, whose it is ... */
	int fd;		/* ... by this number; -1: it is mapped only */
	uint32_t mode;	/* st_mode */
	uint64_t pos;
	uint32_t member;
	uint32_t links; /* st_nlink, at most UINT32_MAX */
};

/* What this container has (all its descriptors are known): writes it, and waits for the others; in
 * preflight looks what these have. Does nothing for a container that is alone. */
int peers_publish(struct dump *d, struct error *e) _must_check_;
/* Another container's files of this inode, one after another; after NULL: the first. NULL: no more. */
const struct peer_file *peers_next(struct dump *d, uint64_t dev, uint64_t ino, const struct peer_file *after);
static inline bool peers_have(struct dump *d, uint64_t dev, uint64_t ino)
{
	return peers_next(d, dev, ino, NULL);
}
/* Another container's unix socket of this inode; NULL: none. */
const struct peer_file *peers_socket(struct dump *d, uint64_t ino);
/* Its name, for messages. */
const char *peers_name(const struct dump *d, unsigned member);
/* A descriptor of ours of what it is; or a negative errno. */
int peers_duplicate(const struct peer_file *f) _must_check_;
/* The record of an object that is in several containers: its key, who makes it again. NULL *ret: in this one alone. */
int peers_shared(struct dump *d, const struct dump_file *f, St__Shared **ret, struct error *e) _must_check_;
/* The very description is in several containers: into its record. */
int peers_describe(struct dump *d, struct dump_file *f, struct error *e) _must_check_;
/* Obstacles: what is in several containers, and cannot be made again so. */
void peers_check(struct dump *d);
