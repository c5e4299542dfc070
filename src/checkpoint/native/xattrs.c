/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes of files whose contents are in the image: in a tmpfs, and deleted ones. */
#include <string.h>
#include <sys/xattr.h>

#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"

static St__Xattr *read_one(struct arena *a, int fd, const char *name)
{
	ssize_t n = fgetxattr(fd, name, NULL, 0);
	St__Xattr *x = pb_new(a, Xattr, xattr);

	if (n < 0 || !x)
		return NULL;
	x->name = arena_strdup(a, name);
	x->value.data = arena_alloc(a, n + 1);
	if (!x->name || !x->value.data)
		return NULL;
	n = fgetxattr(fd, name, x->value.data, n);
	x->value.len = MAX(n, (ssize_t)0);
	return n < 0 ? NULL : x;
}

int dump_xattrs(struct arena *a, int fd, const char *what, St__Xattr ***ret, size_t *ret_n, struct error *e)
{
	ssize_t len = flistxattr(fd, NULL, 0);
	size_t count = 0;
	char *names;

	if (len <= 0)
		return len == 0 || errno == EOPNOTSUPP || errno == EBADF
			       ? 0
			       : error_errno(e, -errno, "extended attributes of %s", what);
	names = arena_alloc(a, len);
	len = names ? flistxattr(fd, names, len) : 0;
	for (ssize_t i = 0; i < len; i += strlen(names + i) + 1)
		count++;
	*ret = arena_array(a, count, sizeof(**ret));
	if (!names || !*ret)
		return error_errno(e, -ENOMEM, "extended attributes of %s", what);
	for (ssize_t i = 0; i < len; i += strlen(names + i) + 1) {
		St__Xattr *x = read_one(a, fd, names + i);

		if (!x)
			return error_errno(e, -EIO, "extended attribute %s of %s", names + i, what);
		(*ret)[(*ret_n)++] = x;
	}
	return 0;
}

int restore_xattrs(St__Xattr *const *list, size_t n, int fd, const char *what, struct error *e)
{
	for (size_t i = 0; i < n; i++)
		if (fsetxattr(fd, list[i]->name, list[i]->value.data, list[i]->value.len, 0) < 0)
			return error_errno(e, -errno, "extended attribute %s of %s", list[i]->name, what);
	return 0;
}
