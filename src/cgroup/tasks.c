/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is in a cgroup, and signals to all of them. A pid from a list may have died and been given to a stranger by the
 * time it is signalled; so a pidfd is opened for each, the list is read again, and only who is still in it is
 * signalled: a pidfd opened before that refers to the task that was listed, or to a dead one.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "cgroup/cgroup-priv.h"

enum { DEPTH_MAX = 64, TASKS_FILE_MAX = 64 * 1024 * 1024, FREEZE_MS = 2000, SIGNAL_ROUNDS = 100 };

/* Between the rounds of a kill: 50 us, then longer. */
static void round_pause(int round)
{
	const struct timespec t = {.tv_nsec = 50000L << MIN(round, 8)};

	nanosleep(&t, NULL);
}

struct pid_list {
	pid_t *pids;
	size_t n, room;
};

static void pid_list_done(struct pid_list *l)
{
	free(l->pids);
}

static int pid_list_add(struct pid_list *l, pid_t pid)
{
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 64;
		pid_t *more = reallocarray(l->pids, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->pids = more;
		l->room = room;
	}
	l->pids[l->n++] = pid;
	return 0;
}

static int add_from_text(struct pid_list *l, const char *text)
{
	while (*text) {
		char *end;
		unsigned long n;

		errno = 0;
		n = strtoul(text, &end, 10);
		if (end == text || errno || n > INT32_MAX)
			return -EBADMSG;
		/* 0: not visible in our pid namespace. */
		if (n) {
			int r = pid_list_add(l, (pid_t)n);

			if (r < 0)
				return r;
		}
		text = end + strspn(end, "\n");
	}
	return 0;
}

struct visitor {
	int (*visit)(int dir, struct visitor *v);
	struct pid_list *list;
	const char *file;
};

static int add_from_dir(int dir, struct visitor *v)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = read_file_at(dir, v->file, TASKS_FILE_MAX, &text, &len);

	/* A threaded cgroup (EOPNOTSUPP): its processes are listed in the domain above. ENODEV: it was removed. */
	if (r < 0 && r != -EOPNOTSUPP && r != -ENOENT && r != -ENODEV)
		return r;
	return r < 0 ? 0 : add_from_text(v->list, text);
}

static int thaw_dir(int dir, struct visitor *v)
{
	(void)!write_string_at(dir, "freezer.state", "THAWED");
	return 0;
}

/* A cgroup and all below it, which may come and go meanwhile. */
static int visit_all(int dir, int depth, struct visitor *v)
{
	struct dirent *entry;
	struct stat st;
	DIR *list;
	int copy, r = v->visit(dir, v);

	if (r < 0)
		return r;
	/* a directory of a cgroup file system counts its directories */
	if (fstat(dir, &st) == 0 && st.st_nlink == 2)
		return 0;
	if (depth == 0)
		return -ELOOP;
	copy = fcntl(dir, F_DUPFD_CLOEXEC, 0);
	list = copy < 0 ? NULL : fdopendir(copy);
	if (!list) {
		r = -errno;
		close_p(&copy);
		return r;
	}
	while (r == 0 && (entry = readdir(list))) {
		_cleanup_close_ int fd = -EBADF;

		if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 ||
			strcmp(entry->d_name, "..") == 0)
			continue;
		fd = openat(dir, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (fd >= 0)
			r = visit_all(fd, depth - 1, v);
	}
	closedir(list);
	return r;
}

static int list_dir(const struct cgroup *cg, const struct cgroup_dir *d, bool threads, struct pid_list *l,
	struct error *e)
{
	_cleanup_close_ int dir = cgroup_dir_open(cg, d, e);
	struct visitor v = {.visit = add_from_dir,
		.list = l,
		.file = !threads	      ? "cgroup.procs"
			: cgroup_dir_is_v2(d) ? "cgroup.threads"
					      : "tasks"};
	int r;

