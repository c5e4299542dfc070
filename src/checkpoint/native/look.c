/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What /proc says of one process. Only reading: what it means is for collect.c, mappings.c and files.c to say. So
 * several processes can be looked at at once, by helper threads (base/crew.h).
 *
 * In preflight the process may end or change at any moment; later it is frozen, or stopped by ptrace.
 */
#include "cgroup/subs.h"
#include "checkpoint/native/track.h"

#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>

#include "base/fd.h"

const char *const dump_namespaces[DUMP_NAMESPACES] = {
	"mnt", "net", "ipc", "uts", "pid", "pid_for_children", "user", "cgroup", "time", "time_for_children"};

static int no_memory(struct error *e)
{
	return error_errno(e, -ENOMEM, "look at the container's processes");
}

static bool vanished(int r)
{
	return r == -ENOENT || r == -ESRCH;
}

/* The threads that there are, leader first. Most processes have one only, as stat has said; and preflight has no question
 * about another. */
static int read_tids(
	const struct dump *d, const struct dump_proc *p, struct arena *a, pid_t **ret, size_t *ret_n)
{
	if (p->stat.num_threads != 1 && (d->writer || p->ended_leader))
		return proc_read_tids(p->pid, a, ret, ret_n);
	*ret_n = 1;
	*ret = arena_memdup(a, &p->pid, sizeof(p->pid));
	return *ret ? 0 : -ENOMEM;
}

static int parse_children(const char *text, struct arena *a, struct dump_thread *t)
{
	size_t n = 0;
	char *end;

	for (const char *at = text; *at; at++)
		n += *at == ' '; /* one behind each */
	t->children = arena_array(a, n, sizeof(*t->children));
	if (!t->children)
		return -ENOMEM;
	for (long pid; n > 0 && (pid = strtol(text, &end, 10)) > 0 && end != text; text = end, n--)
		t->children[t->n_children++] = pid;
	return 0;
}

static int find_children(pid_t pid, struct dump_thread *t, struct arena *a, struct error *e)
{
	enum { LIMIT = 64 << 20 };
	char path[64], small[4096], *text = small;
	_cleanup_free_ char *large = NULL;
	size_t len;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, t->tid);
	n = read_small_file_at(AT_FDCWD, path, small, sizeof(small));
	if (n == -EFBIG) {
		n = read_file_at(AT_FDCWD, path, LIMIT, &large, &len);
		text = large;
	}
	if (n < 0 && !vanished(n))
		return error_errno(e, n, "read %s", path);
	return n > 0 && parse_children(text, a, t) < 0 ? no_memory(e) : 0;
}

