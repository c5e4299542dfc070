/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of a checkpoint: preflight with the container running; freeze; collect, ask, copy; image; then the
 * container runs on or ends. Runs in the surgeon process, watched by the stasis command through guard_fd.
 */
#include "checkpoint/native/bundle-namespaces.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/network-mptcp.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/utsname.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/trace.h"
#include "checkpoint/gate.h"
#include "checkpoint/native/cpu.h"
#include "checkpoint/native/dump-stream.h"
#include "checkpoint/native/huge.h"
#include "checkpoint/native/peers.h"
#include "checkpoint/native/res/ipc.h"
#include "checkpoint/native/shared-pids.h"
#include "checkpoint/native/pre-copy.h"
#include "checkpoint/native/snapshot.h"
#include "checkpoint/native/timens.h"
#include "checkpoint/native/ttys.h"
#include "checkpoint/patience.h"
#include "linux/clocks.h"

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

static int check_container(struct dump *d, struct error *e)
{
	TRACE("check again");
	dump_labels(d);
	if (shared_pids_check(d, e) < 0)
		return e->code;
	if (dump_landlock(d, e) < 0 || dump_cgroups(d, e) < 0)
		return e->code;
	if (dump_mounts(d, e) < 0)
		return e->code;
	if (huge_check_mounts(d, e) < 0)
		return e->code;
	if (dump_network(d, e) < 0)
		return e->code;
	return dump_check_ipc(d, e);
}

static int open_root(struct dump *d, struct error *e)
{
	TRACE("open root");
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/root", d->c->init_pid);
	d->root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return d->root_fd < 0 ? error_errno(e, -errno, "open the container's root") : 0;
}

static int look(struct dump *d, struct error *e)
{
	int r;

	r = container_load_spec(d->c, e);
	if (r < 0)
		return r;
	dump_landlock_begin(d);
	r = dump_find_processes(d, e);
	if (r == 0 && (dump_leader_is_needed(d, &d->procs[0]) || dump_refuse_hidden(d)))
		return 0; /* /proc shows nothing of such a process */
	if (r == 0)
		r = open_root(d, e);
	if (r == 0)
		r = dump_collect(d, e);
	return r == 0 ? check_container(d, e) : r;
}

static int look_once(struct container *c, const struct checkpoint_options *o, struct preflight_report *r,
	struct peers *peers, bool again, struct error *e)
{
	struct image_statistics stats = {};
	struct dump d = {.c = c,
		.options = o,
		.report = r,
		.stats = &stats,
		.peers = peers,
		.looks_again = again,
		.unprivileged = c->rootless && !idmap_is_initial(),
		DUMP_INIT};
	int result = look(&d, e);

	dump_done(&d);
	return result;
}

/* The tasks run: a file can be renamed between two looks at it, or a descriptor become another one in the middle of one.
 * What stands in the way each time is real. */
static int look_patiently(struct container *c, const struct checkpoint_options *o, struct patience *p,
	struct preflight_report *r, struct error *e)
{
	_cleanup_(peers_free_p) struct peers *peers = NULL;
	int result = o->together && o->together->n > 1 ? peers_new(o->together->n, &peers, e) : 0;

	if (result < 0)
		return result;
	result = look_once(c, o, r, peers, false, e);
	while ((result < 0 || r->n > 0) && patience_for_look(p, o, result == 0 && preflight_is_passing(r))) {
		struct preflight_report again = {};
		int now;

		if (result < 0) {
			preflight_report_done(r);
			result = look_once(c, o, r, peers, true, e);
			continue;
		}
		now = look_once(c, o, &again, peers, true, e);
		if (now == 0)
			preflight_keep_common(r, &again);
		preflight_report_done(&again);
	}
	return result;
}

static bool is_paused(const struct container *c)
{
	return cgroup_is_frozen(&c->cgroup) > 0;
}

