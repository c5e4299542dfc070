/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The top of config.json, and what holds between its parts. Invariants of a parsed spec: all paths are absolute, all
 * names have been turned into the kernel's numbers, every array is as long as its count says.
 */
#include "oci/spec.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "oci/spec-priv.h"

enum { CONFIG_SIZE_MAX = 16 * 1024 * 1024 };

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static const struct {
	const char *oci, *proc;
	int flag;
} namespaces[NS_COUNT] = {
	[NS_PID] = {"pid", "pid", CLONE_NEWPID},
	[NS_NET] = {"network", "net", CLONE_NEWNET},
	[NS_IPC] = {"ipc", "ipc", CLONE_NEWIPC},
	[NS_UTS] = {"uts", "uts", CLONE_NEWUTS},
	[NS_MNT] = {"mount", "mnt", CLONE_NEWNS},
	[NS_CGROUP] = {"cgroup", "cgroup", CLONE_NEWCGROUP},
	[NS_USER] = {"user", "user", CLONE_NEWUSER},
	[NS_TIME] = {"time", "time", CLONE_NEWTIME},
};

const char *ns_oci_name(enum ns_type t)
{
	return namespaces[t].oci;
}

const char *ns_proc_name(enum ns_type t)
{
	return namespaces[t].proc;
}

int ns_clone_flag(enum ns_type t)
{
	return namespaces[t].flag;
}

const char *spec_annotation(const struct spec *s, const char *name)
{
	for (size_t i = 0; i < s->n_annotations; i++)
		if (strcmp(s->annotations[i].name, name) == 0)
			return s->annotations[i].value;
	return NULL;
}

const char *spec_from_bundle(struct parser *p, const char *path)
{
	return path[0] == '/' ? path : arena_printf(p->arena, "%s/%s", p->bundle ? p->bundle : "", path);
}

int spec_lookup(struct parser *p, const struct jv *v, const struct name_number *table, const char *what,
	uint64_t *ret)
{
	char allowed[400];
	const char *name;
	size_t n = 0;
	int r = jv_borrow(p, v, &name);

	if (r < 0)
		return r;
	allowed[0] = 0;
	for (const struct name_number *t = table; t->name; t++) {
		if (strcmp(t->name, name) == 0) {
			*ret = t->number;
			return 0;
		}
		if (n < sizeof(allowed))
			n += (size_t)snprintf(
				allowed + n, sizeof(allowed) - n, "%s%s", n ? ", " : "", t->name);
	}
	return jv_fail_unknown(p, v, what, name, allowed);
}

int spec_name_value_parse(struct parser *p, const struct jv *v, void *dest)
{
	struct spec_annotation *pair = dest;

	_Static_assert(
		sizeof(struct spec_annotation) == sizeof(struct spec_sysctl), "both are {name, value}");
	pair->name = arena_strdup(p->arena, v->key);
	if (!pair->name)
		return jv_no_memory(p);
	return jv_string(p, v, &pair->value);
}

static int parse_annotations(struct parser *p, const struct jv *v, void *dest)
{
	struct spec *s = dest;

	return jv_map(
		p, v, sizeof(*s->annotations), spec_name_value_parse, &s->annotations, &s->n_annotations);
}

static const char unit_property[] = "org.systemd.property.";

/* What annotations say of the cgroup's unit belongs to the resources. */
static int collect_unit_properties(struct parser *p, struct spec *s)
{
	struct spec_resources *res = &s->resources;
	size_t len = strlen(unit_property);

	res->unit_properties = arena_array(p->arena, s->n_annotations, sizeof(*res->unit_properties));
	if (s->n_annotations && !res->unit_properties)
		return jv_no_memory(p);
	for (size_t i = 0; i < s->n_annotations; i++)
		if (strncmp(s->annotations[i].name, unit_property, len) == 0)
			res->unit_properties[res->n_unit_properties++] =
				(struct spec_sysctl){s->annotations[i].name + len, s->annotations[i].value};
	return 0;
}

static int parse_version(struct parser *p, const struct jv *v, void *dest)
{
	const char **version = dest;
	char quoted[40];
	int r = jv_string(p, v, version);

	if (r < 0)
		return r;
	if (strncmp(*version, "1.", 2) != 0)
		return jv_fail(p, v, "version %s of the runtime-spec is not supported (1.x)",
			jv_quote(*version, quoted, sizeof(quoted)));
	return 0;
}

static int parse_rootfs_path(struct parser *p, const struct jv *v, void *dest)
{
	const char *path;
	int r = jv_string(p, v, &path);

	if (r < 0)
		return r;
	if (!path[0])
		return jv_fail(p, v, "must not be empty");
	*(const char **)dest = spec_from_bundle(p, path);
	return *(const char **)dest ? 0 : jv_no_memory(p);
}

