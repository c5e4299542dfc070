/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"

static struct {
	int fd;
	enum log_format format;
	enum log_level max_level;
} sink = {.fd = -1, .max_level = LOG_LEVEL_INFO};

void log_setup(int fd, enum log_format format, enum log_level max_level)
{
	if (sink.fd >= 0 && sink.fd != fd)
		close(sink.fd);
	sink.fd = fd;
	sink.format = format;
	sink.max_level = max_level;
}

void log_set_level(enum log_level max_level)
{
	sink.max_level = max_level;
}

void log_forget(void)
{
	sink.fd = -1;
}

enum log_level log_max_level(void)
{
	return sink.max_level;
}

static const char *level_name(enum log_level level)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};

	return names[level];
}

/* JSON string contents: quotes, backslashes and control characters escaped; what is not UTF-8 (a file's name) becomes
 * U+FFFD, as a line with it would be no JSON. */
static void json_escape(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; *from && n + 7 < size; from++) {
		unsigned char c = *from;
		uint32_t character;
		size_t len = utf8_decode(from, strnlen(from, 4), &character);

		if (len == 0) {
			n += snprintf(to + n, size - n, "\\ufffd");
		} else if (c == '"' || c == '\\') {
			to[n++] = '\\';
			to[n++] = c;
		} else if (c < 0x20) {
			n += snprintf(to + n, size - n, "\\u%04x", c);
		} else {
			memcpy(to + n, from, len);
			n += len;
			from += len - 1;
		}
	}
	to[n] = '\0';
}

/* e: the error that the message is, or NULL */
static void emit(enum log_level level, const struct error *e, const char *message)
{
	char escaped[2400], line[2600], stamp[40], what[64] = "";
	struct timespec now;
	struct tm tm;
	int n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_escape(escaped, sizeof(escaped), message);
	if (e)
		snprintf(what, sizeof(what), ",\"kind\":\"%s\",\"errno\":%d", error_kind_name(e->kind),
			-e->code);
	if (sink.format == LOG_FORMAT_JSON)
		n = snprintf(line, sizeof(line), "{\"level\":\"%s\",\"msg\":\"%s\"%s,\"time\":\"%s\"}\n",
			level_name(level), escaped, what, stamp);
	else if (sink.fd >= 0)
		n = snprintf(line, sizeof(line), "time=\"%s\" level=%s msg=\"%s\"\n", stamp,
			level_name(level), escaped);
	else
		n = snprintf(line, sizeof(line), "stasis: %s%s\n",
			level == LOG_LEVEL_WARNING ? "warning: "
			: level == LOG_LEVEL_DEBUG ? "debug: "
						   : "",
			message);
	n = MIN((size_t)n, sizeof(line) - 1);
	if (write(sink.fd >= 0 ? sink.fd : STDERR_FILENO, line, n) < 0)
		return;
	if (sink.fd >= 0 && level == LOG_LEVEL_ERROR)
		dprintf(STDERR_FILENO, "stasis: %s\n", message);
}

void log_at(enum log_level level, const char *format, ...)
{
	char message[2048];
	va_list ap;

	if (level > sink.max_level)
		return;
	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	emit(level, NULL, message);
}

void log_error(const struct error *e)
{
	emit(LOG_LEVEL_ERROR, e, e->message);
}
