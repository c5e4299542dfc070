/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that share memory, handlers, descriptor table or fs with another (CLONE_*), and threads that have some of their own.
 * kcmp(2) orders tasks by each of these, so that a sorted list finds equals in few calls. Who shares signal handlers also shares
 * memory: clone(2) wants it, and exec ends both. Of those who share a memory or a descriptor table the first one has it in
 * the image.
 *
 * A thread that waits in vfork(2) for its child to exec can be stopped by nothing, and nobody can read its registers.
 * That lasts for a moment; so the checkpoint waits until there is none.
 */
#include "checkpoint/native/dump.h"

#include <linux/kcmp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "base/trace.h"
#include "checkpoint/native/res/ipc.h"

static int compare(pid_t a, pid_t b, int type)
{
	return (int)syscall(SYS_kcmp, a, b, type, 0, 0);
}

struct sharing {
	int type;
	const char *what;
	struct dump_proc **sorted;
	size_t n;
};

/* The process that shares with p, or NULL: p is then entered. */
static struct dump_proc *find_sharer(struct sharing *s, struct dump_proc *p)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int order = compare(p->shown, s->sorted[mid]->shown, s->type);

		if (order == 0)
			return s->sorted[mid];
		if (order < 0)
			return NULL; /* it ended meanwhile */
		if (order == 1)
			hi = mid;
		else
			lo = mid + 1;
	}
	memmove(s->sorted + lo + 1, s->sorted + lo, (s->n - lo) * sizeof(*s->sorted));
	s->sorted[lo] = p;
	s->n++;
	return NULL;
}

