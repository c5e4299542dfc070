/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cgroups that systemd makes: a transient scope (or slice) for each container, with Delegate=yes, so that what is below
 * and the limits in it are ours. systemd wants a process to put into a new scope, and removes it when the last has left:
 * the holder, a child of ours that only sleeps, is there until init has joined (cgroup_release()).
 * Limits are told to systemd as properties and written by ourselves as well, as runc does: the kernel has more of them.
 */
#include "cgroup/systemd-priv.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/log.h"

static const char manager[] = "org.freedesktop.systemd1.Manager";

enum { WAIT_MS = 30000 };

static bool is_slice(const char *unit)
{
	size_t n = strlen(unit);

	return n > 6 && strcmp(unit + n - 6, ".slice") == 0;
}

static bool in_user_namespace(void)
{
	unsigned long inside = 1, outside = 1, count = 0;
	char text[256];

	if (read_small_file_at(AT_FDCWD, "/proc/self/uid_map", text, sizeof(text)) < 0)
		return false;
	return sscanf(text, "%lu %lu %lu", &inside, &outside, &count) != 3 || inside != 0 || outside != 0 ||
	       count != UINT32_MAX;
}

int systemd_slice_path(const char *slice, char *buf, size_t size, struct error *e)
{
	size_t len = strlen(slice), n = 0;

	if (strcmp(slice, "-.slice") == 0)
		len = 0;
	else if (!is_slice(slice) || strchr(slice, '/') || slice[0] == '-' || slice[len - 7] == '-' ||
		 strstr(slice, "--"))
		return error_set(e, -EINVAL, ERROR_CONFIG,
			"linux.cgroupsPath: \"%s\" is not the name of a slice (like \"system.slice\")",
			slice);
	buf[0] = 0;
	for (size_t end = 1; end + 6 <= len; end++) {
		int k;

		if (slice[end] != '-' && end + 6 != len)
			continue;
		k = snprintf(buf + n, size - n, "/%.*s.slice", (int)end, slice);
		if ((size_t)k >= size - n)
			return error_set(e, -ENAMETOOLONG, ERROR_CONFIG,
				"linux.cgroupsPath: the slice %s is too deep", slice);
		n += (size_t)k;
	}
	return 0;
}

/* "slice:prefix:name"; absent: runc's defaults, with our name. */
static int parse_path(
	struct cgroup *cg, const char *path, const char *id, char *slice, size_t size, struct error *e)
{
	const char *first = path ? strchr(path, ':') : NULL, *second = first ? strchr(first + 1, ':') : NULL;
	const char *prefix = "stasis", *name = id;
	size_t prefix_len = strlen(prefix), slice_len = 0;
	int n;

	if (path && path[0]) {
		if (!second || strchr(second + 1, ':') || !second[1] || strchr(path, '/'))
			return error_set(e, -EINVAL, ERROR_CONFIG,
				"linux.cgroupsPath: expected \"slice:prefix:name\" for systemd cgroups, got "
				"\"%s\" instead",
				path);
		prefix = first + 1;
		prefix_len = (size_t)(second - prefix);
		name = second + 1;
		slice_len = (size_t)(first - path);
	}
	n = slice_len ? snprintf(slice, size, "%.*s", (int)slice_len, path)
		      : snprintf(slice, size, cg->user_unit ? "user.slice" : "system.slice");
	if ((size_t)n < size) {
		size = sizeof(cg->unit);
		n = is_slice(name) ? snprintf(cg->unit, size, "%s", name)
				   : snprintf(cg->unit, size, "%.*s%s%s.scope", (int)prefix_len, prefix,
					     prefix_len ? "-" : "", name);
	}
	return (size_t)n < size ? 0
				: error_set(e, -ENAMETOOLONG, ERROR_CONFIG,
					  "linux.cgroupsPath: too long for the name of a systemd unit");
}

static int open_bus(const struct cgroup *cg, struct bus *b, struct error *e)
{
	const char *address = getenv("DBUS_SESSION_BUS_ADDRESS"), *runtime = getenv("XDG_RUNTIME_DIR");
	char path[PATH_MAX];

	if (!cg->user_unit)
		return bus_connect("/run/dbus/system_bus_socket", b, e);
	if (address && strncmp(address, "unix:path=", 10) == 0)
		snprintf(path, sizeof(path), "%.*s", (int)strcspn(address + 10, ",;"), address + 10);
	else if (runtime && runtime[0] == '/')
		snprintf(path, sizeof(path), "%s/bus", runtime);
	else
		return error_set(e, -ENOENT, ERROR_USAGE,
			"systemd: without root it is your own that makes cgroups: set XDG_RUNTIME_DIR or "
			"DBUS_SESSION_BUS_ADDRESS (see loginctl enable-linger), or use --cgroup-manager "
			"cgroupfs");
	return bus_connect(path, b, e);
}

