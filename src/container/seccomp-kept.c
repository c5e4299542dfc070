/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program that the processes of an ordinary user's container have loaded, in its state directory: the kernel shows a
 * loaded filter only to root, and compiled again, by another libseccomp, it could be another one.
 */
#include <errno.h>

#include "base/fd.h"
#include "container/container-priv.h"

#define KEPT "seccomp.bpf"

int container_keep_filter(const struct container *c, const struct sock_fprog *p, struct error *e)
{
	int r = write_file_replace_at(c->dir_fd, KEPT, p->filter, p->len * sizeof(struct sock_filter), 0600);

	return r < 0 ? error_errno(e, r, "keep the seccomp filter in the state directory of %s", c->id) : 0;
}

int container_kept_filter(const struct container *c, struct sock_fprog *ret, struct error *e)
{
	char *data;
	size_t len;
	int r = read_file_at(
		c->dir_fd, KEPT, SECCOMP_INSTRUCTIONS_MAX * sizeof(struct sock_filter), &data, &len);

	if (r == -ENOENT)
		return 1;
	if (r < 0)
		return error_errno(e, r, "the seccomp filter kept in the state directory");
	ret->filter = (struct sock_filter *)data;
	ret->len = len / sizeof(struct sock_filter);
	return 0;
}