static const struct json_field root_fields[] = {
	{"path", JSON_CUSTOM, .required = true, .offset = offsetof(struct spec, rootfs),
		.parse = parse_rootfs_path},
	{"readonly", JSON_BOOL, .offset = offsetof(struct spec, rootfs_readonly)},
	{NULL},
};

static const struct json_field spec_fields[] = {
	{"ociVersion", JSON_CUSTOM, .required = true, .offset = offsetof(struct spec, oci_version),
		.parse = parse_version},
	{"root", JSON_SUB, .required = true, .sub = root_fields},
	{"hostname", JSON_STRING, .offset = offsetof(struct spec, hostname)},
	{"domainname", JSON_STRING, .offset = offsetof(struct spec, domainname)},
	{"process", JSON_CUSTOM, .offset = offsetof(struct spec, process), .parse = spec_process_parse},
	{"mounts", JSON_CUSTOM, .parse = spec_mounts_parse},
	{"linux", JSON_CUSTOM, .parse = spec_linux_parse},
	{"hooks", JSON_CUSTOM, .offset = offsetof(struct spec, hooks), .parse = spec_hooks_parse},
	{"annotations", JSON_CUSTOM, .parse = parse_annotations},
	{NULL},
};

/* A new one has the maps of config.json, one that is joined has its own. */
static int check_user_namespace(struct parser *p, const struct spec *s)
{
	const struct spec_namespace *user = &s->namespaces[NS_USER];
	const struct id_maps *ids = &s->ids;

	if ((ids->n_uid || ids->n_gid) && !user->present)
		return error_set(p->e, -EINVAL, ERROR_CONFIG,
			"linux.%s: needs a user namespace in linux.namespaces",
			ids->n_uid ? "uidMappings" : "gidMappings");
	if (!user->present || user->path)
		return 0;
	if (!ids->n_uid || !ids->n_gid)
		return error_set(p->e, -EINVAL, ERROR_CONFIG,
			"linux.%s: missing (a new user namespace needs mappings of uids and gids)",
			ids->n_uid ? "gidMappings" : "uidMappings");
	if (!idmap_contains(ids->uid, ids->n_uid, 0) || !idmap_contains(ids->gid, ids->n_gid, 0))
		return error_set(p->e, -EINVAL, ERROR_CONFIG,
			"linux.%s: id 0 is not mapped (the container is set up by its root)",
			idmap_contains(ids->uid, ids->n_uid, 0) ? "gidMappings" : "uidMappings");
	return 0;
}

/* "uid=5" among a filesystem's options: the kernel's answer to an id that is not mapped would be "invalid argument". */
static int check_mount_ids(struct parser *p, const struct spec *s, size_t i)
{
	for (const char *o = s->mounts[i].data; o && *o; o += strcspn(o, ","), o += *o == ',') {
		bool uid = !strncmp(o, "uid=", 4);
		unsigned long id;
		char *end;

		if (!uid && strncmp(o, "gid=", 4) != 0)
			continue;
		id = strtoul(o + 4, &end, 10);
		if (end > o + 4 && (uid ? idmap_contains(s->ids.uid, s->ids.n_uid, id)
					: idmap_contains(s->ids.gid, s->ids.n_gid, id)))
			continue;
		return error_set(p->e, -EINVAL, ERROR_CONFIG,
			"mounts[%zu].options: the id of %.*s is not mapped in linux.%s", i,
			(int)MIN(strcspn(o, ","), 20UL), o, uid ? "uidMappings" : "gidMappings");
	}
	return 0;
}

static int check_mounts(struct parser *p, struct spec *s)
{
	const struct spec_namespace *user = &s->namespaces[NS_USER];
	int r = 0;

	for (size_t i = 0; r == 0 && user->present && !user->path && i < s->n_mounts; i++)
		r = s->mounts[i].is_bind ? 0 : check_mount_ids(p, s, i);
	for (size_t i = 0; r == 0 && i < s->n_mounts; i++)
		r = s->mounts[i].idmap_option ? spec_idmap_option(p, s, i) : 0;
	if (r < 0)
		return r;
	for (size_t i = 0; i < s->n_mounts; i++)
		if (s->mounts[i].idmap && !s->mounts[i].ids.n_uid && !s->namespaces[NS_USER].present)
			return error_set(p->e, -EINVAL, ERROR_CONFIG,
				"mounts[%zu].options: idmap needs uidMappings and gidMappings, or a user "
				"namespace in "
				"linux.namespaces",
				i);
	return 0;
}

