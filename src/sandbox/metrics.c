/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/metrics.h"

#include <dirent.h>
#include <json-c/json.h>
#include <string.h>

#include "base/fd.h"
#include "container/container.h"
#include "sandbox/sandbox.h"

/* One container: what the families are made of. */
struct measured {
	struct container *c;
	enum container_status status;
	struct json_object *stats; /* "data" of the statistics; NULL: it does not run */
};

struct all {
	struct measured *list;
	size_t n, allocated;
};

enum type { COUNTER, GAUGE };
/* A member of the statistics, by its path; labels: besides those of the container. */
struct sample {
	const char *path, *labels;
};
struct family {
	const char *name, *unit, *help;
	enum type type;
	double scale;
	const struct sample *samples; /* ends with an empty one */
};
#define ONE(path)                                                                                            \
	(const struct sample[])                                                                              \
	{                                                                                                    \
		{path, ""},                                                                                  \
		{                                                                                            \
		}                                                                                            \
	}

static const struct sample pressure[] = {
	{"cpu.psi.some.total", ",resource=\"cpu\",stalled=\"some\""},
	{"cpu.psi.full.total", ",resource=\"cpu\",stalled=\"full\""},
	{"memory.psi.some.total", ",resource=\"memory\",stalled=\"some\""},
	{"memory.psi.full.total", ",resource=\"memory\",stalled=\"full\""},
	{"blkio.psi.some.total", ",resource=\"io\",stalled=\"some\""},
	{"blkio.psi.full.total", ",resource=\"io\",stalled=\"full\""},
	{},
};

#define NS 1e-9
#define US 1e-6
static const struct family families[] = {
	{"cpu_seconds", "seconds", "CPU time.", COUNTER, NS, ONE("cpu.usage.total")},
	{"cpu_user_seconds", "seconds", "CPU time in user mode.", COUNTER, NS, ONE("cpu.usage.user")},
	{"cpu_kernel_seconds", "seconds", "CPU time in the kernel.", COUNTER, NS, ONE("cpu.usage.kernel")},
	{"cpu_throttled_periods", NULL, "Periods in which its quota was used up.", COUNTER, 1,
		ONE("cpu.throttling.throttledPeriods")},
	{"cpu_throttled_seconds", "seconds", "Time for which it had to wait for a new quota.", COUNTER, NS,
		ONE("cpu.throttling.throttledTime")},
	{"memory_usage_bytes", "bytes", "Memory in use, with the page cache.", GAUGE, 1,
		ONE("memory.usage.usage")},
	{"memory_cache_bytes", "bytes", "Of it, page cache.", GAUGE, 1, ONE("memory.cache")},
	{"memory_max_usage_bytes", "bytes", "The most that it ever had in use.", GAUGE, 1,
		ONE("memory.usage.max")},
	{"memory_limit_bytes", "bytes", "Its limit.", GAUGE, 1, ONE("memory.usage.limit")},
	{"memory_limit_hits", NULL, "How often it came to that limit.", COUNTER, 1,
		ONE("memory.usage.failcnt")},
	{"page_faults", NULL, "Page faults.", COUNTER, 1, ONE("memory.raw.pgfault")},
	{"major_page_faults", NULL, "Page faults for which something was read.", COUNTER, 1,
		ONE("memory.raw.pgmajfault")},
	{"tasks", NULL, "Processes and threads.", GAUGE, 1, ONE("pids.current")},
	{"tasks_limit", NULL, "The most that there may be.", GAUGE, 1, ONE("pids.limit")},
	{"pressure_seconds", "seconds", "Time in which tasks were held up for want of a resource.", COUNTER,
		US, pressure},
	{},
};

/* Of each interface. */
static const struct {
	const char *name, *unit, *member, *help;
} interfaces_of[] = {
	{"network_receive_bytes", "bytes", "RxBytes", "Bytes received."},
	{"network_receive_packets", NULL, "RxPackets", "Packets received."},
	{"network_receive_errors", NULL, "RxErrors", "Packets received with an error."},
	{"network_receive_dropped", NULL, "RxDropped", "Packets dropped when they were received."},
	{"network_transmit_bytes", "bytes", "TxBytes", "Bytes sent."},
	{"network_transmit_packets", NULL, "TxPackets", "Packets sent."},
	{"network_transmit_errors", NULL, "TxErrors", "Packets that could not be sent."},
	{"network_transmit_dropped", NULL, "TxDropped", "Packets dropped before they were sent."},
};

static void put_label(FILE *out, const char *name, const char *value)
{
	fprintf(out, "%s=\"", name);
	for (; value && *value; value++) {
		if (*value == '\n')
			fputs("\\n", out);
		else if (*value == '"' || *value == '\\')
			fprintf(out, "\\%c", *value);
		else
			fputc(*value, out);
	}
	fputc('"', out);
}

