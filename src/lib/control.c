/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's control socket: its messages are made and read in the caller's process. The program starts a supervisor if there is none. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "lib/lib-priv.h"
#include "sandbox/client.h"

struct stasis_control {
	struct client client;
	char *error; /* the name of the last error reply; NULL: none yet */
};

static int connect_to(int dir)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (fd < 0)
		return -errno;
	/* by descriptor: the path may be longer than sun_path */
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/control.sock", dir);
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : take_fd(&fd);
}

/* The supervisor is there after a call of the program, and stays for a while. */
static int start_supervisor(struct stasis *s, const char *sandbox, bool make, struct error *e)
{
	_cleanup_free_ char *output = NULL;
	struct program p = {.s = s, .args = {"ctl", "--sandbox", sandbox}, .n = 3, .ret_output = &output};
	int r;

	program_add_flag(&p, "--new", make);
	program_add(&p, "org.varlink.service.GetInfo");
	r = program_run(&p, e);
	return r <= 0 ? r : error_set(e, -EIO, ERROR_INTERNAL, "%s ctl: exit status %d", s->program, r);
}

static int open_socket(struct stasis *s, const char *sandbox, bool make, struct error *e)
{
	_cleanup_close_ int dir = -EBADF;
	int fd, r = container_id_check(sandbox, e);

	if (r < 0)
		return error_prefix(e, "sandbox");
	dir = container_open_sandbox(s->root, sandbox, false);
	if (dir < 0 && (dir != -ENOENT || !make))
		return dir == -ENOENT ? error_set(e, dir, ERROR_STATE, "sandbox does not exist: %s", sandbox)
				      : error_errno(e, dir, "open the sandbox %s", sandbox);
	fd = dir < 0 ? dir : connect_to(dir);
	if (fd >= 0)
		return fd;
	r = start_supervisor(s, sandbox, make, e);
	if (r < 0)
		return r;
	close_p(&dir);
	dir = container_open_sandbox(s->root, sandbox, false);
	fd = dir < 0 ? dir : connect_to(dir);
	return fd < 0 ? error_errno(e, fd, "connect to the sandbox %s", sandbox) : fd;
}

EXPORT int stasis_control_open(struct stasis *s, const char *sandbox, bool make, struct stasis_control **ret,
	struct stasis_error *ret_error)
{
	struct stasis_control *c = calloc(1, sizeof(*c));
	struct error e;
	int fd = c ? open_socket(s, sandbox, make, &e) : error_errno(&e, -ENOMEM, "control socket");

	if (fd < 0) {
		free(c);
		return lib_error(fd, &e, ret_error);
	}
	c->client.fd = fd;
	*ret = c;
	return 0;
}

EXPORT void stasis_control_close(struct stasis_control *c)
{
	if (!c)
		return;
	client_done(&c->client);
	free(c->error);
	free(c);
}

EXPORT int stasis_control_fd(const struct stasis_control *c)
{
	return c->client.fd;
}

EXPORT const char *stasis_control_error(const struct stasis_control *c)
{
	return c->error ? c->error : "";
}

static int send_call(struct stasis_control *c, const struct stasis_call_options *options, struct error *e)
{
	_cleanup_json_ struct json_object *parameters = NULL;
	struct stasis_call_options o;
	struct client_call call;
	int r = lib_options(&o, sizeof(o), options, e);

	if (r == 0 && !o.method)
		r = error_set(e, -EINVAL, ERROR_USAGE, "no method is given");
	if (r < 0)
		return r;
	parameters = o.parameters ? json_tokener_parse(o.parameters) : NULL;
	if (o.parameters && !json_object_is_type(parameters, json_type_object))
		return error_set(
			e, -EINVAL, ERROR_USAGE, "the parameters are no JSON object: %s", o.parameters);
	call = (struct client_call){.method = o.method,
		.parameters = parameters,
		.fds = o.fds,
		.n_fds = (int)MIN(o.n_fds, (size_t)INT32_MAX),
		.more = o.more,
		.oneway = o.oneway};
	return client_send(&c->client, &call, e);
}

EXPORT int stasis_control_send(
	struct stasis_control *c, const struct stasis_call_options *options, struct stasis_error *ret_error)
{
	struct error e;

	return lib_error(send_call(c, options, &e), &e, ret_error);
}

/* 1: more replies follow. */
static int take_reply(struct stasis_control *c, struct varlink_reply *reply, char **ret_json, struct error *e)
{
	if (reply->error) {
		free(c->error);
		c->error = take_ptr(reply->error);
		reply->error = c->error; /* for what says it */
		(void)client_error(reply, e);
		reply->error = NULL;
		return e->code;
	}
	if (ret_json) {
		*ret_json = strdup(json_object_to_json_string_ext(
			reply->parameters, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
		if (!*ret_json)
			return error_errno(e, -ENOMEM, "reply");
	}
	return reply->continues;
}

static int receive(struct stasis_control *c, char **ret_json, struct error *e)
{
	struct varlink_reply reply;
	int r = client_receive(&c->client, &reply, e);

	if (r < 0)
		return r;
	r = take_reply(c, &reply, ret_json, e);
	varlink_reply_done(&reply);
	return r;
}

EXPORT int stasis_control_receive(struct stasis_control *c, char **ret_json, struct stasis_error *ret_error)
{
	struct error e;

	return lib_error(receive(c, ret_json, &e), &e, ret_error);
}

EXPORT int stasis_control_call(struct stasis_control *c, const char *method, const char *parameters,
	char **ret_json, struct stasis_error *ret_error)
{
	const struct stasis_call_options options = {
		.size = sizeof(options), .method = method, .parameters = parameters};
	struct error e;
	int r = send_call(c, &options, &e);

	return lib_error(r < 0 ? r : receive(c, ret_json, &e), &e, ret_error);
}
