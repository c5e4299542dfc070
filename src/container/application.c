/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a container is told of its checkpoints and restores (docs/application.md), if an annotation asks for it: a directory of
 * ours, read-only, as its /run/stasis, with a few small files and, where it may ask for a checkpoint of itself, a socket.
 *
 * A file keeps its inode and, but for "environment", its size as long as the container and all that is restored of it: who
 * has one open is no obstacle to a checkpoint.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "container/container-priv.h"

#define PREFIX APPLICATION_PREFIX
#define APPLICATION_DIR "application"
#define ATTEMPTS_FILE "attempts"
enum { ENVIRONMENT_MAX = 4 << 20 };

static const char *const hook_annotations[APPLICATION_HOOKS] = {
	[APPLICATION_SAVE] = PREFIX "hooks.save",
	[APPLICATION_RESUME] = PREFIX "hooks.resume",
	[APPLICATION_RESTORE] = PREFIX "hooks.restore",
};

static int bad(struct error *e, const char *name, const char *what)
{
	return error_set(e, -EINVAL, ERROR_CONFIG, "annotations[\"%.60s\"]: %s", name, what);
}

static int take_bool(const char *name, const char *value, bool *ret, struct error *e)
{
	*ret = !strcmp(value, "true");
	return *ret || !strcmp(value, "false") ? 0 : bad(e, name, "must be \"true\" or \"false\"");
}

static int take_seconds(const char *name, const char *value, unsigned *ret, struct error *e)
{
	char *end = NULL;
	unsigned long n = value[0] >= '0' && value[0] <= '9' ? strtoul(value, &end, 10) : 0;

	if (!end || *end || n < 1 || n > 86400)
		return bad(e, name, "must be a number of seconds, from 1 to 86400");
	*ret = n;
	return 0;
}

static int take_path(const char *name, const char *value, struct arena *a, const char **ret, struct error *e)
{
	*ret = arena_strdup(a, value);
	if (!*ret)
		return error_errno(e, -ENOMEM, "%s", name);
	return value[0] == '/' ? 0 : bad(e, name, "must be an absolute path");
}

static void json_put_p(struct json_object **o)
{
	json_object_put(*o);
}

/* A JSON array of strings; NULL: it is none. */
static char **take_strings(const char *value, struct arena *a)
{
	_cleanup_(json_put_p) struct json_object *o = json_tokener_parse(value);
	size_t n = json_object_is_type(o, json_type_array) ? json_object_array_length(o) : 0;
	char **all = n > 0 && n <= APPLICATION_OPTIONS_MAX ? arena_array(a, n + 1, sizeof(*all)) : NULL;

	for (size_t i = 0; all && i < n; i++) {
		struct json_object *v = json_object_array_get_idx(o, i);
		const char *s = json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;

		if (!s || strlen(s) != (size_t)json_object_get_string_len(v))
			return NULL;
		all[i] = arena_strdup(a, s);
		if (!all[i])
			return NULL;
	}
	return all;
}

static int take_command(const char *name, const char *value, struct arena *a, char ***ret, struct error *e)
{
	/* Whoever sets annotations on a command line is glad of few quotes. */
	if (value[0] == '/') {
		*ret = arena_array(a, 2, sizeof(**ret));
		if (*ret)
			(*ret)[0] = arena_strdup(a, value);
		return *ret && (*ret)[0] ? 0 : error_errno(e, -ENOMEM, "%s", name);
	}
	*ret = take_strings(value, a);
	if (*ret && (*ret)[0][0])
		return 0;
	return bad(e, name,
		"must be the absolute path of a program, or a command as a JSON array of strings: "
		"[\"/bin/program\", \"argument\"]");
}

/* What the others say is not to be said twice. */
static int take_options(const char *name, const char *value, struct arena *a, char ***ret, struct error *e)
{
	static const char *const others[] = {"--image-path", "--leave-running", "--sandbox", "--pre-dump"};
	char **all = *ret = take_strings(value, a);
	bool good = all;

	for (size_t i = 0; good && all[i]; i++) {
		good = !strncmp(all[i], "--", 2) && all[i][2];
		for (size_t k = 0; k < ARRAY_SIZE(others); k++)
			good &= strncmp(all[i], others[k], strlen(others[k])) != 0;
	}
	return good ? 0
		    : bad(e, name,
			      "must be options of checkpoint as a JSON array of strings, \"--NAME\" or "
			      "\"--NAME=VALUE\", without --image-path, --leave-running, --sandbox and "
			      "--pre-dump");
}

