/* SPDX-License-Identifier: Apache-2.0 */
/* How commands come to a supervisor: a connection to the one that there is, or a new one, started and left alone. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fd.h"
#include "sandbox/sandbox.h"
#include "sandbox/supervisor-priv.h"

enum { START_MS = 10000, AGAIN_MS = 200 };

static int connect_to(int dir_fd, int flags)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (fd < 0)
		return -errno;
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" CONTAINER_CONTROL_SOCKET, dir_fd);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return take_fd(&fd);
}

bool sandbox_is_served(int dir_fd)
{
	/* -EAGAIN: so many wait already that it would block; it is not for us to wait for it */
	int fd = connect_to(dir_fd, SOCK_NONBLOCK);
	bool served = fd >= 0 || fd == -EAGAIN;

	close_p(&fd);
	return served;
}

struct start {
	const char *root, *sandbox;
	int null;
};

/* In memory that is the caller's, who waits until our exec: nothing is changed in it. (What the sanitizer notes of a frame would
 * stay, as this one never returns.) */
__attribute__((no_sanitize("address"))) static int start_main(void *arg)
{
	const struct start *s = arg;
	char *argv[] = {
		"stasis", "--root", (char *)s->root, "sandbox", "--detached", (char *)s->sandbox, NULL};
	sigset_t none;

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(s->null, STDIN_FILENO) < 0 || dup2(s->null, STDOUT_FILENO) < 0 ||
		dup2(s->null, STDERR_FILENO) < 0 || close_range(STDERR_FILENO + 1, ~0U, 0) < 0 ||
		chdir("/") < 0)
		_exit(127);
	execv("/proc/self/exe", argv);
	_exit(127);
}

/* A child that shares our memory until its exec: a fork would copy page tables only to drop them. */
static int start(const char *root, const char *sandbox, struct error *e)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	_Alignas(16) char stack[16384];
	struct start s = {root, sandbox, null};

	if (null < 0)
		return error_errno(e, -errno, "/dev/null");
	if (clone(start_main, stack + sizeof(stack), CLONE_VM | CLONE_VFORK, &s) < 0)
		return error_errno(e, -errno, "start the supervisor of the sandbox %s", sandbox);
	return 0;
}

int sandbox_ensure(const char *root, const char *sandbox, struct error *e)
{
	_cleanup_close_ int dir = container_open_sandbox(root, sandbox, false);

	if (dir < 0)
		return error_errno(e, dir, "open the sandbox %s", sandbox);
	return sandbox_is_served(dir) ? 0 : start(root, sandbox, e);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

int sandbox_connect(const char *root, const char *sandbox, bool make, struct error *e)
{
	int64_t end = now_ms() + START_MS, again = 0;

	if (container_id_check(sandbox, e) < 0)
		return error_prefix(e, "sandbox");
	for (;;) {
		_cleanup_close_ int dir = container_open_sandbox(root, sandbox, make);
		int fd = dir < 0 ? dir : connect_to(dir, 0);

		if (fd >= 0)
			return fd;
		if (dir == -ENOENT && !make) /* else another one has just ended, and taken it away */
			return error_set(e, dir, ERROR_STATE, "sandbox does not exist: %s", sandbox);
		if (fd != -ENOENT && fd != -ECONNREFUSED)
			return error_errno(e, fd, "connect to the sandbox %s", sandbox);
		if (now_ms() > end)
			return error_set(e, -ETIMEDOUT, ERROR_SYSTEM,
				"the supervisor of the sandbox %s does not come up", sandbox);
		/* One that comes while another one takes the directory away ends at once. */
		if (now_ms() >= again) {
			if (start(root, sandbox, e) < 0)
				return e->code;
			again = now_ms() + AGAIN_MS;
		}
		usleep(500);
	}
}
