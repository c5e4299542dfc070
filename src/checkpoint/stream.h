/* SPDX-License-Identifier: Apache-2.0 */
/* Streams in the place of image directories, for checkpoint_run() and restore_run(). */
#pragma once

#include <sys/types.h>

#include "image/stream.h"

/* 1: the image goes to descriptor *ret, which stays our caller's; 0: into a directory. */
int stream_target(const char *path, int *ret, struct error *e) _must_check_;
/* 1: it comes from descriptor *ret, which is ours now (standard input is /dev/null from here on); 0: from a directory. */
int stream_source(const char *path, int *ret, struct error *e) _must_check_;

/* A process of ours that reads a stream while the container is made. */
struct stream_feed {
	struct image_feed *feed; /* NULL: the image is in a directory */
	pid_t pid;
};
/* outlives: it may be released, so that only nobody's wanting it any more ends it; else our death as well. */
int stream_feed_start(struct stream_feed *s, int fd, bool outlives, struct error *e) _must_check_;
/* Ends the process if it is still there; nothing waits for it afterwards. */
void stream_feed_stop(struct stream_feed *s);
/* It goes on for others. */
void stream_feed_release(struct stream_feed *s);
void stream_feed_done(struct stream_feed *s);
