/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix sockets, the restore side (socket-unix.c is the dump). All sockets are made together, in phases,
 * each of which may rely on the ones before: pairs, bind, listen, accepted connections, contents of
 * queues, datagram connections, waiting clients, shutdown, options.
 *
 * The socket's number is known to others from the beginning: a socket that has to be made by socketpair or
 * accept is put over the placeholder that socket_open() made.
 *
 * A bound path is only a name: the file may have been renamed, removed, or replaced since. The socket is
 * bound to the original name and its file then moved to where it was, or to a temporary name that goes at
 * the end.
 *
 * SO_PEERCRED tells who called socketpair, connect or listen. A socket of another process or user than
 * ours is therefore made by a short-lived child with that pid, user and groups, which shares our
 * descriptors; the pid is free again before the process that owns it is restored. A process that was gone
 * at the dump can not be imitated.
 */
#include "checkpoint/native/res/socket.h"

#include <linux/openat2.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "checkpoint/native/res/unix-restore.h"
#include "checkpoint/native/restore-nested.h"

typedef int (*unix_step)(struct unix_restore *u, struct sock *s, struct error *e);

static bool is_stream(const St__Socket *m)
{
	return m->type != SOCK_DGRAM;
}

struct sock *unix_find_sock(struct unix_restore *u, uint64_t id)
{
	for (size_t i = 0; i < u->n && id; i++)
		if (u->socks[i].file->id == id)
			return &u->socks[i];
	return NULL;
}

/* --- names --- */

bool unix_path_of(const ProtobufCBinaryData *local, char path[sizeof(struct sockaddr_un)])
{
	size_t offset = offsetof(struct sockaddr_un, sun_path), n;

	if (local->len <= offset || local->data[offset] == '\0')
		return false;
	n = MIN(local->len - offset, sizeof(struct sockaddr_un) - 1);
	memcpy(path, local->data + offset, n);
	path[n] = '\0';
	return true;
}

int unix_go(int dir, struct error *e)
{
	return fchdir(dir) < 0 ? error_errno(e, -errno, "change the directory") : 0;
}

/* A directory that an image names. Through links of /proc it would get at our own descriptors, and so out of the container. */
static int open_directory(const char *path, struct error *e)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};
	int fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));

	if (fd < 0 && errno == ELOOP)
		return error_set(e, -ELOOP, ERROR_REFUSED,
			"the directory \"%s\" of a unix socket leads through a link of /proc (or too many "
			"links): its "
			"program has to bind it by another path",
			path);
	return fd < 0 ? error_errno(e, -errno, "directory \"%s\" of a unix socket", path) : fd;
}

/* Opens the directory of a path and gives the last part; relative to the current directory. */
static int split_path(const char *path, int *ret_dir, char leaf[LEAF_SIZE], struct error *e)
{
	const char *slash = strrchr(path, '/');
	char dir[4200];

	if (!slash)
		snprintf(dir, sizeof(dir), ".");
	else if (snprintf(dir, sizeof(dir), "%.*s", (int)MAX(slash - path, 1l), path) >= (int)sizeof(dir))
		return error_errno(e, -ENAMETOOLONG, "%s", path);
	if (strlen(slash ? slash + 1 : path) >= LEAF_SIZE)
		return error_errno(e, -ENAMETOOLONG, "%s", path);
	snprintf(leaf, LEAF_SIZE, "%s", slash ? slash + 1 : path);
	*ret_dir = open_directory(dir, e);
	return MIN(*ret_dir, 0);
}

/* Makes the name free. What is there is a stale file of this very socket (removed), or something else that
 * took the name after the socket had lost it (put aside, as *aside tells). */
static int clear_name(const char *path, bool own, char *aside, size_t size, struct error *e)
{
	struct stat st;

	aside[0] = '\0';
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : error_errno(e, -errno, "%s", path);
	if (own && !S_ISSOCK(st.st_mode))
		return error_set(
			e, -EEXIST, ERROR_STATE, "%s should be a socket, but is something else", path);
	if (own)
		return unlink(path) < 0 ? error_errno(e, -errno, "remove the old socket %s", path) : 0;
	snprintf(aside, size, "%s.stasis-aside", path);
	return rename(path, aside) < 0 ? error_errno(e, -errno, "move %s aside", path) : 0;
}

