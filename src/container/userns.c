/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User namespaces: the id maps, and the process between the runtime and one of the container.
 *
 * A process that has joined another user namespace can't come back, and a namespace belongs to the user namespace of its
 * maker. So where a user namespace is joined, or others with the privileges that we have before we are in it, that is
 * done by a process between: it joins, clones the one of the container as its sibling (a child of the runtime), and
 * ends. It also does what takes the host's privileges.
 *
 * A new user namespace comes with the clone, together with the other new ones, which then belong to it. Its maps are
 * written by the runtime: by itself where the kernel lets it (root; a single own id), else by newuidmap(1) and
 * newgidmap(1), which know what /etc/subuid gives to whom.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/clone.h"
#include "linux/procfd.h"

/* Where others live a process of a moment (a hook's) may just now have the pid that is wanted. */
static pid_t clone_child(const struct clone_between *b, int *ret_pidfd, struct error *e)
{
	enum { TRIES = 400, WAIT_US = 5000 };
	pid_t pid = -EEXIST;

	for (int i = 0; pid == -EEXIST && i < TRIES; i++) {
		if (i > 0)
			usleep(WAIT_US);
		pid = clone_fork_as(b->pid, b->flags | CLONE_PARENT, -EBADF, ret_pidfd);
	}
	if (pid == -EEXIST)
		return error_set(e, -EEXIST, ERROR_STATE,
			"the pid %d is taken in the pid namespace that the container joins", b->pid);
	return pid < 0 ? error_errno(e, pid, "clone the container's process") : pid;
}

static _Noreturn void between_main(const struct clone_between *b)
{
	struct error e = {0};
	int pidfd, r = 0;
	pid_t pid;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		r = error_errno(&e, -errno, "prctl");
	if (r == 0)
		r = b->enter(b->arg, &e);
	if (r == 0) {
		pid = clone_child(b, &pidfd, &e);
		if (pid == 0)
			b->main(b->arg);
		r = pid < 0 ? pid : sync_send_number(b->child_sync, SYNC_CLONED, pid);
	}
	if (r < 0)
		sync_send_error(b->child_sync, &e);
	_exit(r < 0);
}

pid_t clone_between(const struct clone_between *b, int *ret_pidfd, struct error *e)
{
	_cleanup_close_ int between = -EBADF;
	pid_t pid = clone_fork(0, b->cgroup_fd, &between);
	int r, status;

	if (pid < 0)
		return error_errno(e, pid, "clone a process");
	if (pid == 0)
		between_main(b);
	r = pidfd_reap(between, &status);
	if (r < 0)
		return error_errno(e, r, "wait for the process between");
	/* it has said all that it ever will */
	if (interrupt_wait(-EBADF, b->sync, 0) <= 0)
		return error_set(e, -ECONNRESET, ERROR_SYSTEM,
			"the process that joins the container's namespaces died");
	r = sync_receive(b->sync, &pid, e);
	if (r < 0)
		return r;
	/* our child: its pid is not used again before we have waited for it */
	*ret_pidfd = pidfd_open_process(pid);
	return *ret_pidfd < 0 ? error_errno(e, *ret_pidfd, "open pid %d", pid) : pid;
}

static bool only_own(const struct id_map *map, size_t n, uint32_t own)
{
	return n == 1 && map[0].size == 1 && map[0].host_id == own;
}

static const char *find_helper(const char *name, char *buf, size_t size)
{
	static const char *const dirs[] = {"/usr/bin", "/usr/local/bin", "/bin", "/usr/sbin"};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(buf, size, "%s/%s", dirs[i], name);
		if (access(buf, X_OK) == 0)
			return buf;
	}
	return NULL;
}

static int run_helper(const char *name, pid_t pid, const struct id_map *map, size_t n, struct error *e)
{
	_cleanup_free_ char **args = calloc(n * 3 + 3, sizeof(char *));
	_cleanup_free_ char(*numbers)[12] = calloc(n * 3 + 1, sizeof(*numbers));
	_cleanup_close_ int pidfd = -EBADF;
	char path[64], *none[] = {NULL};
	int r, status;
	pid_t child;

	if (!args || !numbers)
		return error_errno(e, -ENOMEM, "%s", name);
	if (!find_helper(name, path, sizeof(path)))
		return error_set(e, -ENOENT, ERROR_SYSTEM,
			"the id mappings need the program %s (Debian's package uidmap), which is not "
			"installed: install it, or map "
			"your own id alone",
			name);
	args[0] = path;
	snprintf(numbers[n * 3], sizeof(numbers[0]), "%d", pid);
	args[1] = numbers[n * 3];
	for (size_t i = 0; i < n * 3; i++) {
		const struct id_map *m = &map[i / 3];

		snprintf(numbers[i], sizeof(numbers[0]), "%u",
			i % 3 == 0   ? m->container_id
			: i % 3 == 1 ? m->host_id
				     : m->size);
		args[2 + i] = numbers[i];
	}
	child = clone_fork(0, -EBADF, &pidfd);
	if (child < 0)
		return error_errno(e, child, "fork for %s", name);
	if (child == 0) {
		process_reset_signals();
		if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
			execve(path, args, none);
		_exit(127);
	}
	r = pidfd_reap(pidfd, &status);
	if (r < 0)
		return error_errno(e, r, "wait for %s", name);
	if (status != 0)
		return error_set(e, -EPERM, ERROR_CONFIG,
			"%s refuses the mappings of linux.%cidMappings: are those ids yours in /etc/sub%cid?",
			path, name[3], name[3]);
	return 0;
}

static int fail_write(struct error *e, int r, char which)
{
	if (r == -E2BIG)
		return error_set(e, r, ERROR_CONFIG,
			"linux.%cidMappings: the kernel takes less than a page of them", which);
	return error_errno(e, r, "write the %cid map of the user namespace", which);
}

static int write_uids(pid_t pid, const struct id_maps *ids, struct error *e)
{
	int r = idmap_write(pid, "uid_map", ids->uid, ids->n_uid);

	if (r == -EPERM)
		return run_helper("newuidmap", pid, ids->uid, ids->n_uid, e);
	return r < 0 ? fail_write(e, r, 'u') : 0;
}

/* Without privileges the kernel takes a map of groups only from those who can't drop groups in it. */
static int write_gids(pid_t pid, const struct id_maps *ids, struct error *e)
{
	char path[40];
	int r = idmap_write(pid, "gid_map", ids->gid, ids->n_gid);

	if (r == -EPERM && only_own(ids->gid, ids->n_gid, getegid())) {
		snprintf(path, sizeof(path), "/proc/%d/setgroups", pid);
		r = write_string_at(AT_FDCWD, path, "deny");
		if (r == 0)
			r = idmap_write(pid, "gid_map", ids->gid, ids->n_gid);
	} else if (r == -EPERM) {
		return run_helper("newgidmap", pid, ids->gid, ids->n_gid, e);
	}
	return r < 0 ? fail_write(e, r, 'g') : 0;
}

int userns_write_maps(pid_t pid, const struct spec *s, struct error *e)
{
	int r = write_uids(pid, &s->ids, e);

	return r < 0 ? r : write_gids(pid, &s->ids, e);
}

int userns_become_root(struct error *e)
{
	/* EPERM: setgroups is denied in this namespace, to everybody */
	if (thread_setgroups(0, NULL) < 0 && errno != EPERM)
		return error_errno(e, -errno, "give up supplementary groups");
	if (thread_setresgid(0) < 0 || thread_setresuid(0) < 0)
		return error_errno(e, -errno, "become root of the user namespace (is its id 0 mapped?)");
	return 0;
}
