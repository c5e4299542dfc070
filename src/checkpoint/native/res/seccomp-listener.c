/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The listener of a seccomp filter (seccomp_unotify(2)). The filter itself, and whose it is: listeners.h. What waits in it or has been
 * received is gone when the tasks are stopped, as by any stop: a call that waits for an answer is made again, with a new id.
 */
#include "checkpoint/native/listeners.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/res/res.h"
#include "checkpoint/native/restore-nested.h"
#include "linux/scfilters.h"

#define SET_FLAGS SECCOMP_IOW(4, uint64_t) /* <linux/seccomp.h> of Linux 6.6 */

static bool match(const struct dump *d, const struct dump_file *f)
{
	return listeners_is_one(f);
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	const char *reason = NULL;

	if (d->unprivileged)
		reason = "only a privileged user may look at the filter that it is for";
	else if (f->proc == d->self)
		reason = "it is on its way in a socket's queue: not supported";
	else if (!f->listener)
		reason = "this kernel does not tell which filter it is for (it has no BTF, or no BPF "
			 "iterators)";
	else if (dump_is_member(f->proc) && !f->proc->msg->files_with)
		reason = "only a process that shares its memory with another one has it: not supported yet";
	if (reason)
		dump_refuse(d, f->proc, f->fd, "seccomp listener", reason, "close it before the checkpoint",
			"%s", f->link);
	return 0;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__SeccompListener *m = pb_new(&d->arena, SeccompListener, seccomp_listener);

	if (!m || !f->listener)
		return error_errno(e, -ENOMEM, "listener of a seccomp filter");
	m->ended = f->listener->ended;
	m->flags = f->listener->flags;
	f->msg->kind_case = ST__FILE__KIND_SECCOMP_LISTENER;
	f->msg->seccomp_listener = m;
	d->has_listeners = true;
	return 0;
}

/* In a helper, which has init's table of descriptors: whatever filter, nobody has it any more. */
static int listen_to_nobody(void)
{
	struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {1, &all};

	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static int open_ended(struct restore *r, struct error *e)
{
	pid_t helper = restore_fork_sharing_files();

	if (helper == 0) {
		int fd = listen_to_nobody();

		r->control->helper_fd = fd < 0 ? -errno : fd;
		_exit(0);
	}
	if (helper < 0)
		return error_errno(e, -errno, "fork a helper");
	while (waitpid(helper, NULL, 0) < 0 && errno == EINTR)
		;
	return r->control->helper_fd < 0 ? error_errno(e, r->control->helper_fd, "load a seccomp filter")
					 : r->control->helper_fd;
}

/* From who has loaded the filter. */
static int fetch(struct restore *r, const St__File *m, struct error *e)
{
	_cleanup_close_ int pidfd = pidfd_open(listeners_loader(r, m->id), 0), fd = -EBADF;
	uint64_t flags = m->seccomp_listener->flags;

	if (pidfd >= 0)
		fd = (int)syscall(SYS_pidfd_getfd, pidfd, restore_fd(r, m->id), 0);
	if (fd < 0)
		return error_errno(e, -errno, "fetch it from who has loaded the filter");
	if (flags && ioctl(fd, SET_FLAGS, flags) < 0)
		return error_errno(e, -errno, "flags %#llx", (unsigned long long)flags);
	return take_fd(&fd);
}

static int open_listener(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	*ret_fd = m->seccomp_listener->ended ? open_ended(r, e) : fetch(r, m, e);
	return MIN(*ret_fd, 0);
}

extern const struct resource resource_seccomp_listener;
const struct resource resource_seccomp_listener = {
	.kind = "seccomp listener",
	.description = "of a seccomp filter, held in the container, also by several processes; what has been "
		       "received and not answered comes "
		       "again. Refused: for processes outside, in a socket's queue, on a kernel without BTF",
	.kind_case = ST__FILE__KIND_SECCOMP_LISTENER,
	.match = match,
	.check = check,
	.dump = dump,
	.open = open_listener,
};
