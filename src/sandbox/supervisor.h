/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor of a sandbox: a small process that knows when its members end, keeps their exit statuses and serves the
 * control socket (docs/control.md). Containers do not depend on it: what it knows is on disk or in the kernel, so that another
 * one takes over when it was killed. One at a time: it holds a lock in the sandbox's directory.
 */
#pragma once

#include <json-c/json.h>

#include "container/container.h"
#include "sandbox/loop.h"
#include "sandbox/process.h"

struct application_server;
struct server;
struct worker;

struct member {
	struct member *next;
	char *id, *name;
	struct container *c;			/* as state.json says; NULL: not loaded (yet) */
	struct process process;			/* its init */
	struct json_object *about;		/* what of its state never changes; NULL: not made yet */
	struct application_server *application; /* NULL: it has none (application.h) */
	bool started; /* it has executed its program: the start socket need not be asked any more */
	struct stat_stamp {
		uint64_t inode;
		int64_t sec, nsec;
	} state; /* of state.json when it was loaded */
};

struct supervisor {
	struct loop *loop;
	char *root, *id;
	int dir_fd, lock_fd;
	struct server *server;
	struct member *members;
	struct process *others; /* those that are no init: call_keep_process() */
	struct worker *workers;
	struct error *restore_failure; /* of the last restore; NULL: there was none, or it succeeded */
	struct session *session;       /* the restore that is under way; NULL */
	/* Beside members, clients and workers: what keeps it from ending. See supervisor_release(). */
	unsigned holds;
	bool ending;
	int members_fd; /* of members/, watched */
	struct loop_fd signals;
	struct loop_timer
		grace; /* at the beginning it waits for its first member, or the client that makes it */
};

struct supervisor_options {
	const char *root, *id;
};
/* Serves until there is nothing left to supervise. 0 also if there is another one already. */
int supervisor_main(const struct supervisor_options *o, struct error *e) _must_check_;

/* A member, with what its state.json says now; -ENOENT, ERROR_STATE: there is none of that id, or name. */
int supervisor_find(struct supervisor *s, const char *id, struct member **ret, struct error *e) _must_check_;
struct member *supervisor_member(const struct supervisor *s, const char *id); /* NULL: none */
/* A process that exec made in a container: from now on its status is known, until the container is deleted (or many others have
 * ended). inside: its number in the container. */
void supervisor_keep_process(
	struct supervisor *s, pid_t pid, int inside, uint64_t start_time, const char *id);
/* The one of that container which has this number there, the latest if several had it; NULL: none. */
struct process *supervisor_find_process(struct supervisor *s, const char *id, int inside);
/* Its status now. */
enum container_status member_status(struct member *m);

/* After anything that may have been the last thing: ends the loop if nobody needs us. */
void supervisor_check_end(struct supervisor *s);
static inline void supervisor_hold(struct supervisor *s)
{
	s->holds++;
}
static inline void supervisor_release(struct supervisor *s)
{
	s->holds--;
	supervisor_check_end(s);
}
