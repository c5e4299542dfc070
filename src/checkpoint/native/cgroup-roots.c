/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cgroup namespaces of the container's processes whose root is another cgroup than that of its init: what container engines make for
 * each container of theirs, and "unshare --cgroup" in a sub-cgroup. A namespace has for its root, in each hierarchy, the cgroup in which
 * its maker stood; the kernel says it only by what a process in it is shown of its own cgroup.
 *
 * At a restore the maker stands there again for a moment. The files by which it goes there are opened by the command, which may.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "cgroup/subs.h"
#include "checkpoint/native/dump.h"
#include "checkpoint/native/restore.h"
#include "container/container.h"

enum { MAX_TEXT = 65536 };

/* ---- dump ---- */

/* The path of a hierarchy in what /proc/PID/cgroup says ("4:memory:/a/b"), in the arena; NULL: it is not there. */
static const char *path_of(struct arena *a, const char *text, const char *controllers)
{
	size_t n = strlen(controllers);

	for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		const char *name = strchr(line, ':');

		if (name && name < end && !strncmp(name + 1, controllers, n) && name[1 + n] == ':')
			return arena_strndup(a, name + 2 + n, end - name - 2 - n);
	}
	return NULL;
}

/* The root, as the one outside sees it: what is left of a process's path there without its path in the namespace. */
static const char *root_of(struct arena *a, const char *outside, const char *inside)
{
	size_t n = strlen(outside), k = inside[1] ? strlen(inside) : 0;

	if (!strncmp(inside, "/..", 3) || k > n || strcmp(outside + n - k, inside + (k ? 0 : 1)) != 0)
		return NULL;
	return arena_strndup(a, outside, n - k);
}

/* What of it is below the container's own directory; NULL: it is not below that. */
static const char *below_container(const struct cgroup *cg, const struct cgroup_dir *dir, const char *root)
{
	size_t n = strlen(dir->path), least = MAX(strlen(cg->path), (size_t)2);

	for (size_t k = strlen(root); k >= least; k--)
		if ((root[k] == '/' || !root[k]) && n >= k && !strncmp(dir->path + n - k, root, k))
			return root + k;
	return NULL;
}

/* Nobody can come to where there are controllers for children, not even to make a namespace. */
static bool has_controllers_for_children(const struct cgroup_dir *dir, const char *below)
{
	char path[1024], text[256];

	snprintf(path, sizeof(path), "%s%s/cgroup.subtree_control", dir->path, below);
	return !dir->controllers[0] && read_small_file_at(AT_FDCWD, path, text, sizeof(text)) > 0 &&
	       text[0] && text[0] != '\n';
}

static const char *add_root(
	struct dump *d, St__Namespace *m, const char *controllers, const char *inside, const char *outside)
{
	const struct cgroup *cg = &d->c->cgroup;
	const struct cgroup_dir *dir = cgroup_dir_of(cg, controllers);
	const char *root = outside ? root_of(&d->arena, outside, inside) : NULL, *below;
	St__CgroupRoot *found = pb_new(&d->arena, CgroupRoot, cgroup_root);

	if (!root)
		return "its root is not the cgroup in which the container's init is, and no process is below "
		       "it";
	below = dir && dir->inode ? below_container(cg, dir, root) : NULL;
	if (!below || !found || m->n_cgroup_roots == CGROUP_MAX_DIRS)
		return "its root is outside of the container's own cgroup";
	if (d->options->cgroups == CGROUPS_IGNORE)
		return "its root is a sub-cgroup, which --manage-cgroups-mode ignore leaves out";
	if (has_controllers_for_children(dir, below))
		return "its root is a cgroup that has controllers for its children: not supported yet";
	found->controllers = (char *)dir->controllers;
	found->path = (char *)below;
	m->cgroup_roots[m->n_cgroup_roots++] = found;
	return NULL;
}

/* In the namespace. */
int dump_cgroup_roots(struct dump *d, St__Namespace *m, pid_t pid, const char *outside,
	const char **ret_reason, struct error *e)
{
	_cleanup_free_ char *init = malloc(MAX_TEXT), *its = malloc(MAX_TEXT);
	char path[64];

	m->cgroup_roots = arena_array(&d->arena, CGROUP_MAX_DIRS, sizeof(*m->cgroup_roots));
	if (!init || !its || !m->cgroup_roots)
		return error_errno(e, -ENOMEM, "cgroup namespaces");
	snprintf(path, sizeof(path), "/proc/%d/cgroup", d->c->init_pid);
	if (read_small_file_at(AT_FDCWD, path, init, MAX_TEXT) < 0)
		return error_errno(e, -EIO, "read %s", path);
	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (read_small_file_at(AT_FDCWD, path, its, MAX_TEXT) < 0)
		its[0] = '\0';
	for (char *line = init, *end; (end = strchr(line, '\n')) && !*ret_reason; line = end + 1) {
		char *name = strchr(line, ':'), *where = name ? strchr(name + 1, ':') : NULL;
		const char *inside;

		if (!where || where > end)
			return error_set(e, -EBADMSG, ERROR_SYSTEM, "/proc/PID/cgroup is not understood");
		if (end - where == 2) /* "/": that of init, where a restore makes it */
			continue;
		*where = '\0';
		inside = path_of(&d->arena, its, name + 1);
		*ret_reason = add_root(
			d, m, name + 1, inside ? inside : "/..", path_of(&d->arena, outside, name + 1));
	}
	return 0;
}

