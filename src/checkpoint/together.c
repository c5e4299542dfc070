/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checkpoint of several containers at one moment. All are looked at first (preflight); then each has a surgeon of its own, and
 * these meet at the gates (gate.h): all containers stand still before any is read, all have been read before any runs on,
 * and all images are complete, and are one image, before any container is killed. When a surgeon fails they all undo what
 * they have done; when that is something that passes, they all try again.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "checkpoint/application.h"
#include "checkpoint/confine.h"
#include "checkpoint/engine-priv.h"
#include "checkpoint/native/peers.h"
#include "checkpoint/stream.h"
#include "checkpoint/patience.h"
#include "image/sandbox.h"
#include "linux/clocks.h"
#include "linux/mountfd.h"

/* One container of them. */
struct part {
	struct checkpoint_options options;
	struct together together;
	struct target target;
	bool begun, saved; /* the attempt (checkpoint_begin_attempt()) */
};

/* The whole. */
struct moment {
	const char *sandbox;
	struct checkpoint_member *members;
	unsigned n;
	const struct checkpoint_options *o;
	struct container *containers[CHECKPOINT_MEMBERS_MAX];
	struct part parts[CHECKPOINT_MEMBERS_MAX];
	struct target target;
	int stream; /* where the image is sent to when it is complete; -EBADF: it stays in its directory */
	struct application_hold hold;
	struct gate *gate;
	struct peers *peers;
	/* Shared by the surgeons. */
	struct clocks *clocks;
	struct progress_shares *progress;
	int64_t begin;
	struct image_statistics *stats;
};

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static const char *name_of(const struct moment *m, unsigned i)
{
	return m->members[i].c->name;
}

static int check(struct moment *m, struct error *e)
{
	const struct checkpoint_options *o = m->o;
	int r = o->image_path ? stream_target(o->image_path, &m->stream, e) : 0;

	if (r < 0)
		return r;
	r = 0;
	if (m->stream >= 0 && o->packing.dedup)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"pages of a stream can't be compared with each other: leave --dedup out");
	if (o->pre_dump || o->parent_path)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"--pre-dump and --parent-path are for a container alone: leave them out (--pre-copy "
			"does in "
			"one command what they do in several), or checkpoint the containers singly");
	for (unsigned i = 0; i < m->n && r == 0; i++) {
		struct container *c = m->members[i].c;

		r = checkpoint_check_options(c, o, e);
		if (r == 0)
			r = checkpoint_check_state(c, e);
	}
	return r;
}

/* What the containers have to do before, and what must be complete. */
static int begin(struct moment *m, struct error *e)
{
	int r = 0;

	for (unsigned i = 0; i < m->n && r == 0; i++) {
		m->parts[i].begun = true;
		application_hold(&m->hold, m->containers[i]);
		r = checkpoint_begin_attempt(m->containers[i], m->o, &m->parts[i].saved, e);
		/* What is missing is only in the image. */
		if (r == 0)
			r = container_filling_wait(m->containers[i], -1, e);
		if (r < 0)
			error_prefix(e, "container \"%.100s\"", name_of(m, i));
	}
	return r;
}

static int end(struct moment *m, int r, struct error *e)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->parts[i].begun)
			r = checkpoint_resume_attempt(m->containers[i], m->o, m->parts[i].saved, r, e);
	for (unsigned i = 0; i < m->n; i++)
		if (m->parts[i].begun)
			checkpoint_end_attempt(m->containers[i], m->o, r);
	return r;
}

static int commit(void *arg, const struct commit_watch *w, struct error *e);

static void describe_parts(struct moment *m)
{
	for (unsigned i = 0; i < m->n; i++)
		m->containers[i] = m->members[i].c;
	for (unsigned i = 0; i < m->n; i++) {
		struct part *p = &m->parts[i];

		p->together = (struct together){
			.containers = m->containers, .n = m->n, .self = i, .commit = commit, .arg = m};
		p->together.to_stream = m->stream >= 0;
		p->options = *m->o;
		if (m->stream >= 0)
			p->options.packing = (struct image_packing){}; /* it is compressed on its way */
		p->options.together = &p->together;
		p->target = (struct target){.path = name_of(m, i), .fd = -EBADF, .sandbox = &m->target};
	}
}

/* One error for all obstacles of all. */
static int refuse(struct moment *m, struct error *e)
{
	size_t others = 0;
	unsigned first = m->n;

	for (unsigned i = 0; i < m->n; i++) {
		first = first == m->n && m->members[i].report.n > 0 ? i : first;
		others += i != first && m->members[i].report.n > 0;
	}
	if (first == m->n)
		return 0;
	(void)!preflight_refuse(&m->members[first].report, e);
	error_prefix(e, "container \"%.100s\"%s", name_of(m, first), others ? " (and others)" : "");
	return e->code;
}

