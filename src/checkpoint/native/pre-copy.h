/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is copied while the container runs (docs/adr/0045-pre-copy.md). A round stops it for a moment, to have all writing
 * watched from there on, and copies what has been written since the round before, while it runs on. --pre-dump is one round and an
 * image of its own; --pre-copy makes rounds until the last freeze will be short.
 */
#pragma once

#include "checkpoint/native/track.h"

/* What a try that came to nothing leaves to the next one: the stream that goes on, and, with --pre-copy, since when memory is
 * watched. Its track is d->track. */
struct pre_copy_kept {
	struct track track;
	struct image_writer *writer; /* NULL: begins anew */
	struct dump_stream *stream;
};
/* Makes d's writer, or takes that of "kept". If memory is watched since its parent image, or by --pre-copy, d->track has that
 * afterwards. *ret_parent: to be freed after the writer. */
int pre_copy_prepare(struct dump *d, int image_dir, int guard_fd, struct pre_copy_kept *kept,
	struct image **ret_parent, struct error *e) _must_check_;
/* After a try: takes writer and stream out of d if they may be used again, else lets go of all. */
void pre_copy_keep(struct dump *d, bool again, struct pre_copy_kept *kept);
void pre_copy_kept_done(struct pre_copy_kept *kept);
/* 0, or what is in the way. */
int pre_copy_is_possible(bool unprivileged, struct error *e) _must_check_;
/* Has most of its memory been copied ahead? */
static inline bool pre_copy_has(const struct dump_proc *p)
{
	return p->watched && p->watched->space;
}
