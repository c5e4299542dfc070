/* SPDX-License-Identifier: Apache-2.0 */
/* ExecuteAsync and WaitPID. */
#include <errno.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "linux/procfd.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/server.h"

/* ExecuteAsync ------------------------------------------------------------------------------------------------------ */

/* What borrows from the parameters. */
struct request {
	const char **args, **env, **capabilities, **cgroups;
	gid_t *groups;
	struct spec *document; /* of "process" */
	struct spec_process *process;
	struct exec_options o;
};

static void request_done(struct request *q)
{
	free(q->args);
	free(q->env);
	free(q->capabilities);
	free(q->cgroups);
	free(q->groups);
	spec_free(q->document);
}

static int read_groups(struct call *c, struct exec_change *x, gid_t **ret, struct error *e)
{
	struct json_object *list = call_parameter(c, "groups");
	size_t n = list ? json_object_array_length(list) : 0;
	gid_t *all = calloc(n + 1, sizeof(*all));

	if (!all)
		return error_errno(e, -ENOMEM, "groups");
	*ret = all;
	for (size_t i = 0; i < n; i++) {
		int64_t gid = json_object_get_int64(json_object_array_get_idx(list, i));

		if (gid < 0 || gid >= UINT32_MAX)
			return call_invalid(c, "groups", e, "%lld is no group id", (long long)gid);
		all[i] = (gid_t)gid;
	}
	x->groups = all;
	x->n_groups = n;
	return 0;
}

static int process_of_document(struct call *c, struct json_object *o, struct request *q, struct error *e)
{
	static const char *const others[] = {
		"args", "cwd", "env", "user", "groups", "capabilities", "noNewPrivileges"};
	const char *text = json_object_to_json_string(o);
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (call_parameter(c, others[i]))
			return call_invalid(c, others[i], e, "\"process\" says that");
	r = text ? spec_parse_process(text, strlen(text), &q->document, e) : -ENOMEM;
	if (r < 0)
		return call_invalid(c, "process", e, "%s", e->message);
	q->process = q->document->process;
	if (call_bool(c, "terminal"))
		q->process->terminal = true;
	return 0;
}

static int process_of_arguments(struct call *c, struct container *k, struct request *q, struct error *e)
{
	struct exec_change x = {
		.cwd = call_string(c, "cwd"),
		.user = call_string(c, "user"),
		.no_new_privileges = call_bool(c, "noNewPrivileges"),
		.terminal = call_bool(c, "terminal") || call_string(c, "consoleSocket"),
	};
	size_t n;
	int r = call_strings(c, "args", &q->args, &n, e);

	if (r < 0)
		return r;
	if (!q->args)
		return call_invalid(c, "args", e, "is missing (or \"process\")");
	if (n == 0)
		return call_invalid(c, "args", e, "is empty: it begins with the program");
	x.args = (char **)q->args;
	r = call_strings(c, "env", &q->env, &x.n_env, e);
	if (r == 0)
		r = call_strings(c, "capabilities", &q->capabilities, &x.n_capabilities, e);
	if (r == 0)
		r = read_groups(c, &x, &q->groups, e);
	x.env = q->env;
	x.capabilities = q->capabilities;
	return r < 0 ? r : container_exec_process(k, &x, &q->process, e);
}

static int read_request(struct call *c, struct container *k, struct request *q, struct error *e)
{
	struct json_object *document = call_parameter(c, "process");
	struct call_stdio stdio;
	size_t n;
	int r = document ? process_of_document(c, document, q, e) : process_of_arguments(c, k, q, e);

	if (r == 0)
		r = call_strings(c, "cgroup", &q->cgroups, &n, e);
	if (r == 0)
		r = call_stdio(c, &stdio, e);
	if (r < 0)
		return r;
	if (stdio.console_fd >= 0 && !q->process->terminal)
		return call_invalid(c, "terminal", e, "the process has none");
	q->o = (struct exec_options){
		.process = q->process,
		.console_socket = stdio.console_socket,
		.console_fd = stdio.console_fd,
		.detach = true,
		.ignore_paused = call_bool(c, "ignorePaused"),
		.preserve_fds = stdio.preserve_fds,
		.cgroups = {q->cgroups, n},
	};
	return 0;
}

static int reply_pids(struct call *c, int inside, pid_t pid)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "pid", inside > 0 ? json_object_new_int(inside) : NULL);
	json_object_object_add(o, "hostPid", json_object_new_int(pid));
	return call_reply(c, o, false);
}

static int execute(struct call *c, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	_cleanup_(request_done) struct request q = {};
	_cleanup_close_ int pidfd = -EBADF;
	int inside, r;
	pid_t pid;

	r = call_container(c, call_string(c, "id"), false, &k, e);
	if (r == 0)
		r = read_request(c, k, &q, e);
	if (r == 0)
		r = container_exec(k, &q.o, &pid, &pidfd, e);
	if (r < 0)
		return r;
	/* we are its parent: it stays at least a zombie until we end */
	inside = MAX(container_pid_inside(k, pid), 0);
	if (call_keep_process(c, pid, inside, k->id) < 0)
		log_warning("the exit status of process %d of container %s will not be known", pid, k->id);
	return reply_pids(c, inside, pid);
}

/* WaitPID ----------------------------------------------------------------------------------------------------------- */

/* In a worker: any process of the container, whoever its parent is. */
static int wait_here(struct call *c, int64_t wanted, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	_cleanup_close_ int pidfd = -EBADF;
	int status = 0, r = call_container_named(c, false, &k, e);
	pid_t pid;

	if (r < 0)
		return r;
	r = container_find_process(k, (pid_t)wanted, &pid, &pidfd, e);
	if (r == -ESRCH)
		return call_no_process(c, k, wanted, e);
	if (r == 0)
		r = pidfd_wait_exit(pidfd, -1);
	if (r < 0)
		return e->code ? r : error_errno(e, r, "wait for process %lld", (long long)wanted);
	r = pidfd_exit_status(pidfd, &status);
	return call_reply_exit(c, k->id, r == 0, status);
}

static int wait_pid(struct call *c, struct error *e)
{
	const char *id = call_string(c, "id");
	int64_t pid = call_int(c, "pid", 0);
	struct process *p;
	struct member *m;
	int r;

	if (pid <= 0 || pid > INT32_MAX)
		return call_invalid(c, "pid", e, "%lld is no pid", (long long)pid);
	if (c->worker_socket >= 0)
		return wait_here(c, pid, e);
	r = call_no_fds(c, e);
	if (r == 0)
		r = supervisor_find(c->supervisor, id, &m, e);
	if (r == -ENOENT)
		return call_no_container(c, id, e);
	if (r < 0)
		return r;
	p = supervisor_find_process(c->supervisor, m->id, (int)pid);
	return p ? call_wait_process(c, m->id, p, e) : worker_start(c, e);
}

const struct method exec_methods[] = {
	{SANDBOX_INTERFACE, "ExecuteAsync", execute, METHOD_WORKER},
	{SANDBOX_INTERFACE, "WaitPID", wait_pid},
	{},
};
