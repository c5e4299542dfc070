/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.json: what the image is, where it can be restored, and size and checksum of the other files. It is
 * written last and renamed into place, so a directory without it holds no checkpoint.
 *
 * The last line is `"checksum": "xxh3:<16 hex digits>"`, over all bytes of the file before that member's name. Members
 * that a reader doesn't know are ignored, except through "required_features": an image that names a feature there
 * must not be read by a stasis that lacks it.
 */
#include "image/manifest-json.h"

static struct json_object *statistics_object(const struct image_statistics *s)
{
	struct json_object *o = json_object_new_object();

	for (const struct image_statistic *f = image_statistic_table; o && f->name; f++)
		if (f->in & IMAGE_STATISTIC_MANIFEST)
			manifest_add_u64(o, f->name, *image_statistic(s, f));
	return o;
}

static struct json_object *file_object(const struct image_file_info *f, bool checksum)
{
	struct json_object *o = json_object_new_object();

	if (o && (!manifest_add_u64(o, "size", f->size) ||
			 (checksum && !manifest_add_hash(o, "checksum", f->checksum)))) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

static struct json_object *files_object(const struct image_files *f)
{
	struct json_object *o = json_object_new_object();

	if (o && (!manifest_add(o, IMAGE_CHECKPOINT, file_object(&f->checkpoint, true)) ||
			 !manifest_add(o, IMAGE_INDEX, file_object(&f->index, true)) ||
			 !manifest_add(o, IMAGE_PAGES, file_object(&f->pages, false)))) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

static struct json_object *containers_array(const struct image_manifest *m)
{
	struct json_object *a = json_object_new_array(), *c = json_object_new_object();

	if (a && c && manifest_add_string(c, "name", m->container_name) &&
		manifest_add_string(c, "id", m->container_id) && json_object_array_add(a, c) == 0)
		return a;
	json_object_put(c);
	json_object_put(a);
	return NULL;
}

static struct json_object *cpu_object(const struct image_manifest *m)
{
	struct json_object *o = json_object_new_object();

	if (o && (!manifest_add_u64(o, "xfeatures", m->xfeatures) ||
			 !manifest_add_string(o, "features", m->cpu_features) ||
			 (m->cpu_layout && !manifest_add_string(o, "layout", m->cpu_layout)))) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

/* What a reader must know, or refuse. */
static const char *const known_features[] = {IMAGE_FEATURE_PARENT, IMAGE_FEATURE_ANCESTORS,
	IMAGE_FEATURE_PRE_DUMP, IMAGE_FEATURE_SOCKET_ERRORS, IMAGE_FEATURE_COMPRESSED, IMAGE_FEATURE_PRESSURE,
	IMAGE_FEATURE_MQ_NOTIFY, IMAGE_FEATURE_AIO, IMAGE_FEATURE_DNOTIFY, IMAGE_FEATURE_LISTENERS,
	IMAGE_FEATURE_PERMISSIONS, IMAGE_FEATURE_SHARED, IMAGE_FEATURE_SHARED_PIDS, IMAGE_FEATURE_BACKLOGS,
	NULL};

static struct json_object *features_array(const struct image_manifest *m, const struct image_files *f)
{
	struct json_object *a = json_object_new_array();

