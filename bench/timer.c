// SPDX-License-Identifier: Apache-2.0
/*
 * timer [-f FILE... [-g]] [-e FILE] [-t SECONDS] [-n N [-j JOBS]] -- COMMAND...
 *
 * Runs COMMAND with stdin, stdout and stderr at /dev/null and prints one line of JSON:
 *
 *   rc         exit status, 128 + signal, or -1 when it did not end in time
 *   us         spawn to exit
 *   prog_us    with -f: spawn to the first modification of FILE that changes what it says (may come before or
 *              after the exit), -1: none
 *              (several -f: until the last of them)
 *   gap_us     with -g: the longest time without a modification of FILE, from spawn to 50 ms after the exit
 *              (several: of any of them)
 *   user_us, sys_us, maxrss_kb   of COMMAND and the children it has waited for
 *
 * With -n, COMMAND runs N times, JOBS at once, with its number for each "%" that ends an argument; us is the time for all, rc
 * that of the last that failed.
 *
 * Progress is seen by inotify, from outside of the container, so it means the same for every runtime: also
 * for gVisor, whose programs write through another process. FILE is one that the program in the container
 * modifies every millisecond. A detached container inherits stderr, and CRIU refuses to dump one that is a
 * file on the host: hence /dev/null. -e is for commands that start nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum {
	AFTER_EXIT_US = 50 * 1000,    /* how long -g goes on looking after the exit */
	GIVE_UP_US = 8 * 1000 * 1000, /* no progress this long after the exit: there will be none */
	FILES = 8,
};

struct counter {
	const char *file;
	int wd;
	char before[64]; /* what the file said at the start */
	long first;	 /* first modification, us since start; -1: not yet */
	long last;	 /* the latest one; the start counts as one */
	long longest;
};

struct timer {
	struct counter files[FILES];
	int n_files;
	const char *err;
	bool gap;
	long limit_us;

	int watch; /* inotify */
	int pidfd;
	long start;
	long exited; /* us since start, -1: not yet */
	int status;
	struct rusage usage;
};

