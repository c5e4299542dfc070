/* SPDX-License-Identifier: Apache-2.0 */
/* Processes by the numbers that the container itself knows: those in the pid namespace of its init. */
#include <errno.h>
#include <string.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/procfd.h"
#include "linux/procfs.h"

static int read_status(pid_t pid, struct proc_status *ret)
{
	struct arena a = {};
	int r = proc_read_status(pid, pid, &a, ret);

	arena_done(&a);
	return r == -ENOENT ? -ESRCH : r;
}

/* How deep init's namespace is below ours; *ret_namespace says which one it is. */
static int read_level(const struct container *c, char *namespace, size_t size, size_t *ret)
{
	struct proc_status st;
	ssize_t n = proc_readlink(c->init_pid, "ns/pid", namespace, size);
	int r = n < 0 ? (int)n : read_status(c->init_pid, &st);

	if (r < 0)
		return r;
	*ret = st.n_ns;
	return 0;
}

/* 0: the namespace does not see it. */
static int number_at(pid_t pid, size_t level, const char *namespace)
{
	char mine[64];
	struct proc_status st;
	int r = read_status(pid, &st);

	if (r < 0)
		return r;
	if (st.n_ns < level)
		return 0;
	/* of one that lives deeper we take it that it is below: there is no other way there for what is in the container */
	if (st.n_ns == level && proc_readlink(pid, "ns/pid", mine, sizeof(mine)) > 0 &&
		strcmp(mine, namespace) != 0)
		return 0;
	return st.ns_pid[level - 1];
}

int container_pid_inside(const struct container *c, pid_t pid)
{
	char namespace[64];
	size_t level;
	int r = read_level(c, namespace, sizeof(namespace), &level);

	return r < 0 ? r : number_at(pid, level, namespace);
}

static pid_t search(const pid_t *pids, size_t n, pid_t inside, size_t level, const char *namespace)
{
	for (size_t i = 0; i < n; i++)
		if (number_at(pids[i], level, namespace) == inside)
			return pids[i];
	return 0;
}

static bool contains(const pid_t *pids, size_t n, pid_t pid)
{
	for (size_t i = 0; i < n; i++)
		if (pids[i] == pid)
			return true;
	return false;
}

/* Whether the process of this pidfd is the container's: it was alive all the while that the list says so. */
static int verify(const struct container *c, pid_t pid, int pidfd, struct error *e)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t n;
	int r = container_pids(c, false, &pids, &n, e);

	if (r < 0)
		return r;
	return contains(pids, n, pid) && pidfd_wait_exit(pidfd, 0) == 0;
}

int container_find_process(
	const struct container *c, pid_t inside, pid_t *ret_pid, int *ret_pidfd, struct error *e)
{
	_cleanup_close_ int init = container_init_pidfd(c), pidfd = -EBADF;
	_cleanup_free_ pid_t *pids = NULL;
	char namespace[64];
	size_t level, n;
	pid_t pid = 0;
	int r;

	if (init < 0)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running");
	r = read_level(c, namespace, sizeof(namespace), &level);
	if (r < 0)
		return error_errno(e, r, "pid namespace of container %s", c->id);
	r = container_pids(c, false, &pids, &n, e);
	if (r < 0)
		return r;
	pid = search(pids, n, inside, level, namespace);
	pidfd = pid ? pidfd_open_process(pid) : -ESRCH;
	r = pidfd < 0 ? 0 : verify(c, pid, pidfd, e);
	if (r < 0)
		return r;
	/* between the search and the pidfd the number may have become another one's */
	if (r == 0 || number_at(pid, level, namespace) != inside)
		return error_set(
			e, -ESRCH, ERROR_STATE, "there is no process %d in container %s", inside, c->id);
	*ret_pid = pid;
	*ret_pidfd = take_fd(&pidfd);
	return 0;
}