static void begin_family(FILE *out, const char *name, enum type type, const char *unit, const char *help)
{
	fprintf(out, "# TYPE stasis_container_%s %s\n", name, type == COUNTER ? "counter" : "gauge");
	if (unit)
		fprintf(out, "# UNIT stasis_container_%s %s\n", name, unit);
	fprintf(out, "# HELP stasis_container_%s %s\n", name, help);
}

/* Up to the bracket that ends the labels. */
static void begin_sample(FILE *out, const char *name, enum type type, const struct measured *m)
{
	fprintf(out, "stasis_container_%s%s{", name, type == COUNTER ? "_total" : "");
	put_label(out, "id", m->c->id);
	if (!m->c->sandbox)
		return;
	fputc(',', out);
	put_label(out, "sandbox", m->c->sandbox);
	fputc(',', out);
	put_label(out, "name", m->c->name);
}

/* "a.b.c"; NULL: there is none. */
static struct json_object *at(struct json_object *o, const char *path)
{
	char key[64];

	while (o && *path) {
		size_t len = strcspn(path, ".");

		snprintf(key, sizeof(key), "%.*s", (int)len, path);
		if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &o))
			return NULL;
		path += len + (path[len] == '.');
	}
	return o;
}

/* What is no limit is not there. */
static bool is_limit(const char *path, double value)
{
	return strstr(path, "limit") && (value == 0 || value >= 9e18);
}

static void put_family(FILE *out, const struct family *f, const struct all *all)
{
	bool begun = false;

	for (size_t i = 0; i < all->n; i++) {
		for (const struct sample *s = f->samples; s->path; s++) {
			struct json_object *v = at(all->list[i].stats, s->path);
			double value = v ? json_object_get_double(v) : 0;

			if (!v || is_limit(s->path, value))
				continue;
			if (!begun)
				begin_family(out, f->name, f->type, f->unit, f->help);
			begun = true;
			begin_sample(out, f->name, f->type, &all->list[i]);
			fprintf(out, "%s} %.15g\n", s->labels, value * f->scale);
		}
	}
}

static void put_interfaces(FILE *out, const struct all *all)
{
	for (size_t k = 0; k < ARRAY_SIZE(interfaces_of); k++) {
		bool begun = false;

		for (size_t i = 0; i < all->n; i++) {
			struct json_object *list = at(all->list[i].stats, "network_interfaces"), *one;
			size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list)
									      : 0;

			for (size_t j = 0; j < n; j++) {
				one = json_object_array_get_idx(list, j);
				if (!begun)
					begin_family(out, interfaces_of[k].name, COUNTER,
						interfaces_of[k].unit, interfaces_of[k].help);
				begun = true;
				begin_sample(out, interfaces_of[k].name, COUNTER, &all->list[i]);
				fputc(',', out);
				put_label(out, "interface", json_object_get_string(at(one, "Name")));
				fprintf(out, "} %.15g\n",
					json_object_get_double(at(one, interfaces_of[k].member)));
			}
		}
	}
}

/* What does not come from its cgroup. */
static void put_states(FILE *out, const struct all *all)
{
	if (all->n == 0)
		return;
	begin_family(out, "status", GAUGE, NULL, "1, with the status as a label.");
	for (size_t i = 0; i < all->n; i++) {
		begin_sample(out, "status", GAUGE, &all->list[i]);
		fprintf(out, ",status=\"%s\"} 1\n", container_status_name(all->list[i].status));
	}
	begin_family(out, "generation", GAUGE, NULL, "How often it was restored.");
	for (size_t i = 0; i < all->n; i++) {
		begin_sample(out, "generation", GAUGE, &all->list[i]);
		fprintf(out, "} %llu\n", (unsigned long long)all->list[i].c->generation);
	}
	begin_family(out, "checkpoints", COUNTER, NULL, "Attempts at a checkpoint.");
	for (size_t i = 0; i < all->n; i++) {
		begin_sample(out, "checkpoints", COUNTER, &all->list[i]);
		fprintf(out, "} %llu\n", (unsigned long long)all->list[i].c->attempts.checkpoints);
	}
	begin_family(out, "checkpoints_failed", COUNTER, NULL, "Attempts at a checkpoint that failed.");
	for (size_t i = 0; i < all->n; i++) {
		begin_sample(out, "checkpoints_failed", COUNTER, &all->list[i]);
		fprintf(out, "} %llu\n", (unsigned long long)all->list[i].c->attempts.failed);
	}
}

/* ---- of sandboxes ---- */

