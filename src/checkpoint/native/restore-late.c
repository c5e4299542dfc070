/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that can only be opened when all processes exist: pidfds, what is in /proc/PID, time namespaces, listeners of seccomp filters,
 * and epoll sets that watch them. Init opens them behind the last barrier of the tree; the others, which were forked before, fetch them from it, so
 * that all have the same open file description. Nobody goes on, and no zombie ends, before all have what they need.
 */
#include "checkpoint/native/restore.h"

#include <sys/pidfd.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "checkpoint/native/res/res.h"

bool restore_waits_for_process(const St__File *m)
{
	if (m->kind_case == ST__FILE__KIND_REGULAR)
		return m->regular->process > 1 && !m->regular->process_gone;
	if (m->kind_case == ST__FILE__KIND_NS)
		return m->ns->id != 0;
	if (m->kind_case == ST__FILE__KIND_SECCOMP_LISTENER)
		return !m->seccomp_listener->ended;
	return m->kind_case == ST__FILE__KIND_PIDFD && m->pidfd->pid;
}

bool restore_is_late(const struct restore *r, const St__File *m)
{
	if (!r->has_late_files || m->kind_case != ST__FILE__KIND_EPOLL)
		return restore_waits_for_process(m);
	for (size_t i = 0; i < m->epoll->n_targets; i++) {
		int fd = restore_fd(r, m->epoll->targets[i]->file);

		if (fd >= 0 && restore_waits_for_process(r->files[fd - r->fd_base]))
			return true;
	}
	return false;
}

static int open_all(struct restore *r, struct error *e)
{
	int result = 0;

	for (size_t i = 0; i < r->n_files && result == 0; i++)
		if (restore_waits_for_process(r->files[i]))
			result = restore_open_file(r, i, e);
	for (size_t i = 0; i < r->n_files && result == 0; i++) {
		const struct resource *res = resource_find(r->files[i]->kind_case);

		if (res->connect && restore_is_late(r, r->files[i]))
			result = res->connect(r, r->files[i], r->fd_base + i, e);
	}
	return result;
}

static int fetch_all(struct restore *r, struct error *e)
{
	for (size_t i = 0; i < r->n_files; i++) {
		int fd, want = r->fd_base + (int)i;

		if (!restore_waits_for_process(r->files[i]))
			continue;
		fd = syscall(SYS_pidfd_getfd, r->init_pidfd, want, 0);
		if (fd < 0 || dup3(fd, want, O_CLOEXEC) < 0)
			return error_errno(e, -errno, "fetch a file from init");
		close(fd);
	}
	return 0;
}

void restore_find_late_files(struct restore *r)
{
	for (size_t i = 0; i < r->n_files && !r->has_late_files; i++)
		r->has_late_files = restore_waits_for_process(r->files[i]);
}

int restore_late_files(struct restore *r, bool init, struct error *e)
{
	/* Who lives in another user namespace may not take anything from init; a dump has seen that it needs nothing. */
	return init ? open_all(r, e) : r->here ? 0 : fetch_all(r, e);
}
