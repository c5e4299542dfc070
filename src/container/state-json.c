/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.json: the record of one container (mission.md row A2). Numbers are bounded where they are read, because a
 * damaged file must not make us signal or delete anything: a record that is not understood is an error, and delete
 * --force then removes the directory only. It is written, fsynced and renamed into place, so that a reader, or we after a
 * kill or a loss of power, see the old or the new one; after the latter there is no container, and boot_id says so.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "container/container-priv.h"

enum { STATE_VERSION = 1, STATE_LIMIT = 1 << 20 };

static void json_put_p(struct json_object **o)
{
	json_object_put(*o);
}
#define _cleanup_json_ _cleanup_(json_put_p)

static void add_string(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, value ? json_object_new_string(value) : NULL);
}

static struct json_object *cgroup_to_json(const struct cgroup *cg)
{
	struct json_object *o = json_object_new_object(), *dirs = json_object_new_array();

	json_object_object_add(o, "mode", json_object_new_int(cg->mode));
	add_string(o, "path", cg->path);
	if (cg->unit[0]) {
		add_string(o, "unit", cg->unit);
		json_object_object_add(o, "user_unit", json_object_new_boolean(cg->user_unit));
	}
	for (size_t i = 0; i < cg->n_dirs; i++) {
		const struct cgroup_dir *d = &cg->dirs[i];
		struct json_object *j = json_object_new_object();

		add_string(j, "controllers", d->controllers);
		add_string(j, "path", d->path);
		json_object_object_add(j, "inode", json_object_new_uint64(d->inode));
		json_object_object_add(j, "created", json_object_new_boolean(d->created));
		json_object_array_add(dirs, j);
	}
	json_object_object_add(o, "dirs", dirs);
	return o;
}

static struct json_object *namespaces_to_json(const struct container *c)
{
	struct json_object *o = json_object_new_object();
	char path[64];

	for (int t = 0; t < NS_COUNT && c->init_pid > 0; t++) {
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", c->init_pid, ns_proc_name(t));
		add_string(o, ns_oci_name(t), path);
	}
	return o;
}

static struct json_object *to_json(const struct container *c)
{
	struct json_object *o = json_object_new_object(), *stdio = json_object_new_array();

	json_object_object_add(o, "version", json_object_new_int(STATE_VERSION));
	add_string(o, "id", c->id);
	json_object_object_add(o, "init_process_pid", json_object_new_int(c->init_pid));
	json_object_object_add(o, "init_process_start", json_object_new_uint64(c->init_start_time));
	add_string(o, "boot_id", c->boot_id);
	add_string(o, "bundle", c->bundle);
	add_string(o, "created", c->created);
	json_object_object_add(o, "owner", json_object_new_uint64(c->owner));
	json_object_object_add(o, "rootless", json_object_new_boolean(c->rootless));
	json_object_object_add(o, "own_keyring", json_object_new_boolean(c->own_keyring));
	add_string(o, "console_socket", c->console_socket);
	if (c->sandbox) {
		add_string(o, "sandbox", c->sandbox);
		add_string(o, "name", c->name);
	}
	json_object_object_add(o, "generation", json_object_new_uint64(c->generation));
	if (c->restoring)
		json_object_object_add(o, "restoring", json_object_new_boolean(true));
	for (size_t i = 0; i < ARRAY_SIZE(c->stdio); i++)
		json_object_array_add(stdio, c->stdio[i] ? json_object_new_string(c->stdio[i]) : NULL);
	json_object_object_add(o, "external_descriptors", stdio);
	json_object_object_add(o, "namespace_paths", namespaces_to_json(c));
	json_object_object_add(o, "cgroup", cgroup_to_json(&c->cgroup));
	add_string(o, "intel_rdt_path", c->rdt.group ? c->rdt.group : "");
	if (c->rdt.group) {
		add_string(o, "intel_rdt_monitor", c->rdt.monitor);
		json_object_object_add(o, "intel_rdt_inode", json_object_new_uint64(c->rdt.inode));
	}
	return o;
}