	if (a && ((m->parent && !manifest_append(a, IMAGE_FEATURE_PARENT)) ||
			 (f->ancestors && !manifest_append(a, IMAGE_FEATURE_ANCESTORS)) ||
			 (m->pre_dump && !manifest_append(a, IMAGE_FEATURE_PRE_DUMP)) ||
			 (m->socket_errors && !manifest_append(a, IMAGE_FEATURE_SOCKET_ERRORS)) ||
			 (f->compressed && !manifest_append(a, IMAGE_FEATURE_COMPRESSED)) ||
			 (m->pressure_triggers && !manifest_append(a, IMAGE_FEATURE_PRESSURE)) ||
			 (m->mq_notify && !manifest_append(a, IMAGE_FEATURE_MQ_NOTIFY)) ||
			 (m->aio_rings && !manifest_append(a, IMAGE_FEATURE_AIO)) ||
			 (m->dnotify && !manifest_append(a, IMAGE_FEATURE_DNOTIFY)) ||
			 (m->listeners && !manifest_append(a, IMAGE_FEATURE_LISTENERS)) ||
			 (m->register_permissions && !manifest_append(a, IMAGE_FEATURE_PERMISSIONS)) ||
			 (m->shared && !manifest_append(a, IMAGE_FEATURE_SHARED)) ||
			 (m->shared_pids && !manifest_append(a, IMAGE_FEATURE_SHARED_PIDS)) ||
			 (m->unix_backlogs && !manifest_append(a, IMAGE_FEATURE_BACKLOGS)))) {
		json_object_put(a);
		return NULL;
	}
	return a;
}

static struct json_object *parent_object(const struct image_manifest *m)
{
	struct json_object *o = json_object_new_object();

	if (o && (!manifest_add_string(o, "path", m->parent) ||
			 !manifest_add_hash(o, "checksum", m->parent_checksum))) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

static struct json_object *attempts_object(const struct image_manifest *m)
{
	struct json_object *o = json_object_new_object();

	if (o && (!manifest_add_u64(o, "checkpoints", m->attempts) ||
			 !manifest_add_u64(o, "failed", m->failed_attempts))) {
		json_object_put(o);
		return NULL;
	}
	return o;
}

static bool fill(struct json_object *o, const struct image_manifest *m, const struct image_files *f)
{
	return manifest_add_u64(o, "format_version", IMAGE_FORMAT_VERSION) &&
	       manifest_add(o, "required_features", features_array(m, f)) &&
	       manifest_add_string(o, "engine", m->engine) &&
	       manifest_add_string(o, "stasis_version", m->stasis_version) &&
	       manifest_add_u64(o, "container_count", m->container_count) &&
	       manifest_add(o, "containers", containers_array(m)) &&
	       manifest_add_string(o, "architecture", m->architecture) &&
	       manifest_add_string(o, "kernel", m->kernel) && manifest_add(o, "cpu", cpu_object(m)) &&
	       manifest_add_u64(o, "page_size", m->page_size) &&
	       manifest_add_string(o, "created", m->created) &&
	       manifest_add_u64(o, "generation", m->generation) &&
	       manifest_add(o, "attempts", attempts_object(m)) &&
	       (!m->parent || manifest_add(o, "parent", parent_object(m))) &&
	       manifest_add(o, "statistics", statistics_object(&m->statistics)) &&
	       manifest_add(o, "files", files_object(f));
}

bool image_parent_is_valid(const char *path)
{
	return path && *path && *path != '/' && strlen(path) < IMAGE_PARENT_MAX;
}

int image_manifest_build(
	const struct image_manifest *m, const struct image_files *f, struct image_buffer *b, struct error *e)
{
	_cleanup_(json_put_p) struct json_object *o = json_object_new_object();

	if (!o || !fill(o, m, f))
		return error_errno(e, -ENOMEM, IMAGE_MANIFEST);
	return manifest_seal(o, b, e);
}

static struct image_file_info get_file(
	struct manifest_parse *p, struct json_object *files, const char *name, bool checksum)
{
	struct json_object *o = manifest_member(p, files, name, json_type_object);
	struct image_file_info f = {0};

