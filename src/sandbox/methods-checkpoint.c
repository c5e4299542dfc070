/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint of the sandbox, or of one container of it alone: by a worker, whose end by SIGTERM (the client is gone) is as Ctrl-C of
 * the command.
 */
#include "base/error.h"
#include "sandbox/checkpoint.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/supervisor.h"

static void add_obstacles(struct json_object *list, const char *name, const struct preflight_report *r)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct obstacle *o = &r->obstacles[i];
		struct json_object *one = json_object_new_object();

		json_add_string(one, "container", name);
		json_object_object_add(one, "pid", json_object_new_int(o->pid));
		if (o->fd >= 0)
			json_object_object_add(one, "fd", json_object_new_int(o->fd));
		json_add_string(one, "kind", o->kind);
		json_add_string(one, "object", o->object);
		json_add_string(one, "reason", o->reason);
		json_add_string(one, "remedy", o->remedy);
		json_object_array_add(list, one);
	}
}

/* All that stands in the way, if anything does. */
static int failed(struct call *c, struct json_object *obstacles, struct error *e)
{
	struct json_object *o;

	if (json_object_array_length(obstacles) == 0) {
		json_object_put(obstacles);
		return e->code;
	}
	o = json_object_new_object();
	json_add_string(o, "message", e->message);
	json_object_object_add(o, "obstacles", obstacles);
	(void)call_error(c, SANDBOX_INTERFACE ".CannotCheckpoint", o);
	return e->code;
}

static int get_packing(struct call *c, struct image_packing *ret, struct error *e)
{
	const char *compress = call_string(c, "compress");

	ret->dedup = call_bool(c, "dedup");
	if (!compress)
		return 0;
	if (image_codec_parse(compress, &ret->codec, &ret->level) < 0)
		return call_invalid(
			c, "compress", e, "none, lz4, zstd or zstd:LEVEL (1 to 19), not %.40s", compress);
	return 0;
}

static int get_options(struct call *c, struct checkpoint_options *o, struct error *e)
{
	int64_t deadline = call_int(c, "deadline", 0), patience = call_int(c, "patience", 0);
	int r = call_path(c, "imagePath", &o->image_path, e);

	if (r == 0)
		r = call_path(c, "workPath", &o->work_path, e);
	if (r < 0)
		return r;
	if (deadline < 0 || deadline > 86400000)
		return call_invalid(c, "deadline", e, "milliseconds from 1 to 86400000; 0: none");
	if (patience < 0 || patience > 86400000)
		return call_invalid(c, "patience", e, "milliseconds from 1 to 86400000; 0: a second");
	o->deadline_ms = deadline;
	o->patience_ms = patience;
	o->progress = PROGRESS_NONE;
	o->leave_running = call_bool(c, "leaveRunning");
	o->tcp_established = call_bool(c, "tcpEstablished");
	o->tcp_close = call_bool(c, "tcpClose");
	o->tcp_skip_in_flight = call_bool(c, "tcpSkipInFlight");
	o->ext_unix_sk = call_bool(c, "externalUnixSockets");
	o->file_locks = call_bool(c, "fileLocks");
	o->pre_copy = call_bool(c, "preCopy");
	if (call_bool(c, "emptyNetwork"))
		o->empty_ns = "network";
	if (cgroups_mode_parse(call_string(c, "cgroups"), &o->cgroups, e) < 0)
		return call_invalid(c, "cgroups", e, "soft, full, strict or ignore");
	return get_packing(c, &o->packing, e);
}

static int done(struct call *c, const struct image_statistics *s, struct json_object *ids)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "stoppedTime", json_object_new_uint64(s->frozen_us));
	json_object_object_add(o, "totalTime", json_object_new_uint64(s->total_us));
	json_object_object_add(o, "containers", ids);
	return call_reply(c, o, false);
}

static int checkpoint_whole(struct call *c, const struct checkpoint_options *o, struct error *e)
{
	struct json_object *list = json_object_new_array();
	struct sandbox_checkpoint s;
	int r = sandbox_checkpoint(c->supervisor->root, c->supervisor->id, o, &s, e);

	for (unsigned i = 0; i < s.n; i++)
		if (r < 0)
			add_obstacles(list, s.members[i].c->name, &s.members[i].report);
		else
			json_object_array_add(list, json_object_new_string(s.members[i].c->id));
	r = r < 0 ? failed(c, list, e) : done(c, &s.stats, list);
	sandbox_checkpoint_done(&s);
	return r;
}

static int checkpoint_one(struct call *c, const struct checkpoint_options *o, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	struct preflight_report report = {};
	struct image_statistics stats = {};
	struct json_object *list;
	int r = call_container_named(c, true, &k, e);

	if (r == 0 && o->deadline_ms)
		r = call_invalid(c, "deadline", e, "only for the whole sandbox, without \"id\"");
	if (r < 0)
		return r;
	r = checkpoint_run(k, o, &report, &stats, e);
	list = json_object_new_array();
	if (r < 0) {
		add_obstacles(list, k->name, &report);
		r = failed(c, list, e);
		preflight_report_done(&report);
		return r;
	}
	call_finish();
	json_object_array_add(list, json_object_new_string(k->id));
	if (!o->leave_running)
		r = container_delete(k, true, e);
	if (r == 0)
		return done(c, &stats, list);
	json_object_put(list);
	return r;
}

static int checkpoint(struct call *c, struct error *e)
{
	struct checkpoint_options o = {};
	int r = call_no_fds(c, e);

	if (r == 0)
		r = get_options(c, &o, e);
	if (r < 0)
		return r;
	return call_string(c, "id") ? checkpoint_one(c, &o, e) : checkpoint_whole(c, &o, e);
}

const struct method checkpoint_methods[] = {
	{SANDBOX_INTERFACE, "Checkpoint", checkpoint, METHOD_WORKER},
	{},
};
