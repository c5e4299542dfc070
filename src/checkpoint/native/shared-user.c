/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/native/shared-user.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "container/container.h"
#include "linux/procfs.h"
#include "oci/spec.h"

static bool is_in(int proc, int pid, const char *type, const struct stat *ns)
{
	struct stat its;
	char path[64];

	snprintf(path, sizeof(path), "%d/ns/%s", pid, type);
	return fstatat(proc, path, &its, 0) == 0 && its.st_dev == ns->st_dev && its.st_ino == ns->st_ino;
}

static int refuse_tracer(int pid, struct error *e)
{
	struct proc_stat st;
	bool known = proc_read_stat(pid, &st) == 0;

	return error_set(e, -EPERM, ERROR_REFUSED,
		"process %d (%s) is in the user namespace that config.json names, and sees all processes of "
		"the "
		"machine: it could trace the container's while they are half made. Let it end, or give it a "
		"pid namespace "
		"of its own",
		pid, known ? st.comm : "?");
}

/* The pids that the container gets are seen in our pid namespace, too. */
static int look_for_tracers(const struct stat *user, struct error *e)
{
	DIR *dir = opendir("/proc");
	struct dirent *ent;
	struct stat pids;
	int r = 0;

	if (!dir || fstatat(dirfd(dir), "self/ns/pid", &pids, 0) < 0)
		r = error_errno(e, -errno, "look for processes in the user namespace");
	while (r == 0 && dir && (ent = readdir(dir))) {
		pid_t pid = strtol(ent->d_name, NULL, 10);

		if (pid > 0 && is_in(dirfd(dir), pid, "user", user) && is_in(dirfd(dir), pid, "pid", &pids))
			r = refuse_tracer(pid, e);
	}
	if (dir)
		closedir(dir);
	return r;
}

int shared_user_check_bundle(const struct spec *s, struct error *e)
{
	const struct spec_namespace *user = &s->namespaces[NS_USER];
	struct stat ns;

	if (!user->path)
		return 0;
	if (stat(user->path, &ns) < 0)
		return error_errno(e, -errno, "user namespace %s", user->path);
	return look_for_tracers(&ns, e);
}

int shared_user_check_pids(const struct spec *s, const struct container *owner, struct error *e)
{
	enum container_status status = container_status(owner);

	if (!s->namespaces[NS_USER].path || status == CONTAINER_CREATING || status == CONTAINER_CREATED)
		return 0;
	return error_set(e, -EPERM, ERROR_REFUSED,
		"container %s shares its user namespace and its pid namespace, and is %s: its processes "
		"could trace "
		"those of this container while they are half made. Restore it from the same image, with this "
		"one",
		owner->id, container_status_name(status));
}
