/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linux.intelRdt: the container's group in resctrl. Init is put into it; whoever it forks is born in it, after a restore
 * too. A group named after the container is ours, and is removed with it; one that config.json names may be shared with
 * others, and stays. The root directory's flock keeps those who make groups apart, as the kernel's documentation asks.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/resctrl.h"

enum { FILE_MAX = 1 << 20 };

int rdt_mount_point(char **ret, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	int r = read_file_at(AT_FDCWD, "/proc/self/mountinfo", 16 << 20, &text, NULL);

	if (r == 0)
		r = resctrl_mount_point(text, ret);
	return r < 0 ? error_errno(e, r, "read /proc/self/mountinfo") : 0;
}

void rdt_done(struct rdt *g)
{
	free(g->group);
	free(g->monitor);
	*g = (struct rdt){0};
}

static bool has(const char *root, const char *file)
{
	char path[PATH_MAX];

	return root && snprintf(path, sizeof(path), "%s/%s", root, file) < (int)sizeof(path) &&
	       access(path, F_OK) == 0;
}

/* With code and data apart (mount option cdp) the directory has another name. */
static bool has_l3(const char *root)
{
	return has(root, "info/L3") || has(root, "info/L3CODE");
}

int rdt_check(const char *root, const struct spec_intel_rdt *s, const char *id, struct error *e)
{
	const char *missing = NULL;

	if (!root)
		return error_set(e, -EOPNOTSUPP, ERROR_CONFIG,
			"linux.intelRdt: intelRdt is specified in config, but Intel RDT is not supported or "
			"enabled (mount resctrl on /sys/fs/resctrl, or leave intelRdt out)");
	if (s->l3_cache_schema && !has_l3(root))
		missing = "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled";
	else if (s->mem_bw_schema && !has(root, "info/MB"))
		missing = "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled";
	else if ((s->monitoring || s->cmt || s->mbm) && !has(root, "info/L3_MON"))
		missing = "intelRdt asks for monitoring in config, but Intel RDT monitoring is not enabled";
	if (missing)
		return error_set(e, -EOPNOTSUPP, ERROR_CONFIG, "linux.intelRdt: %s", missing);
	if ((!s->clos_id || s->monitoring) && !spec_rdt_name_valid(id))
		return error_set(e, -EINVAL, ERROR_CONFIG,
			"linux.intelRdt: a container called %s can have no group of this name (set closID)",
			id);
	return 0;
}

/* With what the kernel says of the last call, unless that is "ok". */
static int failed(const char *root, int r, const char *path, struct error *e)
{
	char status[512] = "";
	_cleanup_close_ int dir = root ? open(root, O_PATH | O_DIRECTORY | O_CLOEXEC) : -EBADF;

	if (dir < 0 || read_small_file_at(dir, "info/last_cmd_status", status, sizeof(status)) < 0 ||
		!strcmp(status, "ok\n"))
		status[0] = 0;
	status[strcspn(status, "\n")] = 0;
	error_errno(e, r, "linux.intelRdt: %s", path);
	if (e && status[0])
		return error_set(e, r, ERROR_CONFIG, "linux.intelRdt: %s: %s, last_cmd_status: %s", path,
			error_text(r).s, status);
	return r;
}

static int write_file(const char *root, const char *dir, const char *file, const char *text, struct error *e)
{
	char path[PATH_MAX];
	int r = -ENAMETOOLONG;

	if (snprintf(path, sizeof(path), "%s/%s", dir, file) < (int)sizeof(path))
		r = write_string_at(AT_FDCWD, path, text);
	return r < 0 ? failed(root, r, path, e) : 0;
}

static int read_schemata(const char *root, const char *group, char **ret, struct error *e)
{
	char path[PATH_MAX];
	int r = -ENAMETOOLONG;

	if (snprintf(path, sizeof(path), "%s/schemata", group) < (int)sizeof(path))
		r = read_file_at(AT_FDCWD, path, FILE_MAX, ret, NULL);
	return r < 0 ? failed(root, r, path, e) : 0;
}

