/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix sockets, the dump side (socket-unix-restore.c is the other one). Which socket is whose peer, and
 * what waits in a backlog, only sock_diag tells; it is asked once for the whole network namespace.
 *
 * A connected pair must be inside of the container. Of two connected stream sockets the one that was made
 * by accept shares the name of its listener; two without names come from socketpair. What waits in a backlog
 * is read of the kernel's memory (socket-unix-backlog.c). Client and listener may be of two containers that are
 * checkpointed together (socket-unix-foreign.c).
 */
#include "checkpoint/native/res/socket.h"

#include <linux/openat2.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/fd.h"
#include "checkpoint/native/peers.h"
#include "linux/sockdiag.h"
#include "linux/unixbacklog.h"

enum {
	OPT_SIOCUNIXFILE = SIOCPROTOPRIVATE, /* linux/un.h, which does not go with sys/un.h */
};

extern const struct resource resource_unix;

static bool match(const struct dump *d, const struct dump_file *f)
{
	return f->protocol && strncmp(f->protocol, "UNIX", 4) == 0;
}

/* While tasks run the table may change under the dump: that is reported, and tried again. */
static int list_sockets(struct dump *d, int ns, struct sockdiag **ret)
{
	int r = -EAGAIN;

	for (int i = 0; i < 10 && r == -EAGAIN; i++)
		r = sockdiag_unix(ns, &d->arena, ret);
	return r;
}

/* Also those of namespaces that the container's processes have made. */
static int load_sockets(struct dump *d, struct error *e)
{
	struct sockdiag *more;
	_cleanup_close_ int ns = -EBADF;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", d->procs[0].pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		return error_errno(e, -errno, "network namespace of the container");
	r = list_sockets(d, ns, &d->sockets);
	for (size_t i = 0; i < d->n_nested && r == 0; i++) {
		const struct dump_nested *n = &d->nested[i];

		if (n->msg->type != CLONE_NEWNET)
			continue;
		r = list_sockets(d, n->fd, &more);
		if (r == 0)
			r = sockdiag_merge(d->sockets, more, n->msg->id, &d->arena);
	}
	if (r < 0)
		return error_errno(e, r, "list of unix sockets");
	d->sockets->stopped = d->stopped;
	return 0;
}

static int get_cache(struct dump *d, struct error *e);

/* *ret NULL: not in the container's network namespace (or closed meanwhile). */
static int find_socket(
	struct dump *d, const struct dump_file *f, const struct sockdiag_socket **ret, struct error *e)
{
	bool fresh = !d->sockets || d->sockets->stopped != d->stopped;
	int r;

	if (fresh) {
		r = load_sockets(d, e);
		if (r < 0)
			return r;
	}
	*ret = sockdiag_find(d->sockets, f->st.st_ino);
	if (!*ret && !fresh && !d->stopped) {
		r = load_sockets(d, e); /* made since the list was taken */
		if (r < 0)
			return r;
		*ret = sockdiag_find(d->sockets, f->st.st_ino);
	}
	return get_cache(d, e);
}

/* Containers have thousands of sockets: what is looked for again and again must not be searched for. */
struct unix_cache {
	const struct dump_file *files; /* of which this is the index */
	size_t n_files;
	bool in_flight;		     /* there are others, which are not known before the tasks are stopped */
	struct dump_file **by_inode; /* own unix sockets, ascending */
	size_t n;
	const struct sockdiag *sockets;
	const struct sockdiag_socket **listeners;
	size_t n_listeners;
};

static int compare_inode(const void *a, const void *b)
{
	uint64_t x = (*(struct dump_file *const *)a)->st.st_ino,
		 y = (*(struct dump_file *const *)b)->st.st_ino;

	return x < y ? -1 : x > y;
}

static int index_files(struct dump *d, struct unix_cache *c)
{
	c->by_inode = arena_array(&d->arena, d->n_files, sizeof(*c->by_inode));
	if (!c->by_inode)
		return -ENOMEM;
	c->n = 0;
	c->in_flight = false;
	for (size_t i = 0; i < d->n_files; i++) {
		if (d->files[i].resource == &resource_unix)
			c->by_inode[c->n++] = &d->files[i];
		c->in_flight |= !d->stopped && d->files[i].info.scm_fds > 0;
	}
	qsort(c->by_inode, c->n, sizeof(*c->by_inode), compare_inode);
	c->files = d->files;
	c->n_files = d->n_files;
	return 0;
}

