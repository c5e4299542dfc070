/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eventfd(2): a 64-bit counter, and whether reads take one or all (EFD_SEMAPHORE). Both are in fdinfo; kernels before
 * 6.5 do not tell the mode: it is then found out by a write and a read on the counter, with the tasks stopped.
 */
#include "checkpoint/native/res/res.h"

#include <string.h>
#include <sys/eventfd.h>

static bool match(const struct dump *d, const struct dump_file *f)
{
	return link_is_anon_inode(f, "[eventfd]");
}

/* The counter is made at least 2; a semaphore then gives 1. What was read or added is put back. */
static int probe_semaphore(int fd, uint64_t count, bool *ret)
{
	int flags = fcntl(fd, F_GETFL);
	uint64_t add = 2, got, back;
	int r = 0;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	if (count < 2 && write(fd, &add, sizeof(add)) != sizeof(add))
		r = -errno;
	if (r == 0 && read(fd, &got, sizeof(got)) != sizeof(got))
		r = -errno;
	if (r == 0) {
		*ret = got == 1;
		if (!*ret) {
			back = count;
			if (back && write(fd, &back, sizeof(back)) != sizeof(back))
				r = -errno;
		} else {
			back = 1;
			/* One was taken; of the two that were added one is left. */
			if (count >= 2 && write(fd, &back, sizeof(back)) != sizeof(back))
				r = -errno;
			if (count < 2 && read(fd, &got, sizeof(got)) != sizeof(got))
				r = -errno;
		}
	}
	if (fcntl(fd, F_SETFL, flags) < 0 && r == 0)
		r = -errno;
	return r;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__EventFd *m = pb_new(&d->arena, EventFd, event_fd);
	bool semaphore = f->info.eventfd_semaphore > 0;
	int r;

	if (!m)
		return error_errno(e, -ENOMEM, "eventfd");
	if (!f->info.has_eventfd)
		return error_set(e, -EOPNOTSUPP, ERROR_KERNEL,
			"this kernel does not show the eventfd counter in fdinfo");
	if (f->info.eventfd_semaphore < 0) {
		r = probe_semaphore(f->local, f->info.eventfd_count, &semaphore);
		if (r < 0)
			return error_errno(e, r, "find out the mode of the eventfd");
	}
	m->count = f->info.eventfd_count;
	m->semaphore = semaphore;
	f->msg->kind_case = ST__FILE__KIND_EVENTFD;
	f->msg->eventfd = m;
	return 0;
}

static int open_eventfd(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	int fd = eventfd(0, EFD_CLOEXEC | (m->eventfd->semaphore ? EFD_SEMAPHORE : 0));

	if (fd < 0)
		return error_errno(e, -errno, "make an eventfd");
	if (m->eventfd->count && write(fd, &m->eventfd->count, 8) != 8) {
		close(fd);
		return error_errno(e, -errno, "set the eventfd's counter to %llu",
			(unsigned long long)m->eventfd->count);
	}
	*ret_fd = fd;
	return 0;
}

extern const struct resource resource_eventfd;
const struct resource resource_eventfd = {
	.kind = "eventfd",
	.description = "eventfd, 64-bit counter and semaphore mode",
	.kind_case = ST__FILE__KIND_EVENTFD,
	.match = match,
	.dump = dump,
	.open = open_eventfd,
};