/* Where the user's systemd itself is; the machine's is at the root. */
static int manager_path(const struct cgroup *cg, char *buf, size_t size, struct error *e)
{
	_cleanup_(bus_done) struct bus b = {.fd = -EBADF};
	struct bus_message body = {0};
	struct bus_reply reply;
	const char *path;
	int r;

	buf[0] = 0;
	if (!cg->user_unit)
		return 0;
	r = open_bus(cg, &b, e);
	if (r < 0)
		return r;
	bus_put_string(&body, manager);
	bus_put_string(&body, "ControlGroup");
	r = bus_call(&b, "org.freedesktop.DBus.Properties", "Get", "ss", &body, &reply, e);
	bus_message_done(&body);
	if (r < 0)
		return r;
	path = bus_reply_string(&reply);
	if (!path || (size_t)snprintf(buf, size, "%s", path) >= size)
		return error_set(e, -EBADMSG, ERROR_SYSTEM, "systemd: unexpected value of ControlGroup");
	return 0;
}

int systemd_init(struct cgroup *cg, const char *cgroups_path, const char *id, struct error *e)
{
	char slice[NAME_MAX + 1], above[sizeof(cg->path)], below[sizeof(cg->path)],
		path[2 * sizeof(cg->path)];
	int r;

	if (access("/run/systemd/system", F_OK) < 0)
		return error_set(e, -ENOENT, ERROR_USAGE,
			"systemd is not running here, so it can't make cgroups: leave out --systemd-cgroup, "
			"or use --cgroup-manager cgroupfs");
	cg->user_unit = geteuid() != 0 || in_user_namespace();
	r = parse_path(cg, cgroups_path, id, slice, sizeof(slice), e);
	if (r == 0)
		r = systemd_slice_path(slice, below, sizeof(below), e);
	if (r == 0)
		r = manager_path(cg, above, sizeof(above), e);
	if (r < 0)
		return r;
	snprintf(cg->slice, sizeof(cg->slice), "%s", slice);
	if (!is_slice(cg->unit)) {
		snprintf(path, sizeof(path), "%s%s/%s", above, below, cg->unit);
	} else {
		r = systemd_slice_path(cg->unit, below, sizeof(below), e);
		snprintf(path, sizeof(path), "%s%s", above, below);
	}
	return r < 0 ? r : cgroup_discover(cg, path, id, e);
}

/* A child that does nothing, and not longer than we live. */
static int start_holder(struct cgroup *cg, struct error *e)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		return error_errno(e, -errno, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "stasis:scope");
		close_range(0, UINT_MAX, 0);
		while (getppid() == parent)
			pause();
		_exit(0);
	}
	cg->holder = pid;
	return 0;
}

void cgroup_release(struct cgroup *cg)
{
	if (cg->holder <= 0)
		return;
	kill(cg->holder, SIGKILL); /* a child of ours that nobody has waited for: no other has its pid */
	while (waitpid(cg->holder, NULL, 0) < 0 && errno == EINTR)
		;
	cg->holder = 0;
}

static void put_unit(struct bus_message *m, const struct cgroup *cg)
{
	bool slice = is_slice(cg->unit);
	char text[NAME_MAX + 32];

	snprintf(text, sizeof(text), "stasis container %s", cg->unit);
	property_string(m, "Description", text);
	/* A slice is where its name says. */
	if (!slice)
		property_string(m, "Slice", cg->slice);
	property_bool(m, "DefaultDependencies", false);
	property_bool(m, "MemoryAccounting", true);
	property_bool(m, "CPUAccounting", true);
	property_bool(m, cg->mode == CGROUP_V2 ? "IOAccounting" : "BlockIOAccounting", true);
	property_bool(m, "TasksAccounting", true);
	if (slice)
		return;
	property_bool(m, "Delegate", true);
	bus_align(m, 8);
	bus_put_string(m, "PIDs");
	bus_put_signature(m, "au");
	{
		struct bus_array pids = bus_array_begin(m, 4);

		bus_put_u32(m, (uint32_t)cg->holder);
		bus_array_end(m, pids);
	}
}