static int take_hook(const char *name, const char *value, struct arena *a, struct application *to,
	bool *ret_known, struct error *e)
{
	for (int i = 0; i < APPLICATION_HOOKS; i++)
		if (!strcmp(name, hook_annotations[i]))
			return take_command(name, value, a, &to->hooks[i], e);
	*ret_known = false;
	return 0;
}

static int take(const struct spec_annotation *of, struct arena *a, struct application *to, struct error *e)
{
	const char *name = of->name, *what = name + strlen(PREFIX);
	bool known = true;
	int r;

	if (!strcmp(what, "application"))
		return take_bool(name, of->value, &to->present, e);
	if (!strcmp(what, "application.image-path"))
		return take_path(name, of->value, a, &to->image_path, e);
	if (!strcmp(what, "application.sandbox-image-path"))
		return take_path(name, of->value, a, &to->sandbox_image_path, e);
	if (!strcmp(what, "application.options"))
		return take_options(name, of->value, a, &to->options, e);
	if (!strcmp(what, "application.leave-running"))
		return take_bool(name, of->value, &to->leave_running, e);
	if (!strcmp(what, "application.interval"))
		return take_seconds(name, of->value, &to->interval, e);
	if (!strcmp(what, "hooks.timeout"))
		return take_seconds(name, of->value, &to->timeout, e);
	r = take_hook(name, of->value, a, to, &known, e);
	return known ? r
		     : bad(e, name,
			       "there is no such one: application, application.image-path, "
			       "application.sandbox-image-path, application.options, "
			       "application.leave-running, application.interval, hooks.save, hooks.resume, "
			       "hooks.restore and hooks.timeout are");
}

int container_application(const struct spec *s, struct arena *a, struct application *ret, struct error *e)
{
	int r = 0;

	*ret = (struct application){.leave_running = true, .interval = 1, .timeout = 30};
	for (size_t i = 0; i < s->n_annotations && r == 0; i++)
		if (!strncmp(s->annotations[i].name, PREFIX, strlen(PREFIX)))
			r = take(&s->annotations[i], a, ret, e);
	if (r == 0 && ret->image_path && !ret->present)
		return bad(e, PREFIX "application.image-path",
			"needs " PREFIX
			"application to be \"true\", which gives the container the socket to ask");
	return r;
}

/* ---- the files ---- */

static int write_view(int dir, const char *name, const char *text, size_t len)
{
	int r = write_new_file_at(dir, name, text, len, 0644);

	return r < 0 || fchmodat(dir, name, 0644, 0) == 0 ? r : -errno; /* whatever our umask is */
}

/* As /proc/PID/environ: each variable ends with NUL. */
static int write_environment(int dir, char *const *env)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0, at = 0;

	for (size_t i = 0; env && env[i]; i++)
		len += strlen(env[i]) + 1;
	text = len <= ENVIRONMENT_MAX ? malloc(len + 1) : NULL;
	if (!text)
		return len <= ENVIRONMENT_MAX ? -ENOMEM : -E2BIG;
	for (size_t i = 0; env && env[i]; i++) {
		memcpy(text + at, env[i], strlen(env[i]) + 1);
		at += strlen(env[i]) + 1;
	}
	return write_view(dir, CONTAINER_APPLICATION_ENVIRONMENT, text, len);
}

enum { ATTEMPTS_SIZE = 120 };
/* Always as long. */
static size_t attempts_text(const struct container_attempts *n, char text[ATTEMPTS_SIZE])
{
	return snprintf(text, ATTEMPTS_SIZE, "checkpoints %-20" PRIu64 "\nfailed %-20" PRIu64 "\n",
		n->checkpoints, n->failed);
}

/* What the state directory has besides is nothing for the container: how many were made of itself. */
static size_t kept_text(const struct container_attempts *n, char text[ATTEMPTS_SIZE])
{
	size_t len = attempts_text(n, text);

	return len + snprintf(text + len, ATTEMPTS_SIZE - len, "completed %-20" PRIu64 "\n", n->completed);
}

static int write_views(int dir, const struct spec *s, uint64_t generation, const struct container_attempts *n)
{
	char text[ATTEMPTS_SIZE];
	int r;

	snprintf(text, sizeof(text), "%-20" PRIu64 "\n", generation);
	r = write_view(dir, "generation", text, strlen(text));
	if (r == 0)
		r = write_view(dir, "restored", generation ? "1\n" : "0\n", 2);
	if (r == 0)
		r = write_view(dir, ATTEMPTS_FILE, text, attempts_text(n, text));
	return r < 0 ? r : write_environment(dir, s->process->env);
}

