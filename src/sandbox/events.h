/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens in a sandbox, and what its containers use. All of it is seen from the state directories and from the kernel: it needs
 * no supervisor, and disturbs none. What is between two looks is told in this order: checkpoint, oom, exit, delete.
 */
#pragma once

#include "base/error.h"

struct sandbox_event {
	/* create, start, restore, checkpoint, oom, exit, delete: of a container. stats: of one, total: of all together; end: there is
	 * no container any more (docs/control.md). */
	const char *type;
	const char *id, *name; /* of the container; or the sandbox's id, and NULL */
	const char *data;      /* a JSON object; NULL: none */
};

struct sandbox_events {
	const char *root, *sandbox;
	int64_t interval_ms; /* 0: no statistics */
	bool waits; /* for the first container; the caller keeps the sandbox there. Else it is an error if there is none */
	/* 0, or a negative errno with *e, which ends it. */
	int (*emit)(void *arg, const struct sandbox_event *ev, struct error *e);
	void *arg;
};

/* Statistics of each container, then the total. ERROR_STATE: none of them runs. */
int sandbox_statistics(const struct sandbox_events *s, struct error *e) _must_check_;
/* These again and again, and what happens, until there was a container and the last one is deleted. The caller has one
 * thread; SIGUSR1 is blocked from then on. */
int sandbox_follow(const struct sandbox_events *s, struct error *e) _must_check_;