static int call_start(struct cgroup *cg, const struct spec_resources *res, struct bus *b, struct error *e)
{
	struct bus_message m = {0};
	struct bus_array a;
	int r;

	bus_put_string(&m, cg->unit);
	bus_put_string(&m, "replace");
	a = bus_array_begin(&m, 8);
	put_unit(&m, cg);
	properties_put_devices(&m, res);
	r = properties_put_limits(&m, cg, res, e);
	if (r == 0)
		r = properties_put_annotations(&m, res, e);
	bus_array_end(&m, a);
	a = bus_array_begin(&m, 8); /* other units: none */
	bus_array_end(&m, a);
	if (r == 0)
		r = bus_call(b, manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", &m, NULL, e);
	bus_message_done(&m);
	return r;
}

static int call_unit(struct bus *b, const char *method, const char *unit, const char *mode, struct error *e)
{
	struct bus_message m = {0};
	int r;

	bus_put_string(&m, unit);
	if (mode)
		bus_put_string(&m, mode);
	r = bus_call(b, manager, method, mode ? "ss" : "s", &m, NULL, e);
	bus_message_done(&m);
	return r;
}

/* Whether the holder has been moved: the job is done. For a slice, whether it is there. */
static bool has_started(const struct cgroup *cg)
{
	const struct cgroup_dir *d = cgroup_v2_dir(cg);
	char name[64], text[8192], line[sizeof(cg->path) + 2];

	if (!d)
		d = cgroup_v1_dir(cg, "name=systemd");
	if (!cg->holder)
		return d && access(d->path, F_OK) == 0;
	snprintf(name, sizeof(name), "/proc/%d/cgroup", (int)cg->holder);
	snprintf(line, sizeof(line), ":%s\n", cg->path);
	return read_small_file_at(AT_FDCWD, name, text, sizeof(text)) > 0 && strstr(text, line);
}

static int wait_until(bool (*done)(const struct cgroup *cg), const struct cgroup *cg)
{
	struct timespec pause = {.tv_nsec = 100000};

	for (int64_t us = 0; us < WAIT_MS * 1000LL; us += pause.tv_nsec / 1000) {
		if (done(cg))
			return 0;
		nanosleep(&pause, NULL);
		pause.tv_nsec = MIN(pause.tv_nsec + pause.tv_nsec / 2, 20000000L);
	}
	return -ETIMEDOUT;
}

int systemd_start(struct cgroup *cg, const struct spec_resources *res, struct error *e)
{
	_cleanup_(bus_done) struct bus b = {.fd = -EBADF};
	int r = open_bus(cg, &b, e);

	if (r == 0 && !is_slice(cg->unit))
		r = start_holder(cg, e);
	if (r < 0)
		return r;
	r = call_start(cg, res, &b, e);
	if (r == -EEXIST) {
		/* One that failed stays until it is forgotten; one that runs is somebody's. */
		(void)!call_unit(&b, "ResetFailedUnit", cg->unit, NULL, NULL);
		r = call_start(cg, res, &b, e);
	}
	if (r < 0)
		return r;
	cg->started = true;
	r = wait_until(has_started, cg);
	return r < 0 ? error_set(e, r, ERROR_SYSTEM,
			       "systemd did not put %s into %s in %d s (systemctl status %s)", cg->unit,
			       cg->path, WAIT_MS / 1000, cg->unit)
		     : 0;
}

int systemd_set(const struct cgroup *cg, const struct spec_resources *res, struct error *e)
{
	_cleanup_(bus_done) struct bus b = {.fd = -EBADF};
	struct bus_message m = {0};
	struct bus_array a;
	int r = open_bus(cg, &b, e);

	if (r < 0)
		return r;
	bus_put_string(&m, cg->unit);
	bus_put_u32(&m, 1); /* until the next boot */
	a = bus_array_begin(&m, 8);
	r = properties_put_limits(&m, cg, res, e);
	bus_array_end(&m, a);
	if (r == 0)
		r = bus_call(&b, manager, "SetUnitProperties", "sba(sv)", &m, NULL, e);
	bus_message_done(&m);
	return r;
}

static bool has_stopped(const struct cgroup *cg)
{
	const struct cgroup_dir *d = cgroup_main_dir(cg);

	return !d || access(d->path, F_OK) < 0;
}

/* A unit is known by its name alone, and a scope that has become empty is gone: the one of that name may be another
 * container's by now, or, when create was killed, have been before. Ours has the cgroup that we recorded. */
static bool unit_is_ours(const struct cgroup *cg)
{
	const struct cgroup_dir *d = cgroup_main_dir(cg);
	_cleanup_close_ int fd = d ? cgroup_dir_open(cg, d, NULL) : -EBADF;

	return fd >= 0;
}

int systemd_stop(struct cgroup *cg, struct error *e)
{
	_cleanup_(bus_done) struct bus b = {.fd = -EBADF};
	struct error ignored = {0};
	int r;

	if (!cg->started || !unit_is_ours(cg))
		return 0;
	r = open_bus(cg, &b, e);
	if (r < 0)
		return r;
	/* A scope is usually gone by itself, since it is empty. */
	r = call_unit(&b, "StopUnit", cg->unit, "replace", &ignored);
	if (r < 0 && r != -ENOENT)
		return error_set(e, r, ERROR_SYSTEM, "%s", ignored.message);
	if (r == 0 && wait_until(has_stopped, cg) < 0)
		log_debug("systemd takes its time to remove %s", cg->unit);
	(void)!call_unit(&b, "ResetFailedUnit", cg->unit, NULL, NULL);
	cg->started = false;
	return 0;
}
