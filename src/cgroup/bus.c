/* SPDX-License-Identifier: Apache-2.0 */
/* The connection to a D-Bus, and its messages: a header with fields, then the body; everything is aligned to its size. */
#include "cgroup/bus.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/fd.h"

enum {
	FIELD_PATH = 1,
	FIELD_INTERFACE,
	FIELD_MEMBER,
	FIELD_ERROR,
	FIELD_REPLY,
	FIELD_DESTINATION,
	FIELD_SIGNATURE = 8
};
enum { TYPE_CALL = 1, HEAD = 16, TIMEOUT_S = 30, REPLIES_MAX = 1000 };

static void put(struct bus_message *m, const void *data, size_t n)
{
	if (m->failed || n > BUS_MESSAGE_MAX - m->n) {
		m->failed = true;
		return;
	}
	if (m->n + n > m->room) {
		size_t room = MAX(m->room * 2, ALIGN_UP(m->n + n, (size_t)512));
		uint8_t *more = realloc(m->data, room);

		if (!more) {
			m->failed = true;
			return;
		}
		m->data = more;
		m->room = room;
	}
	memcpy(m->data + m->n, data, n);
	m->n += n;
}

void bus_align(struct bus_message *m, size_t to)
{
	static const uint8_t zeros[8];

	put(m, zeros, ALIGN_UP(m->n, to) - m->n);
}

void bus_put_byte(struct bus_message *m, uint8_t value)
{
	put(m, &value, 1);
}

void bus_put_u32(struct bus_message *m, uint32_t value)
{
	value = htole32(value);
	bus_align(m, 4);
	put(m, &value, sizeof(value));
}

void bus_put_u64(struct bus_message *m, uint64_t value)
{
	value = htole64(value);
	bus_align(m, 8);
	put(m, &value, sizeof(value));
}

void bus_put_string(struct bus_message *m, const char *text)
{
	size_t n = strlen(text);

	bus_put_u32(m, (uint32_t)n);
	put(m, text, n + 1);
}

void bus_put_signature(struct bus_message *m, const char *signature)
{
	size_t n = strlen(signature);

	bus_put_byte(m, (uint8_t)n);
	put(m, signature, n + 1);
}

struct bus_array bus_array_begin(struct bus_message *m, size_t align)
{
	struct bus_array a;

	bus_put_u32(m, 0);
	a.length_at = m->n - 4;
	bus_align(m, align);
	a.start = m->n;
	return a;
}

void bus_array_end(struct bus_message *m, struct bus_array a)
{
	uint32_t n = htole32((uint32_t)(m->n - a.start));

	if (!m->failed)
		memcpy(m->data + a.length_at, &n, sizeof(n));
}

void bus_message_done(struct bus_message *m)
{
	free(m->data);
	*m = (struct bus_message){0};
}

/* Like write_all(), without a SIGPIPE when the other side is gone. */
static int send_all(int fd, const void *data, size_t n)
{
	for (const uint8_t *at = data; n;) {
		ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		at += sent;
		n -= (size_t)sent;
	}
	return 0;
}

static uint32_t u32_at(const uint8_t *data)
{
	uint32_t n;

	memcpy(&n, data, sizeof(n));
	return le32toh(n);
}

ssize_t bus_message_size(const uint8_t head[HEAD])
{
	uint32_t body = u32_at(head + 4), fields = u32_at(head + 12);

	/* 'l': little-endian; 1: the version of the protocol */
	if (head[0] != 'l' || head[3] != 1 || body > BUS_MESSAGE_MAX || fields > BUS_MESSAGE_MAX)
		return -EBADMSG;
	return (ssize_t)HEAD + ALIGN_UP((ssize_t)fields, 8) + (ssize_t)body;
}

/* A string of "at" with its length in front (4 bytes, or 1 for signatures); *at moves behind it. */
static const char *text_at(const uint8_t *data, size_t end, size_t *at, bool signature)
{
	size_t start = signature ? *at : ALIGN_UP(*at, (size_t)4), width = signature ? 1 : 4, n;

	if (start > end || end - start < width)
		return NULL;
	n = signature ? data[start] : u32_at(data + start);
	start += width;
	if (end - start < n + 1 || data[start + n] != 0 || memchr(data + start, 0, n))
		return NULL;
	*at = start + n + 1;
	return (const char *)data + start;
}

