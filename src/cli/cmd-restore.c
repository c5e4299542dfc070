/* SPDX-License-Identifier: Apache-2.0 */
/* restore: a container from its bundle and an image. */
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/trace.h"
#include "checkpoint/engine.h"
#include "checkpoint/meeting.h"
#include "checkpoint/restorer.h"
#include "sandbox/restore-join.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/create-options.h"

enum { DEADLINE_S = 180 };

struct options {
	struct create_options create;
	struct restore_options restore;
	const char *cgroup_mode, *spec_check, *lsm_mount_context, *cpu_check, *thp, *lazy, *progress;
	const char *watchdog, *watchdog_start, *trace;
	struct cli_list veth_pairs;
	int deadline;
	bool detach, prepare, keep, print_stats, no_subreaper, lazy_pages;
};

#define RS(member) offsetof(struct options, restore.member)

static const struct cli_option table[] = {
	CREATE_OPTIONS(struct options, create),
	{"image-path", 0, CLI_STRING, RS(image_path), "DIR|-|fd:N",
		"where the image is (default: ./checkpoint); as a stream from stdin or descriptor N"},
	{"work-path", 0, CLI_STRING, RS(work_path), "DIR", "where logs are written"},
	{"trace", 0, CLI_STRING, offsetof(struct options, trace), "FILE",
		"where the time goes, as Chrome trace events (chrome://tracing, ui.perfetto.dev)"},
	{"watchdog", 0, CLI_STRING, offsetof(struct options, watchdog), "SECONDS",
		"undo it when it makes no progress for so long (default: 30; 0: never)"},
	{"watchdog-start", 0, CLI_STRING, offsetof(struct options, watchdog_start), "SECONDS",
		"the same until the container is made (default: 180; 0: never)"},
	{"detach", 'd', CLI_FLAG, offsetof(struct options, detach), NULL,
		"do not wait for the container's end"},
	{"prepare", 0, CLI_FLAG, offsetof(struct options, prepare), NULL,
		"only up to the moment before the program goes on, which is that of start"},
	{"spec-check", 0, CLI_STRING, offsetof(struct options, spec_check), "enforce|warning|ignore",
		"whether config.json must be the one that the container had; of a container alone: its "
		"namespaces"},
	{"deadline", 0, CLI_NUMBER, offsetof(struct options, deadline), "SECONDS",
		"of a sandbox's image: wait so long for its other containers (default: 180)"},
	{"keep", 0, CLI_FLAG, offsetof(struct options, keep), NULL, "do not delete the container at its end"},
	{"no-subreaper", 0, CLI_FLAG, offsetof(struct options, no_subreaper), NULL,
		"do not become the parent of orphaned processes"},
	{"print-stats", 0, CLI_FLAG, offsetof(struct options, print_stats), NULL,
		"print how long each phase took, pages by kind and bytes, as JSON"},
	{"progress", 0, CLI_STRING, offsetof(struct options, progress), "auto|tty|json|none",
		"how far it has come, on stderr (default: a line, if that is a terminal)"},
	{"tcp-established", 0, CLI_FLAG, RS(tcp_established), NULL, "bring TCP connections back"},
	{"network-lock", 0, CLI_IGNORED_STRING, 0, "METHOD", NULL},
	{"tcp-close", 0, CLI_FLAG, RS(tcp_close), NULL, "TCP connections come back closed"},
	{"ext-unix-sk", 0, CLI_IGNORED_FLAG, 0, NULL, NULL},
	{"shell-job", 0, CLI_IGNORED_FLAG, 0, NULL, NULL},
	{"file-locks", 0, CLI_IGNORED_FLAG, 0, NULL, NULL},
	{"manage-cgroups-mode", 0, CLI_STRING, offsetof(struct options, cgroup_mode),
		"soft|full|strict|ignore", "what of cgroups comes back"},
	{"empty-ns", 0, CLI_STRING, RS(empty_ns), "network",
		"leave the interfaces and routes of the network namespace out"},
	{"veth-pair", 0, CLI_LIST, offsetof(struct options, veth_pairs), "IN=OUT[@BRIDGE]",
		"make the interface IN with its other end OUT here, a port of BRIDGE"},
	{"cpu-check", 0, CLI_STRING, offsetof(struct options, cpu_check), "strict|lenient",
		"what the CPU must have: all that the image's had, or the registers in use"},
	{"lazy", 0, CLI_MODE, offsetof(struct options, lazy), "yes|no|auto",
		"let the program run before its memory is there"},
	{"thp", 0, CLI_STRING, offsetof(struct options, thp), "auto|yes|no",
		"use huge pages where all of one is filled (default: where that is faster)"},
	{"lazy-pages", 0, CLI_FLAG, offsetof(struct options, lazy_pages), NULL,
		"refused: memory from a page server of CRIU"},
	{"auto-dedup", 0, CLI_IGNORED_FLAG, 0, NULL, NULL},
	{"lsm-profile", 0, CLI_STRING, RS(lsm_profile), "TYPE:NAME", "AppArmor profile of the processes"},
	{"lsm-mount-context", 0, CLI_STRING, offsetof(struct options, lsm_mount_context), "CONTEXT",
		"LSM context of the mounts"},
	{NULL},
};

