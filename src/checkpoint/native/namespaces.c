/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What belongs to the container's namespaces rather than to a process: host name, System V IPC, POSIX queues. /proc
 * shows each reader its own namespaces' values, so we enter them for a moment; the process is single-threaded.
 */
#include "checkpoint/native/dump.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "base/fd.h"
#include "base/trace.h"
#include "checkpoint/native/res/ipc.h"
#include "linux/clone.h"

struct visit {
	int own, theirs;
};

static int enter_fd(struct visit *v, int fd, const char *name, int flag, struct error *e)
{
	struct stat own, theirs;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	v->own = open(path, O_RDONLY | O_CLOEXEC);
	v->theirs = fd;
	if (v->own < 0 || v->theirs < 0 || fstat(v->own, &own) < 0 || fstat(v->theirs, &theirs) < 0)
		return error_errno(e, -errno, "open the container's %s namespace", name);
	if (own.st_ino == theirs.st_ino && own.st_dev == theirs.st_dev)
		close_p(&v->own); /* shared with us: we are there */
	else if (setns(v->theirs, flag) < 0)
		return error_errno(e, -errno, "enter the container's %s namespace", name);
	return 0;
}

static int enter(struct visit *v, pid_t pid, const char *name, int flag, struct error *e)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	return enter_fd(v, open(path, O_RDONLY | O_CLOEXEC), name, flag, e);
}

static int leave(struct visit *v, int flag, struct error *e)
{
	int r = v->own < 0 ? 0 : ns_return(v->own, flag);

	if (r < 0)
		error_errno(e, r, "leave the container's namespaces");
	close_p(&v->own);
	close_p(&v->theirs);
	return r;
}

int dump_host_names(struct dump *d, St__Container *m, struct error *e)
{
	struct visit v = {-EBADF, -EBADF};
	struct utsname un;
	int r, left;

	r = enter(&v, d->c->init_pid, "uts", CLONE_NEWUTS, e);
	if (r == 0 && uname(&un) < 0)
		r = error_errno(e, -errno, "host name");
	if (r == 0) {
		m->hostname = arena_strdup(&d->arena, un.nodename);
		m->domainname = arena_strdup(&d->arena, strcmp(un.domainname, "(none)") ? un.domainname : "");
		if (!m->hostname || !m->domainname)
			r = error_errno(e, -ENOMEM, "host name");
	}
	left = leave(&v, CLONE_NEWUTS, r < 0 ? NULL : e);
	return r < 0 ? r : left;
}

/* What is done with the objects of each ipc namespace of the container's processes (nested.c) that has some. */
static int in_nested(
	struct dump *d, int (*f)(struct dump *d, struct dump_nested *n, struct error *e), struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < d->n_nested && r == 0; i++) {
		struct dump_nested *n = &d->nested[i];
		struct visit v = {-EBADF, -EBADF};
		int left;

		if (n->msg->type != CLONE_NEWIPC || !n->ipc_is_used)
			continue;
		r = enter_fd(&v, fcntl(n->fd, F_DUPFD_CLOEXEC, 3), "ipc", CLONE_NEWIPC, e);
		if (r == 0)
			r = f(d, n, e);
		left = leave(&v, CLONE_NEWIPC, r < 0 ? NULL : e);
		r = r < 0 ? r : left;
	}
	return r;
}

static int check_nested(struct dump *d, struct dump_nested *n, struct error *e)
{
	int r = sysv_check(d, n, e);

	return r < 0 ? r : mqueue_check(d, n, e);
}

static int dump_nested_ipc(struct dump *d, struct dump_nested *n, struct error *e)
{
	int r = sysv_dump(d, n, e);

	if (r == 0)
		r = mqueue_dump(d, n, e);
	return r < 0 ? r : ipc_sysctl_dump_nested(d, n, e);
}

int dump_check_ipc(struct dump *d, struct error *e)
{
	struct visit v = {-EBADF, -EBADF};
	int r, left;

	r = enter(&v, d->c->init_pid, "ipc", CLONE_NEWIPC, e);
	if (r == 0)
		r = sysv_check(d, NULL, e);
	if (r == 0 && ipc_is_recorded(d))
		r = mqueue_check(d, NULL, e);
	if (r == 0)
		d->ipc_is_used = ipc_is_kept(d) &&
				 (sysv_is_used() || d->has_queues || ipc_may_set_sysctls(d->c->spec));
	left = leave(&v, CLONE_NEWIPC, r < 0 ? NULL : e);
	r = r < 0 ? r : left;
	if (r == 0)
		r = in_nested(d, check_nested, e);
	if (r == 0)
		mqueue_check_descriptors(d);
	return r;
}

static int dump_own_ipc(struct dump *d, struct error *e)
{
	TRACE("ipc");
	struct visit v = {-EBADF, -EBADF};
	int r, left;

	if (!d->ipc_is_used) /* as dump_check_ipc() has just seen */
		return 0;
	r = enter(&v, d->c->init_pid, "ipc", CLONE_NEWIPC, e);
	if (r == 0)
		r = ipc_is_recorded(d) ? sysv_dump(d, NULL, e) : sysv_dump_elsewhere(d, e);
	if (r == 0 && ipc_is_recorded(d))
		r = mqueue_dump(d, NULL, e);
	if (r == 0)
		r = ipc_sysctl_dump(d, e);
	left = leave(&v, CLONE_NEWIPC, r < 0 ? NULL : e);
	return r < 0 ? r : left;
}

int dump_ipc(struct dump *d, struct error *e)
{
	int r = dump_own_ipc(d, e);

	return r < 0 ? r : in_nested(d, dump_nested_ipc, e);
}
