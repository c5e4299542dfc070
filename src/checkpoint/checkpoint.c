/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint as every engine shares it: states, directories, preflight; then the work is done by a process of its
 * own, the surgeon, and this one is the guard. Each watches the other: if the guard goes (killed, or interrupted by its
 * user), the surgeon puts everything back and stops; if the surgeon dies, the guard does what is left to undo, from the
 * journal in shared memory.
 */
#include "checkpoint/engine.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fault.h"
#include "base/fd.h"
#include "base/log.h"
#include "checkpoint/application.h"
#include "checkpoint/engine-priv.h"
#include "checkpoint/meeting.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/pre-copy.h"
#include "checkpoint/native/restore.h"
#include "checkpoint/native/snapshot.h"
#include "checkpoint/native/states.h"
#include "checkpoint/native/ttys.h"
#include "checkpoint/stream.h"

/* Where the image goes. */
struct target {
	const char *path;
	int fd;		/* locked */
	bool created;	/* it was not there before, and goes again if the checkpoint fails */
	bool claimed;	/* what is in it, and of an image, is ours */
	bool had_older; /* an image, which comes back if the checkpoint fails */
};

/* What the surgeon tells. */
struct outcome {
	struct dump_journal journal;
	struct image_statistics stats;
	struct error error;
	int result;
	bool done;
};

static volatile sig_atomic_t cancelled;

static void on_cancel(int sig)
{
	cancelled = sig;
}

static void closedir_p(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* What may be there: an earlier image, which is replaced (podman checkpoints into the same directory again and again), and
 * what we write beside it. */
static bool may_be_there(const char *name)
{
	/* "parent": podman links to the parent image. */
	static const char *const beside[] = {".", "..", "dump.log", "restore.log", "stats-restore", "parent"};

	for (size_t i = 0; i < ARRAY_SIZE(beside); i++)
		if (!strcmp(name, beside[i]))
			return true;
	return image_owns(name);
}

static int check_usable(int fd, const char *path, struct error *e)
{
	_cleanup_(closedir_p) DIR *d = NULL;
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *ent;

	d = copy < 0 ? NULL : fdopendir(copy);
	if (!d)
		return error_errno(e, -errno, "read the image directory %s", path);
	while ((ent = readdir(d)))
		if (!may_be_there(ent->d_name))
			return error_set(e, -ENOTEMPTY, ERROR_USAGE,
				"the image directory %s is not empty (it holds \"%s\", which is not of an "
				"image): "
				"choose another --image-path, or remove it",
				path, ent->d_name);
	return 0;
}

/* One command at a time writes there. Some file systems cannot lock a directory. */
static int lock_directory(int fd, const char *path, struct error *e)
{
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	return error_set(e, -EBUSY, ERROR_STATE, "another checkpoint is being written to %s", path);
}

static int open_image_directory(const char *path, struct target *t, struct error *e)
{
	int r;

	t->path = path;
	t->created = mkdir(path, 0700) == 0;
	if (!t->created && errno != EEXIST)
		return error_errno(e, -errno, "make the image directory %s", path);
	t->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->fd < 0)
		return error_errno(e, -errno, "open the image directory %s", path);
	r = check_usable(t->fd, path, e);
	if (r < 0)
		return r;
	if (faccessat(t->fd, ".", W_OK | X_OK, 0) < 0)
		return error_errno(e, -errno, "the image directory %s is not writable", path);
	r = lock_directory(t->fd, path, e);
	if (r == 0)
		r = image_set_aside(t->fd, e);
	t->claimed = r >= 0;
	t->had_older = r > 0;
	return r < 0 ? r : 0;
}

static void remove_image(const struct target *t)
{
	if (t->fd < 0) /* a stream */
		return;
	if (t->had_older)
		image_put_back(t->fd);
	else
		image_remove(t->fd);
}

/* The end of it, well or ill. */
static void close_image_directory(struct target *t, int result)
{
	if (t->claimed && result == 0)
		image_drop_aside(t->fd);
	else if (t->claimed)
		remove_image(t);
	if (t->created && result < 0)
		rmdir(t->path);
	close_p(&t->fd);
}

