/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pidfd_open(2), CLONE_PIDFD: a process of the container, alive or a zombie, by its pid: opened when all processes are there
 * (restore-late.c). One that has been reaped is stood in for by a helper, which ends as it had (PIDFD_GET_INFO tells that,
 * since Linux 6.15). All pidfds of one process are one inode (Linux 6.9), also then.
 */
#include "checkpoint/native/res/res.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>

/* PIDFD_THREAD is O_EXCL, and the only flag besides O_NONBLOCK that shows. */
enum { KNOWN_FLAGS = O_ACCMODE | O_NONBLOCK | O_EXCL | O_LARGEFILE | O_CLOEXEC };

/* <linux/pidfd.h> of Linux 6.15 */
struct exit_info {
	uint64_t mask, cgroup;
	uint32_t pid, tgid, ppid;
	uint32_t ids[8];
	int32_t exit_code;
	uint32_t room[8];
};
#define INFO_EXIT (1 << 3)
#define GET_INFO _IOWR(0xff, 11, struct exit_info)

static bool match(const struct dump *d, const struct dump_file *f)
{
	return link_is_anon_inode(f, "[pidfd]") || strncmp(f->link, "pidfd:", 6) == 0;
}

static const struct dump_proc *process_of(const struct dump *d, const struct dump_file *f)
{
	for (size_t i = 0; i < d->n_procs; i++)
		if (d->procs[i].pid == f->info.pidfd_pid)
			return &d->procs[i];
	return NULL;
}

static bool is_thread(const struct dump *d, const struct dump_file *f)
{
	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = 1; k < d->procs[i].n_threads; k++)
			if (d->procs[i].threads[k].tid == f->info.pidfd_pid)
				return true;
	return false;
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	const char *reason = NULL;

	if (is_thread(d, f))
		reason = "it is of a thread that is not the first of its process (PIDFD_THREAD)";
	else if (f->info.pidfd_pid != -1 && !process_of(d, f))
		reason = "it is of a process outside of the container";
	else if (f->info.pidfd_pid != -1 && dump_is_member(process_of(d, f)))
		reason = "it is of a process that shares the memory of another one, which is not there yet "
			 "when files "
			 "are opened at restore";
	else if (f->info.flags & ~(unsigned)KNOWN_FLAGS)
		reason = "it has flags that this version does not know";
	if (reason)
		dump_refuse(d, f->proc, f->fd, "pidfd", reason, "close the pidfd first", "pidfd of %d",
			f->info.pidfd_pid);
	return 0;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	const struct dump_proc *p = process_of(d, f);
	struct exit_info info = {.mask = INFO_EXIT};
	St__PidFd *m = pb_new(&d->arena, PidFd, pid_fd);

	if (!m)
		return error_errno(e, -ENOMEM, "pidfd");
	f->msg->kind_case = ST__FILE__KIND_PIDFD;
	f->msg->pidfd = m;
	m->thread = f->info.flags & O_EXCL;
	if (p) {
		m->pid = p->ns_pid;
		return 0;
	}
	/* Before pidfds had inodes of their own nobody could tell them apart. */
	m->gone = f->st.st_ino;
	if (ioctl(f->local, GET_INFO, &info) == 0 && (info.mask & INFO_EXIT))
		m->status = info.exit_code;
	return 0;
}

static bool same_gone(const St__File *a, const St__PidFd *m)
{
	return a->kind_case == ST__FILE__KIND_PIDFD && a->pidfd->gone == m->gone && !a->pidfd->pid;
}

/* One helper for all pidfds of the same process. */
static pid_t helper_of(struct restore *r, const St__PidFd *m)
{
	for (size_t i = 0; i < r->n_files; i++) {
		if (!same_gone(r->files[i], m))
			continue;
		if (!r->helpers[i])
			r->helpers[i] = restore_fork_helper(0, m->status);
		return r->helpers[i];
	}
	return -1;
}

static int open_pidfd(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	pid_t pid = m->pidfd->pid ? m->pidfd->pid : helper_of(r, m->pidfd);

	*ret_fd = pid < 0 ? -1 : pidfd_open(pid, m->pidfd->thread ? O_EXCL : 0);
	return *ret_fd < 0 ? error_errno(e, -errno, "pidfd of process %d", m->pidfd->pid) : 0;
}

/* The last of its pidfds has been opened: the helper may go. */
static int connect_pidfd(struct restore *r, const St__File *m, int fd, struct error *e)
{
	pid_t *helper = &r->helpers[fd - r->fd_base];
	int result;

	if (!*helper)
		return 0;
	result = restore_end_helper(*helper, e);
	*helper = 0;
	return result;
}

extern const struct resource resource_pidfd;
const struct resource resource_pidfd = {
	.kind = "pidfd",
	.description =
		"of processes of the container: living ones, zombies, and those that have been reaped; of "
		"threads: only of the first",
	.kind_case = ST__FILE__KIND_PIDFD,
	.match = match,
	.check = check,
	.dump = dump,
	.open = open_pidfd,
	.connect = connect_pidfd,
};
