/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inspect.c collects the records, inspect-model.c makes one JSON object of them, inspect-files.c does so for files.
 * The JSON is the output; text and HTML are drawn from that object too, so all three say the same.
 */
#pragma once

#include <json-c/json.h>

#include "image.pb-c.h"
#include "image/inspect.h"

/* The records by type; ids of files are looked up with inspect_file(). */
struct inspection {
	struct arena arena;
	struct image *image;
	const St__Container *container;
	const St__File **files; /* sorted by id */
	const St__Process **processes;
	const St__SharedMemory **shms;
	const St__Tmpfs **tmpfses;
	const St__Network *network; /* NULL: none */
	const St__Ipc **ipcs;
	const St__Mount **mounts;
	const St__Cgroup **cgroups;
	size_t n_files, n_processes, n_shms, n_tmpfses, n_ipcs, n_mounts, n_cgroups;
	bool out_of_memory; /* while the model was made: it is not complete */
};

/* inspect.c: fills it from the image; arena_done(). */
int inspect_collect(struct inspection *x, struct error *e) _must_check_;
void inspect_print_json(struct json_object *model, FILE *out);

/* NULL: there is none. */
const St__File *inspect_file(const struct inspection *x, uint64_t id);

/* Ways to fill an object; "value" is given away, and a failure is remembered in x. */
void inspect_add(struct inspection *x, struct json_object *o, const char *key, struct json_object *value);
void inspect_append(struct inspection *x, struct json_object *array, struct json_object *value);
void inspect_add_u64(struct inspection *x, struct json_object *o, const char *key, uint64_t v);
void inspect_add_i64(struct inspection *x, struct json_object *o, const char *key, int64_t v);
void inspect_add_bool(struct inspection *x, struct json_object *o, const char *key, bool v);
void inspect_add_hex(struct inspection *x, struct json_object *o, const char *key, uint64_t v);
/* A string of the image: made printable. "s" may be NULL. */
void inspect_add_string(struct inspection *x, struct json_object *o, const char *key, const char *s);
void inspect_add_bytes(
	struct inspection *x, struct json_object *o, const char *key, const void *s, size_t len);

/* inspect-model.c; NULL when out of memory. */
struct json_object *inspect_model(struct inspection *x);
/* Pages of an address space between two addresses. */
void inspect_count(const struct inspection *x, uint64_t space, uint64_t from, uint64_t to, uint64_t *ret_data,
	uint64_t *ret_zero);

/* inspect-files.c: "kind", "flags" and what is special to the kind. f may be NULL. */
void inspect_describe_file(struct inspection *x, struct json_object *o, const St__File *f);
/* Path of a file record, or a name for what it is. */
const char *inspect_file_name(const struct inspection *x, uint64_t id);

/* For the renderers: missing members are "", 0 and NULL. */
const char *inspect_str(struct json_object *o, const char *key);
uint64_t inspect_num(struct json_object *o, const char *key);
struct json_object *inspect_get(struct json_object *o, const char *key);
size_t inspect_len(struct json_object *array);
/* "4.1 MiB" */
const char *inspect_size(uint64_t bytes, char buf[16]);
/* What the text and the HTML say of a file beside its kind. */
void inspect_print_details(struct json_object *file, char *buf, size_t size);

void inspect_text(struct json_object *model, FILE *out);
void inspect_html(struct json_object *model, FILE *out);
void inspect_sandbox_html(struct json_object *model, FILE *out);
