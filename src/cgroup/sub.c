/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec --cgroup [CONTROLLER[,CONTROLLER...]:]PATH: which sub-cgroup of the container's a process goes to. Without
 * controllers the path is that of every hierarchy. The sub-cgroups are the container's own, so their paths are resolved
 * below its directory, which is proven to be ours.
 */
#include <stdio.h>
#include <string.h>

#include "cgroup/cgroup-priv.h"
#include "linux/mountfd.h"

/* Calls it for each controller before the colon; a positive result or an error ends it. */
static int each_controller(const char *arg, int (*f)(const char *name, void *arg), void *to)
{
	size_t end = strcspn(arg, ":");
	char name[64];
	int r = 0;

	for (size_t at = 0; r == 0 && at <= end;) {
		size_t n = strcspn(arg + at, ",:");

		if (n == 0 || n >= sizeof(name))
			return -EINVAL;
		memcpy(name, arg + at, n);
		name[n] = 0;
		r = f(name, to);
		at += n + 1;
	}
	return r;
}

static bool dir_has(const struct cgroup_dir *d, const char *name)
{
	char named[80];

	snprintf(named, sizeof(named), "name=%s", name);
	return !cgroup_dir_is_v2(d) &&
	       (cgroup_has_controller(d->controllers, name) || cgroup_has_controller(d->controllers, named));
}

static int is_of_dir(const char *name, void *arg)
{
	return dir_has(arg, name);
}

struct check {
	const struct cgroup *cg;
	struct error *e;
	const struct cgroup_dir *seen[CGROUP_MAX_DIRS];
	size_t n;
};

/* cpu and cpuacct may be one hierarchy: named twice with one path is as bad as one controller twice. */
static int check_one(const char *name, void *arg)
{
	struct check *c = arg;

	for (size_t i = 0; i < c->cg->n_dirs; i++) {
		const struct cgroup_dir *d = &c->cg->dirs[i];

		if (!dir_has(d, name))
			continue;
		for (size_t k = 0; k < c->n; k++)
			if (c->seen[k] == d)
				return error_set(c->e, -EINVAL, ERROR_USAGE,
					"invalid --cgroup argument(s): controller %s specified multiple "
					"times",
					name);
		c->seen[c->n++] = d;
		return 0;
	}
	return error_set(c->e, -EINVAL, ERROR_USAGE,
		"invalid --cgroup argument: there is no controller %s of cgroup v1", name);
}

static int check_subs(const struct cgroup *cg, const struct cgroup_subs *subs, struct error *e)
{
	struct check c = {.cg = cg, .e = e};

	for (size_t i = 0; i < subs->n; i++) {
		int r;

		if (!strchr(subs->paths[i], ':')) {
			if (subs->n > 1)
				return error_set(e, -EINVAL, ERROR_USAGE,
					"invalid --cgroup argument: %s (missing <controller>: prefix)",
					subs->paths[i]);
			continue;
		}
		if (e)
			e->code = 0;
		r = each_controller(subs->paths[i], check_one, &c);
		if (r < 0)
			return e && e->code ? r
					    : error_set(e, r, ERROR_USAGE,
						      "invalid --cgroup argument: %s (empty <controller>)",
						      subs->paths[i]);
	}
	return 0;
}

static const char *path_for(const struct cgroup_subs *subs, const struct cgroup_dir *d)
{
	for (size_t i = 0; i < subs->n; i++) {
		const char *colon = strchr(subs->paths[i], ':');

		if (!colon)
			return subs->paths[i];
		if (each_controller(subs->paths[i], is_of_dir, (void *)d) > 0)
			return colon + 1;
	}
	return "/";
}

int cgroup_sub_open(
	const struct cgroup *cg, const struct cgroup_dir *d, const struct cgroup_subs *subs, struct error *e)
{
	_cleanup_close_ int dir = cgroup_dir_open(cg, d, e);
	const char *path;
	int fd;

	if (dir < 0 || !subs || subs->n == 0)
		return take_fd(&dir);
	path = path_for(subs, d);
	fd = open_in_root(dir, path, O_RDONLY | O_DIRECTORY, 0);
	return fd < 0 ? error_errno(e, fd, "--cgroup: open %s/%s", d->path, path) : fd;
}

int cgroup_v2_sub_fd(const struct cgroup *cg, const struct cgroup_subs *subs, int *ret, struct error *e)
{
	const struct cgroup_dir *d = cgroup_v2_dir(cg);
	int r = subs->n ? check_subs(cg, subs, e) : 0;

	if (r < 0 || !d)
		return r;
	r = cgroup_sub_open(cg, d, subs, e);
	if (r < 0)
		return r;
	*ret = r;
	return 0;
}

int cgroup_v2_fd_of(const struct cgroup *cg, pid_t pid)
{
	const struct cgroup_dir *d = cgroup_v2_dir(cg);
	_cleanup_close_ int dir = d ? cgroup_dir_open(cg, d, NULL) : -EBADF;
	_cleanup_free_ char *text = NULL;
	char file[64], *line, *at;

	snprintf(file, sizeof(file), "/proc/%d/cgroup", (int)pid);
	if (dir < 0 || read_file_at(AT_FDCWD, file, 64 * 1024, &text, NULL) < 0)
		return -EBADF;
	line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!line)
		return -ENOENT;
	line[strcspn(line + 1, "\n") + 1] = 0;
	at = strstr(line, cg->path);
	at = at ? at + strlen(cg->path) : NULL;
	/* below our directory and nowhere else: whatever the text is */
	return at && *at == '/' ? open_in_root(dir, at, O_RDONLY | O_DIRECTORY, 0) : -ENOENT;
}
