/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes whose root or working directory is in /proc of a process that has ended (a browser's zygote: such a directory is empty, and nobody
 * can ever make anything in it). The kernel lets nobody go there but while that process lives, and who goes has to be allowed to look at
 * it. So when all processes exist, init makes helpers with those pids, in the user namespaces of who is to go; the helpers end when all are there.
 */
#include "checkpoint/native/restore.h"

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/restore-nested.h"
#include "checkpoint/native/tree.h"

/* NULL: it is anywhere else. */
static const St__Regular *gone(const struct restore *r, uint64_t file)
{
	int fd = file ? restore_fd(r, file) : -1;
	const St__File *f = fd < 0 ? NULL : r->files[fd - r->fd_base];

	return f && f->kind_case == ST__FILE__KIND_REGULAR && f->regular->process_gone ? f->regular : NULL;
}

bool restore_is_gone(const struct restore *r, uint64_t file)
{
	return gone(r, file) != NULL;
}

static size_t depth(const struct restore *r, uint64_t home)
{
	const St__Namespace *n = homes_namespace(&r->homes, home);
	size_t levels = 0;

	for (; n && levels <= r->homes.n_spaces; levels++)
		n = homes_namespace(&r->homes, n->parent);
	return levels;
}

/* Who lives in a user namespace further out may look at whom is in one below it: the innermost will do for all. */
static void add_helper(struct restore *r, int pid, uint64_t home)
{
	size_t i = 0;

	while (i < r->n_gone && r->gone[i].pid != pid)
		i++;
	if (i == r->n_gone)
		r->gone[r->n_gone++] = (struct restore_gone){pid, home};
	else if (depth(r, home) > depth(r, r->gone[i].home))
		r->gone[i].home = home;
}

int restore_find_gone(struct restore *r, struct error *e)
{
	r->gone = arena_array(&r->arena, 2 * r->n_procs, sizeof(*r->gone));
	if (!r->gone)
		return error_errno(e, -ENOMEM, "directories of processes that have ended");
	for (size_t i = 0; i < r->n_procs; i++) {
		const St__Process *p = r->procs[i];
		const St__Regular *m[] = {gone(r, p->root_file), gone(r, p->cwd_file)};

		if (p->fs_with || p->memory_with || p->state == 2)
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(m); k++)
			if (m[k])
				add_helper(r, (int)m[k]->process, r->homes.home[i]);
	}
	return 0;
}

static _Noreturn void help(struct restore *r, const struct restore_gone *g, uint32_t total)
{
	const struct restore_nested *n = g->home ? restore_namespace(r, g->home) : NULL;
	struct error e;
	sigset_t set;
	int sig;

	if ((g->home && (!n || setns(n->fd, CLONE_NEWUSER) < 0)) || prctl(PR_SET_DUMPABLE, 1) < 0 ||
		prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) {
		error_errno(&e, -errno, "a helper in a user namespace");
		restore_stub_fail(r, &e);
	}
	restore_barrier(r, &r->control->n_gone_there, total);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigwait(&set, &sig); /* all signals are blocked */
	_exit(0);
}

static int start_helpers(struct restore *r, uint32_t total, struct error *e)
{
	for (size_t i = 0; i < r->n_gone; i++) {
		pid_t pid = r->gone[i].pid;
		struct clone_args args = {
			.exit_signal = SIGCHLD, .set_tid = (uint64_t)(uintptr_t)&pid, .set_tid_size = 1};
		pid_t child = syscall(SYS_clone3, &args, sizeof(args));

		if (child == 0)
			help(r, &r->gone[i], total);
		if (child < 0)
			return error_errno(e, -errno, "make a process %d for a moment", r->gone[i].pid);
	}
	return 0;
}

static int go(struct restore *r, const St__Process *p, struct error *e)
{
	const St__Regular *root = gone(r, p->root_file), *cwd = gone(r, p->cwd_file);
	_cleanup_close_ int root_fd = -EBADF, cwd_fd = -EBADF;

	if (p->fs_with || (!root && !cwd))
		return 0;
	if (root)
		root_fd = open(root->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (cwd)
		cwd_fd = open(cwd->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if ((root && root_fd < 0) || (cwd && cwd_fd < 0))
		return error_errno(e, -errno, "open %s", root && root_fd < 0 ? root->path : cwd->path);
	if (p->root_file && (fchdir(root ? root_fd : restore_fd(r, p->root_file)) < 0 || chroot(".") < 0))
		return error_errno(e, -errno, "root directory of process %d", p->pid);
	if (p->cwd_file && fchdir(cwd ? cwd_fd : restore_fd(r, p->cwd_file)) < 0)
		return error_errno(e, -errno, "working directory of process %d", p->pid);
	return 0;
}

int restore_go_where_gone(struct restore *r, const St__Process *p, struct error *e)
{
	uint32_t all = r->tree->n_processes - r->tree->n_members, total = all + (uint32_t)r->n_gone;
	bool init = p == r->procs[0];
	int result = init ? start_helpers(r, total, e) : 0;

	if (result < 0)
		return result;
	restore_barrier(r, &r->control->n_gone_there, total);
	if (p->state != 2)
		result = go(r, p, e);
	if (result < 0)
		return result;
	restore_barrier(r, &r->control->n_gone_seen, all);
	for (size_t i = 0; i < r->n_gone && init && result == 0; i++)
		result = restore_end_helper(r->gone[i].pid, e);
	return result;
}
