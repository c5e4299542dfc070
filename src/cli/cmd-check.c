/* SPDX-License-Identifier: Apache-2.0 */
/* check: what stands in the way of a checkpoint, without stopping anything. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/engine.h"
#include "cli/commands.h"

struct options {
	struct checkpoint_options checkpoint;
	const char *format, *patience;
};

#define CP(member) offsetof(struct options, checkpoint.member)

/* Those of checkpoint that allow more. */
static const struct cli_option table[] = {
	{"format", 'f', CLI_STRING, offsetof(struct options, format), "text|json", "output format"},
	{"tcp-established", 0, CLI_FLAG, CP(tcp_established), NULL, "as for checkpoint"},
	{"tcp-skip-in-flight", 0, CLI_FLAG, CP(tcp_skip_in_flight), NULL, "as for checkpoint"},
	{"tcp-close", 0, CLI_FLAG, CP(tcp_close), NULL, "as for checkpoint"},
	{"ext-unix-sk", 0, CLI_FLAG, CP(ext_unix_sk), NULL, "as for checkpoint"},
	{"shell-job", 0, CLI_IGNORED_FLAG, 0, NULL, NULL},
	{"file-locks", 0, CLI_FLAG, CP(file_locks), NULL, "as for checkpoint"},
	{"patience", 0, CLI_STRING, offsetof(struct options, patience), "SECONDS|MILLISECONDSms",
		"as for checkpoint"},
	{"empty-ns", 0, CLI_STRING, CP(empty_ns), "network", "as for checkpoint"},
	{NULL},
};

static void print_text(const struct container *c, const struct preflight_report *r)
{
	if (r->n == 0)
		printf("container \"%s\" can be checkpointed\n", c->id);
	for (size_t i = 0; i < r->n; i++) {
		const struct obstacle *o = &r->obstacles[i];

		if (o->pid && o->fd >= 0)
			printf("process %d fd %d: ", o->pid, o->fd);
		else if (o->pid)
			printf("process %d: ", o->pid);
		printf("%s: %s\n\treason: %s\n\tremedy: %s\n", o->kind, o->object, o->reason, o->remedy);
	}
}

static void print_json(const struct container *c, const struct preflight_report *r)
{
	struct json_object *top = json_object_new_object(), *list = json_object_new_array();

	for (size_t i = 0; i < r->n; i++) {
		const struct obstacle *o = &r->obstacles[i];
		struct json_object *j = json_object_new_object();

		if (o->pid)
			json_object_object_add(j, "pid", json_object_new_int(o->pid));
		if (o->fd >= 0)
			json_object_object_add(j, "fd", json_object_new_int(o->fd));
		json_object_object_add(j, "kind", json_object_new_string(o->kind));
		json_object_object_add(j, "object", json_object_new_string(o->object));
		json_object_object_add(j, "reason", json_object_new_string(o->reason));
		json_object_object_add(j, "remedy", json_object_new_string(o->remedy));
		json_object_array_add(list, j);
	}
	json_object_object_add(top, "id", json_object_new_string(c->id));
	json_object_object_add(top, "checkpointable", json_object_new_boolean(r->n == 0));
	json_object_object_add(top, "obstacles", list);
	puts(json_object_to_json_string_ext(top, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(top);
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	struct checkpoint_options checkpoint = o->checkpoint;
	bool json = o->format && !strcmp(o->format, "json");
	_cleanup_(container_free_p) struct container *c = NULL;
	struct preflight_report report = {};
	int r;

	if (o->format && !json && strcmp(o->format, "text") != 0)
		return error_set(
			e, -EINVAL, ERROR_USAGE, "invalid format option \"%s\": text or json", o->format);
	r = cli_parse_moment("patience", o->patience, &checkpoint.patience_ms, e);
	if (r == 0)
		r = container_load(g->root, args[0], true, &c, e);
	if (r == 0)
		r = checkpoint_preflight(c, &checkpoint, &report, e);
	if (r == 0) {
		(json ? print_json : print_text)(c, &report);
		r = report.n > 0;
	}
	preflight_report_done(&report);
	return r;
}

const struct cli_command cmd_check = {
	.name = "check",
	.arguments = "ID",
	.summary = "list what stands in the way of a checkpoint (exit status 1: something does)",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
