/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that the annotations io.stasis.hooks.* have run in the container: before its state is saved, after that when it goes
 * on, and when it has been restored. They are processes as exec makes them, with /dev/null as stdin and what they print in our
 * error if they fail. Their session is their own, so that none of it is left when their time is over.
 */
#include "checkpoint/application.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>

#include "base/arena.h"
#include "base/fault.h"
#include "base/fd.h"

static const char *const modes[APPLICATION_HOOKS] = {"save", "resume", "restore"};

struct hook {
	struct container *c;
	const char *mode, *result;
	char **args;
	unsigned timeout;
	int output; /* what it prints; not blocking */
	int told;   /* signalfd: we are to end */
	pid_t pid;
	int pidfd;
	char said[300];
	size_t n_said;
};

static int prepare_environment(struct hook *h, struct arena *a, char ***ret)
{
	char *const *old = h->c->spec->process->env;
	size_t n = 0;
	char **env;

	while (old && old[n])
		n++;
	env = arena_array(a, n + 5, sizeof(*env));
	if (!env)
		return -ENOMEM;
	/* Of two with one name the first counts. */
	env[0] = arena_printf(a, "STASIS_MODE=%s", h->mode);
	env[1] = arena_printf(a, "STASIS_CONTAINER=%s", h->c->id);
	env[2] = arena_printf(a, "STASIS_GENERATION=%llu", (unsigned long long)h->c->generation);
	env[3] = arena_printf(a, "STASIS_RESULT=%s", h->result ? h->result : "");
	if (!env[0] || !env[1] || !env[2] || !env[3])
		return -ENOMEM;
	if (n)
		memcpy(env + 4, old, n * sizeof(*env));
	*ret = env;
	return 0;
}

static int start(struct hook *h, struct error *e)
{
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC), theirs = -EBADF;
	_cleanup_(arena_done) struct arena a = {};
	struct spec_process p = *h->c->spec->process;
	int ends[2], r;

	if (null < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(e, -errno, "prepare it");
	h->output = ends[0];
	theirs = ends[1];
	if (fcntl(h->output, F_SETFL, O_NONBLOCK) < 0)
		return error_errno(e, -errno, "prepare it");
	p.args = h->args;
	p.terminal = false;
	r = prepare_environment(h, &a, &p.env);
	if (r < 0)
		return error_errno(e, r, "its environment");
	return container_exec(h->c,
		&(struct exec_options){.process = &p,
			.detach = true,
			.stdio = (int[]){null, theirs, theirs},
			.dies_with_caller = true},
		&h->pid, &h->pidfd, e);
}

/* Keeps the beginning, for the error. Nobody must wait because we do not read. */
static void listen_to(struct hook *h)
{
	char rest[4096];
	ssize_t n;

	for (int i = 0; i < 256; i++) {
		bool keep = h->n_said < sizeof(h->said) - 1;

		n = keep ? read(h->output, h->said + h->n_said, sizeof(h->said) - 1 - h->n_said)
			 : read(h->output, rest, sizeof(rest));
		if (n == 0)
			close_p(&h->output);
		if (n <= 0)
			return;
		h->n_said += keep ? n : 0;
	}
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
}

/* 0: it has ended. */
static int wait_for_end(struct hook *h, struct error *e)
{
	int64_t end = now_ms() + h->timeout * 1000ll, left;

	while ((left = end - now_ms()) > 0) {
		struct pollfd p[] = {
			{.fd = h->pidfd, .events = POLLIN},
			{.fd = h->told, .events = POLLIN},
			{.fd = h->output, .events = POLLIN},
		};
		struct signalfd_siginfo info;

		if (poll(p, ARRAY_SIZE(p), MIN(left, INT32_MAX)) < 0 && errno != EINTR)
			return error_errno(e, -errno, "wait for it");
		if (p[2].revents)
			listen_to(h);
		if (p[0].revents)
			return 0;
		if (p[1].revents && read(h->told, &info, sizeof(info)) == sizeof(info))
			return error_set(
				e, -ECANCELED, ERROR_SYSTEM, "interrupted by signal %u", info.ssi_signo);
	}
	return error_set(e, -ETIMEDOUT, ERROR_SYSTEM, "it took longer than %u s", h->timeout);
}

