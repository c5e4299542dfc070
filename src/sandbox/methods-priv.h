/* SPDX-License-Identifier: Apache-2.0 */
/* What the methods that work on containers share: finding one, descriptors, terminals. All of it for workers. */
#pragma once

#include "container/container.h"
#include "sandbox/call.h"
#include "sandbox/supervisor.h"

#define SANDBOX_INTERFACE "io.stasis.Sandbox"

/* These send an error reply of the interface themselves, and fill *e for the caller to return. */
int call_no_container(struct call *c, const char *id, struct error *e);
int call_bad_fds(struct call *c, struct error *e, const char *format, ...) _printf_(3, 4);

int call_no_process(struct call *c, const struct container *k, int64_t pid, struct error *e);
/* An Exit. known: false if nobody can say how it was. */
int call_reply_exit(struct call *c, const char *id, bool known, int status);

/* The container of the sandbox that has this id (or name); one that is not this sandbox's is as if there were none. lock: takes
 * its lock, for which it waits. */
int call_member(
	struct call *c, const char *id, bool lock, struct container **ret, struct error *e) _must_check_;
/* The same, but one that is being made or restored is an error at once. */
int call_container(
	struct call *c, const char *id, bool lock, struct container **ret, struct error *e) _must_check_;
/* The same, of the parameter "id". */
int call_container_named(struct call *c, bool lock, struct container **ret, struct error *e) _must_check_;
/* From here on the work is done to its end, also when the client (or the supervisor) goes: after what may take long, before what would
 * leave something half done. */
void call_finish(void);
/* The method wants no descriptors. */
int call_no_fds(struct call *c, struct error *e) _must_check_;
/* An absolute path, or NULL. */
int call_path(struct call *c, const char *name, const char **ret, struct error *e) _must_check_;
/* "cgroupManager", of whoever makes a container. */
int call_cgroup_manager(struct call *c, enum cgroup_manager *ret, struct error *e) _must_check_;
/* An array of strings, NULL-terminated; *ret is malloc'ed (the strings are borrowed), NULL when there is none. */
int call_strings(
	struct call *c, const char *name, const char ***ret, size_t *ret_n, struct error *e) _must_check_;

/* Descriptors of the message, for a process that will be made: 0 to 2 (or /dev/null), and those from 3 on. */
struct call_stdio {
	int preserve_fds;
	int console_fd;		    /* borrowed; -EBADF: none */
	const char *console_socket; /* borrowed; NULL: none */
};
/* Puts them in their places: this process has them from now on. The log goes on elsewhere. */
int call_stdio(struct call *c, struct call_stdio *ret, struct error *e) _must_check_;
