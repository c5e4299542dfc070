/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint to a stream (docs/adr/0048-streams.md): what dump.c and the copying of pages do then. */
#pragma once

#include "checkpoint/native/pages.h"

/* d->writer and d->stream, in the place of a writer into a directory. */
int dump_stream_open(struct dump *d, int guard_fd, struct error *e) _must_check_;
void dump_stream_free(struct dump_stream *s);
/* Records are out, or were about to go: it cannot be begun again. What went before (rounds, small files) is of no harm. */
bool dump_stream_has_begun(const struct dump *d);
/* For another try, by another struct dump. */
void dump_stream_forget(struct dump_stream *s);
/* Notes pages of a process that will be sent. */
int dump_stream_plan(struct page_reader *pr, uint64_t start, uint64_t end, struct error *e) _must_check_;
/* Likewise the contents of a file, of which a duplicate is kept. 1: they are to be sent at once. */
int dump_stream_plan_file(
	struct dump *d, uint64_t space, int fd, uint64_t size, struct error *e) _must_check_;
/* All records, once they are in d->writer; then the pages that no snapshot holds. */
int dump_stream_send(struct dump *d, const struct image_manifest *m, struct error *e) _must_check_;
/* The rest, when the tasks run on or there is none. */
int dump_stream_send_late(struct dump *d, struct error *e) _must_check_;