/* Also what it has started, unless that has made itself independent. The pid is ours as long as it is not reaped. */
static int reap(struct hook *h, int result, struct error *e)
{
	int status;

	if (result < 0)
		kill(-h->pid, SIGKILL);
	if (result < 0)
		kill(h->pid, SIGKILL);
	while (waitpid(h->pid, &status, 0) < 0)
		if (errno != EINTR)
			return result < 0 ? result : error_errno(e, -errno, "wait for it");
	if (result < 0)
		return result;
	if (h->output >= 0)
		listen_to(h);
	while (h->n_said && strchr("\n \t", h->said[h->n_said - 1]))
		h->n_said--;
	h->said[h->n_said] = '\0';
	for (char *p = h->said; *p; p++)
		if ((unsigned char)*p < ' ' || (unsigned char)*p >= 127)
			*p = *p == '\n' ? ' ' : '?'; /* a container's words, on somebody's terminal */
	if (WIFSIGNALED(status))
		return error_set(e, -EIO, ERROR_SYSTEM, "killed by signal %d%s%s", WTERMSIG(status),
			h->n_said ? ": " : "", h->said);
	if (WEXITSTATUS(status) != 0)
		return error_set(e, -EIO, ERROR_SYSTEM, "exit status %d%s%s", WEXITSTATUS(status),
			h->n_said ? ": " : "", h->said);
	return 0;
}

static int run(struct hook *h, struct error *e)
{
	int r = start(h, e);

	if (r == 0) {
		r = wait_for_end(h, e);
		r = reap(h, r, e);
	}
	close_p(&h->pidfd);
	close_p(&h->output);
	return r < 0 ? error_prefix(e, "%s hook %.200s", h->mode, h->args[0]) : 0;
}

static int run_told(struct hook *h, struct error *e)
{
	sigset_t mask, old;
	int r;

	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGQUIT);
	sigprocmask(SIG_BLOCK, &mask, &old);
	h->told = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	r = h->told < 0 ? error_errno(e, -errno, "signalfd") : run(h, e);
	close_p(&h->told);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return r;
}

int application_hook(struct container *c, enum application_hook which, const char *result, struct error *e)
{
	_cleanup_(arena_done) struct arena arena = {};
	struct application a;
	struct hook h = {.c = c,
		.mode = modes[which],
		.result = result,
		.output = -EBADF,
		.told = -EBADF,
		.pidfd = -EBADF};
	int r = container_load_spec(c, e);

	if (r == 0)
		r = container_application(c->spec, &arena, &a, e);
	if (r < 0)
		return r;
	h.args = a.hooks[which];
	h.timeout = a.timeout;
	if (!h.args || !c->spec->process)
		return 1;
	if (container_status(c) == CONTAINER_PAUSED)
		return error_set(e, -EBUSY, ERROR_STATE,
			"the container is paused, and its %s hook could not run: resume it first", h.mode);
	return run_told(&h, e);
}

static bool has_hooks(struct container *c)
{
	_cleanup_(arena_done) struct arena arena = {};
	struct application a;
	struct error ignored;

	return container_load_spec(c, &ignored) == 0 &&
	       container_application(c->spec, &arena, &a, &ignored) == 0 &&
	       (a.hooks[APPLICATION_SAVE] || a.hooks[APPLICATION_RESUME]);
}

void application_hold(struct application_hold *h, struct container *c)
{
	sigset_t mask;

	if (h->held || !has_hooks(c))
		return;
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	h->held = sigprocmask(SIG_BLOCK, &mask, &h->old) == 0;
}

void application_release(struct application_hold *h)
{
	if (h->held)
		sigprocmask(SIG_SETMASK, &h->old, NULL);
	h->held = false;
}

int application_save(struct container *c, bool *ret_saved, struct error *e)
{
	int r = application_hook(c, APPLICATION_SAVE, NULL, e);

	/* One that could not begin, as in a paused container, has nothing to be undone; else who knows how far it came. */
	*ret_saved = r != -EBUSY;
	if (r >= 0)
		r = fault_point("checkpoint-saved", e);
	return MIN(r, 0);
}

int application_resume(struct container *c, bool saved, int result, struct error *e)
{
	struct error why;
	size_t n;
	int r;

	if (!saved)
		return result;
	r = application_hook(c, APPLICATION_RESUME, result < 0 ? "failed" : "done", &why);
	if (r >= 0)
		return result;
	if (result == 0) {
		*e = why;
		return r;
	}
	n = strlen(e->message);
	snprintf(e->message + n, sizeof(e->message) - n, "; then its %.300s", why.message);
	return result;
}
