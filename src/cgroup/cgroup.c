/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directories of a container's cgroup: making, entering and removing them.
 * Invariant: a directory counts as ours only while the inode at its path is the one that cgroup_create() recorded;
 * kernfs never gives an inode number twice while the hierarchy lives. A hierarchy's root is never ours.
 */
#include "cgroup/cgroup.h"

#include <dirent.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include "base/log.h"
#include "cgroup/cgroup-priv.h"

/* The inode of a kernfs root. */
enum { ROOT_INODE = 1, DELETE_MS = 2000, MAKE_TRIES = 10, DEPTH_MAX = 64 };

const struct cgroup_dir *cgroup_v1_dir(const struct cgroup *cg, const char *controller)
{
	for (size_t i = 0; i < cg->n_dirs; i++)
		if (!cgroup_dir_is_v2(&cg->dirs[i]) &&
			cgroup_has_controller(cg->dirs[i].controllers, controller))
			return &cg->dirs[i];
	return NULL;
}

const struct cgroup_dir *cgroup_v2_dir(const struct cgroup *cg)
{
	for (size_t i = 0; i < cg->n_dirs; i++)
		if (cgroup_dir_is_v2(&cg->dirs[i]))
			return &cg->dirs[i];
	return NULL;
}

const struct cgroup_dir *cgroup_main_dir(const struct cgroup *cg)
{
	static const char *const order[] = {"freezer", "devices", "pids", "memory"};
	const struct cgroup_dir *d = cgroup_v2_dir(cg);

	for (size_t i = 0; !d && i < ARRAY_SIZE(order); i++)
		d = cgroup_v1_dir(cg, order[i]);
	return d || !cg->n_dirs ? d : &cg->dirs[0];
}

static int fail_path(struct error *e, int r, const char *doing, const char *path)
{
	return error_errno(e, r, "cgroup: %s %s", doing, path);
}

int cgroup_dir_open(const struct cgroup *cg, const struct cgroup_dir *d, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	size_t len = strnlen(d->path, sizeof(d->path)), tail = strnlen(cg->path, sizeof(cg->path));
	struct statfs fs;
	struct stat st;

	if (len == sizeof(d->path) || tail < 2 || tail >= len ||
		memcmp(d->path + len - tail, cg->path, tail) != 0 || d->path[0] != '/' ||
		strstr(d->path, "/../"))
		return error_set(e, -EINVAL, ERROR_CORRUPT, "cgroup: the recorded path is not one of ours");
	if (!d->inode)
		return error_set(e, -ENOENT, ERROR_STATE, "cgroup: %s was never made", d->path);
	if (d->inode <= ROOT_INODE)
		return error_set(e, -ESTALE, ERROR_STATE, "cgroup: %s is the root of all", d->path);
	fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return fail_path(e, -errno, "open", d->path);
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return fail_path(e, -errno, "stat", d->path);
	if (fs.f_type != CGROUP_SUPER_MAGIC && fs.f_type != CGROUP2_SUPER_MAGIC)
		return error_set(
			e, -ESTALE, ERROR_STATE, "cgroup: %s is not on a cgroup filesystem", d->path);
	if (st.st_ino != d->inode)
		return error_set(e, -ESTALE, ERROR_STATE,
			"cgroup: %s is not the one that was made for this container (inode %ju, not %ju)",
			d->path, (uintmax_t)st.st_ino, (uintmax_t)d->inode);
	return take_fd(&fd);
}

int cgroup_init(struct cgroup *cg, const char *cgroups_path, const char *id, enum cgroup_manager manager,
	struct error *e)
{
	memset(cg, 0, sizeof(*cg));
	if (manager == CGROUP_DISABLED)
		return 0;
	return manager == CGROUP_SYSTEMD ? systemd_init(cg, cgroups_path, id, e)
					 : cgroup_discover(cg, cgroups_path, id, e);
}

/* A directory above the container's. A v1 cpuset starts empty, and so do all below an empty one; on v2 a directory has the
 * controllers that the one above it gives it. */