static void put_restores(FILE *out, const char *sandbox, const char *name, uint64_t value)
{
	fprintf(out, "stasis_sandbox_%s_total{", name);
	put_label(out, "sandbox", sandbox);
	fprintf(out, "} %llu\n", (unsigned long long)value);
}

static void put_family_of_sandboxes(FILE *out, const char *root, char *const *names, size_t n, bool failed)
{
	const char *name = failed ? "restores_failed" : "restores";
	bool begun = false;

	for (size_t i = 0; i < n; i++) {
		_cleanup_close_ int fd = container_open_sandbox(root, names[i], false);
		struct sandbox_restores r;

		if (fd < 0 || !container_read_restores(fd, &r))
			continue;
		if (!begun)
			fprintf(out, "# TYPE stasis_sandbox_%s counter\n# HELP stasis_sandbox_%s %s\n", name,
				name,
				failed ? "Restores of containers into the sandbox that failed."
				       : "Restores of containers into the sandbox.");
		begun = true;
		put_restores(out, names[i], name, failed ? r.failed : r.all);
	}
}

static int is_sandbox(const struct dirent *d)
{
	return container_id_check(d->d_name, NULL) == 0;
}

static void put_sandboxes(FILE *out, const char *root, const char *sandbox)
{
	_cleanup_free_ char *path = NULL;
	struct dirent **entries = NULL;
	char **names;
	int n;

	if (sandbox) {
		put_family_of_sandboxes(out, root, (char *const *)&sandbox, 1, false);
		put_family_of_sandboxes(out, root, (char *const *)&sandbox, 1, true);
		return;
	}
	if (asprintf(&path, "%s/" CONTAINER_SANDBOXES, root) < 0)
		return;
	n = scandir(path, &entries, is_sandbox, alphasort);
	names = n > 0 ? calloc(n, sizeof(*names)) : NULL;
	for (int i = 0; names && i < n; i++)
		names[i] = entries[i]->d_name;
	for (int failed = 0; names && failed < 2; failed++)
		put_family_of_sandboxes(out, root, names, n, failed);
	for (int i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
	free(names);
}

static int measure(struct all *all, const char *root, const char *id, struct error *e)
{
	struct measured m = {};
	_cleanup_free_ char *text = NULL;
	struct error ignored;

	if (container_load(root, id, false, &m.c, &ignored) < 0)
		return 0; /* it has gone, or is not a container (yet) */
	container_read_attempts(m.c);
	m.status = container_status(m.c);
	if ((m.status == CONTAINER_RUNNING || m.status == CONTAINER_PAUSED) &&
		container_stats_json(m.c, &text, &ignored) == 0)
		m.stats = json_tokener_parse(text);
	if (all->n == all->allocated) {
		size_t want = MAX(all->allocated * 2, (size_t)16);
		struct measured *more = reallocarray(all->list, want, sizeof(*more));

		if (!more) {
			json_object_put(m.stats);
			container_free(m.c);
			return error_errno(e, -ENOMEM, "metrics");
		}
		all->list = more;
		all->allocated = want;
	}
	all->list[all->n++] = m;
	return 0;
}

static int is_container(const struct dirent *d)
{
	return d->d_name[0] != '.' && d->d_name[0] != '@';
}

static int measure_root(struct all *all, const char *root, struct error *e)
{
	struct dirent **names = NULL;
	int n = scandir(root, &names, is_container, alphasort), r = 0;

	if (n < 0 && errno != ENOENT)
		return error_errno(e, -errno, "read %s", root);
	for (int i = 0; i < n; i++) {
		if (r == 0)
			r = measure(all, root, names[i]->d_name, e);
		free(names[i]);
	}
	free(names);
	return r;
}

static int measure_sandbox(struct all *all, const char *root, const char *sandbox, struct error *e)
{
	_cleanup_(sandbox_free_p) struct sandbox *s = NULL;
	int r = sandbox_open(root, sandbox, &s, e);

	for (size_t i = 0; r == 0 && i < s->n_members; i++)
		r = measure(all, root, s->members[i].id, e);
	return r;
}

int metrics_print(const char *root, const char *sandbox, FILE *out, struct error *e)
{
	struct all all = {};
	int r = sandbox ? measure_sandbox(&all, root, sandbox, e) : measure_root(&all, root, e);

	if (r == 0) {
		put_states(out, &all);
		for (const struct family *f = families; f->name; f++)
			put_family(out, f, &all);
		put_interfaces(out, &all);
		put_sandboxes(out, root, sandbox);
		fputs("# EOF\n", out);
	}
	for (size_t i = 0; i < all.n; i++) {
		json_object_put(all.list[i].stats);
		container_free(all.list[i].c);
	}
	free(all.list);
	return r;
}
