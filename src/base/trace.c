/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

static struct {
	int fd;
	pid_t pid; /* who may write; 0: nobody, there is no trace */
} sink = {.fd = -EBADF};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

/* One write each, at the end of the file whoever else writes: lines stay whole. */
static void put(const char *line, int n)
{
	(void)!write(sink.fd, line, MIN((size_t)n, strlen(line)));
}

static void name_process(const char *name)
{
	char line[200];
	int n = snprintf(line, sizeof(line),
		"{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": %d, \"tid\": %d, "
		"\"args\": {\"name\": \"%.60s\"}},\n",
		getpid(), gettid(), name);

	put(line, n);
}

int trace_begin(const char *path, const char *process, struct error *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return error_errno(e, -errno, "--trace %s", path);
	sink.fd = fd;
	sink.pid = getpid();
	put("[\n", 2);
	name_process(process);
	return 0;
}

void trace_process(const char *name)
{
	if (sink.fd < 0)
		return;
	sink.pid = getpid();
	name_process(name);
}

bool trace_is_on(void)
{
	return sink.fd >= 0 && sink.pid == getpid();
}

void trace_end(void)
{
	char line[160];
	int n;

	if (sink.fd < 0 || sink.pid != getpid())
		return;
	/* The last one, which no comma follows. */
	n = snprintf(line, sizeof(line),
		"{\"name\": \"end\", \"ph\": \"i\", \"s\": \"p\", \"ts\": %.3f, \"pid\": %d, \"tid\": "
		"%d}\n]\n",
		now_ns() / 1e3, getpid(), gettid());
	put(line, n);
	close_p(&sink.fd);
	sink.pid = 0;
}

struct trace_span trace_span(const char *name)
{
	if (sink.fd < 0 || sink.pid != getpid())
		return (struct trace_span){NULL, 0};
	return (struct trace_span){name, now_ns()};
}

void trace_span_end(struct trace_span *s)
{
	char line[240];
	int n;

	/* A child that was forked meanwhile returns through here, too. */
	if (!s->name || sink.pid != getpid())
		return;
	n = snprintf(line, sizeof(line),
		"{\"name\": \"%.60s\", \"ph\": \"X\", \"ts\": %.3f, \"dur\": %.3f, \"pid\": %d, \"tid\": "
		"%d},\n",
		s->name, s->begin / 1e3, (now_ns() - s->begin) / 1e3, getpid(), gettid());
	put(line, n);
}