static int prepare_parent(const struct cgroup *cg, const struct cgroup_dir *d, const char *path)
{
	bool cpuset = cgroup_has_controller(d->controllers, "cpuset");
	_cleanup_close_ int fd = -EBADF;

	if (!cpuset && cg->mode != CGROUP_V2)
		return 0;
	fd = open(path[0] ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (cpuset)
		return v1_cpuset_init(fd);
	v2_enable_controllers(fd);
	return 0;
}

/* Makes what is missing above the last component. The sticky bit, which means nothing on a cgroup, marks what we made,
 * so that whoever is the last in it removes it again. */
static int make_parents(const struct cgroup *cg, const struct cgroup_dir *d, struct error *e)
{
	size_t base = strlen(d->path) - strlen(cg->path);
	char path[sizeof(d->path)];
	int r = 0;

	memcpy(path, d->path, sizeof(path));
	for (size_t at = base; r == 0 && path[at]; at += 1 + strcspn(path + at + 1, "/")) {
		path[at] = 0;
		if (at > base && mkdir(path, S_ISVTX | 0755) < 0 && errno != EEXIST)
			return fail_path(e, -errno, "make", path);
		if (at > base || cg->mode == CGROUP_V2)
			r = prepare_parent(cg, d, path);
		if (r < 0)
			return fail_path(e, r, "set up", path);
		path[at] = '/';
	}
	return 0;
}

/* Just now, for this container: the holder is in it, if it is a scope's. */
static bool made_by_systemd(const struct cgroup *cg, const struct cgroup_dir *d)
{
	char procs[32];
	_cleanup_close_ int dir = -EBADF;

	if (!cg->started || !cg->holder)
		return cg->started;
	dir = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return dir >= 0 && read_small_file_at(dir, "cgroup.procs", procs, sizeof(procs)) > 0 &&
	       strtol(procs, NULL, 10) == cg->holder;
}

/* One that is there already is replaced if it is empty (left by a crash): its settings could be anything, also frozen. */
static int make_dir_once(const struct cgroup *cg, struct cgroup_dir *d, struct error *e)
{
	struct stat st;
	int r = make_parents(cg, d, e);

	if (r < 0)
		return r;
	if (mkdir(d->path, 0755) < 0 && (errno != EEXIST || !made_by_systemd(cg, d))) {
		if (errno != EEXIST)
			return fail_path(e, -errno, "make", d->path);
		if (rmdir(d->path) < 0)
			return error_set(
				e, -EEXIST, ERROR_STATE, "cgroup: %s is in use by something else", d->path);
		if (mkdir(d->path, 0755) < 0)
			return fail_path(e, -errno, "make", d->path);
	}
	if (lstat(d->path, &st) < 0)
		return fail_path(e, -errno, "stat", d->path);
	d->inode = st.st_ino;
	d->created = true;
	return 0;
}

/* A parent may be removed by the deletion of another container before we have put something into it. */
static int make_dir(const struct cgroup *cg, struct cgroup_dir *d, struct error *e)
{
	int r = -ENOENT;

	/* ENODEV: removed while we had it open. */
	for (int i = 0; (r == -ENOENT || r == -ENODEV) && i < MAKE_TRIES; i++)
		r = make_dir_once(cg, d, e);
	return r;
}

static int apply_devices(struct limits *l, const struct spec_resources *res)
{
	const struct cgroup *cg = l->cg;
	int dir, r;

	if (cgroup_v1_dir(cg, "devices")) {
		r = limits_dir(l, "devices", "linux.resources.devices", &dir);
		return r < 0 ? r : devices_apply_v1(l, dir, res);
	}
	if (cg->mode != CGROUP_V2)
		return 0;
	r = limits_dir(l, "", "linux.resources.devices", &dir);
	return r < 0 ? r : devices_apply_v2(dir, res, l->e);
}

static int apply_limits(struct limits *l, const struct spec_resources *res)
{
	int dir, r;

	if (l->cg->mode != CGROUP_V2)
		return v1_apply(l, res);
	r = limits_dir(l, "", "linux.resources", &dir);
	return r < 0 ? r : v2_apply(l, dir, res);
}

static int set_up(const struct cgroup *cg, const struct spec_resources *res, struct error *e)
{
	struct limits l;
	int dir, r = 0;

	limits_init(&l, cg, false, e);
	if (cgroup_v1_dir(cg, "cpuset")) {
		r = limits_dir(&l, "cpuset", "cpuset", &dir);
		if (r == 0) {
			r = v1_cpuset_init(dir);
			if (r < 0)
				error_errno(e, r, "cgroup: set up the cpuset");
		}
	}
	if (r == 0) {
		r = apply_devices(&l, res);
		/* In a cgroup that was delegated to him a user may limit all but devices, and he can make no nodes. As with runc. */
		if (cg->optional && (r == -EPERM || r == -EACCES))
			r = 0;
	}
	if (r == 0)
		r = apply_limits(&l, res);
	limits_done(&l, false);
	return r;
}

/* Device rules do not count: every config.json has them, and an ordinary user can't make device nodes. */
static bool wants_limits(const struct spec_resources *res)
{
	bool memory = res->has_memory_limit || res->has_memory_swap || res->has_memory_reservation ||
		      res->has_memory_swappiness || res->disable_oom_killer;
	bool cpu = res->has_cpu_shares || res->has_cpu_quota || res->has_cpu_period || res->has_cpu_idle ||
		   res->has_cpu_burst || res->has_cpu_rt_runtime || res->has_cpu_rt_period ||
		   res->cpuset_cpus || res->cpuset_mems;
	bool blkio = res->has_blkio_weight || res->blkio_weight_device.n;

	for (size_t i = 0; i < BLKIO_THROTTLE_COUNT; i++)
		blkio |= res->blkio_throttle[i].n > 0;
	return memory || cpu || blkio || res->has_pids_limit || res->n_hugepage_limits || res->n_unified ||
	       res->has_net_class_id || res->n_net_priorities || res->n_rdma;
}

int cgroup_create(struct cgroup *cg, const struct spec_resources *res, struct error *e)
{
	int r = 0;

	/* Disabled: whoever asked for that has limits made elsewhere, or none. */
	if (cg->mode == CGROUP_NONE)
		return 0;
	if (cg->unit[0])
		r = systemd_start(cg, res, e);
	for (size_t i = 0; r == 0 && i < cg->n_dirs; i++)
		r = make_dir(cg, &cg->dirs[i], e);
	if (r == 0)
		r = set_up(cg, res, e);
	if (r == 0)
		return 0;
	(void)!cgroup_delete(cg, NULL);
	/* An ordinary user without a delegated cgroup: containers run without one, as with runc, unless limits are asked. */
	if (cg->optional && (r == -EACCES || r == -EROFS || r == -EPERM) && !wants_limits(res)) {
		log_debug("no permission to make cgroups, the container gets none: %s", e ? e->message : "");
		memset(cg, 0, sizeof(*cg));
		return 0;
	}
	return r;
}

int cgroup_apply(const struct cgroup *cg, const struct spec_resources *res, struct error *e)
{
	struct limits l;
	int r;

	if (cg->mode == CGROUP_NONE)
		return wants_limits(res)
			       ? error_set(e, -ENOENT, ERROR_STATE, "the container has no cgroup to limit")
			       : 0;
	limits_init(&l, cg, true, e);
	r = apply_limits(&l, res);
	if (r == 0 && cg->unit[0])
		r = systemd_set(cg, res, e);
	limits_done(&l, r < 0);
	return r;
}

int cgroup_v2_fd(const struct cgroup *cg)
{
	const struct cgroup_dir *d = cgroup_v2_dir(cg);
	int fd = d ? cgroup_dir_open(cg, d, NULL) : -EBADF;

	return fd < 0 ? -EBADF : fd;
}

int cgroup_attach(const struct cgroup *cg, pid_t pid, bool skip_v2, struct error *e)
{
	char text[24];

	snprintf(text, sizeof(text), "%d", (int)pid);
	for (size_t i = 0; i < cg->n_dirs; i++) {
		const struct cgroup_dir *d = &cg->dirs[i];
		_cleanup_close_ int fd = -EBADF;
		int r;

		if (skip_v2 && cgroup_dir_is_v2(d))
			continue;
		fd = cgroup_dir_open(cg, d, e);
		if (fd < 0)
			return fd;
		r = write_string_at(fd, "cgroup.procs", text);
		if (r < 0)
			return error_errno(e, r, "cgroup: move process %d into %s", (int)pid, d->path);
	}
	return 0;
}

void cgroup_join_close(struct cgroup_join_fds *j)
{
	while (j->n)
		close_p(&j->fds[--j->n]);
}

int cgroup_join_open(const struct cgroup *cg, bool skip_v2, const struct cgroup_subs *subs,
	struct cgroup_join_fds *ret, struct error *e)
{
	struct cgroup_join_fds j = {.n = 0};

	for (size_t i = 0; i < cg->n_dirs; i++) {
		const struct cgroup_dir *d = &cg->dirs[i];
		bool v2 = cgroup_dir_is_v2(d);
		_cleanup_close_ int dir = -EBADF;
		int fd;

		if (skip_v2 && v2)
			continue;
		dir = cgroup_sub_open(cg, d, subs, e);
		/* v1's "tasks" moves one thread, which needs no lock when it is the writer: docs/adr/0011. */
		fd = dir < 0 ? dir : openat(dir, v2 ? "cgroup.procs" : "tasks", O_WRONLY | O_CLOEXEC);
		if (fd < 0) {
			int r = dir < 0 ? dir : fail_path(e, -errno, "open the task list of", d->path);

			cgroup_join_close(&j);
			return r;
		}
		j.fds[j.n++] = fd;
	}
	*ret = j;
	return 0;
}

int cgroup_join(const struct cgroup_join_fds *j)
{
	for (size_t i = 0; i < j->n; i++)
		if (write(j->fds[i], "0", 1) != 1)
			return -errno;
	return 0;
}

/* Removes name below dir with all its sub-cgroups. Those were made by the container, so they can be of any depth. */
static int remove_cgroup(int dir, const char *name, int depth)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct dirent *entry;
	DIR *list;
	int copy;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	/* The usual one has no children and is gone at once. */
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (depth == 0)
		return -ELOOP;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	list = copy < 0 ? NULL : fdopendir(copy);
	if (!list) {
		close_p(&copy);
		return -ENOMEM;
	}
	while ((entry = readdir(list)))
		if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 &&
			strcmp(entry->d_name, "..") != 0)
			(void)!remove_cgroup(fd, entry->d_name, depth - 1);
	closedir(list);
	return unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Dead tasks leave a cgroup a moment after they can be waited for (those with much memory later), so EBUSY is tried
 * again until the deadline: after 50 us, then twice that each time up to 20 ms. */
