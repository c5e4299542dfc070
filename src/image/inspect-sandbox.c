/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image of a sandbox: each container in a line, and the objects that several of them have. What a container has in detail is in its own
 * image below containers/.
 */
#include <string.h>

#include "image/inspect-priv.h"
#include "image/sandbox.h"

enum { DEPTH_MAX = 32 }; /* of messages in each other: far more than the schema has */

struct shared_list {
	struct inspection *x;
	struct json_object *list;
	const char *container;
	size_t n; /* that this container has */
};

/* ---- what they share ---- */

/* The beginning of a key tells what it is. */
static const char *kind_of(const char *key)
{
	static const struct {
		const char *prefix, *kind;
	} kinds[] = {
		{"pipe-", "pipe or FIFO"},
		{"file-", "file"},
		{"desc-", "open file description"},
		{"unix-", "connection of unix sockets"},
		{"wait-", "unix socket that waits to be accepted"},
		{"volume-", "volume in memory"},
		{"ipc-", "ipc namespace"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strncmp(key, kinds[i].prefix, strlen(kinds[i].prefix)))
			return kinds[i].kind;
	return "object";
}

static struct json_object *find_shared(struct json_object *list, struct json_object *key)
{
	for (size_t i = 0; i < inspect_len(list); i++) {
		struct json_object *o = json_object_array_get_idx(list, i);

		if (json_object_equal(inspect_get(o, "key"), key))
			return o;
	}
	return NULL;
}

static struct json_object *new_shared(struct shared_list *s, const St__Shared *m)
{
	struct json_object *o = json_object_new_object();

	inspect_add_string(s->x, o, "key", m->key);
	inspect_add_string(s->x, o, "kind", kind_of(m->key));
	inspect_add(s->x, o, "containers", json_object_new_array());
	return o;
}

static bool has_name(struct json_object *names, const char *name)
{
	for (size_t i = 0; i < inspect_len(names); i++)
		if (!strcmp(json_object_get_string(json_object_array_get_idx(names, i)), name))
			return true;
	return false;
}

static void add_shared(struct shared_list *s, const St__Shared *m)
{
	struct json_object *one = new_shared(s, m), *o = find_shared(s->list, inspect_get(one, "key")),
			   *names;

	if (!o)
		inspect_append(s->x, s->list, json_object_get(o = one));
	names = inspect_get(o, "containers");
	if (!has_name(names, s->container)) {
		inspect_append(s->x, names, json_object_new_string(s->container));
		s->n++;
	}
	if (m->owner)
		inspect_add_string(s->x, o, "owner", s->container);
	json_object_put(one);
}

/* Where such a message can be in a record is the schema's business. */
static void look_for_shared(struct shared_list *s, const ProtobufCMessage *m, unsigned depth);

static void look_at_message(struct shared_list *s, const ProtobufCMessage *m, unsigned depth)
{
	if (m && m->descriptor == &st__shared__descriptor)
		add_shared(s, (const St__Shared *)m);
	else if (m && depth < DEPTH_MAX)
		look_for_shared(s, m, depth + 1);
}

static void look_for_shared(struct shared_list *s, const ProtobufCMessage *m, unsigned depth)
{
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		const char *base = (const char *)m;
		ProtobufCMessage *const *at = (ProtobufCMessage *const *)(base + f->offset);

		if (f->type != PROTOBUF_C_TYPE_MESSAGE)
			continue;
		if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
			*(const uint32_t *)(base + f->quantifier_offset) != f->id)
			continue;
		if (f->label != PROTOBUF_C_LABEL_REPEATED) {
			look_at_message(s, *at, depth);
			continue;
		}
		for (size_t k = 0; k < *(const size_t *)(base + f->quantifier_offset); k++)
			look_at_message(s, ((ProtobufCMessage *const *)*at)[k], depth);
	}
}

/* ---- the model ---- */

static const char *command_of(const struct inspection *x)
{
	const St__Process *p = x->n_processes ? x->processes[0] : NULL;

	return p && p->n_threads ? p->threads[0]->comm : "";
}

static struct json_object *describe_container(struct inspection *x, const struct image_sandbox_member *m,
	struct image *image, struct json_object *shared, struct error *e)
{
	struct inspection own = {.image = image};
	const struct image_manifest *manifest = image_manifest(image);
	struct shared_list list = {x, shared, m->name, 0};
	struct json_object *o = json_object_new_object();
	const ProtobufCMessage *record;
	enum image_record_type type;
	struct image_sizes sizes;
	char directory[300];
	size_t pos = 0;

	if (inspect_collect(&own, e) < 0) {
		arena_done(&own.arena);
		json_object_put(o);
		return NULL;
	}
	while (image_next_record(image, &pos, &type, &record, e) == 1)
		look_for_shared(&list, record, 0);
	image_sizes(image, &sizes);
	snprintf(directory, sizeof(directory), IMAGE_CONTAINERS "/%s", m->name);
	inspect_add_string(x, o, "name", m->name);
	inspect_add_string(x, o, "id", m->id);
	inspect_add_string(x, o, "directory", directory);
	inspect_add_u64(x, o, "generation", m->generation);
	inspect_add_string(x, o, "hostname", own.container ? own.container->hostname : "");
	inspect_add_string(x, o, "command", command_of(&own));
	inspect_add_u64(x, o, "processes", own.n_processes);
	inspect_add_u64(x, o, "files", own.n_files);
	inspect_add_u64(x, o, "memory_bytes", sizes.memory);
	inspect_add_u64(x, o, "image_bytes", sizes.files);
	inspect_add_u64(x, o, "frozen_us", manifest->statistics.frozen_us);
	inspect_add_u64(x, o, "shared_objects", list.n);
	arena_done(&own.arena);
	return o;
}