static int index_listeners(struct dump *d, struct unix_cache *c)
{
	c->listeners = arena_array(&d->arena, d->sockets->n, sizeof(*c->listeners));
	if (!c->listeners)
		return -ENOMEM;
	c->n_listeners = 0;
	for (size_t i = 0; i < d->sockets->n; i++)
		if (d->sockets->sockets[i].state == TCP_LISTEN)
			c->listeners[c->n_listeners++] = &d->sockets->sockets[i];
	c->sockets = d->sockets;
	return 0;
}

/* All files of the container are known by the time that anything here is called. */
static int get_cache(struct dump *d, struct error *e)
{
	struct unix_cache *c = d->unix_cache;
	int r = 0;

	if (!c)
		c = d->unix_cache = arena_new(&d->arena, struct unix_cache);
	if (!c)
		return error_errno(e, -ENOMEM, "unix sockets");
	if (c->files != d->files || c->n_files != d->n_files)
		r = index_files(d, c);
	if (r == 0 && c->sockets != d->sockets)
		r = index_listeners(d, c);
	return r < 0 ? error_errno(e, r, "unix sockets") : 0;
}

/* The container's own unix socket with this inode. */
static struct dump_file *find_own(struct dump *d, uint32_t ino)
{
	const struct dump_file key = {.st = {.st_ino = ino}}, *k = &key;
	struct dump_file **found;

	if (ino == 0)
		return NULL;
	found = bsearch(&k, d->unix_cache->by_inode, d->unix_cache->n, sizeof(*found), compare_inode);
	return found ? *found : NULL;
}

static bool still_open(const struct dump_file *f)
{
	char name[32], link[128];

	snprintf(name, sizeof(name), "fd/%d", f->fd);
	return proc_readlink(f->proc->shown, name, link, sizeof(link)) > 0 && strcmp(link, f->link) == 0;
}

static void refuse(struct dump *d, const struct dump_file *f, const char *reason, const char *remedy)
{
	dump_refuse(d, f->proc, f->fd, "unix socket", reason, remedy, "%s", f->link);
}

static void refuse_outside(struct dump *d, const struct dump_file *f, const char *reason, const char *remedy)
{
	if (!dump_has_changed(d))
		refuse(d, f, reason, remedy);
}

static bool is_path(const struct sockdiag_socket *s)
{
	return s->name_len > 0 && s->name[0] != '\0';
}

static void check_listener(struct dump *d, const struct dump_file *f, const struct sockdiag_socket *s)
{
	for (size_t i = 0; i < s->n_pending; i++) {
		const struct peer_file *other = peers_socket(d, s->pending[i]);

		if (s->pending[i] && !find_own(d, s->pending[i]) && !other)
			refuse_outside(d, f, "a client outside of the container waits to be accepted",
				"disconnect the client, then checkpoint");
	}
	unix_check_backlog(d, f, s);
}

static const char outside_reason[] = "connected to a socket outside of the container";
static const char outside_remedy[] = "disconnect it, or run both ends in the container";

/* Its peer is closed, or has not been accepted yet. */
static void check_alone(struct dump *d, const struct dump_file *f, const struct sockdiag_socket *s)
{
	const struct sockdiag_socket *listener = sockdiag_listener_of(d->sockets, s->ino);

	if (unix_is_request(d, s, NULL))
		return;
	if (!listener) {
		/* The end of a closed peer is always shut down; without that a listener of another
		 * namespace has it. */
		if (s->type != SOCK_DGRAM && s->shutdown != (SOCKET_SHUT_RECEIVE | SOCKET_SHUT_SEND))
			refuse_outside(d, f, outside_reason, dump_outside_remedy(d, outside_remedy));
		return;
	}
	if (!find_own(d, listener->ino) && !peers_socket(d, listener->ino))
		refuse_outside(d, f, outside_reason, dump_outside_remedy(d, outside_remedy));
	else if (s->wqueue > 0 && !unix_backlog_is_readable())
		refuse(d, f, "it has sent data and is not accepted yet; that data cannot be read",
			REMEDY_ACCEPT_IT);
}