/* One field: its number, the signature of its value, the value. */
static int parse_field(const uint8_t *data, size_t end, size_t *at, struct bus_reply *ret)
{
	uint8_t code = data[(*at)++];
	const char *type = text_at(data, end, at, true), *text;

	if (!type || strlen(type) != 1)
		return -EBADMSG;
	if (*type == 'u') {
		size_t start = ALIGN_UP(*at, (size_t)4);

		if (start > end || end - start < 4)
			return -EBADMSG;
		if (code == FIELD_REPLY)
			ret->serial = u32_at(data + start);
		*at = start + 4;
		return 0;
	}
	if (!strchr("sog", *type))
		return -EBADMSG;
	text = text_at(data, end, at, *type == 'g');
	if (!text)
		return -EBADMSG;
	if (code == FIELD_ERROR && *type == 's')
		ret->error = text;
	if (code == FIELD_SIGNATURE && *type == 'g')
		ret->signature = text;
	return 0;
}

int bus_parse(const uint8_t *data, size_t size, struct bus_reply *ret)
{
	size_t end, at = HEAD;

	if (size < HEAD || bus_message_size(data) != (ssize_t)size)
		return -EBADMSG;
	*ret = (struct bus_reply){.type = data[1], .signature = ""};
	end = HEAD + u32_at(data + 12);
	while (at < end) {
		int r = parse_field(data, end, &at, ret);

		if (r < 0)
			return r;
		at = ALIGN_UP(at, (size_t)8);
	}
	ret->body = data + ALIGN_UP(end, (size_t)8);
	ret->body_len = size - ALIGN_UP(end, (size_t)8);
	return 0;
}

const char *bus_reply_string(const struct bus_reply *r)
{
	size_t at = 0;
	const char *type = r->signature;

	if (*type == 'v')
		type = text_at(r->body, r->body_len, &at, true);
	if (!type || (*type != 's' && *type != 'o'))
		return NULL;
	return text_at(r->body, r->body_len, &at, false);
}

void bus_done(struct bus *b)
{
	close_p(&b->fd);
	free(b->reply);
	b->reply = NULL;
}

/* A line of the authentication, "OK guid\r\n". */
static int read_line(int fd, char *buf, size_t size)
{
	size_t n = 0;

	while (n < size - 1) {
		int r = read_exact(fd, buf + n, 1);

		if (r < 0)
			return r;
		if (buf[n++] == '\n') {
			buf[n] = 0;
			return 0;
		}
	}
	return -EBADMSG;
}

/* Who we are the kernel has told the other side: an identity is not stated. In a user namespace ours would be another. */
static int authenticate(int fd)
{
	static const char hello[] = "\0AUTH EXTERNAL\r\nDATA\r\n", begin[] = "BEGIN\r\n";
	char line[512] = "";
	int r = send_all(fd, hello, sizeof(hello) - 1);

	if (r == 0)
		r = read_line(fd, line, sizeof(line));
	if (r == 0 && strncmp(line, "DATA", 4) == 0)
		r = read_line(fd, line, sizeof(line));
	if (r == 0 && strncmp(line, "OK", 2) != 0)
		r = -EACCES;
	return r < 0 ? r : send_all(fd, begin, sizeof(begin) - 1);
}

static void put_text_field(struct bus_message *m, uint8_t code, const char *type, const char *text)
{
	bus_align(m, 8);
	bus_put_byte(m, code);
	bus_put_signature(m, type);
	if (*type == 'g')
		bus_put_signature(m, text);
	else
		bus_put_string(m, text);
}

struct call {
	const char *destination, *path, *interface, *method, *signature;
};

