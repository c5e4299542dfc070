/* SPDX-License-Identifier: Apache-2.0 */
#include "linux/taskreport.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

enum { TASKS_MAX = 4096, TEXT_MAX = 4096 };

/* The numbers among the names of a directory. */
static size_t list_numbers(const char *path, pid_t *ret, size_t max)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(8) char buf[4096];
	size_t n = 0;
	long len;

	while (fd >= 0 && (len = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < len;) {
			const struct dirent64 *d = (const void *)(buf + at);
			long number = 0;

			for (const char *p = d->d_name; *p >= '0' && *p <= '9'; p++)
				number = number * 10 + (*p - '0');
			if (number > 0 && n < max)
				ret[n++] = (pid_t)number;
			at += d->d_reclen;
		}
	}
	return n;
}

static size_t read_text(pid_t pid, pid_t tid, const char *name, char *buf, size_t size)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", pid, tid, name);
	n = read_small_file_at(AT_FDCWD, path, buf, size - 1);
	n = MAX(n, (ssize_t)0);
	while (n > 0 && buf[n - 1] == '\n')
		n--;
	buf[n] = 0;
	return n;
}

/* The numbers in a line of "children"; returns how many there are in "ret" then. */
static size_t add_children(const char *text, pid_t *ret, size_t n, size_t max)
{
	while (*text) {
		long pid = 0;

		for (; *text >= '0' && *text <= '9'; text++)
			pid = pid * 10 + (*text - '0');
		if (pid > 0 && n < max)
			ret[n++] = (pid_t)pid;
		while (*text && (*text < '0' || *text > '9'))
			text++;
	}
	return n;
}

size_t task_descendants(pid_t of, pid_t *ret, size_t max)
{
	char path[64], text[TEXT_MAX];
	pid_t tids[64];
	size_t n = 0;

	/* Each one's are added behind; the list is its own queue. */
	for (size_t at = 0; at <= n && at <= max; at++) {
		pid_t pid = at == 0 ? of : ret[at - 1];
		size_t n_tids;

		snprintf(path, sizeof(path), "/proc/%d/task", pid);
		n_tids = list_numbers(path, tids, ARRAY_SIZE(tids));
		for (size_t k = 0; k < n_tids; k++) {
			read_text(pid, tids[k], "children", text, sizeof(text));
			n = add_children(text, ret, n, max);
		}
	}
	return n;
}

static void put(const int *fds, size_t n_fds, const char *format, ...) _printf_(3, 4);
static void put(const int *fds, size_t n_fds, const char *format, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	n = MIN(n, (int)sizeof(line) - 1);
	for (size_t i = 0; i < n_fds; i++)
		if (fds[i] >= 0)
			(void)!write_all(fds[i], line, n);
}

/* "[<0>] do_wait+0x5e/0x130" without its number in brackets. */
static void put_stack(const char *text, const int *fds, size_t n_fds)
{
	while (*text) {
		size_t len = strcspn(text, "\n");
		const char *name = memchr(text, ']', len);

		name = name && name[1] == ' ' ? name + 2 : text;
		put(fds, n_fds, "    %.*s\n", (int)(len - (name - text)), name);
		text += len + (text[len] == '\n');
	}
}

static void report_thread(pid_t pid, pid_t tid, const int *fds, size_t n_fds)
{
	char comm[64], stat[1024], wchan[128], call[256], stack[TEXT_MAX];
	const char *state;

	if (!read_text(pid, tid, "comm", comm, sizeof(comm)))
		return; /* gone */
	read_text(pid, tid, "stat", stat, sizeof(stat));
	state = strrchr(stat, ')');
	read_text(pid, tid, "wchan", wchan, sizeof(wchan));
	read_text(pid, tid, "syscall", call, sizeof(call));
	put(fds, n_fds, "  process %d task %d (%s): state %c, waits in %s, system call %s\n", pid, tid, comm,
		state && state[1] == ' ' ? state[2] : '?', *wchan && strcmp(wchan, "0") != 0 ? wchan : "-",
		*call ? call : "?");
	if (read_text(pid, tid, "stack", stack, sizeof(stack)))
		put_stack(stack, fds, n_fds);
}

void task_report(pid_t pid, unsigned max, const int *fds, size_t n_fds)
{
	static const unsigned all = TASKS_MAX;
	pid_t tids[TASKS_MAX];
	char path[64];
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	n = list_numbers(path, tids, all);
	for (size_t i = 0; i < n && i < max; i++)
		report_thread(pid, tids[i], fds, n_fds);
	if (n > max)
		put(fds, n_fds, "  process %d: %zu more tasks\n", pid, n - max);
}