static void check_peer(struct dump *d, const struct dump_file *f, const struct sockdiag_socket *s)
{
	const struct sockdiag_socket *peer = sockdiag_find(d->sockets, s->peer);
	const struct peer_file *other = find_own(d, s->peer) ? NULL : peers_socket(d, s->peer);

	if (other) {
		const char *reason = unix_foreign_obstacle(d, f, s, other);

		if (reason)
			refuse(d, f, reason, outside_remedy);
		return;
	}
	if (peer && peer->ns != s->ns)
		refuse(d, f, "connected to a socket of another network namespace", outside_remedy);
	if (find_own(d, s->peer)) {
		if (peer && peer->peer != s->ino && s->type == SOCK_DGRAM && peer->name_len == 0)
			refuse(d, f, "connected to a datagram socket without a name, which is not its peer",
				outside_remedy);
		return;
	}
	if (unix_is_request(d, s, peer))
		return;
	if (!d->options->ext_unix_sk || s->type != SOCK_DGRAM)
		refuse_outside(d, f, outside_reason,
			s->type == SOCK_DGRAM ? "use --ext-unix-sk, or disconnect it"
					      : dump_outside_remedy(d, outside_remedy));
}

/* It is bound by init, to whom these would be other directories; but the number of a descriptor can be lent. */
static void check_name(struct dump *d, const struct dump_file *f, const struct sockdiag_socket *s)
{
	static const char proc[] = "/proc/", by_number[] = "/proc/self/fd/";

	if (s->has_file && s->name_len > strlen(by_number) && !memcmp(s->name, proc, strlen(proc)) &&
		memcmp(s->name, by_number, strlen(by_number)) != 0)
		refuse(d, f, "its name leads through /proc, to a directory that depends on who looks",
			"let the program bind it by another path");
}

static int check(struct dump *d, struct dump_file *f, struct error *e)
{
	const struct sockdiag_socket *s, *listener;
	int r;

	r = find_socket(d, f, &s, e);
	if (r < 0)
		return r;
	if (!s) {
		if (still_open(f))
			refuse(d, f, "it belongs to another network namespace",
				"close it before the checkpoint");
		return 0;
	}
	check_name(d, f, s);
	if (d->unix_cache->in_flight)
		return 0; /* what looks like outside may be among those */
	if (s->state == TCP_LISTEN)
		check_listener(d, f, s);
	else if (s->has_peer && s->peer)
		check_peer(d, f, s);
	else if (s->has_peer)
		check_alone(d, f, s);
	listener = s->peer || !s->has_peer ? NULL : sockdiag_listener_of(d->sockets, s->ino);
	unix_check_maker(d, f, peers_socket(d, listener ? listener->ino : s->peer));
	return 0;
}

/* The directory to which a relative name was relative: the path of the file without the name, if it ends
 * so; else where the process is now. */
static char *directory_of_name(struct dump *d, const struct dump_file *f, const char *path, const char *name)
{
	size_t n = strlen(path), k = strlen(name);
	char cwd[4200];

	if (n > k + 1 && path[n - k - 1] == '/' && strcmp(path + n - k, name) == 0)
		return arena_strndup(&d->arena, path, n - k - 1);
	if (n == k + 1 && strcmp(path + 1, name) == 0)
		return arena_strdup(&d->arena, "/");
	if (proc_readlink(f->proc->shown, "cwd", cwd, sizeof(cwd)) < 0)
		return NULL;
	return arena_strdup(&d->arena, cwd);
}

/* The path that a socket was bound to, seen from the container's root. */
static char *bound_path(struct dump *d, const St__Socket *m, const char *name)
{
	if (name[0] == '/')
		return arena_strdup(&d->arena, name);
	return arena_printf(&d->arena, "%s/%s", strcmp(m->cwd, "/") ? m->cwd : "", name);
}

/* In a network namespace that is not his an ordinary user is not told. Then it must be at its path, with the inode that
 * sock_diag tells. */
static int open_at_its_name(struct dump *d, const struct dump_file *f, const char *name, struct error *e)
{
	struct open_how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
	_cleanup_close_ int fd =
		name[0] == '/' ? syscall(SYS_openat2, d->root_fd, name, &how, sizeof(how)) : -1;
	const struct sockdiag_socket *s;
	struct stat st;
	int r = find_socket(d, f, &s, e);

	if (r < 0)
		return r;
	if (fd >= 0 && s && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && (uint32_t)st.st_ino == s->file_ino)
		return take_fd(&fd);
	return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
		"the file of the socket bound to \"%s\" is not at this path, and in a network namespace of "
		"others "
		"only a privileged user is told where: give the container a network namespace of its own",
		name);
}

