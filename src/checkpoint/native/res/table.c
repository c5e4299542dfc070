/* SPDX-License-Identifier: Apache-2.0 */
/* Every kind of open file that is known, in the order in which they are asked. The last ones match anything. */
#include "checkpoint/native/res/res.h"

#include <string.h>

extern const struct resource resource_stdio, resource_eventfd, resource_epoll, resource_timerfd,
	resource_signalfd, resource_memfd, resource_pipe, resource_fifo, resource_regular, resource_directory,
	resource_device, resource_block, resource_path, resource_unix, resource_inet, resource_raw,
	resource_socket_other;
extern const struct resource resource_inotify, resource_fanotify, resource_pidfd, resource_userfaultfd,
	resource_io_uring, resource_secret, resource_bpf_map, resource_bpf, resource_perf, resource_mqueue,
	resource_namespace, resource_anon_other, resource_device_other, resource_tun,
	resource_seccomp_listener;
extern const struct resource resource_outside, resource_pty_master, resource_pty_slave, resource_tty;

const struct resource *const resource_table[] = {
	&resource_outside,
	&resource_stdio,
	&resource_eventfd,
	&resource_epoll,
	&resource_timerfd,
	&resource_signalfd,
	&resource_memfd,
	&resource_pipe,
	&resource_fifo,
	&resource_unix,
	&resource_inet,
	&resource_raw,
	&resource_socket_other,
	&resource_inotify,
	&resource_fanotify,
	&resource_pidfd,
	&resource_userfaultfd,
	&resource_io_uring,
	&resource_secret,
	&resource_seccomp_listener,
	&resource_bpf_map,
	&resource_bpf,
	&resource_perf,
	&resource_mqueue,
	&resource_namespace,
	&resource_pty_slave,
	&resource_pty_master,
	&resource_tty,
	&resource_anon_other,
	&resource_path,
	&resource_directory,
	&resource_device,
	&resource_block,
	&resource_tun,
	&resource_device_other,
	&resource_regular,
};
const size_t resource_table_len = ARRAY_SIZE(resource_table);

const struct resource *resource_find(St__File__KindCase kind_case)
{
	/* Kinds that share a record share their restore functions: the first supported one serves. */
	for (size_t i = 0; i < resource_table_len; i++)
		if (resource_table[i]->kind_case == kind_case && resource_table[i]->open)
			return resource_table[i];
	return NULL;
}

bool link_is_anon_inode(const struct dump_file *f, const char *name)
{
	return strncmp(f->link, "anon_inode:", 11) == 0 && strcmp(f->link + 11, name) == 0;
}
