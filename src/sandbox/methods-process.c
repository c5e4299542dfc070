/* SPDX-License-Identifier: Apache-2.0 */
/* Processes, Signal. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "linux/procfd.h"
#include "linux/procfs.h"
#include "sandbox/methods-priv.h"
#include "sandbox/methods.h"
#include "sandbox/sandbox.h"

enum { COMMAND_MAX = 64 << 10 };

/* Processes --------------------------------------------------------------------------------------------------------- */

static struct json_object *command_of(pid_t pid)
{
	struct json_object *list = json_object_new_array();
	_cleanup_free_ char *text = NULL;
	char path[64];
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	if (read_file_at(AT_FDCWD, path, COMMAND_MAX, &text, &len) < 0)
		return list;
	for (const char *s = text; s < text + len; s += strlen(s) + 1)
		json_object_array_add(list, json_object_new_string(s));
	return list;
}

static int64_t ticks_to_ms(unsigned long long ticks)
{
	static long hz;

	if (!hz)
		hz = sysconf(_SC_CLK_TCK);
	return (int64_t)(ticks * 1000 / (unsigned long long)hz);
}

static void add_int(struct json_object *o, const char *key, int64_t n)
{
	json_object_object_add(o, key, json_object_new_int64(n));
}

/* The parent's number is told only if it is the container's too: init's is somebody outside. */
static int64_t parent_of(const struct container *k, const struct proc_stat *st)
{
	int n = st->pid == k->init_pid ? 0 : container_pid_inside(k, st->ppid);

	return MAX(n, 0);
}

/* NULL: it has gone meanwhile. */
static struct json_object *describe(const struct container *k, pid_t pid)
{
	struct arena a = {};
	struct proc_stat st;
	struct proc_status status;
	struct json_object *o;
	int inside = container_pid_inside(k, pid), r = proc_read_stat(pid, &st);
	char state[2] = "";

	if (inside < 0 || r < 0)
		return NULL;
	r = proc_read_status(pid, pid, &a, &status);
	arena_done(&a);
	if (r < 0)
		return NULL;
	state[0] = st.state;
	o = json_object_new_object();
	json_add_string(o, "id", k->id);
	json_object_object_add(o, "pid", inside ? json_object_new_int(inside) : NULL);
	add_int(o, "hostPid", pid);
	add_int(o, "parent", parent_of(k, &st));
	add_int(o, "uid", status.uid[1]);
	add_int(o, "threads", st.num_threads);
	json_add_string(o, "state", state);
	add_int(o, "cpuTime", ticks_to_ms(st.cpu_time));
	add_int(o, "startTime", ticks_to_ms(st.start_time));
	json_add_string(o, "name", st.comm);
	json_object_object_add(o, "command", command_of(pid));
	return o;
}

static int add_processes(struct json_object *list, const struct container *k, struct error *e)
{
	_cleanup_free_ pid_t *pids = NULL;
	size_t n;
	int r = container_pids(k, false, &pids, &n, e);

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct json_object *o = describe(k, pids[i]);

		if (o)
			json_object_array_add(list, o);
	}
	return r;
}

static int add_all(struct call *c, struct json_object *list, struct error *e)
{
	_cleanup_(sandbox_free_p) struct sandbox *s = NULL;
	int r = sandbox_open(c->supervisor->root, c->supervisor->id, &s, e);

	if (r == -ENOENT)
		return 0;
	for (size_t i = 0; r == 0 && i < s->n_members; i++) {
		_cleanup_(container_free_p) struct container *k = NULL;

		r = container_load(s->root, s->members[i].id, false, &k, e);
		if (r == -ENOENT && e->kind == ERROR_STATE)
			r = 0; /* deleted meanwhile */
		else if (r == 0 && container_status(k) > CONTAINER_CREATING &&
			 container_status(k) < CONTAINER_STOPPED)
			r = add_processes(list, k, e);
	}
	return r;
}

