/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which cgroup hierarchies this machine has, and where in them the container's cgroup is to be.
 * /proc/self/cgroup lists the hierarchies with our own place in each, /proc/self/mountinfo says where they are mounted.
 * A mount may show only a part of the hierarchy (in a container): its root is then cut off our own path.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "cgroup/cgroup-priv.h"
#include "linux/procfs.h"

enum { CGROUP_FILE_MAX = 64 * 1024, MOUNTINFO_MAX = 64 * 1024 * 1024 };

bool cgroup_has_controller(const char *list, const char *controller)
{
	size_t len = strlen(controller);

	for (const char *at = list; *at;) {
		size_t n = strcspn(at, ",");

		if (n == len && memcmp(at, controller, len) == 0)
			return true;
		at += n + (at[n] == ',');
	}
	return false;
}

/* Every name of "controllers" is an option of the mount: "cpu,cpuacct", "name=systemd". */
static bool mount_has_all(const char *options, const char *controllers)
{
	char name[64];

	for (const char *at = controllers; *at;) {
		size_t n = strcspn(at, ",");

		if (n >= sizeof(name))
			return false;
		memcpy(name, at, n);
		name[n] = 0;
		if (!cgroup_has_controller(options, name))
			return false;
		at += n + (at[n] == ',');
	}
	return true;
}

static bool mount_below(const char *target)
{
	return strncmp(target, "/sys/fs/cgroup", 14) == 0 && (target[14] == '/' || !target[14]);
}

/* Not covered by another mount. */
static bool mount_visible(const struct proc_mount *m)
{
	struct stat st;

	return stat(m->target, &st) == 0 && major(st.st_dev) == m->dev_major &&
	       minor(st.st_dev) == m->dev_minor;
}

/* The mount of a hierarchy; the usual place is preferred to others (a test's private mount of the same). */
static const struct proc_mount *find_mount(const struct proc_mount *mounts, size_t n, const char *controllers)
{
	const struct proc_mount *found = NULL;

	for (size_t i = 0; i < n; i++) {
		const struct proc_mount *m = &mounts[i];
		bool v2 = strcmp(m->fstype, "cgroup2") == 0;

		if (!v2 && strcmp(m->fstype, "cgroup") != 0)
			continue;
		if (v2 ? controllers[0] != 0
		       : !controllers[0] || !mount_has_all(m->super_options, controllers))
			continue;
		if ((!found || (!mount_below(found->target) && mount_below(m->target))) && mount_visible(m))
			found = m;
	}
	return found;
}

/* Our own place in the hierarchy, seen through its mount: "" for the mount's root. */
static const char *own_path(const char *own, const char *mount_root)
{
	size_t n = strlen(mount_root);

	if (strcmp(mount_root, "/") != 0) {
		if (strncmp(own, mount_root, n) != 0 || (own[n] && own[n] != '/'))
			return "";
		own += n;
	}
	return strcmp(own, "/") == 0 ? "" : own;
}

/* "/a/b" without doubled slashes; refuses what would be, or leave, the hierarchy's root. */
static int clean_path(const char *path, char *buf, size_t size, struct error *e)
{
	size_t n = 0;

	for (const char *at = path; *at;) {
		size_t len = strcspn(at, "/");

		if ((len == 2 && memcmp(at, "..", 2) == 0) || (len == 1 && at[0] == '.'))
			return error_set(e, -EINVAL, ERROR_CONFIG,
				"linux.cgroupsPath: must not contain \".\" or \"..\"");
		if (len > NAME_MAX || n + len + 2 > size)
			return error_set(e, -ENAMETOOLONG, ERROR_CONFIG, "linux.cgroupsPath: too long");
		if (len) {
			buf[n++] = '/';
			memcpy(buf + n, at, len);
			n += len;
		}
		at += len + (at[len] == '/');
	}
	buf[n] = 0;
	if (n == 0)
		return error_set(
			e, -EINVAL, ERROR_CONFIG, "linux.cgroupsPath: must not be the root of all cgroups");
	return 0;
}

static int set_path(struct cgroup *cg, const char *cgroups_path, const char *id, struct error *e)
{
	char name[NAME_MAX + 1];

	if (cgroups_path && cgroups_path[0])
		return clean_path(cgroups_path, cg->path, sizeof(cg->path), e);
	if ((size_t)snprintf(name, sizeof(name), "stasis-%s", id) >= sizeof(name))
		return error_set(e, -ENAMETOOLONG, ERROR_CONFIG,
			"container id: too long to name a cgroup (%zu characters; set linux.cgroupsPath)",
			strlen(id));
	return clean_path(name, cg->path, sizeof(cg->path), e);
}