static struct json_object *describe_image(struct inspection *x, const struct image_sandbox *s)
{
	struct json_object *o = json_object_new_object();

	inspect_add_u64(x, o, "format_version", IMAGE_FORMAT_VERSION);
	inspect_add_string(x, o, "stasis_version", s->stasis_version);
	inspect_add_string(x, o, "architecture", s->architecture);
	inspect_add_string(x, o, "kernel", s->kernel);
	inspect_add_string(x, o, "created", s->created);
	inspect_add_u64(x, o, "stopped_us", s->stopped_us);
	inspect_add_u64(x, o, "total_us", s->total_us);
	return o;
}

static struct json_object *sandbox_model(struct inspection *x, const struct image_whole *w, struct error *e)
{
	struct json_object *o = json_object_new_object(), *sandbox = json_object_new_object(),
			   *list = json_object_new_array(), *shared = json_object_new_array();

	inspect_add(x, o, "image", describe_image(x, w->sandbox));
	inspect_add_string(x, sandbox, "id", w->sandbox->id);
	inspect_add_u64(x, sandbox, "container_count", w->sandbox->n_members);
	inspect_add(x, o, "sandbox", sandbox);
	inspect_add(x, o, "containers", list);
	inspect_add(x, o, "shared", shared);
	for (size_t i = 0; i < w->sandbox->n_members; i++) {
		struct json_object *one =
			describe_container(x, &w->sandbox->members[i], w->images[i], shared, e);

		if (!one) {
			json_object_put(o);
			return NULL;
		}
		inspect_append(x, list, one);
	}
	return o;
}

/* ---- text ---- */

static void join_names(struct json_object *names, char *buf, size_t size)
{
	size_t at = 0;

	*buf = '\0';
	for (size_t i = 0; i < inspect_len(names) && at < size; i++)
		at += snprintf(buf + at, size - at, "%s%s", i ? ", " : "",
			json_object_get_string(json_object_array_get_idx(names, i)));
}

static void sandbox_text(struct json_object *model, FILE *out)
{
	struct json_object *i = inspect_get(model, "image"), *list = inspect_get(model, "containers"),
			   *shared = inspect_get(model, "shared");
	char names[600], memory[16], size[16];

	fprintf(out, "Sandbox %s, %s containers\n", inspect_str(inspect_get(model, "sandbox"), "id"),
		inspect_str(inspect_get(model, "sandbox"), "container_count"));
	fprintf(out, "Checkpoint of %s by stasis %s, %s, Linux %s; all containers stood still for %.2f ms\n",
		inspect_str(i, "created"), inspect_str(i, "stasis_version"), inspect_str(i, "architecture"),
		inspect_str(i, "kernel"), inspect_num(i, "stopped_us") / 1000.0);
	fprintf(out, "\n%-20s %-24s %10s %9s %6s %8s %8s %7s  %s\n", "CONTAINER", "ID", "GENERATION",
		"PROCESSES", "FILES", "MEMORY", "IMAGE", "SHARED", "COMMAND");
	for (size_t k = 0; k < inspect_len(list); k++) {
		struct json_object *c = json_object_array_get_idx(list, k);

		fprintf(out, "%-20s %-24s %10s %9s %6s %8s %8s %7s  %s\n", inspect_str(c, "name"),
			inspect_str(c, "id"), inspect_str(c, "generation"), inspect_str(c, "processes"),
			inspect_str(c, "files"), inspect_size(inspect_num(c, "memory_bytes"), memory),
			inspect_size(inspect_num(c, "image_bytes"), size), inspect_str(c, "shared_objects"),
			inspect_str(c, "command"));
	}
	if (inspect_len(shared))
		fprintf(out, "\nShared\n");
	for (size_t k = 0; k < inspect_len(shared); k++) {
		struct json_object *s = json_object_array_get_idx(shared, k);

		join_names(inspect_get(s, "containers"), names, sizeof(names));
		fprintf(out, "  %s %s: %s", inspect_str(s, "kind"), inspect_str(s, "key"), names);
		if (inspect_get(s, "owner"))
			fprintf(out, " (in the image of %s)", inspect_str(s, "owner"));
		fputc('\n', out);
	}
	fprintf(out, "\nOne container in detail: stasis inspect DIR/" IMAGE_CONTAINERS "/NAME\n");
}

int image_inspect_whole(
	const struct image_whole *w, enum image_inspect_format format, FILE *out, struct error *e)
{
	struct inspection x = {};
	struct json_object *model = sandbox_model(&x, w, e);

	if (!model)
		return e->code;
	if (x.out_of_memory) {
		json_object_put(model);
		return error_errno(e, -ENOMEM, "inspect");
	}
	if (format == IMAGE_INSPECT_TEXT)
		sandbox_text(model, out);
	else if (format == IMAGE_INSPECT_HTML)
		inspect_sandbox_html(model, out);
	else
		inspect_print_json(model, out);
	json_object_put(model);
	return fflush(out) != 0 || ferror(out) ? error_errno(e, -errno, "writing") : 0;
}
