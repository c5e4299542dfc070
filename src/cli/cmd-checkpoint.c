/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint: the container's state into an image directory; the container then ends, or runs on. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/trace.h"
#include "checkpoint/engine.h"
#include "cli/commands.h"
#include "cli/image-actions.h"
#include "sandbox/checkpoint.h"

struct options {
	struct checkpoint_options checkpoint;
	const char *engine, *cgroup_mode, *page_server, *compress, *progress, *pre_copy, *stream_timeout,
		*deadline, *watchdog, *trace, *patience;
	bool lazy_pages, sandbox;
};

#define CP(member) offsetof(struct options, checkpoint.member)

static const struct cli_option table[] = {
	{"sandbox", 0, CLI_FLAG, offsetof(struct options, sandbox), NULL,
		"of all containers of the sandbox ID, or of that of container ID, at one moment"},
	{"deadline", 0, CLI_STRING, offsetof(struct options, deadline), "SECONDS|MILLISECONDSms",
		"of a sandbox: give up when its image is not complete by then"},
	{"patience", 0, CLI_STRING, offsetof(struct options, patience), "SECONDS|MILLISECONDSms",
		"wait so long for what passes, as events that a program is about to read (default: 1)"},
	{"image-path", 0, CLI_STRING, CP(image_path), "DIR|-|fd:N",
		"where the image is written (default: ./checkpoint); as a stream to stdout or descriptor N"},
	{"stream-timeout", 0, CLI_STRING, offsetof(struct options, stream_timeout), "SECONDS",
		"give up when the reader of a stream takes nothing for so long (default: 60; 0: never)"},
	{"trace", 0, CLI_STRING, offsetof(struct options, trace), "FILE",
		"where the time goes, as Chrome trace events (chrome://tracing, ui.perfetto.dev)"},
	{"watchdog", 0, CLI_STRING, offsetof(struct options, watchdog), "SECONDS",
		"undo it when it makes no progress for so long (default: 30; 0: never)"},
	{"work-path", 0, CLI_STRING, CP(work_path), "DIR",
		"where logs are written (default: the image's directory)"},
	{"leave-running", 0, CLI_FLAG, CP(leave_running), NULL, "let the container run on"},
	{"print-stats", 0, CLI_FLAG, CP(print_stats), NULL,
		"print how long each phase took, pages by kind and bytes, as JSON"},
	{"progress", 0, CLI_STRING, offsetof(struct options, progress), "auto|tty|json|none",
		"how far it has come, on stderr (default: a line, if that is a terminal)"},
	{"engine", 0, CLI_STRING, offsetof(struct options, engine), "native", "engine to use"},
	{"tcp-established", 0, CLI_FLAG, CP(tcp_established), NULL, "keep open TCP connections"},
	{"tcp-skip-in-flight", 0, CLI_FLAG, CP(tcp_skip_in_flight), NULL,
		"lose TCP connections that are not accepted yet"},
	{"network-lock", 0, CLI_IGNORED_STRING, 0, "METHOD", NULL},
	{"tcp-close", 0, CLI_FLAG, CP(tcp_close), NULL, "open TCP connections come back closed"},
	{"ext-unix-sk", 0, CLI_FLAG, CP(ext_unix_sk), NULL, "allow unix sockets connected to the outside"},
	{"shell-job", 0, CLI_IGNORED_FLAG, 0, NULL, NULL},
	{"file-locks", 0, CLI_FLAG, CP(file_locks), NULL, "allow locks on files that others can reach"},
	{"pre-dump", 0, CLI_FLAG, CP(pre_dump), NULL,
		"write only memory, and leave the container running: for --parent-path"},
	{"parent-path", 0, CLI_STRING, CP(parent_path), "DIR",
		"a pre-dump, relative to this image: only what was written since is copied"},
	{"pre-copy", 0, CLI_MODE, offsetof(struct options, pre_copy), "ROUNDS|MILLISECONDSms",
		"copy memory while the container runs, until little is left for the freeze"},
	{"manage-cgroups-mode", 0, CLI_STRING, offsetof(struct options, cgroup_mode),
		"soft|full|strict|ignore", "what of cgroups is recorded"},
	{"empty-ns", 0, CLI_STRING, CP(empty_ns), "network",
		"leave the interfaces and routes of the network namespace out"},
	{"lazy-pages", 0, CLI_FLAG, offsetof(struct options, lazy_pages), NULL, "serve memory on demand"},
	{"status-fd", 0, CLI_IGNORED_STRING, 0, "FD", NULL},
	{"page-server", 0, CLI_STRING, offsetof(struct options, page_server), "ADDRESS:PORT",
		"send memory there"},
	{"compress", 0, CLI_STRING, offsetof(struct options, compress), "none|lz4|zstd[:LEVEL]",
		"store memory compressed, and pages with the same contents once"},
	{"dedup", 0, CLI_FLAG, CP(packing.dedup), NULL,
		"store pages with the same contents once, and what a parent has not again"},
	{"auto-dedup", 0, CLI_IGNORED_FLAG, 0, NULL, NULL},
	{"link-remap", 0, CLI_IGNORED_FLAG, 0, NULL, NULL},
	{NULL},
};

static int not_yet(struct error *e, const char *option)
{
	return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
		"--%s is not supported by the native engine yet: leave it out", option);
}

static int check_options(const struct options *o, struct error *e)
{
	if (o->engine && strcmp(o->engine, "native") != 0)
		return error_set(e, -EINVAL, ERROR_USAGE, "unknown engine \"%s\": only native is there yet",
			o->engine);
	if (o->deadline && !o->sandbox)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"--deadline is for a checkpoint of a sandbox: add --sandbox");
	if (o->lazy_pages)
		return not_yet(e, "lazy-pages");
	if (o->page_server)
		return not_yet(e, "page-server");
	return 0;
}