/* A domain may be named once in a write: so "schemata", which may say something else, has one of its own. */
static int write_schemata(const char *root, const char *group, const struct spec_intel_rdt *s,
	const char *first, struct error *e)
{
	int r = first[0] ? write_file(root, group, "schemata", first, e) : 0;

	return r < 0 || !s->schemata ? r : write_file(root, group, "schemata", s->schemata, e);
}

/* A new group gets the schemata, one that is there must have them. */
static int make_group(const char *root, const struct spec_intel_rdt *s, struct rdt *g, struct error *e)
{
	_cleanup_free_ char *first = resctrl_join(s->l3_cache_schema, s->mem_bw_schema), *now = NULL;
	bool any = first && (first[0] || s->schemata);
	struct stat st;
	int r;

	if (!first)
		return error_errno(e, -ENOMEM, "linux.intelRdt");
	if (s->clos_id && !any) {
		if (access(g->group, F_OK) < 0)
			return error_set(e, -errno, ERROR_CONFIG,
				"linux.intelRdt.closID: %s: %s (make it, or say in schemata what is to be in "
				"it)",
				g->group, error_text(-errno).s);
		return 0;
	}
	if (mkdir(g->group, 0755) == 0) {
		g->made = true;
		if (!s->clos_id && stat(g->group, &st) < 0)
			return failed(root, -errno, g->group, e);
		g->inode = s->clos_id ? 0 : st.st_ino;
		return write_schemata(root, g->group, s, first, e);
	}
	if (errno != EEXIST)
		return failed(root, -errno, g->group, e);
	r = read_schemata(root, g->group, &now, e);
	if (r < 0)
		return r;
	if (!resctrl_has(now, first, s->schemata) || (s->schemata && !resctrl_has(now, s->schemata, NULL)))
		return error_set(e, -EEXIST, ERROR_CONFIG,
			"linux.intelRdt: the group %s exists already, with other schemata (use another "
			"closID)",
			g->group);
	return 0;
}

/* 0: the caller. */
static int enter(const char *root, const struct rdt *g, pid_t tid, struct error *e)
{
	char text[16];
	int r;

	snprintf(text, sizeof(text), "%d", tid);
	r = write_file(root, g->group, "tasks", text, e);
	return r < 0 || !g->monitor ? r : write_file(root, g->monitor, "tasks", text, e);
}

static int lock_root(const char *root, struct error *e)
{
	_cleanup_close_ int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(e, -errno, "open %s", root);
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return error_errno(e, -errno, "lock %s", root);
	return take_fd(&fd);
}

static int join_locked(
	const char *root, const struct spec_intel_rdt *s, pid_t pid, struct rdt *g, struct error *e)
{
	int r = make_group(root, s, g, e);

	if (r == 0 && g->monitor && mkdir(g->monitor, 0755) < 0) {
		r = failed(root, -errno, g->monitor, e);
		free(g->monitor); /* not ours */
		g->monitor = NULL;
	}
	return r < 0 ? r : enter(root, g, pid, e);
}

int rdt_join(const char *root, const struct spec_intel_rdt *s, const char *id, pid_t pid, struct rdt *g,
	struct error *e)
{
	_cleanup_close_ int lock = lock_root(root, e);
	bool is_root = s->clos_id && !strcmp(s->clos_id, "/");
	int r;

	if (lock < 0)
		return lock;
	if (asprintf(&g->group, "%s%s%s", root, is_root ? "" : "/",
		    is_root	 ? ""
		    : s->clos_id ? s->clos_id
				 : id) < 0) {
		g->group = NULL;
		return error_errno(e, -ENOMEM, "linux.intelRdt");
	}
	if (s->monitoring && asprintf(&g->monitor, "%s/mon_groups/%s", g->group, id) < 0) {
		g->monitor = NULL;
		return error_errno(e, -ENOMEM, "linux.intelRdt");
	}
	r = join_locked(root, s, pid, g, e);
	close_p(&lock);
	if (r < 0)
		rdt_undo(root, g);
	return r;
}

int rdt_enter(const struct rdt *g, struct error *e)
{
	_cleanup_free_ char *root = NULL;
	int r = g->group ? rdt_mount_point(&root, e) : 0;

	return r < 0 || !g->group ? r : enter(root, g, 0, e);
}