static int send_call(struct bus *b, const struct call *c, const struct bus_message *body)
{
	struct bus_message m = {0};
	struct bus_array fields;
	int r = 0;

	bus_put_byte(&m, 'l');
	bus_put_byte(&m, TYPE_CALL);
	bus_put_byte(&m, 0);
	bus_put_byte(&m, 1);
	bus_put_u32(&m, body ? (uint32_t)body->n : 0);
	bus_put_u32(&m, ++b->serial);
	fields = bus_array_begin(&m, 8);
	put_text_field(&m, FIELD_PATH, "o", c->path);
	put_text_field(&m, FIELD_INTERFACE, "s", c->interface);
	put_text_field(&m, FIELD_MEMBER, "s", c->method);
	put_text_field(&m, FIELD_DESTINATION, "s", c->destination);
	if (body)
		put_text_field(&m, FIELD_SIGNATURE, "g", c->signature);
	bus_array_end(&m, fields);
	bus_align(&m, 8);
	if (body)
		put(&m, body->data, body->n);
	if (m.failed || (body && body->failed))
		r = -E2BIG;
	if (r == 0)
		r = send_all(b->fd, m.data, m.n);
	bus_message_done(&m);
	return r;
}

static int read_message(struct bus *b, struct bus_reply *ret)
{
	uint8_t head[HEAD];
	ssize_t size;
	int r = read_exact(b->fd, head, sizeof(head));

	if (r < 0)
		return r;
	size = bus_message_size(head);
	if (size < 0)
		return (int)size;
	free(b->reply);
	b->reply = malloc((size_t)size);
	if (!b->reply)
		return -ENOMEM;
	memcpy(b->reply, head, sizeof(head));
	r = read_exact(b->fd, b->reply + HEAD, (size_t)size - HEAD);
	return r < 0 ? r : bus_parse(b->reply, (size_t)size, ret);
}

/* Signals that nobody asked for come in between (NameAcquired). */
static int wait_reply(struct bus *b, struct bus_reply *ret)
{
	for (int i = 0; i < REPLIES_MAX; i++) {
		int r = read_message(b, ret);

		if (r < 0)
			return r;
		if ((ret->type == BUS_RESULT || ret->type == BUS_ERROR) && ret->serial == b->serial)
			return 0;
	}
	return -EBADMSG;
}

static int remote_error(const struct call *c, const struct bus_reply *reply, struct error *e)
{
	const char *name = reply->error ? reply->error : "?", *text = bus_reply_string(reply);
	int code = -EREMOTEIO;

	if (strcmp(name, "org.freedesktop.systemd1.UnitExists") == 0)
		code = -EEXIST;
	else if (strcmp(name, "org.freedesktop.systemd1.NoSuchUnit") == 0)
		code = -ENOENT;
	return error_set(e, code, ERROR_SYSTEM, "systemd: %s: %s", c->method, text ? text : name);
}

static int call(struct bus *b, const struct call *c, const struct bus_message *body, struct bus_reply *ret,
	struct error *e)
{
	struct bus_reply reply = {0};
	int r = send_call(b, c, body);

	if (r == 0)
		r = wait_reply(b, &reply);
	if (r == -EAGAIN)
		r = -ETIMEDOUT;
	if (r < 0)
		return error_errno(e, r, "systemd: %s", c->method);
	if (reply.type == BUS_ERROR)
		return remote_error(c, &reply, e);
	if (ret)
		*ret = reply;
	return 0;
}

int bus_connect(const char *path, struct bus *ret, struct error *e)
{
	static const struct call hello = {
		"org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello", ""};
	static const struct timeval timeout = {.tv_sec = TIMEOUT_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct bus b = {.fd = -EBADF};
	int r = 0;

	if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
		sizeof(address.sun_path))
		return error_set(
			e, -ENAMETOOLONG, ERROR_SYSTEM, "D-Bus socket %s: the path is too long", path);
	b.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (b.fd < 0)
		return error_errno(e, -errno, "socket");
	if (setsockopt(b.fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
		setsockopt(b.fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
		connect(b.fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		r = -errno;
	if (r == 0)
		r = authenticate(b.fd);
	r = r < 0 ? error_errno(e, r, "connect to D-Bus at %s", path) : call(&b, &hello, NULL, NULL, e);
	if (r < 0)
		bus_done(&b);
	else
		*ret = b;
	return r;
}

int bus_call(struct bus *b, const char *interface, const char *method, const char *signature,
	const struct bus_message *body, struct bus_reply *ret, struct error *e)
{
	const struct call c = {
		"org.freedesktop.systemd1", "/org/freedesktop/systemd1", interface, method, signature};

	return call(b, &c, body, ret, e);
}