/* The socket file: where it is now (programs bind to a temporary name and rename it), whose, and whether
 * it is there. */
static int dump_file_of(struct dump *d, const struct dump_file *f, St__Socket *m, struct error *e)
{
	_cleanup_close_ int fd = ioctl(f->local, OPT_SIOCUNIXFILE);
	char name[sizeof(struct sockaddr_un)] = "", proc[64], path[4200];
	size_t offset = offsetof(struct sockaddr_un, sun_path);
	struct stat st;
	ssize_t n;

	memcpy(name, m->local.data + offset, MIN(m->local.len - offset, sizeof(name) - 1));
	if (fd < 0 && errno == EPERM && d->unprivileged) {
		fd = open_at_its_name(d, f, name, e);
		if (fd < 0)
			return fd;
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(e, -errno, "file of the socket bound to \"%s\"", name);
	snprintf(proc, sizeof(proc), "fd/%d", fd);
	n = proc_readlink(getpid(), proc, path, sizeof(path));
	if (n < 0)
		return error_errno(e, n, "path of the socket bound to \"%s\"", name);
	if (n > 10 && strcmp(path + n - 10, " (deleted)") == 0)
		path[n - 10] = '\0';
	m->mode = st.st_mode & 07777;
	m->uid = dump_uid(d, st.st_uid);
	m->gid = dump_gid(d, st.st_gid);
	if (name[0] != '/')
		m->cwd = directory_of_name(d, f, path, name);
	if (!m->cwd)
		return error_errno(e, -ENOMEM, "directory of the socket bound to \"%s\"", name);
	if (st.st_nlink > 0 && dump_path_is(d, f, bound_path(d, m, name), &st))
		return 0;
	if (st.st_nlink > 0 && dump_path_is(d, f, path, &st)) {
		m->path = arena_strdup(&d->arena, path);
		return m->path ? 0 : error_errno(e, -ENOMEM, "path of a socket");
	}
	m->unlinked = true;
	return 0;
}

static int dump_waiting_data(
	struct dump *d, struct dump_file *f, const struct sockdiag_socket *s, St__Socket *m, struct error *e)
{
	uint64_t total = 0;
	int r = 0;

	if (f->queued) {
		m->queue = f->queued->queue;
		m->n_queue = f->queued->n_queue;
	} else {
		r = socket_dump_queue(d, f->local, m, e);
	}
	if (r < 0)
		return r;
	for (size_t i = 0; i < m->n_queue; i++)
		total += m->queue[i]->data.len;
	/* Of datagrams the kernel tells the length of the first one only. */
	if (m->type != SOCK_DGRAM && total != s->rqueue)
		return error_set(e, -EAGAIN, ERROR_REFUSED,
			"%u bytes wait in the socket, but %llu can be read (urgent data?): let the program "
			"read, then try again",
			s->rqueue, (unsigned long long)total);
	return 0;
}

/* Copies one queue, whose descriptors become files: those not known yet are added to d->files. */
static int dump_rights(struct dump *d, size_t index, struct error *e)
{
	_cleanup_close_ int fd = dump_duplicate(&d->files[index]);
	St__Socket *m = pb_new(&d->arena, Socket, socket);
	struct pollfd p = {.fd = fd};
	const struct sockdiag_socket *s;
	int r = fd < 0 ? error_errno(e, fd, "unix socket") : find_socket(d, &d->files[index], &s, e);

	if (r < 0 || !s || s->state == TCP_LISTEN)
		return r;
	if (!m)
		return error_errno(e, -ENOMEM, "unix socket");
	m->family = AF_UNIX;
	m->type = s->type;
	m->shutdown = s->shutdown;
	m->reset = m->type != SOCK_DGRAM && poll(&p, 1, 0) > 0 && p.revents & POLLERR;
	r = socket_dump_queue(d, fd, m, e);
	d->files[index].queued = m;
	return r;
}

int dump_in_flight(struct dump *d, struct error *e)
{
	int r = 0;

	for (size_t i = 0; i < d->n_files && r == 0; i++)
		if (d->files[i].resource == &resource_unix && d->files[i].info.scm_fds > 0)
			r = dump_rights(d, i, e);
	return r;
}

static int dump(struct dump *d, struct dump_file *f, struct error *e)
{
	const struct sockdiag_socket *s;
	struct pollfd p = {.fd = f->local};
	St__Socket *m;
	int r;

	r = find_socket(d, f, &s, e);
	if (r < 0)
		return r;
	if (!s)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
			"it belongs to another network namespace: close it before the checkpoint");
	r = socket_dump_common(d, f, &m, e);
	if (r < 0)
		return r;
	f->msg->net_namespace = s->ns;
	m->shutdown = s->shutdown;
	m->state = s->state == TCP_LISTEN ? SOCKET_LISTENING
		   : s->has_peer	  ? SOCKET_CONNECTED
					  : SOCKET_UNCONNECTED;
	if (m->state == SOCKET_LISTENING) {
		m->backlog = s->wqueue;
		r = unix_peer_credentials(d, f->local, &m->credentials, e);
	} else {
		m->reset = m->type != SOCK_DGRAM && poll(&p, 1, 0) > 0 && p.revents & POLLERR;
		r = dump_waiting_data(d, f, s, m, e);
	}
	if (r == 0 && m->local.len > 0 && s->has_file && is_path(s))
		r = dump_file_of(d, f, m, e);
	return r;
}

