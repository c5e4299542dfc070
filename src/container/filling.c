/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is still on its way (restore --lazy). A file in the state directory is there as long as it is, locked by those who
 * fill it. The lock goes with its last holder, also if they are all killed at once: then the file says nothing, and the next
 * one who asks kills the container, whose program would take zeros for its memory.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fd.h"
#include "container/container-priv.h"

#define FILLING "filling"

int container_filling_begin(const struct container *c, int *ret, struct error *e)
{
	_cleanup_close_ int fd =
		openat(c->dir_fd, FILLING, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return error_errno(e, -errno, "state directory of %s", c->id);
	*ret = take_fd(&fd);
	return 0;
}

void container_filling_end(int dir_fd, int fd, const struct error *failure)
{
	if (failure)
		(void)!pwrite_all(fd, failure->message, strlen(failure->message), 0);
	else
		unlinkat(dir_fd, FILLING, 0);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

/* 1: the lock is free. */
static int wait_for_holders(int fd, int timeout_ms)
{
	int64_t end = timeout_ms < 0 ? INT64_MAX : now_ms() + timeout_ms;
	useconds_t pause = 100;

	while (flock(fd, LOCK_SH | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (now_ms() >= end)
			return 0;
		usleep(pause);
		pause = MIN(pause * 2, (useconds_t)10000);
	}
	return 1;
}

static int lost(struct container *c, int fd, struct error *e)
{
	error_set(e, -EIO, ERROR_SYSTEM,
		"the processes that filled the memory of container %s were killed: it has been killed",
		c->id);
	(void)!container_kill(c, SIGKILL, false, NULL);
	container_filling_end(c->dir_fd, fd, e);
	return e->code;
}

/* 1: it says nothing. */
static int said(int fd, struct error *e)
{
	char text[sizeof(e->message)];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 1;
	text[n] = '\0';
	return error_set(e, -EIO, ERROR_STATE, "%s", text);
}

int container_filling_failure(const struct container *c, struct error *e)
{
	_cleanup_close_ int fd = openat(c->dir_fd, FILLING, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 || said(fd, e) == 1 ? 0 : e->code;
}

int container_filling_wait(struct container *c, int timeout_ms, struct error *e)
{
	_cleanup_close_ int fd = openat(c->dir_fd, FILLING, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return errno == ENOENT ? 0 : error_errno(e, -errno, "state directory of %s", c->id);
	r = wait_for_holders(fd, timeout_ms);
	if (r == 0)
		return error_set(
			e, -ETIMEDOUT, ERROR_STATE, "the memory of container %s is not complete yet", c->id);
	if (r < 0 || fstat(fd, &st) < 0)
		return error_errno(e, r < 0 ? r : -errno, "state directory of %s", c->id);
	if (st.st_nlink == 0)
		return 0;
	r = said(fd, e);
	return r == 1 ? lost(c, fd, e) : error_prefix(e, "container %s was killed", c->id);
}
