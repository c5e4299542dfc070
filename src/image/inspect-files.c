/* SPDX-License-Identifier: Apache-2.0 */
/* Files, pipes, sockets and the other things that a descriptor can refer to, as JSON. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "image/inspect-priv.h"

static const char *regular_kind(const St__Regular *r)
{
	switch (r->mode & S_IFMT) {
	case S_IFDIR:
		return "directory";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	case S_IFLNK:
		return "symbolic link";
	case S_IFSOCK:
		return "socket file";
	case S_IFIFO:
		return "fifo";
	default:
		return "file";
	}
}

const char *inspect_file_name(const struct inspection *x, uint64_t id)
{
	const St__File *f = inspect_file(x, id);

	if (!f)
		return "";
	switch (f->kind_case) {
	case ST__FILE__KIND_REGULAR:
		return f->regular->path;
	case ST__FILE__KIND_MEMFD:
		return f->memfd->name;
	case ST__FILE__KIND_TUN:
		return f->tun->link;
	case ST__FILE__KIND_MQUEUE:
		return f->mqueue->queue ? f->mqueue->queue->name : "";
	case ST__FILE__KIND_PIPE:
		return f->pipe->fifo_path;
	default:
		return "";
	}
}

static void add_flags(struct inspection *x, struct json_object *o, uint32_t flags)
{
	static const struct {
		uint32_t flag;
		const char *name;
	} names[] = {
		{O_APPEND, "append"},
		{O_NONBLOCK, "nonblock"},
		{O_DIRECT, "direct"},
		{O_ASYNC, "async"},
		{O_DSYNC, "dsync"},
		{O_NOATIME, "noatime"},
		{O_PATH, "path"},
	};
	char text[100];
	int n;

	n = snprintf(text, sizeof(text), "%s",
		(flags & O_ACCMODE) == O_RDWR	  ? "rw"
		: (flags & O_ACCMODE) == O_WRONLY ? "w"
						  : "r");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (flags & names[i].flag)
			n += snprintf(text + n, sizeof(text) - n, ",%s", names[i].name);
	inspect_add_string(x, o, "flags", text);
}

static void add_address(
	struct inspection *x, struct json_object *o, const char *key, const ProtobufCBinaryData *a)
{
	union {
		struct sockaddr_storage storage;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} u = {0};
	char text[100], host[INET6_ADDRSTRLEN] = "";
	size_t path = offsetof(struct sockaddr_un, sun_path);

	if (a->len < sizeof(sa_family_t) || a->len > sizeof(u))
		return;
	memcpy(&u, a->data, a->len);
	if (u.storage.ss_family == AF_UNIX) {
		const char *p = u.un.sun_path;
		size_t len = a->len - MIN(path, a->len);

		if (len > 0 && p[0]) {
			inspect_add_bytes(x, o, key, p, strnlen(p, len));
		} else if (len > 0) {
			u.un.sun_path[0] = '@';
			inspect_add_bytes(x, o, key, p, len);
		}
	} else if (u.storage.ss_family == AF_INET && a->len >= sizeof(u.in)) {
		inet_ntop(AF_INET, &u.in.sin_addr, host, sizeof(host));
		snprintf(text, sizeof(text), "%s:%u", host, ntohs(u.in.sin_port));
		inspect_add_string(x, o, key, text);
	} else if (u.storage.ss_family == AF_INET6 && a->len >= sizeof(u.in6)) {
		inet_ntop(AF_INET6, &u.in6.sin6_addr, host, sizeof(host));
		snprintf(text, sizeof(text), "[%s]:%u", host, ntohs(u.in6.sin6_port));
		inspect_add_string(x, o, key, text);
	}
}

static const char *socket_kind(const St__Socket *s)
{
	static const struct {
		int family, type;
		const char *name;
	} kinds[] = {
		{AF_UNIX, SOCK_STREAM, "unix stream"},
		{AF_UNIX, SOCK_DGRAM, "unix dgram"},
		{AF_UNIX, SOCK_SEQPACKET, "unix seqpacket"},
		{AF_INET, SOCK_STREAM, "tcp"},
		{AF_INET, SOCK_DGRAM, "udp"},
		{AF_INET6, SOCK_STREAM, "tcp6"},
		{AF_INET6, SOCK_DGRAM, "udp6"},
		{AF_NETLINK, SOCK_RAW, "netlink"},
		{AF_NETLINK, SOCK_DGRAM, "netlink"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].family == s->family && kinds[i].type == s->type)
			return kinds[i].name;
	return "socket";
}

static void describe_socket(struct inspection *x, struct json_object *o, const St__Socket *s)
{
	static const char *const states[] = {"unconnected", "listening", "connected"};
	uint64_t queued = 0;

	for (size_t i = 0; i < s->n_queue; i++)
		queued += s->queue[i]->data.len;
	inspect_add_string(x, o, "kind", socket_kind(s));
	inspect_add_string(x, o, "state", s->state >= 0 && s->state < 3 ? states[s->state] : "unknown");
	add_address(x, o, "local", &s->local);
	add_address(x, o, "remote", &s->remote);
	if (s->peer)
		inspect_add_u64(x, o, "peer", s->peer);
	if (s->state == 1)
		inspect_add_i64(x, o, "backlog", s->backlog);
	if (s->n_queue) {
		inspect_add_u64(x, o, "queued_messages", s->n_queue);
		inspect_add_u64(x, o, "queued_bytes", queued);
	}
}

static void describe_trigger(struct inspection *x, struct json_object *o, const St__PressureTrigger *t)
{
	char text[64];

	snprintf(text, sizeof(text), "%s %llu %llu", t->full ? "full" : "some",
		(unsigned long long)t->threshold_us, (unsigned long long)t->window_us);
	inspect_add_string(x, o, "trigger", text);
}

static void describe_regular(struct inspection *x, struct json_object *o, const St__Regular *r)
{
	inspect_add_string(x, o, "kind", regular_kind(r));
	inspect_add_string(x, o, "path", r->path);
	if (S_ISREG(r->mode))
		inspect_add_u64(x, o, "size", r->size);
	if (r->deleted)
		inspect_add_bool(x, o, "deleted", true);
	if (r->trigger)
		describe_trigger(x, o, r->trigger);
}

static void describe_epoll(struct inspection *x, struct json_object *o, const St__Epoll *p)
{
	struct json_object *targets = json_object_new_array();

	inspect_add_string(x, o, "kind", "epoll");
	for (size_t i = 0; i < p->n_targets; i++)
		inspect_append(x, targets, json_object_new_uint64(p->targets[i]->fd));
	inspect_add(x, o, "watches", targets);
}

static void describe_tty(struct inspection *x, struct json_object *o, const St__Tty *t)
{
	static const char *const kinds[] = {"tty", "pty master", "pty", "/dev/tty"};

	inspect_add_string(x, o, "kind", t->kind >= 0 && t->kind < 4 ? kinds[t->kind] : kinds[0]);
	inspect_add_string(x, o, "path", t->path);
	inspect_add_i64(x, o, "index", t->index);
}

static void describe_pidfd(struct inspection *x, struct json_object *o, const St__PidFd *p)
{
	inspect_add_string(x, o, "kind", "pidfd");
	if (p->pid)
		inspect_add_i64(x, o, "pid", p->pid);
	else
		inspect_add_string(x, o, "state", "of a process that is gone");
}

/* What watches, and the first of what it watches. */
static void describe_watcher(struct inspection *x, struct json_object *o, const St__File *f)
{
	bool inotify = f->kind_case == ST__FILE__KIND_INOTIFY;
	size_t n = inotify ? f->inotify->n_watches : f->fanotify->n_marks;

	inspect_add_string(x, o, "kind", inotify ? "inotify" : "fanotify");
	inspect_add_u64(x, o, "watches", n);
	if (n)
		inspect_add_string(
			x, o, "path", inotify ? f->inotify->watches[0]->path : f->fanotify->marks[0]->path);
}

