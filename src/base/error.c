/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void error_vset(struct error *e, int code, enum error_kind kind, const char *format, va_list ap)
{
	if (!e)
		return;
	e->code = code;
	e->kind = kind;
	vsnprintf(e->message, sizeof(e->message), format, ap);
}

int error_set(struct error *e, int code, enum error_kind kind, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	error_vset(e, code, kind, format, ap);
	va_end(ap);
	return code;
}

struct error_text error_text(int code)
{
	struct error_text t;

	/* libc begins with a capital, Go (and so runc, whose callers compare) does not; "RFS ..." stays */
	snprintf(t.s, sizeof(t.s), "%s", strerror(-code));
	if (t.s[0] >= 'A' && t.s[0] <= 'Z' && t.s[1] >= 'a' && t.s[1] <= 'z')
		t.s[0] += 'a' - 'A';
	return t;
}

int error_errno(struct error *e, int code, const char *format, ...)
{
	va_list ap;
	size_t n;

	if (!e)
		return code;
	va_start(ap, format);
	error_vset(e, code, ERROR_SYSTEM, format, ap);
	va_end(ap);
	n = strlen(e->message);
	snprintf(e->message + n, sizeof(e->message) - n, ": %s", error_text(code).s);
	return code;
}

int error_prefix(struct error *e, const char *format, ...)
{
	char old[sizeof(e->message)];
	va_list ap;
	size_t n;

	if (!e)
		return -EINVAL;
	memcpy(old, e->message, sizeof(old));
	va_start(ap, format);
	vsnprintf(e->message, sizeof(e->message), format, ap);
	va_end(ap);
	n = strlen(e->message);
	snprintf(e->message + n, sizeof(e->message) - n, ": %s", old);
	return e->code;
}

const char *error_kind_name(enum error_kind kind)
{
	static const char *const names[] = {
		[ERROR_SYSTEM] = "system",
		[ERROR_USAGE] = "usage",
		[ERROR_CONFIG] = "config",
		[ERROR_KERNEL] = "kernel",
		[ERROR_REFUSED] = "refused",
		[ERROR_STATE] = "state",
		[ERROR_CORRUPT] = "corrupt",
		[ERROR_INTERNAL] = "internal",
	};

	return (size_t)kind < ARRAY_SIZE(names) ? names[kind] : "unknown";
}