/* Only a socket may be replaced: an image must not be able to name any other file as the new place of a
 * socket. */
static int move_file(struct sock *s, const char *to, struct error *e)
{
	struct stat st;
	int dir = -EBADF, r;
	char leaf[sizeof(s->leaf)];

	r = split_path(to, &dir, leaf, e);
	if (r < 0)
		return r;
	if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISSOCK(st.st_mode))
		r = error_set(e, -EEXIST, ERROR_STATE, "%s should be a socket, but is something else", to);
	else if (renameat(s->dir, s->leaf, dir, leaf) < 0)
		r = error_errno(e, -errno, "move a socket to %s", to);
	close_p(&s->dir);
	s->dir = dir;
	memcpy(s->leaf, leaf, sizeof(leaf));
	return r;
}

static int move_to_temporary(struct unix_restore *u, struct sock *s, struct error *e)
{
	char leaf[sizeof(s->leaf)];

	snprintf(leaf, sizeof(leaf), ".stasis-%08x-%u", u->random, ++u->n_temporary);
	if (renameat(s->dir, s->leaf, s->dir, leaf) < 0)
		return error_errno(e, -errno, "move a socket to a temporary name");
	memcpy(s->leaf, leaf, sizeof(leaf));
	s->temporary = true;
	return 0;
}

/* Programs whose paths are too long for an address (conmon) bind to "/proc/self/fd/N/name". The number, or -1. */
static int number_in(const char *path, const char **ret_leaf)
{
	static const char start[] = "/proc/self/fd/";
	char *end;
	long n;

	if (strncmp(path, start, strlen(start)) != 0)
		return -1;
	n = strtol(path + strlen(start), &end, 10);
	*ret_leaf = end + 1;
	return *end == '/' && end[1] && !strchr(end + 1, '/') && n >= 0 && n < 1 << 20 ? (int)n : -1;
}

/* In s->dir, to which "path" leads from the current directory. */
static int bind_path(
	struct unix_restore *u, struct sock *s, int fd, const char *path, bool moved, struct error *e)
{
	const St__Socket *m = s->m;
	struct sockaddr_storage a;
	char aside[256];
	socklen_t len;
	int r;

	r = clear_name(path, !m->unlinked && !moved, aside, sizeof(aside), e);
	if (r < 0)
		return r;
	if (!socket_address(&m->local, AF_UNIX, &a, &len) || bind(fd, (struct sockaddr *)&a, len) < 0)
		return error_errno(e, -errno, "bind a socket to %s", path);
	if (fchownat(s->dir, s->leaf, m->uid, m->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
		fchmodat(s->dir, s->leaf, m->mode & 07777, 0) < 0)
		return error_errno(e, -errno, "owner and mode of the socket %s", path);
	if (m->unlinked)
		r = move_to_temporary(u, s, e);
	else if (moved)
		r = move_file(s, m->path, e);
	if (r == 0 && aside[0] && rename(aside, path) < 0)
		r = error_errno(e, -errno, "put %s back", path);
	return r;
}

/* Lends the number for a moment to the directory in which the file is. */
static int bind_by_number(
	struct unix_restore *u, struct sock *s, int fd, const char *path, int number, struct error *e)
{
	int r;

	if (fcntl(number, F_GETFD) >= 0)
		return error_set(e, -EBUSY, ERROR_STATE,
			"the socket %s is bound by the number of a descriptor that the restore needs itself",
			path);
	r = split_path(s->m->path, &s->dir, s->leaf, e);
	if (r == 0 && dup3(s->dir, number, O_CLOEXEC) < 0)
		r = error_errno(e, -errno, "directory of the socket %s", s->m->path);
	if (r < 0)
		return r;
	r = bind_path(u, s, fd, path, false, e);
	close(number);
	return r;
}

static int bind_by_path(struct unix_restore *u, struct sock *s, int fd, const char *path, struct error *e)
{
	int r = split_path(path, &s->dir, s->leaf, e);

	return r < 0 ? r : bind_path(u, s, fd, path, s->m->path && *s->m->path, e);
}

int unix_bind_name(struct unix_restore *u, struct sock *s, int fd, struct error *e)
{
	const char *now = s->m->path ? strrchr(s->m->path, '/') : NULL, *leaf = "";
	char path[sizeof(struct sockaddr_un) + 1];
	_cleanup_close_ int cwd = -EBADF;
	struct sockaddr_storage a;
	int r, back, number;
	socklen_t len;

	if (!socket_address(&s->m->local, AF_UNIX, &a, &len))
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "address of a unix socket");
	if (!unix_path_of(&s->m->local, path))
		return bind(fd, (struct sockaddr *)&a, len) < 0
			       ? error_errno(e, -errno, "bind an abstract socket")
			       : 0;
	if (path[0] != '/' && s->m->cwd && *s->m->cwd) {
		cwd = open_directory(s->m->cwd, e);
		r = cwd < 0 ? cwd : unix_go(cwd, e);
		if (r < 0)
			return r;
	}
	number = number_in(path, &leaf);
	if (number >= 0 && now && !strcmp(now + 1, leaf))
		r = bind_by_number(u, s, fd, path, number, e);
	else
		r = bind_by_path(u, s, fd, path, e);
	back = unix_go(u->cwd, r < 0 ? NULL : e);
	return r < 0 ? r : back;
}

