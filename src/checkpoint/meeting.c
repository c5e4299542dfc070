/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/meeting.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <dirent.h>

#include "base/fd.h"

enum { GONE_TIMEOUT_MS = 20000 };

static int send_message(const struct meeting *m, enum meeting_message_type type, const struct error *why)
{
	struct meeting_message msg = {.type = type};

	if (m->session < 0)
		return 0;
	if (why)
		msg.error = *why;
	return send(m->session, &msg, why ? sizeof(msg) : offsetof(struct meeting_message, error),
		       MSG_NOSIGNAL) < 0
		       ? -errno
		       : 0;
}

static int session_is_gone(struct error *e)
{
	return error_set(e, -ECONNRESET, ERROR_SYSTEM,
		"the sandbox's supervisor has gone while its containers were restored: everything that was "
		"made is "
		"removed");
}

/* The type of a message, or the failure of another one. */
static int receive_message(const struct meeting *m, struct error *e)
{
	struct meeting_message msg = {0};
	ssize_t n;

	do
		n = recv(m->session, &msg, sizeof(msg), 0);
	while (n < 0 && errno == EINTR);
	if (n < (ssize_t)sizeof(msg.type))
		return session_is_gone(e);
	if (msg.type != MEETING_FAILED)
		return (int)(msg.type & INT32_MAX);
	if (n != sizeof(msg) || msg.error.code >= 0)
		return error_set(
			e, -EPROTO, ERROR_INTERNAL, "a message of the supervisor that makes no sense");
	msg.error.message[sizeof(msg.error.message) - 1] = '\0';
	*e = msg.error;
	return e->code;
}

void meeting_close(struct meeting *m)
{
	close_p(&m->session);
	close_p(&m->exchange);
	close_p(&m->starter);
	if (m->shared)
		munmap(m->shared, sizeof(*m->shared));
	m->shared = NULL;
}

int meeting_is_lost(struct meeting *m, struct error *e)
{
	int r = 0;

	if (m->session < 0 || __atomic_load_n(&m->shared->verdict, __ATOMIC_SEQ_CST) != MEETING_LOST)
		return 0;
	while (r >= 0)
		r = receive_message(m, e);
	return r;
}

int meeting_why_died(struct meeting *m, struct error *e)
{
	enum { PATIENCE_MS = 2000 };
	struct pollfd p = {.fd = m->session, .events = POLLIN};
	int r = 0;

	while (m->joins_pids && m->session >= 0 && r >= 0 && poll(&p, 1, PATIENCE_MS) > 0)
		r = receive_message(m, e);
	return MIN(r, 0);
}

/* ---- waiting ---- */

struct wait {
	struct meeting *m;
	struct container *c;
	int pidfd, signals;
	bool may_start;
	enum meeting_message_type until; /* 0: until it is started */
};

static void wait_done(struct wait *w)
{
	close_p(&w->pidfd);
	close_p(&w->signals);
}

static int open_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void refuse_start(const struct meeting *m, int fd)
{
	struct error e;

	error_set(&e, -EAGAIN, ERROR_STATE,
		"cannot start a container of a sandbox whose restore is not complete%s%s%s",
		m->missing ? ": restore the others first (missing: " : "", m->missing ? m->missing : "",
		m->missing ? ")" : "");
	container_answer_start(fd, &e);
}

/* 1: it is started. */
static int take_starter(struct wait *w, struct error *e)
{
	int fd = -EBADF, r = container_receive_start(w->c, &fd);

	if (r < 0)
		return error_errno(e, r, "wait for the start of container %s", w->c->id);
	if (r == 0)
		return 0;
	if (!w->may_start) {
		refuse_start(w->m, fd);
		return 0;
	}
	w->m->starter = fd;
	return 1;
}

static int init_is_dead(struct wait *w, struct error *e)
{
	/* As of any created container that is killed, what is left waits for its deletion. */
	w->m->left = w->m->session < 0 && w->c->announced;
	return error_set(
		e, -ESRCH, ERROR_SYSTEM, "the init process of container %s died while it waited", w->c->id);
}

/* 1: what was waited for has come. */
static int look(struct wait *w, const struct pollfd *p, struct error *e)
{
	int r;

	if (p[0].revents) {
		r = meeting_why_died(w->m, e);
		return r < 0 ? r : init_is_dead(w, e);
	}
	if (p[1].revents)
		return error_set(e, -EINTR, ERROR_SYSTEM,
			"interrupted by a signal: everything that was made is removed");
	if (p[2].revents) {
		r = receive_message(w->m, e);
		if (r < 0 || (w->until && r == (int)w->until))
			return r < 0 ? r : 1;
	}
	return p[3].revents ? take_starter(w, e) : 0;
}

