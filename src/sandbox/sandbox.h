/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox: containers that belong together (a pod). On disk it is the directory <root>/@sandboxes/<id> with the members'
 * names (container/membership.c), the control socket and what its supervisor keeps. There is no other state: whoever opens
 * the directory knows all, so that a supervisor can be killed and another one takes over.
 */
#pragma once

#include "base/error.h"
#include "container/container.h"

struct sandbox_member {
	char *id, *name;
};

struct sandbox {
	char *root, *id;
	int dir_fd;
	struct sandbox_member *members; /* the container that it begins with first, then by name */
	size_t n_members;
};

/* Opens the sandbox and lists its members: containers that there are. ERROR_STATE if there is none of that id. */
int sandbox_open(const char *root, const char *id, struct sandbox **ret, struct error *e) _must_check_;
/* The members anew. */
int sandbox_refresh(struct sandbox *s, struct error *e) _must_check_;
/* The member of that name; NULL: none. */
const struct sandbox_member *sandbox_find(const struct sandbox *s, const char *name);
void sandbox_free(struct sandbox *s);
static inline void sandbox_free_p(struct sandbox **s)
{
	sandbox_free(*s);
}

/* start.c: makes sure that the sandbox has a supervisor, and does not wait for it. */
int sandbox_ensure(const char *root, const char *sandbox, struct error *e) _must_check_;
/* A connection to it, started if need be. make: the sandbox need not be there yet. Caller closes. */
int sandbox_connect(const char *root, const char *sandbox, bool make, struct error *e) _must_check_;
