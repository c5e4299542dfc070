/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call of a client on the control socket, as the methods see it. A method is a row of a table (methods*.c); its parameters
 * have been checked against its interface file in proto/ before it runs.
 *
 * An inline method runs in the supervisor, answers at once and never blocks. It may keep the call (CALL_LATER) and reply when
 * something happens. A worker method runs in a child of the supervisor of its own, may take as long as it wants and use all
 * that a command uses; its replies go through the supervisor. SIGTERM tells it that its client is gone.
 */
#pragma once

#include "sandbox/varlink.h"

struct supervisor;
struct call;

enum {
	CALL_LATER = 1, /* what run() of an inline method returns: it keeps the call */
	CALL_FDS_MAX = 16,
};

enum method_flags {
	METHOD_WORKER = 1,
	METHOD_MORE = 2, /* only with "more" */
};

struct method {
	const char *interface, *name;
	/* 0 after the final reply, CALL_LATER, or a negative errno with *e, of which an error reply is made. */
	int (*run)(struct call *c, struct error *e);
	unsigned flags;
};

struct call {
	struct supervisor *supervisor;
	const struct method *method;
	struct json_object *parameters; /* an object */
	bool more, oneway;
	int fds[CALL_FDS_MAX]; /* that came with the message; those that are not taken (take_fd) are closed */
	int n_fds;
	/* Of a call that is kept: its client is gone, the call is freed after this. */
	void (*cancelled)(struct call *c, void *arg);
	void *arg;
	bool replied; /* finally */
	bool running;
	/* the server's own */
	struct connection *connection;
	int worker_socket; /* in a worker: to the supervisor */
	struct worker *worker;
};

/* Parameters by name; NULL or the default when there is none. Types are as the interface file says. */
struct json_object *call_parameter(const struct call *c, const char *name);
const char *call_string(const struct call *c, const char *name);
int64_t call_int(const struct call *c, const char *name, int64_t otherwise);
bool call_bool(const struct call *c, const char *name);
/* The descriptor that a parameter says by its index among those of the message; borrowed. -EINVAL: there is none such. */
int call_fd(struct call *c, const char *name, int **ret, struct error *e) _must_check_;
/* What the method does not take of a parameter ("links[1].name"), and why: replies org.varlink.service.InvalidParameter, fills *e.
 * Returns -EINVAL. */
int call_invalid(struct call *c, const char *parameter, struct error *e, const char *format, ...)
	_printf_(4, 5);

/* "parameters" (NULL: none) is taken over. continues: more will follow, only if the client asked for more. In a worker -EPIPE
 * when there is nobody any more. A kept call is gone after its final reply. */
int call_reply(struct call *c, struct json_object *parameters, bool continues);
/* An error of an interface ("io.stasis.Sandbox.NotFound"); parameters are taken over. */
int call_error(struct call *c, const char *error, struct json_object *parameters);
/* The error reply that *e makes: io.stasis.Sandbox.Failed. */
int call_failed(struct call *c, const struct error *e);

/* By a worker: this process, a child of ours, is to be the supervisor's afterwards, who keeps its exit status for WaitPID. inside: its
 * number in the container. */
int call_keep_process(struct call *c, pid_t pid, int inside, const char *id) _must_check_;

struct process;
/* Keeps the call until p has exited, and replies with its Exit. */
int call_wait_process(struct call *c, const char *id, struct process *p, struct error *e) _must_check_;

/* The files of proto/; ends with an empty one. */
struct interface {
	const char *name, *text;
};
extern const struct interface interfaces[];

const struct method *method_find(const char *interface, const char *name);
/* proto/NAME.varlink; NULL: no such interface. */
const char *interface_text(const char *interface);