static int wait_until(
	struct meeting *m, struct container *c, enum meeting_message_type until, struct error *e)
{
	_cleanup_(wait_done) struct wait w = {.m = m,
		.c = c,
		.pidfd = container_init_pidfd(c),
		.signals = open_signals(),
		.may_start = !until,
		.until = until};
	int r = 0;

	if (w.pidfd < 0)
		return init_is_dead(&w, e);
	if (w.signals < 0)
		return error_errno(e, w.signals, "signalfd");
	while (r == 0) {
		struct pollfd p[] = {{.fd = w.pidfd, .events = POLLIN}, {.fd = w.signals, .events = POLLIN},
			{.fd = m->session, .events = POLLIN}, {.fd = c->start_fd, .events = POLLIN}};

		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			return error_errno(e, -errno, "poll");
		r = look(&w, p, e);
	}
	return r < 0 ? r : 0;
}

/* Says that we have come so far, and waits for the others. */
static int meet(struct meeting *m, struct container *c, enum meeting_message_type here,
	enum meeting_message_type all, struct error *e)
{
	int r = send_message(m, here, NULL);

	return r < 0 ? session_is_gone(e) : wait_until(m, c, all, e);
}

/* That, or the end of the session. */
static void await_message(struct meeting *m, enum meeting_message_type type)
{
	struct pollfd p = {.fd = m->session, .events = POLLIN};
	struct error ignored;

	while (m->session >= 0 && poll(&p, 1, GONE_TIMEOUT_MS) > 0) {
		int r = receive_message(m, &ignored);

		if (r == (int)type || r == -ECONNRESET)
			break;
	}
}

/* ---- the command ---- */

/* Descriptors of the caller, who may wait for their end; ours are all closed on exec. */
static void close_callers(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	DIR *d = opendir("/proc/self/fd");
	struct dirent *ent;

	for (int i = 0; i <= STDERR_FILENO; i++)
		if (null < 0 || dup2(null, i) < 0)
			close(i);
	while (d && (ent = readdir(d))) {
		int fd = (int)strtol(ent->d_name, NULL, 10), flags;

		flags = fd > STDERR_FILENO ? fcntl(fd, F_GETFD) : -1;
		if (flags >= 0 && !(flags & FD_CLOEXEC))
			close(fd);
	}
	if (d)
		closedir(d);
	if (null > STDERR_FILENO)
		close(null);
}