/* --- calls on behalf of others --- */

static int do_pair(const struct deed *k)
{
	_cleanup_close_ int a = -EBADF, b = -EBADF;
	int sv[2];

	if (socketpair(AF_UNIX, k->type | SOCK_CLOEXEC, 0, sv) < 0)
		return -errno;
	a = sv[0];
	b = sv[1];
	return dup3(a, k->a, O_CLOEXEC) < 0 || dup3(b, k->b, O_CLOEXEC) < 0 ? -errno : 0;
}

static int do_deed(const struct deed *k)
{
	switch (k->call) {
	case CALL_PAIR:
		return do_pair(k);
	case CALL_LISTEN:
		return listen(k->a, k->backlog) < 0 ? -errno : 0;
	case CALL_CONNECT:
		if (k->dir >= 0 && fchdir(k->dir) < 0)
			return -errno;
		return connect(k->a, (const struct sockaddr *)&k->address, k->len) < 0 ? -errno : 0;
	}
	return -EINVAL;
}

static bool is_self(const St__SocketCredentials *c)
{
	return !c || ((c->pid == 0 || c->pid == getpid()) && c->uid == 0 && c->gid == 0 &&
			     (int)c->n_groups == getgroups(0, NULL));
}

static _Noreturn void do_as(const St__SocketCredentials *c, const struct deed *k)
{
	if ((!restore_has_groups(c->groups, c->n_groups) &&
		    syscall(SYS_setgroups, c->n_groups, c->groups) < 0) ||
		syscall(SYS_setresgid, c->gid, c->gid, c->gid) < 0 ||
		syscall(SYS_setresuid, c->uid, c->uid, c->uid) < 0)
		_exit(errno);
	_exit(-do_deed(k));
}