static int link_listener(
	struct dump *d, struct dump_file *f, const struct sockdiag_socket *s, struct error *e)
{
	St__Socket *m = f->msg->socket;
	bool foreign = false;
	int r;

	m->waiting = arena_array(&d->arena, s->n_pending, sizeof(*m->waiting));
	if (!m->waiting)
		return error_errno(e, -ENOMEM, "backlog");
	for (size_t i = 0; i < s->n_pending; i++) {
		struct dump_file *client = find_own(d, s->pending[i]);

		foreign |= s->pending[i] && !client;
		if (s->pending[i] && !client && !peers_socket(d, s->pending[i]))
			return error_set(e, -EOPNOTSUPP, ERROR_REFUSED,
				"a client outside of the container waits to be accepted: disconnect it, then "
				"checkpoint");
		m->waiting[m->n_waiting++] = client ? client->id : 0;
	}
	r = unix_link_backlog(d, f, s, e);
	return r == 0 && foreign ? unix_link_waiting(d, s, m, e) : r;
}

/* The listener of this name, if there is one still: accepted sockets share their listener's name (and
 * file). */
static struct dump_file *find_listener(struct dump *d, const struct sockdiag_socket *s)
{
	for (size_t i = 0; i < d->unix_cache->n_listeners && s->name_len > 0; i++) {
		const struct sockdiag_socket *o = d->unix_cache->listeners[i];

		if (o->type == s->type && o->ns == s->ns && o->name_len == s->name_len &&
			!memcmp(o->name, s->name, s->name_len) && o->has_file == s->has_file &&
			o->file_ino == s->file_ino && o->file_dev == s->file_dev)
			return find_own(d, o->ino);
	}
	return NULL;
}

/* Was f made by accept, and not its peer? peer NULL: that is closed. */
static bool was_accepted(struct dump *d, struct dump_file *f, const struct sockdiag_socket *s,
	const struct sockdiag_socket *peer)
{
	bool peer_named = peer ? peer->name_len > 0 : f->msg->socket->remote.len > 0;

	if (s->type == SOCK_DGRAM || s->name_len == 0)
		return false;
	if (!peer_named || find_listener(d, s))
		return true;
	/* Both have names and neither has a listener now: the later one was accepted. */
	return peer && !find_listener(d, peer) && s->ino > peer->ino;
}

static int link_pending(
	struct dump *d, struct dump_file *f, const struct sockdiag_socket *listener, struct error *e)
{
	const struct proc_status *owner = &f->proc->status;
	struct dump_file *l = find_own(d, listener->ino);
	const struct peer_file *other = l ? NULL : peers_socket(d, listener->ino);
	St__Socket *m = f->msg->socket;
	int r;

