/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/commands.h"

static const struct cli_option none[] = {{NULL}};

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	_cleanup_free_ char *json = NULL;
	enum container_status s;
	struct oci_state state;
	int r;

	r = container_load(g->root, args[0], false, &c, e);
	if (r < 0)
		return r;
	s = container_status(c);
	if (container_load_spec(c, NULL) < 0)
		c->spec = NULL; /* killed before config.json was there */
	state = (struct oci_state){
		.oci_version = c->spec ? c->spec->oci_version : NULL,
		.id = c->id,
		.status = container_status_name(s),
		.bundle = c->bundle ? c->bundle : "",
		.pid = s == CONTAINER_STOPPED ? 0 : c->init_pid,
		.annotations = c->spec ? c->spec->annotations : NULL,
		.n_annotations = c->spec ? c->spec->n_annotations : 0,
		.rootfs = c->spec && c->spec->rootfs ? c->spec->rootfs : "",
		.created = c->created ? c->created : "",
		.owner = "",
	};
	r = oci_state_json(&state, true, &json);
	if (r < 0)
		return error_errno(e, r, "state");
	puts(json);
	return 0;
}

const struct cli_command cmd_state = {
	.name = "state",
	.arguments = "ID",
	.summary = "print the state of a container as JSON",
	.options = none,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
