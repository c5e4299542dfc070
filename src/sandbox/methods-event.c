/* SPDX-License-Identifier: Apache-2.0 */
/* Event: statistics once, or as a stream with OOM kills until the container ends; of the whole sandbox with all that happens in it. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "cgroup/watch.h"
#include "linux/procfd.h"
#include "sandbox/events.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/metrics.h"

enum { INTERVAL_MS = 5000, INTERVAL_MIN_MS = 10 };

static int reply(
	struct call *c, const struct container *k, const char *type, struct json_object *data, bool continues)
{
	struct json_object *o = json_object_new_object();

	json_add_string(o, "id", k->id);
	json_add_string(o, "type", type);
	if (data)
		json_object_object_add(o, "data", data);
	return call_reply(c, o, continues);
}

static int reply_stats(struct call *c, struct container *k, bool continues, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	struct json_object *data;
	int r = container_stats_json(k, &text, e);

	if (r < 0)
		return r;
	data = json_tokener_parse(text);
	if (!data)
		return error_set(e, -EBADMSG, ERROR_INTERNAL, "statistics of container %s", k->id);
	r = reply(c, k, "stats", data, continues);
	return r < 0 ? error_errno(e, r, "reply") : 0;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* One that has just ended has no statistics any more. */
static int stats_or_end(struct call *c, struct container *k, int pidfd, struct error *e)
{
	int r = reply_stats(c, k, true, e);

	return r < 0 && !c->replied && pidfd_wait_exit(pidfd, 1000) == 1 ? 0 : r;
}

/* A container without a memory cgroup is not watched: its descriptor is negative, which poll(2) passes over. */
static int follow(struct call *c, struct container *k, int pidfd, int64_t interval_ms, struct error *e)
{
	_cleanup_(cgroup_watch_done) struct cgroup_watch oom = {.fd = -EBADF, .keep = -EBADF, .dir = -EBADF};
	struct error ignored = {0};
	int64_t next = now_ms() + interval_ms;
	int r;

	if (cgroup_watch_oom(&k->cgroup, &oom, &ignored) < 0)
		log_debug("OOM kills are not watched: %s", ignored.message);
	r = reply_stats(c, k, true, e);
	while (r == 0) {
		struct pollfd p[] = {{.fd = pidfd, .events = POLLIN}, {.fd = oom.fd, .events = oom.events}};

		if (poll(p, ARRAY_SIZE(p), (int)MAX(MIN(next - now_ms(), INT32_MAX), (int64_t)0)) < 0 &&
			errno != EINTR)
			return error_errno(e, -errno, "poll");
		for (int n = p[1].revents ? cgroup_oom_kills(&oom) : 0; n > 0 && r == 0; n--)
			r = reply(c, k, "oom", NULL, true);
		if (p[0].revents)
			return reply(c, k, "exit", NULL, false);
		if (now_ms() >= next) {
			next = MAX(next + interval_ms, now_ms());
			r = stats_or_end(c, k, pidfd, e);
		}
	}
	return r;
}

/* Without "more" there is one reply: the total. */
static int pass_on(void *arg, const struct sandbox_event *ev, struct error *e)
{
	struct call *c = arg;
	struct json_object *o;
	int r;

	if (!c->more && strcmp(ev->type, "total") != 0)
		return 0;
	o = json_object_new_object();
	json_add_string(o, "id", ev->id);
	if (ev->name)
		json_add_string(o, "name", ev->name);
	json_add_string(o, "type", ev->type);
	if (ev->data)
		json_object_object_add(o, "data", json_tokener_parse(ev->data));
	r = call_reply(c, o, c->more && strcmp(ev->type, "end") != 0);
	return r < 0 ? error_errno(e, r, "reply") : 0;
}

static int event_of_sandbox(struct call *c, int64_t interval, struct error *e)
{
	struct sandbox_events s = {
		c->supervisor->root, c->supervisor->id, interval, .waits = true, .emit = pass_on, .arg = c};

	return c->more ? sandbox_follow(&s, e) : sandbox_statistics(&s, e);
}

static int get_interval(struct call *c, int64_t *ret, struct error *e)
{
	bool none = !call_string(c, "id") && call_int(c, "interval", INTERVAL_MS) == 0;

	*ret = call_int(c, "interval", INTERVAL_MS);
	if (!none && (*ret < INTERVAL_MIN_MS || *ret > INT32_MAX))
		return call_invalid(c, "interval", e, "%lld is not from %d to %d milliseconds",
			(long long)*ret, INTERVAL_MIN_MS, INT32_MAX);
	if (call_parameter(c, "interval") && !c->more)
		return call_invalid(c, "interval", e, "only with \"more\" the statistics come again");
	return 0;
}

static int event(struct call *c, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	_cleanup_close_ int pidfd = -EBADF;
	int64_t interval;
	int r = get_interval(c, &interval, e);

	if (r == 0)
		r = call_no_fds(c, e);
	if (r == 0 && !call_string(c, "id"))
		return event_of_sandbox(c, interval, e);
	if (r == 0)
		r = call_container_named(c, false, &k, e);
	if (r < 0)
		return r;
	pidfd = container_init_pidfd(k);
	if (pidfd < 0)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running: %s is stopped", k->id);
	return c->more ? follow(c, k, pidfd, interval, e) : reply_stats(c, k, false, e);
}

static int metrics(struct call *c, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	struct json_object *o;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	int r = out ? call_no_fds(c, e) : error_errno(e, -ENOMEM, "metrics");

	if (r == 0)
		r = metrics_print(c->supervisor->root, c->supervisor->id, out, e);
	if (out && fclose(out) != 0 && r == 0)
		r = error_errno(e, -ENOMEM, "metrics");
	if (r < 0)
		return r;
	o = json_object_new_object();
	json_add_string(o, "text", text);
	return call_reply(c, o, false);
}

const struct method event_methods[] = {
	{SANDBOX_INTERFACE, "Event", event, METHOD_WORKER},
	{SANDBOX_INTERFACE, "Metrics", metrics, METHOD_WORKER},
	{},
};
