/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/call.h"

#include <stdio.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/trace.h"
#include "sandbox/idl.h"
#include "sandbox/server.h"
#include "sandbox/supervisor.h"

#define SERVICE "org.varlink.service"

/* ---- parameters ---- */

struct json_object *call_parameter(const struct call *c, const char *name)
{
	struct json_object *v = NULL;

	json_object_object_get_ex(c->parameters, name, &v);
	return v;
}

const char *call_string(const struct call *c, const char *name)
{
	struct json_object *v = call_parameter(c, name);

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

int64_t call_int(const struct call *c, const char *name, int64_t otherwise)
{
	struct json_object *v = call_parameter(c, name);

	return json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : otherwise;
}

bool call_bool(const struct call *c, const char *name)
{
	struct json_object *v = call_parameter(c, name);

	return json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

int call_fd(struct call *c, const char *name, int **ret, struct error *e)
{
	int64_t i = call_int(c, name, -1);

	if (i < 0 || i >= c->n_fds || c->fds[i] < 0)
		return call_invalid(c, name, e, "the message has no such descriptor");
	*ret = &c->fds[i];
	return 0;
}

int call_invalid(struct call *c, const char *parameter, struct error *e, const char *format, ...)
{
	struct json_object *o = json_object_new_object();
	char why[sizeof(e->message)];
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	error_set(e, -EINVAL, ERROR_USAGE, "%s", why);
	error_prefix(e, "%s", parameter);
	json_add_string(o, "parameter", parameter);
	json_add_string(o, "message", e->message);
	if (!c->replied)
		(void)call_error(c, SERVICE ".InvalidParameter", o);
	else
		json_object_put(o);
	return -EINVAL;
}

/* ---- replies ---- */

static int send_message(struct call *c, struct json_object *parameters, const char *error, bool continues)
{
	_cleanup_json_ struct json_object *o = parameters;
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = 0;

	if (c->replied)
		return -EALREADY;
	c->replied = !continues;
	if (c->oneway)
		return 0;
	text = varlink_make_reply(o, error, continues, &len);
	if (c->worker_socket >= 0)
		r = text ? worker_send_reply(c, text, len, !continues) : -ENOMEM;
	else if (c->connection && text)
		connection_send(c->connection, text, len);
	else
		r = text ? -EPIPE : -ENOMEM;
	return r;
}

/* An inline call that has had its last reply: from here on its connection is free. */
static void end(struct call *c)
{
	struct connection *k = c->connection;

	if (c->worker_socket >= 0 || c->running)
		return;
	if (k)
		k->call = NULL;
	call_free(c);
	if (k)
		connection_next(k);
}

int call_reply(struct call *c, struct json_object *parameters, bool continues)
{
	int r = send_message(c, parameters, NULL, continues);

	if (!continues)
		end(c);
	return r;
}

int call_error(struct call *c, const char *error, struct json_object *parameters)
{
	int r = send_message(c, parameters, error, false);

	end(c);
	return r;
}

/* The errors of proto/io.stasis.Sandbox.varlink, by enum error_kind. */
static const char *const failures[] = {
	[ERROR_SYSTEM] = "SystemError",
	[ERROR_USAGE] = "InvalidConfiguration",
	[ERROR_CONFIG] = "InvalidConfiguration",
	[ERROR_KERNEL] = "KernelTooOld",
	[ERROR_REFUSED] = "Refused",
	[ERROR_STATE] = "InvalidState",
	[ERROR_CORRUPT] = "Corrupt",
	[ERROR_INTERNAL] = "Internal",
};

int call_failed(struct call *c, const struct error *e)
{
	struct json_object *o = json_object_new_object();
	char name[64];

	snprintf(name, sizeof(name), "io.stasis.Sandbox.%s", failures[e->kind]);
	if (e->kind == ERROR_SYSTEM)
		json_object_object_add(o, "errno", json_object_new_int(-e->code));
	json_add_string(o, "message", e->message);
	return call_error(c, name, o);
}

void call_free(struct call *c)
{
	if (!c)
		return;
	for (int i = 0; i < c->n_fds; i++)
		close_p(&c->fds[i]);
	json_object_put(c->parameters);
	free(c);
}

void call_client_gone(struct call *c)
{
	c->connection = NULL;
	if (c->running) /* it is on the stack: whoever runs it frees it */
		return;
	if (c->worker) {
		worker_orphan(c->worker);
		return;
	}
	if (c->cancelled)
		c->cancelled(c, c->arg);
	call_free(c);
}

/* ---- calls ---- */

static int invalid(struct call *c, const struct idl_fault *f)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "parameter", f->path);
	json_add_string(o, "message", f->message);
	return call_error(c, SERVICE ".InvalidParameter", o);
}

static int run(struct call *c, struct error *e)
{
	const struct method *m = c->method;
	struct idl_fault fault;
	TRACE(m->name);

	if (idl_check(interface_text(m->interface), m->name, c->parameters, &fault) < 0)
		return invalid(c, &fault);
	if (m->flags & METHOD_MORE && !c->more)
		return call_error(c, SERVICE ".ExpectedMore", NULL);
	return m->flags & METHOD_WORKER ? worker_start(c, e) : m->run(c, e);
}

/* Whatever happens, c->running is what keeps it alive until here. */
static void run_and_answer(struct call *c)
{
	struct connection *k;
	struct error e = {0};
	int r;

	c->running = true;
	r = run(c, &e);
	if (r < 0 && !c->replied)
		(void)call_failed(c, &e);
	c->running = false;
	k = c->connection;
	if (!c->replied && r == CALL_LATER) {
		if (!k && !c->oneway)
			call_client_gone(c);
		return;
	}
	if (k)
		k->call = NULL;
	call_free(c);
}

static void unknown(struct connection *k, struct call *c, const struct varlink_call *m)
{
	_cleanup_json_ struct json_object *o = json_object_new_object();
	bool known = interface_text(m->interface) != NULL;

	json_add_string(o, known ? "method" : "interface", known ? m->method : m->interface);
	c->running = true;
	(void)call_error(c, known ? SERVICE ".MethodNotFound" : SERVICE ".InterfaceNotFound", take_ptr(o));
	k->call = NULL;
	call_free(c);
}

void call_begin(struct connection *k, struct varlink_call *m)
{
	struct call *c = calloc(1, sizeof(*c));

	if (!c) {
		varlink_call_done(m);
		k->closing = true;
		return;
	}
	*c = (struct call){.supervisor = k->supervisor,
		.method = method_find(m->interface, m->method),
		.parameters = take_ptr(m->parameters),
		.more = m->more,
		.oneway = m->oneway,
		.connection = k,
		.worker_socket = -EBADF};
	memcpy(c->fds, k->fds, sizeof(c->fds));
	c->n_fds = k->n_fds;
	k->n_fds = 0;
	k->call = c;
	if (c->method)
		run_and_answer(c);
	else
		unknown(k, c, m);
	varlink_call_done(m);
}