int container_save(struct container *c, struct error *e)
{
	_cleanup_json_ struct json_object *o = to_json(c);
	const char *text =
		json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	int r = -ENOMEM;

	if (text)
		r = write_file_atomic_at(c->dir_fd, "state.json", text, strlen(text), 0600);
	return r < 0 ? error_errno(e, r, "write state.json of container %s in %s", c->id, c->root) : 0;
}

static int get_string(struct json_object *o, const char *key, char **ret)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) || !v)
		return 0;
	if (!json_object_is_type(v, json_type_string))
		return -EBADMSG;
	*ret = strdup(json_object_get_string(v));
	return *ret ? 0 : -ENOMEM;
}

static int get_number(struct json_object *o, const char *key, uint64_t max, uint64_t *ret)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_int))
		return -EBADMSG;
	*ret = json_object_get_uint64(v);
	return *ret > max ? -EBADMSG : 0;
}

static int get_text(struct json_object *o, const char *key, char *buf, size_t size)
{
	struct json_object *v;
	const char *s;

	if (!json_object_object_get_ex(o, key, &v) || !json_object_is_type(v, json_type_string))
		return -EBADMSG;
	s = json_object_get_string(v);
	if (strlen(s) >= size)
		return -EBADMSG;
	memcpy(buf, s, strlen(s) + 1);
	return 0;
}

static int cgroup_from_json(struct json_object *o, struct cgroup *cg)
{
	struct json_object *dirs, *created, *user_unit;
	uint64_t mode;
	int r;

	r = get_number(o, "mode", CGROUP_V2, &mode);
	if (r == 0 && json_object_object_get_ex(o, "unit", &dirs)) {
		if (!json_object_object_get_ex(o, "user_unit", &user_unit))
			return -EBADMSG;
		cg->user_unit = json_object_get_boolean(user_unit);
		cg->started = true;
		r = get_text(o, "unit", cg->unit, sizeof(cg->unit));
	}
	if (r == 0)
		r = get_text(o, "path", cg->path, sizeof(cg->path));
	if (r < 0 || !json_object_object_get_ex(o, "dirs", &dirs) ||
		!json_object_is_type(dirs, json_type_array))
		return -EBADMSG;
	if (json_object_array_length(dirs) > CGROUP_MAX_DIRS)
		return -EBADMSG;
	cg->mode = mode;
	cg->n_dirs = json_object_array_length(dirs);
	for (size_t i = 0; i < cg->n_dirs; i++) {
		struct json_object *j = json_object_array_get_idx(dirs, i);
		struct cgroup_dir *d = &cg->dirs[i];

		if (!json_object_is_type(j, json_type_object) ||
			!json_object_object_get_ex(j, "created", &created))
			return -EBADMSG;
		d->created = json_object_get_boolean(created);
		r = get_text(j, "controllers", d->controllers, sizeof(d->controllers));
		if (r == 0)
			r = get_text(j, "path", d->path, sizeof(d->path));
		if (r == 0)
			r = get_number(j, "inode", UINT64_MAX, &d->inode);
		if (r < 0)
			return r;
	}
	return 0;
}

static int rdt_from_json(struct json_object *o, struct rdt *g)
{
	int r = get_string(o, "intel_rdt_path", &g->group);

	if (r < 0 || !g->group)
		return r;
	if (!g->group[0]) {
		rdt_done(g);
		return 0;
	}
	r = get_string(o, "intel_rdt_monitor", &g->monitor);
	return r < 0 ? r : get_number(o, "intel_rdt_inode", UINT64_MAX, &g->inode);
}

