/* SPDX-License-Identifier: Apache-2.0 */
/* Where a tree of mounts is made anew (mounts-restore.c): what the kinds of mount namespaces have in common. */
#pragma once

#include "base/error.h"
#include "checkpoint/native/mounts.h"
#include "checkpoint/native/restore.h"

struct site {
	struct restore *r;
	struct proc_mount *now; /* as create has made them */
	size_t n_now;
	int old_root, stage;
	unsigned n_places;	  /* on the stage */
	ssize_t root;		  /* index of the root */
	const St__Mount **mounts; /* of one namespace; their ids begin behind "first" */
	size_t n, first;
	struct made {
		int fd;		/* on the stage; -EBADF: not made yet */
		int target;	/* its mount point */
		int donor;	/* of a mount of create: a copy with its propagation; -EBADF: it is private */
		unsigned place; /* on the stage */
		bool attached, grouped;
	} * made; /* by Mount.id - 1 - first */
};

/* All records of that namespace, nothing made yet. */
int site_begin(struct site *s, struct restore *r, uint64_t ns, struct error *e) _must_check_;
void site_end(struct site *s);
size_t site_first_of(const struct restore *r, uint64_t ns);
int site_failed(struct error *e, int code, const char *what, const St__Mount *m);
/* The mounts that there are, and the root. */
int site_survey(struct site *s, struct error *e) _must_check_;
/* *ret: a copy of the mount; *ret_donor: another one, if there is propagation to inherit. */
int site_copy_base(
	struct site *s, const St__Mount *m, int *ret, int *ret_donor, struct error *e) _must_check_;
/* From here on nothing propagates. */
int site_open_stage(struct site *s, struct error *e) _must_check_;
int site_put_on_stage(struct site *s, const St__Mount *m, int fd, struct error *e) _must_check_;
/* A place in a mount; path "": its root, which may be a file. */
int site_open_place(int mount, const char *path) _must_check_;
int site_make_part(struct site *s, const St__Mount *m, int *ret, struct error *e) _must_check_;
int site_make_new(struct site *s, const St__Mount *m, int *ret, struct error *e) _must_check_;
bool site_is_read_only(const St__Mount *m);
/* The mount points of all that will be mounted on it, while nothing covers them. */
int site_open_mount_points(struct site *s, const St__Mount *m, struct error *e) _must_check_;
/* Moves what is made to its place, as far as its parent is made, too. */
int site_attach_made(struct site *s, struct error *e) _must_check_;
int site_set_attributes(struct site *s, struct error *e) _must_check_;
