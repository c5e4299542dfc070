/* SPDX-License-Identifier: Apache-2.0 */
/* What inotify watches and fanotify marks have in common. */
#pragma once

#include "checkpoint/native/res/res.h"

/* What is watched: by path, or if it has none any more, what the container has open. */
struct mark_target {
	const char *path; /* in the arena; "" */
	uint64_t file;	  /* File.id; 0: by path */
	uint32_t mode;
};

/* false: not found. May take long. */
bool mark_find(struct dump *d, const struct proc_mark *m, struct mark_target *ret);
/* An obstacle if events wait in the queue. */
int mark_check_queue(struct dump *d, struct dump_file *f, struct error *e) _must_check_;

/* A path for the kernel, good until mark_leave(): the working directory is another one until then. */
const char *mark_enter(
	struct restore *r, uint64_t file, const char *path, uint32_t mode, char buf[64], struct error *e);
int mark_leave(struct restore *r, struct error *e) _must_check_;