/* Takes what the dead surgeon has mapped out of one process. */
static void unmap_leftover(struct dump_journal *j, unsigned i)
{
	struct arena a = {};
	struct error ignored;
	struct task t;
	struct task_call unmap = {.task = &t,
		.insn = j->mapped[i].syscall_insn,
		.nr = SYS_munmap,
		.args = {j->mapped[i].area, j->mapped[i].len}};

	/* An ordinary user cannot suspend a filter: then it is one that lets this through. */
	if (task_seize(&t, j->mapped[i].pid, PTRACE_O_SUSPEND_SECCOMP, &ignored) < 0 &&
		task_seize(&t, j->mapped[i].pid, 0, &ignored) < 0)
		return;
	if (task_interrupt(&t, &ignored) == 0 && task_wait_stop(&t, &ignored) == 0 &&
		task_read_registers(&t, &a, &ignored) == 0 && task_calls(&unmap, 1, &ignored) == 0)
		(void)!task_settle(&unmap, 1, &ignored);
	(void)!task_detach(&t, &ignored);
	arena_done(&a);
}

/* Lets the calls of a thread go again where they went before the surgeon. */
static void dispatch_leftover(const struct dump_dispatched *of)
{
	struct error ignored;
	struct task t;

	if (task_seize(&t, of->tid, 0, &ignored) < 0)
		return;
	if (task_interrupt(&t, &ignored) == 0 && task_wait_stop(&t, &ignored) == 0)
		(void)!state_set_dispatch(of->tid, &of->dispatch);
	(void)!task_detach(&t, &ignored);
}

/* A thread that went on with a sleep, and may be signalled again. */
static void wake_leftover(const struct dump_asleep *of)
{
	struct error ignored;
	struct task t;

	if (task_seize(&t, of->tid, 0, &ignored) < 0)
		return;
	if (task_interrupt(&t, &ignored) == 0 && task_wait_stop(&t, &ignored) == 0)
		(void)!task_set_sigmask(of->tid, of->sigmask, &ignored);
	(void)!task_detach(&t, &ignored);
}

/* By a child, which can go where the surgeon was. */
static void undo_queue(struct container *c, struct dump_journal *j)
{
	struct error ignored;
	pid_t pid = j->queue->taken ? fork() : -1;

	if (pid == 0) {
		if (!checkpoint_is_unprivileged(c) || checkpoint_enter_userns(c, &ignored) == 0)
			dump_undo_queue(j->queue);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* The surgeon is dead: its tracees run on by themselves (task.h), the rest is done here. */
static void undo(struct container *c, struct dump_journal *j)
{
	struct error ignored;

	if (j->frozen)
		(void)!cgroup_thaw(&c->cgroup, &ignored);
	track_undo(j);
	dump_undo_ttys(&j->tty);
	undo_queue(c, j);
	for (unsigned i = 0; i < j->n_forking; i++)
		dump_reap_leftover(&j->forking[i]);
	for (unsigned i = 0; i < j->n; i++)
		unmap_leftover(j, i);
	for (unsigned i = 0; i < j->n_asleep; i++)
		wake_leftover(&j->asleep[i]);
	for (unsigned i = 0; i < j->n_dispatched; i++)
		dispatch_leftover(&j->dispatched[i]);
	dump_release_network(j, c->init_pid);
	if (j->paused)
		(void)!cgroup_freeze(&c->cgroup, 2000, &ignored);
}

static _Noreturn void surgeon(struct container *c, const struct checkpoint_options *o,
	const struct target *target, int guard_fd, struct preflight_report *report, struct outcome *out)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT};
	struct rlimit limit;

	/* The files of the container are duplicated here. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	setsid();
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
	out->result = checkpoint_is_unprivileged(c) ? checkpoint_enter_userns(c, &out->error) : 0;
	if (out->result == 0 && o->pre_dump)
		out->result =
			native_pre_dump(c, o, target->fd, &out->journal, guard_fd, &out->stats, &out->error);
	else if (out->result == 0)
		out->result = native_dump(
			c, o, target->fd, &out->journal, guard_fd, report, &out->stats, &out->error);
	if (out->result < 0)
		remove_image(target); /* the guard may be dead */
	out->done = true;
	_exit(0);
}