static int processes(struct call *c, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	_cleanup_json_ struct json_object *list = json_object_new_array();
	struct json_object *o;
	int r;

	if (!call_string(c, "id")) {
		r = call_no_fds(c, e);
		if (r == 0)
			r = add_all(c, list, e);
	} else {
		r = call_container_named(c, false, &k, e);
		if (r == 0 && container_status(k) == CONTAINER_STOPPED)
			r = error_set(e, -ESRCH, ERROR_STATE, "container not running: %s is stopped", k->id);
		if (r == 0)
			r = add_processes(list, k, e);
	}
	if (r < 0)
		return r;
	o = json_object_new_object();
	json_object_object_add(o, "processes", take_ptr(list));
	return call_reply(c, o, false);
}

/* Signal ------------------------------------------------------------------------------------------------------------ */

int call_no_process(struct call *c, const struct container *k, int64_t pid, struct error *e)
{
	struct json_object *o = json_object_new_object();

	error_set(e, -ESRCH, ERROR_STATE, "there is no process %lld in container %s", (long long)pid, k->id);
	json_add_string(o, "id", k->id);
	add_int(o, "pid", pid);
	json_add_string(o, "message", e->message);
	(void)call_error(c, SANDBOX_INTERFACE ".ProcessNotFound", o);
	return -ESRCH;
}

static int signal_process(struct call *c, struct container *k, int sig, struct error *e)
{
	_cleanup_close_ int pidfd = -EBADF;
	int64_t wanted = call_int(c, "pid", 0);
	pid_t pid;
	int r;

	if (!call_parameter(c, "pid"))
		return container_kill(k, sig, false, e);
	r = container_find_process(k, (pid_t)wanted, &pid, &pidfd, e);
	if (r == -ESRCH && container_status(k) != CONTAINER_STOPPED)
		return call_no_process(c, k, wanted, e);
	if (r < 0)
		return r;
	if (pid == k->init_pid)
		return container_kill(k, sig, false, e);
	r = pidfd_kill(pidfd, sig);
	if (r == -ESRCH)
		return call_no_process(c, k, wanted, e);
	return r < 0 ? error_errno(e, r, "signal process %lld", (long long)wanted) : 0;
}

static int signal_foreground(struct call *c, struct container *k, int sig, struct error *e)
{
	_cleanup_close_ int pidfd = container_init_pidfd(k);
	pid_t pid = k->init_pid;
	int r = 0;

	if (pidfd < 0)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running");
	if (call_parameter(c, "pid")) {
		close_p(&pidfd);
		r = container_find_process(k, (pid_t)call_int(c, "pid", 0), &pid, &pidfd, e);
		if (r == -ESRCH)
			return call_no_process(c, k, call_int(c, "pid", 0), e);
	}
	return r < 0 ? r : container_kill_foreground(k, pid, sig, e);
}

static int check_arguments(struct call *c, const char *mode, struct error *e)
{
	int64_t sig = call_int(c, "signal", -1), pid = call_int(c, "pid", 1);

	if (sig < 0 || sig > SIGRTMAX)
		return call_invalid(c, "signal", e, "%lld is no signal (0 to %d)", (long long)sig, SIGRTMAX);
	if (pid <= 0 || pid > INT32_MAX)
		return call_invalid(c, "pid", e, "%lld is no pid", (long long)pid);
	if (!strcmp(mode, "all") && call_parameter(c, "pid"))
		return call_invalid(c, "pid", e, "with mode \"all\" there is no process to be named");
	return 0;
}

static int signal_(struct call *c, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	const char *mode = call_string(c, "mode");
	int sig = (int)call_int(c, "signal", -1), r;

	if (!mode)
		mode = "process";
	r = check_arguments(c, mode, e);
	if (r == 0)
		r = call_container_named(c, false, &k, e);
	if (r < 0)
		return r;
	if (container_status(k) == CONTAINER_STOPPED)
		return error_set(e, -ESRCH, ERROR_STATE, "container not running: %s is stopped", k->id);
	if (!strcmp(mode, "all"))
		r = container_kill(k, sig, true, e);
	else if (!strcmp(mode, "foreground"))
		r = signal_foreground(c, k, sig, e);
	else
		r = signal_process(c, k, sig, e);
	return r < 0 ? r : call_reply(c, NULL, false);
}

const struct method process_methods[] = {
	{SANDBOX_INTERFACE, "Processes", processes, METHOD_WORKER},
	{SANDBOX_INTERFACE, "Signal", signal_, METHOD_WORKER},
	{},
};
