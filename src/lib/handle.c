/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime and the containers as handles, and all that is done in the caller's process. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "lib/lib-priv.h"

int lib_error(int r, const struct error *e, struct stasis_error *ret)
{
	if (r < 0 && ret) {
		ret->code = r;
		ret->kind = (enum stasis_error_kind)e->kind;
		snprintf(ret->message, sizeof(ret->message), "%s", e->message);
	}
	return r;
}

_Static_assert((int)STASIS_ERROR_INTERNAL == (int)ERROR_INTERNAL, "the kinds are the same");
_Static_assert((int)STASIS_STOPPED == (int)CONTAINER_STOPPED, "the states are the same");

int lib_options(void *to, size_t size, const void *from, struct error *e)
{
	size_t given;

	if (!from) {
		memset(to, 0, size);
		return 0;
	}
	memcpy(&given, from, sizeof(given));
	if (given < sizeof(given) || given > 4096)
		return error_set(e, -EINVAL, ERROR_USAGE,
			"the size of the options is %zu: make them by STASIS_OPTIONS()", given);
	for (size_t i = size; i < given; i++)
		if (((const char *)from)[i])
			return error_set(e, -EINVAL, ERROR_USAGE,
				"options that this version of the library (" STASIS_VERSION
				") does not know: it is older than the program's header");
	memset(to, 0, size);
	memcpy(to, from, MIN(size, given));
	return 0;
}

EXPORT const char *stasis_version(void)
{
	return STASIS_VERSION;
}

static void runtime_done(struct stasis *s)
{
	free(s->root);
	free(s->program);
}

static char *default_root(void)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	char *path;

	if (geteuid() == 0 || !dir)
		return strdup("/run/stasis");
	return asprintf(&path, "%s/stasis", dir) < 0 ? NULL : path;
}

EXPORT int stasis_open(
	const struct stasis_options *options, struct stasis **ret, struct stasis_error *ret_error)
{
	struct stasis_options o;
	struct stasis *s;
	struct error e;
	int r = lib_options(&o, sizeof(o), options, &e);

	if (r < 0)
		return lib_error(r, &e, ret_error);
	if (o.root && o.root[0] != '/') {
		r = error_set(&e, -EINVAL, ERROR_USAGE, "root \"%s\" is not an absolute path", o.root);
		return lib_error(r, &e, ret_error);
	}
	s = calloc(1, sizeof(*s));
	if (s) {
		s->root = o.root ? strdup(o.root) : default_root();
		s->program = strdup(o.program ? o.program : STASIS_PROGRAM);
		s->systemd_cgroup = o.systemd_cgroup;
	}
	if (!s || !s->root || !s->program) {
		stasis_close(s);
		return lib_error(error_errno(&e, -ENOMEM, "open"), &e, ret_error);
	}
	*ret = s;
	return 0;
}

EXPORT void stasis_close(struct stasis *s)
{
	if (s)
		runtime_done(s);
	free(s);
}

static int is_container(const struct dirent *d)
{
	return d->d_name[0] != '.' && d->d_name[0] != '@';
}

/* *ret: pointers, and behind them the strings. */
static int pack(struct dirent **names, size_t n, char ***ret)
{
	size_t size = (n + 1) * sizeof(char *);
	char **list, *at;

	for (size_t i = 0; i < n; i++)
		size += strlen(names[i]->d_name) + 1;
	list = malloc(size);
	if (!list)
		return -ENOMEM;
	at = (char *)(list + n + 1);
	for (size_t i = 0; i < n; i++) {
		list[i] = at;
		at = stpcpy(at, names[i]->d_name) + 1;
	}
	list[n] = NULL;
	*ret = list;
	return 0;
}

EXPORT int stasis_list(struct stasis *s, char ***ret, size_t *ret_n, struct stasis_error *ret_error)
{
	struct dirent **names = NULL;
	struct error e;
	int n = scandir(s->root, &names, is_container, alphasort), r;

	if (n < 0 && errno != ENOENT)
		return lib_error(error_errno(&e, -errno, "read %s", s->root), &e, ret_error);
	n = MAX(n, 0);
	r = pack(names, n, ret);
	if (r == 0)
		*ret_n = n;
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return r < 0 ? lib_error(error_errno(&e, r, "list"), &e, ret_error) : 0;
}

struct stasis_container *lib_container_new(const struct stasis *s, const char *id)
{
	struct stasis_container *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->pidfd = -EBADF;
	c->id = strdup(id);
	c->runtime = *s;
	c->runtime.root = strdup(s->root);
	c->runtime.program = strdup(s->program);
	if (c->id && c->runtime.root && c->runtime.program)
		return c;
	stasis_free(c);
	return NULL;
}

