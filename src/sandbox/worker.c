/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers: children of the supervisor, each of which runs one call. The replies come through a socket pair as frames; the
 * supervisor passes them on, no faster than the client takes them. A worker is told by SIGTERM that its client (or the
 * supervisor) is gone, and may finish or undo what it does.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/log.h"
#include "linux/procfd.h"
#include "sandbox/server.h"
#include "sandbox/supervisor.h"

enum frame_type { FRAME_REPLY, FRAME_LAST, FRAME_PROCESS };

struct frame {
	uint32_t type, len;
};

struct worker {
	struct supervisor *s;
	struct call *call; /* NULL: nobody wants its replies */
	pid_t pid;
	int socket;
	struct loop_fd io;
	char *in;
	size_t in_len, in_size;
	bool paused; /* until its client takes more */
	struct worker *next;
};

enum {
	FIRST_FD = 200, /* of what a worker keeps: methods place others below */
	FRAME_MAX = SERVER_OUT_MAX / 2,
};

/* ---- in the worker ---- */

static int send_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= n;
	}
	return 0;
}

static int send_frame(int fd, enum frame_type type, const void *data, size_t len)
{
	struct frame f = {type, len};
	int r = len > FRAME_MAX ? -EMSGSIZE : send_all(fd, &f, sizeof(f));

	return r < 0 ? r : send_all(fd, data, len);
}

int worker_send_reply(struct call *c, const char *data, size_t len, bool final)
{
	return send_frame(c->worker_socket, final ? FRAME_LAST : FRAME_REPLY, data, len);
}

struct process_frame {
	pid_t pid;
	int inside;
	uint64_t start_time;
	char id[256];
};

int call_keep_process(struct call *c, pid_t pid, int inside, const char *id)
{
	struct process_frame f = {.pid = pid, .inside = inside};
	int r = process_start_time(pid, &f.start_time);

	if (r < 0)
		return r;
	snprintf(f.id, sizeof(f.id), "%s", id);
	return send_frame(c->worker_socket, FRAME_PROCESS, &f, sizeof(f));
}

/* All descriptors of the supervisor go. */
static int keep_own_fds(struct call *c)
{
	unsigned from = STDERR_FILENO + 1;

	for (int i = -1; i < c->n_fds; i++) {
		int *fd = i < 0 ? &c->worker_socket : &c->fds[i];

		*fd = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_FD);
		if (*fd < 0)
			return -errno;
	}
	/* they got ascending numbers, but not without gaps */
	for (int i = -1; i < c->n_fds; i++) {
		unsigned fd = i < 0 ? c->worker_socket : c->fds[i];

		if (fd > from && close_range(from, fd - 1, 0) < 0)
			return -errno;
		from = fd + 1;
	}
	return close_range(from, ~0U, 0) < 0 ? -errno : 0;
}

static _Noreturn void worker_main(struct call *c, int socket, pid_t parent)
{
	struct error e = {0};
	sigset_t none;
	int r;

	c->worker_socket = socket;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_NAME, "stasis:worker");
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(1);
	r = keep_own_fds(c);
	if (r < 0)
		_exit(1);
	log_forget();
	r = c->method->run(c, &e);
	if (!c->replied)
		r = r < 0 ? call_failed(c, &e) : call_reply(c, NULL, false);
	_exit(r < 0);
}

/* ---- in the supervisor ---- */

static void worker_free(struct worker *w)
{
	for (struct worker **p = &w->s->workers; *p; p = &(*p)->next)
		if (*p == w) {
			*p = w->next;
			break;
		}
	loop_forget(w->s->loop, &w->io);
	close_p(&w->socket);
	free(w->in);
	free(w);
}

/* The client is free for its next call; the worker may still have things to do. */
static void finish_call(struct worker *w)
{
	struct call *c = take_ptr(w->call);
	struct connection *k = c->connection;

	c->worker = NULL;
	if (k)
		k->call = NULL;
	call_free(c);
	if (k)
		connection_next(k);
}

static void take_frame(struct worker *w, const struct frame *f, const char *data)
{
	struct process_frame p;
	struct connection *k = w->call ? w->call->connection : NULL;

	switch (f->type) {
	case FRAME_REPLY:
	case FRAME_LAST:
		if (k)
			connection_send(k, data, f->len);
		if (f->type == FRAME_LAST && w->call)
			finish_call(w);
		break;
	case FRAME_PROCESS:
		if (f->len == sizeof(p)) {
			memcpy(&p, data, sizeof(p));
			p.id[sizeof(p.id) - 1] = '\0';
			supervisor_keep_process(w->s, p.pid, p.inside, p.start_time, p.id);
		}
		break;
	}
}

