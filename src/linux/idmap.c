/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/idmap.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>

#include "base/fd.h"
#include "linux/clone.h"
#include "linux/procfd.h"

int idmap_write(pid_t pid, const char *file, const struct id_map *map, size_t n)
{
	enum { LINE = 34 }; /* three numbers of ten digits */
	_cleanup_free_ char *text = malloc(n * LINE + 1);
	char path[40];
	size_t at = 0;

	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(
			text + at, LINE + 1, "%u %u %u\n", map[i].container_id, map[i].host_id, map[i].size);
	if (at >= 4096) /* the kernel takes less than a page */
		return -E2BIG;
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	return write_string_at(AT_FDCWD, path, text);
}

int idmap_read(pid_t pid, const char *file, struct arena *a, struct id_map **ret, size_t *ret_n)
{
	_cleanup_free_ char *text = NULL;
	char path[40];
	size_t n = 0, len;
	int r, used;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	r = read_file_at(AT_FDCWD, path, 1 << 16, &text, &len);
	if (r < 0)
		return r;
	*ret = arena_array(a, ID_MAP_MAX, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (const char *p = text; *p && n < ID_MAP_MAX; p += used, n++) {
		struct id_map *m = &(*ret)[n];

		if (sscanf(p, "%u %u %u%n", &m->container_id, &m->host_id, &m->size, &used) != 3)
			return -EBADMSG;
		used += p[used] == '\n';
	}
	*ret_n = n;
	return 0;
}

bool idmap_contains(const struct id_map *map, size_t n, uint32_t container_id)
{
	for (size_t i = 0; i < n; i++)
		if (container_id >= map[i].container_id && container_id - map[i].container_id < map[i].size)
			return true;
	return false;
}

bool idmap_is_initial(void)
{
	char text[4096];
	unsigned a, b, n;
	ssize_t len = read_small_file_at(AT_FDCWD, "/proc/self/uid_map", text, sizeof(text));

	if (len < 0)
		return len != -EFBIG; /* there are none in this kernel, or it has many lines */
	return sscanf(text, "%u %u %u", &a, &b, &n) == 3 && a == 0 && b == 0 && n == UINT32_MAX;
}

int idmap_make_userns(const struct id_maps *maps)
{
	_cleanup_close_ int pidfd = -EBADF;
	char path[40];
	int fd = -EBADF, r, status;
	pid_t pid = clone_fork(CLONE_NEWUSER, -EBADF, &pidfd);

	if (pid < 0)
		return pid;
	if (pid == 0)
		for (;;)
			pause();
	r = idmap_write(pid, "uid_map", maps->uid, maps->n_uid);
	if (r == 0)
		r = idmap_write(pid, "gid_map", maps->gid, maps->n_gid);
	if (r == 0) {
		snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		r = fd < 0 ? -errno : fd;
	}
	(void)!pidfd_kill(pidfd, SIGKILL);
	(void)!pidfd_reap(pidfd, &status);
	return r;
}