static int watch(struct container *c, pid_t pid, int *guard_fd, struct outcome *out, struct error *e)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return error_errno(e, -errno, "wait for the checkpoint process");
		if (cancelled)
			close_p(guard_fd);
	}
	if (out->done) {
		if (out->result < 0)
			*e = out->error;
		return out->result;
	}
	undo(c, &out->journal);
	return error_set(e, -ECANCELED, ERROR_SYSTEM,
		"the checkpoint process died of signal %d: the container runs on",
		WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

/* Memory that the surgeon shares with us. */
static void *share(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int operate_guarded(struct container *c, const struct checkpoint_options *o,
	const struct target *target, struct preflight_report *report, struct image_statistics *stats,
	struct error *e)
{
	struct sigaction cancel = {.sa_handler = on_cancel}, old_int, old_term;
	_cleanup_close_ int surgeon_end = -EBADF, guard_end = -EBADF;
	struct outcome *out;
	uint64_t preflight_us = stats->preflight_us;
	int ends[2], r;
	pid_t pid;

	out = share(sizeof(*out));
	if (!out || !(out->journal.queue = share(sizeof(*out->journal.queue))) || pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(e, -errno, "prepare the checkpoint");
	surgeon_end = ends[0];
	guard_end = ends[1];
	out->stats.preflight_us = preflight_us;
	cancelled = 0;
	sigaction(SIGINT, &cancel, &old_int);
	sigaction(SIGTERM, &cancel, &old_term);
	pid = fork();
	if (pid == 0) {
		close_p(&guard_end);
		surgeon(c, o, target, surgeon_end, report, out);
	}
	r = pid < 0 ? error_errno(e, -errno, "fork") : watch(c, pid, &guard_end, out, e);
	sigaction(SIGINT, &old_int, NULL);
	sigaction(SIGTERM, &old_term, NULL);
	*stats = out->stats;
	munmap(out->journal.queue, sizeof(*out->journal.queue));
	munmap(out, sizeof(*out));
	return r;
}

/* The log and the statistics in the work directory: what callers copy and show. */
static void write_log(const char *dir, enum image_operation operation, const struct image_statistics *s,
	int result, const struct error *e)
{
	const char *name = operation == IMAGE_DUMP ? "dump.log" : "restore.log";
	_cleanup_close_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct error ignored;
	FILE *out;
	int fd;

	if (dirfd < 0)
		return;
	if (result == 0 && image_write_stats(dirfd, operation, s, &ignored) < 0)
		log_warning("%s", ignored.message);
	fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	out = fdopen(fd, "w");
	if (!out) {
		close_p(&fd);
		return;
	}
	fprintf(out, "stasis %s, native engine\n", STASIS_VERSION);
	image_statistics_print(s, operation, out);
	if (result < 0)
		fprintf(out, "Error: %s\n", e->message);
	else
		fprintf(out, "finished successfully\n");
	fclose(out);
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

static int check_state(const struct container *c, struct error *e)
{
	enum container_status s = container_status(c);

	if (s == CONTAINER_RUNNING || s == CONTAINER_PAUSED)
		return 0;
	return error_set(e, -EINVAL, ERROR_STATE, "cannot checkpoint container \"%s\": it is %s, not running",
		c->id, container_status_name(s));
}

static int check_empty_ns(const char *name, struct error *e)
{
	if (name && strcmp(name, "network") != 0)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"--empty-ns \"%.40s\": only the network namespace can be left empty: say network",
			name);
	return 0;
}

static int check_options(const struct container *c, const struct checkpoint_options *o, struct error *e)
{
	if (o->parent_path && (*o->parent_path == '/' || !*o->parent_path))
		return error_set(e, -EINVAL, ERROR_USAGE,
			"--parent-path \"%.200s\" is to be relative to the image's directory",
			o->parent_path);
	if (o->pre_copy && (o->pre_dump || o->parent_path))
		return error_set(e, -EINVAL, ERROR_USAGE,
			"--pre-copy is in one command what --pre-dump and --parent-path are in several: "
			"choose one of the ways");
	if (o->pre_dump && pre_copy_is_possible(checkpoint_is_unprivileged(c), e) < 0) {
		error_prefix(e, "--pre-dump is not possible");
		return e->code;
	}
	return check_empty_ns(o->empty_ns, e);
}

static int check_stream_options(const struct checkpoint_options *o, struct error *e)
{
	if (o->to_stream && o->packing.codec != IMAGE_CODEC_NONE)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"--compress is for image directories: leave it out, and send the stream through a "
			"compressor "
			"(| zstd)");
	if (o->to_stream && (o->pre_dump || o->parent_path || o->pre_copy))
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"--pre-dump, --parent-path and --pre-copy are for image directories: leave them out, "
			"or send the "
			"directory (stasis image squash, stasis image pack)");
	if (o->to_stream && o->packing.dedup)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"pages of a stream can't be compared with each other: leave --dedup out");
	return 0;
}