	if (o) {
		f.size = manifest_u64(p, o, "size", INT64_MAX);
		f.checksum = checksum ? manifest_hash(p, o, "checksum") : 0;
	}
	return f;
}

static void get_parent(struct manifest_parse *p, struct json_object *o, struct image_manifest *m)
{
	struct json_object *v;

	m->shared = manifest_has_feature(o, IMAGE_FEATURE_SHARED);
	m->pre_dump = manifest_has_feature(o, IMAGE_FEATURE_PRE_DUMP);
	if (!manifest_has_feature(o, IMAGE_FEATURE_PARENT))
		return;
	v = manifest_member(p, o, "parent", json_type_object);
	m->parent = manifest_string(p, v, "path");
	m->parent_checksum = manifest_hash(p, v, "checksum");
	if (p->r == 0 && !image_parent_is_valid(m->parent))
		manifest_bad(p, "parent", "its path is not a relative one");
}

static void get_containers(struct manifest_parse *p, struct json_object *o, struct image_manifest *m)
{
	struct json_object *a = manifest_member(p, o, "containers", json_type_array);
	struct json_object *c = a ? json_object_array_get_idx(a, 0) : NULL;

	m->container_count = manifest_u64(p, o, "container_count", UINT32_MAX);
	if (!c || m->container_count != json_object_array_length(a)) {
		manifest_bad(p, "containers", "not as many as container_count says");
		return;
	}
	m->container_name = manifest_string(p, c, "name");
	m->container_id = manifest_string(p, c, "id");
}

static void get_attempts(struct manifest_parse *p, struct json_object *o, struct image_manifest *m)
{
	struct json_object *v;

	if (!json_object_object_get_ex(o, "attempts", NULL))
		return;
	v = manifest_member(p, o, "attempts", json_type_object);
	m->attempts = manifest_u64(p, v, "checkpoints", UINT64_MAX);
	m->failed_attempts = manifest_u64(p, v, "failed", UINT64_MAX);
}

static void get_all(
	struct manifest_parse *p, struct json_object *o, struct image_manifest *m, struct image_files *f)
{
	struct json_object *v;

	m->format_version = IMAGE_FORMAT_VERSION;
	m->engine = manifest_string(p, o, "engine");
	m->stasis_version = manifest_string(p, o, "stasis_version");
	get_containers(p, o, m);
	m->architecture = manifest_string(p, o, "architecture");
	m->kernel = manifest_string(p, o, "kernel");
	m->page_size = manifest_u64(p, o, "page_size", UINT32_MAX);
	m->created = manifest_string(p, o, "created");
	m->generation = manifest_u64(p, o, "generation", UINT64_MAX);
	get_attempts(p, o, m);
	get_parent(p, o, m);
	v = manifest_member(p, o, "cpu", json_type_object);
	m->xfeatures = manifest_u64(p, v, "xfeatures", UINT64_MAX);
	m->cpu_features = manifest_string(p, v, "features");
	if (v && json_object_object_get_ex(v, "layout", NULL))
		m->cpu_layout = manifest_string(p, v, "layout");
	v = manifest_member(p, o, "statistics", json_type_object);
	for (const struct image_statistic *st = image_statistic_table; v && st->name; st++)
		if ((st->in & IMAGE_STATISTIC_MANIFEST) &&
			(!(st->in & IMAGE_STATISTIC_OPTIONAL) ||
				json_object_object_get_ex(v, st->name, NULL)))
			*image_statistic(&m->statistics, st) = manifest_u64(p, v, st->name, UINT64_MAX);
	v = manifest_member(p, o, "files", json_type_object);
	f->checkpoint = get_file(p, v, IMAGE_CHECKPOINT, true);
	f->index = get_file(p, v, IMAGE_INDEX, true);
	f->pages = get_file(p, v, IMAGE_PAGES, false);
}

int image_manifest_parse(struct arena *a, const char *text, size_t len, struct image_manifest *ret,
	struct image_files *ret_files, struct error *e)
{
	_cleanup_(json_put_p) struct json_object *o = NULL;
	struct manifest_parse p = {.arena = a, .e = e};
	struct image_manifest m = {0};
	struct image_files f = {0};

	o = manifest_parse(&p, text, len, known_features);
	if (!o)
		return p.r;
	get_all(&p, o, &m, &f);
	manifest_check_machine(&p, m.architecture, m.page_size);
	if (p.r < 0)
		return p.r;
	m.checksum = image_manifest_checksum(text, len);
	*ret = m;
	*ret_files = f;
	return 0;
}