/* Back to what we are. The change has made the kernel forget who may look at us, and who ends us. */
static int be_ourselves(const struct restore *r, const gid_t *groups, int n_groups)
{
	if (syscall(SYS_setresuid, -1, 0, -1) < 0 || syscall(SYS_setresgid, -1, 0, -1) < 0 ||
		(n_groups >= 0 && syscall(SYS_setgroups, n_groups, groups) < 0) ||
		(r->own_user && prctl(PR_SET_DUMPABLE, 1) < 0) || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	return 0;
}

/* What init had done as another user: a child of ours would have another pid, which others see. */
static int do_as_init(const struct restore *r, const St__SocketCredentials *c, const struct deed *k)
{
	bool others = !restore_has_groups(c->groups, c->n_groups);
	gid_t groups[256];
	int n = getgroups(ARRAY_SIZE(groups), groups), result, back;

	if (n < 0)
		return -errno;
	if ((others && syscall(SYS_setgroups, c->n_groups, c->groups) < 0) ||
		syscall(SYS_setresgid, -1, c->gid, -1) < 0 || syscall(SYS_setresuid, -1, c->uid, -1) < 0)
		result = -errno;
	else
		result = do_deed(k);
	back = be_ourselves(r, groups, others ? n : -1);
	return back < 0 ? back : result;
}

/* As it may have any pid; where other containers live, one of them may have that for a moment (another one that imitates, a sender of
 * a message): -EEXIST if it stays so. */
static pid_t clone_as(const struct restore *r, pid_t pid)
{
	enum { TURNS = 400 };
	pid_t child = unix_clone_sharing_files(pid);

	if (child >= 0 || !pid)
		return child;
	if (!r->container->pids)
		return unix_clone_sharing_files(
			0); /* no pid namespace of its own: that pid is not to be had */
	for (int i = 0; i < TURNS && child < 0 && errno == EEXIST; i++) {
		usleep(5000);
		child = unix_clone_sharing_files(pid);
	}
	return child;
}

static bool is_init(const struct restore *r, const St__SocketCredentials *c)
{
	return c->pid == getpid() && c->pid == r->procs[0]->pid;
}

int unix_perform(struct unix_restore *u, const St__SocketCredentials *c, const struct deed *k,
	const char *what, struct error *e)
{
	int status = 0, r = 0;
	pid_t child;

	if (!is_self(c) && is_init(u->r, c) && do_as_init(u->r, c, k) == 0)
		return k->call == CALL_CONNECT && k->dir >= 0 ? unix_go(u->cwd, e) : 0;
	if (!is_self(c)) {
		child = clone_as(u->r, c->pid == getpid() ? 0 : c->pid);
		if (child == 0)
			do_as(c, k);
		if (child < 0 && errno == EEXIST)
			return error_set(e, -EEXIST, ERROR_STATE,
				"%s: it was made by process %d, and that pid is already taken in the "
				"container's pid "
				"namespace",
				what, c->pid);
		if (child < 0)
			return error_errno(e, -errno, "fork to %s", what);
		while (waitpid(child, &status, __WALL) < 0 && errno == EINTR)
			;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			return 0;
	}
	r = do_deed(k);
	if (k->call == CALL_CONNECT && k->dir >= 0 && unix_go(u->cwd, e) < 0)
		return -EIO;
	return r < 0 ? error_errno(e, r, "%s", what) : 0;
}

/* By the name that the target has now. A backlog that is full (of a damaged image) must not stop us for
 * ever. */
int unix_connect_to(struct unix_restore *u, int fd, const struct sock *target, const St__SocketCredentials *c,
	struct error *e)
{
	struct deed k = {.call = CALL_CONNECT, .a = fd, .dir = target->dir};
	struct timeval limit = {.tv_sec = 5}, none = {0};
	struct sockaddr_un *a = (struct sockaddr_un *)&k.address;
	int r;

	if (target->dir >= 0) {
		a->sun_family = AF_UNIX;
		snprintf(a->sun_path, sizeof(a->sun_path), "%s", target->leaf);
		k.len = offsetof(struct sockaddr_un, sun_path) + strlen(a->sun_path) + 1;
	} else if (!socket_address(&target->m->local, AF_UNIX, &k.address, &k.len)) {
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "connection to a unix socket without a name");
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	r = unix_perform(u, c, &k, "connect a unix socket", e);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none)); /* its own is set at the end */
	return r;
}

int unix_reserve_number(struct unix_restore *u, int *ret, struct error *e)
{
	*ret = fcntl(u->cwd, F_DUPFD_CLOEXEC, u->cwd);
	return *ret < 0 ? error_errno(e, -errno, "reserve a descriptor") : 0;
}

/* --- the phases --- */

/* A closed peer that had no name, or a peer of ours: both ends come from socketpair. */
static bool from_socketpair(const struct sock *s)
{
	if (is_stream(s->m) && (s->m->accepted || (s->peer && s->peer->m->accepted)))
		return false;
	return s->peer || (s->m->peer_closed && (!is_stream(s->m) || s->m->remote.len == 0));
}

static int make_pair(struct unix_restore *u, struct sock *s, struct error *e)
{
	struct deed k = {.call = CALL_PAIR, .a = s->fd, .type = s->m->type};
	int r = 0;

	if (!from_socketpair(s) || (s->peer && s->peer < s))
		return 0;
	if (!s->peer)
		r = unix_reserve_number(u, &s->other, e);
	if (r < 0)
		return r;
	k.b = s->peer ? s->peer->fd : s->other;
	s->replaced = true;
	if (s->peer)
		s->peer->replaced = true;
	return unix_perform(u, s->peer ? s->m->credentials : s->m->peer_credentials, &k,
		"make a pair of unix sockets", e);
}

static int bind_socket(struct unix_restore *u, struct sock *s, struct error *e)
{
	int r = socket_restore_options(s->fd, s->m, SOCKET_EARLY, e);

	return r < 0 || s->m->local.len == 0 || s->m->accepted ? r : unix_bind_name(u, s, s->fd, e);
}

