/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/client.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "sandbox/call.h"

static int send_bytes(int fd, const char *text, size_t len, const int *fds, int n_fds)
{
	union {
		char buf[CMSG_SPACE(CALL_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {};

	while (len) {
		struct iovec io = {(char *)text, len};
		struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
		ssize_t n;

		if (n_fds) {
			struct cmsghdr *h;

			m.msg_control = control.buf;
			m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
			h = CMSG_FIRSTHDR(&m);
			*h = (struct cmsghdr){CMSG_LEN(n_fds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
			memcpy(CMSG_DATA(h), fds, n_fds * sizeof(int));
		}
		n = sendmsg(fd, &m, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= n;
		n_fds = 0; /* with the first byte */
	}
	return 0;
}

int client_send(struct client *c, const struct client_call *call, struct error *e)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	if (call->n_fds > CALL_FDS_MAX)
		return error_set(e, -EINVAL, ERROR_USAGE, "%d descriptors are too many: %d at most",
			call->n_fds, CALL_FDS_MAX);
	text = varlink_make_call(call->method, call->parameters, call->more, call->oneway, &len);
	if (!text)
		return error_errno(e, -ENOMEM, "call %s", call->method);
	r = send_bytes(c->fd, text, len, call->fds, call->n_fds);
	return r < 0 ? error_errno(e, r, "call %s", call->method) : 0;
}

static int read_more(struct client *c)
{
	ssize_t n;

	if (c->in_len == c->in_size) {
		size_t size = MAX(2 * c->in_size, (size_t)4096);
		char *in = size > 64 << 20 ? NULL : realloc(c->in, size);

		if (!in)
			return -ENOMEM;
		c->in = in;
		c->in_size = size;
	}
	do
		n = recv(c->fd, c->in + c->in_len, c->in_size - c->in_len, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n == 0 ? -ECONNRESET : -errno;
	c->in_len += n;
	return 0;
}

int client_receive(struct client *c, struct varlink_reply *ret, struct error *e)
{
	size_t looked = 0;
	char *end;
	int r;

	while (!(end = c->in_len > looked ? memchr(c->in + looked, 0, c->in_len - looked) : NULL)) {
		looked = c->in_len;
		r = read_more(c);
		if (r == -ECONNRESET)
			return error_set(e, r, ERROR_SYSTEM, "the supervisor of the sandbox is gone");
		if (r < 0)
			return error_errno(e, r, "control socket");
	}
	r = varlink_parse_reply(c->in, end - c->in, ret, e);
	c->in_len -= end + 1 - c->in;
	memmove(c->in, end + 1, c->in_len);
	return r;
}

static int number(struct json_object *o, const char *key)
{
	struct json_object *v;

	return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_int)
		       ? json_object_get_int(v)
		       : 0;
}

/* What the errors of the interfaces are as errors of ours; a code of 0 is the errno that comes along. */
static const struct {
	const char *name;
	enum error_kind kind;
	int code;
} replies[] = {
	{"io.stasis.Sandbox.ContainerNotFound", ERROR_STATE, -ENOENT},
	{"io.stasis.Sandbox.ContainerExists", ERROR_STATE, -EEXIST},
	{"io.stasis.Sandbox.InvalidState", ERROR_STATE, -EBUSY},
	{"io.stasis.Sandbox.InvalidDescriptors", ERROR_USAGE, -EBADF},
	{"io.stasis.Sandbox.ProcessNotFound", ERROR_STATE, -ESRCH},
	{"io.stasis.Sandbox.ExitUnknown", ERROR_KERNEL, -ENODATA},
	{"io.stasis.Sandbox.InvalidConfiguration", ERROR_CONFIG, -EINVAL},
	{"io.stasis.Sandbox.Refused", ERROR_REFUSED, -EOPNOTSUPP},
	{"io.stasis.Sandbox.SystemError", ERROR_SYSTEM, 0},
	{"io.stasis.Sandbox.KernelTooOld", ERROR_KERNEL, -EOPNOTSUPP},
	{"io.stasis.Sandbox.Corrupt", ERROR_CORRUPT, -EBADMSG},
	{"io.stasis.Sandbox.Internal", ERROR_INTERNAL, -EIO},
	{"io.stasis.Sandbox.InvalidMessage", ERROR_USAGE, -EBADMSG},
	{"io.stasis.Network.Failed", ERROR_SYSTEM, 0},
	{"org.varlink.service.InvalidParameter", ERROR_USAGE, -EINVAL},
	{"org.varlink.service.MethodNotFound", ERROR_USAGE, -ENOSYS},
	{"org.varlink.service.InterfaceNotFound", ERROR_USAGE, -ENOSYS},
};

int client_error(const struct varlink_reply *r, struct error *e)
{
	enum error_kind kind = ERROR_STATE;
	int code = -EIO, given = number(r->parameters, "errno");
	struct json_object *m;
	const char *dot = strrchr(r->error, '.');

	for (size_t i = 0; i < ARRAY_SIZE(replies); i++)
		if (!strcmp(replies[i].name, r->error)) {
			kind = replies[i].kind;
			code = replies[i].code;
		}
	if (code == 0)
		code = given > 0 && given < 4096 ? -given : -EIO;
	if (json_object_object_get_ex(r->parameters, "message", &m) && m)
		return error_set(e, code, kind, "%s", json_object_get_string(m));
	return error_set(e, code, kind, "%s %s", dot ? dot + 1 : r->error,
		json_object_to_json_string_ext(r->parameters, JSON_C_TO_STRING_PLAIN));
}

int client_call(struct client *c, const struct client_call *call, struct json_object **ret, struct error *e)
{
	struct varlink_reply reply;
	int r = client_send(c, call, e);

	if (r == 0)
		r = client_receive(c, &reply, e);
	if (r < 0)
		return r;
	if (reply.error)
		r = client_error(&reply, e);
	else if (ret)
		*ret = take_ptr(reply.parameters);
	varlink_reply_done(&reply);
	return r;
}

void client_done(struct client *c)
{
	close_p(&c->fd);
	free(c->in);
}
