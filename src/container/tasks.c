/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tasks of a container: those of its cgroup; without one (an ordinary user's) those of its init's pid namespace, and
 * what descends from them: it may have made pid namespaces of its own, and a process that is not dumpable may not show us
 * which one it is in. Whoever needs more of such a process will fail, and say so.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "container/container.h"
#include "linux/procfs.h"

struct entry {
	pid_t pid, ppid;
	bool is_in;
};

struct list {
	struct entry *of;
	size_t n, allocated;
	bool vanished; /* somebody was listed, and had ended when we looked at him */
};

static struct entry *add(struct list *l, pid_t pid)
{
	if (l->n == l->allocated) {
		size_t want = l->allocated ? l->allocated * 2 : 256;
		struct entry *more = reallocarray(l->of, want, sizeof(*more));

		if (!more)
			return NULL;
		l->of = more;
		l->allocated = want;
	}
	l->of[l->n] = (struct entry){.pid = pid};
	return &l->of[l->n++];
}

static bool is_in(pid_t pid, const char *namespace)
{
	char mine[64];

	return proc_readlink(pid, "ns/pid", mine, sizeof(mine)) > 0 && !strcmp(mine, namespace);
}

/* All processes of the machine. */
static int read_all(DIR *proc, struct list *l)
{
	struct dirent *ent;

	while ((ent = readdir(proc))) {
		char *end;
		long pid = strtol(ent->d_name, &end, 10);

		if (pid > 0 && !*end && !add(l, pid))
			return -ENOMEM;
	}
	return 0;
}

/* Who is in another namespace with its parent, unless it has to be quick. The newest first, who may be gone in a moment. */
static void look(struct list *l, const char *namespace, bool quick)
{
	for (size_t i = l->n; i-- > 0;) {
		struct entry *e = &l->of[i];
		struct proc_stat st;

		e->is_in = is_in(e->pid, namespace);
		if (e->is_in || quick)
			continue;
		if (proc_read_stat(e->pid, &st) == 0)
			e->ppid = st.ppid;
		else
			l->vanished = true;
	}
}

static const struct entry *find(const struct list *l, pid_t pid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->of[i].pid == pid)
			return &l->of[i];
	return NULL;
}

static void add_descendants(struct list *l)
{
	for (bool more = true; more;) {
		more = false;
		for (size_t i = 0; i < l->n; i++) {
			const struct entry *parent =
				l->of[i].is_in || l->of[i].ppid <= 1 ? NULL : find(l, l->of[i].ppid);

			if (parent && parent->is_in)
				more = l->of[i].is_in = true;
		}
	}
}

static int find_in_proc(pid_t init, bool quick, struct list *l)
{
	char namespace[64];
	ssize_t n = proc_readlink(init, "ns/pid", namespace, sizeof(namespace));
	DIR *proc;
	int r;

	if (n < 0)
		return n == -ENOENT || n == -ESRCH ? 0 : (int)n;
	proc = opendir("/proc");
	r = proc ? read_all(proc, l) : -errno;
	if (proc)
		closedir(proc);
	if (r == 0)
		look(l, namespace, quick);
	if (r == 0 && !quick)
		add_descendants(l);
	return r;
}

static int add_threads(struct list *l, pid_t pid)
{
	struct arena a = {};
	pid_t *tids;
	size_t n;
	int r = proc_read_tids(pid, &a, &tids, &n);

	if (r == -ENOENT || r == -ESRCH) {
		r = n = 0;
		l->vanished = true;
	}
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add(l, tids[i]) ? 0 : -ENOMEM;
	arena_done(&a);
	return r;
}

static int choose(const struct list *all, bool threads, struct list *l)
{
	int r = 0;

	for (size_t i = 0; i < all->n && r == 0; i++) {
		if (!all->of[i].is_in)
			continue;
		if (threads)
			r = add_threads(l, all->of[i].pid);
		else
			r = add(l, all->of[i].pid) ? 0 : -ENOMEM;
	}
	return r;
}

static int pids_without_cgroup(const struct container *c, bool threads, bool quick, pid_t **ret,
	size_t *ret_n, bool *ret_vanished, struct error *e)
{
	struct list all = {}, l = {};
	pid_t *pids = NULL;
	int r;

	r = find_in_proc(c->init_pid, quick, &all);
	if (r == 0)
		r = choose(&all, threads, &l);
	if (r == 0 && !(pids = calloc(l.n + 1, sizeof(*pids))))
		r = -ENOMEM;
	for (size_t i = 0; i < l.n && r == 0; i++)
		pids[i] = l.of[i].pid;
	*ret_n = l.n;
	*ret_vanished = all.vanished || l.vanished;
	free(all.of);
	free(l.of);
	if (r < 0)
		return error_errno(e, r, "look for the container's processes in /proc");
	*ret = pids;
	return 0;
}

int container_pids_found(const struct container *c, bool threads, pid_t **ret, size_t *ret_n,
	bool *ret_vanished, struct error *e)
{
	*ret_vanished = false;
	if (c->cgroup.mode != CGROUP_NONE)
		return cgroup_pids(&c->cgroup, threads, ret, ret_n, e);
	return pids_without_cgroup(c, threads, false, ret, ret_n, ret_vanished, e);
}

int container_pids(const struct container *c, bool threads, pid_t **ret, size_t *ret_n, struct error *e)
{
	bool any;

	return container_pids_found(c, threads, ret, ret_n, &any, e);
}

int container_pids_quickly(const struct container *c, pid_t **ret, size_t *ret_n, struct error *e)
{
	bool any;

	return pids_without_cgroup(c, false, true, ret, ret_n, &any, e);
}
