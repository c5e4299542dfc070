/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes that share memory, descriptor table or fs with another (CLONE_*), and threads that have some of their own. kcmp(2)
 * orders tasks by each of these, so that a sorted list finds equals in few calls. Who shares signal handlers also shares
 * memory: clone(2) wants it, and exec ends both.
 *
 * A thread that waits in vfork(2) for its child to exec can be stopped by nothing, and nobody can read its registers.
 * That lasts for a moment; so the checkpoint waits until there is none.
 */
#include "checkpoint/native/dump.h"

#include <linux/kcmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/fd.h"

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
		int order = compare(p->pid, s->sorted[mid]->pid, s->type);

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
	char path[64], text[256];
	long nr;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	if (read_small_file_at(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return false;
	if (*text == 'r')
		return frozen;
	nr = strtol(text, NULL, 10);
	/* Nothing else blocks in these. */
	return nr == SYS_vfork || nr == SYS_clone || nr == SYS_clone3;
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

const struct dump_proc *dump_vfork_wait(struct dump *d, const struct dump_proc *p)
{
	for (size_t i = 0; i < p->n_children; i++)
		if (compare(p->pid, p->children[i], KCMP_VM) == 0 && any_thread_waits_in_vfork(d, p))
			return p;
	return NULL;
}

bool dump_anyone_in_vfork(struct dump *d)
{
	for (size_t i = 0; i < d->n_procs; i++)
		if (dump_vfork_wait(d, &d->procs[i]))
			return true;
	return false;
}

static void refuse(struct dump *d, struct dump_proc *p, const struct dump_proc *with, const struct sharing *s)
{
	if (s->type == KCMP_VM && dump_vfork_wait(d, with)) {
		d->n_vforks++;
		dump_refuse(d, p, -1, "vfork",
			"its parent waits in vfork and cannot be stopped, so that its registers are unknown",
			"wait until it executes a program or ends", "parent %d", with->ns_pid);
		return;
	}
	dump_refuse(d, p, -1, "process", "processes that share this are not supported yet",
		"use threads or fork", "%s shared with process %d", s->what, with->ns_pid);
}

/* Samba's threads have working directories of their own, by unshare(CLONE_FS). */
static void check_threads(struct dump *d, struct dump_proc *p)
{
	static const struct {
		int type;
		const char *what;
	} kinds[] = {{KCMP_FILES, "descriptor table"}, {KCMP_FS, "fs (cwd, umask)"}};
	pid_t *tids;
	size_t n;

	if (p->zombie || p->stat.num_threads == 1 || proc_read_tids(p->pid, &d->arena, &tids, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
			if (tids[i] != p->pid && compare(p->pid, tids[i], kinds[k].type) > 0)
				dump_refuse(d, p, -1, "process",
					"a thread has one of its own: not supported yet",
					"let the thread end", "%s of a thread", kinds[k].what);
}

int dump_sharing(struct dump *d, struct error *e)
{
	struct sharing kinds[] = {{.type = KCMP_VM, .what = "memory"},
		{.type = KCMP_FILES, .what = "descriptor table"},
		{.type = KCMP_FS, .what = "fs (cwd, umask)"}};

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		kinds[k].sorted = arena_array(&d->arena, d->n_procs, sizeof(*kinds[k].sorted));
		if (!kinds[k].sorted)
			return error_errno(e, -ENOMEM, "compare the container's processes");
		for (size_t i = 0; i < d->n_procs; i++) {
			struct dump_proc *p = &d->procs[i], *q = p->zombie ? NULL : find_sharer(&kinds[k], p);

			if (q)
				refuse(d, p, q, &kinds[k]);
		}
	}
	for (size_t i = 0; i < d->n_procs; i++)
		check_threads(d, &d->procs[i]);
	return 0;
}
