/* SPDX-License-Identifier: Apache-2.0 */
/* Methods that the supervisor answers from what it knows: State, List, Wait. */
#include <stdlib.h>
#include <malloc.h>
#include <string.h>
#include <sys/wait.h>

#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/supervisor-priv.h"

#define SANDBOX "io.stasis.Sandbox"

static int not_found(struct call *c, const char *id, const struct error *e)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "id", id);
	json_add_string(o, "message", e->message);
	return call_error(c, SANDBOX ".ContainerNotFound", o);
}

/* The state document but for status and pid: config.json is parsed once. */
static int describe(struct member *m, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	int r;

	if (m->about)
		return 0;
	r = container_state_json(m->c, &text, e);
	if (r < 0)
		return r;
	spec_free(take_ptr(m->c->spec));
	m->about = json_tokener_parse(text);
	malloc_trim(0);
	return m->about ? 0 : error_errno(e, -ENOMEM, "state of container %s", m->id);
}

static struct json_object *state_of(struct member *m)
{
	struct json_object *o = json_object_new_object();
	enum container_status s = member_status(m);

	json_object_object_foreach(m->about, key, value) if (!strcmp(key, "status"))
		json_add_string(o, key, container_status_name(s));
	else if (!strcmp(key, "pid")) json_object_object_add(
		o, key, json_object_new_int(s == CONTAINER_STOPPED ? 0 : m->process.pid));
	else json_object_object_add(o, key, json_object_get(value));
	return o;
}

static int state(struct call *c, struct error *e)
{
	const char *id = call_string(c, "id");
	struct json_object *o;
	struct member *m;
	int r = supervisor_find(c->supervisor, id, &m, e);

	if (r == -ENOENT)
		return not_found(c, id, e);
	if (r == 0)
		r = describe(m, e);
	if (r < 0)
		return r;
	o = json_object_new_object();
	json_object_object_add(o, "state", state_of(m));
	return call_reply(c, o, false);
}

/* As sandbox_open() sorts them. */
static int by_name(const void *a, const void *b)
{
	const struct member *x = *(struct member *const *)a, *y = *(struct member *const *)b;
	int root = !strcmp(y->name, CONTAINER_NAME_OF_ROOT) - !strcmp(x->name, CONTAINER_NAME_OF_ROOT);

	return root ? root : strcmp(x->name, y->name);
}

static struct json_object *row(struct member *m)
{
	struct json_object *o = json_object_new_object();
	enum container_status s = member_status(m);

	json_add_string(o, "id", m->id);
	json_add_string(o, "name", m->name);
	json_add_string(o, "status", container_status_name(s));
	json_object_object_add(
		o, "hostPid", json_object_new_int(s == CONTAINER_STOPPED ? 0 : m->process.pid));
	return o;
}

static int list(struct call *c, struct error *e)
{
	struct json_object *o = json_object_new_object(), *rows = json_object_new_array();
	_cleanup_free_ struct member **sorted = NULL;
	struct supervisor *s = c->supervisor;
	struct member *found;
	size_t n = 0;

	members_look(s);
	for (struct member *m = s->members; m; m = m->next)
		n++;
	sorted = calloc(n + 1, sizeof(struct member *));
	n = 0;
	for (struct member *m = s->members; m && sorted; m = m->next)
		if (supervisor_find(s, m->id, &found, e) == 0)
			sorted[n++] = found;
	if (n)
		qsort(sorted, n, sizeof(*sorted), by_name);
	for (size_t i = 0; i < n; i++)
		json_object_array_add(rows, row(sorted[i]));
	json_add_string(o, "sandbox", s->id);
	json_object_object_add(o, "containers", rows);
	return call_reply(c, o, false);
}

/* ---- Wait ---- */

struct waiting {
	struct process_waiter waiter;
	struct process *process;
	struct call *call;
};

int call_reply_exit(struct call *c, const char *id, bool known, int status)
{
	struct json_object *o = json_object_new_object(), *exit = json_object_new_object();

	if (!known) {
		json_add_string(o, "id", id);
		json_add_string(o, "message", "it has ended, but nobody saw how");
		json_object_put(exit);
		return call_error(c, SANDBOX ".ExitUnknown", o);
	}
	if (WIFSIGNALED(status))
		json_object_object_add(exit, "signal", json_object_new_int(WTERMSIG(status)));
	else
		json_object_object_add(exit, "code", json_object_new_int(WEXITSTATUS(status)));
	json_object_object_add(exit, "status", json_object_new_int(status));
	json_object_object_add(o, "exit", exit);
	return call_reply(c, o, false);
}

static int reply_exit(struct call *c, const char *id, const struct process *p)
{
	return call_reply_exit(c, id, p->status_known, p->status);
}

static void wait_over(struct process_waiter *w, const struct process *p)
{
	struct waiting *x = (struct waiting *)w;
	struct call *c = x->call;

	free(x);
	(void)reply_exit(c, call_string(c, "id"), p);
}

static void wait_cancelled(struct call *c, void *arg)
{
	struct waiting *x = arg;

	process_unwait(x->process, &x->waiter);
	free(x);
}

int call_wait_process(struct call *c, const char *id, struct process *p, struct error *e)
{
	struct waiting *x;

	process_look(p);
	if (p->exited)
		return reply_exit(c, id, p);
	x = calloc(1, sizeof(*x));
	if (!x)
		return error_errno(e, -ENOMEM, "wait");
	*x = (struct waiting){{.exited = wait_over}, p, c};
	c->cancelled = wait_cancelled;
	c->arg = x;
	process_wait(p, &x->waiter);
	return CALL_LATER;
}

static int wait_(struct call *c, struct error *e)
{
	const char *id = call_string(c, "id");
	struct member *m;
	int r = supervisor_find(c->supervisor, id, &m, e);

	if (r == -ENOENT)
		return not_found(c, id, e);
	if (r < 0)
		return r;
	if (!m->process.pid)
		return error_set(e, -ESRCH, ERROR_STATE, "container %s has no process (yet)", id);
	return call_wait_process(c, id, &m->process, e);
}

const struct method state_methods[] = {
	{SANDBOX, "State", state},
	{SANDBOX, "List", list},
	{SANDBOX, "Wait", wait_},
	{},
};
