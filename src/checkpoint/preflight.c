/* SPDX-License-Identifier: Apache-2.0 */
/* The list of obstacles that a checkpoint would meet. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/engine.h"

#include "base/trace.h"

void preflight_report_done(struct preflight_report *r)
{
	free(r->obstacles);
	arena_done(&r->arena);
	*r = (struct preflight_report){};
}

void preflight_add(struct preflight_report *r, pid_t pid, int fd, const char *kind, const char *reason,
	const char *remedy, const char *object_format, ...)
{
	char object[512];
	va_list ap;

	va_start(ap, object_format);
	vsnprintf(object, sizeof(object), object_format, ap);
	va_end(ap);
	if (r->n == r->allocated) {
		size_t want = r->allocated ? r->allocated * 2 : 16;
		struct obstacle *p = reallocarray(r->obstacles, want, sizeof(*p));

		if (!p) {
			if (r->n > 0)
				r->obstacles[r->n - 1].reason = "out of memory while listing obstacles";
			return;
		}
		r->obstacles = p;
		r->allocated = want;
	}
	r->obstacles[r->n++] = (struct obstacle){
		.pid = pid,
		.fd = fd,
		.kind = kind,
		.object = arena_strdup(&r->arena, object),
		.reason = arena_strdup(&r->arena, reason),
		.remedy = arena_strdup(&r->arena, remedy),
	};
}

static bool has(const struct preflight_report *r, const struct obstacle *o)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct obstacle *p = &r->obstacles[i];

		if (p->pid == o->pid && p->fd == o->fd && !strcmp(p->kind, o->kind) &&
			!strcmp(p->object, o->object) && !strcmp(p->reason, o->reason))
			return true;
	}
	return false;
}

void preflight_keep_common(struct preflight_report *r, const struct preflight_report *other)
{
	size_t kept = 0;

	for (size_t i = 0; i < r->n; i++)
		if (has(other, &r->obstacles[i]))
			r->obstacles[kept++] = r->obstacles[i];
	r->n = kept;
}

static bool passes(const struct obstacle *o)
{
	static const char *const remedies[] = {REMEDY_READ, REMEDY_EVENTS, REMEDY_POLL, REMEDY_RECEIVER,
		REMEDY_RECEIVE, REMEDY_ACCEPT, REMEDY_CORK, REMEDY_LEASE, REMEDY_VFORK, REMEDY_AIO,
		REMEDY_WAIT, REMEDY_OPENED, REMEDY_ACCEPT_IT, REMEDY_PEER, REMEDY_AGAIN};

	for (size_t i = 0; i < ARRAY_SIZE(remedies); i++)
		if (!strcmp(o->remedy, remedies[i]))
			return true;
	return false;
}

bool preflight_is_passing(const struct preflight_report *r)
{
	for (size_t i = 0; i < r->n; i++)
		if (!passes(&r->obstacles[i]))
			return false;
	return r->n > 0;
}

/* One error for all obstacles; the report has them singly. */
int preflight_refuse(const struct preflight_report *r, struct error *e)
{
	const struct obstacle *o = &r->obstacles[0];
	char who[64] = "", more[64] = "";

	if (o->pid && o->fd >= 0)
		snprintf(who, sizeof(who), "process %d fd %d: ", o->pid, o->fd);
	else if (o->pid)
		snprintf(who, sizeof(who), "process %d: ", o->pid);
	if (r->n > 1)
		snprintf(more, sizeof(more), " (and %zu more: see \"stasis check\")", r->n - 1);
	return error_set(e, -EOPNOTSUPP, ERROR_REFUSED, "cannot checkpoint: %s%s: %s; %s%s", who, o->object,
		o->reason, o->remedy, more);
}

int cgroups_mode_parse(const char *name, enum cgroups_mode *ret, struct error *e)
{
	static const char *const names[] = {"soft", "full", "strict", "ignore"};

	*ret = CGROUPS_SOFT;
	for (size_t i = 0; name && i < ARRAY_SIZE(names); i++) {
		if (!strcmp(name, names[i])) {
			*ret = (enum cgroups_mode)i;
			return 0;
		}
	}
	return name ? error_set(e, -EINVAL, ERROR_USAGE,
			      "invalid manage-cgroups-mode \"%s\": soft, full, strict or ignore", name)
		    : 0;
}