void inspect_describe_file(struct inspection *x, struct json_object *o, const St__File *f)
{
	if (!f) {
		inspect_add_string(x, o, "kind", "missing");
		return;
	}
	switch (f->kind_case) {
	case ST__FILE__KIND_REGULAR:
		describe_regular(x, o, f->regular);
		break;
	case ST__FILE__KIND_PIPE:
		inspect_add_string(x, o, "kind", f->pipe->fifo_path[0] ? "fifo" : "pipe");
		if (f->pipe->fifo_path[0])
			inspect_add_string(x, o, "path", f->pipe->fifo_path);
		inspect_add_u64(x, o, "pipe", f->pipe->pipe);
		inspect_add_u64(x, o, "queued_bytes", f->pipe->data.len);
		break;
	case ST__FILE__KIND_EVENTFD:
		inspect_add_string(x, o, "kind", "eventfd");
		inspect_add_u64(x, o, "count", f->eventfd->count);
		break;
	case ST__FILE__KIND_EPOLL:
		describe_epoll(x, o, f->epoll);
		break;
	case ST__FILE__KIND_TIMERFD:
		inspect_add_string(x, o, "kind", "timerfd");
		inspect_add_u64(x, o, "ticks", f->timerfd->ticks);
		break;
	case ST__FILE__KIND_SIGNALFD:
		inspect_add_string(x, o, "kind", "signalfd");
		inspect_add_hex(x, o, "mask", f->signalfd->mask);
		break;
	case ST__FILE__KIND_SOCKET:
		describe_socket(x, o, f->socket);
		break;
	case ST__FILE__KIND_STDIO:
		inspect_add_string(x, o, "kind", "stdio of the caller");
		inspect_add_u64(x, o, "number", f->stdio->fd);
		break;
	case ST__FILE__KIND_MEMFD:
		inspect_add_string(x, o, "kind", "memfd");
		inspect_add_string(x, o, "path", f->memfd->name);
		inspect_add_u64(x, o, "shared_memory", f->memfd->shm);
		break;
	case ST__FILE__KIND_TUN:
		inspect_add_string(x, o, "kind", "tun");
		inspect_add_string(x, o, "interface", f->tun->link);
		break;
	case ST__FILE__KIND_SECCOMP_LISTENER:
		inspect_add_string(x, o, "kind", "seccomp listener");
		break;
	case ST__FILE__KIND_BPF_MAP:
		inspect_add_string(x, o, "kind", "bpf map");
		inspect_add_u64(x, o, "elements", f->bpf_map->n_elements);
		break;
	case ST__FILE__KIND_MQUEUE:
		inspect_add_string(x, o, "kind", "mqueue");
		inspect_add_string(x, o, "path", inspect_file_name(x, f->id));
		break;
	case ST__FILE__KIND_TTY:
		describe_tty(x, o, f->tty);
		break;
	case ST__FILE__KIND_PIDFD:
		describe_pidfd(x, o, f->pidfd);
		break;
	case ST__FILE__KIND_NS:
		inspect_add_string(x, o, "kind", "namespace");
		inspect_add_string(x, o, "path", f->ns->name);
		break;
	case ST__FILE__KIND_INOTIFY:
	case ST__FILE__KIND_FANOTIFY:
		describe_watcher(x, o, f);
		break;
	default:
		inspect_add_string(x, o, "kind", "unknown");
	}
	add_flags(x, o, f->flags);
	if (f->pos)
		inspect_add_i64(x, o, "position", f->pos);
}

static void append(char *buf, size_t size, const char *label, const char *value)
{
	size_t n = strlen(buf);

	if (value[0] && n < size)
		snprintf(buf + n, size - n, "%s%s%s%s", n ? " " : "", label, label[0] ? " " : "", value);
}

void inspect_print_details(struct json_object *file, char *buf, size_t size)
{
	static const struct {
		const char *key, *label;
	} fields[] = {
		{"path", ""},
		{"state", ""},
		{"local", ""},
		{"remote", "to"},
		{"peer", "to file"},
		{"number", ""},
		{"index", ""},
		{"pipe", "no."},
		{"count", "count"},
		{"ticks", "ticks"},
		{"mask", ""},
		{"watches", "watches"},
		{"position", "at"},
		{"backlog", "backlog"},
		{"queued_messages", "queued messages"},
		{"queued_bytes", "queued bytes"},
	};

	buf[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (strcmp(inspect_str(file, fields[i].key), "0") != 0 || !strcmp(fields[i].key, "number"))
			append(buf, size, fields[i].label, inspect_str(file, fields[i].key));
	if (inspect_num(file, "deleted"))
		append(buf, size, "", "(deleted)");
}