int native_preflight(
	struct container *c, const struct checkpoint_options *o, struct preflight_report *r, struct error *e)
{
	TRACE("preflight");
	struct patience p;

	patience_begin(&p, o, is_paused(c));
	return look_patiently(c, o, &p, r, e);
}

static St__TimeSpec *later(struct dump *d, const struct timespec *t, int64_t ns)
{
	enum { NS = 1000000000 };

	ns += t->tv_sec * NS + t->tv_nsec;
	return pb_timespec(&d->arena, ns / NS, ns % NS);
}

/* The container's clocks: ours plus the offsets of its time namespace. */
static void note_clocks(struct dump *d, const struct clocks *now, const struct timens_offsets *ahead)
{
	St__Container *m = d->container;

	m->monotonic = later(d, &now->monotonic, ahead->monotonic);
	m->boottime = later(d, &now->boottime, ahead->boottime);
	m->realtime = pb_timespec(&d->arena, now->realtime.tv_sec, now->realtime.tv_nsec);
}

static int container_message(struct dump *d, struct error *e)
{
	TRACE("container record");
	St__Container *m = d->container = pb_new(&d->arena, Container, container);
	struct timens_offsets ahead;
	struct clocks now;
	int r = timens_read(d->c->init_pid, &ahead);

	if (!m)
		return error_errno(e, -ENOMEM, "container");
	if (r < 0)
		return error_errno(e, r, "clocks of the container");
	clocks_now(&now);
	d->clock_offset = ahead.monotonic;
	note_clocks(d, d->options->together ? d->options->together->clocks : &now, &ahead);
	m->id = d->c->id;
	m->generation = d->c->generation;
	m->has_pid_namespace = true;
	m->namespaces = bundle_namespaces(d->c->spec);
	if (!m->monotonic || !m->boottime || !m->realtime)
		return error_errno(e, -ENOMEM, "container");
	if (dump_host_names(d, m, e) < 0 || ipc_shared(d, &m->ipc, e) < 0 ||
		shared_pids_message(d, &m->pids, e) < 0)
		return e->code;
	m->stdio = arena_array(&d->arena, 3, sizeof(*m->stdio));
	if (!m->stdio)
		return error_errno(e, -ENOMEM, "container");
	for (int i = 0; i < 3; i++)
		m->stdio[m->n_stdio++] = d->c->stdio[i] ? d->c->stdio[i] : (char *)"";
	return 0;
}

/* Older readers must not take one for what they know. */
static uint32_t record_of(const St__Process *m)
{
	if (m->memory && m->memory->ia32)
		return IMAGE_RECORD_PROCESS_3;
	return m->memory_with ? IMAGE_RECORD_PROCESS_2 : IMAGE_RECORD_PROCESS;
}

/* What readers before the records 85 and 86 do not know. */
static bool is_new(const St__Network *n)
{
	for (size_t i = 0; n && i < n->n_links; i++)
		if (n->links[i]->inside || n->links[i]->backup_port)
			return true;
	return n &&
	       (n->has_vlans || n->n_groups || n->has_address_labels || network_has_mptcp(n) || n->n_traffic);
}

static enum image_record_type record_of_network(const St__Network *n)
{
	if (is_new(n))
		return IMAGE_RECORD_NETWORK_3;
	return n->n_forwarding || n->n_nexthops ? IMAGE_RECORD_NETWORK_2 : IMAGE_RECORD_NETWORK;
}

static enum image_record_type record_of_namespace(const St__Namespace *m)
{
	if (m->n_cgroup_roots)
		return IMAGE_RECORD_NAMESPACE_3;
	return m->n_packet_tables || is_new(m->network) ? IMAGE_RECORD_NAMESPACE_2 : IMAGE_RECORD_NAMESPACE;
}

