/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing limits so that all or none of them hold: each write first keeps what the file said, and a failure writes
 * that back, newest first. A cgroup that was just made has nothing worth keeping and is written without.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "cgroup/cgroup-priv.h"

struct limits_undo {
	struct limits_undo *next;
	int dir;
	const char *file, *value;
};

void limits_init(struct limits *l, const struct cgroup *cg, bool record, struct error *e)
{
	*l = (struct limits){.cg = cg, .record = record, .e = e};
	for (size_t i = 0; i < ARRAY_SIZE(l->dirs); i++)
		l->dirs[i] = -EBADF;
}

void limits_done(struct limits *l, bool failed)
{
	for (struct limits_undo *u = failed ? l->undo : NULL; u; u = u->next) {
		int r = write_string_at(u->dir, u->file, u->value);

		if (r < 0)
			log_debug(
				"cgroup: putting %s back to %s failed: %s", u->file, u->value, strerror(-r));
	}
	for (size_t i = 0; i < ARRAY_SIZE(l->dirs); i++)
		close_p(&l->dirs[i]);
	arena_done(&l->arena);
}

int limits_dir(struct limits *l, const char *controller, const char *what, int *ret)
{
	const struct cgroup_dir *d = controller[0] ? cgroup_v1_dir(l->cg, controller) : cgroup_v2_dir(l->cg);
	int *fd;

	if (!d)
		return error_set(l->e, -ENOENT, ERROR_KERNEL,
			"%s: this machine has no %s cgroup hierarchy (%s)", what,
			controller[0] ? controller : "v2",
			controller[0] ? "if /proc/cgroups lists the controller: mount -t cgroup -o its name"
				      : "mount -t cgroup2");
	fd = &l->dirs[d - l->cg->dirs];
	if (*fd < 0)
		*fd = cgroup_dir_open(l->cg, d, l->e);
	if (*fd < 0)
		return error_prefix(l->e, "%s", what);
	*ret = *fd;
	return 0;
}

bool limits_has_file(int dir, const char *file)
{
	struct stat st;

	return fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Lists per device ("8:0 1048576" lines) keep only the line of the device that is about to be written. */
static void cut_to_device(char *text, size_t size, const char *value)
{
	size_t key = strcspn(value, " ");
	char *line, *rest = text;

	if (!strchr(value, ':') || !value[key])
		return;
	while ((line = strsep(&rest, "\n")))
		if (strncmp(line, value, key) == 0 && line[key] == ' ') {
			memmove(text, line, strlen(line) + 1);
			return;
		}
	snprintf(text, size, "%.*s %s", (int)key, value,
		strchr(value, '=') ? "rbps=max wbps=max riops=max wiops=max" : "0");
}

static int keep_old(struct limits *l, int dir, const char *file, const char *value)
{
	struct limits_undo *u;
	char old[4096];
	ssize_t n = read_small_file_at(dir, file, old, sizeof(old));

	/* Not readable: the write will say why, or there is nothing to put back (cgroup.kill). */
	if (n < 0)
		return 0;
	while (n > 0 && old[n - 1] == '\n')
		old[--n] = 0;
	cut_to_device(old, sizeof(old), value);
	u = arena_new(&l->arena, struct limits_undo);
	if (!u)
		return -ENOMEM;
	*u = (struct limits_undo){.next = l->undo,
		.dir = dir,
		.file = arena_strdup(&l->arena, file),
		.value = arena_strdup(&l->arena, old)};
	if (!u->file || !u->value)
		return -ENOMEM;
	l->undo = u;
	return 0;
}

int limits_try(struct limits *l, int dir, const char *file, const char *value)
{
	int r = l->record ? keep_old(l, dir, file, value) : 0;

	return r < 0 ? r : write_string_at(dir, file, value);
}

int limits_write_rdma(struct limits *l, int dir, const struct spec_resources *res)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < res->n_rdma; i++) {
		const struct spec_rdma_limit *d = &res->rdma[i];

		if (d->has_handles)
			r = limits_write(l, dir, "rdma.max", "%s hca_handle=%u", d->device, d->handles);
		if (r == 0 && d->has_objects)
			r = limits_write(l, dir, "rdma.max", "%s hca_object=%u", d->device, d->objects);
	}
	return r;
}

/* What is missing: the controller in this cgroup (v2), or the file in this kernel. */
static int fail_no_file(const struct limits *l, int dir, const char *file, const char *value)
{
	char controller[64], list[512];
	int len = (int)strcspn(file, ".");
	bool v2 = read_small_file_at(dir, "cgroup.controllers", list, sizeof(list)) >= 0;

	snprintf(controller, sizeof(controller), "%.*s", len, file);
	for (char *at = list; v2 && *at; at++)
		if (*at == ' ' || *at == '\n')
			*at = ',';
	if (v2 && strcmp(controller, "cgroup") != 0 && !cgroup_has_controller(list, controller))
		return error_set(l->e, -ENOENT, ERROR_KERNEL,
			"cgroup: there is no %s to write \"%s\" to: the %s controller is not enabled here "
			"(write \"+%s\" to the cgroup.subtree_control of the cgroups above, or have it "
			"delegated: "
			"Delegate=yes of systemd)",
			file, value, controller, controller);
	return error_set(l->e, -ENOENT, ERROR_KERNEL,
		"cgroup: there is no %s to write \"%s\" to: this kernel's %s controller lacks it", file,
		value, controller);
}

int limits_write(struct limits *l, int dir, const char *file, const char *format, ...)
{
	char value[512];
	va_list ap;
	int n, r;

	va_start(ap, format);
	n = vsnprintf(value, sizeof(value), format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(value))
		return error_set(l->e, -E2BIG, ERROR_CONFIG, "cgroup: the value for %s is too long", file);
	r = limits_try(l, dir, file, value);
	if (r == -ENOENT)
		return fail_no_file(l, dir, file, value);
	if (r == -EBUSY && strstr(file, "memory"))
		return error_set(l->e, r, ERROR_SYSTEM,
			"cgroup: write \"%s\" to %s: more memory is in use than that", value, file);
	return r < 0 ? error_errno(l->e, r, "cgroup: write \"%s\" to %s", value, file) : 0;
}
