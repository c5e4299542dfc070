/* SPDX-License-Identifier: Apache-2.0 */
/* events: one JSON line for each interval's statistics and for each OOM kill, until the container ends; of a sandbox with all that happens
 * in it, until the last container is deleted. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "cgroup/watch.h"
#include "cli/commands.h"
#include "linux/procfd.h"
#include "sandbox/checkpoint.h"
#include "sandbox/events.h"

struct options {
	bool stats, sandbox;
	const char *interval, *pressure;
};

static const struct cli_option table[] = {
	{"sandbox", 0, CLI_FLAG, offsetof(struct options, sandbox), NULL,
		"of all containers of the sandbox ID, or of that of container ID"},
	{"stats", 0, CLI_FLAG, offsetof(struct options, stats), NULL, "print the statistics once and end"},
	{"interval", 0, CLI_STRING, offsetof(struct options, interval), "TIME",
		"between statistics (5s, 500ms, 1m30s)"},
	{"memory-pressure", 0, CLI_STRING, offsetof(struct options, pressure), "low|medium|critical",
		"tell also when memory is short"},
	{NULL},
};

/* Go's durations, whole numbers only: "5s", "1m30s", "250ms". */
static int parse_interval(const char *s, int *ret_ms, struct error *e)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
	uint64_t total = 0;
	const char *at = s;

	while (*at) {
		size_t digits = strspn(at, "0123456789"), len, u = 0;
		char number[12];
		uint64_t n;

		len = strcspn(at + digits, "0123456789");
		while (u < ARRAY_SIZE(units) &&
			(strlen(units[u].unit) != len || memcmp(units[u].unit, at + digits, len) != 0))
			u++;
		if (!digits || digits >= sizeof(number) || u == ARRAY_SIZE(units))
			break;
		memcpy(number, at, digits);
		number[digits] = 0;
		if (cli_parse_number(number, INT32_MAX, &n) < 0)
			break;
		total += n * units[u].ms;
		at += digits + len;
	}
	if (*at || total == 0 || total > INT32_MAX)
		return error_set(
			e, -EINVAL, ERROR_USAGE, "invalid interval \"%s\" (like 5s, 500ms or 1m30s)", s);
	*ret_ms = (int)total;
	return 0;
}

/* As the kernel calls them. */
static int parse_level(const char *s, enum cgroup_pressure_level *ret, struct error *e)
{
	static const char *const names[] = {
		[CGROUP_PRESSURE_LOW] = "low",
		[CGROUP_PRESSURE_MEDIUM] = "medium",
		[CGROUP_PRESSURE_CRITICAL] = "critical",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(s, names[i]) == 0) {
			*ret = (enum cgroup_pressure_level)i;
			return 0;
		}
	return error_set(
		e, -EINVAL, ERROR_USAGE, "invalid memory pressure \"%s\" (low, medium or critical)", s);
}

