/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces held open (/proc/PID/ns/X): those of the container itself, which are what they are after a restore, too; those
 * in which its processes are, or their children will be; and others that live only as long as somebody holds them (nested-held.c).
 */
#include "checkpoint/native/res/res.h"
#include "base/fd.h"
#include "checkpoint/native/restore-nested.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"mnt", "net", "ipc", "uts", "pid", "user", "cgroup", "time"};

static bool match(const struct dump *d, const struct dump_file *f)
{
	return dump_is_namespace(d, f);
}

static bool can_open_pids(void)
{
	_cleanup_close_ int fd = restore_pid_namespace_of(getpid());

	return fd >= 0;
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	struct dump_ns_name name;
	const char *why = NULL;

	if (dump_namespace_of_file(f, &name)) {
		if (dump_is_containers(d, &name) ||
			(dump_nested_by_name(d, &name) && (name.type != CLONE_NEWPID || can_open_pids())))
			return 0;
		why = dump_nested_by_name(d, &name)
			      ? "a pid namespace of the container's processes, on a kernel before Linux 6.11"
			      : dump_why_not_held(d, &name);
	}
	dump_refuse(d, f->proc, f->fd, "namespace", why ? why : "it is not one of the container's own",
		"close the descriptor first", "%s", f->link);
	return 0;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__NamespaceFd *m = pb_new(&d->arena, NamespaceFd, namespace_fd);
	const struct dump_nested *n;
	struct dump_ns_name name;

	if (!m)
		return error_errno(e, -ENOMEM, "namespace");
	if (!dump_namespace_of_file(f, &name))
		return error_set(e, -EINVAL, ERROR_INTERNAL, "namespace %s", f->link);
	n = dump_is_containers(d, &name) ? NULL : dump_nested_by_name(d, &name);
	m->name = (char *)name.kind;
	m->id = n ? n->msg->id : 0;
	f->msg->kind_case = ST__FILE__KIND_NS;
	f->msg->ns = m;
	return 0;
}

static int open_namespace(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	char path[32];

	if (m->ns->id) {
		*ret_fd = restore_open_namespace(r, m->ns->id, m->flags & O_PATH);
		return *ret_fd < 0 ? error_errno(e, *ret_fd, "open a %s namespace", m->ns->name) : 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(names[i], m->ns->name) != 0)
			continue;
		snprintf(path, sizeof(path), "self/ns/%s", names[i]);
		*ret_fd = openat(r->proc_fd, path, O_RDONLY | O_CLOEXEC | (m->flags & O_PATH));
		return *ret_fd < 0 ? error_errno(e, -errno, "open the %s namespace", names[i]) : 0;
	}
	return error_set(e, -EBADMSG, ERROR_CORRUPT, "unknown kind of namespace");
}

extern const struct resource resource_namespace;
const struct resource resource_namespace = {
	.kind = "namespace",
	.description =
		"namespaces held open by a descriptor: those that the container itself is in, those of "
		"its processes, and network, uts, ipc, user and cgroup namespaces in which nobody is",
	.kind_case = ST__FILE__KIND_NS,
	.match = match,
	.check = check,
	.dump = dump,
	.open = open_namespace,
};
