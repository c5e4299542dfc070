/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces held open (/proc/PID/ns/X): those of the container itself, which are what they are after a restore, too; and
 * time namespaces in which its processes are, or their children will be.
 */
#include "checkpoint/native/res/res.h"
#include "checkpoint/native/timens.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {"mnt", "net", "ipc", "uts", "pid", "user", "cgroup", "time"};

static const char *name_of(const struct dump_file *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		size_t n = strlen(names[i]);

		if (strncmp(f->link, names[i], n) == 0 && strncmp(f->link + n, ":[", 2) == 0)
			return names[i];
	}
	return NULL;
}

static bool match(const struct dump *d, const struct dump_file *f)
{
	return name_of(f) != NULL;
}

/* Namespace.id of a time namespace that is not the container's; 0: it is none. */
static uint64_t time_namespace(const struct dump *d, const struct dump_file *f)
{
	char text[32];

	for (size_t i = 0; i < d->n_nested; i++) {
		snprintf(text, sizeof(text), "time:[%lu]", (unsigned long)d->nested[i].inode);
		if (d->nested[i].msg->type == CLONE_NEWTIME && !strcmp(text, f->link))
			return d->nested[i].msg->id;
	}
	return 0;
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	for (size_t i = 0; i < DUMP_NAMESPACES; i++)
		if (strcmp(d->namespaces[i], f->link) == 0)
			return 0;
	if (time_namespace(d, f))
		return 0;
	dump_refuse(d, f->proc, f->fd, "namespace", "it is not one of the container's own",
		"close the descriptor first", "%s", f->link);
	return 0;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	St__NamespaceFd *m = pb_new(&d->arena, NamespaceFd, namespace_fd);

	if (!m)
		return error_errno(e, -ENOMEM, "namespace");
	m->name = (char *)name_of(f);
	m->id = time_namespace(d, f);
	f->msg->kind_case = ST__FILE__KIND_NS;
	f->msg->ns = m;
	return 0;
}

static int open_namespace(struct restore *r, const St__File *m, int *ret_fd, struct error *e)
{
	char path[32];

	if (m->ns->id) {
		*ret_fd = restore_timens_open(r, m->ns->id, m->flags & O_PATH);
		return *ret_fd < 0 ? error_errno(e, *ret_fd, "open a time namespace") : 0;
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
	.description = "namespaces held open by a descriptor: those that the container itself is in, and "
		       "time namespaces of its processes",
	.kind_case = ST__FILE__KIND_NS,
	.match = match,
	.check = check,
	.dump = dump,
	.open = open_namespace,
};