/* One line of /proc/self/cgroup: "4:memory:/user", "0::/user". Hierarchies that are not mounted, or only named ones of
 * other programs, are none of ours. */
static int add_hierarchy(struct cgroup *cg, char *line, const struct proc_mount *mounts, size_t n_mounts,
	bool absolute, struct error *e)
{
	char *controllers = strchr(line, ':'), *own = controllers ? strchr(controllers + 1, ':') : NULL;
	struct cgroup_dir *d = &cg->dirs[cg->n_dirs];
	const struct proc_mount *m;
	const char *base;
	int n;

	if (!own)
		return error_set(e, -EINVAL, ERROR_SYSTEM, "/proc/self/cgroup: unexpected line \"%s\"", line);
	*own++ = 0;
	controllers++;
	if (strncmp(controllers, "name=", 5) == 0 && strcmp(controllers, "name=systemd") != 0)
		return 0;
	m = find_mount(mounts, n_mounts, controllers);
	if (!m)
		return 0;
	if (cg->n_dirs == CGROUP_MAX_DIRS)
		return error_set(e, -E2BIG, ERROR_SYSTEM, "more than %d cgroup hierarchies", CGROUP_MAX_DIRS);
	base = absolute ? "" : own_path(own, m->root);
	if ((size_t)snprintf(d->controllers, sizeof(d->controllers), "%s", controllers) >=
		sizeof(d->controllers))
		return error_set(
			e, -ENAMETOOLONG, ERROR_SYSTEM, "cgroup controllers \"%s\": too long", controllers);
	n = snprintf(d->path, sizeof(d->path), "%s%s%s", m->target, base, cg->path);
	if ((size_t)n >= sizeof(d->path))
		return error_set(e, -ENAMETOOLONG, ERROR_SYSTEM, "cgroup path %s%s%s: too long", m->target,
			base, cg->path);
	cg->n_dirs++;
	return 0;
}

/* A v2 cgroup that has processes (the caller's own) can't hand controllers to children: go beside it instead. */
static void move_beside_own(struct cgroup *cg, const char *own)
{
	struct cgroup_dir *d = &cg->dirs[0];
	size_t path_len = strlen(cg->path), len = strlen(d->path) - path_len;
	size_t own_len = strlen(own);
	const char *slash = strrchr(own, '/');

	if (cg->mode != CGROUP_V2 || own_len < 2 || len < own_len ||
		memcmp(d->path + len - own_len, own, own_len) != 0)
		return;
	len -= own_len - (size_t)(slash - own);
	memcpy(d->path + len, cg->path, path_len + 1);
}

static void set_mode(struct cgroup *cg)
{
	bool v1 = false, v2 = false;

	for (size_t i = 0; i < cg->n_dirs; i++) {
		v2 |= cgroup_dir_is_v2(&cg->dirs[i]);
		v1 |= !cgroup_dir_is_v2(&cg->dirs[i]);
	}
	cg->mode = v1 && v2 ? CGROUP_HYBRID : v1 ? CGROUP_V1 : v2 ? CGROUP_V2 : CGROUP_NONE;
}

static void arena_done_p(struct arena *a)
{
	arena_done(a);
}

int cgroup_discover(struct cgroup *cg, const char *cgroups_path, const char *id, struct error *e)
{
	_cleanup_(arena_done_p) struct arena a = {0};
	_cleanup_free_ char *text = NULL, *mountinfo = NULL;
	char own_v2[512] = "";
	struct proc_mount *mounts;
	size_t n_mounts, len;
	bool absolute = cgroups_path && cgroups_path[0] == '/';
	char *line, *rest;
	int r = set_path(cg, cgroups_path, id, e);

	if (r < 0)
		return r;
	r = read_file_at(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &mountinfo, &len);
	if (r == 0)
		r = proc_parse_mountinfo(mountinfo, &a, &mounts, &n_mounts);
	if (r < 0)
		return error_errno(e, r, "read /proc/self/mountinfo");
	r = read_file_at(AT_FDCWD, "/proc/self/cgroup", CGROUP_FILE_MAX, &text, &len);
	if (r < 0)
		return error_errno(e, r, "read /proc/self/cgroup");
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		if (strncmp(line, "0::", 3) == 0)
			snprintf(own_v2, sizeof(own_v2), "%s", line + 3);
		if (!line[0])
			continue;
		r = add_hierarchy(cg, line, mounts, n_mounts, absolute, e);
		if (r < 0)
			return r;
	}
	set_mode(cg);
	if (cg->mode == CGROUP_NONE)
		return error_set(e, -ENOENT, ERROR_KERNEL,
			"no cgroup filesystem is mounted (see --cgroup-manager disabled)");
	if (!absolute)
		move_beside_own(cg, own_v2);
	return 0;
}
