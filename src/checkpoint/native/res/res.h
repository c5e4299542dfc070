/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kinds of open files: one file of this folder a kind, with its dump and its restore side by side, and one row in
 * table.c. docs/support.md is checked against the table.
 */
#pragma once

#include <fcntl.h>

#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"

struct resource {
	const char *kind; /* as in docs/support.md and in obstacles: "eventfd" */
	const char *description;
	St__File__KindCase kind_case; /* what its record carries */

	/* Refused kinds: why, and what the user can do. NULL: supported. */
	const char *refused_reason, *refused_remedy;

	/* Is this descriptor of this kind? Asked in the order of the table; link and st are set, info is not yet. */
	bool (*match)(const struct dump *d, const struct dump_file *f);
	/* What cannot be kept in this particular object: adds obstacles. All files of the container are known by now. Nothing may be stopped or changed; the tasks may be
	 * running. NULL: nothing can be wrong. */
	int (*check)(struct dump *d, struct dump_file *f, struct error *e);
	/* Fills f->msg (id, flags, pos are set). The tasks are stopped; f->local is our duplicate of the descriptor. */
	int (*dump)(struct dump *d, struct dump_file *f, struct error *e);
	/* After all files are dumped: cross references between them (peers, epoll targets). NULL: none. */
	int (*link)(struct dump *d, struct dump_file *f, struct error *e);

	/* Of one that other containers of the sandbox have, too, and that this one owns: makes it and offers it to them
	 * (exchange.h). Before any file is opened. NULL: it is opened early, and itself offered. */
	int (*offer)(struct restore *r, const St__File *m, struct error *e);
	/* Makes the file in the container's init (plain C, container's root and namespaces, all capabilities); *ret_fd is any
	 * descriptor, the caller moves it. Flags that fcntl can set and the offset are set by the caller. */
	int (*open)(struct restore *r, const St__File *m, int *ret_fd, struct error *e);
	/* After all files are open: restore_fd(r, id) gives the others. NULL: nothing to do. */
	int (*connect)(struct restore *r, const St__File *m, int fd, struct error *e);
	/* In each process that holds it, when its descriptors have their final numbers. NULL: nothing to do. */
	int (*place)(struct restore *r, const St__File *m, const St__Process *p, int fd, struct error *e);
};

extern const struct resource *const resource_table[];
extern const size_t resource_table_len;
const struct resource *resource_find(St__File__KindCase kind_case);

/* Other things than files, for docs/support.md: kinds of mappings, process attributes, ... */
struct support_row {
	const char *group, *kind, *native; /* "supported" or "refused" */
	const char *note;
};
extern const struct support_row support_rows[];
extern const size_t support_rows_len;

/* BPF maps: does what the image says of one make sense; may the bundle's container have those of the image, here? */
bool bpf_map_is_valid(const struct restore *r, const St__File *f);
int bpf_check_maps(const struct restore *r, const struct spec *s, struct error *e) _must_check_;

/* Timers that were made before the container had its clocks. */
int timerfd_arm_later(struct restore *r, struct error *e) _must_check_;

/* shared by res/ */
bool link_is_anon_inode(const struct dump_file *f, const char *name); /* "anon_inode:[eventfd]" */
