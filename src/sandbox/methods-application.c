/* SPDX-License-Identifier: Apache-2.0 */
/* What a container is told of its checkpoints and restores (docs/application.md), for others. */
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"

static int attempts(struct call *c, struct error *e)
{
	const char *id = call_string(c, "id");
	struct json_object *o;
	struct member *m;
	int r = supervisor_find(c->supervisor, id, &m, e);

	if (r == -ENOENT)
		return call_no_container(c, id, e);
	if (r < 0)
		return r;
	container_read_attempts(m->c);
	o = json_object_new_object();
	json_object_object_add(o, "generation", json_object_new_uint64(m->c->generation));
	json_object_object_add(o, "restored", json_object_new_boolean(m->c->generation > 0));
	json_object_object_add(o, "checkpoints", json_object_new_uint64(m->c->attempts.checkpoints));
	json_object_object_add(o, "failed", json_object_new_uint64(m->c->attempts.failed));
	return call_reply(c, o, false);
}

const struct method application_methods[] = {
	{SANDBOX_INTERFACE, "Attempts", attempts},
	{},
};
