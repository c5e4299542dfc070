/* SPDX-License-Identifier: Apache-2.0 */
/* ctl: calls a method on the control socket of a sandbox, and prints its replies. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "cli/commands.h"
#include "sandbox/call.h"
#include "sandbox/client.h"
#include "sandbox/sandbox.h"

struct options {
	const char *sandbox, *socket, *fds;
	bool more, oneway, new;
};

static const struct cli_option table[] = {
	{"sandbox", 0, CLI_STRING, offsetof(struct options, sandbox), "ID", "which sandbox"},
	{"socket", 0, CLI_STRING, offsetof(struct options, socket), "PATH", "its control socket, instead"},
	{"new", 0, CLI_FLAG, offsetof(struct options, new), NULL, "the sandbox need not be there yet"},
	{"more", 'm', CLI_FLAG, offsetof(struct options, more), NULL, "ask for all of several replies"},
	{"oneway", 0, CLI_FLAG, offsetof(struct options, oneway), NULL, "want no reply"},
	{"fds", 0, CLI_STRING, offsetof(struct options, fds), "N,N...", "pass these descriptors"},
	{NULL},
};

static int connect_to(const char *path, struct error *e)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(a.sun_path))
		return error_errno(e, -ENAMETOOLONG, "%s", path);
	memcpy(a.sun_path, path, strlen(path));
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return error_errno(e, -errno, "connect to %s", path);
	return take_fd(&fd);
}

static int open_client(const struct cli_globals *g, const struct options *o, struct error *e)
{
	if (!o->sandbox == !o->socket)
		return error_set(
			e, -EINVAL, ERROR_USAGE, "which sandbox? one of --sandbox and --socket is needed");
	return o->socket ? connect_to(o->socket, e) : sandbox_connect(g->root, o->sandbox, o->new, e);
}

static int parse_fds(const char *text, int *fds, int *ret_n, struct error *e)
{
	char buf[256], *rest = buf, *one;
	int n = 0;

	if (text && (size_t)snprintf(buf, sizeof(buf), "%s", text) >= sizeof(buf))
		return error_set(e, -EINVAL, ERROR_USAGE, "--fds is too long");
	while (text && (one = strsep(&rest, ","))) {
		uint64_t fd;

		if (n == CALL_FDS_MAX || cli_parse_number(one, INT32_MAX, &fd) < 0 ||
			fcntl((int)fd, F_GETFD) < 0)
			return error_set(e, -EINVAL, ERROR_USAGE,
				"invalid --fds \"%s\": at most %d numbers of open descriptors, separated by "
				"commas",
				text, CALL_FDS_MAX);
		fds[n++] = (int)fd;
	}
	*ret_n = n;
	return 0;
}

static int read_stdin(char **ret, size_t *ret_len, struct error *e)
{
	int r = read_fd(STDIN_FILENO, VARLINK_MESSAGE_MAX, ret, ret_len);

	return r < 0 ? error_errno(e, r, "read stdin") : 0;
}

/* "-": what is on stdin. */
static int parse_parameters(const char *text, struct json_object **ret, struct error *e)
{
	_cleanup_free_ char *input = NULL;
	struct json_tokener *t;
	size_t len = text ? strlen(text) : 0, end;
	int r = text && !strcmp(text, "-") ? read_stdin(&input, &len, e) : 0;

	if (r < 0 || !text)
		return r;
	if (input)
		text = input;
	t = json_tokener_new();
	if (!t)
		return error_errno(e, -ENOMEM, "parameters");
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	*ret = json_tokener_parse_ex(t, text, (int)MIN(len, (size_t)INT32_MAX));
	end = json_tokener_get_parse_end(t);
	if (json_tokener_get_error(t) == json_tokener_continue)
		r = error_set(
			e, -EINVAL, ERROR_USAGE, "the parameters are no JSON object: they end too early");
	else if (!json_object_is_type(*ret, json_type_object) || end + strspn(text + end, " \t\r\n") != len)
		r = error_set(e, -EINVAL, ERROR_USAGE, "the parameters are no JSON object: %s",
			json_tokener_get_error(t) ? json_tokener_error_desc(json_tokener_get_error(t))
						  : text);
	json_tokener_free(t);
	return r;
}

static int print_replies(struct client *c, struct error *e)
{
	struct varlink_reply reply;
	bool more = true;

	while (more) {
		int r = client_receive(c, &reply, e);

		if (r < 0)
			return r;
		more = reply.continues;
		puts(json_object_to_json_string_ext(reply.parameters,
			JSON_C_TO_STRING_NOSLASHESCAPE | JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED));
		fflush(stdout);
		if (reply.error)
			r = client_error(&reply, e), (void)error_prefix(e, "%s", reply.error);
		varlink_reply_done(&reply);
		if (r < 0)
			return r;
	}
	return 0;
}

static int run(const struct cli_globals *g, const void *options, int n_args, char **args, struct error *e)
{
	const struct options *o = options;
	_cleanup_json_ struct json_object *parameters = NULL;
	_cleanup_(client_done) struct client client = {.fd = -EBADF};
	struct client_call call = {.more = o->more, .oneway = o->oneway};
	int fds[CALL_FDS_MAX], r;
	char method[256];

	/* a bare name is one of the first interface */
	snprintf(method, sizeof(method), "%s%s", strchr(args[0], '.') ? "" : "io.stasis.Sandbox.", args[0]);
	call.method = method;
	call.fds = fds;
	r = parse_parameters(n_args > 1 ? args[1] : NULL, &parameters, e);
	if (r == 0)
		r = parse_fds(o->fds, fds, &call.n_fds, e);
	if (r < 0)
		return r;
	call.parameters = parameters;
	client.fd = open_client(g, o, e);
	if (client.fd < 0)
		return client.fd;
	r = client_send(&client, &call, e);
	return r < 0 || o->oneway ? r : print_replies(&client, e);
}

const struct cli_command cmd_ctl = {
	.name = "ctl",
	.arguments = "METHOD [JSON]",
	.summary = "call a method on the control socket of a sandbox",
	.options = table,
	.min_args = 1,
	.max_args = 2,
	.run = run,
};