static int write_records(struct dump *d, struct error *e)
{
	TRACE("write records");
	int r = image_writer_record(d->writer, IMAGE_RECORD_CONTAINER, &d->container->base, e);

	for (size_t i = 0; i < d->n_nested && r == 0; i++)
		r = image_writer_record(
			d->writer, record_of_namespace(d->nested[i].msg), &d->nested[i].msg->base, e);
	for (size_t i = 0; i < d->n_files && r == 0; i++)
		r = image_writer_record(d->writer, IMAGE_RECORD_FILE, &d->files[i].msg->base, e);
	for (size_t i = 0; i < d->n_shm && r == 0; i++)
		r = image_writer_record(d->writer,
			d->shm[i]->ipc_namespace ? IMAGE_RECORD_SHM_2 : IMAGE_RECORD_SHM, &d->shm[i]->base,
			e);
	for (size_t i = 0; i < d->n_procs && r == 0; i++)
		r = image_writer_record(d->writer, record_of(d->procs[i].msg), &d->procs[i].msg->base, e);
	for (size_t i = 0; i < d->n_cgroups && r == 0; i++)
		r = image_writer_record(d->writer, IMAGE_RECORD_CGROUP, &d->cgroups[i]->base, e);
	for (size_t i = 0; i < d->n_mount_msgs && r == 0; i++)
		r = image_writer_record(d->writer, IMAGE_RECORD_MOUNT, &d->mount_msgs[i]->base, e);
	for (size_t i = 0; i < d->n_tmpfs && r == 0; i++)
		r = image_writer_record(d->writer, IMAGE_RECORD_TMPFS, &d->tmpfs[i]->base, e);
	if (d->network && r == 0)
		r = image_writer_record(d->writer, record_of_network(d->network), &d->network->base, e);
	for (size_t i = 0; i < d->packet_tables.n && r == 0; i++)
		r = image_writer_record(
			d->writer, IMAGE_RECORD_PACKET_TABLE, &d->packet_tables.tables[i].msg->base, e);
	for (size_t i = 0; i < d->n_ipc && r == 0; i++)
		r = image_writer_record(d->writer,
			d->ipc[i]->ipc_namespace ? IMAGE_RECORD_IPC_2 : IMAGE_RECORD_IPC, &d->ipc[i]->base,
			e);
	return r;
}

/* The guard is there as long as its end of the pipe is open. */
int dump_guard_is_alive(int guard_fd, struct error *e)
{
	struct pollfd pfd = {.fd = guard_fd};

	if (guard_fd >= 0 && poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLHUP | POLLERR)))
		return error_set(
			e, -ECANCELED, ERROR_SYSTEM, "the checkpoint was cancelled: the container runs on");
	return 0;
}

static int collect_frozen(struct dump *d, int guard_fd, uint64_t start, struct error *e)
{
	int r = dump_collect(d, e);

	if (r == 0)
		r = check_container(d, e);
	if (r == 0 && d->report->n > 0)
		r = preflight_refuse(d->report, e);
	/* Before pages are copied: a call that comes to its end may write to memory. */
	if (r == 0)
		r = dump_measure_waits(d, e);
	if (r == 0)
		r = dump_snapshots_choose(d, e);
	if (r == 0)
		r = dump_pages_start(d, e);
	if (r == 0)
		r = dump_ask(d, e);
	if (r == 0)
		r = dump_snapshots_take(d, e);
	if (r == 0)
		r = dump_ipc(d, e);
	if (r == 0)
		r = container_message(d, e);
	if (r == 0)
		r = dump_signals(d, e);
	if (r == 0)
		r = fault_point("checkpoint-collected", e);
	if (r == 0)
		r = dump_guard_is_alive(guard_fd, e);
	d->stats->collect_us = now_us() - start;
	start = now_us();
	if (r == 0)
		r = dump_ttys(d, e);
	if (r == 0)
		r = dump_files(d, e);
	if (r == 0)
		r = dump_name_lock(d, e);
	if (r == 0)
		r = dump_tmpfs(d, e);
	if (r == 0)
		r = fault_point("checkpoint-files", e);
	d->stats->files_us = now_us() - start;
	start = now_us();
	if (r == 0)
		r = dump_pages_finish(d, e);
	d->stats->memory_us = now_us() - start;
	crew_drop(d->crew);
	if (r == 0)
		r = fault_point("checkpoint-memory", e);
	return r < 0 ? r : dump_guard_is_alive(guard_fd, e);
}

