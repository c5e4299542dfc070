/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits in the backlog of a unix listener: what clients have sent before anybody accepted them, and clients that have closed their
 * end since. Of these nobody has a descriptor, and accept(2) would take them out for good: a stand-in would have other credentials. So
 * the kernel's memory is read (linux/unixbacklog.h), which takes nothing away, and the container may go on. docs/adr/0075.
 */
#include "checkpoint/native/res/socket.h"

#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/fd.h"
#include "checkpoint/native/shared-pids.h"
#include "linux/sockdiag.h"
#include "linux/unixbacklog.h"

static int read_backlog(struct dump *d, int fd, struct unix_arrival **ret, size_t *ret_n)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", d->procs[0].pid);
	if (stat(path, &st) < 0)
		return -errno;
	return unix_read_backlog(fd, (uint32_t)st.st_ino, &d->arena, ret, ret_n);
}

static bool has_gone(const struct sockdiag_socket *s)
{
	for (size_t i = 0; i < s->n_pending; i++)
		if (s->pending[i] == 0)
			return true;
	return false;
}

/* Its path is bound again for a moment. */
static bool is_path_free(const struct dump *d, const struct unix_arrival *x)
{
	char dir[sizeof(struct sockaddr_un) + 1] = "";
	char *slash;
	struct stat st;

	memcpy(dir, x->name, MIN(x->name_len, sizeof(dir) - 1));
	slash = strrchr(dir, '/');
	if (!slash)
		return true;
	slash[1] = '\0';
	return dir[0] == '/' && fstatat(d->root_fd, dir + 1, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

static bool is_name_free(const struct dump *d, const struct sockdiag_socket *s, const struct unix_arrival *x)
{
	if (x->name_len == 0)
		return true;
	if (*(const char *)x->name)
		return is_path_free(d, x);
	for (size_t i = 0; i < d->sockets->n; i++) {
		const struct sockdiag_socket *o = &d->sockets->sockets[i];

		if (o->ino && o->ns == s->ns && o->name_len == x->name_len &&
			!memcmp(o->name, x->name, x->name_len))
			return false;
	}
	return true;
}

static const char *obstacle_of_gone(
	const struct dump *d, const struct sockdiag_socket *s, const struct unix_arrival *x)
{
	if (x->client.pid == 0)
		return "a client from outside of the container connected and left before it was accepted: "
		       "nobody "
		       "else can have its credentials";
	if (d->options->together && shared_pids_is_shared(d, d->options->together->self))
		return "a client connected and left before it was accepted, in a pid namespace that several "
		       "containers have: its pid may be taken";
	if (!is_name_free(d, s, x))
		return "a client connected and left before it was accepted, and the name that it had cannot "
		       "be had "
		       "any more";
	return NULL;
}

static const char *obstacle(
	const struct dump *d, const struct sockdiag_socket *s, const struct unix_arrival *x)
{
	if (x->urgent)
		return "a client has sent urgent data (MSG_OOB) and is not accepted yet";
	for (size_t i = 0; i < x->n_sent; i++)
		if (x->sent[i].has_files)
			return "a client has sent descriptors and is not accepted yet; they cannot be had";
	return x->gone ? obstacle_of_gone(d, s, x) : NULL;
}

void unix_check_backlog(struct dump *d, const struct dump_file *f, const struct sockdiag_socket *s)
{
	_cleanup_close_ int fd = s->n_pending ? dump_duplicate(f) : -EBADF;
	struct unix_arrival *list;
	size_t n = 0;
	int r;

	if (fd < 0)
		return;
	r = read_backlog(d, fd, &list, &n);
	if (r < 0 && r != -EAGAIN && has_gone(s))
		dump_refuse(d, f->proc, f->fd, "unix socket",
			"a client connected and left before it was accepted; what it sent this kernel lets "
			"nobody "
			"read",
			REMEDY_ACCEPT_IT, "%s", f->link);
	for (size_t i = 0; r == 0 && i < n; i++) {
		const char *reason = obstacle(d, s, &list[i]);

		if (reason)
			dump_refuse(
				d, f->proc, f->fd, "unix socket", reason, REMEDY_ACCEPT_IT, "%s", f->link);
	}
}

/* What the listener itself receives. */
static int receives(int fd)
{
	static const int names[] = {SO_PASSCRED, SO_PASSSEC, UNIX_OPT_PASSPIDFD, UNIX_OPT_PASSRIGHTS};
	int bits = 0, on;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (getsockopt(fd, SOL_SOCKET, names[i], &on, &(socklen_t){sizeof(on)}) == 0 && on)
			bits |= 1 << i;
	return bits;
}

static St__SocketMessage *new_message(struct dump *d, const struct unix_sent *x)
{
	St__SocketMessage *m = pb_new(&d->arena, SocketMessage, socket_message);

	if (!m)
		return NULL;
	m->data.data = x->data;
	m->data.len = x->len;
	if (x->from.known) {
		m->credentials = unix_new_credentials(d, x->from.pid, x->from.uid, x->from.gid, NULL, 0);
		if (!m->credentials)
			return NULL;
	}
	return m;
}

static int set_name(struct dump *d, St__UnixArrival *m, const struct unix_arrival *x)
{
	sa_family_t family = AF_UNIX;

	if (x->name_len == 0)
		return 0;
	m->name.len = sizeof(family) + x->name_len;
	m->name.data = arena_alloc(&d->arena, m->name.len);
	if (!m->name.data)
		return -ENOMEM;
	memcpy(m->name.data, &family, sizeof(family));
	memcpy(m->name.data + sizeof(family), x->name, x->name_len);
	return 0;
}

static St__UnixArrival *new_arrival(struct dump *d, const struct unix_arrival *x)
{
	St__UnixArrival *m = pb_new(&d->arena, UnixArrival, unix_arrival);

	if (!m)
		return NULL;
	m->gone = x->gone;
	m->receives = x->receives < 0 ? 0 : UNIX_RECEIVES_KNOWN | x->receives;
	m->sent = arena_array(&d->arena, x->n_sent + 1, sizeof(*m->sent));
	for (size_t i = 0; m->sent && i < x->n_sent; i++)
		if (!(m->sent[m->n_sent++] = new_message(d, &x->sent[i])))
			return NULL;
	if (!m->sent || !x->gone)
		return m->sent ? m : NULL;
	m->client =
		unix_new_credentials(d, x->client.pid, x->client.uid, x->client.gid, x->groups, x->n_groups);
	return m->client && set_name(d, m, x) == 0 ? m : NULL;
}

int unix_link_backlog(struct dump *d, struct dump_file *f, const struct sockdiag_socket *s, struct error *e)
{
	St__Socket *m = f->msg->socket;
	struct unix_arrival *list = NULL;
	bool needed = false;
	size_t n = 0;
	int r = s->n_pending ? read_backlog(d, f->local, &list, &n) : 0;

	/* Without it all clients are there, and none of them has sent anything: that has been checked. */
	if (s->n_pending == 0 || ((r == -EOPNOTSUPP || r == -EPERM) && !has_gone(s)))
		return 0;
	if (r == 0 && n != s->n_pending)
		r = -EAGAIN;
	for (size_t i = 0; i < n && r == 0; i++) {
		const char *reason = obstacle(d, s, &list[i]);

		if (reason)
			return error_set(e, -EAGAIN, ERROR_REFUSED, "%s: " REMEDY_ACCEPT_IT, reason);
		if (list[i].gone != (s->pending[i] == 0))
			r = -EAGAIN;
		needed |= list[i].gone || list[i].n_sent ||
			  (list[i].receives >= 0 && list[i].receives != receives(f->local));
	}
	if (r == -EAGAIN)
		return error_set(e, r, ERROR_REFUSED, "clients come and go: " REMEDY_ACCEPT_IT);
	if (r < 0)
		return error_errno(e, r, "clients that wait to be accepted");
	if (!needed)
		return 0;
	m->arrivals = arena_array(&d->arena, n, sizeof(*m->arrivals));
	for (size_t i = 0; m->arrivals && i < n; i++)
		if ((m->arrivals[i] = new_arrival(d, &list[i])))
			m->n_arrivals++;
	d->has_unix_backlogs = true;
	return m->arrivals && m->n_arrivals == n ? 0 : error_errno(e, -ENOMEM, "backlog");
}
