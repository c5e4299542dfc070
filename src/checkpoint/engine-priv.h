/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. */
#pragma once

#include "checkpoint/engine.h"
#include "checkpoint/gate.h"

/* ---- target.c ---- */
/* Where the image goes. */
struct target {
	const char *path;
	int fd;			      /* locked */
	bool created;		      /* it was not there before, and goes again if the checkpoint fails */
	bool claimed;		      /* what is in it, and of an image, is ours */
	bool had_older;		      /* an image, which comes back if the checkpoint fails */
	const struct target *sandbox; /* of which this is the image of one container, "path"; NULL */
};
int target_open(const char *path, struct target *t, struct error *e) _must_check_;
/* Removes what has been written. Who dies may be followed by others who do it, too. */
void target_remove(const struct target *t);
/* The end of it, well or ill. */
void target_close(struct target *t, int result);
/* A checkpoint over this image may have been killed with all that would have put it back. */
int target_recover(int fd, const char *path, struct error *e) _must_check_;

/* ---- guard.c ---- */
struct outcome;
/* The checkpoint of one container. */
struct operation {
	struct container *c;
	const struct checkpoint_options *o;
	const struct target *target;
	struct preflight_report *report; /* empty */
	struct image_statistics *stats;	 /* with preflight_us */
	/* The rest is the guard's. */
	struct outcome *out;
	struct beat *beat;
	pid_t pid;
	int pidfd, guard_end, surgeon_end;
};
/* What holds for all of them. */
struct guarding {
	struct gate *gate; /* NULL: one alone */
	int64_t deadline;  /* CLOCK_MONOTONIC in nanoseconds, when they give up; 0: never */
};
/* Whether a failure may be gone the next time, or what has caused it passes by itself. */
enum guard_retry { GUARD_FINAL, GUARD_AGAIN, GUARD_PASSING };
/* Each is done by a child of its own, and all of them are waited for. Negative: all containers run on, nothing that was
 * written counts. With gates, 0 says that GATE_COMMITTED was passed. *ret_retry: NULL: alone. */
int guard_run(struct operation *all, unsigned n, const struct guarding *g, enum guard_retry *ret_retry,
	struct error *e) _must_check_;

/* ---- checkpoint.c ---- */
/* The log and the statistics in the work directory: what callers copy and show. */
void checkpoint_write_log(const char *dir, enum image_operation operation, const struct image_statistics *s,
	int result, const struct error *e);
/* An attempt counts, and the container's save hook runs; then, if it goes on, the resume hook, which may change what has become
 * of it; and when that is known, failures count. A pre-dump is none. */
int checkpoint_begin_attempt(struct container *c, const struct checkpoint_options *o, bool *ret_saved,
	struct error *e) _must_check_;
int checkpoint_resume_attempt(struct container *c, const struct checkpoint_options *o, bool saved, int result,
	struct error *e) _must_check_;
void checkpoint_end_attempt(struct container *c, const struct checkpoint_options *o, int result);
/* An error that the image's directory is full says so, with what helps; others stay. Returns result. */
int checkpoint_explain_target(const char *path, int result, struct error *e);
int checkpoint_check_state(const struct container *c, struct error *e) _must_check_;
int checkpoint_check_options(
	const struct container *c, const struct checkpoint_options *o, struct error *e) _must_check_;

/* ---- inside.c ---- */
/* Do we lack the machine's privileges? Then we must enter the container's user namespace. */
bool checkpoint_is_unprivileged(const struct container *c);
int checkpoint_enter_userns(const struct container *c, struct error *e) _must_check_;
/* checkpoint_preflight() of containers by a child each, which has. An error is that of the first one that has met one. */
struct preflight_look {
	struct container *c;
	const struct checkpoint_options *o;
	struct preflight_report *report;
};
int checkpoint_preflight_inside(const struct preflight_look *all, unsigned n, struct error *e) _must_check_;
