/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restore and RestoreSubcontainer: what "stasis restore --detach" does, in a worker; WaitCheckpoint. The process that restores the container
 * becomes the supervisor's when the worker ends, and then the container's first one.
 */
#include <string.h>

#include "base/fd.h"
#include "checkpoint/restorer.h"
#include "linux/idmap.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/restore-join.h"
#include "sandbox/wait.h"

enum { DEADLINE_S = 180, DEADLINE_MAX_S = 86400 };

static int options_of(struct call *c, const char *name, struct restore_options *o, struct error *e)
{
	int r = container_id_check(call_string(c, "id"), e);

	if (r < 0)
		return call_invalid(c, "id", e, "%s", e->message);
	*o = (struct restore_options){
		.tcp_established = call_bool(c, "tcpEstablished"),
		.tcp_close = call_bool(c, "tcpClose"),
		.progress = PROGRESS_NONE,
		.create = {.root = c->supervisor->root,
			.id = call_string(c, "id"),
			.sandbox = c->supervisor->id,
			.name = name,
			.no_pivot = call_bool(c, "noPivot"),
			.no_new_keyring = call_bool(c, "noNewKeyring"),
			.rootless = geteuid() != 0 || !idmap_is_initial()},
	};
	r = call_path(c, "bundle", &o->create.bundle, e);
	if (r == 0)
		r = call_path(c, "imagePath", &o->image_path, e);
	if (r == 0)
		r = call_path(c, "workPath", &o->work_path, e);
	if (r == 0)
		r = call_cgroup_manager(c, &o->create.cgroup_manager, e);
	if (r == 0 && spec_check_parse(call_string(c, "specCheck"), &o->spec_check, e) < 0)
		r = call_invalid(c, "specCheck", e, "enforce, warning or ignore");
	return r;
}

static int reply(struct call *c, const struct meeting *m, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	struct json_object *o;
	int r = container_load(c->supervisor->root, call_string(c, "id"), false, &k, e);

	if (r < 0)
		return r;
	o = json_object_new_object();
	json_object_object_add(o, "hostPid", json_object_new_int(k->init_pid));
	json_add_string(o, "status", container_status_name(container_status(k)));
	json_object_object_add(o, "place", json_object_new_int64(m->k));
	json_object_object_add(o, "count", json_object_new_int64(m->n));
	return call_reply(c, o, false);
}

static int restore_as(struct call *c, const char *name, struct error *e)
{
	_cleanup_(restore_join_done) struct restore_join join = {};
	struct meeting m = MEETING_INIT;
	int64_t deadline = call_int(c, "deadline", DEADLINE_S);
	struct restore_options o;
	struct call_stdio stdio;
	int r = options_of(c, name, &o, e);

	if (r < 0)
		return r;
	if (deadline < 1 || deadline > DEADLINE_MAX_S)
		return call_invalid(c, "deadline", e, "seconds, from 1 to %d", DEADLINE_MAX_S);
	r = call_stdio(c, &stdio, e);
	if (r < 0)
		return r;
	o.create.preserve_fds = stdio.preserve_fds;
	o.create.console_fd = stdio.console_fd;
	o.create.console_socket = stdio.console_socket;
	m.prepare = call_bool(c, "prepare");
	m.detach = true;
	m.k = m.n = 1;
	r = restore_join(&o, (unsigned)deadline, &m, &join, e);
	if (r < 0)
		return r;
	o.meeting = &m;
	o.exchange_fd = MAX(m.exchange, 0);
	r = restorer_run(&o, NULL, e);
	return r < 0 ? r : reply(c, &m, e);
}

static int restore(struct call *c, struct error *e)
{
	return restore_as(c, CONTAINER_NAME_OF_ROOT, e);
}

static int restore_subcontainer(struct call *c, struct error *e)
{
	return restore_as(c, call_string(c, "name"), e);
}

static int wait_checkpoint(struct call *c, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	const char *id = call_string(c, "id");
	int r = id ? call_member(c, id, false, &k, e) : 0;

	if (r == 0)
		r = sandbox_wait_checkpoint(c->supervisor->root, c->supervisor->id, k, e);
	return r < 0 ? r : call_reply(c, NULL, false);
}

const struct method restore_container_methods[] = {
	{SANDBOX_INTERFACE, "Restore", restore, METHOD_WORKER},
	{SANDBOX_INTERFACE, "RestoreSubcontainer", restore_subcontainer, METHOD_WORKER},
	{SANDBOX_INTERFACE, "WaitCheckpoint", wait_checkpoint, METHOD_WORKER},
	{},
};