int rdt_remove(const struct rdt *g, struct error *e)
{
	struct stat st;

	if (!g->group)
		return 0;
	/* who removes a group has its tasks moved to the one above; nobody is in ours any more */
	if (g->monitor && rmdir(g->monitor) < 0 && errno != ENOENT)
		return error_errno(e, -errno, "remove %s", g->monitor);
	if (!g->inode || stat(g->group, &st) < 0 || st.st_ino != g->inode)
		return 0;
	return rmdir(g->group) < 0 && errno != ENOENT ? error_errno(e, -errno, "remove %s", g->group) : 0;
}

void rdt_undo(const char *root, struct rdt *g)
{
	_cleanup_free_ char *path = NULL, *tasks = NULL;
	_cleanup_close_ int lock = -EBADF;

	if (!g->group)
		return;
	(void)!rdt_remove(g, NULL);
	/* one that config.json names, and that was not there before: others may have joined it since */
	if (g->made && !g->inode && root && asprintf(&path, "%s/tasks", g->group) >= 0) {
		lock = lock_root(root, NULL);
		if (lock >= 0 && read_file_at(AT_FDCWD, path, FILE_MAX, &tasks, NULL) == 0 && !tasks[0])
			(void)!rmdir(g->group);
	}
	rdt_done(g);
}

static int compare_pids(const void *a, const void *b)
{
	return (*(const pid_t *)a > *(const pid_t *)b) - (*(const pid_t *)a < *(const pid_t *)b);
}

/* Until there is none that was not there the time before: their children are born in the group. */
static int enter_all(const char *root, const struct container *c, struct error *e)
{
	_cleanup_free_ pid_t *before = NULL;
	size_t n_before = 0, n, n_new;
	int r;

	do {
		_cleanup_free_ pid_t *now = NULL;

		r = container_pids(c, true, &now, &n, e);
		n_new = 0;
		for (size_t i = 0; r == 0 && i < n; i++) {
			if (before && bsearch(&now[i], before, n_before, sizeof(*now), compare_pids))
				continue;
			n_new++;
			r = enter(root, &c->rdt, now[i], e);
			if (r == -ESRCH)
				r = 0;
		}
		if (r < 0)
			return r;
		if (n)
			qsort(now, n, sizeof(*now), compare_pids);
		free(before);
		before = take_ptr(now);
		n_before = n;
	} while (n_new);
	return 0;
}

int rdt_update(const char *root, struct container *c, const struct spec_intel_rdt *s, char **ret_old,
	struct error *e)
{
	_cleanup_free_ char *text = NULL, *old = NULL;
	int r;

	if (s->l3_cache_schema && !has_l3(root))
		return error_set(
			e, -EOPNOTSUPP, ERROR_CONFIG, "Intel RDT/CAT: l3 cache schema is not enabled");
	if (s->mem_bw_schema && !has(root, "info/MB"))
		return error_set(e, -EOPNOTSUPP, ERROR_CONFIG,
			"Intel RDT/MBA: memory bandwidth schema is not enabled");
	if (!c->rdt.group) {
		r = rdt_check(root, s, c->id, e);
		if (r == 0)
			r = rdt_join(root, s, c->id, c->init_pid, &c->rdt, e);
		if (r == 0)
			r = enter_all(root, c, e);
		if (r == 0)
			r = container_save(c, e);
		if (r < 0)
			rdt_undo(root, &c->rdt);
		return r;
	}
	text = resctrl_join(s->l3_cache_schema, s->mem_bw_schema);
	if (!text)
		return error_errno(e, -ENOMEM, "linux.intelRdt");
	r = read_schemata(root, c->rdt.group, &old, e);
	if (r == 0)
		r = write_schemata(root, c->rdt.group, s, text, e);
	if (r == 0)
		*ret_old = take_ptr(old);
	return r;
}

void rdt_update_undo(const char *root, struct container *c, const char *old)
{
	if (old) {
		(void)!write_file(root, c->rdt.group, "schemata", old, NULL);
	} else {
		rdt_undo(root, &c->rdt);
		(void)!container_save(c, NULL);
	}
}

/* ---- statistics, with the names of runc's events ---- */

