/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint and a restore as every engine shares them: states, directories, preflight, logs. */
#include "checkpoint/engine.h"

#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
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
#include "checkpoint/stream.h"

void checkpoint_write_log(const char *dir, enum image_operation operation, const struct image_statistics *s,
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

int checkpoint_check_state(const struct container *c, struct error *e)
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

int checkpoint_check_options(const struct container *c, const struct checkpoint_options *o, struct error *e)
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
	if (o->to_stream && (o->pre_dump || o->parent_path))
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"--pre-dump and --parent-path are for image directories: use --pre-copy, which does "
			"both "
			"in one stream, or send the directory (stasis image squash, stasis image pack)");
	if (o->to_stream && o->packing.dedup)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"pages of a stream can't be compared with each other: leave --dedup out");
	return 0;
}

static int preflight(
	struct container *c, const struct checkpoint_options *o, struct preflight_report *r, struct error *e)
{
	struct preflight_look look = {c, o, r};

	return checkpoint_is_unprivileged(c) ? checkpoint_preflight_inside(&look, 1, e)
					     : native_preflight(c, o, r, e);
}

int checkpoint_preflight(
	struct container *c, const struct checkpoint_options *o, struct preflight_report *r, struct error *e)
{
	int result = checkpoint_check_state(c, e);

	return result < 0 ? result : preflight(c, o, r, e);
}

int checkpoint_begin_attempt(
	struct container *c, const struct checkpoint_options *o, bool *ret_saved, struct error *e)
{
	int r;

	if (o->pre_dump)
		return 0;
	container_read_attempts(c);
	r = container_count_attempt(c, ATTEMPT_BEGINS, e);
	return r < 0 ? r : application_save(c, ret_saved, e);
}

int checkpoint_resume_attempt(
	struct container *c, const struct checkpoint_options *o, bool saved, int result, struct error *e)
{
	return result < 0 || o->leave_running ? application_resume(c, saved, result, e) : result;
}

void checkpoint_end_attempt(struct container *c, const struct checkpoint_options *o, int result)
{
	struct error ignored;

	if (!o->pre_dump)
		(void)!container_count_attempt(c, result < 0 ? ATTEMPT_FAILED : ATTEMPT_COMPLETED, &ignored);
}

/* Where the room is missing, how much there is, and what helps. */
int checkpoint_explain_target(const char *path, int result, struct error *e)
{
	char why[sizeof(e->message)];
	struct statvfs fs;

	if (result != -ENOSPC && result != -EDQUOT)
		return result;
	snprintf(why, sizeof(why), "%s", e->message);
	if (statvfs(path, &fs) < 0 && statvfs(".", &fs) < 0)
		return result;
	return error_set(e, result, ERROR_SYSTEM,
		"the image does not fit into %.300s: %.300s (%llu KiB are free: make room, or choose another "
		"directory; "
		"--compress "
		"makes it smaller)",
		path, why, (unsigned long long)fs.f_bavail * fs.f_frsize >> 10);
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
	struct application_hold hold = {};
	bool begun = false, saved = false;
	uint64_t begin = now_us();
	int r;

	*stats = (struct image_statistics){};
	progress_start(&progress, "preflight", NULL, 0);
	r = checkpoint_check_options(c, o, e);
	if (r == 0)
		r = stream_target(path, &options.stream_fd, e);
	options.to_stream = r == 1;
	r = r < 0 ? r : check_stream_options(&options, e);
	o = &options;
	if (r == 0)
		r = checkpoint_check_state(c, e);
	begun = r == 0;
	if (r == 0)
		application_hold(&hold, c);
	if (r == 0)
		r = checkpoint_begin_attempt(c, o, &saved, e);
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
		r = target_open(path, &target, e);
	if (r == 0)
		r = fault_point("checkpoint-directory", e);
	if (r == 0)
		r = guard_run(
			&(struct operation){.c = c, .o = o, .target = &target, .report = rep, .stats = stats},
			1, &(struct guarding){}, NULL, e);
	if (r < 0 && target.fd >= 0)
		r = checkpoint_explain_target(path, r, e);
	if (begun) {
		r = checkpoint_resume_attempt(c, o, saved, r, e);
		checkpoint_end_attempt(c, o, r);
	}
	target_close(&target, r);
	application_release(&hold);
	stats->total_us = now_us() - begin;
	/* Nothing of a failed checkpoint stays in its image directory, also not the log. */
	if ((r == 0 && !o->to_stream) || o->work_path)
		checkpoint_write_log(work, IMAGE_DUMP, stats, r, e);
	preflight_report_done(&own);
	return r;
}

int spec_check_parse(const char *name, enum spec_check *ret, struct error *e)
{
	static const char *const names[] = {"enforce", "warning", "ignore"}; /* enum spec_check */

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!name || !strcmp(name, names[i])) {
			*ret = (enum spec_check)i;
			return 0;
		}
	return error_set(
		e, -EINVAL, ERROR_USAGE, "invalid --spec-check \"%.40s\": enforce, warning or ignore", name);
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
	return target_recover(*ret, path, e);
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
	if (m)
		meeting_tell_failure(m, e);
	if (!m || meeting_may_undo(m, *c))
		container_abort(*c);
	if (m)
		meeting_failed(m, *c, e);
	container_free(*c);
	*c = NULL;
	return r;
}

/* The container is gone after a failure: its configuration says where it would have been. */
static void count(const struct restore_options *o, const struct container *c)
{
	_cleanup_(spec_free_p) struct spec *spec = NULL;
	_cleanup_free_ char *sandbox = NULL, *name = NULL;
	struct error ignored;

	if (c && c->sandbox)
		container_count_restore(c->root, c->sandbox, false);
	else if (!c && spec_load(o->create.bundle, &spec, &ignored) == 0 &&
		 container_find_sandbox(&o->create, spec, &sandbox, &name, &ignored) == 0 && sandbox)
		container_count_restore(o->create.root, sandbox, true);
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
	count(o, r == 0 ? *ret : NULL);
	if (r == 0)
		container_settle(*ret);
	if (r == 0 && !(o->meeting && o->meeting->prepare)) /* then they are container_start()'s */
		r = container_run_hooks(*ret, HOOK_POSTSTART, e);
	if (o->work_path)
		checkpoint_write_log(o->work_path, IMAGE_RESTORE, stats, r, e);
	return r;
}