static int listen_socket(struct unix_restore *u, struct sock *s, struct error *e)
{
	struct deed k = {.call = CALL_LISTEN, .a = s->fd, .backlog = s->m->backlog};

	if (s->m->state != SOCKET_LISTENING)
		return 0;
	return unix_perform(u, s->m->credentials, &k, "listen on a unix socket", e);
}

int unix_temporary_listener(
	struct unix_restore *u, struct sock *l, const St__SocketCredentials *seen, struct error *e)
{
	struct deed k = {.call = CALL_LISTEN, .backlog = 1};
	int r;

	l->fd = socket(AF_UNIX, l->m->type | SOCK_CLOEXEC, 0);
	if (l->fd < 0)
		return error_errno(e, -errno, "make a unix socket");
	r = unix_bind_name(u, l, l->fd, e);
	k.a = l->fd;
	return r < 0 ? r : unix_perform(u, seen, &k, "listen on a unix socket", e);
}

void unix_drop(struct sock *l)
{
	if (l->temporary)
		unlinkat(l->dir, l->leaf, 0);
	close_p(&l->dir);
	close_p(&l->fd);
}

/* Connects "client" to the listener and puts the accepted end on number "server". */
static int connect_and_accept(struct unix_restore *u, struct sock *listener, int client, int server,
	const St__SocketCredentials *client_credentials, struct error *e)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	r = unix_connect_to(u, client, listener, client_credentials, e);
	if (r < 0)
		return r;
	fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 || dup3(fd, server, O_CLOEXEC) < 0)
		return error_errno(e, -errno, "accept a unix socket");
	return 0;
}

/* s was accepted: its peer is the client, or a closed one that s->other stands for. */
static int accept_server(struct unix_restore *u, struct sock *s, struct error *e)
{
	struct sock *listener = unix_find_sock(u, s->m->listener);
	struct sock temporary = {.file = s->file, .m = s->m, .fd = -EBADF, .other = -EBADF, .dir = -EBADF};
	int client, r = 0;

	if (!s->peer) {
		s->other = socket(AF_UNIX, s->m->type | SOCK_CLOEXEC, 0);
		if (s->other < 0)
			return error_errno(e, -errno, "make a unix socket");
	}
	client = s->peer ? s->peer->fd : s->other;
	if (!listener)
		r = unix_temporary_listener(u, &temporary, s->m->credentials, e);
	if (r == 0)
		r = connect_and_accept(u, listener ? listener : &temporary, client, s->fd,
			s->peer ? s->peer->m->credentials : s->m->peer_credentials, e);
	unix_drop(&temporary);
	s->replaced = true;
	return r;
}

/* s is the client of an accepted socket that has been closed: only the name of that is left. */
static int accept_closed(struct unix_restore *u, struct sock *s, struct error *e)
{
	St__Socket name = ST__SOCKET__INIT;
	struct sock temporary = {.file = s->file, .m = &name, .fd = -EBADF, .other = -EBADF, .dir = -EBADF};
	int r;

	name.type = s->m->type;
	name.local = s->m->remote;
	name.unlinked = true;
	name.mode = 0700;
	r = unix_reserve_number(u, &s->other, e);
	if (r == 0)
		r = unix_temporary_listener(u, &temporary, s->m->peer_credentials, e);
	if (r == 0)
		r = connect_and_accept(u, &temporary, s->fd, s->other, NULL, e);
	unix_drop(&temporary);
	return r;
}

static int accept_socket(struct unix_restore *u, struct sock *s, struct error *e)
{
	if (!is_stream(s->m) || unix_is_foreign(s))
		return 0;
	if (s->m->accepted)
		return s->peer || s->m->peer_closed ? accept_server(u, s, e) : 0;
	return s->m->peer_closed && s->m->remote.len > 0 ? accept_closed(u, s, e) : 0;
}

/* The socket that is bound to this address. Names that are no paths are those of a network namespace. */
static struct sock *find_bound(struct unix_restore *u, const ProtobufCBinaryData *address, uint64_t ns)
{
	bool is_path = address->len > sizeof(sa_family_t) && address->data[sizeof(sa_family_t)];