static void count(struct dump *d)
{
	d->stats->processes = d->n_procs;
	d->stats->files = d->n_files;
	d->stats->threads = 0;
	for (size_t i = 0; i < d->n_procs; i++)
		d->stats->threads += d->procs[i].n_threads;
}

/* What the strings of a manifest are in. */
struct manifest_text {
	char features[1024], layout[512], created[40];
	struct utsname un;
};

static void describe(struct dump *d, bool pre_dump, struct manifest_text *text, struct image_manifest *m)
{
	struct tm tm;
	time_t t = time(NULL);

	*m = (struct image_manifest){
		.engine = "native",
		.stasis_version = STASIS_VERSION,
		.container_id = d->c->id,
		.container_name = d->c->id,
		.container_count = 1,
		.architecture = "x86_64",
		.xfeatures = cpu_xfeatures(),
		.page_size = 4096,
		.generation = d->c->generation,
		.attempts = d->c->attempts.checkpoints,
		.failed_attempts = d->c->attempts.failed,
		.socket_errors = d->has_socket_errors,
		.pressure_triggers = d->has_pressure_triggers,
		.mq_notify = d->has_mq_notify,
		.aio_rings = d->has_aio,
		.dnotify = d->has_dnotify,
		.unix_backlogs = d->has_unix_backlogs,
		.listeners = d->has_listeners,
		.register_permissions = d->has_permissions,
		.shared = d->shares,
		.shared_pids = d->container && d->container->pids,
		.pre_dump = pre_dump,
	};
	uname(&text->un);
	gmtime_r(&t, &tm);
	strftime(text->created, sizeof(text->created), "%Y-%m-%dT%H:%M:%SZ", &tm);
	m->kernel = text->un.release;
	m->created = text->created;
	m->cpu_features = cpu_feature_names(text->features, sizeof(text->features));
	m->cpu_layout = cpu_layout(text->layout, sizeof(text->layout));
	for (int i = 0; i < 3; i++)
		m->stdio[i] = d->c->stdio[i];
	image_writer_count(d->writer, d->stats);
	m->statistics = *d->stats;
}

int dump_commit(struct dump *d, bool pre_dump, struct error *e)
{
	TRACE("commit image");
	struct manifest_text text;
	struct image_manifest m;
	int r = image_writer_flush(d->writer, e);

	if (r < 0)
		return r;
	describe(d, pre_dump, &text, &m);
	return image_writer_commit(d->writer, &m, e);
}

/* With the tasks running again, or not: what is held by snapshots. */
static int write_late_pages(struct dump *d, int guard_fd, struct error *e)
{
	TRACE("late pages");
	uint64_t start = now_us();
	int r = dump_pages_late(d, e);

	d->stats->memory_us += now_us() - start;
	if (r == 0)
		r = fault_point("checkpoint-late", e);
	return r < 0 ? r : dump_guard_is_alive(guard_fd, e);
}

/* Records and pages to a stream: while the tasks stand still, so that nothing is kept. */
static int send(struct dump *d, int guard_fd, struct error *e)
{
	TRACE("send stream");
	uint64_t start = now_us();
	struct manifest_text text;
	struct image_manifest m;
	int r;

	count(d);
	r = write_records(d, e);
	describe(d, false, &text, &m);
	if (r == 0)
		r = dump_stream_send(d, &m, e);
	d->stats->memory_us += now_us() - start;
	return r < 0 ? r : dump_guard_is_alive(guard_fd, e);
}

