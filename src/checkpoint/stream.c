/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams in the place of image directories: which descriptor is meant, and the process that reads one while the container
 * is made.
 */
#include "checkpoint/stream.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/engine.h"
#include "linux/confine.h"

int checkpoint_stream_fd(const char *path, int standard, int *ret, struct error *e)
{
	unsigned long n = standard;
	char *end = NULL;

	if (!path || (strcmp(path, "-") != 0 && strncmp(path, "fd:", 3) != 0))
		return 0;
	if (*path == 'f') {
		errno = 0;
		n = strtoul(path + 3, &end, 10);
		if (path[3] < '0' || path[3] > '9' || *end || errno || n > INT32_MAX)
			return error_set(e, -EINVAL, ERROR_USAGE,
				"--image-path %.40s: fd: and the number of a descriptor is needed (a "
				"directory of this "
				"name: ./%.40s)",
				path, path);
	}
	if (fcntl((int)n, F_GETFD) < 0)
		return error_set(
			e, -EBADF, ERROR_USAGE, "--image-path %s: descriptor %lu is not open", path, n);
	if (isatty((int)n))
		return error_set(e, -EINVAL, ERROR_USAGE,
			"--image-path %s: descriptor %lu is a terminal: an image goes through a pipe, or "
			"into a file",
			path, n);
	*ret = (int)n;
	return 1;
}

/* The direction is asked for, so that a mistake is seen before the container is stopped. */
static int check_direction(int fd, int wrong, const char *what, struct error *e)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return error_errno(e, -errno, "--image-path: descriptor %d", fd);
	if ((flags & O_ACCMODE) == wrong || (flags & O_PATH))
		return error_set(
			e, -EBADF, ERROR_USAGE, "--image-path: descriptor %d is not open for %s", fd, what);
	return 0;
}

int stream_target(const char *path, int *ret, struct error *e)
{
	int r = checkpoint_stream_fd(path, STDOUT_FILENO, ret, e), d;

	if (r <= 0)
		return r;
	d = check_direction(*ret, O_RDONLY, "writing", e);
	return d < 0 ? d : r;
}

/* Our own copy; the container must not inherit the other one, as its stdin or otherwise. */
static int take_over(int fd, int *ret, struct error *e)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), null;

	if (copy < 0)
		return error_errno(e, -errno, "image stream");
	if (fd <= STDERR_FILENO) {
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null < 0 || dup3(null, fd, 0) < 0) {
			close(copy);
			return error_errno(e, -errno, "/dev/null");
		}
		close(null);
	} else {
		close(fd);
	}
	*ret = copy;
	return 0;
}

int stream_source(const char *path, int *ret, struct error *e)
{
	int fd = -EBADF, r = checkpoint_stream_fd(path, STDIN_FILENO, &fd, e), d;

	if (r <= 0)
		return r;
	d = check_direction(fd, O_WRONLY, "reading", e);
	if (d == 0)
		d = take_over(fd, ret, e);
	return d < 0 ? d : r;
}

static _Noreturn void read_stream(struct image_feed *feed, int fd, bool outlives, pid_t parent)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), keep[IMAGE_FEED_FDS + 1];
	struct error e;
	sigset_t none;

	/* It has no other end than the stream's, or that of who wants it; and nothing of our caller's but the stream. */
	setsid();
	signal(SIGIO, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 0; i <= STDERR_FILENO && null >= 0; i++)
		dup2(null, i);
	prctl(PR_SET_NAME, "stasis-stream");
	if (!outlives)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	image_feed_forked(feed, true);
	if (getppid() != parent)
		_exit(1);
	/* What comes is a stranger's. */
	image_feed_fds(feed, keep);
	keep[IMAGE_FEED_FDS] = fd;
	fds_close_others(3, keep, ARRAY_SIZE(keep));
	if (confine_self(CONFINE_STREAM, &e) < 0)
		_exit(1);
	image_feed_run(feed, fd);
	_exit(0);
}

int stream_feed_start(struct stream_feed *s, int fd, bool outlives, struct error *e)
{
	pid_t parent = getpid();
	int r = image_feed_new(&s->feed, e);

	if (r < 0)
		return r;
	s->pid = fork();
	if (s->pid == 0)
		read_stream(s->feed, fd, outlives, parent);
	if (s->pid < 0)
		return error_errno(e, -errno, "fork");
	image_feed_forked(s->feed, false);
	return 0;
}

void stream_feed_stop(struct stream_feed *s)
{
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	s->pid = 0;
}

void stream_feed_release(struct stream_feed *s)
{
	s->pid = 0;
}

void stream_feed_done(struct stream_feed *s)
{
	stream_feed_stop(s);
	image_feed_free(s->feed);
	s->feed = NULL;
}
