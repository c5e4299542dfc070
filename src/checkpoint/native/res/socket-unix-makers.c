/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who made a unix socket, as SO_PEERCRED of the other end tells it: pid, user and groups of who called connect, listen or
 * socketpair. A restore imitates a process that is not there yet (socket-unix-restore.c). Where several containers are in one
 * pid namespace that may be a process of another one of them, who has passed the socket over: its first process is there from the
 * beginning, the others come at any time. Then nobody else can have its pid, and it is refused.
 */
#include "checkpoint/native/res/socket.h"

#include <signal.h>
#include <string.h>

#include "base/fd.h"
#include "checkpoint/native/peers.h"
#include "checkpoint/native/shared-pids.h"

enum { OPT_SO_PEERGROUPS = 59, MAX_GROUPS = 1024 };

/* What the container's pid namespace says of processes that are not the container's. */
struct unix_makers {
	size_t n;
	struct maker {
		pid_t outside;
		int inside;
		bool taken; /* somebody has that pid */
	} list[64];
};

St__SocketCredentials *unix_new_credentials(
	struct dump *d, int pid, uint32_t uid, uint32_t gid, const uint32_t *groups, size_t n_groups)
{
	St__SocketCredentials *c = pb_new(&d->arena, SocketCredentials, socket_credentials);

	if (!c)
		return NULL;
	c->pid = pid;
	c->uid = dump_uid(d, uid);
	c->gid = dump_gid(d, gid);
	c->n_groups = n_groups;
	c->groups = arena_memdup(&d->arena, groups, n_groups * sizeof(*groups));
	for (size_t i = 0; c->groups && i < n_groups; i++)
		c->groups[i] = dump_gid(d, groups[i]);
	return c->groups ? c : NULL;
}

struct question {
	int fd;
	struct maker answer;
};

static int ask_peer(void *arg)
{
	struct question *q = arg;
	struct ucred cred;

	if (getsockopt(q->fd, SOL_SOCKET, SO_PEERCRED, &cred, &(socklen_t){sizeof(cred)}) < 0)
		return -errno;
	q->answer.inside = cred.pid;
	q->answer.taken = cred.pid && (kill(cred.pid, 0) == 0 || errno == EPERM);
	return 0;
}

static struct maker look_inside(struct dump *d, int fd, pid_t outside)
{
	struct question q = {.fd = fd, .answer = {.outside = outside}};
	struct unix_makers *m = d->unix_makers;

	if (!m)
		m = d->unix_makers = arena_new(&d->arena, struct unix_makers);
	for (size_t i = 0; m && i < m->n; i++)
		if (m->list[i].outside == outside)
			return m->list[i];
	(void)!socket_run_inside(d, ask_peer, &q);
	if (m && m->n < ARRAY_SIZE(m->list))
		m->list[m->n++] = q.answer;
	return q.answer;
}

static int pid_inside(struct dump *d, int fd, pid_t outside)
{
	int inside = socket_ns_pid(d, outside);

	return inside || outside == 0 ? inside : look_inside(d, fd, outside).inside;
}

int unix_peer_credentials(struct dump *d, int fd, St__SocketCredentials **ret, struct error *e)
{
	struct ucred cred;
	gid_t groups[MAX_GROUPS];
	socklen_t len = sizeof(groups);

	*ret = NULL;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &(socklen_t){sizeof(cred)}) < 0)
		return error_errno(e, -errno, "SO_PEERCRED");
	if (cred.pid == 0 && cred.uid == (uid_t)-1)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, OPT_SO_PEERGROUPS, groups, &len) < 0)
		len = 0;
	*ret = unix_new_credentials(
		d, pid_inside(d, fd, cred.pid), cred.uid, cred.gid, groups, len / sizeof(*groups));
	return *ret ? 0 : error_errno(e, -ENOMEM, "credentials of a socket");
}

/* Its number; also a thread has one. */
static bool is_own(const struct dump *d, int inside)
{
	for (size_t i = 0; i < d->n_procs; i++)
		for (size_t k = 0; k < d->procs[i].n_threads; k++)
			if (d->procs[i].threads[k].ns_tid == inside)
				return true;
	return false;
}

void unix_check_maker(struct dump *d, const struct dump_file *f, const struct peer_file *other)
{
	_cleanup_close_ int fd = -EBADF;
	const char *whose;
	struct ucred c;
	struct maker m;

	if (!d->options->together || !shared_pids_is_shared(d, d->options->together->self))
		return;
	fd = dump_duplicate(f);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &(socklen_t){sizeof(c)}) < 0 ||
		c.pid <= 0 || socket_ns_pid(d, c.pid))
		return;
	whose = shared_pids_whose(d, c.pid);
	/* Its container will make it. */
	if (whose && other && !strcmp(whose, peers_name(d, other->member)))
		return;
	m = look_inside(d, fd, c.pid);
	if (!m.taken || is_own(d, m.inside))
		return;
	dump_refuse(d, f->proc, f->fd, "unix socket",
		arena_printf(&d->arena,
			"it was made by process %d, and that pid has a process of %s%s%s now: SO_PEERCRED "
			"would tell "
			"another one",
			m.inside, whose ? "the container \"" : "another container", whose ? whose : "",
			whose ? "\"" : ""),
		"let the container that has it make it (connect, listen, socketpair), or end that process",
		"%s", f->link);
}