static int preflight(
	struct container *c, const struct checkpoint_options *o, struct preflight_report *r, struct error *e)
{
	return checkpoint_is_unprivileged(c) ? checkpoint_preflight_inside(c, o, r, e)
					     : native_preflight(c, o, r, e);
}

int checkpoint_preflight(
	struct container *c, const struct checkpoint_options *o, struct preflight_report *r, struct error *e)
{
	int result = check_state(c, e);

	return result < 0 ? result : preflight(c, o, r, e);
}

/* From here on an attempt counts. A pre-dump is none. */
static int begin_attempt(
	struct container *c, const struct checkpoint_options *o, bool *ret_saved, struct error *e)
{
	int r;

	if (o->pre_dump)
		return 0;
	container_read_attempts(c);
	r = container_count_attempt(c, ATTEMPT_BEGINS, e);
	return r < 0 ? r : application_save(c, ret_saved, e);
}

static int end_attempt(
	struct container *c, const struct checkpoint_options *o, bool saved, int result, struct error *e)
{
	struct error ignored;

	if (result < 0 || o->leave_running)
		result = application_resume(c, saved, result, e);
	if (result < 0 && !o->pre_dump)
		(void)!container_count_attempt(c, ATTEMPT_FAILED, &ignored);
	return result;
}

int checkpoint_run(struct container *c, const struct checkpoint_options *o, struct preflight_report *report,
	struct image_statistics *stats, struct error *e)
{
	const char *path = o->image_path ? o->image_path : "checkpoint",
		   *work = o->work_path ? o->work_path : path;
	struct preflight_report own = {}, *rep = report ? report : &own;
	struct checkpoint_options options = *o;
	struct target target = {.fd = -EBADF};
	struct progress progress = progress_to(STDERR_FILENO, o->progress);
	bool begun = false, saved = false;
	uint64_t begin = now_us();
	int r;

	*stats = (struct image_statistics){};
	progress_start(&progress, "preflight", NULL, 0);
	r = check_options(c, o, e);
	if (r == 0)
		r = stream_target(path, &options.stream_fd, e);
	options.to_stream = r == 1;
	r = r < 0 ? r : check_stream_options(&options, e);
	o = &options;
	if (r == 0)
		r = check_state(c, e);
	begun = r == 0;
	if (r == 0)
		r = begin_attempt(c, o, &saved, e);
	/* What is missing is only in the image. */
	if (r == 0)
		r = container_filling_wait(c, -1, e);
	if (r == 0)
		r = fault_point("checkpoint-start", e);
	if (r == 0)
		r = preflight(c, o, rep, e);
	if (r == 0 && rep->n > 0)
		r = preflight_refuse(rep, e);
	stats->preflight_us = now_us() - begin;
	progress_stop(&progress);
	if (r == 0)
		r = fault_point("checkpoint-preflight", e);
	if (r == 0 && !o->to_stream)
		r = open_image_directory(path, &target, e);
	if (r == 0)
		r = fault_point("checkpoint-directory", e);
	if (r == 0)
		r = operate_guarded(c, o, &target, rep, stats, e);
	if (begun)
		r = end_attempt(c, o, saved, r, e);
	close_image_directory(&target, r);
	stats->total_us = now_us() - begin;
	/* Nothing of a failed checkpoint stays in its image directory, also not the log. */
	if ((r == 0 && !o->to_stream) || o->work_path)
		write_log(work, IMAGE_DUMP, stats, r, e);
	preflight_report_done(&own);
	return r;
}