static int report(struct meeting *m, enum meeting_report_type type, const struct error *why)
{
	struct meeting_report r = {.type = type};

	if (why)
		r.error = *why;
	return send(m->report, &r, sizeof(r), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The container is there for others, and waits. If the command does not wait with us, from here on we are on our own. */
static int let_command_go(struct meeting *m, struct container *c, struct error *e)
{
	int r;

	container_unlock(c);
	if (!m->detach || m->report < 0)
		return 0;
	c->announced = true;
	close_callers();
	if (prctl(PR_SET_PDEATHSIG, 0) < 0)
		return error_errno(e, -errno, "prctl");
	r = report(m, MEETING_IS_READY, NULL);
	close_p(&m->report);
	return r < 0 ? error_set(e, r, ERROR_SYSTEM,
			       "the command was killed: everything that was made is removed")
		     : 0;
}

/* ---- the clocks ---- */

enum { APART_MAX_S = 60, SETTING_MS = 1000 };

void meeting_tell_time(struct meeting *m, uint64_t realtime)
{
	uint64_t latest;

	if (!m->shared)
		return;
	latest = __atomic_load_n(&m->shared->latest, __ATOMIC_SEQ_CST);
	while (latest < realtime && !__atomic_compare_exchange_n(&m->shared->latest, &latest, realtime, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
}

int meeting_moment(
	struct meeting *m, uint64_t realtime, struct clocks *ret, int64_t *ret_ahead, struct error *e)
{
	uint32_t nobody = 0;
	uint64_t apart;

	*ret_ahead = 0;
	if (!m->shared) {
		clocks_now(ret);
		return 0;
	}
	if (__atomic_compare_exchange_n(
		    &m->shared->moment_state, &nobody, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		clocks_now(&m->shared->moment);
		__atomic_store_n(&m->shared->moment_state, 2, __ATOMIC_SEQ_CST);
	}
	/* Killed in the middle of it? */
	for (int i = 0; __atomic_load_n(&m->shared->moment_state, __ATOMIC_SEQ_CST) != 2; i++) {
		if (i > SETTING_MS)
			return error_set(e, -ETIMEDOUT, ERROR_SYSTEM,
				"the clocks of the sandbox were not set: was the restore of another "
				"container killed?");
		usleep(1000);
	}
	*ret = m->shared->moment;
	apart = __atomic_load_n(&m->shared->latest, __ATOMIC_SEQ_CST) - realtime;
	/* Images of one sandbox are of one moment. */
	if (apart < APART_MAX_S * UINT64_C(1000000000))
		*ret_ahead = (int64_t)apart;
	return 0;
}

/* ---- the points ---- */

int meeting_all_here(struct meeting *m, struct container *c, struct error *e)
{
	int r = 0;

	if (m->session < 0)
		return 0;
	container_unlock(c);
	if (m->k < m->n)
		r = let_command_go(m, c, e);
	return r < 0 ? r : meet(m, c, MEETING_HERE, MEETING_ALL_HERE, e);
}

int meeting_started(struct meeting *m, struct container *c, struct error *e)
{
	int r = m->session < 0 ? 0 : meet(m, c, MEETING_FILES, MEETING_ALL_FILES, e);

	/* From here on each is on its own. */
	if (r == 0)
		close_p(&m->session);
	if (r == 0)
		r = let_command_go(m, c, e);
	return r < 0 ? r : wait_until(m, c, 0, e);
}

int meeting_all_built(struct meeting *m, struct container *c, struct error *e)
{
	return m->session < 0 ? 0 : meet(m, c, MEETING_BUILT, MEETING_ALL_BUILT, e);
}

static enum meeting_verdict decide(struct meeting *m, uint32_t wanted)
{
	uint32_t open = MEETING_OPEN;

	return __atomic_compare_exchange_n(
		       &m->shared->verdict, &open, wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
		       ? wanted
		       : open;
}

/* Whether all run. If that can't be learned any more, they don't. */
static int await_verdict(struct meeting *m, struct container *c, struct error *e)
{
	int r = meet(m, c, MEETING_RUNS, MEETING_ALL_RUN, e);

	return decide(m, r < 0 ? MEETING_LOST : MEETING_SUCCEEDED) == MEETING_SUCCEEDED ? 0 : r;
}

/* One who would have started it need not. */
static void answer_others(struct container *c)
{
	struct pollfd p = {.fd = c->start_fd, .events = POLLIN};
	int fd;

	while (c->start_fd >= 0 && poll(&p, 1, 0) > 0) {
		fd = -EBADF;
		if (container_receive_start(c, &fd) == 1)
			container_answer_start(fd, NULL);
	}
}

int meeting_end(struct meeting *m, struct container *c, struct error *e)
{
	int r = m->session < 0 ? 0 : await_verdict(m, c, e);

	if (r < 0)
		return r;
	r = container_save(c, e);
	if (r < 0)
		return r;
	answer_others(c);
	container_end_waiting(c);
	if (m->starter >= 0)
		container_answer_start(take_fd(&m->starter), NULL);
	/* The command returns when this can be seen of all. */
	if (send_message(m, MEETING_SETTLED, NULL) == 0 && m->report >= 0)
		await_message(m, MEETING_ALL_SETTLED);
	return 0;
}

/* ---- failure ---- */

void meeting_tell_failure(struct meeting *m, const struct error *e)
{
	if (m->shared)
		(void)!decide(m, MEETING_LOST);
	(void)!send_message(m, MEETING_FAILED, e);
}

bool meeting_may_undo(struct meeting *m, struct container *c)
{
	struct error ignored;

	if (m->left)
		return false;
	/* Who starts it has the lock, and waits for us. One who deletes it has it as well. */
	return m->starter >= 0 || container_lock(c, &ignored) == 0;
}

void meeting_failed(struct meeting *m, struct container *c, const struct error *e)
{
	container_unlock(c);
	if (m->starter >= 0)
		container_answer_start(take_fd(&m->starter), e);
	/* The command comes back when nothing is left of the others, either. */
	if (send_message(m, MEETING_GONE, NULL) == 0 && m->report >= 0)
		await_message(m, MEETING_ALL_GONE);
}
