/* SPDX-License-Identifier: Apache-2.0 */
/* The list of obstacles that a checkpoint would meet. */
#include <stdarg.h>
#include <stdio.h>

#include "checkpoint/engine.h"

void preflight_report_done(struct preflight_report *r)
{
	free(r->obstacles);
	arena_done(&r->arena);
	*r = (struct preflight_report){};
}

void preflight_add(struct preflight_report *r, pid_t pid, int fd, const char *kind, const char *reason, const char *remedy,
	const char *object_format, ...)
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