static int add_mount(const struct container *c, struct spec *s)
{
	struct spec_mount *all = arena_array(&s->arena, s->n_mounts + 1, sizeof(*all));
	const char *source = arena_printf(&s->arena, "%s/%s/" APPLICATION_DIR, c->root, c->id);

	if (!all || !source)
		return -ENOMEM;
	if (s->n_mounts)
		memcpy(all, s->mounts, s->n_mounts * sizeof(*all));
	all[s->n_mounts++] = (struct spec_mount){
		.destination = CONTAINER_APPLICATION,
		.source = source,
		.flags = MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
		.is_bind = true,
	};
	s->mounts = all;
	return 0;
}

/* Of all containers, also those who are not told. In place, if it is there: who has it open learns how the last one ended, also when
 * the container went with it. */
static int keep_attempts(struct container *c)
{
	_cleanup_close_ int fd = openat(c->dir_fd, ATTEMPTS_FILE, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	char text[ATTEMPTS_SIZE];
	size_t len = kept_text(&c->attempts, text);

	return fd >= 0 ? pwrite_all(fd, text, len, 0)
		       : write_file_replace_at(c->dir_fd, ATTEMPTS_FILE, text, len, 0600);
}

int application_prepare(
	struct container *c, struct spec *s, const struct container_create_options *o, struct error *e)
{
	_cleanup_close_ int dir = -EBADF;
	struct application a;
	int r = container_application(s, &s->arena, &a, e);

	if (r < 0)
		return r;
	c->attempts = o->attempts;
	if (o->attempts.checkpoints || c->sandbox)
		r = keep_attempts(c);
	if (r == 0 && !a.present)
		return 0;
	if (r == 0 && !s->namespaces[NS_MNT].present)
		return bad(e, PREFIX "application", "needs a mount namespace in linux.namespaces");
	if (r == 0 && mkdirat(c->dir_fd, APPLICATION_DIR, 0755) < 0)
		r = -errno;
	if (r == 0)
		dir = openat(c->dir_fd, APPLICATION_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r == 0 && (dir < 0 || fchmod(dir, 0755) < 0))
		r = -errno;
	if (r == 0)
		r = write_views(dir, s, o->generation, &o->attempts);
	if (r == 0)
		r = add_mount(c, s);
	return r < 0 ? error_errno(e, r, CONTAINER_APPLICATION " of the container") : 0;
}

int container_open_application(const struct container *c)
{
	int fd = openat(c->dir_fd, APPLICATION_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* ---- attempts ---- */

int container_open_attempts(int dir_fd)
{
	int fd = openat(dir_fd, ATTEMPTS_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Versions before had no third line. */
bool container_attempts_in(int fd, struct container_attempts *ret)
{
	char text[ATTEMPTS_SIZE];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	*ret = (struct container_attempts){};
	if (n <= 0)
		return false;
	text[n] = '\0';
	if (sscanf(text, "checkpoints %" SCNu64 " failed %" SCNu64 " completed %" SCNu64, &ret->checkpoints,
		    &ret->failed, &ret->completed) >= 2)
		return true;
	*ret = (struct container_attempts){};
	return false;
}

void container_read_attempts(struct container *c)
{
	_cleanup_close_ int fd = container_open_attempts(c->dir_fd);

	if (!container_attempts_in(fd, &c->attempts))
		c->attempts = (struct container_attempts){};
}

/* In place: whoever has it open sees the new numbers. */
static int show_attempts(const struct container *c)
{
	_cleanup_close_ int dir = container_open_application(c), fd = -EBADF;
	char text[ATTEMPTS_SIZE];

	if (dir < 0)
		return dir == -ENOENT ? 0 : dir;
	fd = openat(dir, ATTEMPTS_FILE, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : pwrite_all(fd, text, attempts_text(&c->attempts, text), 0);
}

int container_count_attempt(struct container *c, enum container_attempt what, struct error *e)
{
	int r;

	if (what == ATTEMPT_BEGINS)
		c->attempts.checkpoints++;
	else if (what == ATTEMPT_FAILED)
		c->attempts.failed++;
	else
		c->attempts.completed++;
	r = keep_attempts(c);
	if (r == 0 && what != ATTEMPT_COMPLETED)
		r = show_attempts(c);
	return r < 0 ? error_errno(e, r, "count the checkpoints of container %s in %s", c->id, c->root) : 0;
}
