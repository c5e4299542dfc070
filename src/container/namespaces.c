/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces that are joined by path, and the clocks of a new time namespace. A path is opened by the runtime, with its
 * mounts and privileges, and checked to be of the type that config.json says; the descriptor is what is joined.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "container/container-priv.h"
#include "linux/procfd.h"
#include "linux/pty.h"

static int open_namespace(enum ns_type t, const char *path, struct error *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	const char *is = "none";
	int type;

	if (fd < 0)
		return error_errno(
			e, -errno, "linux.namespaces: open %s namespace %.300s", ns_oci_name(t), path);
	type = ioctl(fd, NS_GET_NSTYPE);
	if (type == ns_clone_flag(t))
		return take_fd(&fd);
	for (int other = 0; other < NS_COUNT; other++)
		if (type == ns_clone_flag(other))
			is = ns_oci_name(other);
	return error_set(e, -EINVAL, ERROR_CONFIG, "linux.namespaces: %s is no %s namespace (type: %s)", path,
		ns_oci_name(t), is);
}

/* A namespace given by its path may be the host's own: its sysctls are not the container's to set. */
static int check_host_sysctls(const struct spec *s, enum ns_type t, int ns_fd, struct error *e)
{
	char path[40];
	struct stat theirs, ours;

	snprintf(path, sizeof(path), "/proc/self/ns/%s", ns_proc_name(t));
	if (fstat(ns_fd, &theirs) < 0 || stat(path, &ours) < 0)
		return error_errno(e, -errno, "%s namespace", ns_oci_name(t));
	if (theirs.st_ino != ours.st_ino || theirs.st_dev != ours.st_dev)
		return 0;
	for (size_t i = 0; i < s->n_sysctl; i++)
		if (spec_sysctl_namespace(s->sysctl[i].name) == t)
			return error_set(e, -EINVAL, ERROR_CONFIG,
				"linux.sysctl[\"%s\"]: not allowed in the host's %s namespace",
				s->sysctl[i].name, ns_oci_name(t));
	return 0;
}

int namespaces_open(const struct spec *s, int fds[NS_COUNT], struct error *e)
{
	int r;

	for (int t = 0; t < NS_COUNT; t++) {
		if (!s->namespaces[t].path)
			continue;
		fds[t] = open_namespace(t, s->namespaces[t].path, e);
		if (fds[t] < 0)
			return fds[t];
		r = check_host_sysctls(s, t, fds[t], e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int join(int *fd, enum ns_type t)
{
	if (setns(*fd, ns_clone_flag(t)) < 0)
		return -errno;
	close_p(fd);
	return 0;
}

int namespaces_join(int fds[NS_COUNT], struct error *e)
{
	/* the mount namespace last: errors are easier to read with /proc */
	static const enum ns_type order[] = {NS_IPC, NS_UTS, NS_NET, NS_PID, NS_CGROUP, NS_TIME, NS_MNT};
	int r;

	/* With our own privileges what they reach, and the rest with those that the user namespace gives. */
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
			enum ns_type t = order[i];

			r = fds[t] < 0 ? 0 : join(&fds[t], t);
			if (r < 0 && !(r == -EPERM && fds[NS_USER] >= 0))
				return error_errno(e, r, "join the %s namespace", ns_oci_name(t));
		}
		if (fds[NS_USER] < 0)
			return 0;
		r = join(&fds[NS_USER], NS_USER);
		if (r < 0)
			return error_errno(e, r, "join the user namespace");
	}
	return 0;
}

/* What config.json says; a restore has clocks that go on. */
static struct timens_offset offsets(const struct init *in)
{
	const struct spec *s = in->spec;

	if (in->o->timens.present)
		return in->o->timens;
	return (struct timens_offset){
		.monotonic_sec = s->time_monotonic.sec,
		.monotonic_nsec = s->time_monotonic.nsec,
		.boottime_sec = s->time_boottime.sec,
		.boottime_nsec = s->time_boottime.nsec,
	};
}

void namespaces_close(int fds[NS_COUNT])
{
	for (int t = 0; t < NS_COUNT; t++)
		close_p(&fds[t]);
}

int namespaces_open_own(int proc, int fds[NS_COUNT], struct error *e)
{
	char path[40];

	for (int t = 0; t < NS_COUNT; t++) {
		snprintf(path, sizeof(path), "self/ns/%s", ns_proc_name(t));
		fds[t] = openat(proc, path, O_RDONLY | O_CLOEXEC);
		if (fds[t] < 0)
			return error_errno(e, -errno, "%s namespace", ns_oci_name(t));
	}
	return 0;
}

void namespaces_hand_over(int socket, const int fds[NS_COUNT])
{
	/* who asks sees it when one does not come */
	for (int t = 0; t < NS_COUNT; t++)
		if (fds[t] < 0 || socket_send_fd(socket, fds[t], ns_oci_name(t)) < 0)
			return;
}

int namespaces_ask(const struct container *c, int fds[NS_COUNT], struct error *e)
{
	_cleanup_close_ int socket = start_socket_connect(c);
	int r = socket < 0 ? socket : sync_send(socket, SYNC_NAMESPACES);

	for (int t = 0; t < NS_COUNT && r == 0; t++) {
		fds[t] = socket_receive_fd(socket);
		r = fds[t] < 0 ? fds[t] : 0;
	}
	return r < 0 ? error_errno(e, r, "ask the container's init for its namespaces") : 0;
}

int namespaces_new_time(const struct init *in, struct error *e)
{
	const struct spec_namespace *ns = &in->spec->namespaces[NS_TIME];
	struct timens_offset t = offsets(in);
	_cleanup_close_ int fd = -EBADF;
	char text[128];
	int r;

	if (in->o->restore_waits || (!in->o->timens.present && (!ns->present || ns->path)))
		return 0;
	if (unshare(ns_clone_flag(NS_TIME)) < 0)
		return error_errno(e, -errno, "new time namespace");
	snprintf(text, sizeof(text), "monotonic %lld %d\nboottime %lld %d\n", (long long)t.monotonic_sec,
		t.monotonic_nsec, (long long)t.boottime_sec, t.boottime_nsec);
	r = procfs_write(in->proc, "self/timens_offsets", text);
	if (r < 0)
		return error_errno(e, r, "set the clocks of the time namespace");
	/* the offsets are fixed as soon as somebody lives in it */
	fd = openat(in->proc, "self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, ns_clone_flag(NS_TIME)) < 0)
		return error_errno(e, -errno, "enter the new time namespace");
	return 0;
}
