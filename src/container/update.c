/* SPDX-License-Identifier: Apache-2.0 */
/* update and statistics: what is done to and read from a living container's cgroup and network. */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "cgroup/stats.h"
#include "container/container-priv.h"

enum { NET_DEV_MAX = 4 * 1024 * 1024, NET_DEV_COLUMNS = 16 };

int container_update(struct container *c, const struct spec_resources *resources,
	const struct spec_intel_rdt *rdt, struct error *e)
{
	_cleanup_free_ char *root = NULL, *old = NULL;
	int r;

	if (container_status(c) == CONTAINER_STOPPED)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running");
	if (!rdt)
		return cgroup_apply(&c->cgroup, resources, e);
	r = rdt_mount_point(&root, e);
	if (r == 0)
		r = rdt_update(root, c, rdt, &old, e);
	if (r < 0)
		return r;
	r = cgroup_apply(&c->cgroup, resources, e);
	if (r < 0)
		rdt_update_undo(root, c, old);
	return r;
}

/* The counters that runc's events name, by their column in /proc/net/dev. */
static const struct {
	const char *name;
	unsigned column;
} counters[] = {
	{"RxBytes", 0},
	{"RxPackets", 1},
	{"RxErrors", 2},
	{"RxDropped", 3},
	{"TxBytes", 8},
	{"TxPackets", 9},
	{"TxErrors", 10},
	{"TxDropped", 11},
};

/* "  eth0: 1 2 3 ...": the container chooses its interfaces' names, which may hold anything but blanks, '/' and ':'. */
static struct json_object *parse_interface(char *line)
{
	char *colon = strrchr(line, ':'), *at, *name = line + strspn(line, " ");
	uint64_t columns[NET_DEV_COLUMNS];
	struct json_object *o;

	if (!colon)
		return NULL;
	*colon = 0;
	at = colon + 1;
	for (size_t i = 0; i < NET_DEV_COLUMNS; i++) {
		char *end;

		errno = 0;
		columns[i] = strtoull(at, &end, 10);
		if (end == at || errno)
			return NULL;
		at = end;
	}
	o = json_object_new_object();
	json_object_object_add(o, "Name", json_object_new_string(name));
	for (size_t i = 0; i < ARRAY_SIZE(counters); i++)
		json_object_object_add(
			o, counters[i].name, json_object_new_uint64(columns[counters[i].column]));
	return o;
}

/* NULL: none that are the container's own. */
static struct json_object *read_interfaces(const struct container *c)
{
	_cleanup_free_ char *text = NULL;
	struct json_object *list;
	char path[64], *rest, *line;

	if (!c->spec || !c->spec->namespaces[NS_NET].present)
		return NULL;
	snprintf(path, sizeof(path), "/proc/%d/net/dev", c->init_pid);
	if (read_file_at(AT_FDCWD, path, NET_DEV_MAX, &text, NULL) < 0)
		return NULL;
	list = json_object_new_array();
	rest = text;
	while (list && (line = strsep(&rest, "\n"))) {
		struct json_object *o = strchr(line, '|') ? NULL : parse_interface(line);

		if (o)
			json_object_array_add(list, o);
	}
	return list;
}

/* *ret stays NULL for a container that is in no group of resctrl. */
static int read_rdt(const struct container *c, struct json_object **ret, struct error *e)
{
	_cleanup_free_ char *root = NULL;
	int r = c->rdt.group ? rdt_mount_point(&root, e) : 0;

	return r < 0 || !root ? r : rdt_stats(root, &c->rdt, ret, e);
}

static const char *text_of(struct json_object *o)
{
	return o ? json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
		 : NULL;
}

int container_stats_json(struct container *c, char **ret, struct error *e)
{
	struct cgroup_stats s = {0};
	struct json_object *interfaces = NULL, *rdt = NULL;
	int r = container_load_spec(c, e);

	if (r < 0)
		return r;
	r = cgroup_stats_read(&c->cgroup, &s, e);
	if (r == 0)
		r = read_rdt(c, &rdt, e);
	if (r == 0) {
		interfaces = read_interfaces(c);
		r = cgroup_stats_json(&s, text_of(rdt), text_of(interfaces), ret);
		if (r < 0)
			error_errno(e, r, "statistics");
	}
	json_object_put(interfaces);
	json_object_put(rdt);
	cgroup_stats_done(&s);
	return r;
}
