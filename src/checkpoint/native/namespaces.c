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

static int enter(struct visit *v, pid_t pid, const char *name, int flag, struct error *e)
{
	struct stat own, theirs;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	v->own = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, name);
	v->theirs = open(path, O_RDONLY | O_CLOEXEC);
	if (v->own < 0 || v->theirs < 0 || fstat(v->own, &own) < 0 || fstat(v->theirs, &theirs) < 0)
		return error_errno(e, -errno, "open the container's %s namespace", name);
	if (own.st_ino == theirs.st_ino && own.st_dev == theirs.st_dev)
		close_p(&v->own); /* shared with us: we are there */
	else if (setns(v->theirs, flag) < 0)
		return error_errno(e, -errno, "enter the container's %s namespace", name);
	return 0;
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

int dump_check_ipc(struct dump *d, struct error *e)
{
	struct visit v = {-EBADF, -EBADF};
	int r, left;

	r = enter(&v, d->c->init_pid, "ipc", CLONE_NEWIPC, e);
	if (r == 0)
		r = sysv_check(d, e);
	if (r == 0 && ipc_is_recorded(d))
		r = mqueue_check(d, e);
	if (r == 0)
		d->ipc_is_used = ipc_is_kept(d) &&
				 (sysv_is_used() || d->has_queues || ipc_may_set_sysctls(d->c->spec));
	left = leave(&v, CLONE_NEWIPC, r < 0 ? NULL : e);
	return r < 0 ? r : left;
}

int dump_ipc(struct dump *d, struct error *e)
{
	TRACE("ipc");
	struct visit v = {-EBADF, -EBADF};
	int r, left;

	if (!d->ipc_is_used) /* as dump_check_ipc() has just seen */
		return 0;
	r = enter(&v, d->c->init_pid, "ipc", CLONE_NEWIPC, e);
	if (r == 0)
		r = ipc_is_recorded(d) ? sysv_dump(d, e) : sysv_dump_elsewhere(d, e);
	if (r == 0 && ipc_is_recorded(d))
		r = mqueue_dump(d, e);
	if (r == 0)
		r = ipc_sysctl_dump(d, e);
	left = leave(&v, CLONE_NEWIPC, r < 0 ? NULL : e);
	return r < 0 ? r : left;
}