static int preflight(struct moment *m, struct error *e)
{
	struct preflight_look looks[CHECKPOINT_MEMBERS_MAX];
	int r;

	for (unsigned i = 0; i < m->n; i++)
		looks[i] = (struct preflight_look){
			m->containers[i], &m->parts[i].options, &m->members[i].report};
	r = checkpoint_preflight_inside(looks, m->n, e);
	return r == 0 ? refuse(m, e) : r;
}

/*
 * The containers' images are written at the same time, and a stream is one after the other: so they are in memory in between, in a
 * file system that nobody else sees, and that is gone with the last process that has it open.
 */
static int open_memory(struct target *t, struct error *e)
{
	t->fd = mount_make("tmpfs", "stasis", "mode=0700", NULL,
		MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (t->fd == -EPERM)
		return error_set(e, -EPERM, ERROR_SYSTEM,
			"to send the image of a sandbox it is kept in memory for a while, which needs "
			"CAP_SYS_ADMIN: write it to a "
			"directory, and send that (stasis image pack)");
	return t->fd < 0 ? error_errno(e, t->fd, "memory for the image of a sandbox") : 0;
}

/* When all is complete, and before anybody is killed: who reads it has all of it, or the containers run on. */
static int send_stream(const struct moment *m, const struct commit_watch *w, struct error *e)
{
	struct image_sandbox_out to = {.fd = m->stream,
		.cancel_fd = w->guard_fd,
		.stall_s = m->o->stream_timeout,
		.packing = m->o->packing};

	to.packing.go_on = w->go_on;
	to.packing.arg = w->arg;
	return image_sandbox_pack(confined_image_open, m->target.fd, &to, e);
}

/* config.json as the container was created with. */
static int keep_config(const struct container *c, int fd, struct error *e)
{
	enum { LIMIT = 16 << 20 };
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = read_file_at(c->dir_fd, "config.json", LIMIT, &text, &len);

	if (r == 0)
		r = write_new_file_at(fd, IMAGE_CONFIG, text, len, 0600);
	return r < 0 ? error_errno(e, r, "keep config.json of container \"%.100s\"", c->id) : 0;
}

static int make_directories(struct moment *m, struct error *e)
{
	int r = 0;

	for (unsigned i = 0; i < m->n && r == 0; i++) {
		m->parts[i].target.fd = image_sandbox_make_directory(m->target.fd, name_of(m, i), e);
		r = MIN(m->parts[i].target.fd, 0);
		if (r == 0)
			r = keep_config(m->containers[i], m->parts[i].target.fd, e);
	}
	return r;
}

static uint64_t stopped_us(const struct moment *m)
{
	int64_t begin = gate_opened_at(m->gate, GATE_READY), end = gate_last_running(m->gate);

	if (!m->o->leave_running)
		end = gate_opened_at(m->gate, GATE_COMMITTED);
	return begin ? ((end ? end : now_ns()) - begin) / 1000 : 0;
}

/* In the last one of the surgeons. */
static int commit(void *arg, const struct commit_watch *w, struct error *e)
{
	const struct moment *m = arg;
	struct image_sandbox_member members[CHECKPOINT_MEMBERS_MAX] = {};
	struct image_sandbox s = {.id = m->sandbox,
		.stasis_version = STASIS_VERSION,
		.architecture = "x86_64",
		.page_size = IMAGE_PAGE_SIZE,
		.stopped_us = stopped_us(m),
		.total_us = (now_ns() - m->begin) / 1000,
		.members = members,
		.n_members = m->n};
	char created[40];
	struct utsname un;
	time_t t = time(NULL);
	struct tm tm;
	int r = 0;

	uname(&un);
	gmtime_r(&t, &tm);
	strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", &tm);
	s.kernel = un.release;
	s.created = created;
	for (unsigned i = 0; i < m->n && r == 0; i++) {
		members[i] = (struct image_sandbox_member){.name = name_of(m, i),
			.id = m->containers[i]->id,
			.generation = m->containers[i]->generation};
		r = image_read_checksum(m->parts[i].target.fd, &members[i].checksum, e);
	}
	if (r == 0)
		r = image_sandbox_commit(m->target.fd, &s, e);
	if (r == 0)
		r = fault_point("together-committed", e);
	return r == 0 && m->stream >= 0 ? send_stream(m, w, e) : r;
}

static int operate_once(struct moment *m, enum guard_retry *ret_retry, struct error *e)
{
	struct operation all[CHECKPOINT_MEMBERS_MAX];
	struct preflight_report reports[CHECKPOINT_MEMBERS_MAX] = {};
	struct guarding g = {m->gate, m->o->deadline_ms ? m->begin + m->o->deadline_ms * 1000000ll : 0};

	for (unsigned i = 0; i < m->n; i++) {
		m->members[i].stats = (struct image_statistics){.preflight_us = m->stats->preflight_us};
		all[i] = (struct operation){.c = m->containers[i],
			.o = &m->parts[i].options,
			.target = &m->parts[i].target,
			.report = &reports[i],
			.stats = &m->members[i].stats};
	}
	return guard_run(all, m->n, &g, ret_retry, e);
}

static bool is_any_paused(const struct moment *m)
{
	for (unsigned i = 0; i < m->n; i++)
		if (cgroup_is_frozen(&m->containers[i]->cgroup) > 0)
			return true;
	return false;
}

/* What preflight has not met may be passing, as in native_dump(). */
_Static_assert((int)PROGRESS_SHARES_MAX >= (int)CHECKPOINT_MEMBERS_MAX, "one share for each container");

static int operate(struct moment *m, struct error *e)
{
	struct patience p;
	int r = gate_new(m->n, &m->gate, e);

	if (r == 0)
		r = peers_new(m->n, &m->peers, e);
	m->clocks = mmap(NULL, sizeof(*m->clocks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	m->progress =
		mmap(NULL, sizeof(*m->progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (r == 0 && (m->clocks == MAP_FAILED || m->progress == MAP_FAILED))
		r = error_errno(e, -ENOMEM, "checkpoint");
	for (unsigned i = 0; i < m->n; i++) {
		m->parts[i].together.gate = m->gate;
		m->parts[i].together.peers = m->peers;
		m->parts[i].together.clocks = m->clocks;
		m->parts[i].together.progress = m->progress;
	}
	patience_begin(&p, m->o, is_any_paused(m));
	while (r == 0) {
		enum guard_retry retry = GUARD_FINAL;

		r = operate_once(m, &retry, e);
		if (r == 0 || retry == GUARD_FINAL || !patience_for_stop(&p, m->o, retry == GUARD_PASSING))
			break;
		for (unsigned k = 0; k < m->n; k++)
			image_remove(m->parts[k].target.fd);
		gate_reset(m->gate);
		peers_reset(m->peers);
		r = 0;
	}
	if (m->clocks != MAP_FAILED)
		munmap(m->clocks, sizeof(*m->clocks));
	if (m->progress != MAP_FAILED)
		munmap(m->progress, sizeof(*m->progress));
	return r;
}

static void sum_up(struct moment *m)
{
	struct image_statistics *s = m->stats;
	uint64_t preflight = s->preflight_us;

	for (unsigned i = 0; i < m->n; i++)
		image_statistics_join(s, &m->members[i].stats);
	s->preflight_us = preflight;
	s->frozen_us = m->gate ? stopped_us(m) : 0;
}

static void close_parts(struct moment *m)
{
	for (unsigned i = 0; i < m->n; i++)
		close_p(&m->parts[i].target.fd);
}

int checkpoint_run_together(const char *sandbox, struct checkpoint_member *members, unsigned n,
	const struct checkpoint_options *o, struct image_statistics *ret, struct error *e)
{
	const char *path = o->image_path ? o->image_path : "checkpoint";
	struct progress progress = progress_to(STDERR_FILENO, o->progress);
	struct moment *m;
	int r;

	*ret = (struct image_statistics){};
	if (n == 0 || n > CHECKPOINT_MEMBERS_MAX)
		return error_set(e, -E2BIG, ERROR_REFUSED,
			"sandbox %s has %u containers that run: from 1 to %d can be checkpointed at one "
			"moment",
			sandbox, n, CHECKPOINT_MEMBERS_MAX);
	m = calloc(1, sizeof(*m));
	if (!m)
		return error_errno(e, -ENOMEM, "checkpoint");
	*m = (struct moment){.sandbox = sandbox,
		.members = members,
		.n = n,
		.o = o,
		.target = {.fd = -EBADF},
		.stream = -EBADF,
		.begin = now_ns(),
		.stats = ret};
	progress_start(&progress, "preflight", NULL, 0);
	r = check(m, e);
	describe_parts(m);
	if (r == 0)
		r = begin(m, e);
	if (r == 0)
		r = fault_point("checkpoint-start", e);
	if (r == 0)
		r = preflight(m, e);
	ret->preflight_us = (now_ns() - m->begin) / 1000;
	progress_stop(&progress);
	if (r == 0)
		r = fault_point("checkpoint-preflight", e);
	if (r == 0)
		r = m->stream >= 0 ? open_memory(&m->target, e) : target_open(path, &m->target, e);
	if (r == 0)
		r = make_directories(m, e);
	if (r == 0)
		r = fault_point("checkpoint-directory", e);
	if (r == 0)
		r = operate(m, e);
	if (r < 0 && m->stream < 0)
		r = checkpoint_explain_target(path, r, e);
	r = end(m, r, e);
	close_parts(m);
	target_close(&m->target, r);
	application_release(&m->hold);
	sum_up(m);
	ret->total_us = (now_ns() - m->begin) / 1000;
	if ((r == 0 && m->stream < 0) || o->work_path)
		checkpoint_write_log(o->work_path ? o->work_path : path, IMAGE_DUMP, ret, r, e);
	gate_free(m->gate);
	peers_free(m->peers);
	free(m);
	return r;
}