EXPORT void stasis_free(struct stasis_container *c)
{
	if (!c)
		return;
	close_p(&c->pidfd);
	runtime_done(&c->runtime);
	free(c->id);
	free(c);
}

int lib_record(struct stasis_container *c, bool lock, struct container **ret, struct error *e)
{
	int r = container_load(c->runtime.root, c->id, lock, ret, e);

	if (r == 0 && c->pidfd < 0)
		c->pidfd = container_init_pidfd(*ret); /* for the wait to come */
	return r;
}

EXPORT int stasis_load(
	struct stasis *s, const char *id, struct stasis_container **ret, struct stasis_error *ret_error)
{
	_cleanup_(container_free_p) struct container *record = NULL;
	struct stasis_container *c = lib_container_new(s, id);
	struct error e;
	int r = c ? lib_record(c, false, &record, &e) : error_errno(&e, -ENOMEM, "container %s", id);

	if (r < 0)
		stasis_free(c);
	else
		*ret = c;
	return lib_error(r, &e, ret_error);
}

EXPORT const char *stasis_id(const struct stasis_container *c)
{
	return c->id;
}

EXPORT int stasis_status(struct stasis_container *c, enum stasis_status *ret, struct stasis_error *ret_error)
{
	_cleanup_(container_free_p) struct container *record = NULL;
	struct error e;
	int r = lib_record(c, false, &record, &e);

	if (r == 0)
		*ret = (enum stasis_status)container_status(record);
	return lib_error(r, &e, ret_error);
}

EXPORT int stasis_pid(struct stasis_container *c, pid_t *ret, struct stasis_error *ret_error)
{
	_cleanup_(container_free_p) struct container *record = NULL;
	struct error e;
	int r = lib_record(c, false, &record, &e);

	if (r == 0 && container_status(record) == CONTAINER_STOPPED)
		r = error_set(&e, -ESRCH, ERROR_STATE, "container not running");
	if (r == 0)
		*ret = record->init_pid;
	return lib_error(r, &e, ret_error);
}

EXPORT int stasis_state_json(struct stasis_container *c, char **ret, struct stasis_error *ret_error)
{
	_cleanup_(container_free_p) struct container *record = NULL;
	struct error e;
	int r = lib_record(c, false, &record, &e);

	if (r == 0)
		r = container_state_json(record, ret, &e);
	return lib_error(r, &e, ret_error);
}

EXPORT int stasis_stats_json(struct stasis_container *c, char **ret, struct stasis_error *ret_error)
{
	_cleanup_(container_free_p) struct container *record = NULL;
	struct error e;
	int r = lib_record(c, false, &record, &e);

	if (r == 0 && container_status(record) == CONTAINER_STOPPED)
		r = error_set(&e, -ESRCH, ERROR_STATE, "container not running");
	if (r == 0)
		r = container_stats_json(record, ret, &e);
	return lib_error(r, &e, ret_error);
}

EXPORT int stasis_processes(
	struct stasis_container *c, pid_t **ret, size_t *ret_n, struct stasis_error *ret_error)
{
	_cleanup_(container_free_p) struct container *record = NULL;
	struct error e;
	int r = lib_record(c, false, &record, &e);

	if (r == 0 && container_status(record) == CONTAINER_STOPPED) {
		*ret = NULL;
		*ret_n = 0;
	} else if (r == 0) {
		r = cgroup_pids(&record->cgroup, false, ret, ret_n, &e);
	}
	return lib_error(r, &e, ret_error);
}

EXPORT int stasis_signal(struct stasis_container *c, int sig, bool all, struct stasis_error *ret_error)
{
	_cleanup_(container_free_p) struct container *record = NULL;
	struct error e;
	int r = lib_record(c, false, &record, &e);

	if (r == 0)
		r = container_kill(record, sig, all, &e);
	return lib_error(r, &e, ret_error);
}

static int locked(struct stasis_container *c, int (*f)(struct container *record, struct error *e),
	struct stasis_error *ret_error)
{
	_cleanup_(container_free_p) struct container *record = NULL;
	struct error e;
	int r = lib_record(c, true, &record, &e);

	if (r == 0)
		r = f(record, &e);
	return lib_error(r, &e, ret_error);
}

EXPORT int stasis_pause(struct stasis_container *c, struct stasis_error *ret_error)
{
	return locked(c, container_pause, ret_error);
}

EXPORT int stasis_resume(struct stasis_container *c, struct stasis_error *ret_error)
{
	return locked(c, container_resume, ret_error);
}