	if (!l && !other)
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED, "%s", outside_reason);
	m->pending = true;
	m->listener = l ? l->id : 0;
	r = l ? 0 : unix_link_arrival(d, f, listener, other, e);
	if (r < 0)
		return r;
	m->credentials = unix_new_credentials(
		d, f->proc->ns_pid, owner->uid[1], owner->gid[1], owner->groups, owner->n_groups);
	return m->credentials ? 0 : error_errno(e, -ENOMEM, "credentials of a socket");
}

static int link_peer(struct dump *d, struct dump_file *f, const struct sockdiag_socket *s, struct error *e)
{
	const struct sockdiag_socket *peer = sockdiag_find(d->sockets, s->peer);
	struct dump_file *o = find_own(d, s->peer), *listener;
	const struct peer_file *other = o ? NULL : peers_socket(d, s->peer);
	St__Socket *m = f->msg->socket;
	int r = 0;

	if (!o && unix_is_request(d, s, peer))
		return unix_link_request(d, f, s, e);
	if (other) {
		listener = find_listener(d, s);
		m->listener = listener ? listener->id : 0;
		return unix_link_foreign(d, f, s, other, e);
	}
	if (s->peer == 0) {
		m->peer_closed = true;
		r = unix_peer_credentials(d, f->local, &m->peer_credentials, e);
	} else if (peer && peer->ns != s->ns) {
		return error_set(
			e, -EOPNOTSUPP, ERROR_REFUSED, "connected to a socket of another network namespace");
	} else if (o) {
		m->peer = o->id;
		if (peer && peer->peer == s->ino)
			r = unix_peer_credentials(d, o->local, &m->credentials, e);
	} else if (!d->options->ext_unix_sk || s->type != SOCK_DGRAM || m->remote.len == 0) {
		return error_set(e, -EOPNOTSUPP, ERROR_REFUSED, "%s", outside_reason);
	}
	m->accepted = was_accepted(d, f, s, o ? peer : NULL);
	listener = m->accepted ? find_listener(d, s) : NULL;
	m->listener = listener ? listener->id : 0;
	return r;
}

/* Queues are filled before there are processes, whose pids go with the connections. */
static int check_passed(struct dump *d, const St__Socket *m, struct error *e)
{
	for (size_t i = 0; i < m->n_queue; i++) {
		for (size_t k = 0; k < m->queue[i]->n_files; k++) {
			const struct dump_file *f = dump_file_by_id(d, m->queue[i]->files[k]);

			if (f && restore_waits_for_process(f->msg))
				return error_set(e, -EAGAIN, ERROR_REFUSED,
					"a descriptor of a process (%s) is on its way in a unix socket: let "
					"it "
					"be received, then checkpoint",
					f->link);
		}
	}
	return 0;
}

static int link_unix(struct dump *d, struct dump_file *f, struct error *e)
{
	const struct sockdiag_socket *s = sockdiag_find(d->sockets, f->st.st_ino), *listener;
	int r = check_passed(d, f->msg->socket, e);

	if (r < 0)
		return r;
	if (!s || f->local < 0)
		return error_set(e, -EIO, ERROR_INTERNAL, "unix socket %s is not in the list", f->link);
	r = unix_link_names(d, f, s, e);
	if (r < 0)
		return r;
	if (s->state == TCP_LISTEN)
		return link_listener(d, f, s, e);
	if (!s->has_peer)
		return 0;
	listener = s->peer == 0 && !unix_is_request(d, s, NULL) ? sockdiag_listener_of(d->sockets, s->ino)
								: NULL;
	return listener ? link_pending(d, f, listener, e) : link_peer(d, f, s, e);
}

const struct resource resource_unix = {
	.kind = "unix socket",
	.description =
		"stream, datagram and seqpacket; pairs, named, abstract, listening with a backlog, "
		"with queued data and descriptors (those of living processes on their way are refused: "
		"pidfds, files of /proc/PID). Clients in a backlog that have sent something, or are gone: "
		"not of an "
		"ordinary user's container, nor on a kernel without BTF. Refused, after a second in which "
		"the server "
		"might accept it (--patience): one that has sent descriptors or urgent data, one from "
		"outside that is "
		"gone",
	.kind_case = ST__FILE__KIND_SOCKET,
	.match = match,
	.check = check,
	.dump = dump,
	.link = link_unix,
	.open = socket_open,
	.connect = socket_connect,
};