struct made_how {
	const struct restore_options *restore;
	FILE *stats; /* NULL: they are not printed */
	struct meeting *meeting;
	unsigned deadline_s;
};

/* "container 2 of 3": who restores a sandbox does it one by one. */
static void show_place(const struct meeting *m, const struct restore_options *o)
{
	struct progress p = progress_to(STDERR_FILENO, o->progress);

	if (p.fd >= 0 && p.json)
		fprintf(stderr, "{\"phase\": \"join\", \"name\": \"%s\", \"place\": %u, \"count\": %u}\n",
			o->create.name, m->k, m->n);
	else if (p.fd >= 0)
		fprintf(stderr, "container %u of %u (%s)%s%s\n", m->k, m->n, o->create.name,
			m->missing ? ", missing: " : "", m->missing ? m->missing : "");
	log_debug("container %u of %u (%s)", m->k, m->n, o->create.name);
}

static int make_apart(
	const struct made_how *how, struct restore_options *restore, struct container **ret, struct error *e)
{
	const struct container_create_options *create = &restore->create;
	struct image_statistics stats;
	bool detach = how->meeting->detach;
	int r;

	restore->meeting = how->meeting;
	restore->exchange_fd = how->meeting->exchange;
	r = restorer_run(restore, &stats, e);
	if (r < 0)
		return r;
	if (r == 1 && how->stats)
		image_statistics_print(&stats, IMAGE_RESTORE, how->stats);
	r = container_load(create->root, create->id, !detach, ret, e);
	return r < 0 ? r : container_load_spec(*ret, e);
}

static int make(
	void *arg, const struct container_create_options *create, struct container **ret, struct error *e)
{
	const struct made_how *how = arg;
	struct restore_options restore = *how->restore;
	_cleanup_(restore_join_done) struct restore_join join = {};
	struct image_statistics stats;
	int r;

	restore.create = *create;
	r = restore_join(&restore, how->deadline_s, how->meeting, &join, e);
	if (r < 0)
		return r;
	if (r == 1)
		show_place(how->meeting, &restore);
	if (r == 1 || how->meeting->prepare)
		return make_apart(how, &restore, ret, e);
	r = restore_run(&restore, ret, &stats, e);
	trace_end();
	if (r == 0 && how->stats)
		image_statistics_print(&stats, IMAGE_RESTORE, how->stats);
	return r;
}

/* In the arena: "IN=OUT[@BRIDGE]", as with CRIU. */
static int parse_veth_pair(const char *text, struct arena *a, struct veth_pair *ret, struct error *e)
{
	char *in = arena_strdup(a, text), *out = in ? strchr(in, '=') : NULL, *bridge;

	if (!in)
		return error_errno(e, -ENOMEM, "--veth-pair");
	if (out)
		*out++ = '\0';
	bridge = out ? strchr(out, '@') : NULL;
	if (bridge)
		*bridge++ = '\0';
	if (!out || !*in || !*out || strlen(in) >= IFNAMSIZ || strlen(out) >= IFNAMSIZ ||
		(bridge && (!*bridge || strlen(bridge) >= IFNAMSIZ)))
		return error_set(e, -EINVAL, ERROR_USAGE,
			"invalid --veth-pair \"%s\": IN=OUT or IN=OUT@BRIDGE is needed, names of interfaces",
			text);
	*ret = (struct veth_pair){in, out, bridge};
	return 0;
}