static int take_frames(struct worker *w)
{
	size_t at = 0;

	for (;;) {
		struct frame f;

		if (w->in_len - at < sizeof(f))
			break;
		memcpy(&f, w->in + at, sizeof(f));
		if (f.len > FRAME_MAX)
			return -EBADMSG;
		if (w->in_len - at < sizeof(f) + f.len)
			break;
		take_frame(w, &f, w->in + at + sizeof(f));
		at += sizeof(f) + f.len;
	}
	w->in_len -= at;
	memmove(w->in, w->in + at, w->in_len);
	return 0;
}

/* 1: there may be more, 0: not now, negative: never again. */
static int read_socket(struct worker *w)
{
	ssize_t n;

	if (w->in_size - w->in_len < 4096) {
		size_t size = MAX(2 * w->in_size, (size_t)16384);
		char *in = realloc(w->in, size);

		if (!in)
			return -ENOMEM;
		w->in = in;
		w->in_size = size;
	}
	n = recv(w->socket, w->in + w->in_len, w->in_size - w->in_len, MSG_DONTWAIT);
	if (n == 0)
		return -EPIPE;
	if (n < 0)
		return errno == EINTR ? 1 : errno == EAGAIN ? 0 : -errno;
	w->in_len += n;
	return take_frames(w) < 0 ? -EBADMSG : 1;
}

static void worker_ready(void *arg, uint32_t events)
{
	struct worker *w = arg;
	int r = read_socket(w);

	if (r < 0) { /* its end comes by SIGCHLD */
		loop_forget(w->s->loop, &w->io);
		return;
	}
	if (w->call && w->call->connection && connection_is_full(w->call->connection)) {
		loop_forget(w->s->loop, &w->io);
		w->paused = true;
	}
}

void worker_resume(struct worker *w)
{
	if (!w->paused)
		return;
	w->paused = false;
	(void)!loop_watch(w->s->loop, &w->io, w->socket, EPOLLIN);
}

void worker_orphan(struct worker *w)
{
	call_free(take_ptr(w->call));
	kill(w->pid, SIGTERM); /* our child, not reaped yet */
	worker_resume(w);
}

static void report_death(struct worker *w, int status)
{
	struct error e;

	if (WIFSIGNALED(status))
		error_set(&e, -EIO, ERROR_INTERNAL, "the process that ran %s was killed by signal %d",
			w->call->method->name, WTERMSIG(status));
	else
		error_set(&e, -EIO, ERROR_INTERNAL, "the process that ran %s ended without a reply",
			w->call->method->name);
	w->call->worker = NULL;
	(void)call_failed(take_ptr(w->call), &e);
}

void workers_look(struct supervisor *s)
{
	for (struct worker *w = s->workers, *next; w; w = next) {
		next = w->next;
		while (read_socket(w) == 1)
			;
	}
}

bool worker_reaped(struct supervisor *s, pid_t pid, int status)
{
	struct worker *w = s->workers;

	while (w && w->pid != pid)
		w = w->next;
	if (!w)
		return false;
	while (read_socket(w) == 1)
		;
	if (w->call)
		report_death(w, status);
	worker_free(w);
	return true;
}

int worker_start(struct call *c, struct error *e)
{
	struct supervisor *s = c->supervisor;
	struct worker *w = calloc(1, sizeof(*w));
	pid_t self = getpid();
	int pair[2], r;

	if (!w)
		return error_errno(e, -ENOMEM, "worker");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		free(w);
		return error_errno(e, -errno, "worker");
	}
	*w = (struct worker){.s = s, .call = c, .socket = pair[0], .next = s->workers};
	w->io = (struct loop_fd){-EBADF, worker_ready, w};
	r = loop_watch(s->loop, &w->io, w->socket, EPOLLIN);
	w->pid = r < 0 ? r : fork();
	if (w->pid == 0)
		worker_main(c, pair[1], self);
	if (w->pid < 0 && r == 0)
		r = -errno;
	close_p(&pair[1]);
	s->workers = w;
	if (r < 0) {
		worker_free(w);
		return error_errno(e, r, "start a worker");
	}
	c->worker = w;
	return CALL_LATER;
}
