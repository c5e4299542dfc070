/* SPDX-License-Identifier: Apache-2.0 */
/* signalfd(2): only a mask; what can be read are the reader's own pending signals. */
#include "checkpoint/native/res/res.h"

#include <sys/syscall.h>

static bool match(const struct dump *d, const struct dump_file *f)
{
	return link_is_anon_inode(f, "[signalfd]");
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__SignalFd *m = pb_new(&d->arena, SignalFd, signal_fd);

	if (!m)
		return error_errno(e, -ENOMEM, "signalfd");
	m->mask = f->info.sigmask;
	f->msg->kind_case = ST__FILE__KIND_SIGNALFD;
	f->msg->signalfd = m;
	return 0;
}

static int open_signalfd(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	*ret_fd = syscall(SYS_signalfd4, -1, &m->signalfd->mask, 8, O_CLOEXEC);
	return *ret_fd < 0 ? error_errno(e, -errno, "make a signalfd") : 0;
}

extern const struct resource resource_signalfd;
const struct resource resource_signalfd = {
	.kind = "signalfd",
	.description = "signalfd",
	.kind_case = ST__FILE__KIND_SIGNALFD,
	.match = match,
	.dump = dump,
	.open = open_signalfd,
};