static int parse_veth_pairs(
	const struct cli_list *list, struct arena *a, struct restore_options *o, struct error *e)
{
	struct veth_pair *all = arena_array(a, list->n + 1, sizeof(*all));
	int r = all ? 0 : error_errno(e, -ENOMEM, "--veth-pair");

	for (size_t i = 0; i < list->n && r == 0; i++)
		r = parse_veth_pair(list->v[i], a, &all[i], e);
	o->veth_pairs = all;
	o->n_veth_pairs = list->n;
	return r;
}

static int parse_thp(const char *text, enum thp_mode *ret, struct error *e)
{
	static const char *const names[] = {"auto", "yes", "no"}; /* enum thp_mode */

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!text || !strcmp(text, names[i])) {
			*ret = (enum thp_mode)i;
			return 0;
		}
	return error_set(e, -EINVAL, ERROR_USAGE, "invalid --thp \"%.40s\": auto, yes or no", text);
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	struct container_create_options create;
	struct restore_options restore = o->restore;
	struct meeting meeting = MEETING_INIT;
	struct made_how how = {.restore = &restore,
		.meeting = &meeting,
		.deadline_s = o->deadline ? (unsigned)o->deadline : DEADLINE_S};
	_cleanup_(container_free_p) struct container *c = NULL;
	_cleanup_(arena_done) struct arena arena = {};
	int r = create_options_for(g, &o->create, args[0], &create, e);

	if (r == 0)
		r = cgroups_mode_parse(o->cgroup_mode, &restore.cgroups, e);
	if (r == 0)
		r = progress_mode_parse(o->progress, &restore.progress, e);
	if (r == 0)
		r = parse_veth_pairs(&o->veth_pairs, &arena, &restore, e);
	if (r == 0)
		r = spec_check_parse(o->spec_check, &restore.spec_check, e);
	if (r == 0)
		r = parse_thp(o->thp, &restore.thp, e);
	restore.any_cpu = o->cpu_check && !strcmp(o->cpu_check, "lenient");
	if (r == 0 && o->cpu_check && !restore.any_cpu && strcmp(o->cpu_check, "strict") != 0)
		r = error_set(e, -EINVAL, ERROR_USAGE, "invalid --cpu-check \"%.40s\": strict or lenient",
			o->cpu_check);
	if (r == 0)
		r = lazy_mode_parse(o->lazy, &restore.lazy, e);
	if (r == 0)
		r = cli_parse_watchdog("watchdog", o->watchdog, &restore.watchdog.running, e);
	if (r == 0)
		r = cli_parse_watchdog("watchdog-start", o->watchdog_start, &restore.watchdog.start, e);
	if (r < 0)
		return r;
	if (o->prepare) {
		if (o->print_stats)
			return error_set(e, -EINVAL, ERROR_USAGE,
				"--print-stats: a restore that is only prepared has no statistics yet");
		meeting.prepare = true;
	}
	meeting.detach = o->detach || o->prepare;
	create.notify = false; /* what is restored was ready long ago */
	if (o->lazy_pages)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"--lazy-pages, which takes memory from a page server of CRIU, is not supported: use "
			"--lazy");
	if (o->lsm_mount_context)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"--lsm-mount-context is not supported: set linux.mountLabel in config.json");
	if (o->trace)
		r = trace_begin(o->trace, "restore", e);
	if (r < 0)
		return r;
	/* In the foreground stdout is the container's. */
	how.stats = !o->print_stats ? NULL : o->detach ? stdout : stderr;
	if (meeting.detach) {
		r = make(&how, &create, &c, e);
		if (r == 0)
			cli_supervise(c);
		return r;
	}
	return foreground_container(&create,
		&(struct foreground_container){
			.make = make, .arg = &how, .keep = o->keep, .no_subreaper = o->no_subreaper},
		e);
}

const struct cli_command cmd_restore = {
	.name = "restore",
	.arguments = "ID",
	.summary = "make a container from its bundle and a checkpoint image, and let it go on",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.enters_container = true,
	.run = run,
};
