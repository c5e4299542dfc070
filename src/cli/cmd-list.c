/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/commands.h"

struct options {
	const char *format;
	bool quiet;
};

static const struct cli_option table[] = {
	{"format", 'f', CLI_STRING, offsetof(struct options, format), "table|json", "output format"},
	{"quiet", 'q', CLI_FLAG, offsetof(struct options, quiet), NULL, "print only the ids"},
	{NULL},
};

static int by_id(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_container(const struct dirent *d)
{
	return d->d_name[0] != '.' && d->d_name[0] != '@';
}

static void owner_name(uid_t uid, char *buf, size_t size)
{
	char line[512];
	FILE *f =
		fopen("/etc/passwd", "re"); /* getpwuid() would drag the name service into a static program */

	snprintf(buf, size, "#%u", uid);
	while (f && fgets(line, sizeof(line), f)) {
		char *rest = line, *name = strsep(&rest, ":"), *number;
		uint64_t n;

		strsep(&rest, ":");
		number = strsep(&rest, ":");
		if (number && cli_parse_number(number, UINT32_MAX, &n) == 0 && n == uid)
			snprintf(buf, size, "%s", name);
	}
	if (f)
		fclose(f);
}

static struct json_object *to_json(struct container *c, enum container_status s, const char *owner)
{
	struct json_object *o = json_object_new_object(), *annotations;

	json_object_object_add(
		o, "ociVersion", json_object_new_string(c->spec ? c->spec->oci_version : OCI_VERSION));
	json_object_object_add(o, "id", json_object_new_string(c->id));
	json_object_object_add(o, "pid", json_object_new_int(s == CONTAINER_STOPPED ? 0 : c->init_pid));
	json_object_object_add(o, "status", json_object_new_string(container_status_name(s)));
	json_object_object_add(o, "bundle", json_object_new_string(c->bundle ? c->bundle : ""));
	json_object_object_add(
		o, "rootfs", json_object_new_string(c->spec && c->spec->rootfs ? c->spec->rootfs : ""));
	json_object_object_add(o, "created", json_object_new_string(c->created ? c->created : ""));
	if (c->spec && c->spec->n_annotations) {
		annotations = json_object_new_object();
		for (size_t i = 0; i < c->spec->n_annotations; i++)
			json_object_object_add(annotations, c->spec->annotations[i].name,
				json_object_new_string(c->spec->annotations[i].value));
		json_object_object_add(o, "annotations", annotations);
	}
	json_object_object_add(o, "owner", json_object_new_string(owner));
	return o;
}

static void print_row(struct container *c, struct json_object *array)
{
	enum container_status s = container_status(c);
	char owner[64];

	owner_name(c->owner, owner, sizeof(owner));
	if (array) {
		(void)!container_load_spec(c, NULL);
		json_object_array_add(array, to_json(c, s, owner));
		return;
	}
	printf("%-20s %-10d %-10s %-30s %-32s %s\n", c->id, s == CONTAINER_STOPPED ? 0 : c->init_pid,
		container_status_name(s), c->bundle ? c->bundle : "", c->created ? c->created : "", owner);
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	bool json = o->format && !strcmp(o->format, "json");
	struct json_object *array = NULL;
	struct dirent **names = NULL;
	int n;

	if (o->format && !json && strcmp(o->format, "table") != 0)
		return error_set(e, -EINVAL, ERROR_USAGE, "invalid format option \"%s\"", o->format);
	n = scandir(g->root, &names, is_container, by_id);
	if (n < 0 && errno != ENOENT)
		return error_errno(e, -errno, "read %s", g->root);
	if (json && !o->quiet)
		array = json_object_new_array();
	else if (!o->quiet)
		printf("%-20s %-10s %-10s %-30s %-32s %s\n", "ID", "PID", "STATUS", "BUNDLE", "CREATED",
			"OWNER");
	for (int i = 0; i < n; i++) {
		_cleanup_(container_free_p) struct container *c = NULL;
		struct error one;

		if (container_load(g->root, names[i]->d_name, false, &c, &one) < 0)
			log_warning("%s", one.message);
		else if (o->quiet)
			puts(c->id);
		else
			print_row(c, array);
		free(names[i]);
	}
	free(names);
	if (array)
		puts(n > 0 ? json_object_to_json_string_ext(
				     array, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
			   : "null");
	json_object_put(array);
	return 0;
}

const struct cli_command cmd_list = {
	.name = "list",
	.arguments = "",
	.summary = "list the containers",
	.options = table,
	.max_args = 0,
	.run = run,
};