static int remove_dir(const struct cgroup *cg, const struct cgroup_dir *d, int64_t deadline, struct error *e)
{
	struct timespec pause = {.tv_nsec = 50000};

	for (;;) {
		_cleanup_close_ int fd = cgroup_dir_open(cg, d, e), up = -EBADF;
		int r;

		if (fd < 0)
			return fd == -ENOENT || fd == -ESTALE ? 0 : fd;
		up = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = up < 0 ? -errno : remove_cgroup(up, strrchr(d->path, '/') + 1, DEPTH_MAX);
		if (r == 0)
			return 0;
		if (r != -EBUSY || now_ms() >= deadline)
			return fail_path(e, r, "remove", d->path);
		nanosleep(&pause, NULL);
		pause.tv_nsec = MIN(pause.tv_nsec * 2, 20000000L);
	}
}

/* Those that make_parents() made, as far as they are empty: rmdir(2) takes no others. */
static void remove_parents(const struct cgroup *cg, const struct cgroup_dir *d)
{
	size_t base = strlen(d->path) - MIN(strlen(d->path), strlen(cg->path));
	char path[sizeof(d->path)], *slash;
	struct stat st;

	memcpy(path, d->path, sizeof(path));
	while ((slash = strrchr(path, '/')) && slash > path + base) {
		*slash = 0;
		if (lstat(path, &st) < 0 || !(st.st_mode & S_ISVTX) || rmdir(path) < 0)
			return;
	}
}

/* A create that was killed may have made directories whose inodes it could not record any more. rmdir(2) takes only
 * empty ones, and create would have replaced an empty one as well. */
static void remove_unrecorded(const struct cgroup *cg, const struct cgroup_dir *d)
{
	size_t len = strlen(d->path), tail = strlen(cg->path);

	if (tail < 2 || len <= tail || strcmp(d->path + len - tail, cg->path) != 0)
		return;
	if (rmdir(d->path) == 0 || errno == ENOENT)
		remove_parents(cg, d);
}

int cgroup_delete(struct cgroup *cg, struct error *e)
{
	int64_t deadline = now_ms() + DELETE_MS;
	int r;

	cgroup_release(cg);
	r = cg->unit[0] ? systemd_stop(cg, e) : 0;

	for (size_t i = 0; i < cg->n_dirs; i++) {
		struct cgroup_dir *d = &cg->dirs[i];
		int q;

		if (!d->inode)
			remove_unrecorded(cg, d);
		q = d->created ? remove_dir(cg, d, deadline, r ? NULL : e) : 0;
		if (q == 0) {
			d->created = false;
			remove_parents(cg, d);
		} else if (r == 0) {
			r = q;
		}
	}
	return r;
}