/* "frozen": its cgroup is. Who is on its way into the wait counts as frozen by then, but shows as running. */
bool dump_waits_in_vfork(pid_t pid, pid_t tid, bool frozen)
{
	char path[64], text[256], *end;
	uint64_t flags;
	long nr;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	if (read_small_file_at(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return false;
	if (*text == 'r')
		return frozen;
	nr = strtol(text, &end, 10);
	flags = strtoull(end, NULL, 16);
	/* Nothing else blocks in these, but who was frozen in them stays there: fork(2) gives way, and begins again. */
	if (nr == SYS_clone3 && task_read_memory(pid, flags, &flags, sizeof(flags)) < 0)
		return true;
	return nr == SYS_vfork || ((nr == SYS_clone || nr == SYS_clone3) && flags & CLONE_VFORK);
}

static bool any_thread_waits_in_vfork(struct dump *d, const struct dump_proc *p)
{
	pid_t *tids;
	size_t n;

	if (proc_read_tids(p->pid, &d->arena, &tids, &n) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (dump_waits_in_vfork(p->pid, tids[i], d->writer && !d->stopped))
			return true;
	return false;
}

static bool waits_for_child(struct dump *d, const struct dump_proc *p)
{
	for (size_t i = 0; i < p->n_children; i++)
		if (compare(p->shown, p->children[i], KCMP_VM) == 0 && any_thread_waits_in_vfork(d, p))
			return true;
	return false;
}

/* Also for one that has memory of its own: clone(2) with CLONE_VFORK alone. */
static struct dump_proc *find_in_vfork(struct dump *d)
{
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].n_children > 0 && any_thread_waits_in_vfork(d, &d->procs[i]))
			return &d->procs[i];
	return NULL;
}

bool dump_anyone_in_vfork(struct dump *d)
{
	return find_in_vfork(d) != NULL;
}

int dump_refuse_vfork(struct dump *d, struct error *e)
{
	struct dump_proc *p = find_in_vfork(d);
	int r = dump_sharing(d, e);

	if (r < 0)
		return r;
	if (d->report->n == 0 && p)
		dump_refuse(d, p, -1, "vfork", "it waits in vfork, and cannot be stopped", REMEDY_VFORK,
			"process %d", p->ns_pid);
	return d->report->n > 0 ? preflight_refuse(d->report, e) : 0;
}

static void refuse(struct dump *d, struct dump_proc *p, const struct dump_proc *with, const struct sharing *s)
{
	if (s->type == KCMP_VM && waits_for_child(d, with)) {
		dump_refuse(d, p, -1, "vfork",
			"its parent waits in vfork and cannot be stopped, so that its registers are unknown",
			REMEDY_VFORK, "parent %d", with->ns_pid);
		return;
	}
	dump_refuse(d, p, -1, "process", "processes that share this are not supported yet",
		"use threads or fork", "%s shared with process %d", s->what, with->ns_pid);
}

/* They are restored by stubs that share already: these must not be told apart before that. */
static bool is_apart(struct dump *d, const struct dump_proc *p)
{
	char label[512], own[512];

	dump_read_label("self", own, sizeof(own));
	dump_read_label_of(p, label, sizeof(label));
	return p->other_namespaces || strcmp(label, own) != 0;
}

/* Mappings and pages are those of the first one. */
static void drop_memory(struct dump_proc *p)
{
	St__Memory *m = p->msg->memory;

	if (!p->syscall_insn && p->n_threads > 0)
		dump_find_code(p);
	p->n_vmas = 0;
	if (!m)
		return; /* it has ended */
	m->n_vmas = 0;
	m->auxv.len = 0;
	m->exe_file = 0;
}

static bool same_cgroup(const struct dump_proc *p, const struct dump_proc *q)
{
	char path[64], a[4096], b[4096];

	snprintf(path, sizeof(path), "/proc/%d/cgroup", p->shown);
	if (read_small_file_at(AT_FDCWD, path, a, sizeof(a)) <= 0)
		return true; /* it has ended */
	snprintf(path, sizeof(path), "/proc/%d/cgroup", q->shown);
	return read_small_file_at(AT_FDCWD, path, b, sizeof(b)) <= 0 || !strcmp(a, b);
}

/* What the tree (tree-members.c) knows nothing of. */
static const char *no_member(struct dump *d, const struct dump_proc *p, const struct dump_proc *with)
{
	if (is_apart(d, p) || is_apart(d, with))
		return "processes that share memory and have namespaces or labels of their own are not "
		       "supported yet";
	if (p->ended_leader)
		return "its leader thread has ended, and it shares its memory with another process";
	if (p->stat.tty_nr != 0 && p->stat.pgrp == p->pid)
		return "it leads a process group of a terminal, and shares its memory with another process";
	if (!same_cgroup(p, with))
		return "processes that share memory and are in different cgroups are not supported yet";
	return NULL;
}

static void note_memory(
	struct dump *d, struct dump_proc *p, const struct dump_proc *with, const struct sharing *s)
{
	const char *reason = no_member(d, p, with);

	if (waits_for_child(d, with) || waits_for_child(d, p))
		return refuse(d, p, waits_for_child(d, with) ? with : p, s);
	if (reason)
		dump_refuse(d, p, -1, "process", reason, "use threads or fork", "%s shared with process %d",
			s->what, with->ns_pid);
	if (!p->msg)
		return;
	p->msg->memory_with = with->ns_pid;
	d->has_members = true;
	drop_memory(p);
}

static void note(struct dump *d, struct dump_proc *p, struct dump_proc *with, const struct sharing *s)
{
	if (s->type == KCMP_VM)
		return note_memory(d, p, with, s);
	if (s->type == KCMP_SIGHAND) {
		p->msg->handlers_with = with->ns_pid;
		return;
	}
	if (s->type == KCMP_SYSVSEM || is_apart(d, p) || is_apart(d, with))
		return refuse(d, p, with, s);
	if (s->type == KCMP_FILES)
		p->msg->files_with = with->ns_pid;
	else
		p->msg->fs_with = with->ns_pid;
	with->shares_fs |= s->type == KCMP_FS;
	p->shares_fs |= s->type == KCMP_FS;
}

static int refuse_thread(struct dump *d, struct dump_proc *p, const char *what)
{
	dump_refuse(d, p, -1, "process", "a thread has one of its own: not supported yet",
		"let the thread end", "%s of a thread", what);
	return 0;
}

static bool same_root(const struct dump_proc *p, pid_t tid)
{
	char path[64], its[256], root[256];

	snprintf(path, sizeof(path), "task/%d/root", tid);
	return proc_readlink(p->shown, "root", root, sizeof(root)) >= 0 &&
	       proc_readlink(p->shown, path, its, sizeof(its)) >= 0 && strcmp(root, its) == 0;
}

/* A working directory and umask of its own. */
static int own_fs(struct dump *d, struct dump_proc *p, pid_t tid, struct error *e)
{
	char *name = arena_alloc(&d->arena, 32);
	uint64_t id = 0;
	int r;

	if (!name)
		return error_errno(e, -ENOMEM, "threads");
	if (!same_root(p, tid))
		return refuse_thread(d, p, "root directory");
	snprintf(name, 32, "task/%d/cwd", tid);
	r = dump_file_by_link(d, p, name, O_PATH | O_DIRECTORY, &id, e);
	for (size_t i = 0; i < p->n_threads && d->stopped && r == 0; i++) {
		struct dump_thread *t = &p->threads[i];

		if (t->tid == tid) {
			t->msg->cwd_file = id;
			t->msg->umask = t->status.umask;
		}
	}
	return (r == -ENOENT || r == -ESRCH) && !d->stopped ? 0 : r;
}

/* Whether a thread shares with a process what it does not share with its own. */
static bool any_other_shares(struct dump *d, pid_t tid, int type)
{
	for (size_t i = 0; i < d->n_procs; i++)
		if (!d->procs[i].zombie && compare(d->procs[i].shown, tid, type) == 0)
			return true;
	return false;
}

static int own_files(struct dump *d, struct dump_proc *p, pid_t tid, struct error *e)
{
	struct dump_table *t = arena_new(&d->arena, struct dump_table);

	for (const struct dump_table *other = d->tables; other; other = other->next)
		if (compare(other->as.shown, tid, KCMP_FILES) == 0)
			return refuse_thread(d, p, "descriptor table, which another thread shares,");
	if (any_other_shares(d, tid, KCMP_FILES))
		return refuse_thread(d, p, "descriptor table, which another process shares,");
	if (!t)
		return error_errno(e, -ENOMEM, "threads");
	t->as = *p;
	t->as.shown = tid;
	t->as.pidfd = -EBADF;
	t->as.msg = pb_new(&d->arena, Process, process);
	if (!t->as.msg)
		return error_errno(e, -ENOMEM, "threads");
	t->as.msg->pid = p->msg->pid;
	t->as.msg->namespaces = p->msg->namespaces;
	t->as.msg->n_namespaces = p->msg->n_namespaces;
	t->as.stat.ppid = p->pid; /* its table was that of its process */
	if (dump_pidfd(&t->as) < 0 && errno == EINVAL)
		return refuse_thread(d, p, "descriptor table (which Linux 6.9 and newer show)");
	if (proc_read_status(p->pid, tid, &d->arena, &t->as.status) < 0)
		return 0; /* it has ended */
	t->next = d->tables;
	d->tables = t;
	return 0;
}

/* Samba's threads have working directories of their own, by unshare(CLONE_FS). */
static int check_threads(struct dump *d, struct dump_proc *p, struct error *e)
{
	pid_t *tids, last = 0;
	size_t n;
	int r = 0;

	if (p->zombie || p->stat.num_threads == 1 || proc_read_tids(p->pid, &d->arena, &tids, &n) < 0)
		return 0;
	for (size_t i = 0; i < n && r == 0; i++) {
		if (tids[i] == p->pid || tids[i] == p->shown)
			continue;
		if (compare(p->shown, tids[i], KCMP_FILES) > 0 && p->msg)
			r = own_files(d, p, tids[i], e);
		if (compare(p->shown, tids[i], KCMP_FS) <= 0)
			continue;
		if (r < 0)
			return r;
		if (p->shares_fs || any_other_shares(d, tids[i], KCMP_FS))
			r = refuse_thread(d, p, "fs (cwd, umask), beside that which another process shares,");
		else if (last && compare(last, tids[i], KCMP_FS) == 0)
			r = refuse_thread(d, p, "fs (cwd, umask), which another thread shares,");
		else if (r == 0)
			r = own_fs(d, p, tids[i], e);
		last = tids[i];
	}
	return r;
}

/* Each kind has its own condition for a process to be compared: most have nothing to compare. */
static bool is_compared(const struct dump *d, const struct dump_proc *p, int type)
{
	if (p->zombie || type == KCMP_VM)
		return !p->zombie;
	if (!p->msg)
		return false;
	if (type == KCMP_SYSVSEM)
		return sem_undo_is_used(p);
	if (type != KCMP_SIGHAND || dump_is_member(p))
		return true;
	for (size_t i = 0; i < d->n_procs && d->has_members; i++)
		if (dump_is_member(&d->procs[i]) && d->procs[i].msg->memory_with == p->ns_pid)
			return true;
	return false;
}

int dump_sharing(struct dump *d, struct error *e)
{
	TRACE("sharing of pages");
	struct sharing kinds[] = {{.type = KCMP_VM, .what = "memory"},
		{.type = KCMP_SIGHAND, .what = "signal handlers"},
		{.type = KCMP_FILES, .what = "descriptor table"},
		{.type = KCMP_FS, .what = "fs (cwd, umask)"},
		{.type = KCMP_SYSVSEM, .what = "list of semaphore adjustments (SEM_UNDO)"}};

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		kinds[k].sorted = arena_array(&d->arena, d->n_procs, sizeof(*kinds[k].sorted));
		if (!kinds[k].sorted)
			return error_errno(e, -ENOMEM, "compare the container's processes");
		for (size_t i = 0; i < d->n_procs; i++) {
			struct dump_proc *p = &d->procs[i], *q;

			if (!is_compared(d, p, kinds[k].type))
				continue;
			q = find_sharer(&kinds[k], p);
			if (q)
				note(d, p, q, &kinds[k]);
		}
	}
	for (size_t i = 0; i < d->n_procs; i++) {
		int r = check_threads(d, &d->procs[i], e);

		if (r < 0)
			return r;
	}
	return 0;
}