static int packing_goes_on(void *arg, struct error *e)
{
	const struct dump *d = arg;

	beat_go_on(d->options->beat);
	return dump_guard_is_alive(*d->packing_guard, e);
}

/* At a gate. */
struct meeter {
	const struct dump *d;
	int guard_fd;
};

/* No beat: all of them have one, and those who are waited for give it. */
static int meeter_goes_on(void *arg, struct error *e)
{
	return dump_guard_is_alive(((const struct meeter *)arg)->guard_fd, e);
}

/* By the last one who has come there: one reading for all containers. What is left of timers is said from there on. */
static int read_clocks(void *arg, struct error *e)
{
	const struct meeter *m = arg;

	(void)e;
	clocks_now(m->d->options->together->clocks);
	return 0;
}

/* The others who are checkpointed at the same moment. */
static int meet(struct dump *d, enum gate_point point, int guard_fd, struct error *e)
{
	TRACE("gate");
	const struct together *t = d->options->together;

	return t ? gate_meet(t->gate, point, t->self, meeter_goes_on,
			   point == GATE_STOPPED ? read_clocks : NULL, &(struct meeter){d, guard_fd}, e)
		 : 0;
}

int dump_meet_published(struct dump *d, struct error *e)
{
	return meet(d, GATE_PUBLISHED, d->guard_fd, e);
}

static int commit_goes_on(void *arg, struct error *e)
{
	const struct dump *d = arg;

	beat_go_on(d->options->beat);
	return dump_guard_is_alive(d->guard_fd, e);
}

static int commit(void *arg, struct error *e)
{
	struct dump *d = arg;
	const struct together *t = d->options->together;

	return t->commit(t->arg, &(struct commit_watch){d->guard_fd, commit_goes_on, d}, e);
}

/* The last one makes the image of all. */
static int meet_to_commit(struct dump *d, struct error *e)
{
	TRACE("gate of commit");
	const struct together *t = d->options->together;

	return t ? gate_meet(t->gate, GATE_COMMITTED, t->self, NULL, commit, d, e) : 0;
}

static void break_gates(struct dump *d, const struct error *why)
{
	const struct together *t = d->options->together;

	if (t)
		gate_break(t->gate, t->self, why);
}

/* Stopped, and read as far as that needs it. */
static int capture(struct dump *d, int guard_fd, struct error *e)
{
	TRACE("capture");
	uint64_t start = now_us();
	int r;

	progress_start(&d->progress, "freeze", NULL, 0);
	r = dump_stop(d, e);
	d->stats->freeze_us = now_us() - start;
	progress_start(&d->progress, "collect", NULL, 0);
	for (size_t i = 0; i < d->n_procs; i++)
		d->procs[i].watched = track_find(d->track, &d->procs[i]);
	if (r == 0)
		r = meet(d, GATE_STOPPED, guard_fd, e);
	if (r == 0)
		r = collect_frozen(d, guard_fd, now_us(), e);
	if (r == 0 && d->stream)
		r = send(d, guard_fd, e);
	if (r == 0)
		r = meet(d, GATE_CAPTURED, guard_fd, e);
	return r;
}

/* It runs on, whatever fails. */
static int run_on(struct dump *d, int guard_fd, uint64_t *ret_running, struct error *e)
{
	TRACE("run on");
	struct error undo;
	int r = dump_unmap(d, e);

	if (r == 0)
		r = fault_point("checkpoint-removed", e);
	if (r < 0)
		break_gates(d, e);
	dump_release_network(d->journal, d->c->init_pid);
	/* Else what the first one sends would meet a socket that is still deaf, and come again only much later. */
	if (r == 0)
		r = meet(d, GATE_RELEASED, guard_fd, e);
	if (dump_resume(d, r < 0 ? &undo : e) < 0 && r == 0)
		r = e->code;
	*ret_running = now_us();
	if (d->options->together)
		gate_note_running(d->options->together->gate);
	if (r == 0)
		r = meet(d, GATE_RUNNING, guard_fd, e);
	return r;
}

