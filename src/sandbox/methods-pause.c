/* SPDX-License-Identifier: Apache-2.0 */
/* Pause and Resume of all containers of the sandbox, or of none: the locks of all are held. */
#include <errno.h>

#include "base/log.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/sandbox.h"

struct members {
	struct container **of; /* those that there are */
	bool *changed;	       /* by this call */
	size_t n;
};

static void members_done(struct members *m)
{
	for (size_t i = 0; i < m->n; i++)
		container_free(m->of[i]);
	free(m->of);
	free(m->changed);
}

/* Always in the same order, so that two such calls do not wait for each other. */
static int lock_all(struct call *c, struct members *m, struct error *e)
{
	_cleanup_(sandbox_free_p) struct sandbox *s = NULL;
	int r = sandbox_open(c->supervisor->root, c->supervisor->id, &s, e);

	if (r < 0)
		return r;
	m->of = calloc(s->n_members + 1, sizeof(struct container *));
	m->changed = calloc(s->n_members + 1, sizeof(*m->changed));
	if (!m->of || !m->changed)
		return error_errno(e, -ENOMEM, "sandbox %s", s->id);
	for (size_t i = 0; i < s->n_members; i++) {
		r = call_container(c, s->members[i].id, true, &m->of[m->n], e);
		if (r < 0)
			return r;
		m->n++;
	}
	return 0;
}

static struct json_object *changed_ids(const struct members *m)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < m->n; i++)
		if (m->changed[i])
			json_object_array_add(list, json_object_new_string(m->of[i]->id));
	return list;
}

/* Does it with each container that is in one of two states; on failure those that were changed are put back. */
struct change {
	enum container_status from, or_from;
	int (*apply)(struct container *c, struct error *e);
	int (*put_back)(struct container *c, struct error *e);
	const char *none; /* what to say if there is none in these states */
};

static int change_all(struct members *m, const struct change *x, struct error *e)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++) {
		enum container_status s = container_status(m->of[i]);
		struct error later;
		int r;

		if (s != x->from && s != x->or_from)
			continue;
		r = x->apply(m->of[i], e);
		m->changed[i] = r == 0;
		n += r == 0;
		if (r == 0)
			continue;
		error_prefix(e, "container %s", m->of[i]->id);
		while (i-- > 0)
			if (m->changed[i] && x->put_back(m->of[i], &later) < 0)
				log_warning("container %s: %s", m->of[i]->id, later.message);
		return e->code;
	}
	return n ? 0 : error_set(e, -EINVAL, ERROR_STATE, "%s", x->none);
}

static int change(struct call *c, const struct change *x, struct error *e)
{
	_cleanup_(members_done) struct members m = {};
	struct json_object *o;
	int r = call_no_fds(c, e);

	if (r == 0)
		r = lock_all(c, &m, e);
	call_finish();
	if (r == 0)
		r = change_all(&m, x, e);
	if (r < 0)
		return r;
	o = json_object_new_object();
	json_object_object_add(o, "containers", changed_ids(&m));
	return call_reply(c, o, false);
}

static int pause_(struct call *c, struct error *e)
{
	static const struct change x = {CONTAINER_RUNNING, CONTAINER_CREATED, container_pause,
		container_resume, "no container of the sandbox runs: all are paused or stopped"};

	return change(c, &x, e);
}

static int resume(struct call *c, struct error *e)
{
	static const struct change x = {CONTAINER_PAUSED, CONTAINER_PAUSED, container_resume, container_pause,
		"no container of the sandbox is paused"};

	return change(c, &x, e);
}

const struct method pause_methods[] = {
	{SANDBOX_INTERFACE, "Pause", pause_, METHOD_WORKER},
	{SANDBOX_INTERFACE, "Resume", resume, METHOD_WORKER},
	{},
};