static int print_stats(struct container *c, struct error *e)
{
	_cleanup_free_ char *data = NULL;
	int r = container_stats_json(c, &data, e);

	if (r < 0)
		return r;
	printf("{\"type\":\"stats\",\"id\":\"%s\",\"data\":%s}\n", c->id, data);
	return fflush(stdout) < 0 ? error_errno(e, -errno, "write to stdout") : 0;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* pidfds and watches: ready means the container's end and an OOM kill. A container without a memory cgroup is not
 * watched (its fd is negative, which poll(2) passes over). */
static int follow(struct container *c, int interval_ms, const char *pressure, struct error *e)
{
	_cleanup_(cgroup_watch_done) struct cgroup_watch oom = {.fd = -EBADF, .keep = -EBADF, .dir = -EBADF},
							 shortage = oom;
	_cleanup_close_ int pidfd = container_init_pidfd(c);
	struct error ignored = {0};
	int64_t next = now_ms() + interval_ms;
	enum cgroup_pressure_level level = CGROUP_PRESSURE_LOW;

	if (pressure) {
		int r = parse_level(pressure, &level, e);

		if (r == 0)
			r = cgroup_watch_pressure(&c->cgroup, level, &shortage, e);
		if (r < 0)
			return r;
	}
	if (cgroup_watch_oom(&c->cgroup, &oom, &ignored) < 0)
		log_debug("OOM kills are not watched: %s", ignored.message);
	for (;;) {
		struct pollfd p[] = {{.fd = pidfd, .events = POLLIN}, {.fd = oom.fd, .events = oom.events},
			{.fd = shortage.fd, .events = shortage.events}};
		int r = poll(p, ARRAY_SIZE(p), (int)MAX(next - now_ms(), (int64_t)0));

		if (r < 0 && errno != EINTR)
			return error_errno(e, -errno, "poll");
		if (r > 0 && p[1].revents)
			for (int n = cgroup_oom_kills(&oom); n > 0; n--)
				printf("{\"type\":\"oom\",\"id\":\"%s\"}\n", c->id);
		if (r > 0 && p[2].revents & shortage.events) {
			cgroup_watch_drain(&shortage);
			printf("{\"type\":\"memory-pressure\",\"id\":\"%s\",\"data\":{\"level\":\"%s\"}}\n",
				c->id, pressure);
		} else if (r > 0 && p[2].revents) {
			close_p(&shortage.fd); /* the cgroup is going */
		}
		fflush(stdout);
		if (r > 0 && p[0].revents)
			return 0;
		if (now_ms() >= next) {
			next += interval_ms;
			r = print_stats(c, e);
			if (r < 0) /* systemd removes the cgroup of one that has just ended */
				return pidfd_wait_exit(pidfd, 1000) == 1 ? 0 : r;
		}
	}
}

/* Ids and names need no backslash. */
static int print_event(void *arg, const struct sandbox_event *ev, struct error *e)
{
	printf("{\"type\":\"%s\",\"id\":\"%s\"", ev->type, ev->id);
	if (ev->name)
		printf(",\"name\":\"%s\"", ev->name);
	if (ev->data)
		printf(",\"data\":%s", ev->data);
	puts("}");
	return fflush(stdout) < 0 ? error_errno(e, -errno, "write to stdout") : 0;
}

static int run_sandbox(
	const char *root, const char *id, const struct options *o, int interval_ms, struct error *e)
{
	struct sandbox_events s = {root, id, interval_ms, .emit = print_event};

	if (o->pressure)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"--memory-pressure is of one container: name one, without --sandbox");
	return o->stats ? sandbox_statistics(&s, e) : sandbox_follow(&s, e);
}

static int run_container(
	const char *root, const char *id, const struct options *o, int interval_ms, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	int r = container_load(root, id, false, &c, e);

	if (r < 0)
		return r;
	if (container_status(c) == CONTAINER_STOPPED)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running: %s is stopped", c->id);
	return o->stats ? print_stats(c, e) : follow(c, interval_ms, o->pressure, e);
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	_cleanup_free_ char *sandbox = NULL;
	struct error none;
	int interval_ms = 5000, r = 0;

	if (o->interval)
		r = parse_interval(o->interval, &interval_ms, e);
	if (r < 0)
		return r;
	if (!o->sandbox) {
		r = run_container(g->root, args[0], o, interval_ms, e);
		/* Is it the name of a sandbox? */
		if (r != -ENOENT || e->kind != ERROR_STATE ||
			sandbox_named(g->root, args[0], &sandbox, &none) != 0)
			return r;
		return run_sandbox(g->root, sandbox, o, interval_ms, e);
	}
	r = sandbox_named(g->root, args[0], &sandbox, e);
	if (r == 1)
		return error_set(e, -ENOENT, ERROR_STATE,
			"there is no sandbox %s, and no container of that id in one", args[0]);
	return r < 0 ? r : run_sandbox(g->root, sandbox, o, interval_ms, e);
}

const struct cli_command cmd_events = {
	.name = "events",
	.arguments = "ID",
	.summary = "print statistics and OOM kills of a container, or all that happens in a sandbox, as JSON "
		   "lines",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
