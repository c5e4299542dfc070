/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of a process that lives (or is a zombie) is opened late in the restore (restore-late.c). If the process is gone
 * the file can only say so; but it has to be opened for that, and there is a process with that pid for a moment.
 */
#include "checkpoint/native/res/proc-file.h"

#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "checkpoint/native/shared-pids.h"

/* What follows the mount point of the proc file system: "/12/fd". NULL: it is not in one. */
static const char *below_proc(const struct dump *d, const struct dump_file *f)
{
	const char *path = f->link;

	for (size_t i = 0; i < d->n_mounts; i++) {
		const struct proc_mount *m = &d->mounts[i];
		size_t n = strlen(m->target);

		if (!strcmp(m->fstype, "proc") && !strcmp(m->root, "/") &&
			makedev(m->dev_major, m->dev_minor) == f->st.st_dev && !strncmp(path, m->target, n) &&
			path[n] == '/')
			return path + n;
	}
	return NULL;
}

/* "/12/task/13/stat": 12 and 13. */
static int parse(const char *path, int *ret_tid)
{
	int pid = 0, n = 0;

	*ret_tid = 0;
	if (!path || sscanf(path, "/%d%n", &pid, &n) != 1 || pid <= 0 || !strchr("/ ", path[n]))
		return 0;
	if (sscanf(path + n, "/task/%d", ret_tid) != 1)
		*ret_tid = pid;
	return pid;
}

int proc_file_pid(const struct dump *d, const struct dump_file *f)
{
	int tid;

	return f->link[0] == '/' ? parse(below_proc(d, f), &tid) : 0;
}

static const struct dump_proc *find_process(const struct dump *d, int pid)
{
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].ns_pid == pid)
			return &d->procs[i];
	return NULL;
}

/* Of the network: "deleted" as soon as somebody looks for it once more, and whoever has it open does not need the process. */
static bool is_of_network(const struct dump *d, const struct dump_file *f)
{
	const char *path = below_proc(d, f);
	int pid, tid, n = 0;

	if (!path ||
		(sscanf(path, "/%d/task/%d%n", &pid, &tid, &n) != 2 && sscanf(path, "/%d%n", &pid, &n) != 1))
		return false;
	return !strncmp(path + n, "/net/", 5);
}

/* The kernel does not always say that it has been deleted. */
bool proc_file_is_gone(struct dump *d, const struct dump_file *f)
{
	return !dump_path_is(d, f, f->link, &f->st) &&
	       !(is_of_network(d, f) && find_process(d, proc_file_pid(d, f)));
}

/* It can go there again while there is a process with that pid (restore-gone.c). */
static const char *lives_in_vain(const struct dump *d, const struct dump_file *f, int pid)
{
	if (dump_is_member(f->proc))
		return "its working or root directory is of a process that has ended, and it shares the "
		       "memory of "
		       "another one";
	if (d->options->together && shared_pids_is_shared(d, d->options->together->self))
		return "its working or root directory is of a process that has ended, in a pid namespace "
		       "that several "
		       "containers have";
	for (size_t i = 0; i < d->n_procs; i++) {
		const struct proc_status *s = &d->procs[i].status;

		for (size_t k = 0; k < ARRAY_SIZE(s->ns_pid); k++)
			if (s->ns_pid[k] == d->procs[i].ns_pid &&
				(s->ns_sid[k] == pid || s->ns_pgid[k] == pid))
				return "its working or root directory is of a process that has ended, whose "
				       "session or "
				       "process group is there still";
	}
	return NULL;
}

void proc_file_check(struct dump *d, struct dump_file *f, int pid)
{
	const struct dump_proc *p = find_process(d, pid);
	const char *reason = NULL;
	bool lives_there = f->by_name && (!strcmp(f->by_name, "cwd") || !strcmp(f->by_name, "root"));
	int tid;

	(void)parse(below_proc(d, f), &tid);
	if (lives_there && !p && proc_file_is_gone(d, f))
		reason = lives_in_vain(d, f, pid);
	else if (p && dump_is_member(p))
		reason = "it is of a process that shares the memory of another one, which is not there yet "
			 "when files "
			 "are opened at restore";
	else if (tid != pid)
		reason = "it is of a thread, which is not there yet when files are opened at restore";
	else if (!p && !proc_file_is_gone(d, f))
		reason = "it is of a process outside of the container";
	else if (p && proc_file_is_gone(d, f))
		reason = "it is of a process that has ended and whose pid another one has, or of what the "
			 "process has "
			 "closed";
	if (reason)
		dump_refuse(d, f->proc, f->fd, "file", reason,
			lives_there ? "let it go elsewhere, or end it" : "close it first", "%s", f->link);
}

int proc_file_open_gone(const St__Regular *m, int flags, struct error *e)
{
	pid_t helper = restore_fork_helper(m->process, 0);
	int fd, result;

	if (helper < 0)
		return error_errno(e, -errno, "make a process %u for a moment", m->process);
	fd = open(m->path, flags);
	if (fd < 0)
		error_errno(e, -errno, "open %s", m->path);
	result = restore_end_helper(helper, e);
	return fd < 0 ? e->code : result < 0 ? result : fd;
}
