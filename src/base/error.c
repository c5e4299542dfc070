/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

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

static unsigned long long limit(int resource)
{
	struct rlimit l;

	return getrlimit(resource, &l) == 0 ? l.rlim_cur : RLIM_INFINITY;
}

/* What the reader may do about it, where the cause is a limit of this very process. "" if it is not. */
static void remedy_of(int code, char *buf, size_t size)
{
	unsigned long long n;

	buf[0] = '\0';
	if (code == -EMFILE)
		snprintf(buf, size, " (this process may have %llu: raise RLIMIT_NOFILE, ulimit -n)",
			limit(RLIMIT_NOFILE));
	else if (code == -ENFILE)
		snprintf(buf, size, " (the whole machine has too many: raise the sysctl fs.file-max)");
	else if (code == -ENOMEM && (n = limit(RLIMIT_AS)) != RLIM_INFINITY)
		snprintf(buf, size,
			" (the address space of this process is limited to %llu KiB: raise RLIMIT_AS, ulimit "
			"-v)",
			n >> 10);
	else if (code == -EFBIG && (n = limit(RLIMIT_FSIZE)) != RLIM_INFINITY)
		snprintf(buf, size,
			" (files that this process writes are limited to %llu KiB: raise RLIMIT_FSIZE, "
			"ulimit -f)",
			n >> 10);
}

int error_errno(struct error *e, int code, const char *format, ...)
{
	va_list ap;
	char remedy[120];
	size_t n;

	if (!e)
		return code;
	va_start(ap, format);
	error_vset(e, code, ERROR_SYSTEM, format, ap);
	va_end(ap);
	remedy_of(code, remedy, sizeof(remedy));
	n = strlen(e->message);
	snprintf(e->message + n, sizeof(e->message) - n, ": %s%s", error_text(code).s, remedy);
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