/* What needs a namespace of the container's own, because it would change the host otherwise. */
static int check_namespaces(struct parser *p, struct spec *s)
{
	bool uts = s->namespaces[NS_UTS].present;
	int r;

	if (s->hostname && s->hostname[0] && !uts)
		return error_set(
			p->e, -EINVAL, ERROR_CONFIG, "hostname: needs a uts namespace in linux.namespaces");
	if (s->domainname && s->domainname[0] && !uts)
		return error_set(
			p->e, -EINVAL, ERROR_CONFIG, "domainname: needs a uts namespace in linux.namespaces");
	r = check_user_namespace(p, s);
	if (r == 0)
		r = check_mounts(p, s);
	if (r < 0)
		return r;
	if (s->n_net_devices && !s->namespaces[NS_NET].present)
		return error_set(p->e, -EINVAL, ERROR_CONFIG,
			"linux.netDevices: needs a network namespace in linux.namespaces");
	if ((s->time_monotonic.present || s->time_boottime.present) &&
		(!s->namespaces[NS_TIME].present || s->namespaces[NS_TIME].path))
		return error_set(p->e, -EINVAL, ERROR_CONFIG,
			"linux.timeOffsets: needs a new time namespace in linux.namespaces");
	return 0;
}

void spec_free(struct spec *s)
{
	if (!s)
		return;
	arena_done(&s->arena);
	free(s);
}

#define _cleanup_spec_ _cleanup_(spec_free_p)

/* Parses "json" by one parser function that gets the whole document and the member of the spec. */
static int parse_document(const char *what, enum json_type type, const char *bundle, const char *json,
	size_t len, int (*parse)(struct parser *p, const struct jv *v, struct spec *s), struct spec **ret,
	struct error *e)
{
	_cleanup_json_ struct json_object *o = NULL;
	_cleanup_spec_ struct spec *s = calloc(1, sizeof(*s));
	struct parser p;
	struct jv v;
	int r;

	if (!s)
		return error_set(e, -ENOMEM, ERROR_SYSTEM, "out of memory while reading %s", what);
	r = jv_parse_text(json, len, what, type, &o, e);
	if (r < 0)
		return r;
	p = (struct parser){.arena = &s->arena, .bundle = bundle, .e = e};
	v = (struct jv){.o = o};
	r = parse(&p, &v, s);
	if (r < 0)
		return r;
	*ret = take_ptr(s);
	return 0;
}

static int parse_whole(struct parser *p, const struct jv *v, struct spec *s)
{
	static char *const none[] = {NULL};
	int r;

	s->masked_paths = s->readonly_paths = (char **)none;
	s->bundle = arena_strdup(p->arena, p->bundle);
	if (!s->bundle)
		return jv_no_memory(p);
	r = jv_fields(p, v, spec_fields, s);
	if (r == 0)
		r = collect_unit_properties(p, s);
	return r < 0 ? r : check_namespaces(p, s);
}

static int parse_only_process(struct parser *p, const struct jv *v, struct spec *s)
{
	return spec_process_parse(p, v, &s->process);
}

static int parse_only_resources(struct parser *p, const struct jv *v, struct spec *s)
{
	return spec_resources_parse(p, v, &s->resources);
}

int spec_parse(const char *bundle, const char *json, size_t len, struct spec **ret, struct error *e)
{
	return parse_document("config.json", json_type_object, bundle, json, len, parse_whole, ret, e);
}

int spec_parse_process(const char *json, size_t len, struct spec **ret, struct error *e)
{
	return parse_document("process.json", json_type_object, NULL, json, len, parse_only_process, ret, e);
}

static int parse_only_mounts(struct parser *p, const struct jv *v, struct spec *s)
{
	return spec_mounts_parse(p, v, s);
}

int spec_parse_mounts(const char *bundle, const char *json, size_t len, struct spec **ret, struct error *e)
{
	return parse_document("mounts", json_type_array, bundle, json, len, parse_only_mounts, ret, e);
}

int spec_parse_resources(const char *json, size_t len, struct spec **ret, struct error *e)
{
	return parse_document("resources", json_type_object, NULL, json, len, parse_only_resources, ret, e);
}

int spec_load(const char *bundle, struct spec **ret, struct error *e)
{
	_cleanup_free_ char *text = NULL, *resolved = NULL;
	_cleanup_close_ int dir = -EBADF;
	size_t len;
	int r;

	dir = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0) {
		r = -errno;
		if (r == -ENOENT || r == -ENOTDIR)
			return error_set(e, r, ERROR_CONFIG, "bundle %s: %s", bundle,
				r == -ENOENT ? "no such directory" : "not a directory");
		return error_errno(e, r, "open bundle %s", bundle);
	}
	resolved = realpath(bundle, NULL);
	if (!resolved)
		return error_errno(e, -errno, "resolve bundle %s", bundle);
	r = read_file_at(dir, "config.json", CONFIG_SIZE_MAX, &text, &len);
	if (r == -ENOENT)
		return error_set(e, r, ERROR_CONFIG,
			"bundle %s has no config.json: no such file or directory", resolved);
	if (r == -EFBIG)
		return error_set(e, r, ERROR_CONFIG, "%s/config.json: larger than %d MiB", resolved,
			CONFIG_SIZE_MAX >> 20);
	if (r < 0)
		return error_errno(e, r, "read %s/config.json", resolved);
	r = spec_parse(resolved, text, len, ret, e);
	return r < 0 ? error_prefix(e, "bundle %s", resolved) : 0;
}
