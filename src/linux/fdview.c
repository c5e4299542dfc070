/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Invariant: the slot's number is always in use, by what is looked at or by a duplicate of our fdinfo file, so that
 * nobody else is given it (other threads open files meanwhile).
 */
#include "linux/fdview.h"

#include <stdio.h>
#include <sys/syscall.h>

#include "base/fd.h"

static int open_slot(struct fdview *v)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", v->slot);
	v->fdinfo = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", v->slot);
	v->link = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return v->fdinfo < 0 || v->link < 0 ? -errno : 0;
}

static int place(struct fdview *v, int n)
{
	if (v->slot >= 0)
		return dup3(n, v->slot, O_CLOEXEC) < 0 ? -errno : 0;
	v->slot = fcntl(n, F_DUPFD_CLOEXEC, 0);
	return v->slot < 0 ? -errno : open_slot(v);
}

int fdview_open(struct fdview *v, int pidfd, int fd, int *ret_kept)
{
	int n, r;

	n = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (n < 0) {
		r = -errno;
		fdview_close(v);
		return r;
	}
	r = place(v, n);
	if (ret_kept && r == 0)
		*ret_kept = n;
	else
		close(n);
	if (r < 0)
		fdview_done(v);
	return r;
}

int fdview_fdinfo(const struct fdview *v, struct arena *a, struct proc_fdinfo *ret)
{
	return proc_read_fdinfo_fd(v->fdinfo, a, ret);
}

ssize_t fdview_link(const struct fdview *v, char *buf, size_t size)
{
	ssize_t n = readlinkat(v->link, "", buf, size);

	if (n < 0)
		return -errno;
	if ((size_t)n >= size)
		return -ENAMETOOLONG;
	buf[n] = '\0';
	return n;
}

void fdview_close(struct fdview *v)
{
	if (v->slot >= 0)
		(void)!dup3(v->fdinfo, v->slot, O_CLOEXEC);
}

void fdview_done(struct fdview *v)
{
	close_p(&v->slot);
	close_p(&v->fdinfo);
	close_p(&v->link);
}