	for (size_t i = 0; i < u->n; i++) {
		const ProtobufCBinaryData *local = &u->socks[i].m->local;

		if (!is_path && u->socks[i].file->net_namespace != ns)
			continue;
		if (!u->socks[i].m->accepted && u->socks[i].m->type == SOCK_DGRAM &&
			local->len == address->len && !memcmp(local->data, address->data, local->len))
			return &u->socks[i];
	}
	return NULL;
}

/* A datagram for s from a sender that is not its peer: another socket of ours, or one that is gone. */
static int send_datagram(
	struct unix_restore *u, struct sock *s, const St__SocketMessage *message, struct error *e)
{
	struct sock *sender =
		message->address.len ? find_bound(u, &message->address, s->file->net_namespace) : NULL;
	St__Socket name = ST__SOCKET__INIT;
	struct sock temporary = {.file = s->file, .m = &name, .fd = -EBADF, .other = -EBADF, .dir = -EBADF};
	struct sockaddr_storage to;
	socklen_t len;
	int r = 0;

	if (!socket_address(&s->m->local, AF_UNIX, &to, &len))
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "datagrams wait in a socket without a name");
	if (*message->sender) {
		r = unix_sender(u, message, &temporary.fd, e);
		if (r < 0)
			return r;
		sender = &temporary;
	}
	if (s->dir >= 0) {
		snprintf(((struct sockaddr_un *)&to)->sun_path, LEAF_SIZE, "%s", s->leaf);
		len = sizeof(sa_family_t) + strlen(s->leaf) + 1;
	}
	if (!sender) {
		temporary.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		name.type = SOCK_DGRAM;
		name.local = message->address;
		name.unlinked = true;
		name.mode = 0700;
		if (temporary.fd < 0)
			r = error_errno(e, -errno, "make a unix socket");
		else if (name.local.len > 0)
			r = unix_bind_name(u, &temporary, temporary.fd, e);
	}
	if (r == 0 && s->dir >= 0)
		r = unix_go(s->dir, e);
	if (r == 0)
		r = unix_send_message(
			u->r, sender ? sender->fd : temporary.fd, (struct sockaddr *)&to, len, message, e);
	unix_drop(&temporary);
	return unix_go(u->cwd, r < 0 ? NULL : e) < 0 ? -EIO : r;
}

static int fill_queue(struct unix_restore *u, struct sock *s, struct error *e)
{
	int from = s->peer ? s->peer->fd : s->foreign >= 0 ? s->foreign : s->other;
	int r = 0;

	for (size_t i = 0; i < s->m->n_queue && r == 0; i++) {
		if (from >= 0)
			r = unix_send_message(u->r, from, NULL, 0, s->m->queue[i], e);
		else
			r = send_datagram(u, s, s->m->queue[i], e);
	}
	return r;
}

/* A closed peer: what it had not read makes ECONNRESET. Its name, if it was a datagram socket's, is gone
 * with it. */