static int from_json(struct json_object *o, struct container *c)
{
	struct json_object *v;
	uint64_t pid = 0, owner = 0, version = 0;
	int r;

	if (!json_object_is_type(o, json_type_object))
		return -EBADMSG;
	r = get_number(o, "version", STATE_VERSION, &version);
	if (r == 0)
		r = get_number(o, "init_process_pid", INT32_MAX, &pid);
	if (r == 0)
		r = get_number(o, "init_process_start", UINT64_MAX, &c->init_start_time);
	if (r == 0)
		r = get_number(o, "owner", UINT32_MAX, &owner);
	if (r == 0)
		r = get_number(o, "generation", UINT64_MAX, &c->generation);
	if (r == 0)
		r = get_text(o, "boot_id", c->boot_id, sizeof(c->boot_id));
	if (r == 0)
		r = get_string(o, "bundle", &c->bundle);
	if (r == 0)
		r = get_string(o, "created", &c->created);
	if (r == 0)
		r = get_string(o, "console_socket", &c->console_socket);
	if (r == 0)
		r = get_string(o, "sandbox", &c->sandbox);
	if (r == 0)
		r = get_string(o, "name", &c->name);
	if (r == 0 && !c->sandbox != !c->name)
		r = -EBADMSG;
	if (r == 0)
		r = rdt_from_json(o, &c->rdt);
	if (r < 0)
		return r;
	c->init_pid = pid;
	c->owner = owner;
	c->rootless = json_object_object_get_ex(o, "rootless", &v) && json_object_get_boolean(v);
	c->restoring = json_object_object_get_ex(o, "restoring", &v) && json_object_get_boolean(v);
	c->own_keyring = json_object_object_get_ex(o, "own_keyring", &v) && json_object_get_boolean(v);
	if (json_object_object_get_ex(o, "external_descriptors", &v) &&
		json_object_is_type(v, json_type_array))
		for (size_t i = 0; i < ARRAY_SIZE(c->stdio) && i < json_object_array_length(v); i++) {
			const char *s = json_object_get_string(json_object_array_get_idx(v, i));

			c->stdio[i] = s ? strdup(s) : NULL;
		}
	if (!json_object_object_get_ex(o, "cgroup", &v))
		return -EBADMSG;
	return cgroup_from_json(v, &c->cgroup);
}

int state_read(struct container *c, struct error *e)
{
	_cleanup_json_ struct json_object *o = NULL;
	_cleanup_free_ char *text = NULL;
	int r;

	r = read_file_at(c->dir_fd, "state.json", STATE_LIMIT, &text, NULL);
	if (r == -ENOENT)
		return 0; /* create was killed before it wrote one: nothing but the directory is there */
	if (r < 0)
		return error_errno(e, r, "read state.json of container %s", c->id);
	o = json_tokener_parse(text);
	r = from_json(o, c);
	if (r < 0)
		return error_set(e, r, ERROR_CORRUPT,
			"%s/%s/state.json is damaged (stasis delete --force %s removes the directory; "
			"processes of the container, if there "
			"are any, stay)",
			c->root, c->id, c->id);
	r = read_file_at(c->dir_fd, "mountinfo", 16 << 20, &c->mountinfo, NULL);
	return r < 0 && r != -ENOENT ? error_errno(e, r, "read mountinfo of container %s", c->id) : 0;
}

int container_state_json(struct container *c, char **ret, struct error *e)
{
	enum container_status status = container_status(c);
	struct spec nothing = {0}; /* killed before config.json was there */
	struct oci_state state;
	int r;

	if (container_load_spec(c, NULL) < 0)
		c->spec = NULL;
	state = container_oci_state(
		c, c->spec ? c->spec : &nothing, status, status == CONTAINER_STOPPED ? 0 : c->init_pid);
	if (!state.bundle)
		state.bundle = "";
	state.rootfs = c->spec && c->spec->rootfs ? c->spec->rootfs : "";
	state.created = c->created ? c->created : "";
	state.owner = "";
	r = oci_state_json(&state, true, ret);
	return r < 0 ? error_errno(e, r, "state of container %s", c->id) : 0;
}
