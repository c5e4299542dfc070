/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the time of an operation goes, as Chrome's trace events (JSON; chrome://tracing, ui.perfetto.dev): one line a span, each
 * written when it ends, so that what is there of an operation that dies can be read as well. Like the log a sink of the process.
 *
 *	TRACE("collect");	// from here to the end of the block
 *
 * Without a trace this costs a look at a variable. With one, a write(2) each. Spans are those of processes that said
 * trace_process(): others that are forked (a container's init, the reader of the image) inherit nothing to write with.
 */
#pragma once

#include "base/error.h"

/* A new file, or what was there is dropped. The caller is the first of its processes. */
int trace_begin(const char *path, const char *process, struct error *e) _must_check_;
/* A child of ours that goes on with it: its name. */
void trace_process(const char *name);
bool trace_is_on(void);
/* Completes the file. Children have ended, or their spans come too late. */
void trace_end(void);

struct trace_span {
	const char *name; /* NULL: there is no trace */
	uint64_t begin;
};
struct trace_span trace_span(const char *name);
void trace_span_end(struct trace_span *s);

#define TRACE_PASTE(a, b) a##b
#define TRACE_NAME(line) TRACE_PASTE(trace_span_, line)
#define TRACE(name)                                                                                          \
	_cleanup_(trace_span_end) _unused_ struct trace_span TRACE_NAME(__LINE__) = trace_span(name)
