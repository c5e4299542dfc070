/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's life: StartRoot, Create, Start, Destroy, Update. Each runs in a worker; the supervisor is a subreaper, so that what
 * a worker has made becomes its child when the worker ends.
 */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "linux/idmap.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/sandbox.h"

static int exists(struct call *c, const char *id, struct error *e)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "id", id);
	json_add_string(o, "message", e->message);
	(void)call_error(c, SANDBOX_INTERFACE ".ContainerExists", o);
	return -EEXIST;
}

static int reply_pid(struct call *c, const struct container *k)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "hostPid", json_object_new_int(k->init_pid));
	return call_reply(c, o, false);
}

/* A container that runs has this name already? One that has stopped keeps it until it is deleted, and its successor has it too. */
static int check_name(struct call *c, const char *name, struct error *e)
{
	_cleanup_(sandbox_free_p) struct sandbox *s = NULL;
	int r = container_id_check(name, e);

	if (r < 0)
		return call_invalid(c, "name", e, "%s", e->message);
	r = sandbox_open(c->supervisor->root, c->supervisor->id, &s, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* the first one makes it */
	for (size_t i = 0; i < s->n_members; i++) {
		_cleanup_(container_free_p) struct container *k = NULL;

		if (strcmp(s->members[i].name, name) != 0 ||
			container_load(c->supervisor->root, s->members[i].id, false, &k, NULL) < 0 ||
			container_status(k) == CONTAINER_STOPPED)
			continue;
		error_set(e, -EEXIST, ERROR_STATE, "the sandbox has a container %s already: %s", name, k->id);
		return exists(c, k->id, e);
	}
	return 0;
}

static int make(struct call *c, const char *name, struct container **ret, struct error *e)
{
	struct container_create_options o = {
		.root = c->supervisor->root,
		.id = call_string(c, "id"),
		.sandbox = c->supervisor->id,
		.name = name,
		.no_pivot = call_bool(c, "noPivot"),
		.no_new_keyring = call_bool(c, "noNewKeyring"),
		.rootless = geteuid() != 0 || !idmap_is_initial(),
	};
	struct call_stdio stdio;
	int r = container_id_check(o.id, e);

	if (r < 0)
		return call_invalid(c, "id", e, "%s", e->message);
	r = call_path(c, "bundle", &o.bundle, e);
	if (r == 0)
		r = call_path(c, "config", &o.config, e);
	if (r == 0)
		r = call_cgroup_manager(c, &o.cgroup_manager, e);
	if (r == 0 && name)
		r = check_name(c, name, e);
	if (r == 0)
		r = call_stdio(c, &stdio, e);
	if (r < 0)
		return r;
	o.preserve_fds = stdio.preserve_fds;
	o.console_fd = stdio.console_fd;
	o.console_socket = stdio.console_socket;
	r = container_create(&o, ret, e);
	return r == -EEXIST && e->kind == ERROR_STATE ? exists(c, o.id, e) : r;
}

static int create(struct call *c, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	int r = make(c, call_string(c, "name"), &k, e);

	return r < 0 ? r : reply_pid(c, k);
}

static int start(struct call *c, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	int r = call_container_named(c, true, &k, e);

	if (r == 0) {
		call_finish();
		r = container_start(k, e);
	}
	return r < 0 ? r : call_reply(c, NULL, false);
}

static int make_and_start(struct call *c, struct container **ret, struct error *e)
{
	struct error later;
	int r = make(c, CONTAINER_NAME_OF_ROOT, ret, e);

	if (r == 0) {
		call_finish();
		r = container_start(*ret, e);
	}
	if (r < 0 && *ret && container_delete(*ret, true, &later) < 0)
		log_warning("%s", later.message);
	return r;
}

static int start_made(struct call *c, struct container **ret, struct error *e)
{
	static const char *const of_create[] = {
		"config", "terminal", "consoleSocket", "noPivot", "noNewKeyring", "cgroupManager"};
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(of_create); i++)
		if (call_parameter(c, of_create[i]))
			return call_invalid(
				c, of_create[i], e, "without a bundle the container is there already");
	r = call_container_named(c, true, ret, e);
	if (r < 0)
		return r;
	if (strcmp((*ret)->name, CONTAINER_NAME_OF_ROOT) != 0)
		return error_set(e, -EINVAL, ERROR_STATE,
			"container %s is not the one that the sandbox begins with (its name is %s, not %s): "
			"use Start",
			(*ret)->id, (*ret)->name, CONTAINER_NAME_OF_ROOT);
	call_finish();
	return container_start(*ret, e);
}

static int start_root(struct call *c, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	int r = call_string(c, "bundle") ? make_and_start(c, &k, e) : start_made(c, &k, e);

	return r < 0 ? r : reply_pid(c, k);
}

static int destroy(struct call *c, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	bool force = !call_parameter(c, "force") || call_bool(c, "force");
	int r = call_no_fds(c, e);

	if (r == 0)
		r = call_member(c, call_string(c, "id"), true, &k, e);
	if (r == 0) {
		call_finish();
		r = container_delete(k, force, e);
	}
	return r < 0 ? r : call_reply(c, NULL, false);
}

static int update(struct call *c, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	_cleanup_(spec_free_p) struct spec *document = NULL;
	struct json_object *resources = call_parameter(c, "resources");
	const struct spec_resources none = {0};
	const struct spec_intel_rdt rdt = {.l3_cache_schema = call_string(c, "l3CacheSchema"),
		.mem_bw_schema = call_string(c, "memBwSchema")};
	const char *text = resources ? json_object_to_json_string(resources) : NULL;
	int r = call_container_named(c, true, &k, e);

	if (r == 0 && text)
		r = spec_parse_resources(text, strlen(text), &document, e);
	call_finish();
	if (r == 0)
		r = container_update(k, document ? &document->resources : &none,
			rdt.l3_cache_schema || rdt.mem_bw_schema ? &rdt : NULL, e);
	return r < 0 ? r : call_reply(c, NULL, false);
}

const struct method container_methods[] = {
	{SANDBOX_INTERFACE, "StartRoot", start_root, METHOD_WORKER},
	{SANDBOX_INTERFACE, "Create", create, METHOD_WORKER},
	{SANDBOX_INTERFACE, "Start", start, METHOD_WORKER},
	{SANDBOX_INTERFACE, "Destroy", destroy, METHOD_WORKER},
	{SANDBOX_INTERFACE, "Update", update, METHOD_WORKER},
	{},
};
