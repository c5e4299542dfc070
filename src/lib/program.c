/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program "stasis", working for the library: started by posix_spawn (safe in a program with threads), with the log as
 * JSON in a memfd, from which its error is read back.
 */
#include <json-c/json.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "lib/lib-priv.h"

extern char **environ;

enum {
	LOG_FD = 3,	     /* in the program */
	OUT_OF_THE_WAY = 10, /* descriptors that are put on 0 to 3 are above them first */
	OUTPUT_MAX = 16 << 20,
};

void program_add(struct program *p, const char *arg)
{
	if (p->n + 1 < ARRAY_SIZE(p->args))
		p->args[p->n++] = arg;
	else
		p->too_many = true;
}

void program_add_option(struct program *p, const char *name, const char *value)
{
	if (!value)
		return;
	program_add(p, name);
	program_add(p, value);
}

void program_add_flag(struct program *p, const char *name, bool on)
{
	if (on)
		program_add(p, name);
}

/* Descriptors of ours for the program's 0 to 3; -EBADF: /dev/null. */
struct plan {
	int fds[LOG_FD + 1];
	int output; /* the memfd of its stdout, for us; -EBADF: none */
};

static void plan_done(struct plan *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->fds); i++)
		close_p(&p->fds[i]);
	close_p(&p->output);
}

static int high_memfd(const char *text)
{
	_cleanup_close_ int fd = memfd_create("stasis", MFD_CLOEXEC);
	int high;

	if (fd < 0)
		return -errno;
	if (text && (write_all(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_SET) < 0))
		return -EIO;
	high = fcntl(fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	return high < 0 ? -errno : high;
}

static int plan_stdio(const struct program *p, int i)
{
	static const int ours[] = {0, 1, 2};
	int fd;

	if (i == 0 && p->input)
		return high_memfd(p->input);
	if (i == 1 && p->ret_output)
		return high_memfd(NULL);
	fd = (p->stdio ? p->stdio : ours)[i];
	if (fd < 0 || (!p->stdio && fcntl(fd, F_GETFD) < 0)) /* ours may be closed */
		return -EBADF;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
	return fd < 0 ? -errno : fd;
}

static int plan_make(const struct program *p, struct plan *plan, struct error *e)
{
	for (int i = 0; i < 3; i++) {
		plan->fds[i] = plan_stdio(p, i);
		if (plan->fds[i] < 0 && (plan->fds[i] != -EBADF || (p->stdio && p->stdio[i] >= 0)))
			return error_errno(e, plan->fds[i], "descriptor %d for stdio", i);
	}
	plan->fds[LOG_FD] = high_memfd(NULL);
	if (plan->fds[LOG_FD] < 0)
		return error_errno(e, plan->fds[LOG_FD], "memfd for the log");
	if (p->ret_output) {
		plan->output = fcntl(plan->fds[1], F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
		if (plan->output < 0)
			return error_errno(e, -errno, "memfd for the output");
	}
	return 0;
}

static int spawn(const struct program *p, const struct plan *plan, pid_t *ret_pid, struct error *e)
{
	const char *argv[ARRAY_SIZE(p->args) + 10] = {
		p->s->program, "--root", p->s->root, "--log", "/proc/self/fd/3", "--log-format", "json"};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	size_t n = 7;
	int r;

	if (p->s->systemd_cgroup)
		argv[n++] = "--systemd-cgroup";
	memcpy(argv + n, p->args, p->n * sizeof(*argv));

	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawn_file_actions_init(&actions);
	for (int i = 0; i <= LOG_FD; i++)
		if (plan->fds[i] >= 0)
			posix_spawn_file_actions_adddup2(&actions, plan->fds[i], i);
		else
			posix_spawn_file_actions_addopen(&actions, i, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_addclosefrom_np(&actions, LOG_FD + 1);
	r = posix_spawn(ret_pid, p->s->program, &actions, &attr, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return r ? error_errno(e, -r, "run %s", p->s->program) : 0;
}

static const char *member(struct json_object *o, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(o, name, &value) ? json_object_get_string(value) : NULL;
}

static enum error_kind kind_from(const char *name)
{
	for (enum error_kind k = ERROR_SYSTEM; name && k <= ERROR_INTERNAL; k++)
		if (!strcmp(name, error_kind_name(k)))
			return k;
	return ERROR_SYSTEM;
}

/* The last error in the log; 0: there is none. */
static int logged_error(char *log, struct error *e)
{
	int r = 0;

	for (char *line, *rest = log; (line = strsep(&rest, "\n"));) {
		struct json_object *o = json_tokener_parse(line), *number;
		const char *level = o ? member(o, "level") : NULL, *message = o ? member(o, "msg") : NULL;

		if (level && message && !strcmp(level, "error")) {
			r = json_object_object_get_ex(o, "errno", &number) ? -json_object_get_int(number) : 0;
			r = error_set(e, r < 0 ? r : -EIO, kind_from(member(o, "kind")), "%s", message);
		}
		json_object_put(o);
	}
	return r;
}

static int read_back(int fd, char **ret)
{
	size_t len;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return read_fd(fd, OUTPUT_MAX, ret, &len);
}

static int finish(const struct program *p, const struct plan *plan, int status, struct error *e)
{
	_cleanup_free_ char *log = NULL;
	int r = read_back(plan->fds[LOG_FD], &log);

	if (r == 0 && status != 0)
		r = logged_error(log, e);
	else if (r < 0)
		error_errno(e, r, "the log of %s", p->s->program);
	if (r < 0)
		return r;
	if (!WIFEXITED(status))
		return error_set(e, -EIO, ERROR_INTERNAL, "%s was killed by signal %d", p->s->program,
			WTERMSIG(status));
	if (p->ret_output) {
		r = read_back(plan->output, p->ret_output);
		if (r < 0)
			return error_errno(e, r, "the output of %s", p->s->program);
	}
	return WEXITSTATUS(status);
}

int program_run(const struct program *p, struct error *e)
{
	_cleanup_(plan_done) struct plan plan = {{-EBADF, -EBADF, -EBADF, -EBADF}, -EBADF};
	int r, status;
	pid_t pid;

	if (p->too_many)
		return error_errno(e, -E2BIG, "arguments for %s", p->s->program);
	r = plan_make(p, &plan, e);
	if (r == 0)
		r = spawn(p, &plan, &pid, e);
	if (r < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_errno(e, -errno, "wait for %s (is SIGCHLD ignored?)", p->s->program);
	return finish(p, &plan, status, e);
}