	if (dir < 0)
		return dir;
	r = visit_all(dir, DEPTH_MAX, &v);
	return r < 0 ? error_errno(e, r, "cgroup: list the tasks of %s", d->path) : 0;
}

static int compare_pids(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return (x > y) - (x < y);
}

/* What "more" has and "l" has not, is added to it. */
static int add_missing(struct pid_list *l, const struct pid_list *more)
{
	_cleanup_free_ pid_t *sorted = reallocarray(NULL, l->n + 1, sizeof(*sorted));
	size_t n = l->n;

	if (!sorted)
		return -ENOMEM;
	if (n)
		memcpy(sorted, l->pids, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(pid_t), compare_pids);
	for (size_t i = 0; i < more->n; i++) {
		int r = bsearch(&more->pids[i], sorted, n, sizeof(pid_t), compare_pids)
				? 0
				: pid_list_add(l, more->pids[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* On a hybrid machine a task can be moved out of the v2 tree and stay in the freezer's cgroup, or the other way round:
 * both kinds are in the container's cgroups. */
int cgroup_pids(const struct cgroup *cg, bool threads, pid_t **ret, size_t *ret_n, struct error *e)
{
	_cleanup_(pid_list_done) struct pid_list l = {0}, v1 = {0};
	const struct cgroup_dir *d = cgroup_main_dir(cg), *freezer = cgroup_v1_dir(cg, "freezer");
	int r = d ? list_dir(cg, d, threads, &l, e) : 0;

	if (r == 0 && freezer && freezer != d) {
		r = list_dir(cg, freezer, threads, &v1, e);
		if (r == 0 && add_missing(&l, &v1) < 0)
			r = error_set(e, -ENOMEM, ERROR_SYSTEM, "out of memory while listing tasks");
	}
	if (r < 0)
		return r;
	*ret = take_ptr(l.pids);
	*ret_n = l.n;
	return 0;
}

/* Returns how many were signalled, or a negative errno. */
static int signal_round(const struct cgroup *cg, const struct cgroup_dir *d, int sig, struct error *e)
{
	_cleanup_(pid_list_done) struct pid_list before = {0}, after = {0};
	_cleanup_free_ int *fds = NULL;
	int done = 0, r = list_dir(cg, d, false, &before, e);

	if (r < 0)
		return r;
	fds = reallocarray(NULL, before.n + 1, sizeof(*fds));
	if (!fds)
		return error_set(e, -ENOMEM, ERROR_SYSTEM, "out of memory while signalling %s", d->path);
	for (size_t i = 0; i < before.n; i++)
		fds[i] = (int)syscall(SYS_pidfd_open, before.pids[i], 0);
	r = list_dir(cg, d, false, &after, e);
	if (r == 0 && after.n)
		qsort(after.pids, after.n, sizeof(pid_t), compare_pids);
	for (size_t i = 0; i < before.n; i++) {
		if (r == 0 && fds[i] >= 0 && after.n &&
			bsearch(&before.pids[i], after.pids, after.n, sizeof(pid_t), compare_pids) &&
			syscall(SYS_pidfd_send_signal, fds[i], sig, NULL, 0) == 0)
			done++;
		close_p(&fds[i]);
	}
	return r < 0 ? r : done;
}

int cgroup_thaw_killed(const struct cgroup *cg, struct error *e)
{
	const struct cgroup_dir *d = cgroup_v1_dir(cg, "freezer");
	_cleanup_close_ int dir = d ? cgroup_dir_open(cg, d, NULL) : -EBADF;
	struct visitor v = {.visit = thaw_dir};

	if (dir >= 0)
		(void)!visit_all(dir, DEPTH_MAX, &v);
	return cgroup_is_frozen(cg) > 0 ? cgroup_thaw(cg, e) : 0;
}

/* Frozen, nobody can fork away from the list. SIGKILL reaches frozen v2 tasks at once and v1's when they thaw. */
static int signal_frozen(const struct cgroup *cg, const struct cgroup_dir *d, int sig, struct error *e)
{
	bool frozen = cgroup_is_frozen(cg) > 0, froze = false;
	int q = 0, r;

	if (!frozen)
		froze = cgroup_freeze(cg, FREEZE_MS, NULL) == 0;
	r = signal_round(cg, d, sig, e);
	/* A paused container stays paused, except that it must be able to die. */
	if (sig == SIGKILL)
		q = cgroup_thaw_killed(cg, r < 0 ? NULL : e);
	else if (froze)
		q = cgroup_thaw(cg, r < 0 ? NULL : e);
	return r < 0 ? r : q < 0 ? q : r;
}

static bool try_cgroup_kill(const struct cgroup *cg)
{
	const struct cgroup_dir *d = cgroup_v2_dir(cg);
	_cleanup_close_ int dir = d ? cgroup_dir_open(cg, d, NULL) : -EBADF;

	return dir >= 0 && write_string_at(dir, "cgroup.kill", "1") == 0;
}

/* 1 if "freezer" lists a task that the v2 tree does not. v2 is read first: who dies in between is missing in both. */
static int has_escaped(const struct cgroup *cg, const struct cgroup_dir *freezer, struct error *e)
{
	_cleanup_(pid_list_done) struct pid_list v1 = {0}, v2 = {0};
	int r = list_dir(cg, cgroup_v2_dir(cg), false, &v2, e);

	if (r == 0)
		r = list_dir(cg, freezer, false, &v1, e);
	if (r < 0 || !v1.n)
		return r;
	if (v2.n)
		qsort(v2.pids, v2.n, sizeof(pid_t), compare_pids);
	for (size_t i = 0; i < v1.n; i++)
		if (!v2.n || !bsearch(&v1.pids[i], v2.pids, v2.n, sizeof(pid_t), compare_pids))
			return 1;
	return 0;
}

/* After cgroup.kill: a task of a privileged container may have left the v2 cgroup and still be in the v1 ones, whose
 * freezer would also keep it from dying. */
static int kill_in_v1(const struct cgroup *cg, struct error *e)
{
	const struct cgroup_dir *freezer = cgroup_v1_dir(cg, "freezer");
	int r;

	if (!freezer)
		return 0;
	r = cgroup_thaw_killed(cg, e);
	for (int i = 0; r == 0 && i < SIGNAL_ROUNDS; i++) {
		r = has_escaped(cg, freezer, e);
		if (r <= 0)
			return r;
		r = signal_round(cg, freezer, SIGKILL, e);
		if (r < 0)
			return r;
		r = 0;
		round_pause(i);
	}
	return r < 0 ? r : error_set(e, -EBUSY, ERROR_SYSTEM, "cgroup: %s: tasks do not die", cg->path);
}

int cgroup_signal(const struct cgroup *cg, int sig, struct error *e)
{
	const struct cgroup_dir *d = cgroup_main_dir(cg);
	int r = 0;

	if (!d)
		return 0;
	if (sig != SIGKILL) {
		r = signal_frozen(cg, d, sig, e);
		return r < 0 ? r : 0;
	}
	/* (Linux 5.14.) */
	if (try_cgroup_kill(cg)) {
		/* It sends the signal to leaders alone: one that has ended does not pass it on to its threads. */
		r = signal_round(cg, d, SIGKILL, e);
		/* systemd removes a scope as soon as it is empty */
		return r < 0 && r != -ENOENT && r != -ENODEV ? r : kill_in_v1(cg, e);
	}
	for (int i = 0; i < SIGNAL_ROUNDS; i++) {
		r = signal_frozen(cg, d, sig, e);
		if (r <= 0)
			return r;
		round_pause(i);
	}
	return error_set(e, -EBUSY, ERROR_SYSTEM, "cgroup: %s: tasks do not die", cg->path);
}