static int complete(
	struct dump *d, int guard_fd, uint64_t begin, uint64_t start, uint64_t frozen, struct error *e)
{
	TRACE("complete image");
	uint64_t image;
	int r = write_late_pages(d, guard_fd, e);

	if (r < 0)
		return r;
	count(d);
	image = now_us();
	progress_start(&d->progress, "image", NULL, 0);
	r = d->stream ? 0 : write_records(d, e);
	if (r == 0)
		r = fault_point("checkpoint-image", e);
	d->stats->image_us = now_us() - image;
	d->stats->total_us = now_us() - begin;
	d->stats->frozen_us = (d->options->leave_running ? frozen : now_us()) - start;
	image = now_us();
	if (r == 0)
		r = dump_commit(d, false, e);
	d->stats->commit_us = now_us() - image;
	if (r == 0)
		r = fault_point("checkpoint-manifest", e);
	/* Before it is decided that it ends: nothing may fail after that. */
	if (r == 0 && (!d->options->leave_running || d->options->together))
		r = dump_guard_is_alive(guard_fd, e);
	if (r == 0 && !d->options->leave_running)
		r = dump_lock_network(d, e);
	return r == 0 ? meet_to_commit(d, e) : r;
}

/* From the freeze on. The container is let go or killed before this returns, whatever happens. */
static int operate(struct dump *d, int guard_fd, uint64_t begin, struct error *e)
{
	uint64_t start, frozen;
	struct error undo;
	int r = meet(d, GATE_READY, guard_fd, e);

	if (r < 0)
		return r;
	start = now_us();
	r = fault_point("checkpoint-ready", e);
	if (r == 0)
		r = capture(d, guard_fd, e);
	frozen = now_us();
	if (r == 0 && d->options->leave_running)
		r = run_on(d, guard_fd, &frozen, e);
	if (r == 0)
		r = complete(d, guard_fd, begin, start, frozen, e);
	if (r == 0 && !d->options->leave_running) {
		uint64_t end = now_us();

		/* It is decided: whoever dies here, the guard sees to it that the container ends. */
		if (d->options->together)
			(void)!fault_point("together-passed", &undo);
		progress_start(&d->progress, "end", NULL, 0);
		r = dump_kill(d, e);
		d->stats->end_us = now_us() - end;
		return r;
	}
	if (r == 0)
		return 0;
	break_gates(d, e);
	dump_release_network(d->journal, d->c->init_pid);
	if (d->stopped)
		dump_unmap(d, &undo);
	dump_resume(d, &undo);
	return r;
}

int dump_prepare_packing(struct dump *d, int *guard_fd, struct error *e)
{
	TRACE("prepare packing");
	struct image_packing p = d->options->packing;

	if (d->stream)
		return 0; /* is compressed as it leaves */
	d->packing_guard = guard_fd;
	p.repeated = p.dedup;
	p.dedup |= p.codec != IMAGE_CODEC_NONE;
	p.go_on = packing_goes_on;
	p.arg = d;
	return image_writer_pack(d->writer, &p, e);
}

/* Alone, or all of them together. */
static bool may_retry(const struct checkpoint_options *o, const struct dump_journal *journal)
{
	return !o->together && !journal->paused;
}

struct progress dump_new_progress(const struct checkpoint_options *o)
{
	struct progress p = progress_to(STDERR_FILENO, o->progress);
	const struct together *t = o->together;

	p.beat = o->beat;
	if (t) {
		p.shares = t->progress;
		p.self = t->self;
		p.container = t->containers[t->self]->name;
	}
	return p;
}