static void add_number(struct json_object *o, const char *dir, const char *file, const char *name)
{
	char path[PATH_MAX], text[32], *end;
	unsigned long long n;

	if (snprintf(path, sizeof(path), "%s/%s", dir, file) >= (int)sizeof(path) ||
		read_small_file_at(AT_FDCWD, path, text, sizeof(text)) < 0)
		return;
	n = strtoull(text, &end, 10);
	if (end > text && !strcmp(end, "\n")) /* "Unavailable" */
		json_object_object_add(o, name, json_object_new_uint64(n));
}

static void add_numbers(
	struct json_object *o, const char *root, const char *name, const char *dir, const char *const *files)
{
	struct json_object *info = json_object_new_object();
	char path[PATH_MAX], text[64];

	if (snprintf(path, sizeof(path), "%s/%s", root, dir) >= (int)sizeof(path) || !has(root, dir)) {
		json_object_put(info);
		return;
	}
	json_object_object_add(o, name, info);
	for (; *files; files++)
		add_number(info, path, *files, *files);
	if (snprintf(path, sizeof(path), "%s/%s/cbm_mask", root, dir) < (int)sizeof(path) &&
		read_small_file_at(AT_FDCWD, path, text, sizeof(text)) > 0) {
		text[strcspn(text, "\n")] = 0;
		json_object_object_add(info, "cbm_mask", json_object_new_string(text));
	}
}

static void add_line(struct json_object *o, const char *name, const char *schemata, const char *resource)
{
	const char *line;
	size_t len = resctrl_line(schemata, resource, &line);

	if (len)
		json_object_object_add(o, name, json_object_new_string_len(line, (int)len));
}

static int is_l3(const struct dirent *d)
{
	return !strncmp(d->d_name, "mon_L3_", 7);
}

/* mon_data/mon_L3_NN, one for each cache. */
static void add_monitoring(struct json_object *o, const char *group)
{
	struct json_object *bandwidth = json_object_new_array(), *occupancy = json_object_new_array();
	char path[PATH_MAX];
	struct dirent **list = NULL;
	int n = -1;

	if (snprintf(path, sizeof(path), "%s/mon_data", group) < (int)sizeof(path))
		n = scandir(path, &list, is_l3, alphasort);
	for (int i = 0; i < n; i++) {
		struct json_object *mbm = json_object_new_object(), *cmt = json_object_new_object();

		if (snprintf(path, sizeof(path), "%s/mon_data/%s", group, list[i]->d_name) <
			(int)sizeof(path)) {
			add_number(mbm, path, "mbm_total_bytes", "mbm_total_bytes");
			add_number(mbm, path, "mbm_local_bytes", "mbm_local_bytes");
			add_number(cmt, path, "llc_occupancy", "llc_occupancy");
		}
		json_object_array_add(bandwidth, mbm);
		json_object_array_add(occupancy, cmt);
		free(list[i]);
	}
	free(list);
	json_object_object_add(o, "mbm_stats", bandwidth);
	json_object_object_add(o, "cmt_stats", occupancy);
}

int rdt_stats(const char *root, const struct rdt *g, struct json_object **ret, struct error *e)
{
	static const char *const l3[] = {"min_cbm_bits", "num_closids", NULL};
	static const char *const mb[] = {
		"bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids", NULL};
	_cleanup_free_ char *of_root = NULL, *own = NULL;
	struct json_object *o;
	int r = read_schemata(root, root, &of_root, e);

	if (r == 0)
		r = read_schemata(root, g->group, &own, e);
	if (r < 0)
		return r;
	o = json_object_new_object();
	add_numbers(o, root, "l3_cache_info", "info/L3", l3);
	add_line(o, "l3_cache_schema_root", of_root, "L3");
	add_line(o, "l3_cache_schema", own, "L3");
	add_numbers(o, root, "mem_bw_info", "info/MB", mb);
	add_line(o, "mem_bw_schema_root", of_root, "MB");
	add_line(o, "mem_bw_schema", own, "MB");
	if (has(root, "info/L3_MON"))
		add_monitoring(o, g->monitor ? g->monitor : g->group);
	*ret = o;
	return 0;
}