int dump_look_threads(struct dump_proc *p, size_t from, size_t to, struct arena *a, struct error *e)
{
	for (size_t i = from; i < to; i++) {
		struct dump_thread *t = &p->threads[i];
		int r = 0;

		if (t->tid == p->pid)
			t->status = p->status;
		else
			r = proc_read_status(p->pid, t->tid, a, &t->status);
		if (vanished(r)) {
			t->tid = 0;
			continue;
		}
		if (r < 0)
			return error_errno(e, r, "status of thread %d", t->tid);
		t->ns_tid = t->own_tid = t->status.ns_pid[t->status.n_ns - 1];
		r = find_children(p->pid, t, a, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int dump_gather_threads(struct dump_proc *p, struct arena *a, struct error *e)
{
	size_t all = p->n_threads, n_children = 0;

	p->n_threads = 0;
	for (size_t i = 0; i < all; i++) {
		if (p->threads[i].tid == 0)
			continue;
		n_children += p->threads[i].n_children;
		p->threads[p->n_threads++] = p->threads[i];
	}
	p->children = arena_array(a, n_children, sizeof(*p->children));
	if (!p->children)
		return no_memory(e);
	for (size_t i = 0; i < p->n_threads; i++)
		for (size_t k = 0; k < p->threads[i].n_children; k++)
			p->children[p->n_children++] = p->threads[i].children[k];
	return p->n_threads == 0;
}

/* What the process has another thread shows; its ids are still those of the leader. 1: it is gone. */
static int look_past_leader(struct dump_proc *p, struct arena *a, struct error *e)
{
	struct proc_status status;
	struct proc_stat stat;
	int r;

	if (p->n_threads == 0)
		return 1;
	r = proc_read_status(p->pid, p->threads[0].tid, a, &status);
	if (r == 0)
		r = proc_read_stat(p->threads[0].tid, &stat);
	if (r < 0)
		return vanished(r) ? 1 : error_errno(e, r, "status of thread %d", p->threads[0].tid);
	p->shown = p->threads[0].tid;
	memcpy(status.ns_pid, p->status.ns_pid, sizeof(status.ns_pid));
	p->status = status;
	memcpy(stat.comm, p->stat.comm, sizeof(stat.comm));
	stat.state = p->stat.state;
	stat.exit_signal = p->stat.exit_signal;
	stat.exit_code = p->stat.exit_code;
	p->stat = stat;
	return 0;
}

/* 1: the process is gone. */
static int find_threads(const struct dump *d, struct dump_proc *p, struct arena *a, struct error *e)
{
	pid_t *tids;
	size_t n;
	int r;

	r = read_tids(d, p, a, &tids, &n);
	if (r < 0)
		return vanished(r) ? 1 : error_errno(e, r, "threads of pid %d", p->pid);
	p->threads = arena_array(a, n, sizeof(*p->threads));
	if (!p->threads)
		return no_memory(e);
	for (size_t i = 0; i < n; i++)
		if (!p->ended_leader || tids[i] != p->pid)
			p->threads[p->n_threads++].tid = tids[i];
	if (p->ended_leader) {
		r = look_past_leader(p, a, e);
		if (r != 0)
			return r;
	}
	if (dump_has_many_threads(p))
		return 0;
	r = dump_look_threads(p, 0, p->n_threads, a, e);
	return r < 0 ? r : dump_gather_threads(p, a, e);
}

int dump_look_first(struct dump *d, pid_t pid, struct dump_proc *p, struct arena *a, struct error *e)
{
	int r;

	*p = (struct dump_proc){.pid = pid, .shown = pid, .pidfd = -EBADF};
	r = proc_read_stat(pid, &p->stat);
	if (r == 0)
		r = proc_read_status(pid, 0, a, &p->status);
	if (r < 0)
		return vanished(r) ? 1 : error_errno(e, r, "state of pid %d", pid);
	p->zombie = p->stat.state == 'Z' || p->stat.state == 'X';
	p->ns_pid = p->own_pid = p->status.ns_pid[p->status.n_ns - 1];
	if (p->zombie && p->stat.num_threads > 1) {
		p->ended_leader = arena_new(a, struct dump_thread);
		if (!p->ended_leader)
			return no_memory(e);
		p->ended_leader->tid = pid;
		p->ended_leader->ns_tid = p->ended_leader->own_tid = p->own_pid;
		p->ended_leader->status = p->status;
		p->zombie = false;
	}
	r = p->zombie ? 0 : find_threads(d, p, a, e);
	if (r == 0 && d->writer && dump_pidfd(p) < 0)
		return errno == ESRCH ? 1 : error_errno(e, -errno, "pidfd of pid %d", pid);
	return r;
}

/* A thread may go to another by itself, if it has or had the capability; not to that of users, mounts or a time, though it may make
 * the latter for its children. */
static const char *find_split(const struct dump_proc *p, struct arena *a)
{
	static const char *const names[] = {"net", "ipc", "uts", "cgroup", "time_for_children"};
	char path[64], own[64], mine[64];
	pid_t *tids;
	size_t n;

	if (p->zombie || p->stat.num_threads == 1 || !(p->status.cap_bnd & 1ull << CAP_SYS_ADMIN) ||
		proc_read_tids(p->pid, a, &tids, &n) < 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "ns/%s", names[i]);
		if (proc_readlink(p->pid, path, own, sizeof(own)) < 0)
			continue;
		for (size_t k = 0; k < n; k++) {
			snprintf(path, sizeof(path), "task/%d/ns/%s", tids[k], names[i]);
			if (proc_readlink(p->pid, path, mine, sizeof(mine)) > 0 && strcmp(own, mine) != 0)
				return names[i];
		}
	}
	return NULL;
}

static void compare_namespaces(const struct dump *d, struct dump_proc *p, struct arena *a)
{
	char name[64], mine[64];

	p->other_namespaces = 0;
	p->split_namespace = find_split(p, a);
	for (size_t i = 0; i < DUMP_NAMESPACES; i++) {
		ssize_t n;

		/* Of init only what its children would be in can be another. */
		if (p == &d->procs[0] && strcmp(dump_namespaces[i], "time_for_children") != 0)
			continue;
		/* Of a zombie only the pid namespace is left. */
		if (p->zombie &&
			(p->status.n_ns == d->pid_level + 1 || strcmp(dump_namespaces[i], "pid") != 0))
			continue;
		snprintf(name, sizeof(name), "ns/%s", dump_namespaces[i]);
		n = proc_readlink(p->shown, name, mine, sizeof(mine));
		/* One for children that has none yet cannot be read. */
		if (d->namespaces[i][0] &&
			(n > 0 ? strcmp(mine, d->namespaces[i]) != 0
			       : n == -ENOENT && !strcmp(dump_namespaces[i], "pid_for_children")))
			p->other_namespaces |= 1u << i;
	}
}

static int look_at_links(struct dump_proc *p, struct arena *a, struct error *e)
{
	char root[256];
	ssize_t n;
	int r;

	r = dump_look_link(p->shown, "exe", a, &p->exe, e);
	if (r == 0)
		r = dump_look_link(p->shown, "cwd", a, &p->cwd, e);
	if (r < 0)
		return r;
	n = proc_readlink(p->shown, "root", root, sizeof(root));
	if (n < 0)
		return error_errno(e, n, "root directory of pid %d", p->pid);
	return strcmp(root, "/") == 0 ? 0 : dump_look_link(p->shown, "root", a, &p->root, e);
}

/* The one number in a file; 0 if there is none. */
static long small_number(pid_t pid, const char *name, int base)
{
	char path[64], text[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	n = read_small_file_at(AT_FDCWD, path, text, sizeof(text));
	return n < 0 ? 0 : strtol(text, NULL, base);
}

/* The scheduler's group of all in a session has a nice value of its own ("/autogroup-12 nice 5"). */
static long autogroup_nice(const struct dump_proc *p)
{
	char path[64], text[64];
	int nice = 0;

	if (p->stat.session != p->pid)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/autogroup", p->shown);
	if (read_small_file_at(AT_FDCWD, path, text, sizeof(text)) > 0 &&
		sscanf(text, "/autogroup-%*u nice %d", &nice) != 1)
		nice = 0;
	return nice;
}

static int look_at_stopped(struct dump_proc *p, struct arena *a, struct error *e)
{
	char path[64], auxv[4096];
	ssize_t n;
	int r;

	p->oom_score_adj = small_number(p->shown, "oom_score_adj", 10);
	p->coredump_filter = small_number(p->shown, "coredump_filter", 16);
	p->loginuid = small_number(p->shown, "loginuid", 10);
	p->autogroup_nice = autogroup_nice(p);
	r = proc_read_timers(p->shown, a, &p->timers, &p->n_timers);
	if (r < 0)
		return error_errno(e, r, "POSIX timers of pid %d", p->pid);
	snprintf(path, sizeof(path), "/proc/%d/auxv", p->shown);
	n = read_small_file_at(AT_FDCWD, path, auxv, sizeof(auxv));
	if (n < 0)
		return error_errno(e, n, "read %s", path);
	p->auxv_len = n;
	p->auxv = arena_memdup(a, auxv, n);
	return p->auxv ? 0 : no_memory(e);
}

/* With relatives it matters which of the pages others have, too: that only smaps tells. */
void dump_prepare_look(struct dump *d)
{
	enum { WORTHWHILE_KIB = 64 << 10 };
	struct proc_status s;
	char path[64], text[64], label[512];

	cgroup_open_dirs(&d->c->cgroup, d->cgroup_dirs);
	dump_read_label("self", label, sizeof(label));
	d->own_label = arena_strdup(&d->arena, label);
	d->is_prepared = true;
	dump_landlock_prepare(d);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", d->c->init_pid, d->c->init_pid);
	if (d->unprivileged || proc_read_status(d->c->init_pid, 0, &d->arena, &s) < 0 ||
		s.vm_rss_kib < WORTHWHILE_KIB || read_small_file_at(AT_FDCWD, path, text, sizeof(text)) != 0)
		return;
	if (vma_flags_new(&d->vma_flags) < 0)
		d->vma_flags = NULL;
}

/* smaps walks through all pages. How much of a mapping is there is not known without it: at most all. */
static int look_at_mappings(struct dump *d, struct dump_proc *p, struct arena *a)
{
	int r = 1;

	if (d->stopped && d->vma_flags && d->n_procs == 1) {
		r = proc_read_maps(p->shown, false, a, &p->vmas, &p->n_vmas);
		if (r == 0)
			r = vma_flags_read(d->vma_flags, p->shown, a, p->vmas, p->n_vmas);
		p->sizes_unknown = r == 0;
	}
	for (size_t i = 0; i < p->n_vmas && r == 0; i++) {
		struct proc_vma *v = &p->vmas[i];

		v->page_kib = 4;
		v->rss_kib = MIN((v->end - v->start) / 1024, (uint64_t)p->status.vm_rss_kib);
		v->anonymous_kib = v->shared || !(v->prot & PROT_READ) ? 0 : v->rss_kib;
	}
	return r == 1 ? proc_read_maps(p->shown, d->stopped, a, &p->vmas, &p->n_vmas) : r;
}

int dump_look(void *arg, size_t item, unsigned worker, struct error *e)
{
	struct dump *d = arg;
	struct dump_proc *p = &d->procs[item];
	struct arena *a = dump_arena(d, worker);
	int r;

	compare_namespaces(d, p, a);
	if (p->zombie)
		return 0;
	r = track_read_maps(d, p, a);
	if (r == 1)
		r = look_at_mappings(d, p, a);
	if (r < 0)
		error_errno(e, r, "mappings of pid %d", p->pid);
	if (r == 0)
		r = look_at_links(p, a, e);
	if (r == 0 && d->stopped)
		r = look_at_stopped(p, a, e);
	/* A task that ended while preflight looked at it is no obstacle. */
	return vanished(r) && !d->stopped ? 1 : r;
}