static long now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static int spawn(const struct timer *t, char **argv)
{
	posix_spawn_file_actions_t fa;
	pid_t pid;
	int r;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	if (t->err)
		posix_spawn_file_actions_addopen(&fa, 2, t->err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	else
		posix_spawn_file_actions_addopen(&fa, 2, "/dev/null", O_WRONLY, 0);

	r = posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (r) {
		fprintf(stderr, "timer: %s: %s\n", argv[0], strerror(r));
		return -r;
	}
	return pid;
}

static pid_t spawn_watched(struct timer *t, char **argv)
{
	pid_t pid;

	t->start = now_us();
	pid = spawn(t, argv);
	if (pid < 0)
		return pid;
	t->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (t->pidfd < 0) {
		perror("timer: pidfd_open");
		return -errno;
	}
	return pid;
}

static pid_t spawn_numbered(const struct timer *t, char **argv, int number)
{
	static char text[64][4096];
	char *numbered[64];
	int i;

	for (i = 0; argv[i] && i < 63; i++) {
		size_t n = strlen(argv[i]);

		numbered[i] = argv[i];
		if (n && argv[i][n - 1] == '%') {
			snprintf(text[i], sizeof(text[i]), "%.*s%d", (int)n - 1, argv[i], number);
			numbered[i] = text[i];
		}
	}
	numbered[i] = NULL;
	return spawn(t, numbered);
}

static int exit_code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void many(struct timer *t, char **argv, int total, int jobs)
{
	int begun = 0, running = 0, status;

	t->start = now_us();
	while (begun < total || running) {
		while (begun < total && running < jobs && spawn_numbered(t, argv, begun) > 0) {
			begun++;
			running++;
		}
		if (wait4(-1, &status, 0, &t->usage) < 0)
			break;
		running--;
		if (exit_code(status))
			t->status = status;
	}
	t->exited = now_us() - t->start;
}

/* a runtime may well touch the file (truncate it to its size, say): only the program makes it say something
 * new */
static void contents(const char *file, char *buf, size_t size)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : pread(fd, buf, size - 1, 0);

	buf[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
}

static void one_modified(struct counter *c, long at)
{
	char buf[sizeof(c->before)];

	if (c->first < 0) {
		contents(c->file, buf, sizeof(buf));
		if (strcmp(buf, c->before))
			c->first = at;
	}
	if (at - c->last > c->longest)
		c->longest = at - c->last;
	c->last = at;
}

static void modified(struct timer *t)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	bool seen[FILES] = {false};
	long at = now_us() - t->start;
	ssize_t n;

	while ((n = read(t->watch, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *e = (const struct inotify_event *)p;

			for (int i = 0; i < t->n_files; i++)
				seen[i] |= t->files[i].wd == e->wd;
			p += sizeof(*e) + e->len;
		}
	for (int i = 0; i < t->n_files; i++)
		if (seen[i])
			one_modified(&t->files[i], at);
}

/* Of all files: the last first modification, -1: one has none; the last modification of the one that was modified longest ago; the
 * longest gap. */
static long all_first(const struct timer *t)
{
	long first = -1;

	for (int i = 0; i < t->n_files; i++) {
		if (t->files[i].first < 0)
			return -1;
		if (t->files[i].first > first)
			first = t->files[i].first;
	}
	return first;
}

static long all_last(const struct timer *t)
{
	long last = t->files[0].last;

	for (int i = 1; i < t->n_files; i++)
		if (t->files[i].last < last)
			last = t->files[i].last;
	return last;
}

static long all_longest(const struct timer *t)
{
	long longest = 0;

	for (int i = 0; i < t->n_files; i++)
		if (t->files[i].longest > longest)
			longest = t->files[i].longest;
	return longest;
}

static bool finished(const struct timer *t, long at)
{
	if (at > t->limit_us)
		return true;
	if (t->exited < 0)
		return false;
	if (!t->n_files || t->status != 0 || at - t->exited > GIVE_UP_US)
		return true;
	if (t->gap)
		return all_last(t) > t->exited && at - t->exited > AFTER_EXIT_US;
	return all_first(t) >= 0;
}

static void watch(struct timer *t, pid_t pid)
{
	while (!finished(t, now_us() - t->start)) {
		bool look = t->gap || all_first(t) < 0;
		struct pollfd p[2] = {
			{.fd = t->exited < 0 ? t->pidfd : -1, .events = POLLIN},
			{.fd = look ? t->watch : -1, .events = POLLIN},
		};

		if (poll(p, 2, 100) < 0 && errno != EINTR)
			break;
		if (p[1].revents)
			modified(t);
		if (p[0].revents) {
			t->exited = now_us() - t->start;
			wait4(pid, &t->status, 0, &t->usage);
		}
	}
}

static int watch_files(struct timer *t)
{
	if (!t->n_files)
		return 0;
	t->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	for (int i = 0; i < t->n_files; i++) {
		struct counter *c = &t->files[i];

		c->wd = t->watch < 0 ? -1 : inotify_add_watch(t->watch, c->file, IN_MODIFY);
		if (c->wd < 0) {
			perror(c->file);
			return -1;
		}
		contents(c->file, c->before, sizeof(c->before));
	}
	return 0;
}

static long tv_us(struct timeval tv)
{
	return tv.tv_sec * 1000000L + tv.tv_usec;
}

int main(int argc, char **argv)
{
	struct timer t = {.limit_us = 120 * 1000000L, .watch = -EBADF, .pidfd = -EBADF, .exited = -1};
	int c, total = 0, jobs = 1;

	while ((c = getopt(argc, argv, "+f:ge:t:n:j:")) != -1) {
		switch (c) {
		case 'f':
			if (t.n_files == FILES)
				return 2;
			t.files[t.n_files++] = (struct counter){.file = optarg, .first = -1};
			break;
		case 'g':
			t.gap = true;
			break;
		case 'e':
			t.err = optarg;
			break;
		case 't':
			t.limit_us = strtol(optarg, NULL, 10) * 1000000L;
			break;
		case 'n':
			total = (int)strtol(optarg, NULL, 10);
			break;
		case 'j':
			jobs = (int)strtol(optarg, NULL, 10);
			break;
		default:
			return 2;
		}
	}
	if (optind >= argc || (t.gap && !t.n_files)) {
		fprintf(stderr, "usage: timer [-f FILE... [-g]] [-e FILE] [-t SECONDS] [-n N [-j JOBS]] -- "
				"COMMAND...\n");
		return 2;
	}
	if (watch_files(&t) < 0)
		return 2;

	if (total) {
		many(&t, argv + optind, total, jobs);
	} else {
		pid_t pid = spawn_watched(&t, argv + optind);

		if (pid < 0)
			return 2;
		watch(&t, pid);
		if (t.exited < 0)
			kill(pid, SIGKILL); /* not reaped yet, so the pid is still its own */
	}

	printf("{\"rc\": %d, \"us\": %ld, \"prog_us\": %ld, \"gap_us\": %ld, \"user_us\": %ld, \"sys_us\": "
	       "%ld, \"maxrss_kb\": %ld}\n",
		t.exited < 0 ? -1 : exit_code(t.status), t.exited, all_first(&t),
		t.gap && all_first(&t) >= 0 ? all_longest(&t) : -1, tv_us(t.usage.ru_utime),
		tv_us(t.usage.ru_stime), t.usage.ru_maxrss);
	return 0;
}