/* "yes", "5" or "20ms" */
static int parse_pre_copy(const char *s, struct checkpoint_options *o, struct error *e)
{
	char number[16];
	size_t len = s ? strlen(s) : 0;
	bool is_time = len > 2 && !strcmp(s + len - 2, "ms");
	uint64_t n = 0;

	o->pre_copy = s != NULL;
	if (!s || !strcmp(s, "yes"))
		return 0;
	snprintf(number, sizeof(number), "%.*s", (int)(is_time ? len - 2 : len), s);
	if (len > 10 || cli_parse_number(number, is_time ? 1000000 : 1000, &n) < 0 || n == 0)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"invalid value \"%s\" for --pre-copy: a number of rounds, or of milliseconds as in "
			"20ms",
			s);
	*(is_time ? &o->pre_copy_target_ms : &o->pre_copy_rounds) = n;
	return 0;
}

static int parse_stream_timeout(const char *text, unsigned *ret, struct error *e)
{
	uint64_t n = 60;

	if (text && cli_parse_number(text, INT32_MAX / 1000, &n) < 0)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"invalid --stream-timeout \"%.40s\": seconds are needed", text);
	*ret = n;
	return 0;
}

/* Nothing but the image may be in a stream. */
static FILE *stats_file(const char *image_path)
{
	int fd = -EBADF;
	struct error ignored;

	return checkpoint_stream_fd(image_path, STDOUT_FILENO, &fd, &ignored) > 0 && fd == STDOUT_FILENO
		       ? stderr
		       : stdout;
}

/* A line each: containerd shows only the first one. */
static void print_obstacles(const struct preflight_report *r)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct obstacle *o = &r->obstacles[i];

		if (o->fd >= 0)
			fprintf(stderr, "  process %d fd %d: ", o->pid, o->fd);
		else
			fprintf(stderr, "  process %d: ", o->pid);
		fprintf(stderr, "%s: %s: %s; %s\n", o->kind, o->object, o->reason, o->remedy);
	}
}

static int run_sandbox(const char *root, const char *id, const struct checkpoint_options *o, struct error *e)
{
	struct sandbox_checkpoint result;
	int r = sandbox_checkpoint(root, id, o, &result, e);

	if (r < 0)
		sandbox_checkpoint_obstacles(&result, stderr);
	else if (o->print_stats)
		sandbox_checkpoint_statistics(&result, stats_file(o->image_path));
	sandbox_checkpoint_done(&result);
	return r;
}

/* Without --sandbox a container is meant, if there is one. */
static int find_sandbox(
	const struct cli_globals *g, const struct options *o, const char *id, char **ret, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	struct error ignored;
	int r;

	if (!o->sandbox && container_load(g->root, id, false, &c, &ignored) != -ENOENT)
		return 0;
	r = sandbox_named(g->root, id, ret, e);
	if (r == 1 && o->sandbox)
		return error_set(e, -ENOENT, ERROR_STATE,
			"there is no sandbox \"%.100s\", nor a container of that id that is in one", id);
	return MIN(r, 0);
}

static int run_container(
	const char *root, const char *id, const struct checkpoint_options *o, struct error *e)
{
	_cleanup_(container_free_p) struct container *c = NULL;
	struct preflight_report report = {};
	struct image_statistics stats = {};
	int r = container_load(root, id, true, &c, e);

	if (r < 0)
		return r;
	r = checkpoint_run(c, o, &report, &stats, e);
	if (r < 0 && report.n > 1)
		print_obstacles(&report);
	preflight_report_done(&report);
	if (r < 0)
		return r;
	if (o->print_stats)
		image_statistics_print(&stats, IMAGE_DUMP, stats_file(o->image_path));
	/* As runc: what was checkpointed to its end is gone. */
	return o->leave_running || o->pre_dump ? 0 : container_delete(c, true, e);
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	struct checkpoint_options checkpoint = o->checkpoint;
	_cleanup_free_ char *sandbox = NULL;
	int r;

	r = check_options(o, e);
	if (r == 0)
		r = parse_pre_copy(o->pre_copy, &checkpoint, e);
	if (r == 0)
		r = cgroups_mode_parse(o->cgroup_mode, &checkpoint.cgroups, e);
	if (r == 0)
		r = cli_parse_compress(o->compress, &checkpoint.packing, e);
	if (r == 0)
		r = progress_mode_parse(o->progress, &checkpoint.progress, e);
	if (r == 0)
		r = parse_stream_timeout(o->stream_timeout, &checkpoint.stream_timeout, e);
	if (r == 0)
		r = cli_parse_watchdog("watchdog", o->watchdog, &checkpoint.watchdog.running, e);
	if (r == 0)
		r = cli_parse_moment("deadline", o->deadline, &checkpoint.deadline_ms, e);
	if (r == 0)
		r = cli_parse_moment("patience", o->patience, &checkpoint.patience_ms, e);
	if (r == 0)
		r = find_sandbox(g, o, args[0], &sandbox, e);
	if (r == 0 && o->trace)
		r = trace_begin(o->trace, "checkpoint", e);
	if (r < 0)
		return r;
	r = sandbox ? run_sandbox(g->root, sandbox, &checkpoint, e)
		    : run_container(g->root, args[0], &checkpoint, e);
	trace_end();
	return r;
}

const struct cli_command cmd_checkpoint = {
	.name = "checkpoint",
	.arguments = "ID",
	.summary = "write the state of a running container, or sandbox, to an image, and end it",
	.options = table,
	.min_args = 1,
	.max_args = 1,
	.enters_container = true, /* hooks of the application */
	.run = run,
};