static int close_other(struct unix_restore *u, struct sock *s, struct error *e)
{
	if (s->other < 0)
		return 0;
	if (s->m->reset && send(s->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
		return error_errno(e, -errno, "reset a unix socket");
	close_p(&s->other);
	return 0;
}

/* Datagram sockets that are connected in one direction only. */
static int connect_datagram(struct unix_restore *u, struct sock *s, struct error *e)
{
	struct sock *target = unix_find_sock(u, s->m->peer);
	struct sockaddr_storage a;
	socklen_t len;

	if (is_stream(s->m) || s->m->state != SOCKET_CONNECTED || s->peer || s->m->peer_closed ||
		unix_is_foreign(s))
		return 0;
	if (*s->m->target)
		return unix_connect_target(u, s, e);
	if (target)
		return unix_connect_to(u, s->fd, target, NULL, e);
	if (!socket_address(&s->m->remote, AF_UNIX, &a, &len))
		return error_set(e, -EBADMSG, ERROR_CORRUPT, "address of the peer of a unix socket");
	if (connect(s->fd, (struct sockaddr *)&a, len) < 0)
		return error_errno(e, -errno, "connect to a unix socket outside of the container");
	return 0;
}

static int shut_down(struct unix_restore *u, struct sock *s, struct error *e)
{
	static const int how[] = {-1, SHUT_RD, SHUT_WR, SHUT_RDWR};
	int bits = s->m->shutdown & 3;

	if (bits && !s->m->peer_closed && shutdown(s->fd, how[bits]) < 0)
		return error_errno(e, -errno, "shut a unix socket down");
	return 0;
}

static int finish(struct unix_restore *u, struct sock *s, struct error *e)
{
	int r = unix_forget_arrivals(s, e);

	if (r == 0)
		r = socket_restore_options(s->fd, s->m, SOCKET_LATE, e);
	if (r < 0)
		return r;
	if (s->replaced && fcntl(s->fd, F_SETFL, s->file->flags & KEPT_FLAGS) < 0)
		return error_errno(e, -errno, "flags of a unix socket");
	if (s->temporary && unlinkat(s->dir, s->leaf, 0) < 0)
		return error_errno(e, -errno, "remove a temporary socket file");
	s->temporary = false;
	return 0;
}

static int collect_socks(struct unix_restore *u, struct error *e)
{
	struct restore *r = u->r;

	u->socks = arena_array(&r->arena, r->n_files, sizeof(*u->socks));
	if (!u->socks)
		return error_errno(e, -ENOMEM, "unix sockets");
	for (size_t i = 0; i < r->n_files; i++) {
		const St__File *f = r->files[i];

		if (f->kind_case == ST__FILE__KIND_SOCKET && f->socket->family == AF_UNIX)
			u->socks[u->n++] = (struct sock){.file = f,
				.m = f->socket,
				.fd = restore_fd(r, f->id),
				.other = -EBADF,
				.foreign = -EBADF,
				.dir = -EBADF};
	}
	for (size_t i = 0; i < u->n; i++) {
		struct sock *s = &u->socks[i], *p = unix_find_sock(u, s->m->peer);

		if (p == s)
			return error_set(e, -EBADMSG, ERROR_CORRUPT, "a unix socket is its own peer");
		if (p && p->m->peer == s->file->id && p->m->type == s->m->type)
			s->peer = p;
		else if (s->m->peer && (!p || is_stream(s->m)))
			return error_set(e, -EBADMSG, ERROR_CORRUPT, "peer of a unix socket");
	}
	return 0;
}

/* Nothing temporary stays, whatever happened. */
static void clean_up(struct unix_restore *u)
{
	for (size_t i = 0; i < u->n; i++) {
		struct sock *s = &u->socks[i];

		if (s->temporary)
			unlinkat(s->dir, s->leaf, 0);
		close_p(&s->dir);
		close_p(&s->other);
		close_p(&s->foreign);
	}
	close_p(&u->cwd);
}

static int take_steps(struct unix_restore *u, const unix_step *steps, size_t n, struct error *e)
{
	int result = 0;

	for (size_t k = 0; k < n && result == 0; k++)
		for (size_t i = 0; i < u->n && result == 0; i++) {
			result = restore_enter_network(u->r, u->socks[i].file->net_namespace, e);
			if (result == 0)
				result = steps[k](u, &u->socks[i], e);
		}
	return result;
}

int unix_restore_all(struct restore *r, struct error *e)
{
	static const unix_step before[] = {unix_offer_pair, unix_take_pair, make_pair, bind_socket,
		listen_socket, unix_offer_name, unix_fetch_pair, accept_socket};
	static const unix_step after[] = {
		fill_queue, unix_tell_filled, close_other, connect_datagram, unix_connect_waiting};
	static const unix_step last[] = {unix_await_filled, shut_down, finish};
	struct unix_restore u = {.r = r, .cwd = -EBADF};
	int result, fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return error_errno(e, -errno, "current directory");
	/* Above all numbers that belong to files. */
	u.cwd = fcntl(fd, F_DUPFD_CLOEXEC, r->fd_base + (int)r->n_files);
	close(fd);
	if (u.cwd < 0 || getrandom(&u.random, sizeof(u.random), 0) != sizeof(u.random))
		return error_errno(e, -errno, "current directory");
	result = collect_socks(&u, e);
	if (result == 0)
		result = take_steps(&u, before, ARRAY_SIZE(before), e);
	if (result == 0)
		result = unix_join(&u, e);
	if (result == 0)
		result = take_steps(&u, after, ARRAY_SIZE(after), e);
	if (result == 0)
		result = unix_join_waiting(&u, e);
	if (result == 0)
		result = take_steps(&u, last, ARRAY_SIZE(last), e);
	clean_up(&u);
	return result;
}
