/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/methods-priv.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "sandbox/sandbox.h"

enum { OUT_OF_THE_WAY = 200 }; /* as worker.c has it */

int call_no_container(struct call *c, const char *id, struct error *e)
{
	struct json_object *o = json_object_new_object();

	error_set(e, -ENOENT, ERROR_STATE, "container does not exist in the sandbox %s: %s",
		c->supervisor->id, id);
	json_add_string(o, "id", id);
	json_add_string(o, "message", e->message);
	(void)call_error(c, SANDBOX_INTERFACE ".ContainerNotFound", o);
	return -ENOENT;
}

int call_bad_fds(struct call *c, struct error *e, const char *format, ...)
{
	struct json_object *o = json_object_new_object();
	char message[300];
	va_list ap;

	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	json_object_object_add(o, "received", json_object_new_int(c->n_fds));
	json_add_string(o, "message", message);
	(void)call_error(c, SANDBOX_INTERFACE ".InvalidDescriptors", o);
	return error_set(e, -EINVAL, ERROR_USAGE, "%s", message);
}

static bool is_stopped(const char *root, const char *id)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	struct error ignored;

	return container_load(root, id, false, &k, &ignored) < 0 || container_status(k) == CONTAINER_STOPPED;
}

/* The id of a member that is called so (of several at most one has not stopped); NULL: none. */
static char *id_of_name(const struct supervisor *s, const char *name)
{
	_cleanup_(sandbox_free_p) struct sandbox *all = NULL;
	const char *found = NULL;

	if (sandbox_open(s->root, s->id, &all, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < all->n_members; i++)
		if (!strcmp(all->members[i].name, name) && (!found || is_stopped(s->root, found)))
			found = all->members[i].id;
	return found ? strdup(found) : NULL;
}

static bool is_ours(const struct call *c, const struct container *k)
{
	return k->sandbox && !strcmp(k->sandbox, c->supervisor->id);
}

/* -ENOENT: there is none of this id in the sandbox. */
static int load_ours(struct call *c, const char *id, bool lock, struct container **ret, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	int r = container_load(c->supervisor->root, id, lock, &k, e);

	if (r < 0)
		return r;
	if (!is_ours(c, k))
		return -ENOENT;
	*ret = take_ptr(k);
	return 0;
}

int call_member(struct call *c, const char *id, bool lock, struct container **ret, struct error *e)
{
	_cleanup_free_ char *by_name = NULL;
	int r = container_id_check(id, e);

	if (r < 0)
		return call_invalid(c, "id", e, "%s", e->message);
	r = load_ours(c, id, lock, ret, e);
	if (r == -ENOENT) {
		by_name = id_of_name(c->supervisor, id);
		r = by_name ? load_ours(c, by_name, lock, ret, e) : r;
	}
	return r == -ENOENT ? call_no_container(c, id, e) : r;
}

int call_container(struct call *c, const char *id, bool lock, struct container **ret, struct error *e)
{
	_cleanup_(container_free_p) struct container *k = NULL;
	int r = call_member(c, id, false, &k, e);

	if (r < 0)
		return r;
	/* whoever makes it has the lock, perhaps for minutes */
	if (container_status(k) == CONTAINER_CREATING)
		return error_set(e, -EBUSY, ERROR_STATE,
			"container %s is still being created or restored (or that was interrupted: then "
			"delete it)",
			id);
	if (!lock) {
		*ret = take_ptr(k);
		return 0;
	}
	return call_member(c, id, true, ret, e);
}

int call_container_named(struct call *c, bool lock, struct container **ret, struct error *e)
{
	int r = call_no_fds(c, e);

	return r < 0 ? r : call_container(c, call_string(c, "id"), lock, ret, e);
}

void call_finish(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

int call_no_fds(struct call *c, struct error *e)
{
	return c->n_fds == 0 ? 0
			     : call_bad_fds(c, e, "%s takes no descriptors, and %d came", c->method->name,
				       c->n_fds);
}

int call_path(struct call *c, const char *name, const char **ret, struct error *e)
{
	const char *s = call_string(c, name);

	if (s && *s != '/')
		/* the supervisor's directory is not the client's */
		return call_invalid(c, name, e, "\"%s\" is no absolute path", s);
	*ret = s;
	return 0;
}

int call_cgroup_manager(struct call *c, enum cgroup_manager *ret, struct error *e)
{
	const char *s = call_string(c, "cgroupManager");

	if (!s || !strcmp(s, "cgroupfs"))
		*ret = CGROUP_FS;
	else if (!strcmp(s, "systemd"))
		*ret = CGROUP_SYSTEMD;
	else if (!strcmp(s, "disabled"))
		*ret = CGROUP_DISABLED;
	else
		return call_invalid(c, "cgroupManager", e,
			"unknown cgroup manager \"%s\": cgroupfs, systemd or disabled", s);
	return 0;
}

int call_strings(struct call *c, const char *name, const char ***ret, size_t *ret_n, struct error *e)
{
	struct json_object *list = call_parameter(c, name);
	size_t n = list ? json_object_array_length(list) : 0;
	const char **all = list ? calloc(n + 1, sizeof(*all)) : NULL;

	if (list && !all)
		return error_errno(e, -ENOMEM, "%s", name);
	for (size_t i = 0; i < n; i++)
		all[i] = json_object_get_string(json_object_array_get_idx(list, i));
	*ret = all;
	*ret_n = n;
	return 0;
}

/* Descriptors ------------------------------------------------------------------------------------------------------- */

static bool is_unix_socket(int fd)
{
	int domain, type;
	socklen_t size = sizeof(domain), type_size = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 && type == SOCK_STREAM;
}

static int place(int fd, int number, struct error *e)
{
	return dup2(fd, number) < 0 ? error_errno(e, -errno, "descriptor %d", number) : 0;
}

static int place_null(struct error *e)
{
	_cleanup_close_ int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int r = fd < 0 ? error_errno(e, -errno, "open /dev/null") : 0;

	for (int i = 0; i < 3 && r == 0; i++)
		r = place(fd, i, e);
	return r;
}

/* What we log is not the container's to read. */
static int move_log(struct error *e)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);

	if (fd < 0)
		return error_errno(e, -errno, "log");
	log_setup(fd, LOG_FORMAT_TEXT, log_max_level());
	return 0;
}

int call_stdio(struct call *c, struct call_stdio *ret, struct error *e)
{
	bool passed = call_bool(c, "terminal"), terminal;
	int n = c->n_fds, first, r;

	*ret = (struct call_stdio){.console_fd = -EBADF};
	r = call_path(c, "consoleSocket", &ret->console_socket, e);
	if (r < 0)
		return r;
	terminal = passed || ret->console_socket;
	if (passed && ret->console_socket)
		return call_invalid(c, "consoleSocket", e,
			"either this, or (with \"terminal\") a descriptor of the message gets the terminal");
	if (passed && (n == 0 || !is_unix_socket(c->fds[n - 1])))
		return call_bad_fds(c, e,
			"with a terminal the last descriptor is a connected unix socket, which gets its "
			"master");
	if (passed)
		ret->console_fd = c->fds[--n];
	if (!terminal && n > 0 && n < 3)
		return call_bad_fds(c, e, "either none, or stdin, stdout and stderr are needed: %d came", n);
	r = move_log(e);
	if (r == 0 && (terminal || n == 0))
		r = place_null(e);
	first = terminal ? 3 : 0;
	for (int i = 0; r == 0 && i < n; i++)
		r = place(c->fds[i], first + i, e);
	ret->preserve_fds = MAX(first + n - 3, 0);
	return r;
}