/* ---- restore ---- */

bool restore_has_cgroup_roots(const struct restore *r)
{
	for (size_t i = 0; i < r->n_nested; i++)
		if (r->nested[i].msg->n_cgroup_roots)
			return true;
	return false;
}

static bool is_cgroup(const struct restore *r, const St__CgroupRoot *root)
{
	for (size_t i = 0; i < r->n_cgroups; i++)
		if (!strcmp(r->cgroups[i]->controllers, root->controllers) &&
			(!root->path[0] || !strcmp(r->cgroups[i]->path, root->path)))
			return true;
	return false;
}

int restore_check_cgroup_roots(const struct restore *r, struct error *e)
{
	for (size_t i = 0; i < r->n_nested; i++) {
		const St__Namespace *m = r->nested[i].msg;

		if (m->n_cgroup_roots > CGROUP_MAX_DIRS || (m->n_cgroup_roots && m->type != CLONE_NEWCGROUP))
			return error_set(e, -EBADMSG, ERROR_CORRUPT,
				"checkpoint.img: namespace %llu is malformed", (unsigned long long)m->id);
		for (size_t k = 0; k < m->n_cgroup_roots; k++)
			if (!is_cgroup(r, m->cgroup_roots[k]))
				return error_set(e, -EINVAL, ERROR_CONFIG,
					"a cgroup namespace in the image has the sub-cgroup %s for its root, "
					"which "
					"is not made: restore without --manage-cgroups-mode ignore",
					m->cgroup_roots[k]->path);
	}
	return 0;
}

union fd_control {
	char buf[CMSG_SPACE(CGROUP_MAX_DIRS * sizeof(int))];
	struct cmsghdr align;
};

static int send_fds(int to, const int *fds, size_t n)
{
	union fd_control control = {};
	char byte = 0;
	struct iovec data = {&byte, 1};
	struct msghdr msg = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(n * sizeof(*fds))};

	*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(n * sizeof(*fds))};
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, n * sizeof(*fds));
	return sendmsg(to, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* In the order of the records, one message each. */
int restore_stand_in_cgroups(const struct restore *r, const St__Namespace *m)
{
	union fd_control control = {};
	char byte;
	struct iovec data = {&byte, 1};
	struct msghdr msg = {.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	const struct cmsghdr *c;
	int result = 0;

	if (m->n_cgroup_roots == 0)
		return 0;
	if (recvmsg(r->cgroup_roots[1], &msg, MSG_CMSG_CLOEXEC) < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_len != CMSG_LEN(m->n_cgroup_roots * sizeof(int)))
		return -EPROTO;
	for (size_t i = 0; i < m->n_cgroup_roots; i++) {
		_cleanup_close_ int fd = ((const int *)CMSG_DATA(c))[i];

		if (result == 0 && write(fd, "0", 1) < 0)
			result = -errno;
	}
	return result;
}

int restore_send_cgroup_roots(const struct restore *r, const struct cgroup *cg, struct error *e)
{
	for (size_t i = 0; i < r->n_nested; i++) {
		const St__Namespace *m = r->nested[i].msg;
		int fds[CGROUP_MAX_DIRS], result = 0;
		size_t n = 0;

		for (; n < m->n_cgroup_roots && result == 0; n++) {
			const St__CgroupRoot *root = m->cgroup_roots[n];
			const struct cgroup_dir *dir = cgroup_dir_of(cg, root->controllers);
			_cleanup_close_ int at = dir ? cgroup_sub_make(cg, dir, root->path, e)
						     : error_errno(e, -ENOENT, "a hierarchy of cgroups");

			fds[n] = at < 0 ? at : openat(at, "cgroup.procs", O_WRONLY | O_CLOEXEC);
			if (at < 0)
				result = at;
			else if (fds[n] < 0)
				result = error_errno(e, -errno, "open cgroup.procs of %s", root->path);
		}
		if (n > 0 && result == 0)
			result = send_fds(r->cgroup_roots[0], fds, n);
		if (result < 0 && !e->message[0])
			error_errno(e, result, "hand over cgroups");
		while (n-- > 0)
			close_p(&fds[n]);
		if (result < 0)
			return result;
	}
	return 0;
}