/* A checkpoint over this image may have been killed with all that would have put it back. */
static int recover_image(int fd, const char *path, struct error *e)
{
	int r;

	if (!image_is_aside(fd))
		return 0;
	r = lock_directory(fd, path, e);
	if (r < 0)
		return r;
	image_recover(fd);
	flock(fd, LOCK_UN);
	return 0;
}

int lazy_mode_parse(const char *name, enum lazy_mode *ret, struct error *e)
{
	static const char *const names[] = {[LAZY_AUTO] = "auto", [LAZY_NO] = "no", [LAZY_YES] = "yes"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (name && strcmp(name, names[i]) != 0)
			continue;
		*ret = i;
		return 0;
	}
	return error_set(e, -EINVAL, ERROR_USAGE, "invalid --lazy \"%.40s\": yes, no or auto", name);
}

static int open_image(const char *path, int *ret, struct error *e)
{
	*ret = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret < 0)
		return error_errno(e, -errno, "open the image directory %s", path);
	return recover_image(*ret, path, e);
}

/* A descriptor is the stream's or the container's. */
static int check_preserved(const struct restore_options *o, const char *path, struct error *e)
{
	int fd = -EBADF, r = checkpoint_stream_fd(path, STDIN_FILENO, &fd, e);

	if (r <= 0 || fd <= STDERR_FILENO || fd > STDERR_FILENO + o->create.preserve_fds)
		return MIN(r, 0);
	return error_set(e, -EINVAL, ERROR_USAGE,
		"--image-path %s: --preserve-fds gives that descriptor to the container: use one behind them",
		path);
}

static int tell_restored(struct container *c, struct error *e)
{
	int r;

	c->restoring = false; /* from here on processes may come into it */
	r = application_hook(c, APPLICATION_RESTORE, NULL, e);
	if (r >= 0)
		r = fault_point("restore-told", e);
	return MIN(r, 0);
}

/* The last that may fail: then there is no container. */
static int complete(struct meeting *m, struct container **c, struct error *e)
{
	int r = tell_restored(*c, e);

	if (r == 0 && m)
		r = meeting_end(m, *c, e);
	if (r == 0)
		return 0;
	if (!m || meeting_may_undo(m, *c, e))
		container_abort(*c);
	if (m)
		meeting_failed(m, *c, e);
	container_free(*c);
	*c = NULL;
	return r;
}

int restore_run(const struct restore_options *o, struct container **ret, struct image_statistics *stats,
	struct error *e)
{
	const char *path = o->image_path ? o->image_path : "checkpoint";
	_cleanup_close_ int image_dir = -EBADF, stream = -EBADF;
	_cleanup_(stream_feed_done) struct stream_feed feed = {};
	uint64_t begin = now_us();
	int r;

	*stats = (struct image_statistics){};
	r = check_empty_ns(o->empty_ns, e);
	if (r == 0)
		r = fault_point("restore-start", e);
	if (r == 0)
		r = check_preserved(o, path, e);
	if (r == 0)
		r = stream_source(path, &stream, e);
	if (r < 0)
		return r;
	r = stream >= 0 ? stream_feed_start(&feed, stream, o->lazy == LAZY_YES, e)
			: open_image(path, &image_dir, e);
	if (r < 0)
		return r;
	close_p(&stream);
	r = native_restore(o, image_dir, &feed, ret, stats, e);
	stats->total_us = now_us() - begin;
	if (r == 0)
		r = complete(o->meeting, ret, e);
	if (r == 0)
		container_settle(*ret);
	if (r == 0 && !(o->meeting && o->meeting->prepare)) /* then they are container_start()'s */
		r = container_run_hooks(*ret, HOOK_POSTSTART, e);
	if (o->work_path)
		write_log(o->work_path, IMAGE_RESTORE, stats, r, e);
	return r;
}
