/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks: programs that get the container's state as JSON on stdin. They run in the namespaces of whoever calls
 * hooks_run(): the runtime's, or init's for createContainer and startContainer. One that fails, or takes longer than
 * its timeout, ends the operation (poststop: only a warning, as the runtime-spec says).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/log.h"
#include "container/container-priv.h"
#include "linux/clone.h"
#include "linux/procfd.h"

static const char *const hook_names[HOOK_COUNT] = {
	[HOOK_PRESTART] = "prestart",
	[HOOK_CREATE_RUNTIME] = "createRuntime",
	[HOOK_CREATE_CONTAINER] = "createContainer",
	[HOOK_START_CONTAINER] = "startContainer",
	[HOOK_POSTSTART] = "poststart",
	[HOOK_POSTSTOP] = "poststop",
};

/* The state goes in, and what a hook says comes out, through memfds: a hook that never reads or never ends a line can't
 * block us, and its output is neither the caller's nor the container's. */
static int memory_fd(const char *text)
{
	int fd = memfd_create("hook", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (write_all(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
		close(fd);
		return -EIO;
	}
	return fd;
}

/* What the hooks of one type have in common. */
struct surroundings {
	const char *state; /* JSON */
	const char
		*cwd; /* as with runc: the bundle, or for createContainer the root file system; NULL: leave */
	char **env;   /* of a hook that has none of its own */
	int interrupt_fd;
};

static _Noreturn void exec_hook(
	const struct spec_hook *h, const struct surroundings *around, int stdin_fd, int output_fd)
{
	char *args[] = {(char *)h->path, NULL};

	process_reset_signals();
	if (around->cwd && chdir(around->cwd) < 0)
		(void)!chdir("/"); /* a bundle may be gone before its container is */
	if (dup2(stdin_fd, STDIN_FILENO) >= 0 && dup2(output_fd, STDOUT_FILENO) >= 0 &&
		dup2(output_fd, STDERR_FILENO) >= 0 && close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		execve(h->path, h->args && h->args[0] ? h->args : args, h->env ? h->env : around->env);
	dprintf(STDERR_FILENO, "exec hook %s: %s", h->path, error_text(-errno).s);
	_exit(127);
}

/* ": " and the beginning of what it said, if it said something. */
static void what_it_said(int output_fd, char *buf, size_t size)
{
	ssize_t n = pread(output_fd, buf + 2, size - 3, 0);

	while (n > 0 && (buf[n + 1] == '\n' || buf[n + 1] == ' '))
		n--;
	memcpy(buf, ": ", 2);
	buf[n > 0 ? n + 2 : 0] = '\0';
}

static int run_one(const struct spec_hook *h, const struct surroundings *around, struct error *e)
{
	_cleanup_close_ int in = memory_fd(around->state), output = memory_fd(""), pidfd = -EBADF;
	char said[300];
	int r, status;
	pid_t pid;

	if (in < 0 || output < 0)
		return error_errno(e, in < 0 ? in : output, "hook %s", h->path);
	pid = clone_fork(0, -EBADF, &pidfd);
	if (pid < 0)
		return error_errno(e, pid, "fork for hook %s", h->path);
	if (pid == 0)
		exec_hook(h, around, in, output);
	r = interrupt_wait(
		around->interrupt_fd, pidfd, h->timeout > 0 ? MIN(h->timeout, 2000000) * 1000 : -1);
	if (r <= 0)
		(void)!pidfd_kill(pidfd, SIGKILL);
	if (pidfd_reap(pidfd, &status) < 0)
		status = 0;
	if (r == -EINTR)
		return interrupt_error(e);
	if (r < 0)
		return error_errno(e, r, "wait for hook %s", h->path);
	if (r == 0)
		return error_set(e, -ETIMEDOUT, ERROR_SYSTEM, "hook %s ran past its timeout of %d s", h->path,
			h->timeout);
	what_it_said(output, said, sizeof(said));
	if (WIFSIGNALED(status))
		return error_set(e, -EIO, ERROR_SYSTEM, "hook %s: killed by signal %d%s", h->path,
			WTERMSIG(status), said);
	if (WEXITSTATUS(status) != 0)
		return error_set(e, -EIO, ERROR_SYSTEM, "hook %s: exit status %d%s", h->path,
			WEXITSTATUS(status), said);
	return 0;
}

struct oci_state container_oci_state(
	const struct container *c, const struct spec *s, enum container_status status, pid_t pid)
{
	return (struct oci_state){
		.oci_version = s->oci_version,
		.id = c->id,
		.status = container_status_name(status),
		.bundle = c->bundle,
		.pid = pid,
		.annotations = s->annotations,
		.n_annotations = s->n_annotations,
	};
}

int hooks_run(const struct spec *s, const struct container *c, enum hook_type type,
	enum container_status status, pid_t pid, struct error *e)
{
	/* the caller's environment is no business of what runs in the container */
	bool inside = type == HOOK_CREATE_CONTAINER || type == HOOK_START_CONTAINER;
	struct oci_state state = container_oci_state(c, s, status, pid);
	const struct spec_hook_list *list = &s->hooks[type];
	_cleanup_free_ char *json = NULL;
	struct surroundings around = {
		.cwd = type == HOOK_CREATE_CONTAINER ? s->rootfs
		       : inside			     ? NULL
						     : c->bundle,
		.env = inside ? (char *[]){NULL} : environ,
		.interrupt_fd = c->interrupt_fd,
	};
	int r;

	if (list->n == 0)
		return 0;
	r = oci_state_json(&state, false, &json);
	if (r < 0)
		return error_errno(e, r, "state for the hooks");
	around.state = json;
	for (size_t i = 0; i < list->n; i++) {
		struct error one;

		r = run_one(&list->hooks[i], &around, &one);
		if (r == 0)
			continue;
		if (type == HOOK_POSTSTOP) {
			log_warning("error running %s hook #%zu: %s", hook_names[type], i, one.message);
			continue;
		}
		if (e)
			*e = one;
		return error_prefix(e, "error running %s hook #%zu", hook_names[type], i);
	}
	return 0;
}

int container_run_hooks(struct container *c, enum hook_type type, struct error *e)
{
	enum container_status status = type == HOOK_POSTSTOP ? CONTAINER_STOPPED : container_status(c);
	int r = container_load_spec(c, e);

	return r < 0 ? r
		     : hooks_run(c->spec, c, type, status, status == CONTAINER_STOPPED ? 0 : c->init_pid, e);
}