/* What a container takes from the freeze on, as measured: a page that is not there yet is a page fault while it stands still. */
static size_t likely_heap(const struct dump *d)
{
	enum { CONTAINER = 192 << 10, PROCESS = 64 << 10, THREAD = 12 << 10, DESCRIPTOR = 2 << 10 };

	return CONTAINER + d->likely.pids * PROCESS + d->likely.tids * THREAD + d->likely.fds * DESCRIPTOR;
}

static int dump_once(struct container *c, const struct checkpoint_options *o, int image_dir,
	struct dump_journal *journal, int guard_fd, struct preflight_report *report,
	struct image_statistics *stats, struct pre_copy_kept *kept, bool *ret_again, struct error *e)
{
	struct dump d = {.c = c,
		.options = o,
		.report = report,
		.stats = stats,
		.journal = journal,
		.unprivileged = c->rootless && !idmap_is_initial(),
		.progress = dump_new_progress(o),
		DUMP_INIT};
	_cleanup_(image_free_p) struct image *parent = NULL;
	uint64_t begin = now_us();
	int r;

	d.track = &kept->track;
	d.guard_fd = guard_fd;
	d.peers = o->together ? o->together->peers : NULL;
	r = pre_copy_prepare(&d, image_dir, guard_fd, kept, &parent, e);
	if (r == 0)
		r = open_root(&d, e);
	if (r == 0)
		r = dump_remember_waits(&d, e);
	if (r == 0)
		r = dump_prepare_packing(&d, &guard_fd, e);
	if (r == 0)
		r = dump_pages_prepare(&d, e);
	if (r == 0)
		r = dump_snapshots_prepare(&d, e);
	if (r == 0)
		dump_prepare_look(&d);
	heap_prepare(likely_heap(&d));
	if (r == 0)
		r = operate(&d, guard_fd, begin, e);
	progress_stop(&d.progress);
	stats->total_us = now_us() - begin;
	*ret_again = (r == -EAGAIN || (r == -EOPNOTSUPP && report->n > 0)) && may_retry(o, journal) &&
		     !dump_stream_has_begun(&d);
	pre_copy_keep(&d, *ret_again, kept);
	dump_snapshots_done(&d);
	dump_pages_done(&d);
	dump_done(&d);
	return r;
}

/* Before it is stopped once more, what can be seen while it runs is to be gone. */
static int look_before_stop(struct container *c, const struct checkpoint_options *o, int guard_fd,
	struct patience *p, struct preflight_report *report, struct error *e)
{
	struct patience looks = {.end = p->end, .tried = p->tried};
	int r = dump_guard_is_alive(guard_fd, e);

	if (r == 0)
		r = look_patiently(c, o, &looks, report, e);
	return r == 0 && report->n > 0 ? preflight_refuse(report, e) : r;
}

/* What preflight has not met may be passing: events that are about to be read, a process that has just ended, a call that could
 * not be told because its thread ran until the freeze. Then the container goes on for a moment, and is stopped once more. */
int native_dump(struct container *c, const struct checkpoint_options *o, int image_dir,
	struct dump_journal *journal, int guard_fd, struct preflight_report *report,
	struct image_statistics *stats, struct error *e)
{
	_cleanup_(pre_copy_kept_done) struct pre_copy_kept kept = {.track = {TRACK_INIT}};
	struct dump_queue_journal *queue;
	uint64_t preflight_us = stats->preflight_us;
	struct patience p;

	patience_begin(&p, o, is_paused(c));
	for (;;) {
		bool again = false;
		int r = dump_once(c, o, image_dir, journal, guard_fd, report, stats, &kept, &again, e);

		if (!again || !patience_for_stop(&p, o, preflight_is_passing(report)))
			return r;
		queue = journal->queue;
		memset(journal, 0, sizeof(*journal)); /* too large for the stack */
		journal->queue = queue;
		*stats = (struct image_statistics){.preflight_us = preflight_us};
		if (report->n == 0)
			continue;
		preflight_report_done(report);
		r = look_before_stop(c, o, guard_fd, &p, report, e);
		if (r < 0)
			return r;
	}
}
